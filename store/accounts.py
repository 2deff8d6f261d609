"""The accounts of the ledger, read: whether they balance, and what each holds."""

from collections.abc import Iterable
from typing import Any, Final

from store.interface import SEVERAL_WORKERS, LedgerRow

ACCOUNTS: Final = ("received", "windowed", "merged_late", "duplicate", "quarantined", "shed", "lost_before_journal")
ENDS: Final = ("windowed", "merged_late", "duplicate", "quarantined", "shed")
"""Accounts whose sum is what was received."""


def is_balanced(rows: Iterable[LedgerRow]) -> bool:
    """Return whether, for every device, what was received is the sum of the accounts, in frames and in samples."""
    difference: dict[str, tuple[int, int]] = {}
    for row in rows:
        sign = 1 if row.account == "received" else -(row.account in ENDS)
        frames, samples = difference.get(row.uid, (0, 0))
        difference[row.uid] = frames + sign * row.frames, samples + sign * row.samples
    return not any(frames or samples for frames, samples in difference.values())


def accounts_of(rows: Iterable[LedgerRow]) -> dict[str, Any]:
    """Return frames and samples by account, the quarantined frames by reason, and the flagged readings by flag.

    How many frames were lost before the journal is None where a device is heard by several workers.
    """
    frames = dict.fromkeys(ACCOUNTS, 0)
    samples = dict.fromkeys(ACCOUNTS, 0)
    reasons: dict[str, int] = {}
    flags: dict[str, int] = {}
    for row in rows:
        if row.account == "flagged":
            flags[row.reason] = flags.get(row.reason, 0) + row.frames
            continue
        frames[row.account] = frames.get(row.account, 0) + row.frames
        samples[row.account] = samples.get(row.account, 0) + row.samples
        if row.account == "quarantined":
            # A frame of which some samples are kept is not quarantined itself: those samples are counted alone.
            reasons[row.reason] = reasons.get(row.reason, 0) + (row.frames or row.samples)
    lost = None if SEVERAL_WORKERS in flags else frames["lost_before_journal"]
    return {
        "frames": {**frames, "lost_before_journal": lost},
        "samples": samples,
        "quarantined_by_reason": reasons,
        "flags": flags,
    }

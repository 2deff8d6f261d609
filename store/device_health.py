"""Why is a device silent: what is known of it, and the first reason that explains it."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from devices.times import NS, format_rfc3339
from devices.topics import DeviceKey
from store.admission import Admission
from store.interface import SEVERAL_WORKERS, DeviceRecord, LedgerRow, QuarantineRecord

SILENT_S: Final = 30.0
"""Silence after which a device that does not say that it went is taken for silent, s."""
SKEW_S: Final = 10.0
"""Difference between a device's clock and that of ingest that is worth saying, s."""
UNSET_S: Final = 20 * 365 * 86_400.0
"""A clock that is behind by more has never been set, s."""
REPETITIONS: Final = 20
"""Repetitions of which there have to be more, and more than messages kept, before they are worth saying."""
SHOWN: Final = 3
NEWEST: Final = 200
"""Refusals of anybody that are looked through for a message sent to a wrong topic."""


class Cause(StrEnum):
    """In a word, whether a device is live, or the first reason why it is silent; programs and the page read it."""

    LIVE = "live"
    CLOCK_OFF = "clock_off"
    SEVERAL_WORKERS = "several_workers"
    REPEATING = "repeating"
    PARTLY_REFUSED = "partly_refused"
    SILENT = "silent"
    OFFLINE = "offline"
    NEVER_HEARD = "never_heard"
    ALL_REFUSED = "all_refused"
    NOT_ADMITTED = "not_admitted"


LIVELY: Final = frozenset({Cause.LIVE, Cause.CLOCK_OFF, Cause.SEVERAL_WORKERS, Cause.REPEATING, Cause.PARTLY_REFUSED})


class Refused(msgspec.Struct, frozen=True):
    """How much was refused for one reason."""

    messages: int = 0
    """Messages of which nothing was kept."""
    values: int = 0
    """Single values, those of such messages among them where they could be read."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one device; times RFC 3339."""

    uid: str
    verdict: str
    """``live``, or why not, in one sentence."""
    cause: Cause
    """The same in a word."""
    live: bool
    registered: bool
    enabled: bool
    admitted: bool
    credential: str | None
    """``password`` or ``certificate``, None where it has none."""
    heard: bool
    online: bool
    first_seen: str | None = None
    last_seen: str | None = None
    silent_s: float | None = None
    """Since its last frame, s."""
    frames: int = 0
    accepted: int = 0
    """Frames of which something was kept."""
    rate_hz: float | None = None
    """Its recent frames a second, up to its newest."""
    skew_s: float | None = None
    """Its newest event time before its last time of receipt, s; negative is ahead."""
    lost_before_journal: int | None = 0
    """None where several workers hear it, which cannot tell."""
    duplicate: int = 0
    quarantined: dict[str, int] = {}
    """Reason → frames, or samples of frames that are kept otherwise."""
    refused: dict[str, Refused] = {}
    """The same apart: reason → messages and values."""
    refusals: tuple[dict[str, Any], ...] = ()
    """The newest refusals."""


def health_of(  # noqa: PLR0913 - what is known of a device comes from as many places
    key: DeviceKey,
    device: DeviceRecord | None,
    ledger: Sequence[LedgerRow],
    refusals: Sequence[QuarantineRecord],
    admission: Admission,
    credential: str | None,
    now_ns: int,
    *,
    newest: Iterable[QuarantineRecord] = (),
) -> Health:
    """Return what is known of a device.

    ``ledger``: its rows. ``refusals``: its newest, newest first. ``credential``: its kind, None where it has none.
    ``newest``: refusals of anybody, newest first, among which a message that it sent to a wrong topic may be.
    """
    refusal = admission.refusal(key)
    counts = {row.account: row.frames for row in ledger if not row.reason}
    lost, refused = gaps_and_refusals(ledger)
    silent_s = None if device is None else max(0.0, (now_ns - device.last_seen_ns) / NS)
    skew_s = None
    if device is not None and device.last_event_ns > 0:
        skew_s = round((device.last_seen_ns - device.last_event_ns) / NS, 3)
    offset_s = None if device is None else device.clock_offset_s
    every = device is not None and sum(row.frames for row in ledger if row.account == "quarantined") >= device.frames
    accepted = device is not None and device.last_event_ns > 0 and not every
    cause, verdict = _silence(device, refusal, refusals, silent_s, now_ns, accepted=accepted) or _doubt(
        lost, skew_s, offset_s
    )
    repeated, kept = counts.get("duplicate", 0), counts.get("windowed", 0) + counts.get("merged_late", 0)
    if cause in {Cause.LIVE, Cause.CLOCK_OFF} and repeated > max(REPETITIONS, kept):
        cause = Cause.REPEATING
        verdict = f"live, and {repeated} of its messages were taken for repetitions: their numbers had come before"
    stray = _stray(key, newest) if cause is Cause.NEVER_HEARD else None
    if stray is not None:
        verdict = f"never heard on its own topics; on {stray.topic} it may be refused as {stray.reason}: {stray.detail}"
    return Health(
        uid=key.uid,
        verdict=verdict,
        cause=cause,
        live=cause in LIVELY,
        registered=key.uid in admission.devices,
        enabled=admission.devices.get(key.uid, True),
        admitted=refusal is None,
        credential=credential,
        heard=device is not None,
        online=device is not None and device.online,
        first_seen=None if device is None else format_rfc3339(device.first_seen_ns),
        last_seen=None if device is None else format_rfc3339(device.last_seen_ns),
        silent_s=None if silent_s is None else round(silent_s, 1),
        frames=0 if device is None else device.frames,
        accepted=kept,
        rate_hz=None if device is None else device.rate_hz,
        skew_s=skew_s,
        lost_before_journal=lost,
        duplicate=repeated,
        quarantined=refused,
        refused={
            row.reason: Refused(row.frames, row.samples)
            for row in ledger
            if row.account == "quarantined" and (row.frames or row.samples)
        },
        refusals=tuple(_shown(each) for each in refusals[:SHOWN]),
    )


def gaps_and_refusals(ledger: Iterable[LedgerRow]) -> tuple[int | None, dict[str, int]]:
    """Return the frames that a device sent and that never came, and reason → frames, or single samples, refused.

    None where several workers hear the device.
    """
    lost, refused, several = 0, dict[str, int](), False
    for row in ledger:
        several |= row.reason == SEVERAL_WORKERS
        if row.account == "lost_before_journal":
            lost += row.frames
        elif row.account == "quarantined" and (row.frames or row.samples):
            refused[row.reason] = row.frames or row.samples
    return None if several else lost, refused


def _silence(
    device: DeviceRecord | None,
    refusal: str | None,
    refusals: Sequence[QuarantineRecord],
    silent_s: float | None,
    now_ns: int,
    *,
    accepted: bool,
) -> tuple[Cause, str] | None:
    """Return the first reason that explains a silence, in a word and in a sentence; None where the device is live."""
    last = refusals[0] if refusals else None
    gone = device is not None and not device.online
    silent = silent_s is not None and silent_s > SILENT_S
    recent = last is not None and now_ns - last.recv_ns < SILENT_S * NS
    why = "" if last is None else f"{last.reason} at {last.pointer or '/'}: {last.detail}"
    refused = f"everything that it sends is refused, last as {why}"
    never = (
        "never heard: nothing has come on its topics; check network, address, user name, password and topic: "
        "what it may not publish, the broker drops without a word"
    )
    quiet = f"silent for {silent_s or 0:.0f} s without a last will: the network is gone, or the program hangs"
    reasons = (
        (refusal is not None, Cause.NOT_ADMITTED, f"not admitted: {refusal}"),
        # Of whom nothing was ever accepted nobody knows whether it went.
        (not accepted and last is not None, Cause.ALL_REFUSED, refused),
        (device is None, Cause.NEVER_HEARD, never),
        (gone, Cause.OFFLINE, f"offline: it, or its last will, said so; last heard {silent_s or 0:.0f} s ago"),
        (silent, Cause.SILENT, quiet),
        (recent, Cause.PARTLY_REFUSED, f"live, and in part refused as {why}"),
    )
    return next(((cause, words) for holds, cause, words in reasons if holds), None)


def _stray(key: DeviceKey, newest: Iterable[QuarantineRecord]) -> QuarantineRecord | None:
    """Return the newest refusal under another name whose topic has the device's id as one of its levels."""
    return next((each for each in newest if each.uid != key.uid and key.device in each.topic.split("/")), None)


def _doubt(lost: int | None, skew_s: float | None, offset_s: float | None) -> tuple[Cause, str]:
    """Return that a device is live, with what is to be doubted of what it sends."""
    if lost is None:
        words = "live, and heard by several workers: what it sent may count twice, and its losses cannot be told"
        return Cause.SEVERAL_WORKERS, words
    if offset_s is not None and offset_s > UNSET_S:
        return Cause.CLOCK_OFF, "live, with a clock that is not set: the times of receipt count"
    if skew_s is not None and abs(skew_s) > SKEW_S:
        return Cause.CLOCK_OFF, f"live, with a clock {abs(skew_s):.0f} s {'behind' if skew_s > 0 else 'ahead'}"
    return Cause.LIVE, "live"


def _shown(record: QuarantineRecord) -> dict[str, Any]:
    return {
        "reason": record.reason,
        "pointer": record.pointer,
        "detail": record.detail,
        "received": format_rfc3339(record.recv_ns),
    }

"""Booking: every frame and every sample of a validated batch goes to one account of one device."""

from collections import Counter

import numpy as np

from devices.columns import Bools, Ints
from ingest.batch import WHOLE, Batch
from ingest.directory import Directory
from ingest.ledger import Account, Ledger


def book(ledger: Ledger, directory: Directory, batch: Batch, late: Bools) -> None:
    """Book a batch; ``late`` says of each frame accepted whether it came after its windows had been handed over."""
    device, samples = np.array(batch.device, np.int64), np.array(batch.samples, np.int64)
    ledger.receive(np.array(batch.received, np.int64), np.array(batch.received_samples, np.int64))
    duplicate_samples = np.array(batch.duplicate_samples, np.int64)
    ledger.book(Account.DUPLICATE, np.array(batch.duplicate, np.int64), duplicate_samples)
    kept = samples > 0
    single = np.ones(len(samples), np.bool_)
    for compound in batch.compounds:
        single[compound.first : compound.end] = False
    in_time, too_late = single & kept & ~late, single & kept & late
    ledger.book(Account.WINDOWED, device[in_time], samples[in_time])
    ledger.book(Account.MERGED_LATE, device[too_late], samples[too_late])
    # A frame all of whose samples were refused is refused itself, under the first of their reasons.
    emptied = {id(batch.frames[nth]) for nth in np.flatnonzero(single & ~kept).tolist()}
    for refused in batch.refused:
        whole = refused.nth == WHOLE or id(refused.frame) in emptied
        emptied.discard(id(refused.frame))
        reason = refused.reject.reason
        ledger.quarantine(refused.device, reason, frames=int(whole), samples=refused.samples)
        directory.devices[refused.device].touched = True
    if batch.compounds:
        _book_compounds(ledger, batch, device, samples, late)
    for index, flag in batch.flags:
        ledger.flag(index, flag)


def _book_compounds(ledger: Ledger, batch: Batch, device: Ints, samples: Ints, late: Bools) -> None:
    """Book foreign frames: their samples reading by reading, themselves once."""
    first_reasons: dict[int, str] = {}
    for refused in batch.refused:
        first_reasons.setdefault(id(refused.frame), refused.reject.reason)
    received: Counter[int] = Counter()
    duplicate: Counter[int] = Counter()
    for compound in batch.compounds:
        received.update(compound.received)
        duplicate.update(compound.duplicate)
        entries = slice(compound.first, compound.end)
        of_late = late[entries]
        ledger.book_samples(Account.WINDOWED, device[entries][~of_late], samples[entries][~of_late])
        ledger.book_samples(Account.MERGED_LATE, device[entries][of_late], samples[entries][of_late])
        account = _account_of(samples[entries] > 0, of_late, refused=id(compound.frame) in first_reasons)
        if account is Account.QUARANTINED:
            ledger.quarantine(compound.device, first_reasons[id(compound.frame)], frames=1, samples=0)
        else:
            ledger.book(account, np.array([compound.device]), np.array([0]))
    ledger.receive_samples(*_columns(received))
    ledger.book_samples(Account.DUPLICATE, *_columns(duplicate))


def _account_of(kept: Bools, late: Bools, *, refused: bool) -> Account:
    """Return where a foreign frame ends: with the best of its readings."""
    if bool((kept & ~late).any()):
        return Account.WINDOWED
    if bool(kept.any()):
        return Account.MERGED_LATE
    return Account.QUARANTINED if refused else Account.DUPLICATE


def _columns(counts: Counter[int]) -> tuple[Ints, Ints]:
    return np.array(list(counts), np.int64), np.array(list(counts.values()), np.int64)

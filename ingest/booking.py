"""Booking: every frame and every sample of a validated batch goes to one account of one device."""

from functools import partial

import numpy as np

from devices.columns import Bools, Ints
from ingest.batch import WHOLE, Accepted, Batch
from ingest.directory import Directory
from ingest.ledger import Account, Ledger


def book(ledger: Ledger, directory: Directory, batch: Batch, accepted: Accepted, late: Bools) -> None:
    """Book a batch; ``late`` says of each frame accepted whether it came after its windows had been handed over."""
    device, samples = accepted.device, accepted.samples
    if batch.together is not None:
        ledger.receive(batch.together.device, batch.together.sent)
    if batch.received:
        ledger.receive(np.array(batch.received, np.int64), np.array(batch.received_samples, np.int64))
    if batch.duplicate:
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
    emptied = {id(accepted.frames[nth]) for nth in np.flatnonzero(single & ~kept).tolist()}
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
    """Book foreign frames: their samples reading by reading, themselves once, where the best of their readings ends."""
    compounds = batch.compounds
    entry = np.zeros(len(samples), np.bool_)
    for compound in compounds:
        entry[compound.first : compound.end] = True
    for account, which in ((Account.WINDOWED, entry & ~late), (Account.MERGED_LATE, entry & late)):
        ledger.book_samples(account, device[which], samples[which])
    for counts, book_counts in (
        ([each.received for each in compounds], ledger.receive_samples),
        ([each.duplicate for each in compounds], partial(ledger.book_samples, Account.DUPLICATE)),
    ):
        devices = np.array([index for each in counts for index in each], np.int64)
        book_counts(devices, np.array([count for each in counts for count in each.values()], np.int64))

    first, end = (np.array([getattr(each, name) for each in compounds], np.int64) for name in ("first", "end"))
    owner = np.array([each.device for each in compounds], np.int64)
    windowed = _any_between(samples > 0, ~late, first, end)
    kept = _any_between(samples > 0, np.ones_like(late), first, end)
    for account, which in ((Account.WINDOWED, windowed), (Account.MERGED_LATE, kept & ~windowed)):
        ledger.book(account, owner[which], np.zeros(int(which.sum()), np.int64))
    if not kept.all():
        _book_empty(ledger, batch, np.flatnonzero(~kept).tolist())


def _book_empty(ledger: Ledger, batch: Batch, which: list[int]) -> None:
    """Book the foreign frames of which nothing was kept: refused under the first reason, or seen before."""
    first_reasons: dict[int, str] = {}
    for refused in batch.refused:
        first_reasons.setdefault(id(refused.frame), refused.reject.reason)
    for nth in which:
        compound = batch.compounds[nth]
        reason = first_reasons.get(id(compound.frame))
        if reason is None:
            ledger.book(Account.DUPLICATE, np.array([compound.device]), np.array([0]))
        else:
            ledger.quarantine(compound.device, reason, frames=1, samples=0)


def _any_between(one: Bools, other: Bools, first: Ints, end: Ints) -> Bools:
    """Tell for each range from ``first`` up to ``end`` whether it has an entry where both hold."""
    before = np.concatenate([[0], np.cumsum(one & other)])
    return np.asarray(before[end] > before[first])

"""Which workers hear a device: it has to be one, or its losses and repetitions cannot be told.

Each worker knows the numbers that it has seen itself. Where it hears a part of what a device says, it takes for lost
what another one has; where two hear all of it, everything counts twice. Neither shows in the accounts, which balance.
So workers that share records note from when to when they have heard each device. Stretches that follow each other are
those of a device that was handed over; those that overlap are of one that several workers hear at a time, until one
has heard it alone for long enough (``store.heard_alone``).
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, and_, func, inspect, select

from devices.times import NS
from store.heard_alone import Stretch, cleared
from store.interface import SEVERAL_WORKERS, SEVERAL_WORKERS_BEFORE, LedgerRow, Overlap
from store.tables import HEARD_ALONE, HEARD_BY, WORKERS
from store.upserting import in_parts, upsert

logger = logging.getLogger(__name__)

OVERLAP_NS: Final = 5 * NS
"""Stretches that overlap by no more may do so because two machines' clocks differ, ns."""
NOTED_EVERY_NS: Final = 2 * NS
"""A device's stretch is noted again when it has grown by so much, ns."""


class Hearers:
    """Notes for one writer of records which devices its worker hears, and raises the alarm about each other hearer."""

    def __init__(self) -> None:
        """Nothing is noted."""
        self._noted: dict[str, dict[str, int]] = {}
        """Worker → device → time up to which that is noted, ns UTC."""
        self._told: set[tuple[str, str]] = set()

    def alone(self, connection: Connection, worker: str) -> bool:
        """Tell whether a worker is the only one that the records know: then there is nothing to note."""
        others = select(WORKERS.c.worker).where(WORKERS.c.worker != worker).limit(1)
        return connection.scalars(others).one_or_none() is None

    def note(self, connection: Connection, worker: str, heard: Iterable[Stretch]) -> list[Stretch]:
        """Note when a worker that is not :meth:`alone` has heard devices; return those that another one hears too."""
        noted = self._noted.setdefault(worker, {})
        grown = [each for each in heard if each.last_ns - noted.get(each.uid, 0) >= NOTED_EVERY_NS]
        rows = ({"uid": each.uid, "first_ns": each.first_ns, "last_ns": each.last_ns} for each in grown)
        upsert(connection, HEARD_BY, ({**row, "worker": worker} for row in rows))
        noted |= {each.uid: each.last_ns for each in grown}
        found = overlaps(connection, [each.uid for each in grown])
        self._warn(found)
        shared = {overlap.uid for overlap in found}
        return [each for each in grown if each.uid in shared]

    def _warn(self, found: Iterable[Overlap]) -> None:
        """Tell once of each two workers that hear the same devices."""
        for overlap in found:
            pair = overlap.one, overlap.other
            if pair not in self._told:
                self._told.add(pair)
                logger.error(
                    "%s AND %s HEAR THE SAME DEVICES, such as %s: what comes twice counts twice, and what is lost "
                    "cannot be told. Give each worker topic_filters of its own that no other one has",
                    *(*pair, overlap.uid),
                )


def overlaps(connection: Connection, uids: Iterable[str] | None = None) -> list[Overlap]:
    """Return the devices, of ``uids`` or of all, that two workers have heard at a time; once for each two."""
    one, other, alone = HEARD_BY.alias(), HEARD_BY.alias(), HEARD_ALONE
    # What was heard before the device was cleared counts no more.
    since = func.coalesce(alone.c.since_ns, 0)
    at_a_time = and_(
        one.c.uid == other.c.uid,
        one.c.worker < other.c.worker,
        one.c.first_ns + OVERLAP_NS < other.c.last_ns,
        other.c.first_ns + OVERLAP_NS < one.c.last_ns,
    )
    query = select(one.c.uid, one.c.worker, other.c.worker, one.c.last_ns, other.c.last_ns).join(other, at_a_time)
    query = query.outerjoin(alone, alone.c.uid == one.c.uid)
    query = query.where(since + OVERLAP_NS < one.c.last_ns, since + OVERLAP_NS < other.c.last_ns)
    queries = [query] if uids is None else [query.where(one.c.uid.in_(part)) for part in in_parts(uids)]
    rows = [row for each in queries for row in connection.execute(each.order_by(one.c.uid))]
    return [Overlap(uid, first, second, min(ends)) for uid, first, second, *ends in rows]


def known_overlaps(connection: Connection, uids: Iterable[str] | None = None) -> list[Overlap]:
    """Return what :func:`overlaps` does, for a reader."""
    # Records that no writer of this release has opened yet have no such tables.
    return overlaps(connection, uids) if inspect(connection).has_table(HEARD_ALONE.name) else []


def with_several_workers(
    connection: Connection, ledger: Iterable[LedgerRow], uids: Sequence[str] | None = None
) -> list[LedgerRow]:
    """Return ledger rows with a flag for each device that several workers hear, on all of its frames.

    Where one has heard it alone again, the flag of before is on the frames until then, and what was taken for lost
    until then is left out. ``uids``: those of the rows, where they are few.
    """
    rows = list(ledger)
    concerned = {overlap.uid for overlap in known_overlaps(connection, uids)}
    before = {uid: counts for uid, counts in cleared(connection, uids).items() if uid not in concerned}
    flags = [_flag(row.uid, SEVERAL_WORKERS, row.frames) for row in rows if _received(row) and row.uid in concerned]
    flags += [
        _flag(row.uid, SEVERAL_WORKERS_BEFORE, before[row.uid].frames)
        for row in rows
        if _received(row) and row.uid in before
    ]
    if not flags:
        return rows
    known = [
        msgspec.structs.replace(row, frames=max(0, row.frames - before[row.uid].lost))
        if row.account == "lost_before_journal" and row.uid in before
        else row
        for row in rows
    ]
    return sorted([*known, *flags], key=lambda row: (row.uid, row.account, row.reason))


def _received(row: LedgerRow) -> bool:
    return row.account == "received"


def _flag(uid: str, reason: str, frames: int) -> LedgerRow:
    return LedgerRow(uid=uid, account="flagged", reason=reason, frames=frames, samples=0)

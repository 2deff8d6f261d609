"""Which workers hear a device: it has to be one, or its losses and repetitions cannot be told.

Each worker knows the numbers that it has seen itself. Where it hears a part of what a device says, it takes for lost
what another one has; where two hear all of it, everything counts twice. Neither shows in the accounts, which balance.
So workers that share records note from when to when they have heard each device. Stretches that follow each other are
those of a device that was handed over; those that overlap are of one that several workers hear at a time.
"""

import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, inspect, select

from devices.times import NS
from store.interface import SEVERAL_WORKERS, LedgerRow, Overlap
from store.tables import HEARD_BY, WORKERS
from store.upserting import in_parts, upsert

logger = logging.getLogger(__name__)

OVERLAP_NS: Final = 5 * NS
"""Stretches that overlap by no more may do so because two machines' clocks differ, ns."""
NOTED_EVERY_NS: Final = 2 * NS
"""A device's stretch is noted again when it has grown by so much, ns."""


class Stretch(NamedTuple):
    """From when to when a worker has heard a device, times of receipt in ns UTC."""

    uid: str
    first_ns: int
    last_ns: int


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

    def note(self, connection: Connection, worker: str, heard: Iterable[Stretch]) -> None:
        """Note when a worker that is not :meth:`alone` has heard devices."""
        noted = self._noted.setdefault(worker, {})
        grown = [each for each in heard if each.last_ns - noted.get(each.uid, 0) >= NOTED_EVERY_NS]
        upsert(connection, HEARD_BY, ({**each._asdict(), "worker": worker} for each in grown))
        noted |= {each.uid: each.last_ns for each in grown}
        self._warn(overlaps(connection, [each.uid for each in grown]))

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
    one, other = HEARD_BY.alias(), HEARD_BY.alias()
    at_a_time = and_(
        one.c.uid == other.c.uid,
        one.c.worker < other.c.worker,
        one.c.first_ns + OVERLAP_NS < other.c.last_ns,
        other.c.first_ns + OVERLAP_NS < one.c.last_ns,
    )
    query = select(one.c.uid, one.c.worker, other.c.worker, one.c.last_ns, other.c.last_ns).join(other, at_a_time)
    queries = [query] if uids is None else [query.where(one.c.uid.in_(part)) for part in in_parts(uids)]
    rows = [row for each in queries for row in connection.execute(each.order_by(one.c.uid))]
    return [Overlap(uid, first, second, min(ends)) for uid, first, second, *ends in rows]


def known_overlaps(connection: Connection) -> list[Overlap]:
    """Return what :func:`overlaps` does, of all devices, for a reader."""
    # Records that no writer of this release has opened yet have no such table.
    return overlaps(connection) if inspect(connection).has_table(HEARD_BY.name) else []


def with_several_workers(connection: Connection, ledger: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return ledger rows with a flag for each device that several workers hear, on all of its frames."""
    rows = list(ledger)
    concerned = {overlap.uid for overlap in known_overlaps(connection)}
    flags = [
        LedgerRow(uid=row.uid, account="flagged", reason=SEVERAL_WORKERS, frames=row.frames, samples=0)
        for row in rows
        if row.account == "received" and row.uid in concerned
    ]
    return sorted([*rows, *flags], key=lambda row: (row.uid, row.account, row.reason)) if flags else rows

"""When a device that several workers have heard is heard by one alone again: then its losses can be told once more.

    two hear it ──► flagged, its losses unknown ──► one worker alone, for ALONE_NS and ALONE_FRAMES ──► cleared
                        ▲                                 │ another one hears it again                    │
                        └─────────────────────────────────┴───────────────────────────────────────────────┘

What was counted until it was cleared stays told, as the frames flagged ``several_workers_before``; what was taken for
lost until then is told no more, for nobody knows it. From then on everything is exact.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, RowMapping, cast, func, inspect, select

from devices.times import NS
from store.tables import HEARD_ALONE, HEARD_BY, LEDGER
from store.upserting import in_parts, upsert

ALONE_NS: Final = 600 * NS
"""For how long one worker has to hear a device alone, by times of receipt, ns."""
ALONE_FRAMES: Final = 32
"""How many frames of it, so that a device that seldom speaks is not taken for one that nobody else hears."""


class Stretch(NamedTuple):
    """From when to when a worker has heard a device, times of receipt in ns UTC, and how many frames in all."""

    uid: str
    first_ns: int
    last_ns: int
    frames: int


class Before(NamedTuple):
    """What was counted of a device until it was cleared."""

    frames: int
    """Frames received, by all workers."""
    lost: int
    """Frames taken for lost, by all workers; nobody knows how many were."""


def clear(connection: Connection, worker: str, shared: Sequence[Stretch]) -> None:
    """Clear those of the ``shared`` devices that ``worker`` has heard alone for long enough.

    Called when its ledger is written: what is in it belongs to the time before.
    """
    stretches = {each.uid: each for each in shared}
    changed: list[dict[str, Any]] = []
    for uids in in_parts(stretches):
        last = func.max(HEARD_BY.c.last_ns)
        of_others = select(HEARD_BY.c.uid, last).where(HEARD_BY.c.worker != worker, HEARD_BY.c.uid.in_(uids))
        others = {row[0]: row[1] for row in connection.execute(of_others.group_by(HEARD_BY.c.uid))}
        there = connection.execute(select(HEARD_ALONE).where(HEARD_ALONE.c.uid.in_(uids))).mappings()
        known = {row["uid"]: row for row in there}
        alone = [uid for uid in uids if stretches[uid].last_ns > others.get(uid, 0)]
        changed += [
            row
            for uid in alone
            if (row := _row(connection, worker, stretches[uid], others.get(uid, 0), known.get(uid))) is not None
        ]
    upsert(connection, HEARD_ALONE, changed)


def _row(
    connection: Connection, worker: str, heard: Stretch, others_ns: int, known: RowMapping | None
) -> dict[str, Any] | None:
    """Return what is to be noted of a device that ``worker`` was the last to hear, None if nothing is."""
    begins = {"worker": worker, "begun_ns": heard.last_ns, "begun_frames": heard.frames}
    if known is None:
        return {"uid": heard.uid, **begins, "since_ns": 0, "frames": 0, "lost": 0}
    if known["worker"] != worker or known["begun_ns"] <= others_ns:
        return {**known, **begins}
    if heard.last_ns - known["begun_ns"] < ALONE_NS or heard.frames - known["begun_frames"] < ALONE_FRAMES:
        return None
    counts = select(LEDGER.c.account, cast(func.sum(LEDGER.c.frames), BigInteger)).where(LEDGER.c.uid == heard.uid)
    totals: dict[str, int] = {row[0]: row[1] for row in connection.execute(counts.group_by(LEDGER.c.account))}
    before = {"frames": totals.get("received", 0), "lost": totals.get("lost_before_journal", 0)}
    return {**known, **begins, **before, "since_ns": heard.last_ns}


def cleared(connection: Connection, uids: Sequence[str] | None = None) -> dict[str, Before]:
    """Return what was counted until then of each device that was cleared, of ``uids`` or of all, for a reader."""
    # Records that no writer of this release has opened yet have no such table.
    if not inspect(connection).has_table(HEARD_ALONE.name):
        return {}
    query = select(HEARD_ALONE).where(HEARD_ALONE.c.since_ns > 0)
    queries = [query] if uids is None else [query.where(HEARD_ALONE.c.uid.in_(part)) for part in in_parts(uids)]
    return {row.uid: Before(row.frames, row.lost) for each in queries for row in connection.execute(each)}

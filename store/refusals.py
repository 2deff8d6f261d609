"""Rows that the window store refuses: found one by one, put into quarantine, and taken out of what counts as stored.

A row is refused for good only as long as it is not written again: a commit that brings more of the same window replaces
it, and a rebuild may find the store corrected. So each row that is missing stands in a table of its own, under the key
that it has in the window store, and goes from there when the store takes it; for how long is in ``store.settling``.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, inspect, select

from analytics.rows import TIERS_S, WindowRows
from devices.rejects import Reason
from devices.times import format_rfc3339
from devices.vocabulary import METRICS
from store.interface import LedgerRow, PointsRejectedError, QuarantineRecord, WindowStore
from store.line_protocol import lines
from store.settling import ROWS_KEPT, SETTLED, settle
from store.tables import REFUSED_ROWS
from store.upserting import in_parts, upsert

PAYLOAD_BYTES: Final = 4096

_DERIVED: Final = frozenset(metric.name for metric in METRICS if metric.derived)
_WINDOW: Final = ("worker", "uid", "metric", "tier_s", "window_ns")
_KEY: Final = (*_WINDOW, "epoch")
_ENDS: Final = ("windowed", "merged_late")


class Refusal(NamedTuple):
    """A row that the window store refuses, and the store's words."""

    row: int
    words: str


def store_rows(windows: WindowStore, rows: WindowRows, now_ns: int) -> Iterator[Refusal]:
    """Write rows and yield those that the store refuses; all others are stored. ``now_ns`` is the time, ns UTC.

    What is beyond the store's retention is not sent. A refused batch is halved until the bad rows stand alone: about
    2·log2(n) further writes for one bad row in n.
    """
    kept_from = windows.kept_from(now_ns)
    too_old = rows.window + rows.epoch < kept_from
    for row in np.flatnonzero(too_old).tolist():
        yield Refusal(row, f"older than what the store keeps, which is from {format_rfc3339(kept_from)} on")
    pending = [np.flatnonzero(~too_old)]
    while pending:
        some = pending.pop()
        try:
            windows.write(rows.take(some))
        except PointsRejectedError as error:
            if len(some) == 1:
                yield Refusal(int(some[0]), str(error))
            else:
                pending += [some[len(some) // 2 :], some[: len(some) // 2]]


def quarantined(rows: WindowRows, refusal: Refusal, now_ns: int) -> QuarantineRecord:
    """Return a refused row as a quarantine record whose id is the row's key: refused again, it is the same record."""
    row = rows.take(np.array([refusal.row]))
    key = rows.keys[int(row.series[0])]
    text = lines(row)[0].encode()
    return QuarantineRecord(
        id=f"{row.tier_s[0]}/{row.window[0]}/{row.epoch[0]}/{key.device_key.uid}/{key.metric}",
        reason=Reason.REJECTED_BY_STORE,
        pointer="",
        detail=f"window row of {key.metric}: {refusal.words}",
        topic="",
        uid=key.device_key.uid,
        recv_ns=now_ns,
        payload=text[:PAYLOAD_BYTES],
        payload_bytes=len(text),
        payload_sha256=hashlib.sha256(text).hexdigest(),
    )


def note_refusals(
    connection: Connection,
    worker: str,
    rows: WindowRows,
    refused: Sequence[int],
    now_ns: int,
    *,
    rows_kept: int = ROWS_KEPT,
    alone: bool = False,
) -> None:
    """Note that of ``rows`` the window store has all but the ``refused``, given by their numbers.

    ``now_ns``: the time, ns UTC. ``alone``: each row stands for all of its window, so no other part of it is missing
    any more. What ``rows`` say of wider windows, and what detectors have made of samples, is in no account.
    """
    noted = REFUSED_ROWS.c.worker == worker, REFUSED_ROWS.c.metric != SETTLED
    lacking = set(connection.scalars(select(REFUSED_ROWS.c.uid).where(*noted).distinct()))
    if not lacking and not refused:
        return
    received = np.array([key.metric not in _DERIVED for key in rows.keys], np.bool_)
    counted = (rows.tier_s == TIERS_S[0]) & received[rows.series]
    if lacking:
        concerned = np.array([key.device_key.uid in lacking for key in rows.keys], np.bool_)
        names = _WINDOW if alone else _KEY
        there = delete(REFUSED_ROWS).where(*(REFUSED_ROWS.c[name] == bindparam(f"its_{name}") for name in names))
        keys = [_row(worker, rows, number) for number in np.flatnonzero(concerned[rows.series] & counted).tolist()]
        if keys:
            connection.execute(there, [{f"its_{name}": key[name] for name in names} for key in keys])
    if refused:
        new = (_row(worker, rows, number) | {"noted_ns": now_ns} for number in refused if counted[number])
        upsert(connection, REFUSED_ROWS, new)
        settle(connection, worker, now_ns, rows_kept)


def _row(worker: str, rows: WindowRows, number: int) -> dict[str, Any]:
    key = rows.keys[int(rows.series[number])]
    return {
        "worker": worker,
        "uid": key.device_key.uid,
        "metric": key.metric,
        "tier_s": int(rows.tier_s[number]),
        "window_ns": int(rows.window[number]),
        "epoch": int(rows.epoch[number]),
        "samples": int(rows.count[number]),
        "late": int(rows.late[number]),
    }


def without_refused(
    connection: Connection, ledger: Iterable[LedgerRow], uids: Sequence[str] | None = None
) -> list[LedgerRow]:
    """Return ledger rows in which samples of rows that the store lacks are quarantined, and neither windowed nor late.

    Each sample lies in one row of the narrowest tier, which decides. ``uids``: those of the rows, where they are few.
    """
    rows = list(ledger)
    # Records that no writer of this release has opened yet have no such table.
    if not inspect(connection).has_table(REFUSED_ROWS.name):
        return rows
    samples, late = (cast(func.sum(REFUSED_ROWS.c[name]), BigInteger) for name in ("samples", "late"))
    query = select(REFUSED_ROWS.c.uid, samples, late).where(REFUSED_ROWS.c.tier_s == TIERS_S[0])
    query = query.group_by(REFUSED_ROWS.c.uid)
    queries = [query] if uids is None else [query.where(REFUSED_ROWS.c.uid.in_(part)) for part in in_parts(uids)]
    found_rows = (row for each in queries for row in connection.execute(each))
    refused = {uid: (all_of, late_of) for uid, all_of, late_of in found_rows if all_of}
    if not refused:
        return rows
    held = {(row.uid, row.account): row.samples for row in rows}
    less: dict[tuple[str, str], int] = {}
    for uid, (all_of, late_of) in refused.items():
        # What is settled and refused once more by a rebuild is told twice: never more than there is.
        less[uid, "merged_late"] = min(late_of, held.get((uid, "merged_late"), 0))
        less[uid, "windowed"] = min(all_of - late_of, held.get((uid, "windowed"), 0))
    found = [msgspec.structs.replace(row, samples=row.samples - less.get((row.uid, row.account), 0)) for row in rows]
    found += [
        LedgerRow(
            uid=uid,
            account="quarantined",
            reason=Reason.REJECTED_BY_STORE,
            frames=0,
            samples=sum(less[uid, each] for each in _ENDS),
        )
        for uid in refused.keys() & {row.uid for row in rows}
    ]
    return sorted(found, key=lambda row: (row.uid, row.account, row.reason))

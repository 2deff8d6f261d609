"""Rows that the window store refuses: found one by one, put into quarantine, and taken out of what counts as stored.

A row is refused for good only as long as it is not written again: a commit that brings more of the same window replaces
it, and a rebuild may find the store corrected. So each row that is missing stands in a table of its own, under the key
that it has in the window store, and goes from there when the store takes it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import BigInteger, Connection, bindparam, cast, delete, func, insert, inspect, select

from analytics.rows import TIERS_S, WindowRows
from devices.rejects import Reason
from devices.times import format_rfc3339
from devices.vocabulary import METRICS
from store.interface import LedgerRow, PointsRejectedError, QuarantineRecord, WindowStore
from store.line_protocol import lines
from store.tables import REFUSED_ROWS

PAYLOAD_BYTES: Final = 4096

_DERIVED: Final = frozenset(metric.name for metric in METRICS if metric.derived)
_WINDOW: Final = ("worker", "uid", "metric", "tier_s", "window_ns")
_KEY: Final = (*_WINDOW, "epoch")


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
    connection: Connection, worker: str, rows: WindowRows, refused: Sequence[int], *, alone: bool = False
) -> None:
    """Note that of ``rows`` the window store has all but the ``refused``, given by their numbers.

    ``alone``: each row stands for all of its window, so no other part of it is missing any more.
    """
    lacking = set(connection.scalars(select(REFUSED_ROWS.c.uid).where(REFUSED_ROWS.c.worker == worker).distinct()))
    if lacking:
        concerned = np.array([key.device_key.uid in lacking for key in rows.keys], np.bool_)
        names = _WINDOW if alone else _KEY
        there = delete(REFUSED_ROWS).where(*(REFUSED_ROWS.c[name] == bindparam(f"its_{name}") for name in names))
        keys = [_row(worker, rows, number) for number in np.flatnonzero(concerned[rows.series]).tolist()]
        if keys:
            connection.execute(there, [{f"its_{name}": key[name] for name in names} for key in keys])
    if refused:
        connection.execute(insert(REFUSED_ROWS), [_row(worker, rows, number) for number in refused])


def _row(worker: str, rows: WindowRows, number: int) -> dict[str, Any]:
    key = rows.keys[int(rows.series[number])]
    # What detectors have made of samples was never received, so it is in no account.
    counted = key.metric not in _DERIVED
    return {
        "worker": worker,
        "uid": key.device_key.uid,
        "metric": key.metric,
        "tier_s": int(rows.tier_s[number]),
        "window_ns": int(rows.window[number]),
        "epoch": int(rows.epoch[number]),
        "samples": int(rows.count[number]) * counted,
        "late": int(rows.late[number]) * counted,
    }


def without_refused(connection: Connection, ledger: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Return ledger rows in which samples of rows that the store lacks are quarantined, and neither windowed nor late.

    Each sample lies in one row of the narrowest tier, which decides.
    """
    rows = list(ledger)
    # Records that no writer of this release has opened yet have no such table.
    if not inspect(connection).has_table(REFUSED_ROWS.name):
        return rows
    samples, late = (cast(func.sum(REFUSED_ROWS.c[name]), BigInteger) for name in ("samples", "late"))
    query = select(REFUSED_ROWS.c.uid, samples, late).where(REFUSED_ROWS.c.tier_s == TIERS_S[0])
    refused = {uid: (all_of, late_of) for uid, all_of, late_of in connection.execute(query.group_by("uid")) if all_of}
    if not refused:
        return rows
    less = {(uid, "windowed"): all_of - late_of for uid, (all_of, late_of) in refused.items()}
    less |= {(uid, "merged_late"): late_of for uid, (_, late_of) in refused.items()}
    found = [msgspec.structs.replace(row, samples=row.samples - less.get((row.uid, row.account), 0)) for row in rows]
    found += [
        LedgerRow(uid=uid, account="quarantined", reason=Reason.REJECTED_BY_STORE, frames=0, samples=refused[uid][0])
        for uid in refused.keys() & {row.uid for row in rows}
    ]
    return sorted(found, key=lambda row: (row.uid, row.account, row.reason))

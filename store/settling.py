"""Refused rows that wait no longer to be taken: they become one sum for each device, which stays quarantined.

    refused ──► noted one by one ──► taken by the store after all: in the accounts where they belong
                     │
                     └─ for longer than AGE_KEPT_NS, or the oldest of more than ROWS_KEPT: settled, and counted

So the table is bounded by ``ROWS_KEPT`` and the number of devices of each worker. The ledger keeps every sample. What
is given up is that a settled row leaves the account ``quarantined`` when a rebuild finds the store corrected.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, select

from analytics.rows import TIERS_S
from devices.times import NS
from store.record_counters import counter, set_counter
from store.tables import REFUSED_ROWS
from store.upserting import in_parts, upsert

ROWS_KEPT: Final = 100_000
"""Refused rows of a worker that are kept one by one: about 20 MB."""

AGE_KEPT_NS: Final = 30 * 86_400 * NS
"""How long a refused row is kept, ns. A journal by default goes back a week, and a rebuild no further than it does."""

SETTLED: Final = ""
"""In place of a metric: the sum of a device's settled rows."""

ROWS_AT_ONCE: Final = 10_000

_COLUMNS: Final = REFUSED_ROWS.c
_KEY: Final = tuple(column.name for column in REFUSED_ROWS.primary_key)


def settle(connection: Connection, worker: str, now_ns: int, rows_kept: int = ROWS_KEPT) -> None:
    """Settle a worker's rows refused longer than :data:`AGE_KEPT_NS` ago, and the oldest beyond ``rows_kept``.

    ``now_ns``: the time, ns UTC. Other workers' rows are theirs to change.
    """
    waiting = _COLUMNS.worker == worker, _COLUMNS.metric != SETTLED
    settled = 0
    while aged := _oldest(connection, *waiting, _COLUMNS.noted_ns < now_ns - AGE_KEPT_NS, limit=ROWS_AT_ONCE):
        settled += _settle(connection, worker, aged)
    kept = connection.scalars(select(func.count()).select_from(REFUSED_ROWS).where(*waiting)).one()
    while kept > rows_kept:
        some = _oldest(connection, *waiting, limit=min(ROWS_AT_ONCE, kept - rows_kept))
        kept -= _settle(connection, worker, some)
        settled += len(some)
    if settled:
        name = "refused_rows_settled"
        set_counter(connection, name, counter(connection, name) + settled)


def _oldest(connection: Connection, *which: ColumnElement[bool], limit: int) -> Sequence[Row[Any]]:
    """Return the rows noted first; those of an older release, which did not say when, come before all others."""
    order = func.coalesce(_COLUMNS.noted_ns, 0), *(_COLUMNS[name] for name in ("window_ns", *_KEY))
    return connection.execute(select(REFUSED_ROWS).where(*which).order_by(*order).limit(limit)).all()


def _settle(connection: Connection, worker: str, rows: Sequence[Row[Any]]) -> int:
    """Put rows of a worker into the sums of their devices; return how many."""
    sums: dict[str, list[int]] = {}
    for uids in in_parts({row.uid for row in rows}):
        there = select(REFUSED_ROWS).where(
            _COLUMNS.worker == worker, _COLUMNS.metric == SETTLED, _COLUMNS.uid.in_(uids)
        )
        sums |= {row.uid: [row.samples, row.late] for row in connection.execute(there)}
    for row in rows:
        total = sums.setdefault(row.uid, [0, 0])
        # An older release has noted rows of wider windows too, which are in no account.
        if row.tier_s == TIERS_S[0]:
            total[0] += row.samples
            total[1] += row.late
    upsert(connection, REFUSED_ROWS, (_sum(worker, uid, *total) for uid, total in sums.items()))
    one = delete(REFUSED_ROWS).where(*(_COLUMNS[name] == bindparam(f"its_{name}") for name in _KEY))
    connection.execute(one, [{f"its_{name}": getattr(row, name) for name in _KEY} for row in rows])
    return len(rows)


def _sum(worker: str, uid: str, samples: int, late: int) -> dict[str, Any]:
    key = {"worker": worker, "uid": uid, "metric": SETTLED, "tier_s": TIERS_S[0], "window_ns": 0, "epoch": 0}
    return key | {"samples": samples, "late": late, "noted_ns": None}

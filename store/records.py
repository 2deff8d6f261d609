"""Records (devices, events, quarantine, ledger, workers) on SQLite or PostgreSQL, through SQLAlchemy Core."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Engine,
    RowMapping,
    Select,
    cast,
    func,
    select,
)

from analytics.packing import whole
from analytics.rows import WindowRows
from devices.rejects import Reason
from devices.scalars import Scalar
from devices.unknown_names import unknown_in
from store.hearers import Hearers, known_overlaps, with_several_workers
from store.interface import (
    Commit,
    DeviceRecord,
    EventRecord,
    LedgerRow,
    Overlap,
    QuarantineFigures,
    QuarantineRecord,
    UnknownName,
)
from store.record_counters import counter, storable
from store.record_writing import QUARANTINE_BYTES, quarantine_figures, write_quarantine, write_records
from store.refusals import Refusal, note_refusals, quarantined, without_refused
from store.settling import ROWS_KEPT
from store.sql_store import SqlStore
from store.sqlite_files import reaching
from store.tables import (
    DEVICES,
    EVENTS,
    LEDGER,
    QUARANTINE,
    WORKERS,
)
from store.upserting import in_parts

NAMED_FROM: Final = 5_000
"""Newest refusals of a device that its unknown names are gathered from."""


class SqlRecords(SqlStore):
    """A :class:`store.interface.Records` over an SQLAlchemy engine, and the writing side of it.

    ``name`` and ``create`` as for :class:`store.sql_store.SqlStore`.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        create: bool,
        quarantine_bytes: int = QUARANTINE_BYTES,
        refused_rows: int = ROWS_KEPT,
    ) -> None:
        """Take the engine over; it is disposed of by :meth:`close`."""
        super().__init__(engine, name, create=create)
        self._quarantine_bytes = quarantine_bytes
        self._refused_rows = refused_rows
        self._hearers = Hearers()

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, commit: Commit, *, refused: Sequence[int] = (), now_ns: int = 0) -> list[EventRecord]:
        """Write a commit's records in one transaction; return its new events. Writing it again changes nothing.

        ``refused``: numbers of its rows that the window store has refused at ``now_ns``, ns UTC; it has the others.
        """
        with reaching(self._name):
            self._prepare()
            with self._engine.begin() as connection:
                rows = whole(commit.rows)
                note_refusals(connection, commit.worker, rows, refused, now_ns, rows_kept=self._refused_rows)
                return write_records(connection, commit, self._hearers, self._quarantine_bytes)

    def note_rebuilt(self, worker: str, rows: WindowRows, refusals: Sequence[Refusal], now_ns: int) -> None:
        """Note which rows the window store has refused of some that stand for all of their windows; it has the others.

        ``now_ns`` dates the quarantine records.
        """
        with reaching(self._name):
            self._prepare()
            with self._engine.begin() as connection:
                numbers = [refusal.row for refusal in refusals]
                note_refusals(connection, worker, rows, numbers, now_ns, rows_kept=self._refused_rows, alone=True)
                records = [quarantined(rows, refusal, now_ns) for refusal in refusals]
                write_quarantine(connection, worker, records, self._quarantine_bytes)

    def last_cursor(self) -> int:
        """Return the greatest event cursor given so far."""
        with self._connection() as connection:
            return 0 if connection is None else counter(connection, "events")

    # --- reading ----------------------------------------------------------------------------------------------------

    def devices(
        self, *, site: str | None = None, device_class: str | None = None, after: str = "", limit: int = 100
    ) -> list[DeviceRecord]:
        """Return devices with uid > ``after``, by uid."""
        query = select(DEVICES).where(DEVICES.c.uid > storable(after)).order_by(DEVICES.c.uid).limit(limit)
        query = _where(query, (DEVICES.c.site, site), (DEVICES.c.device_class, device_class))
        return [_device(row) for row in self._rows(query)]

    def device(self, uid: str) -> DeviceRecord | None:
        """Return one device."""
        return next((_device(row) for row in self._rows(select(DEVICES).where(DEVICES.c.uid == storable(uid)))), None)

    def devices_named(self, device: str) -> list[DeviceRecord]:
        """Return the devices of any site and class whose own id is ``device``."""
        query = select(DEVICES).where(DEVICES.c.device == storable(device)).order_by(DEVICES.c.uid)
        return [_device(row) for row in self._rows(query)]

    def events(  # noqa: PLR0913 - one filter each
        self,
        *,
        after: int = 0,
        before: int | None = None,
        types: Iterable[str] | None = None,
        site: str | None = None,
        device: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        newest_first: bool = False,
        limit: int = 100,
    ) -> list[EventRecord]:
        """Return events with ``after`` < cursor (< ``before``), by cursor, filtered; times are half-open."""
        order = EVENTS.c.cursor.desc() if newest_first else EVENTS.c.cursor
        query = select(EVENTS).where(EVENTS.c.cursor > after).order_by(order).limit(limit)
        query = _where(query, (EVENTS.c.site, site), (EVENTS.c.device, device))
        if before is not None:
            query = query.where(EVENTS.c.cursor < before)
        if types is not None:
            query = query.where(EVENTS.c.type.in_([storable(kind) for kind in types]))
        if start_ns is not None:
            query = query.where(EVENTS.c.ts_ns >= start_ns)
        if end_ns is not None:
            query = query.where(EVENTS.c.ts_ns < end_ns)
        return [_event(row) for row in self._rows(query)]

    def quarantine(
        self,
        *,
        before: int | None = None,
        reason: str | None = None,
        uid: str | None = None,
        limit: int = 100,
    ) -> list[QuarantineRecord]:
        """Return refusals, newest first, with cursor < ``before``."""
        query = select(QUARANTINE).order_by(QUARANTINE.c.cursor.desc()).limit(limit)
        query = _where(query, (QUARANTINE.c.reason, reason), (QUARANTINE.c.uid, uid))
        if before is not None:
            query = query.where(QUARANTINE.c.cursor < before)
        return [_quarantine(row) for row in self._rows(query)]

    def unknown_names(self, uid: str) -> list[UnknownName]:
        """Return the names that were refused of a device among its newest refusals of this kind, the newest first."""
        query: Select[Any] = select(QUARANTINE.c.detail, QUARANTINE.c.recv_ns).order_by(QUARANTINE.c.cursor.desc())
        query = _where(query, (QUARANTINE.c.uid, uid), (QUARANTINE.c.reason, Reason.UNKNOWN_METRIC))
        found: dict[str, UnknownName] = {}
        for row in self._rows(query.limit(NAMED_FROM)):
            unknown, at = unknown_in(row["detail"]), row["recv_ns"]
            if unknown is None:
                continue
            newest = UnknownName(name=unknown.name, value=unknown.value, refused=0, first_ns=at, last_ns=at)
            named = found.setdefault(unknown.name, newest)
            found[unknown.name] = msgspec.structs.replace(named, refused=named.refused + 1, first_ns=at)
        return list(found.values())

    def quarantine_figures(self) -> QuarantineFigures:
        """Return how full the quarantine is and what was removed to keep it within its bound."""
        with self._connection() as connection:
            return QuarantineFigures(*((0, 0, 0, 0) if connection is None else quarantine_figures(connection)))

    def ledger(self, *, uids: Iterable[str] | None = None) -> list[LedgerRow]:
        """Return the ledger rows of the devices, or of all; the counts of several workers are added up."""
        key = (LEDGER.c.uid, LEDGER.c.account, LEDGER.c.reason)
        frames = cast(func.sum(LEDGER.c.frames), BigInteger).label("frames")
        samples = cast(func.sum(LEDGER.c.samples), BigInteger).label("samples")
        query = select(*key, frames, samples).group_by(*key).order_by(*key)
        few = None if uids is None else sorted({storable(uid) for uid in uids})
        if few is None:
            found = self._rows(query)
        else:
            found = [row for part in in_parts(few) for row in self._rows(query.where(LEDGER.c.uid.in_(part)))]
        rows = [LedgerRow(**row) for row in found]
        with self._connection() as connection:
            if connection is None:
                return rows
            return with_several_workers(connection, without_refused(connection, rows, few), few)

    def overlaps(self) -> list[Overlap]:
        """Return the devices that two workers hear, by uid; once for each two."""
        with self._connection() as connection:
            return [] if connection is None else known_overlaps(connection)

    def workers(self) -> dict[str, Mapping[str, Scalar]]:
        """Return worker → its last status."""
        return {row["worker"]: msgspec.json.decode(row["status"]) for row in self._rows(select(WORKERS))}


def _where(query: Select[Any], *equal: tuple[ColumnElement[Any], str | None]) -> Select[Any]:
    for column, value in equal:
        if value is not None:
            query = query.where(column == storable(value))
    return query


def _device(row: RowMapping) -> DeviceRecord:
    values = dict(row)
    latest = msgspec.json.decode(values["latest"])
    values["latest"] = {metric: (ts, float(value)) for metric, (ts, value) in latest.items()}
    values["info"] = msgspec.json.decode(values["info"])
    return DeviceRecord(**values)


def _event(row: RowMapping) -> EventRecord:
    values = dict(row)
    # Decoded without a type: as floats, times in ns would lose their last digits.
    values["data"] = msgspec.json.decode(values["data"])
    return EventRecord(**values)


def _quarantine(row: RowMapping) -> QuarantineRecord:
    names = QuarantineRecord.__struct_fields__
    return QuarantineRecord(**{name: row[name] for name in names})

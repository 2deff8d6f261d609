"""How a commit's records are written: the same statements on SQLite and PostgreSQL, inside the caller's transaction.

Everything is an upsert by a key made from content, so writing a commit again changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, delete, func, select

from devices.rejects import Reason
from devices.scalars import Scalar
from store.audit import AuditRow, append
from store.heard_alone import Stretch, clear
from store.hearers import Hearers
from store.interface import Commit, DeviceRecord, EventRecord, LedgerRow, QuarantineRecord
from store.packed_devices import DEVICE_FIELDS, PackedDevices
from store.record_counters import counter, set_counter, storable
from store.tables import COUNTERS, DEVICES, EVENTS, LEDGER, QUARANTINE, WORKERS
from store.upserting import KEYS_PER_QUERY, in_parts, upsert, upsert_tuples

QUARANTINE_BYTES: Final = 64 * 2**20
"""Bytes of quarantine records that are kept; the oldest beyond it are removed and counted."""

RECORD_OVERHEAD_BYTES: Final = 256
"""What a quarantine record is taken to need besides its texts and payload."""

_UID, _FIRST_SEEN, _LAST_SEEN, _FRAMES, _LATEST, _INFO = map(
    DEVICE_FIELDS.index, ("uid", "first_seen_ns", "last_seen_ns", "frames", "latest", "info")
)
"""Where a device's row has what is looked at; facts follow the latest values."""
_LEDGER: Final = ("uid", "account", "reason", "worker", "frames", "samples")

AUDITED: Final = frozenset({Reason.IDENTITY_MISMATCH, Reason.NOT_REGISTERED})
"""Refusals that the audit trail keeps: somebody spoke who may not."""


def write_records(
    connection: Connection, commit: Commit, hearers: Hearers, quarantine_bytes: int = QUARANTINE_BYTES
) -> list[EventRecord]:
    """Write a commit's devices, events, quarantine, ledger and status; return its new events with their cursors.

    What it retracts goes first. An event that carries a cursor keeps it unless one as great has been given before.
    """
    heard: list[Stretch] | None = None if hearers.alone(connection, commit.worker) else []
    upsert_tuples(
        connection, DEVICES, DEVICE_FIELDS, _device_rows(commit.devices, heard), ("site", "device_class", "device")
    )
    shared = [] if heard is None else hearers.note(connection, commit.worker, heard)
    retract(connection, commit, EVENTS)
    new = _write_events(connection, commit.events)
    write_quarantine(connection, commit.worker, commit.quarantine, quarantine_bytes)
    upsert_tuples(connection, LEDGER, _LEDGER, (_ledger_row(commit.worker, row) for row in commit.ledger))
    if shared:
        clear(connection, commit.worker, shared)
    if commit.status:
        upsert(connection, WORKERS, [{"worker": commit.worker, "status": _json(commit.status)}])
    return new


def retract(connection: Connection, commit: Commit, table: Table) -> None:
    """Delete from ``table`` the events that a commit retracts, but for those that are there as the commit brings them.

    So delivering a commit again leaves the events alone that it has brought itself.
    """
    brought = {event.id: event.cursor for event in commit.events}
    for ids in in_parts(commit.retracted):
        found = connection.execute(select(table.c.id, table.c.cursor).where(table.c.id.in_(ids)))
        gone = [row.id for row in found if brought.get(row.id) != row.cursor]
        connection.execute(delete(table).where(table.c.id.in_(gone)))


def number_events(
    connection: Connection, events: Iterable[EventRecord], table: Table, counters: Table
) -> tuple[list[EventRecord], list[EventRecord]]:
    """Return (all, new) ``events`` with their cursors: kept by those in ``table``, the next ones for the others.

    Of an id that comes twice the later record is taken. Holds the counter until the transaction ends.
    """
    latest = {event.id: event for event in events}
    if not latest:
        return [], []
    last = counter(connection, "events", counters)
    known: dict[str, int] = {}
    for ids in in_parts(latest):
        found = connection.execute(select(table.c.id, table.c.cursor).where(table.c.id.in_(ids)))
        known.update({row.id: row.cursor for row in found})
    numbered, new = [], []
    for event in latest.values():
        if event.id in known:
            numbered.append(msgspec.structs.replace(event, cursor=known[event.id]))
            continue
        last = max(last + 1, event.cursor)
        numbered.append(msgspec.structs.replace(event, cursor=last))
        new.append(numbered[-1])
    set_counter(connection, "events", last, counters)
    return numbered, new


def _write_events(connection: Connection, events: Sequence[EventRecord]) -> list[EventRecord]:
    numbered, new = number_events(connection, events, EVENTS, COUNTERS)
    upsert(connection, EVENTS, map(_event_row, numbered), key=("id",))
    return new


def write_quarantine(
    connection: Connection, worker: str, records: Iterable[QuarantineRecord], quarantine_bytes: int = QUARANTINE_BYTES
) -> None:
    """Add the records that are not there yet, then remove the oldest beyond ``quarantine_bytes``."""
    latest = {record.id: record for record in records}
    if not latest:
        return
    cursor = counter(connection, "quarantine")
    for ids in in_parts(latest):
        there = select(QUARANTINE.c.id).where(QUARANTINE.c.worker == worker, QUARANTINE.c.id.in_(ids))
        for known in connection.scalars(there):
            del latest[known]
    rows = [_quarantine_row(worker, record, cursor + n) for n, record in enumerate(latest.values(), 1)]
    if not rows:
        return
    connection.execute(QUARANTINE.insert(), rows)
    append(connection, [_refusal(worker, record) for record in latest.values() if record.reason in AUDITED])
    set_counter(connection, "quarantine", cursor + len(rows))
    kept = counter(connection, "quarantine_bytes") + sum(row["kept_bytes"] for row in rows)
    set_counter(connection, "quarantine_bytes", kept - _make_room(connection, kept - quarantine_bytes))


def _make_room(connection: Connection, excess_bytes: int) -> int:
    """Remove the oldest quarantine records until ``excess_bytes`` are free; return how many bytes went."""
    removed_bytes = removed_records = last = 0
    if excess_bytes <= 0:
        return 0
    oldest = select(QUARANTINE.c.cursor, QUARANTINE.c.kept_bytes).order_by(QUARANTINE.c.cursor)
    # Closed, because it is hardly ever read to its end: PostgreSQL keeps the rest of an answer until then.
    with connection.execute(oldest.execution_options(yield_per=KEYS_PER_QUERY)) as found:
        for row in found:
            if removed_bytes >= excess_bytes:
                break
            removed_bytes, removed_records, last = removed_bytes + row.kept_bytes, removed_records + 1, row.cursor
    connection.execute(delete(QUARANTINE).where(QUARANTINE.c.cursor <= last))
    set_counter(connection, "quarantine_dropped", counter(connection, "quarantine_dropped") + removed_records)
    return removed_bytes


def _device_rows(devices: Iterable[DeviceRecord], heard: list[Stretch] | None) -> Iterator[tuple[Any, ...]]:
    """Yield rows of devices, which are made anew each time that they are looked at; note in ``heard`` when that was."""
    every = devices.tuples() if isinstance(devices, PackedDevices) else map(msgspec.structs.astuple, devices)
    for row in every:
        if heard is not None:
            heard.append(Stretch(row[_UID], row[_FIRST_SEEN], row[_LAST_SEEN], row[_FRAMES]))
        yield (*row[:_LATEST], _json(row[_LATEST]), _json(row[_INFO]), *row[_INFO + 1 :])


def _event_row(event: EventRecord) -> dict[str, Any]:
    row = {name: getattr(event, name) for name in event.__struct_fields__}
    return row | {"type": storable(event.type), "data": _json(event.data)}


def _quarantine_row(worker: str, record: QuarantineRecord, cursor: int) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    row |= {name: storable(row[name]) for name in ("reason", "pointer", "detail", "topic", "uid")}
    texts = sum(len(value) for value in row.values() if isinstance(value, str))
    kept = len(record.payload) + texts + RECORD_OVERHEAD_BYTES
    return row | {"worker": worker, "cursor": cursor, "kept_bytes": kept}


def _refusal(worker: str, record: QuarantineRecord) -> AuditRow:
    detail = f"{record.reason}: {record.detail} (payload sha256 {record.payload_sha256})"
    return AuditRow(
        ts_ns=record.recv_ns, actor=f"ingest:{worker}", action="refused", subject=record.topic, detail=detail
    )


def _ledger_row(worker: str, row: LedgerRow) -> tuple[Any, ...]:
    return row.uid, row.account, row.reason, worker, row.frames, row.samples


def _json(value: Mapping[str, Scalar] | Mapping[str, tuple[int, float]]) -> str:
    return msgspec.json.encode(value).decode()


def quarantine_figures(connection: Connection) -> tuple[int, int, int, int]:
    """Return (records kept, bytes kept, records dropped for want of room, refused rows settled)."""
    records = connection.scalars(select(func.count()).select_from(QUARANTINE)).one()
    values = {row.name: row.value for row in connection.execute(select(COUNTERS))}
    names = "quarantine_bytes", "quarantine_dropped", "refused_rows_settled"
    kept, dropped, settled = (values.get(name, 0) for name in names)
    return records, kept, dropped, settled

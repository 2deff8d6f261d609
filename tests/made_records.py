"""Records and commits for the tests of the stores."""

import hashlib
from collections.abc import Mapping, Sequence

from made_rows import BEGIN, SITE

from analytics.rows import WindowRows
from devices.scalars import Scalar
from devices.times import NS
from store.interface import Commit, DeviceRecord, EventRecord, HistoryRecord, LedgerRow, QuarantineRecord


def device(name: str = "QC01", *, frames: int = 1, site: str = SITE, device_class: str = "quay-crane") -> DeviceRecord:
    return DeviceRecord(
        uid=f"{site}/{device_class}/{name}",
        site=site,
        device_class=device_class,
        device=name,
        first_seen_ns=BEGIN,
        last_seen_ns=BEGIN + frames * NS + 1,
        last_event_ns=BEGIN + 7,
        watermark_ns=BEGIN - 5,
        online=True,
        frames=frames,
        latest={"load_t": (BEGIN + 123_456_789, 31.207), "hoist_height_m": (BEGIN, -0.001)},
        info={"maker": "ZPMC 振华", "height_m": 42.5, "twin": False, "note": None},
    )


def event(
    number: int,
    kind: str = "crane_move",
    name: str = "QC01",
    *,
    site: str = SITE,
    data: Mapping[str, Scalar] | None = None,
) -> EventRecord:
    return EventRecord(
        id=f"{kind}-{name}-{number}",
        type=kind,
        site=site,
        device_class="quay-crane",
        device=name,
        ts_ns=BEGIN + number * NS + 1,
        start_ns=BEGIN + number * NS - 60 * NS,
        data={"kind": "discharge", "teu": 2.0, "unlock_ns": BEGIN + 123_456_789} if data is None else data,
    )


def refusal(number: int, payload: bytes = b"{}", *, reason: str = "undecodable", uid: str = "") -> QuarantineRecord:
    return QuarantineRecord(
        id=f"{number}#0",
        reason=reason,
        pointer="/m/load_t",
        detail="not a number",
        topic="port/CNNGB-DEMO/quay-crane/QC01/telemetry",
        uid=uid,
        recv_ns=BEGIN + number,
        payload=payload,
        payload_bytes=len(payload),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
    )


def commit(
    offset: int = 1,
    *,
    worker: str = "w1",
    rows: WindowRows | None = None,
    devices: Sequence[DeviceRecord] = (),
    events: Sequence[EventRecord] = (),
    quarantine: Sequence[QuarantineRecord] = (),
    ledger: Sequence[LedgerRow] = (),
    state: Mapping[str, bytes] | None = None,
    status: Mapping[str, Scalar] | None = None,
    retracted: Sequence[str] = (),
    history: Sequence[HistoryRecord] = (),
) -> Commit:
    return Commit(
        worker=worker,
        offset=offset,
        rows=WindowRows.empty() if rows is None else rows,
        devices=devices,
        events=events,
        quarantine=quarantine,
        ledger=ledger,
        state=state or {},
        status=status or {},
        retracted=retracted,
        history=history,
    )

"""Frames as a broker would deliver them, and what a pipeline makes of them, for the tests of the core."""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st

from analytics.rows import SeriesKey, WindowRows, fold
from devices.times import NS
from ingest.checkpoint import DEVICE, HASHES, DeviceBlob, freeze, worker_of
from ingest.ledger import Account
from ingest.pipeline import Pipeline, PipelineConfig
from store.journal import Frame

SITE = "CNNGB-DEMO"
T0 = 1_795_420_800 * NS
"""2026-11-23T08:00:00Z, the start of an hour."""

Row = tuple[int, ...]


def topic(device_class: str, device: str, stream: str = "telemetry") -> str:
    return f"port/{SITE}/{device_class}/{device}/{stream}"


def frame(where: str, body: Any, *, recv_ts: int = T0, offset: int = 0, flags: int = 1, binary: bool = False) -> Frame:
    """A frame of a body, which is encoded unless it is bytes already."""
    encode = msgspec.msgpack.encode if binary else msgspec.json.encode
    payload = body if isinstance(body, bytes) else encode(body)
    return Frame(offset, recv_ts, 1, flags, where, payload)


def values(seq: int, ts: int, boot: int = 5, **metrics: float | bool) -> dict[str, Any]:
    """The body of a telemetry message."""
    return {"v": 1, "boot": boot, "seq": seq, "ts": ts, "m": metrics}


def read_of(seq: int, ts: int, tag: str, *, rssi: float = -60.0, antenna: int = 1, way: str = "in") -> dict[str, Any]:
    """The body of a tag read."""
    data = {"tag": tag, "antenna": antenna, "rssi_dbm": rssi, "direction": way}
    return {"v": 1, "boot": 5, "seq": seq, "ts": ts, "type": "tag_read", "data": data}


def numbered(frames: Iterable[Frame]) -> list[Frame]:
    """The frames at offsets of their own, as a journal gives them."""
    return [each._replace(offset=40 + 100 * nth) for nth, each in enumerate(frames)]


def pipeline_of(worker: str = "w", life: int = 1, **config: Any) -> Pipeline:
    return Pipeline(worker, life, PipelineConfig(**config))


def cut(frames: Sequence[Frame], at: Iterable[int]) -> list[Sequence[Frame]]:
    """The frames in batches that begin at the given positions."""
    edges = [0, *sorted(set(at) & set(range(1, len(frames)))), len(frames)]
    return [frames[begin:end] for begin, end in itertools.pairwise(edges)]


def accounts(pipeline: Pipeline) -> dict[tuple[str, str, str], tuple[int, int]]:
    """(uid, account, reason) → frames and samples, without what is zero."""
    rows = pipeline.ledger_rows(pipeline.directory.devices)
    return {(row.uid, row.account, row.reason): (row.frames, row.samples) for row in rows if row.frames or row.samples}


def assert_every_frame_is_booked(pipeline: Pipeline, frames: int) -> None:
    ledger = pipeline.ledger
    assert ledger.balanced()
    assert ledger.received == frames
    assert sum(ledger.total(account) for account in Account) == frames


class Shelf:
    """A store with replace semantics: a row overwrites the row of the same key, a reader folds what is there."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int, SeriesKey, str, int], Row] = {}

    def write(self, rows: WindowRows) -> None:
        """Write rows; no key may occur twice among them."""
        columns = [getattr(rows, name).tolist() for name in WindowRows.columns()]
        written = set()
        for row in zip(*columns, strict=True):
            tier, window, series, epoch = row[:4]
            place = (tier, window, rows.keys[series], rows.worker, epoch)
            assert place not in written
            written.add(place)
            self.rows[place] = row[4:]

    def folded(self, *, with_late: bool = True) -> dict[tuple[int, int, SeriesKey], Row]:
        """(tier, window, series) → count, sum, min, max, first and last (each time, sequence, value), and late."""
        keys = sorted({place[2] for place in self.rows})
        number = {key: at for at, key in enumerate(keys)}
        found: dict[tuple[int, int, SeriesKey], Row] = {}
        for tier in sorted({place[0] for place in self.rows}):
            lines = [
                (tier, window, number[key], epoch, *row)
                for (width, window, key, _, epoch), row in self.rows.items()
                if width == tier
            ]
            table = np.array(lines, np.int64).T
            folded = fold(WindowRows(keys, "", *table))
            for row in zip(*(getattr(folded, name).tolist() for name in WindowRows.columns()), strict=True):
                found[tier, row[1], keys[row[2]]] = row[4:] if with_late else row[4:-1]
        return found


def everything(pipeline: Pipeline) -> dict[str, Any]:
    """What a pipeline has come to, apart from the order in which devices and series were met."""
    pipeline.tick(T0 + 10**12)
    shelf = Shelf()
    shelf.write(pipeline.take_rows(1))
    state = freeze(pipeline, worker_of({}), pipeline.touched()).state
    devices = {
        name: msgspec.msgpack.decode(blob, type=DeviceBlob) for name, blob in state.items() if name[:7] == DEVICE
    }
    for device in devices.values():
        # One look is taken at a device's clock in each batch.
        device.clock = None
    return {
        "accounts": accounts(pipeline),
        "rows": shelf.rows,
        "events": sorted(event.id for event in pipeline.take_events()),
        "quarantine": sorted((each.id, each.reason, each.pointer, each.uid) for each in pipeline.take_quarantine()),
        "devices": devices,
        "hashes": {name: blob for name, blob in state.items() if name.startswith(HASHES)},
        "live": pipeline.take_live(),
    }


def _telemetry(device: str, seq: int, second: int, body: dict[str, Any]) -> Frame:
    device_class = "quay-crane" if device.startswith("QC") else "vehicle"
    ts = T0 + second * NS // 2
    return frame(topic(device_class, device), {**values(seq, ts, boot=5 + seq % 2), "m": body}, binary=bool(seq % 3))


def _bare(second: int, body: dict[str, Any]) -> Frame:
    return frame(topic("vehicle", "T1"), {"v": 1, "ts": T0 + second * NS, "m": body})


seeds = st.integers(0, 2**32).map(random.Random)
"""Generators of chance for tests of many steps, whose failures shrinking would not make any clearer."""
SECONDS = st.integers(-150, 100)
SEQUENCES = st.integers(0, 40)
"""Few, so that some come twice; which values a number stands for follows from it, as for a device that sends again."""

telemetry_frames = SEQUENCES.flatmap(
    lambda seq: st.sampled_from(["QC01", "QC02", "T1"]).map(
        lambda device: _telemetry(device, seq, seq * 7 % 50 - 20, bodies_of(device)[seq % len(bodies_of(device))])
    )
)
bare_frames = st.builds(_bare, SECONDS, st.sampled_from([{"x_m": 1.0}, {"x_m": 2.0, "y_m": -3.5}, {"laden": True}]))


def bodies_of(device: str) -> list[dict[str, Any]]:
    """Values that a device sends: good ones, and all that can be wrong with a sample."""
    if device == "T1":
        return [{"x_m": 1.5, "y_m": 2.5}, {"speed_mps": 3.0}, {"x_m": 9e9}, {"load_t": 3}, {"laden": True, "x_m": -7}]
    return [
        {"load_t": 24.5, "trolley_position_m": 31.25},
        {"spreader_locked": True, "load_t": 0},
        {"spreader_locked": False, "trolley_position_m": -12},
        {"load_t": 600, "hoist_height_m": 4},
        {"moves": 1, "load_t": 7},
        {"no_such_metric": 1},
        {"load_t": 501, "what": 2},
        {},
    ]


def _other(kind: int, seq: int) -> Frame:
    ts = T0 + (seq * 11 % 60 - 30) * NS
    crane, gate = "quay-crane", "rfid-gate"
    event: dict[str, Any] = {"v": 1, "boot": 5, "seq": 100 + seq, "ts": ts, "type": "fault", "data": {"code": seq}}
    read = read_of(100 + seq, ts, f"E2{seq % 3}", rssi=-60 - seq % 7)
    faults: list[dict[str, Any]] = [{"antenna": "1"}, {"tag": ""}, {"rssi_dbm": 99}]
    broken = {**read, "seq": 200 + seq, "data": {**read["data"], **faults[seq % 3]}}
    future = T0 + 301 * NS + seq
    frames = [
        lambda: frame(topic(crane, "QC01", "event"), event),
        lambda: frame(topic(crane, "QC01", "cmd"), b"anything"),
        lambda: frame(
            topic(crane, "QC02", "status"), {"v": 1, "boot": 5, "seq": 300 + seq, "ts": ts, "online": seq % 2 > 0}
        ),
        lambda: frame(topic(gate, "G1", "event"), read),
        lambda: frame(topic(gate, "G1", "event"), broken),
        lambda: frame(topic(gate, "G1"), {**values(400 + seq, ts, rssi_dbm=-55.5, antenna=2)}),
        lambda: frame(topic(crane, "QC01"), b'{"v":1,"m":{"load_t":' + b"x" * seq),
        lambda: frame(topic(crane, "QC01"), {"v": 1, "m": {"load_t": "abc"}}),
        lambda: frame("port/CNNGB-DEMO/rocket/R1/telemetry", values(seq, ts, load_t=1)),
        lambda: frame(f"nowhere/{seq}", b"\xc1"),
        lambda: frame(topic(crane, "QC01"), values(500 + seq, seq, load_t=1)),
        lambda: frame(topic(crane, "QC01"), values(600 + seq, future, load_t=1)),
        lambda: frame(topic(crane, "QC01"), {**values(seq, ts, load_t=1), "device": "QC02"}),
        lambda: frame(topic(crane, "QC01"), values(seq, ts, boot=2**64, load_t=1)),
    ]
    return frames[kind % len(frames)]()


other_frames = st.builds(_other, st.integers(0, 13), st.integers(0, 12))
any_frames = st.lists(telemetry_frames | bare_frames | other_frames, max_size=60).map(numbered)
"""Frames of a few devices with everything that can be right or wrong with them, in any order."""

"""What a pipeline must remember across a restart, as blobs: per changed device, per codec that learned, and the worker.

Open windows are not among them: their rows are in the store as of the same commit, and the next life of the worker
continues under a new epoch, which readers fold. Hours of findings that are over rest beside the checkpoint, so that
starting does not read them; those still open are among the blobs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec
import numpy as np

from analytics.clocks import ClockState
from analytics.dedup import DeviceState as SeenState
from analytics.dedup import SequenceTracker
from analytics.detectors.cranes import CraneState
from analytics.detectors.gates import Passage, TagRead
from analytics.detectors.states import Held
from analytics.findings import DetectorState, Hour, period_of
from analytics.hashes import SLOTS
from devices.columns import Columns, Ints
from devices.scalars import Scalar
from devices.topics import DeviceKey
from devices.vocabulary import INDEX, METRICS
from ingest.detection import Need
from ingest.directory import NOBODY, Device
from ingest.kept_hours import decode_open, encode_hour, encode_open
from ingest.ledger import DeviceAccounts
from ingest.packed_ints import PackedInts
from ingest.pipeline import Newest, Pipeline
from store.interface import HistoryRecord, StoreUnreachableError
from store.lots import Blobs
from store.packed_devices import PackedDevices
from store.sqlite_files import DAMAGED_HINT

WORKER: Final = "worker"
DEVICE: Final = "device:"
HASHES: Final = "hashes:"
"""Followed by a slot and a device: a block of hashes of :mod:`analytics.hashes`."""
CODEC: Final = "codec:"
HOURS: Final = "hours:"
WITH_HOURS: Final = 1
"""Form of a checkpoint whose detectors can run again; before, only their state was kept."""


class DeviceBlob(msgspec.Struct, array_like=True):
    """One device; times are ns UTC, values scaled."""

    seen: SeenState
    newest: int
    heard: int
    mark: int
    first_seen: int
    last_seen: int
    frames: int
    online: bool
    info: dict[str, Scalar]
    accounts: DeviceAccounts
    latest: dict[str, tuple[int, int]]
    derived: list[str]
    released: int = -1
    crane: CraneState | None = None
    passages: dict[str, Passage] = {}
    need: Need | None = None
    """Late inputs for which its detectors have not run again."""
    clock: ClockState | None = None
    """The looks at its clock."""
    held: dict[str, Held] = {}


MOST_PLAIN: Final = 20_000
"""Inputs that are written in eight bytes each at an orderly end; more would hold it up."""
Column = PackedInts | bytes
"""A column of integers: packed, or as checkpoints had it before, eight bytes for each."""


class PendingBlob(msgspec.Struct, array_like=True):
    """Samples that the detectors have not seen yet: tables of names, and columns of integers.

    Under full load these are hundreds of thousands, in each checkpoint anew, and most of what it holds.
    """

    uids: list[str]
    metrics: list[str]
    device: Column
    metric: Column
    ts: Column
    seq: Column
    value: Column
    reads: list[tuple[str, TagRead]]


class WorkerBlob(msgspec.Struct, array_like=True):
    """The worker itself."""

    life: int = 0
    """How often it has been started on its data."""
    commits: int = 0
    """How many commits it has made."""
    epoch: int = 0
    """The last connection epoch given to a frame."""
    frames: int = 0
    """Frames of the journal processed."""
    unseen: int = 0
    """Frames that the journal had numbered, and forgotten again, before this worker's first checkpoint."""
    session_losses: int = 0
    reconnects: int = 0
    samples: int = 0
    late_for_detectors: int = 0
    quarantine_dropped: int = 0
    pending: PendingBlob | None = None
    ticked: int = 0
    """The last time that was let pass, ns UTC: silent devices' watermarks have moved on to it."""
    form: int = 0
    """0 or :data:`WITH_HOURS`."""
    runs_again: int = 0
    filters: list[str] = []
    """The topic filters that the broker's session holds for this worker."""
    sheds: int = 0
    """All that was shed before the file of this number in ``store.shed_log`` is in the accounts."""


_encode = msgspec.msgpack.Encoder().encode
_decode_device = msgspec.msgpack.Decoder(DeviceBlob).decode
_decode_worker = msgspec.msgpack.Decoder(WorkerBlob).decode


class Frozen(NamedTuple):
    """What a commit keeps of a pipeline besides rows and records."""

    state: Blobs
    history: list[HistoryRecord]


def freeze(
    pipeline: Pipeline,
    worker: WorkerBlob,
    devices: Sequence[Device],
    *,
    last: bool = False,
    records: PackedDevices | None = None,
) -> Frozen:
    """Return the state blobs of the worker and of ``devices``, and the hours of findings that are over.

    ``last``: for the commit of an orderly end, which a release of before integers were packed may be given to read, but
    for what waits under a load that no port has.

    ``records``: to which what :meth:`Pipeline.records_of` gives of the devices is added, as they are looked at anyway.
    """
    plain = last and len(pipeline.detection.waiting) <= MOST_PLAIN
    worker.pending = _freeze_pending(pipeline, _plain if plain else PackedInts.of)
    worker.samples = pipeline.samples
    worker.late_for_detectors = pipeline.detection.late_for_detectors
    worker.runs_again = pipeline.detection.runs_again
    worker.quarantine_dropped = pipeline.quarantine_dropped
    worker.ticked = pipeline.ticked
    worker.form = WITH_HOURS
    blobs = Blobs()
    for device, (blob, blocks, newest) in zip(devices, _freeze_devices(pipeline, devices), strict=True):
        uid = device.uid
        blobs.add(DEVICE + uid, _encode(blob))
        for slot, block in blocks.items():
            blobs.add(_block_key(slot, uid), block)
        if records is not None and device.index != NOBODY:
            records.add(pipeline.record_of(device, newest, blob.newest, blob.mark))
    for name, state in pipeline.foreign.feeds.take_states().items():
        blobs.add(CODEC + name, state)
    changed, over = pipeline.detection.take_hours(every=last)
    hours = pipeline.detection.hours
    for device in changed:
        blobs.add(HOURS + device.uid, encode_open(hours[device.index], plain=last))
    blobs.add(WORKER, _encode(worker))
    history = [HistoryRecord(uid=uid, start_ns=start, blob=encode_hour(hour)) for uid, start, hour in over]
    return Frozen(blobs, history)


class CheckpointError(StoreUnreachableError):
    """A checkpoint that cannot be read: its file is damaged."""


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever comes of bytes that nobody has written into a CheckpointError."""
    try:
        yield
    except Exception as error:
        msg = f"the checkpoint cannot be read: {type(error).__name__}: {error}; {DAMAGED_HINT}"
        raise CheckpointError(msg) from error


def worker_of(state: Mapping[str, bytes]) -> WorkerBlob:
    """Return the worker's blob of a checkpoint, or a fresh one. Raises CheckpointError."""
    with _reading():
        return _decode_worker(state[WORKER]) if WORKER in state else WorkerBlob()


def thaw(pipeline: Pipeline, state: Mapping[str, bytes]) -> None:
    """Put the devices and the pending samples of a checkpoint into a new pipeline. Raises CheckpointError."""
    with _reading():
        _thaw(pipeline, state)


def _thaw(pipeline: Pipeline, state: Mapping[str, bytes]) -> None:
    for name, blob in sorted(state.items()):
        if name.startswith(DEVICE):
            uid, device_blob = name.removeprefix(DEVICE), _decode_device(blob)
            keys = ((slot, _block_key(slot, uid)) for slot in range(SLOTS if device_blob.seen.hashes_in_blocks else 0))
            _thaw_device(pipeline, uid, device_blob, {slot: state[key] for slot, key in keys if key in state})
        elif name.startswith(CODEC):
            pipeline.foreign.feeds.restore(name.removeprefix(CODEC), blob)
    worker = worker_of(state)
    for device in pipeline.directory.devices:
        if (hours := state.get(HOURS + device.uid)) is not None:
            pipeline.detection.set_hours(device.index, decode_open(hours))
        elif worker.form < WITH_HOURS and device.index != NOBODY:
            _begin_history(pipeline, device.index)
    pipeline.samples = worker.samples
    pipeline.detection.late_for_detectors = worker.late_for_detectors
    pipeline.detection.runs_again = worker.runs_again
    pipeline.quarantine_dropped = worker.quarantine_dropped
    if worker.pending is not None:
        _thaw_pending(pipeline, worker.pending)
    if worker.ticked:
        pipeline.ticked = worker.ticked
        pipeline.watermarks.tick(worker.ticked)
    for device in pipeline.directory.devices:
        device.touched = False


def _begin_history(pipeline: Pipeline, device: int) -> None:
    """Let findings begin where a checkpoint of the old form left off: from there on detectors can run again."""
    released, state = int(pipeline.watermarks.released[device]), pipeline.detection.state_of(device)
    first = min([released, *(passage.last for passage in state.passages.values())])
    if first >= 0:
        pipeline.detection.set_hours(device, {period_of(first): Hour(released + 1, state, {})})


def _freeze_devices(
    pipeline: Pipeline, devices: Sequence[Device]
) -> Iterator[tuple[DeviceBlob, dict[int, bytes], Newest]]:
    """Yield the blobs of devices, each to be used up before the next, changed blocks by slot, and newest values."""
    marks = pipeline.watermarks
    index = np.array([device.index for device in devices], np.int64)
    times = zip(
        *(each[index].tolist() for each in (marks.newest, marks.heard, marks.mark, marks.released)), strict=True
    )
    accounts, everything = pipeline.ledger.states(index), pipeline.newest_of(devices)
    for device, (newest, heard, mark, released), account, last in zip(
        devices, times, accounts, everything, strict=True
    ):
        state = pipeline.detection.look_at(device.index)
        seen, blocks = device.tracker.take_state()
        blob = DeviceBlob(
            seen=seen,
            newest=newest,
            heard=heard,
            mark=mark,
            first_seen=device.first_seen,
            last_seen=device.last_seen,
            frames=device.frames,
            online=device.online,
            info=dict(device.info),
            accounts=account,
            latest=dict(zip(last.names, zip(last.ts, last.scaled, strict=True), strict=True)),
            derived=list(device.derived),
            released=released,
            crane=state.crane,
            passages=state.passages,
            need=pipeline.detection.need_of(device.index),
            clock=pipeline.clocks.state(device.index),
            held=state.held,
        )
        yield blob, blocks, last


def _block_key(slot: int, uid: str) -> str:
    return f"{HASHES}{slot}:{uid}"


def _thaw_device(pipeline: Pipeline, uid: str, blob: DeviceBlob, blocks: Mapping[int, bytes]) -> None:
    directory = pipeline.directory
    device = directory.device(DeviceKey.from_uid(uid), capped=False) if uid else directory.devices[NOBODY]
    index = device.index
    device.tracker = SequenceTracker(blob.seen, blocks)
    device.first_seen, device.last_seen, device.frames = blob.first_seen, blob.last_seen, blob.frames
    device.online, device.info = blob.online, blob.info
    pipeline.ledger.grow(index + 1)
    pipeline.ledger.restore(index, blob.accounts)
    pipeline.watermarks.restore(index, blob.newest, blob.heard, blob.mark)
    for name, (ts, value) in blob.latest.items():
        enter = directory.derived_series if name in blob.derived else directory.series
        at = enter(device, name, capped=False)
        pipeline.set_latest(at, ts, value)
    pipeline.watermarks.released[index] = blob.released
    pipeline.detection.set_state(index, DetectorState(blob.crane, blob.passages, blob.held))
    if blob.need is not None:
        pipeline.detection.needs[index] = blob.need
    pipeline.clocks.grow(index + 1)
    if blob.clock is not None:
        pipeline.clocks.restore(index, blob.clock)


def _plain(numbers: Ints) -> bytes:
    return numbers.tobytes()


def _freeze_pending(pipeline: Pipeline, column: Callable[[Ints], Column]) -> PendingBlob:
    columns = pipeline.detection.waiting.all()
    devices, device = _numbered(columns.device)
    metrics, metric = _numbered(columns.metric)

    def uid_of(index: int) -> str:
        return pipeline.directory.devices[index].key.uid

    return PendingBlob(
        uids=[uid_of(index) for index in devices],
        metrics=[METRICS[index].name for index in metrics],
        device=column(device),
        metric=column(metric),
        ts=column(columns.ts),
        seq=column(columns.seq),
        value=column(columns.value),
        reads=[(uid_of(read.device), read) for read in pipeline.detection.reads],
    )


def _numbered(index: Ints) -> tuple[list[int], Ints]:
    """Return the distinct numbers in ascending order, and for each its place among them; without sorting."""
    there = np.bincount(index) > 0
    return np.flatnonzero(there).tolist(), (np.cumsum(there) - 1)[index]


def _thaw_pending(pipeline: Pipeline, blob: PendingBlob) -> None:
    directory = pipeline.directory

    def index_of(uid: str) -> int:
        return directory.device(DeviceKey.from_uid(uid), capped=False).index

    def ints(column: Column) -> Ints:
        return column.ints() if isinstance(column, PackedInts) else np.frombuffer(column, np.int64)

    if blob.uids:
        devices = np.array([index_of(uid) for uid in blob.uids], np.int64)
        metrics = np.array([INDEX[name] for name in blob.metrics], np.int64)
        device, metric = devices[ints(blob.device)], metrics[ints(blob.metric)]
        pipeline.detection.waiting.add(Columns(device, metric, ints(blob.ts), ints(blob.seq), ints(blob.value)))
    pipeline.detection.reads = [read._replace(device=index_of(uid)) for uid, read in blob.reads]

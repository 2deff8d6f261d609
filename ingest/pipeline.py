"""From frames to a commit: decode, validate, window, detect, book. Pure but for the state that it keeps.

The pipeline is handed frames and times and asked for commits; it neither reads clocks nor touches disks, so that the
same code runs behind the broker, in recovery and in virtual time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from analytics.clocks import UNKNOWN, ClockOffsets
from analytics.detectors.cranes import MoveRules
from analytics.detectors.gates import PassageRules
from analytics.detectors.states import HoldRules
from analytics.packing import PackedRows
from analytics.partials import MOST
from analytics.rows import TIERS_S, WindowRows
from analytics.watermarks import Lateness, Watermarks
from analytics.windows import Windows
from devices.columns import Bools, Columns, Ints
from devices.rejects import Reason, Reject
from devices.times import NS
from devices.vocabulary import HAS_PERCENTILES, INDEX, MAXIMUM, METRICS, MINIMUM, Metric, scaled, unscaled
from ingest.batch import WHOLE, Accepted, Batch, Refused
from ingest.blocks import Bad, Stack, binned_of, check, cut, extent_of, partials_of
from ingest.booking import book
from ingest.decoding import Decoder
from ingest.detection import Detection, record_of
from ingest.directory import Device, Directory
from ingest.foreign import READING_NUMBERS, Foreign
from ingest.inputs import IS_INPUT, shown
from ingest.ledger import Account, Ledger
from ingest.room import Room
from ingest.sources import Source
from store.admission import EVERYBODY, Admission
from store.interface import DeviceRecord, EventRecord, LedgerRow, QuarantineRecord
from store.journal import Frame

PAYLOAD_HEAD: Final = 4_096
CLOCK_OFF_NS: Final = 5_000_000_000
"""A clock off by more than this is worth a look, ns."""
FINEST: Final = TIERS_S[0] * NS
NAMES: Final = tuple(metric.name for metric in METRICS)
DEVICES_AT_ONCE: Final = 512
"""Devices that are looked at together: enough that numpy's cost per call does not count."""
VALUE_NUMBERS: Final = 1_000_000
"""Refused values of a frame are numbered from here on, beyond the places of names in it."""
BLOCK_NUMBERS: Final = 2_000_000
"""Refused columns of a block are numbered from here on, beyond names and single samples of one frame."""


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """Rules and bounds of a pipeline."""

    lateness: Lateness = field(default_factory=Lateness)
    """How long devices are waited for."""
    moves: MoveRules = field(default_factory=MoveRules)
    """What makes a crane move."""
    passages: PassageRules = field(default_factory=PassageRules)
    """What makes a gate passage."""
    holds: HoldRules = field(default_factory=HoldRules)
    """How long states are believed."""
    max_devices: int = 20_000
    """Devices beyond this many are refused, their frames quarantined."""
    max_series: int = 200_000
    """Series beyond this many are refused, their samples quarantined."""
    max_site_devices: int = 10_000
    """Devices of one site beyond this many are refused, so that no site takes the others' places."""
    max_site_series: int = 100_000
    """Series of one site beyond this many are refused."""
    sources: tuple[Source, ...] = ()
    """Topics that carry foreign formats."""
    strict: tuple[str, ...] = ()
    """Codecs that refuse what they could read in spite of its faults."""
    admission: Admission = EVERYBODY
    """What the registry says at the start."""
    max_quarantine_per_commit: int = 2_000
    """Refusals whose payload is kept per commit; more are counted, not kept."""


class Newest(NamedTuple):
    """The newest samples of one device's series, in the same order."""

    names: Sequence[str]
    ts: list[int]
    """Event times, ns UTC; -1 where nothing was noted."""
    scaled: list[int]
    values: list[float]
    """The same in the units of their metrics."""


class Pipeline:
    """One worker's way from frames to figures."""

    def __init__(self, worker: str, life: int, config: PipelineConfig) -> None:
        """``life`` counts the starts of this worker on its data."""
        self.config = config
        self.directory = Directory(
            config.max_devices, config.max_series, config.max_site_devices, config.max_site_series
        )
        self.directory.admit(config.admission)
        self.ledger = Ledger()
        self.watermarks = Watermarks(config.lateness)
        self.watermarks.grow(1)
        self.clocks = ClockOffsets()
        self.clocks.grow(1)
        self.windows = Windows(worker, life, self.directory.keys)
        self._room = Room(self.windows)
        self._worker = worker
        self.detection = Detection(
            config.moves, config.passages, config.holds, self.directory, self.watermarks, self._note_latest
        )
        self.ticked = 0
        """Latest time that :meth:`tick` was told, ns UTC."""
        self.samples = 0
        self.age_ns: int | None = None
        """Median of receive time minus event time over the last batch that had samples, ns; None before one."""
        self.quarantine_dropped = 0
        """Refusals counted whose payload was not kept."""
        self.latest_ts: Ints = np.full(256, -1, np.int64)
        self.latest: Ints = np.zeros(256, np.int64)
        self.live: Bools = np.zeros(256, np.bool_)
        """Per series: newest event time and its scaled value, and whether it changed since :meth:`take_live`."""
        self.foreign = Foreign(self.directory, config.sources, config.strict)
        self._decoder = Decoder(self.directory, self.foreign)
        self._events: list[EventRecord] = []
        self._quarantine: list[QuarantineRecord] = []

    def admit(self, admission: Admission) -> None:
        """Take over what the registry says now."""
        self._decoder.admit(admission)

    @property
    def current_config(self) -> PipelineConfig:
        """The rules under which another pipeline would decide as this one does now."""
        return replace(self.config, admission=self.directory.admission)

    def process(self, frames: Sequence[Frame]) -> None:
        """Take frames in journal order, each with its place in the journal."""
        batch = self._decoder.decode(frames)
        devices = len(self.directory.devices)
        self.ledger.grow(devices)
        self.watermarks.grow(devices)
        self.clocks.grow(devices)
        accepted = batch.accepted()
        late = self._window(batch, accepted)
        book(self.ledger, self.directory, batch, accepted, late)
        self.detection.reads.extend(batch.reads)
        self._events += [record_of(self.directory.devices[event.device], event) for event in batch.events]
        hashes: dict[int, str] = {}
        for refused in batch.refused:
            self._refuse(refused, hashes)

    def shed(self, topics: Sequence[str], now: int) -> None:
        """Count frames that are given up before they are journalled, by the topics on which they came."""
        index = np.array([self._decoder.device_of(topic, now) for topic in topics], np.int64)
        self.ledger.grow(len(self.directory.devices))
        self.watermarks.grow(len(self.directory.devices))
        self.clocks.grow(len(self.directory.devices))
        nothing = np.zeros(len(index), np.int64)
        self.ledger.receive(index, nothing)
        self.ledger.book(Account.SHED, index, nothing)
        for device in np.unique(index).tolist():
            self.directory.devices[device].touched = True

    def tick(self, now: int, since: int = 0) -> None:
        """Let time pass: move watermarks on and run the detectors on what they release.

        ``since`` when whoever hands on frames has listened without a break; both ns UTC.
        """
        self.ticked = max(self.ticked, now)
        self.watermarks.tick(now, since)
        self.detection.tick()

    def set_latest(self, series: int, ts: int, value: int) -> None:
        """Put back the newest value of a series from a checkpoint: event time in ns, scaled value."""
        self._grow_latest()
        self.latest_ts[series], self.latest[series] = ts, value

    def latest_of(self, series: Ints) -> tuple[Ints, Ints]:
        """Return event times in ns and scaled values, the newest of each series; -1 and 0 where none was noted.

        Times in a state have series of their own before anything is noted of them.
        """
        self._grow_latest()
        return self.latest_ts[series], self.latest[series]

    def take_events(self) -> list[EventRecord]:
        """Return the events found since the last call."""
        events, self._events = self._events, []
        return events + self.detection.take_events()

    def take_rows(self, commit: int) -> WindowRows:
        """Return the window rows that changed since the last call, for commit number ``commit`` ≥ 0."""
        return self.take_packed(commit).whole()

    def take_packed(self, commit: int, *, complete: bool = True) -> PackedRows:
        """Return what :meth:`take_rows` would, packed; if not ``complete``, without rows of windows that are not over.

        These follow from the others, see :meth:`analytics.windows.Windows.take_packed`.
        """
        over = None if complete else self.ticked
        rows = self.windows.take_packed(commit, over)
        for found in self.detection.take_rows(self._worker):
            for tier_s in TIERS_S:
                rows.add(tier_s, found.take(found.tier_s == tier_s))
        return rows

    def take_quarantine(self) -> list[QuarantineRecord]:
        """Return the refusals since the last call."""
        refused, self._quarantine = self._quarantine, []
        return refused

    def take_live(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """Return (site, class) → device → metric → value in its unit, for what changed since the last call."""
        changed = np.flatnonzero(self.live)
        self.live[changed] = False
        metrics, devices = self.directory.metric_of[changed], self.directory.device_of[changed].tolist()
        values = unscaled(metrics, self.latest[changed]).tolist()
        result: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        # The series of a device are mostly neighbours.
        last, of_device = -1, dict[str, float]()
        for device, metric, value in zip(devices, metrics.tolist(), values, strict=True):
            if device != last:
                last, key = device, self.directory.devices[device].key
                of_device = result.setdefault((key.site, key.device_class), {}).setdefault(key.device, {})
            of_device[NAMES[metric]] = value
        return result

    def touched(self) -> list[Device]:
        """Return the devices that changed since the last call, and the entry of nobody if it did."""
        found = [device for device in self.directory.devices if device.touched]
        for device in found:
            device.touched = False
        return found

    def newest_of(self, devices: Sequence[Device]) -> Iterator[Newest]:
        """Yield what was noted last of each device, which numpy looks up for hundreds of them at once."""
        for first in range(0, len(devices), DEVICES_AT_ONCE):
            some = devices[first : first + DEVICES_AT_ONCE]
            names = [(*device.series, *device.derived) for device in some]
            indices = chain.from_iterable(chain(device.series.values(), device.derived.values()) for device in some)
            series = np.fromiter(indices, np.int64)
            ts, scaled_values = self.latest_of(series)
            values = unscaled(self.directory.metric_of[series], scaled_values)
            columns = ts.tolist(), scaled_values.tolist(), values.tolist()
            end = 0
            for of_device in names:
                begin, end = end, end + len(of_device)
                yield Newest(of_device, *(column[begin:end] for column in columns))

    def records_of(self, devices: Sequence[Device]) -> Iterator[DeviceRecord]:
        """Yield devices as the store keeps them."""
        marks = self.watermarks
        index = np.array([device.index for device in devices], np.int64)
        heard = zip(marks.newest[index].tolist(), marks.mark[index].tolist(), strict=True)
        for device, newest, (event, mark) in zip(devices, self.newest_of(devices), heard, strict=True):
            yield self.record_of(device, newest, event, mark)

    def record_of(self, device: Device, newest: Newest, event: int, mark: int) -> DeviceRecord:
        """Return a device as the store keeps it, with the time of its last event and its watermark, ns UTC."""
        pairs = zip(newest.names, newest.ts, newest.values, strict=True)
        return DeviceRecord(
            uid=device.key.uid,
            site=device.key.site,
            device_class=device.key.device_class,
            device=device.key.device,
            first_seen_ns=device.first_seen,
            last_seen_ns=device.last_seen,
            last_event_ns=event,
            watermark_ns=mark,
            online=device.online,
            frames=device.frames,
            latest={name: (ts, value) for name, ts, value in pairs if ts >= 0},
            info=device.info,
            clock_offset_s=self.clock_offset_s(device.index),
            rate_hz=device.rate_hz(),
        )

    def clock_offset_s(self, device: int) -> float | None:
        """Return how far a device's clock is off, s, positive where it is behind; None where it is not known."""
        offset = int(self.clocks.offset[device])
        return None if offset == UNKNOWN else round(offset / 1e9, 3)

    def clocks_off(self) -> int:
        """Return how many devices' clocks are off by more than :data:`CLOCK_OFF_NS`."""
        known = self.clocks.offset[self.clocks.offset != UNKNOWN]
        return int((np.abs(known) > CLOCK_OFF_NS).sum())

    def ledger_rows(self, devices: Sequence[Device]) -> list[LedgerRow]:
        """Return the ledger rows of devices."""
        return [row for device in devices for row in self.ledger.rows(device.index, device.uid, device.tracker.lost)]

    def take_ledger(self, devices: Sequence[Device]) -> list[LedgerRow]:
        """Return those ledger rows of devices that changed since they were taken last."""
        return self.ledger.take_rows([(device.index, device.uid, device.tracker.lost) for device in devices])

    def _window(self, batch: Batch, accepted: Accepted) -> Bools:
        """Validate and window the samples of a batch; return which of its frames came late."""
        directory = self.directory
        series, value = accepted.series, accepted.value
        frame = np.repeat(np.arange(len(accepted.frames)), accepted.scattered)
        metric = directory.metric_of[series]
        # NaN compares false with everything, so it fails here too.
        good = (value >= MINIMUM[metric]) & (value <= MAXIMUM[metric])
        roomy = self._room.reserve(int(accepted.samples.sum()))
        if not roomy:
            good[good] = self._room.admit(series[good], accepted.ts[frame[good]], np.ones(int(good.sum()), np.int64))
        if not good.all():
            self._refuse_samples(batch, accepted, np.flatnonzero(~good), frame)
            series, value, frame, metric = series[good], value[good], frame[good], metric[good]

        device, ts, received = accepted.device, accepted.ts, accepted.received
        late = self.watermarks.hear(device, ts, received, ts - ts % FINEST + FINEST)
        self.clocks.hear(device, accepted.said, received)
        if len(ts):
            self.age_ns = int(np.sort(received - ts)[len(ts) // 2])

        columns = Columns(device[frame], metric, ts[frame], accepted.seq[frame], scaled(metric, value))
        self._add(series, columns, late[frame])
        wanted = IS_INPUT[metric]
        if wanted.any():
            self.detection.waiting.add(columns.take(wanted))
        for stack in accepted.blocks:
            pieces = cut(stack, FINEST)
            self._window_stack(batch, accepted, pieces, late, None if roomy else self._fits(pieces))
        return late

    def _fits(self, stack: Stack) -> Bools:
        """Return for which columns of a stack the windows have room; shape (blocks, series)."""
        columns = stack.series.shape[1]
        fits = self._room.admit(stack.series.ravel(), *(np.repeat(each, columns) for each in (stack.t0, stack.rows)))
        return fits.reshape(stack.series.shape)

    def _window_stack(
        self, batch: Batch, accepted: Accepted, stack: Stack, late: Bools, fits: Bools | None = None
    ) -> None:
        """Validate and window packed blocks of as many signals; ``late`` is that of the frames accepted.

        ``fits``: the columns for which there is room; by default all.
        """
        metric = self.directory.metric_of[stack.series]
        seq = accepted.seq[stack.frame]
        extent = extent_of(stack, metric)
        good, bad = check(stack, extent, metric, fits)
        for column in bad:
            self._take_bad_column(batch, accepted, column, late=bool(late[column.frame]))
        partials = partials_of(stack, extent, metric, good, seq, late[stack.frame].astype(np.int64), FINEST)
        self.samples += int(partials.count.sum())
        self.windows.add_partials(partials, binned_of(stack, metric, good & HAS_PERCENTILES[metric], FINEST))
        self._note_latest(partials.series, partials.last_ts, partials.last)
        wanted = good & IS_INPUT[metric]
        if wanted.any():
            self.detection.waiting.add(shown(stack, wanted, accepted.device[stack.frame], metric, seq))

    def _take_bad_column(self, batch: Batch, accepted: Accepted, column: Bad, *, late: bool) -> None:
        """Window the good values of a column one by one, and refuse the others together."""
        metric_index = int(self.directory.metric_of[column.series])
        metric = METRICS[metric_index]
        at = int(np.flatnonzero(~column.good)[0])
        refused = int((~column.good).sum())
        reject = _value_reject(metric, float(column.value[at]), f"/f32/{metric.name}/{at}")
        # By metric and place in time: a column may be bad in each of the windows that its block reaches over.
        before_end = int(accepted.ts[column.frame] - column.ts[at])
        number = BLOCK_NUMBERS + before_end * len(METRICS) + metric_index
        device = int(accepted.device[column.frame])
        batch.refused.append(Refused(accepted.frames[column.frame], device, reject, number, refused))
        accepted.samples[column.frame] -= refused
        ts, value = column.ts[column.good], column.value[column.good]

        def alike(each: int) -> Ints:
            return np.full(len(ts), each, np.int64)

        index = alike(metric_index)
        samples = Columns(alike(device), index, ts, alike(int(accepted.seq[column.frame])), scaled(index, value))
        self._add(alike(column.series), samples, np.full(len(ts), late, np.bool_))
        if IS_INPUT[metric_index]:
            self.detection.waiting.add(samples)

    def _add(self, series: Ints, columns: Columns, late: Bools) -> None:
        """Put samples into their windows and among the latest values."""
        self.samples += len(series)
        self.windows.add(series, columns.ts, columns.seq, columns.value, late)
        self._note_latest(series, columns.ts, columns.value)

    def _note_latest(self, series: Ints, ts: Ints, value: Ints) -> None:
        """Take over what is newer than the newest values known."""
        self._grow_latest()
        np.maximum.at(self.latest_ts, series, ts)
        newest = ts >= self.latest_ts[series]
        self.latest[series[newest]] = value[newest]
        self.live[series[newest]] = True

    def _grow_latest(self) -> None:
        more = self.directory.series_count - len(self.latest)
        if more > 0:
            more = max(more, len(self.latest) // 2)
            self.latest_ts = np.append(self.latest_ts, np.full(more, -1, np.int64))
            self.latest = np.append(self.latest, np.zeros(more, np.int64))
            self.live = np.append(self.live, np.zeros(more, np.bool_))

    def _refuse_samples(self, batch: Batch, accepted: Accepted, bad: Ints, frame: Ints) -> None:
        """File samples out of range or beyond what a window holds, one by one: they are few, or a device is broken."""
        for at in bad.tolist():
            nth = int(frame[at])
            metric = METRICS[int(self.directory.metric_of[accepted.series[at]])]
            reject = _value_reject(metric, float(accepted.value[at]), f"/m/{metric.name}")
            # Unknown names of the same frame are numbered by their place in it; these by metric, beyond any place: a
            # number that is the same in every life of the worker.
            number = batch.numbers.get(nth, 0) * READING_NUMBERS + VALUE_NUMBERS + INDEX[metric.name]
            batch.refused.append(Refused(accepted.frames[nth], int(accepted.device[nth]), reject, number, 1))
            accepted.samples[nth] -= 1

    def _refuse(self, refused: Refused, hashes: dict[int, str]) -> None:
        """Keep a refusal with its frame's payload; ``hashes``: of the frames of this batch, by offset, so far."""
        if len(self._quarantine) >= self.config.max_quarantine_per_commit:
            self.quarantine_dropped += 1
            return
        frame, reject = refused.frame, refused.reject
        # Once for each frame: one of 16 MB may have hundreds of columns that are refused.
        digest = hashes.get(frame.offset)
        if digest is None:
            digest = hashes[frame.offset] = sha256(frame.payload).hexdigest()
        self._quarantine.append(
            QuarantineRecord(
                id=f"{frame.offset}" if refused.nth == WHOLE else f"{frame.offset}#{refused.nth}",
                reason=reject.reason,
                pointer=reject.pointer,
                detail=reject.detail,
                topic=frame.topic,
                uid=self.directory.devices[refused.device].uid,
                recv_ns=frame.recv_ts,
                payload=frame.payload[:PAYLOAD_HEAD],
                payload_bytes=len(frame.payload),
                payload_sha256=digest,
            )
        )


def _value_reject(metric: Metric, value: float, pointer: str) -> Reject:
    """Say why a value of a metric was refused."""
    if not math.isfinite(value):
        return Reject(Reason.NOT_FINITE, pointer, f"{value} is not a finite number")
    if metric.minimum <= value <= metric.maximum:
        detail = f"the hour holds {MOST:,} samples of {metric.name} already, which is all that its sum has room for"
        return Reject(Reason.WINDOW_FULL, pointer, detail)
    detail = f"{value:g} {metric.unit}: expected {metric.minimum:g} to {metric.maximum:g}"
    return Reject(Reason.OUT_OF_RANGE, pointer, detail)

"""Running detectors again over a stretch of event time, from the state before it and the frames in the journal.

It is the pipeline itself that does it, with detectors set to where an hour of findings began and without windows: what
it finds is by construction what would have been found had every frame come in order. It touches nothing of the pipeline
that ingests, so that it may run in a thread of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import numpy as np

from analytics.clocks import ClockOffsets
from analytics.findings import PERIOD, DetectorState, Hour, period_of
from analytics.held_times import HeldTimes
from analytics.histograms import Binned
from analytics.partials import Partials
from analytics.windows import Windows
from devices.columns import Bools, Columns, Ints
from devices.topics import DeviceKey
from ingest.checks import MAX_AHEAD
from ingest.detection import Outcome, Plan
from ingest.kept_hours import decode_history
from ingest.pipeline import Pipeline, PipelineConfig
from store.interface import EventRecord
from store.journal import Frame

BATCH: Final = 2_000
"""Frames decoded at once: about 20 ms, so that the thread often lets go."""
DEVICE_HOURS: Final = 64
"""Hours of inputs that a pass holds in memory, over all its devices together: a crane's hour is about 1.5 MB."""

MOST_INPUTS: Final = 2_000_000
"""Inputs that a pass holds in memory, however many its devices have in an hour: 80 MB, and as much to sort them."""
NO_CAP: Final = 1 << 40


class OfDevices:
    """The topics on which devices may have spoken: their own, and all that are not quayflow's and may be anybody's."""

    def __init__(self, uids: Iterable[str], aliases: Mapping[str, str]) -> None:
        """``uids``: ``site/class/device``; ``aliases`` of the registry: ``{codec}:{foreign id}`` → uid."""
        self._uids = frozenset(uids)
        self._aliases = frozenset(name for name, uid in aliases.items() if uid in self._uids)

    def __contains__(self, topic: object) -> bool:
        """Tell whether a frame of this topic may concern the devices."""
        text = str(topic)
        _, site, device_class, device, last, *_ = [*text.split("/"), "", "", "", ""]
        named = f"{site}/{device_class}/{device}" in self._uids or f"{last}:{device}" in self._aliases
        return named or not text.startswith("port/")


def from_first_seen(frames: Iterable[Frame], times: Mapping[str, int]) -> Iterator[Frame]:
    """Yield frames, but for those from before their device was first taken: what it said then was refused.

    It may have been registered only later. Of foreign topics, which do not tell their device, all count.

    Args:
        frames: in the order of the journal.
        times: uid → when its first frame was received, ns UTC. By a clock that was set back later, others that came
            after it may be stamped earlier.
    """
    heard = set()
    for frame in frames:
        port, _, rest = frame.topic.partition("/")
        uid = rest.rpartition("/")[0]
        if port == "port" and uid not in heard:
            if frame.recv_ts < times.get(uid, 0):
                continue
            heard.add(uid)
        yield frame


def closed(config: PipelineConfig) -> PipelineConfig:
    """Return rules under which no device and no series finds a place but those that are entered: they have theirs."""
    return replace(config, max_devices=0, max_series=0, max_site_devices=0, max_site_series=0)


def _for_known_series(config: PipelineConfig) -> PipelineConfig:
    """Return rules under which no series finds a place but those that are entered.

    Devices do, whatever comes of them: what they say may stand beside what is looked for, or carry it.
    """
    return replace(closed(config), max_devices=NO_CAP, max_site_devices=NO_CAP)


class Undated(ClockOffsets):
    """Notes what is dated by its receipt: whether it came for the first time then, only what came before it can tell.

    Whatever has a time of its own lies at that time however often it comes, and nobody sends what is in the future.
    """

    def __init__(self) -> None:
        """Nothing was heard."""
        super().__init__()
        self.grow(1)
        self.devices: set[int] = set()
        """Devices of which something is dated so."""
        self._times: list[Ints] = []

    def hear(self, device: Ints, ts: Ints, received: Ints) -> None:
        """Note frames: device indices, event and receive times in ns UTC, arrays of shape (n,)."""
        undated = ts == received
        if undated.any():
            self.devices.update(device[undated].tolist())
            self._times.append(ts[undated])

    def take_times(self) -> Ints:
        """Return the times of what was dated so since the last call."""
        times, self._times = self._times, []
        return np.concatenate(times) if times else np.empty(0, np.int64)


class _TooManyInputsError(Exception):
    """More inputs lie in the stretch than are held in memory."""


class _Unwindowed(Windows):
    """Windows that take nothing: the rows of samples are not concerned."""

    def add(self, series: Ints, ts: Ints, seq: Ints, value: Ints, late: Bools) -> None:
        """Take no samples."""

    def add_partials(self, partials: Partials, binned: Binned | None = None) -> None:
        """Take no partials."""


class _Start:
    """Where a device begins anew, and how far it goes."""

    def __init__(self, plan: Plan, history: Mapping[int, bytes], hours_each: int, *, replaces: bool) -> None:
        """``replaces``: what was found before is to be replaced, so it must be known."""
        self.plan, self.history, self.replaces = plan, history, replaces
        self.hours = decode_history(history, plan.uid) | plan.hours
        self.possible = True
        self.since, self.state = 0, DetectorState()
        first, starts = plan.need.first, sorted(self.hours)
        self.first_hour, self.end = period_of(first), plan.until + 1
        if not starts:
            # All that its detectors have ever been shown was late: they begin with nothing.
            return
        base = next((start for start in reversed(starts) if start <= first), starts[0])
        if self.hours[base].since > first:
            self.possible = False
            self.since = first
            return
        if self.hours[base].since:
            self.since, self.state = self.hours[base].since, self.hours[base].state.copy()
        # Passages under way began in hours before, which their events belong to.
        self.first_hour = min([base, *(period_of(each.last) for each in self.state.passages.values())])
        self.possible = self.first_hour in self.hours
        self.end = period_of(first) + hours_each * PERIOD
        if not any(start >= self.end for start in starts) or self.end > plan.until:
            self.end = plan.until + 1
        if plan.boundary:
            self.end = min(self.end, plan.boundary)
        unreadable = history.keys() - self.hours.keys()
        if replaces and any(self.first_hour <= start < self.end for start in unreadable):
            self.possible = False

    @property
    def received_from(self) -> int:
        """Since when frames may have been received that concern it, ns UTC."""
        return max(0, max(self.since, self.plan.first_seen) - MAX_AHEAD)

    @property
    def whole(self) -> bool:
        """Whether it goes as far as the device's detectors have come."""
        return self.end > self.plan.until

    def before(self) -> dict[int, Hour]:
        """Return the hours concerned, as they were."""
        return {start: hour for start, hour in self.hours.items() if self.first_hour <= start < self.end}

    def kept(self) -> dict[int, Hour]:
        """Return the hours to go on from: what was known in them before the beginning stays."""
        result = {}
        for start, hour in self.hours.items():
            # What was once the first hour says that nothing came before it, and other hours may have since.
            if self.since and self.first_hour <= start <= self.since and hour.since <= self.since:
                found = {id_: finding for id_, finding in hour.findings.items() if finding.known < self.since}
                # Known at its last instant, as every finding of a time that a state was held.
                held = HeldTimes.of(each for each in hour.held if each.until <= self.since)
                result[start] = Hour(hour.since, hour.state, found, held)
        return result


def run_again(
    plans: Sequence[Plan],
    histories: Mapping[str, Mapping[int, bytes]],
    frames: Callable[[int], Iterable[Frame]],
    held_from: Callable[[], int],
    config: PipelineConfig,
    codecs: Mapping[str, bytes],
    *,
    hours_each: int = 0,
) -> Iterator[Outcome]:
    """Run devices again; yield what came of each.

    Args:
        plans: which devices, and from when.
        histories: device uid → start of an hour → the hour as :func:`ingest.kept_hours.encode_hour` made it.
        frames: gives the frames received since a time, in the order of the journal.
        held_from: tells since when the journal holds everything received, ns UTC; 0 if nothing has been forgotten.
            It is asked again once the frames are read: what is forgotten meanwhile may not have been among them.
        config: rules of the pipeline; devices that its registry does not admit now cannot run again.
        codecs: what the codecs of foreign formats remember, as of now: names told before the stretch count in it.
        hours_each: how many hours each device goes on; by default so many as memory allows, and where even one device
            in one hour says more than is held in memory, it cannot run again.
    """
    most = hours_each or max(1, DEVICE_HOURS // max(1, len(plans)))
    starts = [_Start(plan, histories.get(plan.uid, {}), most, replaces=not hours_each) for plan in plans]
    reaching = held_from()
    for start in starts:
        # Of a device that may not speak any more nothing would be found, and what it said while it might stands.
        refused = config.admission.refusal(DeviceKey.from_uid(start.plan.uid))
        start.possible = start.possible and start.received_from >= reaching and refused is None
    possible = [start for start in starts if start.possible]
    for start in starts:
        if not start.possible:
            yield Outcome.impossible(start.plan)
    first_seen = {start.plan.uid: start.plan.first_seen for start in possible}

    def taken(since: int) -> Iterator[Frame]:
        return from_first_seen(frames(since), first_seen)

    if possible:
        reaching_to = {start.plan.uid: start.received_from for start in possible}
        for outcome in _run_in_lots(possible, taken, _for_known_series(config), codecs, whole=hours_each > 0):
            forgotten = reaching_to[outcome.plan.uid] < held_from()
            yield Outcome.impossible(outcome.plan) if forgotten else outcome


def _run_in_lots(
    starts: list[_Start],
    frames: Callable[[int], Iterable[Frame]],
    config: PipelineConfig,
    codecs: Mapping[str, bytes],
    *,
    whole: bool,
) -> Iterator[Outcome]:
    """Run devices again, as many together as memory allows; not ``whole``: one alone perhaps to its hour's end."""
    lots = [starts]
    while lots:
        lot = lots.pop()
        most = None if whole and len(lot) == 1 else MOST_INPUTS
        outcomes = _run_lot(lot, frames if lot is starts else _frames_of(lot, frames, config), config, codecs, most)
        if outcomes is not None:
            yield from outcomes
        elif len(lot) > 1:
            half = len(lot) // 2
            lots += [lot[half:], lot[:half]]
        else:
            (start,) = lot
            shorter = _Start(start.plan, start.history, 1, replaces=start.replaces)
            if shorter.end < start.end:
                lots.append([shorter])
            else:
                yield Outcome.impossible(start.plan)


def _frames_of(
    starts: list[_Start], frames: Callable[[int], Iterable[Frame]], config: PipelineConfig
) -> Callable[[int], Iterable[Frame]]:
    """Return what gives, of the frames that ``frames`` gives, those that may concern some of its devices."""
    topics = OfDevices((start.plan.uid for start in starts), config.admission.aliases)
    return lambda since: (frame for frame in frames(since) if frame.topic in topics)


def _run_lot(
    starts: list[_Start],
    frames: Callable[[int], Iterable[Frame]],
    config: PipelineConfig,
    codecs: Mapping[str, bytes],
    most: int | None,
) -> list[Outcome] | None:
    """Run devices again in one go; None where more than ``most`` inputs lie in their stretches."""
    first = min(start.received_from for start in starts)
    try:
        pipeline, undated = _gathered(starts, frames(first), config, codecs, most)
        if undated:
            every = OfDevices(undated, config.admission.aliases)
            again = (frame for frame in frames(0) if frame.recv_ts >= first or frame.topic in every)
            pipeline, _ = _gathered(starts, again, config, codecs, most)
    except _TooManyInputsError:
        return None
    return list(_found(pipeline, starts))


def _found(pipeline: Pipeline, starts: list[_Start]) -> Iterator[Outcome]:
    """Run the detectors over the inputs gathered; yield what came of each device."""
    keys = [DeviceKey.from_uid(start.plan.uid) for start in starts]
    indices = [pipeline.directory.device(key, capped=False).index for key in keys]
    detection = pipeline.detection
    detection.tick()
    events = {event.id: event for event in detection.take_events()}
    for index, start in zip(indices, starts, strict=True):
        if not start.whole:
            events |= {event.id: event for event in _until(pipeline, index, start.end)}
        yield _outcome(pipeline, index, start, events)


def nothing_forgotten() -> int:
    """Return since when a journal holds everything of which nothing has been forgotten."""
    return 0


def catch_up(
    pipeline: Pipeline, frames: Sequence[Frame], histories: Mapping[str, Mapping[int, bytes]] | None = None
) -> None:
    """Run a pipeline's detectors again until nothing is late, given all frames that it has been handed."""
    passes = 0
    while plans := pipeline.detection.plan():
        passes += 1
        codecs, config = pipeline.foreign.feeds.states(), pipeline.current_config
        topics = OfDevices((plan.uid for plan in plans), config.admission.aliases)

        def received(since: int, topics: OfDevices = topics) -> Iterator[Frame]:
            return (frame for frame in frames if frame.recv_ts >= since and frame.topic in topics)

        for outcome in run_again(plans, histories or {}, received, nothing_forgotten, config, codecs):
            pipeline.detection.splice(outcome, f"{len(frames)}.{passes}")


def _enter(pipeline: Pipeline, start: _Start) -> int:
    device = pipeline.directory.device(DeviceKey.from_uid(start.plan.uid), capped=False)
    for name in start.plan.metrics:
        pipeline.directory.series(device, name, capped=False)
    for name in start.plan.derived:
        pipeline.directory.derived_series(device, name, capped=False)
    pipeline.detection.set_state(device.index, start.state)
    if kept := start.kept():
        pipeline.detection.hours[device.index] = kept
    return device.index


def _gathered(
    starts: list[_Start],
    frames: Iterable[Frame],
    config: PipelineConfig,
    codecs: Mapping[str, bytes],
    most: int | None,
) -> tuple[Pipeline, set[str]]:
    """Return a pipeline that is ready to run the devices again, and which of them have inputs dated by receipt."""
    pipeline = Pipeline("again", 0, config)
    pipeline.windows = _Unwindowed("again", 0, pipeline.directory.keys)
    pipeline.clocks = undated = Undated()
    for name, state in codecs.items():
        pipeline.foreign.feeds.restore(name, state, earlier=True)
    indices = [_enter(pipeline, start) for start in starts]
    found = _gather(pipeline, indices, starts, frames, undated, most)
    return pipeline, {pipeline.directory.devices[index].uid for index in found & set(indices)}


def _gather(
    pipeline: Pipeline,
    indices: list[int],
    starts: list[_Start],
    frames: Iterable[Frame],
    undated: Undated,
    most: int | None,
) -> set[int]:
    """Decode frames and keep the inputs that lie in the stretch of each device; return whose are dated by receipt."""
    detection, marks = pipeline.detection, pipeline.watermarks
    found: list[Columns] = []
    reads = []
    by_receipt: set[int] = set()
    inputs = 0
    source = iter(frames)
    while batch := list(islice(source, BATCH)):
        pipeline.process(batch)
        pipeline.take_events()
        pipeline.take_quarantine()
        low = np.full(len(pipeline.directory.devices), 1, np.int64)
        high = np.zeros(len(pipeline.directory.devices), np.int64)
        low[indices] = [start.since for start in starts]
        high[indices] = [start.end for start in starts]
        columns = detection.waiting.take_all()
        found.append(columns.take((columns.ts >= low[columns.device]) & (columns.ts < high[columns.device])))
        reads += (some := [read for read in detection.reads if low[read.device] <= read.ts < high[read.device]])
        detection.reads.clear()
        inputs += len(found[-1]) + len(some)
        if most is not None and inputs > most:
            raise _TooManyInputsError
        if len(times := undated.take_times()):
            by_receipt.update(found[-1].device[np.isin(found[-1].ts, times)].tolist())
            by_receipt.update(read.device for read in some if (times == read.ts).any())
    for part in found:
        detection.waiting.add(part)
    detection.reads = reads
    marks.grow(len(pipeline.directory.devices))
    marks.mark[:] = marks.released[:] = -1
    for index, start in zip(indices, starts, strict=True):
        marks.mark[index], marks.released[index] = start.end - 1, start.since - 1
    return by_receipt


def _until(pipeline: Pipeline, device: int, end: int) -> Iterable[EventRecord]:
    """Let what has ended by ``end`` end, as at the beginning of an hour; return the events of that."""
    pipeline.detection.begin_hour(device, end)
    return pipeline.detection.take_events()


def _outcome(pipeline: Pipeline, device: int, start: _Start, events: Mapping[str, EventRecord]) -> Outcome:
    hours, before = pipeline.detection.hours.get(device, {}), start.before()
    state = pipeline.detection.state_of(device)
    needed = {id_ for hour in hours.values() for id_ in hour.findings}
    concerned = {id_: events[id_] for id_ in needed & events.keys()}
    if start.whole:
        return Outcome(start.plan, before, hours, concerned, state, start.end)
    del hours[start.end]
    following = start.hours[min(each for each in start.hours if each >= start.end)]
    joins_on = start.end == start.plan.boundary
    if following.since and following.state == state and (joins_on or start.plan.need.last < start.end):
        # As it was: everything after this was found from the same state and the same inputs, also what belongs here.
        for since, hour in before.items():
            known_later = {id_: finding for id_, finding in hour.findings.items() if finding.known >= start.end}
            if known_later:
                hours.setdefault(since, Hour(since, hour.state, {})).findings.update(known_later)
        return Outcome(start.plan, before, hours, concerned, state, start.end, settled=True)
    there = start.hours.get(start.end)
    hours[start.end] = (
        Hour(start.end, state, {}) if there is None else Hour(start.end, state, there.findings, there.held)
    )
    if there is not None:
        before[start.end] = there
    return Outcome(start.plan, before, hours, concerned, state, start.end)

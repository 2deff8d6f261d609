"""The detectors in event time: what the watermarks release runs through them, and late data has them run again.

inputs ──► wait for the watermark ──► detectors ──► findings of the hour ──► events and window rows
              │ later than that                          ▲ replaced
              └──► again, from the hour's beginning, over the inputs read back from the journal
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np

from analytics.detectors.cranes import CraneMoves, CraneState, MoveRules
from analytics.detectors.gates import GatePassages, PassageRules, TagRead
from analytics.detectors.states import IS_TIMED, HoldRules, StateTimes, Stretch
from analytics.events import PortEvent, event_id
from analytics.findings import (
    PERIOD,
    STRETCH,
    DetectorState,
    Finding,
    Hour,
    Samples,
    Span,
    digest_of,
    period_of,
    rows_of,
    spans_of,
)
from analytics.rows import WindowRows
from analytics.watermarks import Watermarks
from devices.columns import Columns, Ints
from devices.scalars import Scalar
from devices.vocabulary import INDEX, METRICS, SCALE, DeviceClass, time_in
from ingest.directory import Device, Directory
from ingest.inputs import IS_CRANE_INPUT, Waiting
from store.interface import EventRecord

RETRACTED = "event_retracted"
"""Type of the event that says that another one has turned out not to have happened."""
NOTICES = frozenset({"device_online", "device_offline", RETRACTED})
"""Types of events that tell the order of receipt, or how events changed, and not what happened in the port."""
DEVICES_AT_ONCE = 32
"""Devices that run again in one pass over the journal."""
PLACES_AT_ONCE = 512
"""Hours of devices of which rows are made at a time."""


class Need(msgspec.Struct, array_like=True, frozen=True):
    """Late inputs of a device: event times of the first and the last of them, ns UTC, and how many they are."""

    first: int
    last: int
    inputs: int

    def and_(self, other: "Need | None") -> "Need":
        """Return both together."""
        if other is None:
            return self
        return Need(min(self.first, other.first), max(self.last, other.last), self.inputs + other.inputs)


class Plan(NamedTuple):
    """A device that is to run again."""

    device: int
    uid: str
    first_seen: int
    """When its first frame was received, ns UTC."""
    need: Need
    until: int
    """Event time up to which its detectors have been told everything, ns UTC."""
    hours: dict[int, Hour]
    """Those still open."""
    metrics: tuple[str, ...] = ()
    """Those of which it has series, …"""
    derived: tuple[str, ...] = ()
    """… and of what is derived for it."""
    boundary: int = 0
    """Where it has to join on to what its detectors find meanwhile: the newest hour's beginning, ns UTC; 0 if they are
    held."""


class Way(IntEnum):
    """How a device runs again. Passes are of one way, in turn: none is held while the journal of a day is read."""

    JOINING = 0
    """Up to its newest hour: what is late seldom changes the state in which that found its detectors."""
    HELD = 1
    """To the end, for its newest hour is concerned: what comes for its detectors waits meanwhile."""
    HELD_LONG = 2
    """Likewise, for hours before leave another state to the newest one."""


class Outcome(NamedTuple):
    """What running a device again has come to.

    ``before``: the hours concerned as they were, ``hours``: as they are now, ``events`` in them by id. ``state``: of
    the detectors at ``reached`` (ns UTC), before the inputs from then on. ``settled``: what was found from there on
    stands. ``possible`` is False where history or journal do not reach back far enough.
    """

    plan: Plan
    before: dict[int, Hour]
    hours: dict[int, Hour]
    events: dict[str, EventRecord]
    state: DetectorState
    reached: int
    settled: bool = False
    possible: bool = True

    @classmethod
    def impossible(cls, plan: Plan) -> "Outcome":
        """Return that of a device that could not run again."""
        return cls(plan, {}, {}, {}, DetectorState(), 0, possible=False)


class SealedHour(NamedTuple):
    """An hour to which nothing will be added in the ordinary course."""

    uid: str
    start: int
    hour: Hour


class Detection:
    """The detectors of one worker's devices."""

    def __init__(
        self,
        moves: MoveRules,
        passages: PassageRules,
        holds: HoldRules,
        directory: Directory,
        watermarks: Watermarks,
        note_latest: Callable[[Ints, Ints, Ints], None],
    ) -> None:
        """``note_latest`` is told series, event times and scaled values of what is found; arrays (n,)."""
        self.moves = CraneMoves(moves, self._is_quay)
        self.passages = GatePassages(passages)
        self.states = StateTimes(holds)
        self.waiting = Waiting()
        self.reads: list[TagRead] = []
        """Tag reads not released yet."""
        self.hours: dict[int, dict[int, Hour]] = {}
        """Device → start of the hour → the hour, for those that may still change in the ordinary course."""
        self.needs: dict[int, Need] = {}
        """Devices with late inputs."""
        self.late_for_detectors = 0
        """Late inputs for which the detectors could not run again."""
        self.runs_again = 0
        """How often a device's detectors have run again."""
        self._gap = passages.gap_ns
        self._directory = directory
        self._watermarks = watermarks
        self._note_latest = note_latest
        self._running: dict[int, Need] = {}
        self._held: set[int] = set()
        """Those running again whose detectors wait."""
        self._must_hold: set[int] = set()
        """Devices that could not join on to what was found meanwhile."""
        self._way = Way.HELD_LONG
        """Of the pass before."""
        self._due: Ints = np.zeros(64, np.int64)
        """By device: the watermark at which there is more to tell of its states, ns UTC."""
        self._changed: set[int] = set()
        self._several: set[int] = set()
        self._stale: dict[tuple[int, int], list[Span]] = {}
        """Device and hour → what has changed in it that is still to be made into rows."""
        self._events: list[EventRecord] = []
        self._retracted: list[str] = []

    def tick(self) -> None:
        """Run the detectors on what the watermarks have passed."""
        limit = self._watermarks.mark.copy()
        held = np.fromiter(self._held, np.int64, len(self._held))
        limit[held] = self._watermarks.released[held]
        self._due = np.append(self._due, np.zeros(max(0, len(limit) - len(self._due)), np.int64))
        columns, reads = self._released_samples(limit), self._released_reads(limit)
        starts = set(np.unique(columns.ts // PERIOD).tolist()) | {read.ts // PERIOD for read in reads}
        for number in sorted(starts):
            inside = columns if len(starts) == 1 else columns.take(columns.ts // PERIOD == number)
            reads_inside = [read for read in reads if read.ts // PERIOD == number]
            devices = {*np.flatnonzero(np.bincount(inside.device)).tolist(), *(read.device for read in reads_inside)}
            for device in sorted(devices):
                self.begin_hour(device, number * PERIOD)
            self._follow_states(inside.take(IS_TIMED[inside.metric]))
            self._emit(self.moves.push(inside.take(IS_CRANE_INPUT[inside.metric])), 0)
            self._emit(self.passages.push(reads_inside), self._gap)
        for device in list(self.passages.open):
            self._hold_on(device, int(limit[device]))
            self._emit(self.passages.release(device, int(limit[device])), self._gap)
        self._release_states(limit)
        self._watermarks.released = limit

    def begin_hour(self, device: int, start: int) -> None:
        """Note the state of a device's detectors as it was before the inputs from ``start`` on, ns UTC."""
        hours = self.hours.setdefault(device, {})
        self._directory.devices[device].touched = True
        if hours and max(hours) >= start:
            return
        # What has ended by then ends in the same hour, however far the watermark moves at once.
        self._hold_on(device, start)
        self._tell(self.states.release(device, start))
        self._emit(self.passages.release(device, start), self._gap)
        hours[start] = Hour(start if hours else 0, self.state_of(device), {})
        self._note_change(device)

    def state_of(self, device: int) -> DetectorState:
        """Return a copy of what the detectors remember of a device."""
        return self.look_at(device).copy()

    def look_at(self, device: int) -> DetectorState:
        """Return what the detectors remember of a device, good until they are told more."""
        crane = self.moves.states.get(device)
        crane = None if crane is not None and crane == CraneState() else crane
        return DetectorState(crane, self.passages.open.get(device, {}), self.states.held.get(device, {}))

    def set_state(self, device: int, state: DetectorState) -> None:
        """Let the detectors go on from a state of a device."""
        self.moves.states.pop(device, None)
        self.passages.open.pop(device, None)
        if state.crane is not None:
            self.moves.states[device] = state.crane
        self.states.held.pop(device, None)
        self._due[device : device + 1] = 0
        if state.passages:
            self.passages.open[device] = state.passages
        if state.held:
            self.states.held[device] = state.held

    def set_hours(self, device: int, hours: dict[int, Hour]) -> None:
        """Put back the open hours of a device."""
        self.hours[device] = hours
        if len(hours) > 1:
            self._several.add(device)

    def take_events(self) -> list[EventRecord]:
        """Return the events found since the last call, and the notices of those retracted."""
        events, self._events = self._events, []
        return events

    def take_retracted(self) -> list[str]:
        """Return the ids of events that are no more, or come again with other content, since the last call."""
        retracted, self._retracted = self._retracted, []
        return retracted

    def take_rows(self, worker: str) -> Iterator[WindowRows]:
        """Return the rows of findings that changed since the last call, of some devices at a time.

        Their states end by the minute, all together, and their samples are many times what the rows are.
        """
        stale, self._stale = self._stale, {}
        places = list(stale)
        for first in range(0, len(places), PLACES_AT_ONCE):
            some = places[first : first + PLACES_AT_ONCE]
            samples = Samples.together(self._samples_of(*place) for place in some)
            spans = [span for place in some for span in stale.pop(place)]
            yield rows_of(samples, spans, self._directory.keys, worker)

    def take_hours(self, *, every: bool = False) -> tuple[list[Device], list[SealedHour]]:
        """Return the devices whose open hours changed since the last call, and the hours closed since.

        Closed hours are forgotten here: the caller keeps them. ``every``: all devices that have open hours.
        """
        changed, self._changed = set(self.hours) if every else self._changed, set()
        sealed = [hour for device in sorted(self._several) for hour in self._close_hours(device)]
        self._several = {device for device in self._several if len(self.hours[device]) > 1}
        devices = changed | {device for device, _ in sealed}
        return (
            [self._directory.devices[device] for device in sorted(devices)],
            [SealedHour(self._directory.devices[device].uid, start, hour) for device, (start, hour) in sealed],
        )

    def need_of(self, device: int) -> Need | None:
        """Return the late inputs of a device for which its detectors have not run again."""
        need, running = self.needs.get(device), self._running.get(device)
        return running.and_(need) if running else need

    @property
    def waiting_to_run_again(self) -> int:
        """How many devices have late inputs for which their detectors have not run again."""
        return len(self.needs.keys() | self._running.keys())

    # --- running again ----------------------------------------------------------------------------------------------

    def plan(self, most: int = DEVICES_AT_ONCE) -> list[Plan]:
        """Choose ``most`` devices to run again in one way, oldest need first; some are held until :meth:`splice`."""
        if self._running or not self.needs:
            return []
        self.tick()
        ways = {device: self._way_of(device) for device in self.needs}
        there = sorted(set(ways.values()))
        way = self._way = next((way for way in there if way > self._way), there[0])
        alike = [device for device in self.needs if ways[device] is way]
        chosen = sorted(alike, key=lambda device: (self.needs[device].first, device))[:most]
        self._held = set() if way is Way.JOINING else set(chosen)
        released = self._watermarks.released
        plans = []
        for device in chosen:
            need = self._running[device] = self.needs.pop(device)
            entry, hours = self._directory.devices[device], dict(self.hours.get(device, {}))
            until, names = int(released[device]), (tuple(entry.series), tuple(entry.derived))
            boundary = max(hours) if way is Way.JOINING else 0
            plans.append(Plan(device, entry.uid, entry.first_seen, need, until, hours, *names, boundary))
        return plans

    def _way_of(self, device: int) -> Way:
        """Return how a device can run again; it joins on where all before its newest hour is concluded."""
        if device in self._must_hold:
            return Way.HELD_LONG
        newest = max(self.hours.get(device, ()), default=0)
        open_before = any(passage.last < newest for passage in self.passages.open.get(device, {}).values())
        return Way.HELD if open_before or self.needs[device].first >= newest else Way.JOINING

    def give_up(self) -> None:
        """Let go of what :meth:`plan` chose; it will be chosen again."""
        for device, need in self._running.items():
            self.needs[device] = need.and_(self.needs.get(device))
        self._running.clear()
        self._held.clear()

    def splice(self, outcome: Outcome, mark: str) -> None:
        """Put what running again has found in the place of what was found before.

        ``mark`` tells the notices of this pass from those of another.
        """
        plan = outcome.plan
        device, need = plan.device, self._running.pop(plan.device)
        self._held.discard(device)
        self._directory.devices[device].touched = True
        if not outcome.possible:
            self._must_hold.discard(device)
            self.late_for_detectors += need.inputs
            return
        if outcome.reached == plan.boundary and not outcome.settled:
            # What its detectors have found since is from another state: once more, and to the end.
            self._must_hold.add(device)
            self.needs[device] = need.and_(self.needs.get(device))
            return
        if outcome.settled or outcome.reached > plan.until:
            self._must_hold.discard(device)
        self.runs_again += 1
        open_hours = self.hours.setdefault(device, {})
        for start in sorted(outcome.before.keys() | outcome.hours.keys()):
            old, new = outcome.before.get(start), outcome.hours.get(start)
            if new is None:
                new = Hour(start, outcome.before[start].state, {})
            if old == new:
                continue
            self._replace(device, start, old, new, outcome, mark)
            open_hours[start] = new
            self._note_change(device)
        if outcome.reached > plan.until:
            self.set_state(device, outcome.state)
        elif not outcome.settled or need.last >= outcome.reached:
            rest = Need(outcome.reached, max(need.last, outcome.reached), 0)
            self.needs[device] = rest.and_(self.needs.get(device))
        self._find_latest(device)

    def _replace(self, device: int, start: int, old: Hour | None, new: Hour, outcome: Outcome, mark: str) -> None:
        """Report the events of an hour that are new, changed or gone, and mark where their samples lie."""
        was, is_now = {} if old is None else old.every(), new.every()
        stale = self._stale.setdefault((device, start), [])
        gone = {id_ for id_, finding in was.items() if is_now.get(id_) != finding}
        # What is not even committed yet has never been.
        self._events = [event for event in self._events if event.id not in gone]
        entry = self._directory.devices[device]
        for id_ in sorted(was.keys() | is_now.keys()):
            before, now = was.get(id_), is_now.get(id_)
            if before == now:
                continue
            for finding in (before, now):
                if finding is not None:
                    stale += spans_of(finding, self._series(entry, finding.samples))
            if STRETCH in {each.type for each in (before, now) if each is not None}:
                continue
            if before is not None:
                self._retracted.append(id_)
            if now is not None:
                self._events.append(outcome.events[id_])
            elif before is not None:
                self._events.append(_notice(entry, id_, before, mark))

    def _find_latest(self, device: int) -> None:
        """Take over the newest values from what is left of a device's findings."""
        newest = Samples.together(self._samples_of(device, start) for start in self.hours[device]).newest()
        if newest:
            values = np.array(list(newest.values()), np.int64)
            self._note_latest(np.array(list(newest), np.int64), values[:, 0], values[:, 1])

    # --- going on ---------------------------------------------------------------------------------------------------

    def _released_samples(self, limit: Ints) -> Columns:
        """Take the detector inputs up to ``limit`` (devices,), sorted by (device, ts, seq, metric, value)."""
        columns = self.waiting.take(limit)
        in_time = columns.ts > self._watermarks.released[columns.device]
        if not in_time.all():
            late = columns.take(~in_time)
            self._note_late(zip(late.device.tolist(), late.ts.tolist(), strict=True))
            columns = columns.take(in_time)
        return columns

    def _released_reads(self, limit: Ints) -> list[TagRead]:
        """Take the tag reads up to ``limit`` (devices,), in (device, ts, seq) order."""
        ready = [read for read in self.reads if read.ts <= limit[read.device]]
        if not ready:
            return []
        self.reads = [read for read in self.reads if read.ts > limit[read.device]]
        released = self._watermarks.released
        self._note_late((read.device, read.ts) for read in ready if read.ts <= released[read.device])
        return sorted(read for read in ready if read.ts > released[read.device])

    def _note_late(self, inputs: Iterable[tuple[int, int]]) -> None:
        for device, ts in inputs:
            self.needs[device] = Need(ts, ts, 1).and_(self.needs.get(device))
            self._directory.devices[device].touched = True

    def _emit(self, events: Iterator[PortEvent], known_after: int) -> None:
        """Record events; each can be known ``known_after`` ns after its end."""
        for event in events:
            device = self._directory.devices[event.device]
            device.touched = True
            record = record_of(device, event)
            scaled = {name: round(value * SCALE[INDEX[name]]) for name, value in event.samples.items()}
            digest = digest_of(event.start, event.data)
            finding = Finding(event.type, event.ts, event.seq, event.ts + known_after, scaled, digest)
            start = period_of(event.ts)
            self.hours[event.device][start].findings[record.id] = finding
            self._note_change(event.device)
            series = self._series(device, finding.samples)
            self._stale.setdefault((event.device, start), []).extend(spans_of(finding, series))
            at, values = np.array(list(series.values()), np.int64), np.array(list(scaled.values()), np.int64)
            self._note_latest(at, np.full(len(at), event.ts, np.int64), values)
            self._events.append(record)

    def _follow_states(self, samples: Columns) -> None:
        """Take released samples of timed states, in order, and note when they will be over."""
        self._tell(self.states.push(samples))
        np.minimum.at(self._due, samples.device, self.states.until(samples.ts))

    def _release_states(self, limit: Ints) -> None:
        """Tell of the states of the devices for which a minute or the longest hold is over at ``limit`` (devices,)."""
        for device in np.flatnonzero(limit >= self._due[: len(limit)]).tolist():
            if device in self.states.held:
                self._hold_on(device, int(limit[device]))
                self._tell(self.states.release(device, int(limit[device])))
            self._due[device] = self.states.due(device, int(limit[device]))

    def _hold_on(self, device: int, until: int) -> None:
        """Begin the next hour of a device, of which nothing is heard in it, if a state or a passage lasts into it.

        Whoever begins anew there has to find them under way.
        """
        hours = self.hours.get(device)
        if not hours or (following := max(hours) + PERIOD) >= until:
            return
        if self.states.holds(device, following) or self.passages.holds(device, following):
            self.begin_hour(device, following)

    def _tell(self, stretches: Iterable[Stretch]) -> None:
        """Note stretches of time in which states were held, among the findings."""
        for device, state, value, start, end, began in stretches:
            metric = INDEX.get(time_in(state, value))
            if metric is None:
                continue
            entry, hour = self._directory.devices[device], period_of(start)
            entry.touched = True
            held = self.hours[device][hour].held
            first = max(began, hour)
            if first != start and held.until(metric, first) != start:
                # An hour of a release that kept every minute for itself.
                first = start
            held.note(metric, first, end)
            self._note_change(device)
            series = self._directory.derived_series(entry, METRICS[metric].name, capped=False)
            self._stale.setdefault((device, hour), []).append(Span(series, start, end))

    def _note_change(self, device: int) -> None:
        self._changed.add(device)
        if len(self.hours[device]) > 1:
            self._several.add(device)

    def _series(self, device: Device, names: Iterable[str]) -> dict[str, int]:
        # A handful per device, and there is no frame to refuse: the cap is not for them.
        return {name: self._directory.derived_series(device, name, capped=False) for name in names}

    def _samples_of(self, device: int, start: int) -> Samples:
        """Return what an hour's findings give the windows."""
        hour = self.hours[device][start]
        return hour.samples(self._series(self._directory.devices[device], hour.metrics()))

    def _close_hours(self, device: int) -> Iterator[tuple[int, tuple[int, Hour]]]:
        """Forget and yield the hours of a device that are over, but for the newest."""
        hours = self.hours[device]
        newest, released = max(hours), int(self._watermarks.released[device])
        for start in sorted(hours):
            over = start != newest and released > start + PERIOD + self._gap
            # What has changed in it is still to be made into rows.
            if over and (device, start) not in self._stale:
                yield device, (start, hours.pop(start))

    def _is_quay(self, device: int) -> bool:
        return self._directory.devices[device].key.device_class == DeviceClass.QUAY_CRANE


def record_of(device: Device, event: PortEvent) -> EventRecord:
    """Return an event as the store keeps it."""
    key = device.key
    return EventRecord(
        id=event_id(key.uid, event),
        type=event.type,
        site=key.site,
        device_class=key.device_class,
        device=key.device,
        ts_ns=event.ts,
        start_ns=event.start,
        data=event.data,
    )


def _notice(device: Device, id_: str, finding: Finding, mark: str) -> EventRecord:
    """Return the event that says that another one is no more."""
    data: dict[str, Scalar] = {"id": id_, "type": finding.type}
    notice = PortEvent(RETRACTED, device.index, finding.ts, finding.ts, finding.seq, data, {}, f"{id_}@{mark}")
    return record_of(device, notice)

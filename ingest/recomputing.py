"""What a store should hold of a stretch of time, computed from the frames in the journal and from nothing else.

frames ──► pipeline ──► rows of samples     one per window, whatever late partials there were
   │          └───────► events that devices reported
   └─────► detectors, from the hour before ──► events found ──► rows of findings
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from analytics.findings import EPOCH, PERIOD, STRETCH, Hour, Samples, Span, rows_of, spans_of
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from devices.topics import DeviceKey
from ingest.checks import MAX_AHEAD
from ingest.detection import NOTICES, Need, Outcome, Plan
from ingest.directory import Directory
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.rerunning import DEVICE_HOURS, OfDevices, Undated, closed, nothing_forgotten, run_again
from store.interface import EventRecord
from store.journal import Frame

BATCH: Final = 5_000
BATCHES_PER_TAKE: Final = 20
REBUILT: Final = 1
"""The epoch of rows of samples that were computed again: no cells of a life and no late partials have it."""

Frames = Callable[[int], Iterable[Frame]]
"""Gives the frames received since a time, ns UTC, in the order of the journal."""


class Stretch(NamedTuple):
    """Whole hours: start ≤ time < end, ns UTC."""

    start: int
    end: int


class Known(NamedTuple):
    """What a checkpoint knows beside hours of findings."""

    directory: Directory
    """The devices and series that found a place: these have it, and no others, however full their site has become."""
    codecs: Mapping[str, bytes]
    """What the codecs of foreign formats remember."""


class Should(NamedTuple):
    """What a store should hold of a stretch."""

    rows: WindowRows
    """One row per tier, window and series."""
    events: dict[str, EventRecord]
    """By id: found and reported, without what only tells the order of receipt."""
    unknown: set[str]
    """Devices whose detectors cannot run again over the stretch: nothing of what they found is in here."""


def recompute(
    frames: Frames,
    stretch: Stretch,
    config: PipelineConfig,
    worker: str,
    plans: list[Plan],
    histories: Mapping[str, Mapping[int, bytes]],
    known: Known,
) -> Should:
    """Return what a store should hold of whole hours.

    Args:
        frames: all that the store has been given.
        stretch: whole hours.
        config: rules of the pipeline.
        worker: in whose name the rows are.
        plans: the devices that have hours of findings, over the stretch and the hour after it.
        histories: device uid → start of an hour → the hour, as the checkpoint keeps them.
        known: what the checkpoint knows.
    """
    rows, reported = _of_samples(frames, stretch, lambda: _pipeline(worker, config, known), config.admission.aliases)
    hours: dict[str, dict[int, Hour]] = {}
    unknown: set[str] = set()
    events = reported
    span = (stretch.end - stretch.start) // PERIOD + 1
    at_once = max(1, DEVICE_HOURS // span)
    for first in range(0, len(plans), at_once):
        some = plans[first : first + at_once]
        for outcome in run_again(some, histories, frames, nothing_forgotten, config, known.codecs, hours_each=span):
            _take(outcome, stretch, hours, events, unknown)
    return Should(_together([rows, _of_findings(hours, stretch, worker)], worker), events, unknown)


def _of_samples(
    frames: Frames, stretch: Stretch, begin: Callable[[], Pipeline], aliases: Mapping[str, str]
) -> tuple[WindowRows, dict[str, EventRecord]]:
    """Return the rows of samples, and the events that devices reported; ``begin`` makes a pipeline."""
    pipeline = begin()
    pipeline.clocks = undated = Undated()
    found = _inside(pipeline, frames(stretch.start), stretch)
    if undated.devices:
        first = stretch.start - MAX_AHEAD
        uids = (pipeline.directory.devices[index].uid for index in undated.devices)
        every = OfDevices(uids, aliases)
        again = (frame for frame in frames(0) if frame.recv_ts >= first or frame.topic in every)
        found = _inside(begin(), again, stretch)
    return found


def _inside(pipeline: Pipeline, frames: Iterable[Frame], stretch: Stretch) -> tuple[WindowRows, dict[str, EventRecord]]:
    """Return the rows of samples and the events reported that lie in the stretch."""
    parts: list[WindowRows] = []
    events: dict[str, EventRecord] = {}
    for rows, reported in _processed(pipeline, frames):
        parts.append(rows.take((rows.window >= stretch.start) & (rows.window < stretch.end)))
        inside = (event for event in reported if stretch.start <= event.ts_ns < stretch.end)
        events.update((event.id, event) for event in inside if event.type not in NOTICES)
    return fold_newest(WindowRows.concatenate(parts)).at_epoch(REBUILT), events


def event_times(frames: Frames, config: PipelineConfig, worker: str, known: Known) -> Stretch | None:
    """Return the hours that the samples of all frames lie in, None if there are none."""
    first, last = [], []
    for rows, _ in _processed(_pipeline(worker, config, known), frames(0)):
        hours = rows.window[rows.tier_s == TIERS_S[-1]]
        if len(hours):
            first.append(int(hours.min()))
            last.append(int(hours.max()))
    return Stretch(min(first), max(last) + PERIOD) if first else None


def _pipeline(worker: str, config: PipelineConfig, known: Known) -> Pipeline:
    pipeline = Pipeline(worker, 0, closed(config))
    pipeline.directory.take_over(known.directory)
    for name, state in known.codecs.items():
        pipeline.foreign.feeds.restore(name, state, earlier=True)
    return pipeline


def _processed(pipeline: Pipeline, frames: Iterable[Frame]) -> Iterator[tuple[WindowRows, list[EventRecord]]]:
    """Process frames without detectors; now and then yield the rows and events, so that little is held."""
    source, number = iter(frames), 0
    while batch := list(islice(source, BATCH)):
        pipeline.process(batch)
        number += 1
        pipeline.take_quarantine()
        pipeline.detection.waiting.take_all()
        pipeline.detection.reads.clear()
        if number % BATCHES_PER_TAKE == 0:
            yield pipeline.windows.take_rows(number), pipeline.take_events()
    yield pipeline.windows.take_rows(number + 1), pipeline.take_events()


def fold_newest(rows: WindowRows) -> WindowRows:
    """Return what a store that replaces rows by key would answer: the last row of each key, folded, of every tier."""
    order = np.lexsort((rows.epoch, rows.window, rows.series, rows.tier_s))
    ordered = rows.take(order)
    last = np.ones(len(ordered), np.bool_)
    keys = (ordered.tier_s, ordered.series, ordered.window, ordered.epoch)
    last[:-1] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    newest = ordered.take(last)
    if not len(newest):
        return newest
    return WindowRows.concatenate([fold(newest.take(newest.tier_s == tier)) for tier in np.unique(newest.tier_s)])


def _take(
    outcome: Outcome,
    stretch: Stretch,
    hours: dict[str, dict[int, Hour]],
    events: dict[str, EventRecord],
    unknown: set[str],
) -> None:
    """Take over what a device's detectors have found in the stretch."""
    uid = outcome.plan.uid
    if not outcome.possible:
        unknown.add(uid)
        return
    hours[uid] = {start: hour for start, hour in outcome.hours.items() if stretch.start <= start < stretch.end}
    for hour in hours[uid].values():
        found = (id_ for id_, finding in hour.findings.items() if finding.type != STRETCH)
        events.update((id_, outcome.events[id_]) for id_ in found)


def _of_findings(hours: Mapping[str, Mapping[int, Hour]], stretch: Stretch, worker: str) -> WindowRows:
    """Return the rows of all findings in the stretch."""
    keys: dict[SeriesKey, int] = {}
    samples, spans = [Samples.of((), {})], list[Span]()
    for uid, found in hours.items():
        device = DeviceKey.from_uid(uid)
        findings = [finding for hour in found.values() for finding in hour.every().values()]
        names = {name for finding in findings for name in finding.samples}
        series = {name: keys.setdefault(SeriesKey(*device, name), len(keys)) for name in sorted(names)}
        samples.append(Samples.of(findings, series))
        spans += [span for finding in findings for span in spans_of(finding, series)]
    rows = rows_of(Samples.together(samples), spans, list(keys), worker)
    return rows.take((rows.window >= stretch.start) & (rows.window < stretch.end)).at_epoch(EPOCH)


def _together(parts: list[WindowRows], worker: str) -> WindowRows:
    """Return rows of different tables of series as rows of one."""
    keys: dict[SeriesKey, int] = {}
    moved = []
    for part in parts:
        place = np.array([keys.setdefault(key, len(keys)) for key in part.keys], np.int64)
        moved.append(place[part.series] if len(part) else part.series)
    table = list(keys)
    return WindowRows.concatenate(
        [replace(part, keys=table, worker=worker, series=series) for part, series in zip(parts, moved, strict=True)]
    )


def plan_of(pipeline: Pipeline, device: int, stretch: Stretch) -> Plan:
    """Return the plan to run a device of a checkpoint again over a stretch and the hour after it."""
    entry, hours = pipeline.directory.devices[device], pipeline.detection.hours.get(device, {})
    # Events of passages that end with the stretch are known in the hour after it.
    need = Need(stretch.start, stretch.end + PERIOD - 1, 0)
    until, names = int(pipeline.watermarks.released[device]), (tuple(entry.series), tuple(entry.derived))
    return Plan(device, entry.uid, entry.first_seen, need, until, dict(hours), *names)

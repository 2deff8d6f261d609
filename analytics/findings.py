"""What detectors have found, hour by hour: enough to find it again from any hour on and to say what has changed.

An hour of a device holds the state of its detectors before the hour's first input and the events that lie in it. Data
that come after their time run the detectors again from the hour that they belong to, and what they find then replaces
what was found before. The figures of events are window rows made of the findings as a whole: under one epoch, so that
making them again replaces them, with a count of 0 where nothing is left.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import chain
from typing import Final, NamedTuple

import msgspec
import numpy as np

from analytics.detectors.cranes import CraneState
from analytics.detectors.gates import Passage
from analytics.detectors.states import Held
from analytics.held_times import HeldTime, HeldTimes
from analytics.histograms import Histograms, bins_of
from analytics.partials import Partials
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from devices.columns import Ints
from devices.scalars import Scalar
from devices.times import NS
from devices.vocabulary import METRICS, PERCENTILED

PERIOD: Final = TIERS_S[-1] * NS
"""Length of an hour of findings, ns: the widest window, so that an hour's findings are all that its windows hold."""
FINEST: Final = TIERS_S[0] * NS
MILLISECOND: Final = 1_000_000
STRETCH: Final = "state_held"
"""Type of a finding that is no event but a stretch of time: all in its hour that a state was held without a break."""
EPOCH: Final = 0
"""The epoch of rows made of findings; those of samples begin at 1."""


def period_of(ts: int) -> int:
    """Return the start of the hour of findings that holds ``ts``, ns UTC."""
    return ts - ts % PERIOD


class DetectorState(msgspec.Struct, array_like=True):
    """What the detectors remember of one device."""

    crane: CraneState | None = None
    passages: dict[str, Passage] = {}
    held: dict[str, Held] = {}

    def copy(self) -> "DetectorState":
        """Return a copy that detectors may change."""
        crane = None if self.crane is None else msgspec.structs.replace(self.crane)
        passages = {tag: msgspec.structs.replace(passage) for tag, passage in self.passages.items()}
        return DetectorState(crane, passages, {name: msgspec.structs.replace(held) for name, held in self.held.items()})


class Finding(msgspec.Struct, array_like=True, frozen=True):
    """An event that was found, or a stretch of time in which a state was held; times ns UTC."""

    type: str
    ts: int
    seq: int
    known: int
    """From which event time on it could be known to be over."""
    samples: Mapping[str, int]
    """Metric → scaled value."""
    digest: bytes
    """Hash of all that the event says."""
    until: int = -1
    """End of a stretch of time that began at ``ts``; -1 for an event."""

    @classmethod
    def of_held(cls, held: HeldTime) -> "Finding":
        """Return that a state was held."""
        samples = {METRICS[held.metric].name: held.until // MILLISECOND - held.start // MILLISECOND}
        return cls(STRETCH, held.start, 0, held.until - 1, samples, b"", held.until)

    def parts(self) -> Iterator[tuple[str, int, int]]:
        """Yield metric, time and scaled value of what joins the windows: a stretch is shared out among its windows.

        Durations are differences of whole milliseconds since 1970, so those of adjacent windows add up exactly.
        """
        if self.until < 0:
            yield from ((name, self.ts, value) for name, value in self.samples.items())
            return
        start = self.ts
        while start < self.until:
            end = min(self.until, start - start % FINEST + FINEST)
            for name in self.samples:
                yield name, start, end // MILLISECOND - start // MILLISECOND
            start = end


def digest_of(start: int, data: Mapping[str, Scalar]) -> bytes:
    """Return a hash of what an event says besides its id."""
    return blake2b(msgspec.json.encode((start, sorted(data.items()))), digest_size=8).digest()


class Samples(NamedTuple):
    """What findings give the windows, exactly as :meth:`Finding.parts` says."""

    points: Ints
    """Of events, (n, 4): series, ts, seq, scaled value."""
    stretches: Ints
    """Not shared out yet, (m, 3): series, start and end in ns UTC."""

    @classmethod
    def of(cls, findings: Iterable[Finding], series: Mapping[str, int], held: Iterable[HeldTime] = ()) -> "Samples":
        """Return those of some findings and times that states were held; ``series``: metric → series."""
        points: list[tuple[int, int, int, int]] = []
        stretches: list[tuple[int, int, int]] = []
        for finding in findings:
            if finding.until < 0:
                points += [(series[name], finding.ts, finding.seq, value) for name, value in finding.samples.items()]
            else:
                stretches += [(series[name], finding.ts, finding.until) for name in finding.samples]
        stretches += [(series[METRICS[metric].name], start, until) for metric, start, until in held]
        return cls(np.array(points, np.int64).reshape(-1, 4), np.array(stretches, np.int64).reshape(-1, 3))

    @classmethod
    def together(cls, parts: Iterable["Samples"]) -> "Samples":
        """Return all of several, at least one."""
        points, stretches = zip(*parts, strict=True)
        return cls(np.concatenate(points), np.concatenate(stretches))

    def newest(self) -> dict[int, tuple[int, int]]:
        """Return the time and the value of the newest sample of each series."""
        each = Partials.concatenate([_of_points(self.points), _of_stretches(self.stretches, PERIOD)])
        order = np.lexsort((each.last_seq, each.last_ts))
        series, ts, value = (column[order].tolist() for column in (each.series, each.last_ts, each.last))
        return dict(zip(series, zip(ts, value, strict=True), strict=True))


def _of_points(points: Ints) -> Partials:
    of, ts, seq, value = points.T
    return Partials.of_samples(of, ts, seq, value, np.zeros(len(of), np.int64), FINEST)


def _of_stretches(stretches: Ints, width: int) -> Partials:
    """Return what stretches (m, 3) are in windows of ``width`` ns; in each of them, one sample for each finest window.

    The time in a long stretch is not gone through window by window: between its ends they are all full.
    """
    series, start, until = stretches.T
    number = start // width
    windows = (until - 1) // width - number + 1
    which = np.repeat(np.arange(len(series)), windows)
    window = (number[which] + np.arange(len(which)) - np.repeat(np.cumsum(windows) - windows, windows)) * width
    begin, end = np.maximum(start[which], window), np.minimum(until[which], window + width)
    first, last = begin // FINEST, (end - 1) // FINEST
    last_ts = np.maximum(begin, last * FINEST)
    head = np.minimum(end, (first + 1) * FINEST) // MILLISECOND - begin // MILLISECOND
    tail = end // MILLISECOND - last_ts // MILLISECOND
    count, none = last - first + 1, np.zeros_like(begin)
    full = FINEST // MILLISECOND
    most = np.where(count > 2, full, np.maximum(head, tail))  # noqa: PLR2004 - more than both ends
    total = end // MILLISECOND - begin // MILLISECOND
    aggregates = (count, total, np.minimum(head, tail), most, begin, none, head, last_ts, none, tail, none)
    return Partials(series[which], window, aggregates)


class Hour(msgspec.Struct):
    """One hour of a device."""

    since: int
    """Event time, ns UTC: inputs before this are contained in ``state``; 0 where there was none."""
    state: DetectorState
    findings: dict[str, Finding]
    """Those that are no times that states were held, by the event's id."""
    held: HeldTimes = msgspec.field(default_factory=HeldTimes)

    def every(self) -> dict[str, Finding]:
        """Return all findings, each time that a state was held as one of them, by its metric and start."""
        held = {f"{METRICS[each.metric].name}@{each.start}": Finding.of_held(each) for each in self.held}
        return self.findings | held

    def samples(self, series: Mapping[str, int]) -> Samples:
        """Return what all findings give the windows; ``series``: metric → series, of :meth:`metrics`."""
        return Samples.of(self.findings.values(), series, self.held)

    def metrics(self) -> list[str]:
        """Return the metrics of all samples, each once."""
        of_held = (METRICS[metric].name for metric in sorted(self.held.metrics()))
        return list(dict.fromkeys(chain(chain.from_iterable(each.samples for each in self.findings.values()), of_held)))


class Span(NamedTuple):
    """Where something has changed in a series: its index, and from when until when, ns UTC, not empty."""

    series: int
    start: int
    until: int


def spans_of(finding: Finding, series: Mapping[str, int]) -> list[Span]:
    """Return where a finding's samples lie, given metric → series."""
    until = finding.ts + 1 if finding.until < 0 else finding.until
    return [Span(series[name], finding.ts, until) for name in finding.samples]


def _cells(spans: Sequence[Span]) -> tuple[Ints, Ints]:
    """Return series and start of every finest window that spans, at least one, touch; arrays (n,)."""
    series, start, until = np.array(spans, np.int64).T
    first = start // FINEST
    count = (until - 1) // FINEST - first + 1
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(series, count), (np.repeat(first, count) + nth) * FINEST


def rows_of(samples: Samples, stale: Sequence[Span], keys: Sequence[SeriesKey], worker: str) -> WindowRows:
    """Return the rows, of every tier, of the windows that are stale somewhere; a count of 0 says that nothing is left.

    ``samples``: all that lie in the hours of what is stale.
    """
    if not stale:
        return WindowRows.empty(keys, worker)
    parts = []
    series, window = _cells(stale)
    events = _finest(samples.points, keys, worker)
    for tier_s in TIERS_S:
        width = tier_s * NS
        wanted = np.unique(_place(series, window, width))
        since, until = int(window.min()) // width * width, int(window.max()) // width * width + width
        held = _of_stretches(_clipped(samples.stretches, since, until), width)
        there = fold(WindowRows.concatenate([events, held.rows(keys, worker, TIERS_S[0], EPOCH)]), width)
        place = _place(there.series, there.window, width)
        parts.append(there.take(np.isin(place, wanted)))
        gone = wanted[~np.isin(wanted, place)]
        parts.append(_nothing(gone >> _BITS, (gone & _LOW) * width, tier_s, keys, worker))
    return WindowRows.concatenate([part for part in parts if len(part)])


def _clipped(stretches: Ints, since: int, until: int) -> Ints:
    """Return what of stretches (m, 3) lies between two times."""
    inside = stretches[(stretches[:, 1] < until) & (stretches[:, 2] > since)]
    return np.stack((inside[:, 0], np.maximum(inside[:, 1], since), np.minimum(inside[:, 2], until)), axis=1)


def _finest(points: Ints, keys: Sequence[SeriesKey], worker: str) -> WindowRows:
    """Return each sample of an event (n, 4) as a row of the finest tier."""
    rows = _of_points(points).rows(keys, worker, TIERS_S[0], EPOCH)
    of, _, _, value = points.T
    series, nth = np.unique(of, return_inverse=True)
    # A key is made when it is asked for: once for each series.
    binned = np.flatnonzero(np.array([keys[each].metric in PERCENTILED for each in series.tolist()], np.bool_)[nth])
    if not len(binned):
        return rows
    single = Histograms.of(binned, bins_of(value[binned]), np.ones(len(binned), np.int64))
    return replace(rows, bins=single.packed(np.arange(len(rows))))


_BITS: Final = 31
"""Bits of a window's number: ten-second windows since 1970 reach 2**31 in the year 2650."""
_LOW: Final = (1 << _BITS) - 1


def _place(series: Ints, window: Ints, width: int) -> Ints:
    return (series << _BITS) | (window // width)


def _nothing(series: Ints, window: Ints, tier_s: int, keys: Sequence[SeriesKey], worker: str) -> WindowRows:
    zero = np.zeros(len(series), np.int64)
    columns = dict.fromkeys(WindowRows.columns(), zero) | {"series": series, "window": window, "tier_s": zero + tier_s}
    return WindowRows(keys, worker, *(columns[name] for name in WindowRows.columns()))

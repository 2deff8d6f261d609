"""Moves and passages over time, by crane, gate lane or site."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from fastapi import APIRouter, Query, Response

from analytics.kpis import (
    MOVES_PER_HOUR,
    PASSAGES_PER_HOUR,
    KpiDefinition,
    bucket_starts,
    complete_hours,
    per_hour,
    tally,
)
from analytics.rows import SeriesKey, WindowSums
from api.answers import answer, describe
from api.figures import definition_json, percent, range_json
from api.parameters import Asked, End, Site, Start, Step, check_size
from api.responses import Throughput
from api.series import Coverage, Segment, Span, plan, read_coverage, read_sums
from api.times import on_grid, rfc3339_column
from api.wiring import Given
from devices.columns import Bools, Floats, Ints
from devices.vocabulary import BY_NAME, INDEX, DeviceClass, unscaled
from store.interface import DeviceRecord, WindowStore

DEFAULT_POINTS: Final = 60
router = APIRouter(tags=["figures"])


class GroupBy(StrEnum):
    """By what throughput is grouped."""

    CRANE = "crane"
    GATE = "gate"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class Grouping:
    """What is counted in a group, and what of it makes the rate."""

    classes: tuple[DeviceClass, ...]
    counted: tuple[str, ...]
    """Metrics whose samples are the observations."""
    measured: tuple[str, ...]
    """Metrics added up besides."""
    rated: tuple[str, ...]
    """Metrics that make the rate."""
    rate: str
    kpi: KpiDefinition

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, in the order of the answer."""
        order = ("moves", "teu", "yard_moves", "passages_in", "passages_out")
        return tuple(name for name in order if name in (*self.counted, *self.measured))


_QUAY, _YARD, _GATE = DeviceClass.QUAY_CRANE, DeviceClass.YARD_CRANE, DeviceClass.RFID_GATE
_PASSAGES: Final = ("passages_in", "passages_out")
GROUPINGS: Final = {
    GroupBy.CRANE: Grouping((_QUAY,), ("moves",), ("teu",), ("moves",), "moves_per_hour", MOVES_PER_HOUR),
    GroupBy.GATE: Grouping((_GATE,), _PASSAGES, (), _PASSAGES, "passages_per_hour", PASSAGES_PER_HOUR),
    GroupBy.SITE: Grouping(
        (_QUAY, _YARD, _GATE),
        ("moves", "yard_moves", *_PASSAGES),
        ("teu",),
        ("moves",),
        "moves_per_hour",
        MOVES_PER_HOUR,
    ),
}
POINTS: Final = {
    grouping.metrics: msgspec.defstruct("Point", ("time", *grouping.metrics, grouping.rate))
    for grouping in GROUPINGS.values()
}
"""Metrics → a point of the answer: made and encoded in a quarter of the time of a dict, of which a month has 17,000."""


@router.get(
    "/v1/throughput",
    operation_id="getThroughput",
    summary="Moves and passages over time",
    response_model=Throughput,
    **describe("throughput"),
)
async def get_throughput(
    wiring: Given,
    group_by: Annotated[GroupBy, Query(description="By what to group.")] = GroupBy.CRANE,
    start: Start = None,
    end: End = None,
    step: Step = None,
    site: Site = None,
) -> Response:
    """Tallies per bucket and the rate over the complete part; without `step`, at most 60 buckets."""
    grouping = GROUPINGS[group_by]
    now = wiring.clock()
    span = Asked(start, end, step).span(wiring.config, now, DEFAULT_POINTS)
    stores = wiring.stores
    devices = await stores.devices(site=site, classes=grouping.classes)
    groups = _groups(devices, group_by)
    check_size(wiring.config, span, len(groups))
    complete = await wiring.complete_through_ns(devices)
    known = [await stores.series(site=site, device_class=device_class) for device_class in grouping.classes]
    question = _Question(grouping, span, devices, groups, [key for keys in known for key in keys], complete, now)
    body = await stores.ask(question.answer, stores.windows)
    return answer({"definition": definition_json(grouping.kpi), "group_by": group_by, **body})


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    site: str
    uid: str | None
    """None for a site."""
    devices: tuple[int, ...]
    """Positions in the list of devices."""


def _groups(devices: Sequence[DeviceRecord], group_by: GroupBy) -> list[_Group]:
    if group_by is not GroupBy.SITE:
        return [_Group(device.device, device.site, device.uid, (at,)) for at, device in enumerate(devices)]
    of_site: dict[str, list[int]] = {}
    for at, device in enumerate(devices):
        of_site.setdefault(device.site, []).append(at)
    return [_Group(site, site, None, tuple(members)) for site, members in sorted(of_site.items())]


@dataclass(frozen=True, slots=True)
class _Question:
    """All that an answer is computed from; :meth:`answer` blocks and belongs in a thread."""

    grouping: Grouping
    span: Span
    devices: Sequence[DeviceRecord]
    groups: Sequence[_Group]
    known: Sequence[SeriesKey]
    """Series of the classes concerned, for the coverage."""
    complete_ns: int | None
    now_ns: int

    def answer(self, windows: WindowStore) -> dict[str, Any]:
        """Read and compute."""
        keys, lines = self._series()
        rows = read_sums(windows, keys, self._plan())
        counted = np.array([key.metric in self.grouping.counted for key in keys], np.bool_)
        observed = rows.take(counted[rows.series]) if len(rows) else rows
        coverage = self._coverage(windows)
        return {
            **range_json(self.span, self.complete_ns, coverage),
            "observations": int(observed.count.sum()),
            "corrections": int(observed.late.sum()),
            "groups": self._group_answers(rows, lines, coverage),
        }

    @property
    def _closed_ns(self) -> int:
        """End of the part of the range that is complete, on the grid; the start if none is."""
        span = self.span
        return max(span.start_ns, min(span.end_ns, on_grid(self.complete_ns or 0)))

    def _plan(self) -> list[Segment]:
        # Cut where the complete part ends, so that each row lies on one side.
        span = self.span
        return plan(span.start_ns, self._closed_ns, span.step_s) + plan(self._closed_ns, span.end_ns, span.step_s)

    def _series(self) -> tuple[list[SeriesKey], Ints]:
        """Return the series to read and the line (group, metric) of each."""
        keys, lines = [], []
        metrics = self.grouping.metrics
        for number, group in enumerate(self.groups):
            for at in group.devices:
                device = self.devices[at]
                for column, metric in enumerate(metrics):
                    if device.device_class in BY_NAME[metric].classes:
                        keys.append(SeriesKey(device.site, device.device_class, device.device, metric))
                        lines.append(number * len(metrics) + column)
        return keys, np.array(lines, np.int64)

    def _coverage(self, windows: WindowStore) -> list[Coverage]:
        of_device: dict[str, list[SeriesKey]] = {device.uid: [] for device in self.devices}
        for key in self.known:
            of_device.get(key.device_key.uid, []).append(key)
        if self.complete_ns is None:
            return []
        return read_coverage(windows, list(of_device.values()), self.span, self.complete_ns)

    def _group_answers(self, rows: WindowSums, lines: Ints, coverage: Sequence[Coverage]) -> list[dict[str, Any]]:
        span, metrics = self.span, self.grouping.metrics
        buckets = bucket_starts(span.start_ns, span.end_ns, span.step_ns)
        shape = len(self.groups), len(metrics), len(buckets)
        total = tally(rows, lines, shape[0] * shape[1], buckets, span.step_ns).reshape(shape)
        closed_rows = rows.take(rows.window < self._closed_ns)
        closed = tally(closed_rows, lines, shape[0] * shape[1], buckets, span.step_ns).reshape(shape)
        rated = np.array([metric in self.grouping.rated for metric in metrics], np.bool_)
        hours = complete_hours(buckets, span.step_ns, span.start_ns, self._closed_ns)
        by_bucket = per_hour(closed[:, rated].sum(axis=1), hours)
        overall = per_hour(closed[:, rated].sum(axis=(1, 2)), np.full(shape[0], hours.sum()))
        shown = self._shown(buckets, rows)
        times = rfc3339_column(buckets[shown])
        rates = _rates(by_bucket[:, shown])
        return [
            {
                "group": group.name,
                "site": group.site,
                **({} if group.uid is None else {"uid": group.uid}),
                **{metric: _in_unit(metric, total[number, at].sum()) for at, metric in enumerate(metrics)},
                self.grouping.rate: _rate(float(overall[number])),
                "coverage_percent": percent([coverage[at] for at in group.devices] if coverage else []),
                "points": self._points(times, total[number][:, shown], rates[number]),
            }
            for number, group in enumerate(self.groups)
        ]

    def _shown(self, buckets: Ints, rows: WindowSums) -> Bools:
        """Return which buckets have begun: a zero in the future would be a claim."""
        begun = max(self.now_ns, int(rows.window.max()) + 1 if len(rows) else 0)
        result: Bools = buckets < begun
        return result

    def _points(self, times: Sequence[str], total: Ints, rates: Sequence[float | None]) -> list[msgspec.Struct]:
        metrics = self.grouping.metrics
        columns = (_column(metric, total[at]) for at, metric in enumerate(metrics))
        return list(map(POINTS[metrics], times, *columns, rates))


def _column(metric: str, scaled: Ints) -> list[int] | list[float]:
    if BY_NAME[metric].resolution == 1:
        whole: list[int] = scaled.tolist()
        return whole
    fractions: list[float] = unscaled(np.full(len(scaled), INDEX[metric]), scaled).tolist()
    return fractions


def _in_unit(metric: str, scaled: np.int64) -> int | float:
    return _column(metric, np.array([scaled]))[0]


def _rates(values: Floats) -> list[list[float | None]]:
    """Round rates; shape (groups, buckets). Counts in whole hours have few rates, so each is rounded once."""
    different, at = np.unique(values, return_inverse=True)
    rounded = np.array([_rate(value) for value in different.tolist()], np.object_)
    result: list[list[float | None]] = rounded[at.reshape(values.shape)].tolist()
    return result


def _rate(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)

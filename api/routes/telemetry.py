"""A metric of a device over time."""

import difflib
import math
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Query, Response

from analytics.histograms import PERCENTS, Packed, folded, percentile
from analytics.kpis import TELEMETRY
from analytics.rows import SeriesKey, WindowRows, fold
from api.answers import answer, describe
from api.figures import definition_json, range_json
from api.parameters import Asked, DeviceId, End, Start, Step, check_size, device_of
from api.problems import parameter_error
from api.responses import Telemetry
from api.series import Coverage, Span, plan, read, read_coverage
from api.times import rfc3339_column
from api.wiring import Given, Wiring
from devices.columns import Floats, Ints
from devices.vocabulary import BY_NAME, INDEX, METRICS, SCALE, Metric, unscaled
from store.interface import DeviceRecord

DEFAULT_POINTS: Final = 500
router = APIRouter(tags=["figures"])

MetricName = Annotated[
    str,
    Query(
        max_length=64,
        description="A metric of the vocabulary that devices of this class have.",
        examples=["load_t"],
        json_schema_extra={"enum": sorted(BY_NAME)},
    ),
]


@router.get(
    "/v1/devices/{id}/telemetry",
    operation_id="getTelemetry",
    summary="A metric of a device over time",
    response_model=Telemetry,
    **describe("telemetry", 404, 409),
)
async def get_telemetry(
    wiring: Given,
    id: DeviceId,  # noqa: A002 - the name in the path
    metric: MetricName,
    start: Start = None,
    end: End = None,
    step: Step = None,
) -> Response:
    """Exact count, sum, extremes, mean, first and last, and percentiles; without `step`, at most 500 buckets."""
    span = Asked(start, end, step).span(wiring.config, wiring.clock(), DEFAULT_POINTS)
    check_size(wiring.config, span, 1)
    device = await device_of(wiring, id, "id")
    known = _metric_of(device, metric)
    complete = await wiring.complete_through_ns([device])
    rows, coverage = await wiring.stores.ask(_read, wiring, device, known, span, complete)
    return answer(await wiring.stores.ask(_body, device, known, span, complete, rows, coverage))


def _metric_of(device: DeviceRecord, name: str) -> Metric:
    known = BY_NAME.get(name)
    if known is not None and device.device_class in known.classes:
        return known
    names = sorted(metric.name for metric in METRICS if device.device_class in metric.classes)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
    raise parameter_error("metric", f"{name!r} is not a metric of {device.device_class}; {hint}", "unknown-metric")


def _read(
    wiring: Wiring, device: DeviceRecord, metric: Metric, span: Span, complete_ns: int | None
) -> tuple[WindowRows, Coverage | None]:
    key = SeriesKey(device.site, device.device_class, device.device, metric.name)
    windows = wiring.stores.windows
    rows = fold(read(windows, [key], plan(span.start_ns, span.end_ns, span.step_s)), span.step_ns)
    if complete_ns is None:
        return rows, None
    return rows, read_coverage(windows, [[key]], span, complete_ns)[0]


def _body(
    device: DeviceRecord,
    metric: Metric,
    span: Span,
    complete_ns: int | None,
    rows: WindowRows,
    coverage: Coverage | None,
) -> dict[str, Any]:
    return {
        "device": device.device,
        "uid": device.uid,
        "metric": metric.name,
        "unit": metric.unit,
        "resolution": metric.resolution,
        "kind": metric.kind,
        "definition": definition_json(TELEMETRY),
        **range_json(span, complete_ns, [] if coverage is None else [coverage]),
        "observations": int(rows.count.sum()),
        "corrections": int(rows.late.sum()),
        "summary": _summary(rows, metric),
        "points": _points(rows, metric),
    }


def _floats(metric: Metric, values: Ints) -> Floats:
    return unscaled(np.full(len(values), INDEX[metric.name]), values)


def _points(rows: WindowRows, metric: Metric) -> list[dict[str, Any]]:
    total = _floats(metric, rows.sum)
    columns = {
        "time": rfc3339_column(rows.window),
        "count": rows.count.tolist(),
        "mean": (total / rows.count).tolist(),
        "min": _floats(metric, rows.min).tolist(),
        "max": _floats(metric, rows.max).tolist(),
        "first": _floats(metric, rows.first).tolist(),
        "last": _floats(metric, rows.last).tolist(),
        "sum": total.tolist(),
        "first_time": rfc3339_column(rows.first_ts),
        "last_time": rfc3339_column(rows.last_ts),
    }
    columns |= _percentiles(rows.packed, rows.count, rows.min, rows.max, metric)
    names = tuple(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _percentiles(bins: Packed, count: Ints, least: Ints, greatest: Ints, metric: Metric) -> dict[str, list[Any]]:
    """Return percentiles of histograms (n,) in the metric's unit, None where one lacks some of its samples.

    No estimate leaves the extremes, which are exact.
    """
    result = {}
    for percent in PERCENTS:
        value = np.clip(percentile(bins, count, percent), least, greatest) / SCALE[INDEX[metric.name]]
        result[f"p{percent}"] = [None if math.isnan(each) else each for each in value.tolist()]
    return result


def _summary(rows: WindowRows, metric: Metric) -> dict[str, Any]:
    if not len(rows):
        unknown = ("mean", "min", "max", "first", "last", *(f"p{percent}" for percent in PERCENTS))
        return {"count": 0, **dict.fromkeys(unknown), "sum": 0.0}
    count, least, greatest = rows.count.sum(), rows.min.min(), rows.max.max()
    # As Python's integers: over a long range a sum may need more than 64 bits.
    total = sum(rows.sum.tolist()) / float(SCALE[INDEX[metric.name]])
    values = _floats(metric, np.array([least, greatest, rows.first[0], rows.last[-1]])).tolist()
    bins = folded(rows.packed, np.zeros(len(rows), np.int64), 1)
    percentiles = _percentiles(bins, count[None], least[None], greatest[None], metric)
    first_time, last_time = rfc3339_column(np.array([rows.first_ts[0], rows.last_ts[-1]]))
    return {
        "count": int(count),
        "mean": total / int(count),
        "min": values[0],
        "max": values[1],
        "first": {"time": first_time, "value": values[2]},
        "last": {"time": last_time, "value": values[3]},
        "sum": total,
        **{name: value for name, (value,) in percentiles.items()},
    }

"""Window rows as InfluxDB line protocol, built in bulk.

    window_10s,class=quay-crane,device=QC01,metric=load_t,site=CNNGB-DEMO,worker=w1 count=10i,… 1763900000000000007

One measurement per tier. The epoch is not a tag, for every late partial would then open a series of its own: it is
added to the time, since 0 ≤ epoch < 1e9 ns < width. So (measurement, tags, time) is exactly the row's key, and a line
written again replaces the point. ``count``, ``sum``, times, sequence numbers and ``late`` are the row's integers;
``min``, ``max``, ``first``, ``last`` and ``mean`` are floats in the metric's unit, for people and their dashboards.
Scaled values reach at most 2**36, so such a float times the metric's scale, rounded, is the integer again.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from analytics.histograms import Packed, objects
from analytics.rows import SeriesKey, WindowRows
from devices.columns import Floats, Ints
from devices.times import NS
from devices.vocabulary import INDEX, SCALE

TAGS: Final = ("class", "device", "metric", "site", "worker")
"""The tags of every point, in the order in which InfluxDB keeps them."""

INTEGER_FIELDS: Final = ("count", "sum", "first_ts", "first_seq", "last_ts", "last_seq", "late")
FLOAT_FIELDS: Final = ("min", "max", "first", "last")
BINS_FIELD: Final = "bins"
"""The histogram in base64, at most 24 KB, where the metric has percentiles."""
MAX_EPOCH: Final = NS
"""Epochs are below this, so that adding one to a window's start stays inside the window's first second."""

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_REFUSED: Final = re.compile(r"[\\\x00-\x1f\x7f]")
_ESCAPED: Final = re.compile(r"([,= ])")
_LINE: Final = (
    "%s count=%di,sum=%di,first_ts=%di,first_seq=%di,last_ts=%di,last_seq=%di,late=%di,"
    "min=%r,max=%r,first=%r,last=%r,mean=%r%s %d"
)


def measurement(tier_s: int) -> str:
    """Return the measurement of a tier: ``window_10s``, ``window_15m``, ``window_1h``."""
    width, unit = next((width, unit) for width, unit in _UNITS if tier_s % width == 0)
    return f"window_{tier_s // width}{unit}"


def scale_of(metric: str) -> float:
    """Return how many of the metric's resolutions make one unit. ValueError if the vocabulary has no such metric."""
    index = INDEX.get(metric)
    if index is None:
        raise ValueError(f"metric {metric!r}: not in the vocabulary of this version, so it cannot be scaled")
    return float(SCALE[index])


@lru_cache(maxsize=1 << 16)
def escaped(tag: str) -> str:
    r"""Return a tag value as line protocol wants it.

    ValueError for a backslash or a control character: line protocol has no way to write them that every version reads
    back the same.
    """
    if _REFUSED.search(tag):
        raise ValueError(f"tag value {tag!r}: backslashes and control characters are not allowed")
    return _ESCAPED.sub(r"\\\1", tag)


def lines(rows: WindowRows) -> list[str]:
    """Return one line per row, in the order of the rows."""
    if not len(rows):
        return []
    if int(rows.epoch.max()) >= MAX_EPOCH or int(rows.epoch.min()) < 0:
        raise ValueError(f"epoch: expected 0 ≤ epoch < {MAX_EPOCH}")
    prefix, scale = _series_of(rows)
    floats = [(getattr(rows, name) / scale).tolist() for name in FLOAT_FIELDS]
    mean = (rows.sum / (np.maximum(rows.count, 1) * scale)).tolist()
    integers = [getattr(rows, name).tolist() for name in INTEGER_FIELDS]
    time = (rows.window + rows.epoch).tolist()
    bins = [""] * len(rows) if rows.bins is None else [_bins_field(each) for each in rows.bins]
    return [_LINE % values for values in zip(prefix, *integers, *floats, mean, bins, time, strict=True)]


def _bins_field(histogram: bytes) -> str:
    return f',{BINS_FIELD}="{b64encode(histogram).decode()}"' if histogram else ""


def bins_back(fields: Sequence[str | None]) -> Packed:
    """Return the histograms of the fields of points, of which those without have none; shape (n,)."""
    return objects([b64decode(field) if field else b"" for field in fields])


def _series_of(rows: WindowRows) -> tuple[list[str], Floats]:
    """Return measurement and tags, and the scale, of every row; the scales have shape (n,)."""
    keys, worker = rows.keys, rows.worker
    known = [_prefix_and_scale(keys[series], worker) for series in rows.series.tolist()]
    names = {tier_s: measurement(tier_s) for tier_s in np.unique(rows.tier_s).tolist()}
    prefixes = [names[tier_s] + tags for tier_s, (tags, _) in zip(rows.tier_s.tolist(), known, strict=True)]
    return prefixes, np.array([scale for _, scale in known])


@lru_cache(maxsize=1 << 16)
def _prefix_and_scale(key: SeriesKey, worker: str) -> tuple[str, float]:
    """Return the tags of a series and its metric's scale, at which every commit looks again."""
    site, device_class, device, metric = (escaped(tag) for tag in key)
    ending = f",worker={escaped(worker)}" if worker else ""
    return f",class={device_class},device={device},metric={metric},site={site}{ending}", scale_of(key.metric)


def unscaled_back(values: Floats, scale: float) -> Ints:
    """Return the exact integers from floats in the metric's unit; shape (n,)."""
    return np.rint(values * scale).astype(np.int64)


def tags_of(series_key: str) -> dict[str, str]:
    r"""Return the tags in a series key as ``SHOW SERIES`` prints it: ``measurement,tag=value,…`` with escapes."""
    if "\\" not in series_key:
        return dict(pair.split("=", 1) for pair in series_key.split(",")[1:])
    _, *pairs = re.split(r"(?<!\\),", series_key)
    split = (re.split(r"(?<!\\)=", pair, maxsplit=1) for pair in pairs)
    return {name: re.sub(r"\\([,= ])", r"\1", value) for name, value in split}

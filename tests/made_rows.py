"""Window rows for the tests of the stores: a few by hand, or any by hypothesis."""

from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import strategies as st

from analytics.rows import SeriesKey, WindowRows
from devices.times import NS
from devices.vocabulary import MAX_SCALED, METRICS

SITE = "CNNGB-DEMO"
BEGIN = 1_763_856_000 * NS
"""2025-11-23T00:00:00Z, the start of a window in every tier."""

BIG = 2**62
PLAIN = {
    "tier_s": 10,
    "window": BEGIN,
    "series": 0,
    "epoch": 0,
    "count": 3,
    "sum": 600,
    "min": 100,
    "max": 300,
    "first_ts": BEGIN + 1,
    "first_seq": 1,
    "first": 100,
    "last_ts": BEGIN + 9,
    "last_seq": 3,
    "last": 300,
    "late": 0,
}


def key(device: str = "QC01", metric: str = "load_t", device_class: str = "quay-crane", site: str = SITE) -> SeriesKey:
    return SeriesKey(site, device_class, device, metric)


def rows_of(keys: Sequence[SeriesKey], rows: Iterable[dict[str, int]], worker: str = "w1") -> WindowRows:
    """Return rows with the given values, the others as in ``PLAIN``."""
    whole = [PLAIN | row for row in rows]
    columns = (np.array([row[name] for row in whole], np.int64) for name in WindowRows.columns())
    return WindowRows(keys, worker, *columns)


def as_set(rows: WindowRows) -> set[tuple[object, ...]]:
    """Return rows as comparable tuples, with the key in place of its index."""
    columns = [getattr(rows, name).tolist() for name in WindowRows.columns()]
    series = WindowRows.columns().index("series")
    return {(*row[:series], rows.keys[row[series]], *row[series + 1 :]) for row in zip(*columns, strict=True)}


def any_rows(keys: Sequence[SeriesKey], tier_s: int) -> st.SearchStrategy[list[dict[str, int]]]:
    """Draw rows of one tier with distinct keys, as a worker could write them."""
    value = st.integers(-MAX_SCALED, MAX_SCALED)
    time = st.integers(BEGIN, BEGIN + 10**15)
    seq = st.integers(0, BIG)
    row = st.fixed_dictionaries(
        {
            "tier_s": st.just(tier_s),
            "window": st.integers(0, 40).map(lambda n: BEGIN + n * tier_s * NS),
            "series": st.integers(0, len(keys) - 1),
            "epoch": st.one_of(st.integers(0, 3), st.integers(0, NS - 1)),
            "count": st.integers(1, 10**9),
            "sum": st.integers(-BIG, BIG),
            "min": value,
            "max": value,
            "first_ts": time,
            "first_seq": seq,
            "first": value,
            "last_ts": time,
            "last_seq": seq,
            "last": value,
            "late": st.integers(0, 10**6),
        }
    )
    return st.lists(row, max_size=30, unique_by=lambda drawn: (drawn["window"], drawn["series"], drawn["epoch"]))


METRIC_NAMES = [metric.name for metric in METRICS]

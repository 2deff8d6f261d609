"""Planning and reading: every window once, none across a bucket, and coverage as a plain count says."""

from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_port import NOW, SITE, MadePort

from analytics.kpis import (
    COVERAGE_WINDOWS,
    bucket_starts,
    closed_windows,
    complete_hours,
    coverage_percent,
    coverage_tier_s,
    per_hour,
)
from analytics.rows import TIERS_S, SeriesKey
from api.series import Span, default_step, plan, read_coverage
from devices.times import NS
from devices.topics import DeviceKey

GRID = 10 * NS
BEGIN = NOW - NOW % (3_600 * NS)
ranges = st.tuples(st.integers(0, 50_000), st.integers(1, 50_000)).map(lambda r: (r[0] * GRID, (r[0] + r[1]) * GRID))
steps = st.one_of(
    st.sampled_from([*TIERS_S, 20, 30, 300, 1_800, 7_200, 86_400]), st.integers(1, 3_000).map(lambda n: n * 10)
)


@given(ranges, steps)
def test_a_plan_covers_the_range_once_and_no_row_lies_in_two_buckets(span: tuple[int, int], step_s: int) -> None:
    start, end = span
    segments = plan(start, end, step_s)
    assert segments[0].start_ns == start
    assert segments[-1].end_ns == end
    assert all(before.end_ns == after.start_ns for before, after in pairwise(segments))
    for tier_s, first, last in segments:
        assert first < last
        assert first % (tier_s * NS) == last % (tier_s * NS) == 0
        assert step_s % tier_s == 0


@given(ranges, steps)
def test_a_plan_reads_few_windows(span: tuple[int, int], step_s: int) -> None:
    start, end = span
    widest = max(tier for tier in TIERS_S if step_s % tier == 0)
    windows = sum((last - first) // (tier * NS) for tier, first, last in plan(start, end, step_s))
    # At each end of the range: 5 of 10 s, 14 of 1 min, 3 of 15 min.
    assert windows <= (end - start) // (widest * NS) + 2 * (5 + 14 + 3)


@given(ranges, st.sampled_from([60, 500]))
def test_the_default_step_gives_a_readable_number_of_buckets(span: tuple[int, int], points: int) -> None:
    start, end = span
    step_s = default_step(start, end, points)
    assert step_s in TIERS_S or step_s % TIERS_S[-1] == 0
    assert len(bucket_starts(start, end, step_s * NS)) <= points + 1


@given(ranges, steps, st.integers(-100, 60_000))
def test_the_hours_of_the_buckets_are_the_hours_of_the_complete_part(
    span: tuple[int, int], step_s: int, complete: int
) -> None:
    start, end = span
    closed = max(start, min(end, complete * GRID))
    hours = complete_hours(bucket_starts(start, end, step_s * NS), step_s * NS, start, closed)
    assert np.isclose(hours.sum(), (closed - start) / (3_600 * NS))


def test_a_rate_over_no_time_is_unknown() -> None:
    assert np.isnan(per_hour(np.array([3, 0]), np.array([0.0, 0.0]))).all()
    assert per_hour(np.array([3]), np.array([0.5])).tolist() == [6.0]


def test_coverage_of_nothing_is_unknown() -> None:
    assert coverage_percent(0, 0) is None
    assert coverage_percent(1, 4) == 25.0


@given(ranges)
def test_coverage_looks_at_a_bounded_number_of_windows(span: tuple[int, int]) -> None:
    start, end = span
    width = coverage_tier_s(start, end) * NS
    first, last = closed_windows(start, end, width)
    assert 0 <= (last - first) // width <= COVERAGE_WINDOWS
    assert start <= first <= last


@settings(max_examples=25)
@given(
    heard=st.lists(st.lists(st.sets(st.integers(0, 59)), min_size=1, max_size=3), min_size=1, max_size=3),
    complete=st.integers(0, 70),
)
def test_coverage_is_the_share_of_windows_in_which_any_series_was_heard(
    tmp_path_factory: pytest.TempPathFactory, heard: list[list[set[int]]], complete: int
) -> None:
    port = MadePort(tmp_path_factory.mktemp("coverage"))
    metrics = ("load_t", "hoist_height_m", "power_kw")
    series = []
    for number, of_device in enumerate(heard):
        uid = f"{SITE}/quay-crane/QC{number}"
        for metric, windows in zip(metrics, of_device, strict=False):
            times = [BEGIN + window * GRID + 1 for window in sorted(windows)]
            port.add(uid, metric, times, [1.0] * len(times))
        series.append(
            [SeriesKey(*DeviceKey.from_uid(uid), metric) for metric, _ in zip(metrics, of_device, strict=False)]
        )
    port.commit()
    span = Span(BEGIN, BEGIN + 60 * GRID, 60)
    with closing(port.reader()) as reader:
        found = read_coverage(reader, series, span, BEGIN + complete * GRID + 5)
    closed = min(complete, 60)
    for coverage, of_device in zip(found, heard, strict=True):
        windows = {window for some in of_device[: len(metrics)] for window in some if window < closed}
        assert (coverage.heard, coverage.expected, coverage.window_s) == (len(windows), closed, 10)

"""How long states were held: every instant counts once, whatever the pieces in which time is told."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, Shelf, frame, pipeline_of, topic, values

from analytics.detectors.states import CUT, HoldRules, StateTimes, Stretch
from analytics.findings import FINEST, STRETCH, Finding, Samples, rows_of, spans_of
from analytics.rows import SeriesKey, WindowRows
from analytics.watermarks import Lateness
from devices.columns import Columns
from devices.times import NS
from devices.vocabulary import BY_NAME, INDEX, METRICS, TIMED, Kind, time_in
from ingest.checkpoint import WorkerBlob, freeze
from ingest.kept_hours import PlainHour
from ingest.pipeline import Pipeline

TENTH = NS // 10
LONGEST = 90 * NS
LADEN = INDEX["laden"]

told = st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 1)), min_size=1, max_size=25)
"""Samples: tenths of a second after T0, and a value."""


def columns(samples: list[tuple[int, int]]) -> Columns:
    lines = [(1, LADEN, T0 + at * TENTH, nth, value) for nth, (at, value) in enumerate(samples)]
    return Columns(*np.array(lines, np.int64).reshape(-1, 5).T)


def stretches_of(samples: list[tuple[int, int]], marks: list[int]) -> list[Stretch]:
    """What is told of samples when the watermark stops at the marks, in tenths of a second."""
    detector, rest = StateTimes(HoldRules(LONGEST)), sorted(samples, key=lambda sample: sample[0])
    found: list[Stretch] = []
    for mark in [*sorted(marks), 10_000]:
        now = [sample for sample in rest if sample[0] <= mark]
        rest = [sample for sample in rest if sample[0] > mark]
        found += detector.push(columns(now))
        found += detector.release(1, T0 + mark * TENTH)
    return sorted(found)


@given(told, st.lists(st.integers(0, 4_000), max_size=8))
def test_stretches_do_not_depend_on_where_the_watermark_stops(samples: list[tuple[int, int]], marks: list[int]) -> None:
    assert stretches_of(samples, marks) == stretches_of(samples, [])


@given(told)
def test_each_window_is_told_how_long_each_value_was_held(samples: list[tuple[int, int]]) -> None:
    """Against time told tenth by tenth."""
    ordered = sorted(samples, key=lambda sample: sample[0])
    expected: Counter[tuple[int, int]] = Counter()
    for at in range(ordered[0][0], 5_000):
        last, value = [sample for sample in ordered if sample[0] <= at][-1]
        if (at - last) * TENTH < LONGEST:
            window = T0 + at * TENTH - (T0 + at * TENTH) % FINEST
            expected[value, window] += 100
    found: Counter[tuple[int, int]] = Counter()
    for stretch in stretches_of(samples, [500, 1_500]):
        assert stretch.start // CUT == (stretch.end - 1) // CUT
        finding = Finding(STRETCH, stretch.start, 0, stretch.end - 1, {"x": 0}, b"", stretch.end)
        for _, ts, milliseconds in finding.parts():
            found[stretch.value, ts - ts % FINEST] += milliseconds
    assert found == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["moves", "laden_0_s", "laden_1_s"]), st.integers(0, 10**12), st.integers(1, 90 * 10**9)
        ),
        max_size=12,
    )
)
def test_rows_of_findings_are_those_of_their_parts(drawn: list[tuple[str, int, int]]) -> None:
    names = ["moves", "teu", "laden_0_s", "laden_1_s"]
    keys, series = (
        [SeriesKey("CNNGB-DEMO", "vehicle", "T-1", name) for name in names],
        {name: nth for nth, name in enumerate(names)},
    )
    findings = [
        Finding("crane_move", T0 + ts, nth, T0 + ts, {"moves": 1, "teu": 2}, b"")
        if name == "moves"
        else Finding(STRETCH, T0 + ts, 0, T0 + ts, {name: 0}, b"", T0 + ts + length)
        for nth, (name, ts, length) in enumerate(drawn)
    ]
    parts = [(series[name], ts, each.seq, value) for each in findings for name, ts, value in each.parts()]
    spans = sorted({span for each in findings for span in spans_of(each, series)})
    found = Samples.of(findings, series)
    apart = Samples(np.array(parts, np.int64).reshape(-1, 4), np.empty((0, 3), np.int64))
    for some in (spans, spans[::2], spans[-1:]):
        one, other = rows_of(found, some, keys, "w"), rows_of(apart, some, keys, "w")
        for name in WindowRows.columns():
            assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    assert found.newest() == apart.newest()


def drive(pipeline: Pipeline, shelf: Shelf, first: int, last: int) -> None:
    """A truck that is driven empty for ten minutes and laden after that, told every 5 s from one minute to another."""
    for minute in range(first, last):
        for second in range(0, 60, 5):
            ts = T0 + (minute * 60 + second) * NS
            body = values(ts // NS, ts, ignition_on=True, laden=minute % 60 >= 10)
            pipeline.process([frame(topic("vehicle", "T-1"), body, recv_ts=ts)])
        pipeline.tick(T0 + (minute + 1) * 60 * NS)
        shelf.write(pipeline.take_rows(minute))


def test_a_state_that_lasts_is_one_finding_of_its_hour() -> None:
    pipeline, shelf = pipeline_of(), Shelf()
    drive(pipeline, shelf, 0, 118)
    ((_, hours),) = pipeline.detection.hours.items()
    assert [sorted(hour.every()) for hour in hours.values()] == [
        sorted(f"{name}@{start + offset * NS}" for name, offset in held)
        for start, held in (
            (T0, [("ignition_on_1_s", 0), ("laden_0_s", 0), ("laden_1_s", 600)]),
            (T0 + 3_600 * NS, [("ignition_on_1_s", 0), ("laden_0_s", 0), ("laden_1_s", 600)]),
        )
    ]
    pipeline.tick(T0 + 3 * 3_600 * NS)
    shelf.write(pipeline.take_rows(1_000))
    hourly = {
        (key.metric, (ts - T0) // NS): (row[0], row[1])
        for (tier, ts, key), row in shelf.folded().items()
        if tier == 3_600 and key.metric in BY_NAME and BY_NAME[key.metric].derived
    }
    # A window of ten seconds in it is one sample, and after the last message a state is believed for 300 s.
    assert hourly["ignition_on_1_s", 0] == (360, 3_600_000)
    assert hourly["laden_0_s", 0] == (60, 600_000)
    assert hourly["laden_1_s", 0] == (300, 3_000_000)
    assert hourly["ignition_on_1_s", 3_600] == (360, 3_600_000)


def test_an_hour_that_was_kept_by_the_minute_goes_on_without_counting_twice() -> None:
    now, before = (pipeline_of(), Shelf()), (pipeline_of(), Shelf())
    drive(*now, 0, 45)
    drive(*before, 0, 30)
    detection = before[0].detection
    ((device, hours),) = detection.hours.items()
    # As a release left them that noted neither when a state began nor that its minutes are one.
    for hour in hours.values():
        by_minute = {}
        for metric, began, until in hour.held:
            name = METRICS[metric].name
            for start in range(began, until, CUT):
                end = min(until, start + CUT)
                by_minute[f"{name}@{start}"] = Finding(STRETCH, start, 0, end - 1, {name: 0}, b"", end)
        hour.held = PlainHour(hour.since, hour.state, by_minute).hour().held
    for held in detection.states.held[device].values():
        held.began = -1
    drive(*before, 30, 45)
    for pipeline, shelf in (now, before):
        pipeline.tick(T0 + 3_600 * NS)
        shelf.write(pipeline.take_rows(1_000))
    assert before[1].folded() == now[1].folded()


def test_a_lift_and_a_silence_in_the_figures() -> None:
    pipeline, shelf = pipeline_of(), Shelf()
    said = [(0, False), (10.25, True), (70, False), (71, True)]
    for nth, (second, locked) in enumerate(said):
        ts = T0 + round(second * NS)
        body = values(nth, ts, spreader_locked=locked, spreader_size_ft=40)
        pipeline.process([frame(topic("quay-crane", "QC01"), body, recv_ts=ts)])
        pipeline.tick(ts)
    pipeline.tick(T0 + 3_600 * NS)
    shelf.write(pipeline.take_rows(1))

    def seconds(metric: str, tier_s: int = 3600) -> float:
        rows = shelf.folded().items()
        return sum(row[1] for (tier, _, key), row in rows if key.metric == metric and tier == tier_s) / 1_000

    for tier_s in (10, 60, 900, 3600):
        # Locked for 59.75 s, then for as long as it is believed.
        assert seconds("spreader_locked_1_s", tier_s) == 59.75 + 300
        assert seconds("spreader_locked_0_s", tier_s) == 10.25 + 1
        assert seconds("spreader_size_ft_40_s", tier_s) == 371
        assert seconds("spreader_size_ft_20_s", tier_s) == 0


@pytest.mark.parametrize("first_s", [10, 55, 57.5, 59.5, 60, 61])
@pytest.mark.parametrize("later_s", [0, 0.5, 3, 90])
def test_a_state_is_told_as_soon_as_it_is_believed_no_longer_whatever_the_minute(
    first_s: float, later_s: float
) -> None:
    hold, lateness = 5 * NS, Lateness(2 * NS, NS)
    pipeline, shelf = pipeline_of(holds=HoldRules(hold), lateness=lateness), Shelf()
    last = first = T0 + round(first_s * NS)
    for nth, (ts, name) in enumerate([(first, "spreader_locked"), (first + round(later_s * NS), "spreader_landed")]):
        for now in range(last, ts, NS):
            pipeline.tick(now)
        pipeline.process([frame(topic("quay-crane", "QC01"), values(nth, ts, **{name: True}), recv_ts=ts)])
        last = ts
    for now in range(last, last + hold + lateness.allowed_ns + NS, NS // 4):
        pipeline.tick(now)
    shelf.write(pipeline.take_rows(1))
    rows = shelf.folded().items()
    for metric in ("spreader_locked_1_s", "spreader_landed_1_s"):
        assert sum(row[1] for (tier, _, key), row in rows if (tier, key.metric) == (10, metric)) == 5_000
    pipeline.tick(T0 + 3_600 * NS)
    shelf.write(pipeline.take_rows(2))
    assert dict(shelf.folded()) == dict(rows)


@pytest.mark.parametrize("others", range(253, 257))
def test_a_time_in_a_state_may_be_the_first_series_beyond_a_table(others: int) -> None:
    """The tables of the newest values hold 256 series at first, and nothing is noted there of a stretch."""
    pipeline = pipeline_of()
    said = [
        frame(topic("vehicle", f"T-{nth:03}"), values(0, T0, speed_mps=1), recv_ts=T0, offset=nth)
        for nth in range(others)
    ]
    said.append(frame(topic("quay-crane", "QC01"), values(0, T0, spreader_locked=True), recv_ts=T0, offset=others))
    pipeline.process(said)
    pipeline.tick(T0 + 3_600 * NS)
    touched = pipeline.touched()
    assert len(pipeline.directory.keys) == others + 2
    assert set(next(pipeline.records_of([touched[-1]])).latest) == {"spreader_locked"}
    assert freeze(pipeline, WorkerBlob(), touched).state


def test_every_reported_state_of_two_values_has_its_durations() -> None:
    for metric in METRICS:
        if metric.kind is Kind.STATE and not metric.derived and metric.maximum == 1:
            assert metric.name in TIMED
            for value in (0, 1):
                duration = BY_NAME[time_in(metric.name, value)]
                assert duration.derived
                assert duration.classes == metric.classes
    assert "antenna" not in TIMED


@pytest.mark.parametrize("longest", [0, -1, 3_601 * NS])
def test_holds_that_cannot_be_are_refused(longest: int) -> None:
    with pytest.raises(ValueError, match="longest_ns"):
        HoldRules(longest)

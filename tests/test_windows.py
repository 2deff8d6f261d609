"""The window kernel against sums in plain Python: any order, any commits, any restarts, several workers."""

import random
import tracemalloc
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import T0, Row, Shelf, seeds

import analytics.scattered
import analytics.windows
from analytics.radix import NARROW
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from analytics.windows import Windows
from devices.times import NS
from devices.vocabulary import MAX_SCALED

KEYS = [SeriesKey("CNNGB-DEMO", "quay-crane", f"QC{nth}", "load_t") for nth in range(4)]


class Sample(NamedTuple):
    series: int
    ts: int
    seq: int
    value: int
    late: int = 0


def ints(values: Iterable[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.fromiter(values, np.int64)


def add(windows: Windows, samples: list[Sample]) -> None:
    series, ts, seq, value, late = (ints(column) for column in (list(zip(*samples, strict=True)) or [()] * 5))
    windows.add(series, ts, seq, value, late.astype(np.bool_))


def reference(samples: Iterable[Sample]) -> dict[tuple[int, int, SeriesKey], Row]:
    """What the store must fold to, by the definition of each aggregate."""
    groups: dict[tuple[int, int, SeriesKey], list[Sample]] = {}
    for sample in samples:
        for tier in TIERS_S:
            window = sample.ts // (tier * NS) * tier * NS
            groups.setdefault((tier, window, KEYS[sample.series]), []).append(sample)
    found: dict[tuple[int, int, SeriesKey], Row] = {}
    for place, group in groups.items():
        ordered = sorted((sample.ts, sample.seq, sample.value) for sample in group)
        numbers = [sample.value for sample in group]
        extremes = (min(numbers), max(numbers), *ordered[0], *ordered[-1])
        found[place] = (len(group), sum(numbers), *extremes, sum(sample.late for sample in group))
    return found


# Times around the edges of every tier, close together and far apart, so that rings turn, skip and are missed.
times = st.one_of(
    st.integers(0, 90_000_000_000),
    st.integers(-2, 2).map(lambda step: 3_600 * NS + step),
    st.integers(0, 30).map(lambda windows: windows * 10 * NS),
    st.integers(0, 300).map(lambda minutes: minutes * 60 * NS - 1),
    st.integers(0, 4 * 3_600).map(lambda seconds: seconds * NS),
    st.integers(0, 3).map(lambda days: days * 86_400 * NS + 5),
)
samples_of = st.builds(
    Sample,
    st.integers(0, len(KEYS) - 1),
    times.map(lambda offset: T0 + offset),
    st.integers(0, 3) | st.integers(2**63 - 3, 2**63 - 1),
    st.integers(-3, 3) | st.sampled_from([MAX_SCALED, -MAX_SCALED]),
    st.integers(0, 1),
)
Step = Sample | str
steps_of = st.lists(samples_of | st.sampled_from(["batch", "commit", "restart", "worker"]), max_size=120)


class Workers:
    """Workers that write to one shelf; a restart forgets the open windows, as the checkpoint does."""

    def __init__(self, names: int = 2) -> None:
        self.shelf = Shelf()
        self.lives = [1] * names
        self.commits = [0] * names
        self.windows = [Windows(f"w{nth}", 1, KEYS) for nth in range(names)]
        self.current = 0

    def commit(self, worker: int) -> None:
        self.commits[worker] += 1
        self.shelf.write(self.windows[worker].take_rows(self.commits[worker]))

    def restart(self, worker: int) -> None:
        """Stop after a commit, as a worker that recovers has processed nothing beyond its checkpoint."""
        self.commit(worker)
        self.lives[worker] += 1
        self.windows[worker] = Windows(f"w{worker}", self.lives[worker], KEYS)

    def run(self, steps: list[Step]) -> None:
        batch: list[Sample] = []
        for step in steps:
            if isinstance(step, Sample):
                batch.append(step)
                continue
            add(self.windows[self.current], batch)
            batch = []
            if step == "commit":
                self.commit(self.current)
            elif step == "restart":
                self.restart(self.current)
            elif step == "worker":
                self.current = (self.current + 1) % len(self.windows)
        add(self.windows[self.current], batch)
        for worker in range(len(self.windows)):
            self.commit(worker)


@settings(max_examples=400)
@given(steps_of)
def test_folded_store_equals_the_definition_bit_for_bit(steps: list[Step]) -> None:
    workers = Workers()
    workers.run(steps)
    assert workers.shelf.folded() == reference(step for step in steps if isinstance(step, Sample))


@settings(max_examples=60)
@given(st.lists(samples_of, max_size=60), st.randoms(use_true_random=False), st.randoms(use_true_random=False))
def test_order_does_not_matter(samples: list[Sample], one: random.Random, other: random.Random) -> None:
    folded = []
    for chance in (one, other):
        steps: list[Step] = [*samples, *chance.choices(["batch", "commit", "restart", "worker"], k=15)]
        chance.shuffle(steps)
        workers = Workers()
        workers.run(steps)
        folded.append(workers.shelf.folded())
    assert folded[0] == folded[1] == reference(samples)


@settings(max_examples=100)
@given(st.lists(samples_of, min_size=1, max_size=200), st.integers(1, 40), st.integers(1, 9), seeds)
def test_how_samples_are_gathered_sorted_and_sliced_does_not_matter(
    samples: list[Sample], run: int, part: int, chance: random.Random
) -> None:
    # With a handful of series in place of the thousands from which on samples wait in buckets.
    with pytest.MonkeyPatch.context() as changed:
        for name, value in {
            "RUN": run,
            "FULL": part,
            "SPAN_BITS": chance.choice([0, 1, 13]),
            "CROWDED": 2,
            "NEAR": 1,
        }.items():
            changed.setattr(analytics.scattered, name, value)
        for name, value in {"SLICE": part, "LATE_HELD": run}.items():
            changed.setattr(analytics.windows, name, value)
        steps: list[Step] = [*samples, *chance.choices(["batch", "commit", "restart"], k=12)]
        chance.shuffle(steps)
        workers = Workers(1)
        workers.run(steps)
    assert workers.shelf.folded() == reference(samples)


def test_many_series_fold_to_their_definition() -> None:
    count, rounds = NARROW + 1_000, 3
    keys = [SeriesKey("CNNGB-DEMO", "vehicle", f"T{nth:05}", "x_m") for nth in range(count)]
    windows, chance = Windows("w", 1, keys), np.random.default_rng(5)
    value = chance.integers(-MAX_SCALED, MAX_SCALED, (rounds, count))
    for nth in range(rounds):
        for series in np.array_split(chance.permutation(count), 3):
            shape = len(series)
            ts, seq = np.full(shape, T0 + nth * 4 * NS), np.full(shape, nth)
            windows.add(series, ts, seq, value[nth][series], np.zeros(shape, np.bool_))
    rows = windows.take_rows(1)
    finest = fold(rows.take(rows.tier_s == 10))
    assert finest.series.tolist() == list(range(count))
    assert finest.sum.tolist() == value.sum(axis=0).tolist()
    assert (finest.min.tolist(), finest.max.tolist()) == (value.min(axis=0).tolist(), value.max(axis=0).tolist())
    assert (finest.first.tolist(), finest.last.tolist()) == (value[0].tolist(), value[-1].tolist())


def test_samples_of_years_in_any_order_fold_to_their_definition() -> None:
    # More ten-second windows than can be sorted by radix, and the newest first.
    chance = random.Random(9)
    spread = [chance.randrange(NARROW + 5_000) for _ in range(200)] + [0, NARROW + 5_000]
    samples = [Sample(nth % 4, T0 + 10 * number * NS, nth, nth) for nth, number in enumerate(spread)]
    workers = Workers(1)
    workers.run([*samples, *samples[::-1], "commit"])
    assert workers.shelf.folded() == reference([*samples, *samples])


def stream(seed: int, count: int, disorder_s: float) -> list[Sample]:
    """Samples at 4 Hz with some disorder and gaps, as devices send them."""
    chance = random.Random(seed)
    clock, samples = T0 - 300 * NS, []
    for seq in range(count):
        clock += int(chance.choice([0.25, 0.25, 0.25, 0.25, 7, 40]) * NS)
        if not seq % 97:
            clock += chance.choice([600, 4_000]) * NS
        ts = clock - int(chance.random() ** 4 * disorder_s * NS)
        samples.append(Sample(chance.randrange(len(KEYS)), ts, seq, chance.randrange(-(10**6), 10**6)))
    return samples


def test_a_long_stream_folds_to_its_definition() -> None:
    samples = stream(3, 20_000, 120)
    chance, at, steps = random.Random(4), 0, list[Step]()
    while at < len(samples):
        size = chance.randrange(1, 400)
        steps += [*samples[at : at + size], chance.choices(["batch", "commit", "restart"], weights=[2, 6, 1])[0]]
        at += size
    workers = Workers(1)
    workers.run(steps)
    assert workers.shelf.folded() == reference(samples)


def test_states_that_do_not_contain_each_other_never_share_a_key() -> None:
    # A later write of a key must stand for the samples that the earlier one stood for, and more.
    samples = stream(11, 6_000, 200)
    chance, workers, counted = random.Random(5), Workers(1), dict[tuple[int, int, SeriesKey, str, int], int]()
    for at in range(0, len(samples), 50):
        add(workers.windows[0], samples[at : at + 50])
        if chance.random() < 0.2:
            workers.restart(0)
        else:
            workers.commit(0)
        for place, row in workers.shelf.rows.items():
            assert row[0] >= counted.get(place, 0)
            counted[place] = row[0]
    for tier in TIERS_S:
        assert sum(row[0] for place, row in workers.shelf.rows.items() if place[0] == tier) == len(samples)


def test_rows_of_a_life_that_wrote_nothing_may_be_written_by_the_next() -> None:
    shelf, crashed, again = Shelf(), Windows("w", 2, KEYS), Windows("w", 2, KEYS)
    add(crashed, [Sample(0, T0, 0, 7)])
    crashed.take_rows(1)
    add(again, [Sample(0, T0, 0, 7), Sample(0, T0, 1, 8)])
    shelf.write(again.take_rows(1))
    assert shelf.folded()[10, T0, KEYS[0]][:2] == (2, 15)


def test_nothing_changed_means_no_rows() -> None:
    windows = Windows("w", 1, KEYS)
    assert len(windows.take_rows(0)) == 0
    for at, sample in enumerate(stream(1, 200, 300)):
        add(windows, [sample])
        assert len(windows.take_rows(2 * at)) >= len(TIERS_S)
        assert len(windows.take_rows(2 * at + 1)) == 0


def test_a_change_writes_its_window_in_every_tier_and_no_other() -> None:
    windows = Windows("w", 1, KEYS)
    add(windows, [Sample(series, T0 + 10 * nth * NS, nth, 1) for series in range(4) for nth in range(4)])
    windows.take_rows(1)
    add(windows, [Sample(2, T0 + 25 * NS, 9, 5)])
    rows = windows.take_rows(2)
    assert sorted(zip(rows.tier_s.tolist(), rows.window.tolist(), rows.series.tolist(), strict=True)) == [
        (10, T0 + 20 * NS, 2),
        (60, T0, 2),
        (900, T0, 2),
        (3600, T0, 2),
    ]
    assert rows.count.tolist() == [2, 5, 5, 5]


def test_all_tiers_are_complete_as_of_the_same_commit() -> None:
    windows, shelf, sent = Windows("w", 1, KEYS), Shelf(), list[Sample]()
    for nth, sample in enumerate(stream(8, 400, 30)):
        sent.append(sample)
        add(windows, [sample])
        if not nth % 20:
            shelf.write(windows.take_rows(nth))
            assert shelf.folded() == reference(sent)


def test_a_tie_in_time_and_sequence_is_broken_by_value_wherever_it_is_merged() -> None:
    twins = [Sample(0, T0, 0, value) for value in (3, 1, 2)]
    expected = reference(twins)
    assert expected[10, T0, KEYS[0]] == (3, 6, 1, 3, T0, 0, 1, T0, 0, 3, 0)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        for between in ("batch", "commit", "restart", "worker"):
            workers = Workers(3)
            workers.run([step for nth in order for step in (twins[nth], between)])
            assert workers.shelf.folded() == expected


def test_new_series_may_come_at_any_time() -> None:
    keys = KEYS[:1]
    windows, shelf = Windows("w", 1, keys), Shelf()
    add(windows, [Sample(0, T0, 0, 1)])
    keys += [SeriesKey("CNNGB-DEMO", "vehicle", f"T{nth:04}", "x_m") for nth in range(999)]
    add(windows, [Sample(series, T0 + NS, 1, series) for series in range(1_000)])
    shelf.write(windows.take_rows(1))
    folded = shelf.folded()
    assert len(folded) == 1_000 * len(TIERS_S)
    assert folded[3600, T0, keys[0]][:2] == (2, 1)
    assert folded[3600, T0, keys[999]][:2] == (1, 999)


def test_series_of_which_nothing_comes_take_no_cells() -> None:
    keys = KEYS[:1]
    windows = Windows("w", 1, keys)
    add(windows, [Sample(0, 0, 0, 1)])
    windows.settle()
    tracemalloc.start()
    try:
        # Such as those of what detectors find, whose rows are made elsewhere.
        keys += [SeriesKey("CNNGB-DEMO", "vehicle", f"YT{nth}", "ignition_off_s") for nth in range(10_000)]
        add(windows, [Sample(0, NS, 1, 2)])
        windows.settle()
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_the_largest_values_of_a_day_do_not_overflow() -> None:
    windows, shelf = Windows("w", 1, KEYS), Shelf()
    for chunk in range(0, 86_400, 8_640):
        count = 8_640 * 2
        ts = T0 + (chunk * 2 + np.arange(count, dtype=np.int64)) * (NS // 2)
        ones = np.ones(count, np.int64)
        windows.add(ones * 0, ts, ones, ones * MAX_SCALED, np.zeros(count, np.bool_))
        shelf.write(windows.take_rows(chunk))
    rows = shelf.folded()
    hours = [row for (tier, _, _), row in rows.items() if tier == 3600]
    assert len(hours) == 24
    assert {(row[0], row[1]) for row in hours} == {(7_200, 7_200 * MAX_SCALED)}


@settings(max_examples=60)
@given(st.lists(samples_of, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_folding_rows_of_any_order_and_any_grouping_is_the_same(samples: list[Sample], chance: random.Random) -> None:
    workers = Workers(3)
    workers.run([step for sample in samples for step in (sample, "commit", chance.choice(["worker", "restart"]))])
    places = list(workers.shelf.rows)
    finest = [place for place in places if place[0] == 10]
    keys = sorted(KEYS)

    def rows_of(some: list[tuple[int, int, SeriesKey, str, int]]) -> WindowRows:
        lines = [(tier, at, keys.index(key), epoch, *workers.shelf.rows[tier, at, key, worker, epoch])
                 for tier, at, key, worker, epoch in some]  # fmt: skip
        return WindowRows(keys, "", *np.array(lines, np.int64).reshape(-1, len(WindowRows.columns())).T)

    hour = 3_600 * NS
    whole = fold(rows_of(finest), hour)
    chance.shuffle(finest)
    half = len(finest) // 2
    parts = [fold(rows_of(part), None) for part in (finest[:half], finest[half:]) if part]
    again = fold(WindowRows.concatenate(parts), hour)
    assert all(np.array_equal(getattr(whole, name), getattr(again, name)) for name in WindowRows.columns())
    assert {(hour_of[1], hour_of[2]): row for hour_of, row in reference(samples).items() if hour_of[0] == 3600} == {
        (line[1], keys[line[2]]): line[4:]
        for line in zip(*(getattr(whole, name).tolist() for name in WindowRows.columns()), strict=True)
    }

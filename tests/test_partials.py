"""Merging partial aggregates: any of them, any number of times for one place, in any order and any grouping."""

import random
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_frames import seeds

from analytics.partials import NEUTRAL, Aggregates, Partials, join, merge
from devices.columns import Ints
from devices.times import NS
from devices.vocabulary import MAX_SCALED, METRICS, SCALE

WIDTH = 10 * NS
Sample = tuple[int, int, int, int, int]

samples_of = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 4) | st.integers(WIDTH - 1, WIDTH + 1),
        st.integers(0, 2) | st.sampled_from([2**63 - 1]),
        st.integers(-2, 2) | st.sampled_from([MAX_SCALED, -MAX_SCALED]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)


def partials_of(samples: list[Sample]) -> Partials:
    series, ts, seq, value, late = np.array(samples, np.int64).reshape(-1, 5).T
    return Partials.of_samples(series, ts, seq, value, late, WIDTH)


def by_definition(samples: list[Sample]) -> dict[tuple[int, int], tuple[int, ...]]:
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for place in {(series, ts // WIDTH * WIDTH) for series, ts, *_ in samples}:
        group = [each for each in samples if (each[0], each[1] // WIDTH * WIDTH) == place]
        ordered, numbers = sorted(each[1:4] for each in group), [each[3] for each in group]
        extremes = (min(numbers), max(numbers), *ordered[0], *ordered[-1])
        found[place] = (len(group), sum(numbers), *extremes, sum(each[4] for each in group))
    return found


def as_table(partials: Partials) -> dict[tuple[int, int], tuple[int, ...]]:
    columns = [getattr(partials, name).tolist() for name in ("series", "window", *NEUTRAL)]
    rows = list(zip(*columns, strict=True))
    table = {(row[0], row[1]): row[2:] for row in rows}
    assert len(table) == len(rows)
    return table


@given(samples_of)
def test_samples_fold_to_the_definition_of_each_aggregate(samples: list[Sample]) -> None:
    folded = partials_of(samples).folded(WIDTH)
    assert as_table(folded) == by_definition(samples)
    places = list(zip(folded.series.tolist(), folded.window.tolist(), strict=True))
    assert places == sorted(places)


@given(samples_of, seeds)
def test_merging_is_associative_and_commutative_to_the_bit(samples: list[Sample], chance: random.Random) -> None:
    chance.shuffle(samples)
    cuts = sorted({0, len(samples), *(chance.randrange(len(samples)) for _ in range(4))})
    parts = [partials_of(samples[begin:end]) for begin, end in pairwise(cuts)]
    parts = [part.folded(WIDTH) if chance.random() < 0.5 else part for part in parts]
    chance.shuffle(parts)
    assert as_table(Partials.concatenate(parts).folded(WIDTH)) == by_definition(samples)


@given(samples_of, samples_of)
def test_merging_into_what_is_held_equals_folding_both(held: list[Sample], offered: list[Sample]) -> None:
    total = partials_of(held).folded(WIDTH)
    place = {key: at for at, key in enumerate(zip(total.series.tolist(), total.window.tolist(), strict=True))}
    known = [each for each in offered if (each[0], each[1] // WIDTH * WIDTH) in place]
    if known:
        at = np.array([place[each[0], each[1] // WIDTH * WIDTH] for each in known], np.int64)
        merge(total, at, partials_of(known))
    assert as_table(total) == by_definition(held + known)


@given(samples_of, samples_of)
def test_joining_one_for_each_place_equals_folding_both(held: list[Sample], offered: list[Sample]) -> None:
    total, more = partials_of(held).folded(WIDTH), partials_of(offered).folded(WIDTH)
    place = {key: at for at, key in enumerate(zip(total.series.tolist(), total.window.tolist(), strict=True))}
    there = [key in place for key in zip(more.series.tolist(), more.window.tolist(), strict=True)]
    # What nobody holds yet joins a place that has no count, whatever else stands there.
    fresh = more.take(~np.array(there))
    whole = Partials.concatenate([total, Partials(fresh.series, fresh.window, [fresh.series * 0] * len(NEUTRAL))])
    place |= {
        key: len(total) + at for at, key in enumerate(zip(fresh.series.tolist(), fresh.window.tolist(), strict=True))
    }
    at = np.array([place[key] for key in zip(more.series.tolist(), more.window.tolist(), strict=True)], np.int64)
    join(whole, at, more)
    assert as_table(whole) == by_definition(held + offered)


def test_nothing_merged_changes_nothing_and_nothing_folds_to_nothing() -> None:
    none = Partials.neutral(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(none.folded(WIDTH)) == 0
    total = partials_of([(0, 1, 2, 3, 1)])
    total = total.take(np.array([0]))
    merge(total, np.empty(0, np.int64), none)
    merge(total, np.array([0]), Partials.neutral(np.array([0]), np.array([0])))
    assert as_table(total) == by_definition([(0, 1, 2, 3, 1)])


def ints(*values: int) -> Ints:
    return np.array(values, np.int64)


def test_as_many_of_the_largest_values_as_a_day_can_hold_do_not_overflow() -> None:
    # docs/decisions/0005: a day at 1,000 samples a second, each at the end of the widest range there may be.
    assert (
        max(max(abs(metric.minimum), abs(metric.maximum)) * scale for metric, scale in zip(METRICS, SCALE, strict=True))
        <= MAX_SCALED
    )
    most = 2**27 - 1
    assert most > 86_400 * 1_000
    for value in (MAX_SCALED, -MAX_SCALED):
        total = Partials.neutral(ints(0), ints(0))
        # Not one by one but in lots of doubling size, whose counts are the binary digits of the greatest number.
        for digit in range(27):
            count = 2**digit
            aggregates = (count, count * value, value, value, 0, 0, value, 1, 0, value, 0)
            merge(total, ints(0), Partials(ints(0), ints(0), [ints(each) for each in aggregates]))
        assert total.count.tolist() == [most]
        assert total.sum.tolist() == [most * value]


def test_one_lot_beyond_the_bound_would_overflow_so_the_bound_is_not_idle() -> None:
    total: Aggregates = Partials.neutral(ints(0), ints(0))
    for _ in range(2):
        aggregates = (2**26, 2**26 * MAX_SCALED, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        merge(total, ints(0), Partials(ints(0), ints(0), [ints(each) for each in aggregates]))
    assert total.sum.tolist() == [-(2**63)]
    assert 2**27 * MAX_SCALED == 2**63

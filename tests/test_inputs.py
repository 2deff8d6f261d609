"""What detectors are shown, and in which order, however it came."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import seeds

from analytics.detectors.cranes import LOAD, LOCKED, TROLLEY
from devices.columns import Columns
from devices.vocabulary import SCALE
from ingest.blocks import Float32s, Stack
from ingest.inputs import PACE, Waiting, in_order, shown

METRICS = (LOCKED, TROLLEY, LOAD)

samples = st.lists(st.tuples(*(st.integers(0, most) for most in (3, 4, 9, 2, 5))), max_size=40)


def columns(rows: list[tuple[int, ...]]) -> Columns:
    return Columns(*np.array(rows, np.int64).reshape(-1, 5).T)


def rows_of(found: Columns) -> list[tuple[int, ...]]:
    arrays = (found.device, found.metric, found.ts, found.seq, found.value)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


def stack_of(values: Float32s, t0: list[int], dt: int) -> Stack:
    """Blocks (blocks, rows, series) one behind another."""
    blocks, rows, series = values.shape
    behind = values.reshape(-1, series)
    of_each = np.zeros((blocks, series), np.int64), np.array(t0), np.full(blocks, dt), np.full(blocks, rows)
    return Stack(np.arange(blocks), *of_each, behind)


def place(row: tuple[int, ...]) -> tuple[int, ...]:
    device, metric, ts, seq, value = row
    return device, ts, seq, metric, value


@given(samples)
def test_inputs_come_in_the_order_of_device_time_sequence_metric_and_value(rows: list[tuple[int, ...]]) -> None:
    assert rows_of(in_order(columns(rows))) == sorted(rows, key=place)
    ordered = sorted(rows, key=place)
    assert rows_of(in_order(columns(ordered))) == ordered


@given(samples, st.lists(st.lists(st.integers(-1, 9), min_size=4, max_size=4), max_size=4), seeds)
def test_what_waits_is_given_once_as_soon_as_the_mark_of_its_device_has_passed(
    rows: list[tuple[int, ...]], marks: list[list[int]], chance: random.Random
) -> None:
    waiting, rest = Waiting(), list(rows)
    while rest:
        size = chance.randrange(1, len(rest) + 1)
        waiting.add(columns(rest[:size]))
        rest = rest[size:]
    left = list(rows)
    for mark in marks:
        due = [row for row in left if row[2] <= mark[row[0]]]
        left = [row for row in left if row[2] > mark[row[0]]]
        assert rows_of(waiting.take(np.array(mark, np.int64))) == sorted(due, key=place)
        assert sorted(rows_of(waiting.all())) == sorted(left)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-90, 90), st.integers(0, 60)), min_size=1, max_size=60),
    st.sampled_from([1, 10_000_000, 90_000_000, PACE, 3 * PACE]),
)
def test_of_a_block_detectors_see_a_steady_pace_every_change_of_state_and_the_peaks_of_the_load(
    instants: list[tuple[bool, int, int]], dt: int
) -> None:
    values = np.array([instants], np.float32)
    stack = stack_of(values, [1_000], dt)
    found = shown(stack, np.ones((1, 3), np.bool_), np.array([7]), np.array([METRICS]), np.array([5]))
    every = max(PACE // dt, 1)
    locks = [lock for lock, _, _ in instants]
    turns = {at for at in range(1, len(locks)) if locks[at] != locks[at - 1]}
    rows = sorted({0, len(instants) - 1, *range(0, len(instants), every)} | turns | {at - 1 for at in turns})
    before = {row: earlier for earlier, row in pairwise(rows)}
    wanted = set()
    for row in rows:
        lock, trolley, _ = instants[row]
        load = max(load for _, _, load in instants[before.get(row, -1) + 1 : row + 1])
        for metric, value in ((LOCKED, lock), (TROLLEY, trolley), (LOAD, load)):
            wanted.add((7, metric, 1_000 + row * dt, 5, round(value * SCALE[metric])))
    assert set(rows_of(found)) == wanted
    assert len(found) == len(wanted)


@pytest.mark.parametrize("wanted", [[True, False, False], [False, False, True], [False, True, True]])
def test_of_several_blocks_only_the_wanted_columns_are_shown(wanted: list[bool]) -> None:
    values = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    stack = stack_of(values, [0, 10], PACE)
    which = np.array([[True] * 3, wanted])
    metric = np.array([METRICS, METRICS])
    found = rows_of(shown(stack, which, np.array([3, 4]), metric, np.array([8, 9])))
    both = {(3, METRICS[each], row * PACE, 8) for row in range(3) for each in range(3)}
    both |= {(4, METRICS[each], 10 + row * PACE, 9) for row in range(3) for each in range(3) if wanted[each]}
    assert {row[:4] for row in found} == both
    assert len(found) == len(both)

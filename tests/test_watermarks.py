"""Watermarks: they never go back, no neighbour moves them, and the dead hold nothing up."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.watermarks import Lateness, Watermarks
from devices.times import NS

DEVICES = 3
T0 = 1_795_420_800 * NS
WINDOW = 10 * NS
LATENESS = Lateness(allowed_ns=2 * NS, idle_ns=10 * NS)

Heard = tuple[int, int, int]
"""Device, event time and receive time, ns."""
heard = st.tuples(st.integers(0, DEVICES - 1), st.integers(-60, 60), st.integers(0, 60)).map(
    lambda drawn: (drawn[0], T0 + drawn[1] * NS, T0 + drawn[2] * NS)
)
steps = st.lists(heard | st.integers(0, 200).map(lambda now: T0 + now * NS), max_size=60)


def watermarks() -> Watermarks:
    marks = Watermarks(LATENESS)
    marks.grow(DEVICES)
    return marks


def hear(marks: Watermarks, frames: list[Heard]) -> list[bool]:
    device, ts, received = np.array(frames, np.int64).reshape(-1, 3).T
    return [bool(late) for late in marks.hear(device, ts, received, ts - ts % WINDOW + WINDOW)]


def late_one_by_one(frames: list[Heard]) -> list[bool]:
    """What lateness means, frame by frame."""
    newest: dict[int, int] = {}
    late = []
    for device, ts, _ in frames:
        mark = newest.get(device, -1) - LATENESS.allowed_ns
        late.append(mark >= ts - ts % WINDOW + WINDOW)
        newest[device] = max(newest.get(device, -1), ts)
    return late


@given(steps)
def test_watermark_never_goes_back(taken: list[Heard | int]) -> None:
    marks = watermarks()
    for step in taken:
        before = marks.mark.copy()
        if isinstance(step, tuple):
            hear(marks, [step])
        else:
            marks.tick(step)
        assert (marks.mark >= before).all()


@given(steps)
def test_watermark_is_not_moved_by_a_neighbour(taken: list[Heard | int]) -> None:
    together = watermarks()
    alone = [watermarks() for _ in range(DEVICES)]
    for step in taken:
        if isinstance(step, tuple):
            hear(together, [step])
            hear(alone[step[0]], [step])
        else:
            together.tick(step)
            for marks in alone:
                marks.tick(step)
    assert [int(together.mark[device]) for device in range(DEVICES)] == [
        int(marks.mark[device]) for device, marks in enumerate(alone)
    ]


@given(st.lists(heard, max_size=60))
def test_watermark_trails_the_greatest_event_time(frames: list[Heard]) -> None:
    marks = watermarks()
    hear(marks, frames)
    for device in range(DEVICES):
        times = [ts for index, ts, _ in frames if index == device]
        assert marks.newest[device] == max(times, default=-1)
        assert marks.mark[device] == (max(times) - LATENESS.allowed_ns if times else -1)


@given(st.lists(heard, max_size=60), st.lists(st.integers(0, 60)))
def test_lateness_does_not_depend_on_how_frames_are_cut_into_batches(frames: list[Heard], cuts: list[int]) -> None:
    marks, found = watermarks(), []
    edges = [0, *sorted(cuts), 60]
    for begin, end in itertools.pairwise(edges):
        found += hear(marks, frames[begin:end])
    assert found == late_one_by_one(frames)


def test_a_silent_device_moves_on_with_the_clock() -> None:
    marks = watermarks()
    hear(marks, [(0, T0, T0 + NS), (1, T0, T0 + NS)])
    marks.tick(T0 + 11 * NS)
    assert marks.mark[0] == T0 - 2 * NS
    hear(marks, [(1, T0 + 5 * NS, T0 + 11 * NS)])
    marks.tick(T0 + 12 * NS)
    assert marks.mark[0] == T0 - 2 * NS + 11 * NS
    assert marks.mark[1] == T0 + 3 * NS
    # It goes on from there when the device speaks again, and does not jump back.
    hear(marks, [(0, T0 + NS, T0 + 13 * NS)])
    assert marks.mark[0] == T0 + 9 * NS


def test_a_device_that_nobody_listened_to_is_not_silent() -> None:
    marks = watermarks()
    hear(marks, [(0, T0, T0)])
    marks.tick(T0 + 60 * NS, T0 + 55 * NS)
    assert marks.mark[0] == T0 - 2 * NS
    # What it sent meanwhile comes now.
    assert hear(marks, [(0, T0 + 20 * NS, T0 + 61 * NS)]) == [False]
    marks.tick(T0 + 80 * NS, T0 + 55 * NS)
    assert marks.mark[0] == T0 + 37 * NS


def test_a_clock_that_goes_back_moves_nothing() -> None:
    marks = watermarks()
    hear(marks, [(0, T0, T0)])
    marks.tick(T0 - 3_600 * NS)
    assert marks.mark[0] == T0 - 2 * NS


def test_what_was_never_heard_stays_unknown() -> None:
    marks = watermarks()
    marks.tick(T0)
    assert set(marks.mark.tolist()) == {-1}


def test_growing_keeps_what_is_known() -> None:
    marks = watermarks()
    hear(marks, [(2, T0, T0)])
    for devices in (1, 64, 65, 1_000):
        marks.grow(devices)
        assert len(marks.mark) >= devices
        assert marks.mark[2] == T0 - 2 * NS
        assert (np.delete(marks.mark, 2) == -1).all()
    marks.restore(5_000, T0, T0, T0 + 7)
    assert (marks.newest[5_000], marks.heard[5_000], marks.mark[5_000]) == (T0, T0, T0 + 7)


@pytest.mark.parametrize(("allowed", "idle"), [(-1, 1), (0, 0), (0, -5)])
def test_negative_waits_are_refused(allowed: int, idle: int) -> None:
    with pytest.raises(ValueError, match=f"allowed_ns {allowed}.*idle_ns {idle}"):
        Lateness(allowed_ns=allowed, idle_ns=idle)

"""Layouts by length: a frame is offered until one takes it, few are remembered, and none that is known is sought."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from devices.columns import Bools, Ints
from ingest.layouts import FEW, LENGTHS, LONGEST, PER_LENGTH, Layouts


class Offered:
    """Frames whose first byte is their layout, 0 for none, and what becomes of them."""

    def __init__(self) -> None:
        self.sought = 0
        self.layouts = Layouts(self._found)

    def _found(self, frame: bytes) -> int | None:
        self.sought += 1
        return frame[0] or None

    def read(self, frames: list[bytes], offered: Bools | None = None) -> dict[int, int]:
        """Place → layout, of those that were taken."""
        taken: dict[int, int] = {}

        def take(layout: int, at: Ints, some: bytes) -> Bools:
            assert some == b"".join(frames[place] for place in at.tolist())
            assert len({len(frames[place]) for place in at.tolist()}) == 1
            fits = np.array([frames[place][0] == layout for place in at.tolist()])
            places = at[fits].tolist()
            assert not taken.keys() & set(places)
            taken.update(dict.fromkeys(places, layout))
            return fits

        self.layouts.read(frames, take, offered)
        return taken


FRAMES = st.lists(st.tuples(st.integers(0, PER_LENGTH), st.integers(1, 3)), max_size=80)


@given(FRAMES)
def test_a_frame_is_taken_by_its_own_layout_or_not_at_all(drawn: list[tuple[int, int]]) -> None:
    frames = [bytes([layout]) * size for layout, size in drawn]
    offered = Offered()
    for _ in range(3):
        taken = offered.read(frames)
        assert all(frames[place][0] == layout for place, layout in taken.items())


def test_frames_that_have_a_layout_are_all_taken_where_there_are_enough() -> None:
    frames = [bytes([1 + nth % PER_LENGTH]) * 5 for nth in range(PER_LENGTH * FEW)]
    offered = Offered()
    taken = offered.read(frames)
    assert len(taken) == len(frames)
    assert offered.sought == PER_LENGTH
    assert offered.read(frames) == taken
    assert offered.sought == PER_LENGTH


def test_fewer_than_are_worth_it_longer_ones_and_those_not_offered_are_left_alone() -> None:
    offered = Offered()
    few = [b"\1"] * (FEW - 1)
    long = [b"\1" * (LONGEST + 1)] * FEW
    assert offered.read(few + long) == {}
    mask = np.arange(2 * FEW) % 2 == 0
    assert set(offered.read([b"\1"] * 2 * FEW, mask)) == set(np.flatnonzero(mask).tolist())
    assert offered.read([b"\1"] * 2 * FEW, np.zeros(2 * FEW, np.bool_)) == {}
    assert offered.read([]) == {}


def test_where_none_of_those_remembered_fits_the_oldest_makes_room() -> None:
    offered = Offered()
    for layout in range(1, PER_LENGTH + 1):
        assert len(offered.read([bytes([layout])] * FEW)) == FEW
    newer = [bytes([PER_LENGTH + 1])] * FEW
    assert offered.read(newer) == {}
    assert len(offered.read(newer)) == FEW
    sought = offered.sought
    assert len(offered.read([b"\2"] * FEW)) == FEW
    assert offered.sought == sought
    # The first was given up, and is found again once the next has made room.
    assert offered.read([b"\1"] * FEW) == {}
    assert len(offered.read([b"\1"] * FEW)) == FEW


def test_a_frame_without_a_layout_costs_no_memory_and_is_sought_again() -> None:
    offered = Offered()
    for nth in range(3):
        assert offered.read([b"\0"] * FEW) == {}
        assert offered.sought == nth + 1


def test_no_more_lengths_are_remembered_than_there_is_room_for() -> None:
    offered = Offered()
    for size in range(1, LENGTHS + 1):
        offered.read([b"\1" * size] * FEW)
    assert offered.sought == LENGTHS
    offered.read([b"\1"] * FEW)
    assert offered.sought == LENGTHS
    offered.read([b"\1" * (LENGTHS + 1)] * FEW)
    offered.read([b"\1"] * FEW)
    assert offered.sought == LENGTHS + 2
    offered.layouts.forget()
    offered.read([b"\1"] * FEW)
    assert offered.sought == LENGTHS + 3

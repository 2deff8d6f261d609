"""Moves of cranes from lock, load and trolley: what is one, of which kind, and that order and batches do not matter."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import seeds

from analytics.detectors.cranes import CraneMoves, MoveRules
from analytics.events import PortEvent
from devices.columns import Columns
from devices.times import NS
from devices.vocabulary import INDEX, SCALE

T0 = 1_795_420_800 * NS
QUAY, YARD = 1, 2
SHIP, LAND = 32.0, -14.0

Instant = tuple[int, float, dict[str, float]]
"""Device, seconds after T0, and values of that instant."""


def detector() -> CraneMoves:
    return CraneMoves(MoveRules(), lambda device: device == QUAY)


def columns(instants: list[Instant], chance: random.Random | None = None) -> Columns:
    """Samples in (device, time) order; the metrics of an instant in the order given, or in any."""
    lines = []
    for device, second, body in sorted(instants, key=lambda instant: instant[:2]):
        names = list(body)
        if chance:
            chance.shuffle(names)
        lines += [
            (device, INDEX[name], T0 + round(second * NS), round(second * 4), round(body[name] * SCALE[INDEX[name]]))
            for name in names
        ]
    return Columns(*np.array(lines, np.int64).reshape(-1, 5).T)


def moves_of(instants: list[Instant]) -> list[PortEvent]:
    return list(detector().push(columns(instants)))


def cycle(
    at: float, pick: float, put: float, *, load: float = 24.6, device: int = QUAY, lock: dict[str, float] | None = None
) -> list[Instant]:
    """A lift from trolley position ``pick`` to ``put``: lock after 10 s, unlock after 70 s."""
    return [
        (device, at, {"spreader_locked": 0, "load_t": 0.2, "trolley_position_m": pick}),
        (device, at + 10, {"spreader_locked": 1, "load_t": 0.3, "trolley_position_m": pick, **(lock or {})}),
        (device, at + 12, {"spreader_locked": 1, "load_t": load, "trolley_position_m": pick}),
        (device, at + 40, {"spreader_locked": 1, "load_t": load - 0.5, "trolley_position_m": (pick + put) / 2}),
        (device, at + 70, {"spreader_locked": 0, "load_t": 0.4, "trolley_position_m": put}),
        (device, at + 75, {"spreader_locked": 0, "load_t": 0.1, "trolley_position_m": put}),
    ]


@pytest.mark.parametrize(
    ("pick", "put", "kind"),
    [
        (SHIP, LAND, "discharge"),
        (LAND, SHIP, "load"),
        (SHIP, SHIP + 9, "shift"),
        (LAND, LAND - 3, "shift"),
        (5.001, 5.0, "discharge"),
        (5.0, 5.001, "load"),
    ],
)
def test_kind_is_told_by_the_side_of_the_quay_edge(pick: float, put: float, kind: str) -> None:
    (move,) = moves_of(cycle(0, pick, put, lock={"spreader_size_ft": 40}))
    assert move.type == "crane_move"
    assert move.data["kind"] == kind
    assert (move.start, move.ts) == (T0 + 10 * NS, T0 + 70 * NS)
    assert (move.data["load_t"], move.data["handling_s"], move.data["teu"]) == (24.6, 60, 2.0)
    # A shift stays on its side: an event, but no move of the figures.
    assert dict(move.samples) == ({} if kind == "shift" else {"moves": 1, "teu": 2.0, "cycle_s": 60})


@pytest.mark.parametrize(
    ("lock", "teu"),
    [
        ({"spreader_size_ft": 20}, 1.0),
        ({"spreader_size_ft": 40}, 2.0),
        ({"spreader_size_ft": 45}, 2.25),
        ({"spreader_size_ft": 20, "spreader_twin": 1}, 2.0),
        ({"spreader_size_ft": 20, "spreader_twin": 0}, 1.0),
        ({}, 0.0),
    ],
)
def test_teu_follow_from_size_and_twin(lock: dict[str, float], teu: float) -> None:
    (move,) = moves_of(cycle(0, SHIP, LAND, lock=lock))
    assert move.data["teu"] == move.samples["teu"] == teu
    assert move.samples["moves"] == 1


def test_a_lock_without_load_is_no_move() -> None:
    assert moves_of(cycle(0, SHIP, LAND, load=1.9)) == []
    assert len(moves_of(cycle(0, SHIP, LAND, load=2.0))) == 1


def test_an_empty_relock_after_a_move_is_no_move() -> None:
    events = moves_of(cycle(0, SHIP, LAND) + cycle(100, LAND, LAND, load=0.5) + cycle(200, SHIP, LAND))
    assert [event.ts for event in events] == [T0 + 70 * NS, T0 + 270 * NS]
    # From unlock to unlock of what was carried.
    assert [event.data["cycle_s"] for event in events] == [60, 200]


def test_a_pause_is_no_cycle() -> None:
    events = moves_of(cycle(0, SHIP, LAND) + cycle(3_600, SHIP, LAND) + cycle(7_201, SHIP, LAND))
    assert [event.samples.get("cycle_s") for event in events] == [60, 3_600, None]
    assert events[2].data["cycle_s"] == 3_601


@pytest.mark.parametrize(("put", "kind"), [(LAND, "discharge"), (SHIP, "load")])
def test_a_pick_that_was_not_seen_is_taken_to_have_crossed_the_edge(put: float, kind: str) -> None:
    (move,) = moves_of(cycle(0, SHIP, put)[2:])
    assert move.data["kind"] == kind
    assert move.start == T0 + 12 * NS


def test_an_unlock_that_was_first_heard_of_is_no_move() -> None:
    assert moves_of(cycle(0, SHIP, LAND)[4:]) == []


def test_a_yard_crane_makes_yard_moves() -> None:
    (move,) = moves_of(cycle(0, SHIP, LAND, device=YARD, lock={"spreader_size_ft": 20}))
    assert (move.type, dict(move.samples)) == ("yard_move", {"yard_moves": 1})
    assert move.data == {"load_t": 24.6, "handling_s": 60}


def test_the_load_of_the_last_lift_is_not_that_of_the_next() -> None:
    # The crane sets down 24.6 t, and locks and lifts nothing at once.
    between: list[Instant] = [(QUAY, 76, {"spreader_locked": 1}), (QUAY, 90, {"spreader_locked": 0})]
    assert len(moves_of(cycle(0, SHIP, LAND) + between)) == 1


def day(chance: random.Random) -> list[Instant]:
    """Lifts of two cranes, some empty, some without all values."""
    instants: list[Instant] = []
    for nth in range(8):
        for device in (QUAY, YARD):
            pick, put = chance.choice([SHIP, LAND]), chance.choice([SHIP, LAND, 5.0])
            load, size = chance.choice([0.5, 3.0, 30.0]), chance.choice([20, 40, 45])
            instants += cycle(nth * 100.0, pick, put, load=load, device=device, lock={"spreader_size_ft": size})
    return [each for each in instants if chance.random() > 0.1]


def told(events: list[PortEvent]) -> list[Any]:
    return [
        (event.type, event.device, event.ts, event.start, dict(event.data), dict(event.samples)) for event in events
    ]


@given(seeds)
def test_the_order_of_metrics_within_an_instant_does_not_matter(chance: random.Random) -> None:
    instants = day(chance)
    found = [told(list(detector().push(columns(instants, random.Random(seed))))) for seed in range(4)]
    assert found.count(found[0]) == 4


@given(seeds, st.lists(st.integers(0, 100), max_size=12))
def test_batches_may_be_cut_between_any_two_instants(chance: random.Random, cuts: list[int]) -> None:
    samples = columns(day(chance))
    whole = told(list(detector().push(samples)))
    crane, parts = detector(), []
    # By time, as watermarks release them; each batch holds both cranes.
    edges = [T0 - NS, *sorted(T0 + cut * 8 * NS + NS // 2 for cut in cuts), T0 + 10_000 * NS]
    for nth in range(len(edges) - 1):
        batch = samples.take((samples.ts > edges[nth]) & (samples.ts <= edges[nth + 1]))
        parts += told(list(crane.push(batch)))
    assert sorted(parts, key=str) == sorted(whole, key=str)


def test_a_device_does_not_see_its_neighbours_values() -> None:
    together = cycle(0, SHIP, LAND) + cycle(3, LAND, SHIP, device=YARD, load=12.0)
    events = {event.device: told([event]) for event in moves_of(together)}
    assert events[QUAY] == told(moves_of(cycle(0, SHIP, LAND)))
    assert events[YARD] == told(moves_of(cycle(3, LAND, SHIP, device=YARD, load=12.0)))


def test_no_samples_are_no_moves() -> None:
    assert list(detector().push(Columns.empty())) == []

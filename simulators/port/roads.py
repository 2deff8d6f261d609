"""The roads beyond the gate: a small graph of places and the quickest ways between them."""

import heapq
import math
from typing import Final, NamedTuple

from simulators.port.layout import Layout, Point
from simulators.profiles import Roads

GATE: Final = "gate"
PLACES: Final[dict[str, Point]] = {
    GATE: (0.0, 0.0),
    "ring": (60.0, 900.0),
    "logistics-park": (-2600.0, 1500.0),
    "empty-depot": (1900.0, 1300.0),
    "junction": (400.0, 4200.0),
    "bridge": (-2100.0, 4700.0),
    "city": (-5200.0, 5600.0),
    "inland": (6500.0, 7800.0),
}
"""Metres from the middle of the gate's outer road at a reach of 10 km: x along the quay, y inland."""
REACH_M: Final = 10_000.0
WAYS: Final[tuple[tuple[str, str, float], ...]] = (
    (GATE, "ring", 11.0),
    ("ring", "logistics-park", 14.0),
    ("ring", "empty-depot", 12.5),
    ("ring", "junction", 16.5),
    ("logistics-park", "bridge", 14.0),
    ("junction", "bridge", 20.0),
    ("bridge", "city", 18.0),
    ("junction", "inland", 22.0),
    ("empty-depot", "junction", 14.0),
)
"""Two places and the limit between them, m/s."""
HOMES: Final = ("logistics-park", "empty-depot", "city", "inland")


class Leg(NamedTuple):
    """The next corner of a way and the speed limit up to it, m/s."""

    corner: Point
    limit_mps: float


class RoadGraph:
    """Places in the port's local frame and the quickest way between any two."""

    def __init__(self, limits: Roads, layout: Layout) -> None:
        """Scale the map to the profile's reach and hang it to the middle of the gate's outer road."""
        scale = limits.reach_m / REACH_M
        x0, y0 = layout.length / 2, layout.outside_y
        self.places = {name: (x0 + scale * x, y0 + scale * y) for name, (x, y) in PLACES.items()}
        self._next: dict[str, list[tuple[str, float]]] = {name: [] for name in PLACES}
        for one, other, limit in WAYS:
            self._next[one].append((other, limit))
            self._next[other].append((one, limit))
        self._known: dict[tuple[str, str], tuple[Leg, ...]] = {}

    def way(self, start: str, goal: str) -> tuple[Leg, ...]:
        """Return the quickest way from ``start`` to ``goal``, which is its last corner; Dijkstra over travel time."""
        if (start, goal) not in self._known:
            self._known[start, goal] = self._search(start, goal)
        return self._known[start, goal]

    def _search(self, start: str, goal: str) -> tuple[Leg, ...]:
        best: dict[str, float] = {}
        front: list[tuple[float, str, tuple[Leg, ...]]] = [(0.0, start, ())]
        while front:
            spent, place, legs = heapq.heappop(front)
            if place in best:
                continue
            best[place] = spent
            if place == goal:
                return legs
            for other, limit in self._next[place]:
                duration = math.dist(self.places[place], self.places[other]) / limit
                heapq.heappush(front, (spent + duration, other, (*legs, Leg(self.places[other], limit))))
        raise ValueError(f"no way from {start} to {goal}")

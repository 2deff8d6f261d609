"""What stands in a yard block: stacks by bay and row, and from when each container may leave.

A container stays for a least time and a gamma-distributed one on top. Those that stand there when the port's time
begins have spent a part of their stay; their numbers are drawn only when asked for, so a full yard costs little.
"""

import heapq
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from numpy.random import Generator

from simulators.port.containers import Container, make_container
from simulators.profiles import Containers, Yard
from simulators.profiles import Stacks as Limits

HOUR_S: Final = 3600.0
SHAPE: Final = 2.0
"""Of the gamma distribution of stays: few leave at once, some stay very long."""
FLOWS: Final = ("import", "export")


class Place(NamedTuple):
    """A stack: bay along the block, row across it, both from 0."""

    bay: int
    row: int


@dataclass(slots=True, eq=False)
class Box:
    """A container that stands in a stack; ``container`` is None until its number is asked for."""

    flow: str
    size_ft: int
    since_s: float
    place: Place
    container: Container | None = field(default=None)


class Stacks:
    """The stacks of one block."""

    def __init__(self, random: Generator, yard: Yard, limits: Limits, mix: Containers, bays: int) -> None:
        """Fill the block to the profile's share, leaving one tier free for digging."""
        self._random = random
        self._limits = limits
        self._mix = mix
        self._tiers = yard.tiers
        self._rows = yard.rows
        self._bays = bays
        self._piles: list[list[list[Box]]] = [[[] for _ in range(yard.rows)] for _ in range(bays)]
        self._coming: dict[Place, int] = {}
        self._leaving: dict[tuple[str, int], list[tuple[float, int, Box]]] = {}
        self._count = 0
        self._fill()

    def __len__(self) -> int:
        """Return how many containers stand in the block."""
        return sum(len(pile) for bay in self._piles for pile in bay)

    def height(self, place: Place) -> int:
        """Return how many containers stand in a stack."""
        return len(self._piles[place.bay][place.row])

    def reserve(self) -> Place | None:
        """Return a stack with room for one more, kept free until :meth:`put`; None where the block is full."""
        for _ in range(4):
            bay = int(self._random.integers(self._bays))
            place = min((Place(bay, row) for row in range(self._rows)), key=self._expected)
            if self._expected(place) < self._tiers:
                self._coming[place] = self._coming.get(place, 0) + 1
                return place
        return None

    def release(self, place: Place) -> None:
        """Give a reserved stack back."""
        self._coming[place] -= 1

    def put(self, place: Place, container: Container, flow: str, now: float) -> None:
        """Set a container down in a stack that was reserved for it."""
        self.release(place)
        self._enter(Box(flow, container.size_ft, now, place, container), now + self._stay_s(flow))

    def claim(self, flow: str, now: float, size_ft: int | None = None) -> Box | None:
        """Return the container that has been free to leave for longest, or None; nobody else gets it."""
        sizes = (size_ft,) if size_ft is not None else (40, 20, 45)
        heaps = [heap for size in sizes if (heap := self._leaving.get((flow, size))) and heap[0][0] <= now]
        if not heaps:
            return None
        _, _, box = heapq.heappop(min(heaps))
        if box.container is None:
            box.container = make_container(self._random, self._mix, box.size_ft)
        return box

    def unclaim(self, box: Box) -> None:
        """Let a claimed container be claimed again."""
        self._offer(box, box.since_s)

    def above(self, box: Box) -> list[Box]:
        """Return what stands on a container, from the top down."""
        pile = self._piles[box.place.bay][box.place.row]
        return pile[: pile.index(box) : -1]

    def move(self, box: Box) -> Place:
        """Move the top container of a stack to the lowest other stack of its bay; returns that."""
        beside = [Place(box.place.bay, row) for row in range(self._rows) if row != box.place.row]
        goal = min(beside, key=self.height, default=box.place)
        self._piles[box.place.bay][box.place.row].remove(box)
        box.place = goal
        self._piles[goal.bay][goal.row].append(box)
        return goal

    def remove(self, box: Box) -> None:
        """Take a container out of the block."""
        self._piles[box.place.bay][box.place.row].remove(box)

    def named(self, box: Box) -> Container:
        """Return a standing container with its number."""
        if box.container is None:
            box.container = make_container(self._random, self._mix, box.size_ft)
        return box.container

    def _expected(self, place: Place) -> int:
        return self.height(place) + self._coming.get(place, 0)

    def _stay_s(self, flow: str) -> float:
        mean, least = self._span_h(flow)
        return HOUR_S * (least + float(self._random.gamma(SHAPE, (mean - least) / SHAPE)))

    def _span_h(self, flow: str) -> tuple[float, float]:
        limits = self._limits
        return (
            (limits.import_dwell_h, limits.import_least_h)
            if flow == "import"
            else (limits.export_dwell_h, limits.export_least_h)
        )

    def _fill(self) -> None:
        random, mix = self._random, self._mix
        heights = random.binomial(self._tiers - 1, self._limits.fill, size=(self._bays, self._rows))
        total = int(heights.sum())
        flows = random.integers(len(FLOWS), size=total).tolist()
        draws = random.random(total).tolist()
        stays = random.gamma(SHAPE, 1 / SHAPE, size=total).tolist()
        spent = random.random(total).tolist()
        nth = 0
        for bay, rows in enumerate(heights.tolist()):
            for row, height in enumerate(rows):
                for _ in range(height):
                    flow = FLOWS[flows[nth]]
                    mean, least = self._span_h(flow)
                    stay = HOUR_S * (least + (mean - least) * stays[nth])
                    draw = draws[nth]
                    size = 20 if draw < mix.share_20ft else 40 if draw < mix.share_20ft + mix.share_40ft else 45
                    since = -spent[nth] * stay
                    self._enter(Box(flow, size, since, Place(bay, row)), since + stay)
                    nth += 1

    def _enter(self, box: Box, leaves_s: float) -> None:
        self._piles[box.place.bay][box.place.row].append(box)
        # A ship takes what is there: exports leave when it comes, imports when their stay is over.
        ready = leaves_s if box.flow == "import" else box.since_s
        self._offer(box, ready)

    def _offer(self, box: Box, ready: float) -> None:
        self._count += 1
        heapq.heappush(self._leaving.setdefault((box.flow, box.size_ft), []), (ready, self._count, box))

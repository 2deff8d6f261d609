"""Yard cranes: one per block, serving trucks in the order of their arrival.

The trolley position is 0 over the truck lane and positive over the stacks.
"""

from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.containers import Container
from simulators.port.cranes import Crane, Spot
from simulators.port.hindrances import Hindrances
from simulators.port.layout import BAY_M, STACK_ROW_M, TIER_M, Block, Point
from simulators.port.quay import CHASSIS_M
from simulators.port.stacks import Box, Place, Stacks
from simulators.port.vehicles import Truck
from simulators.profiles import Profile
from simulators.truth import Stay, TruthLog, YardMove

FIRST_BAY_M: Final = 10.0
"""From the beginning of a block to its first bay, m."""


@dataclass(frozen=True, slots=True)
class Request:
    """A truck at a bay of the block: ``stack`` takes its containers, ``deliver`` gives it some.

    ``places`` are the stacks reserved for what comes and ``boxes`` what has been claimed to go, one for each container;
    both are empty where the block keeps no account of its stacks.
    """

    kind: str
    truck: Truck
    containers: tuple[Container, ...]
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = ()
    flow: str = "import"


class YardCrane(Crane):
    """A yard crane and the requests of the trucks in its block."""

    def __init__(
        self,
        agenda: Agenda,
        number: int,
        random: Generator,
        profile: Profile,
        block: Block,
        hindrances: Hindrances,
    ) -> None:
        """Stand somewhere along the block."""
        limits = profile.yard
        self._clearance = CHASSIS_M + TIER_M * (limits.tiers + 1)
        rest = Spot(0.0, self._clearance)
        super().__init__(f"YC{number + 1:02d}", random, limits, random.uniform(block.x0 + 10, block.x1 - 10), rest)
        self.block = block
        self.requests: Store[Request] = Store(agenda)
        self.expected = 0
        """Trucks on their way to the block or waiting in it."""
        self.bays = int((block.x1 - block.x0 - 2 * FIRST_BAY_M) / BAY_M)
        self.stacks: Stacks | None = None
        if profile.stacks is not None:
            self.stacks = Stacks(random, limits, profile.stacks, profile.containers, self.bays)
        self._agenda = agenda
        self._tiers = limits.tiers
        self._hindrances = hindrances

    def bay(self) -> Point:
        """Draw a place on the truck lane, m."""
        return self.beside(int(self._random.integers(self.bays)))

    def beside(self, bay: int) -> Point:
        """Return the place on the truck lane beside a bay, m."""
        return self.block.x0 + FIRST_BAY_M + BAY_M * bay, self.block.lane_y

    def work(self, truth: TruthLog) -> Process:
        """Serve one request after another for ever."""
        while True:
            request = yield self.requests
            yield from self._hindrances.clear(self, truth)
            request.truck.mark_ready()
            yield from self._serve(request, truth)
            self.expected -= 1
            request.truck.turn.put(None)

    def _serve(self, request: Request, truth: TruthLog) -> Process:
        truck, stacking = request.truck, request.kind == "stack"
        remaining = list(request.containers)
        lane = Spot(0.0, CHASSIS_M + TIER_M)
        for nth, container in enumerate(request.containers):
            if request.boxes:
                yield from self._dig(request.boxes[nth], truth)
            pile = self._pile(request, nth)
            origin, goal = (lane, pile) if stacking else (pile, lane)
            now = self._agenda.now
            lock, unlock, free = self._lift(container, origin, goal, truck.track.place[0])
            remaining.remove(container)
            cargo = tuple(remaining) if stacking else (*truck.cargo, container)
            truck.set_cargo(lock if stacking else unlock, cargo)
            truth.add(self._move(request.kind, container, lock, unlock, truck.name))
            self._enter(request, nth, lock, unlock, truth)
            # The truck may go as soon as it is done with; the crane itself finishes its lift first.
            yield free - now

    def _dig(self, box: Box, truth: TruthLog) -> Process:
        """Move what stands on a container to other stacks of its bay."""
        if self.stacks is None:
            return
        for above in self.stacks.above(box):
            origin = self._top(above.place)
            goal = self._top(self.stacks.move(above))
            now = self._agenda.now
            container = self.stacks.named(above)
            lock, unlock, free = self._lift(container, origin, goal, self.beside(above.place.bay)[0])
            truth.add(self._move("shift", container, lock, unlock, ""))
            yield free - now

    def _lift(self, container: Container, origin: Spot, goal: Spot, x: float) -> tuple[float, float, float]:
        """Carry one container; returns when it locked, when it unlocked, and when the spreader is free (s)."""
        now = self._agenda.now
        self.prepare(now, (container,))
        there = self.drive(now, x)
        free = self.travel(max(now, there), self._clearance, origin, laden=False)
        lock, free = self.pick(free, origin, container.gross_t)
        unlock, free = self.put(self.travel(free, self._clearance, goal, laden=True), goal)
        return lock, unlock, free

    def _move(self, kind: str, container: Container, lock: float, unlock: float, truck: str) -> YardMove:
        return YardMove(self.name, lock, unlock, kind, container.gross_t, container.size_ft, (container.number,), truck)

    def _enter(self, request: Request, nth: int, lock: float, unlock: float, truth: TruthLog) -> None:
        """Keep the account of the stacks."""
        if self.stacks is None:
            return
        if request.places:
            self.stacks.put(request.places[nth], request.containers[nth], request.flow, unlock)
        elif request.boxes:
            box = request.boxes[nth]
            self.stacks.remove(box)
            truth.add(Stay(self.name, box.since_s, lock, request.containers[nth].number, box.flow))

    def _pile(self, request: Request, nth: int) -> Spot:
        """Return where a container is picked from, or the top of which it will be."""
        if self.stacks is not None and request.boxes:
            return self._top(request.boxes[nth].place)
        if self.stacks is not None and request.places:
            place = request.places[nth]
            return Spot(STACK_ROW_M * (place.row + 1), TIER_M * (self.stacks.height(place) + 1))
        row, tier = int(self._random.integers(self.block.rows)), int(self._random.integers(self._tiers))
        return Spot(STACK_ROW_M * (row + 1), TIER_M * (tier + 1))

    def _top(self, place: Place) -> Spot:
        height = self.stacks.height(place) if self.stacks is not None else 1
        return Spot(STACK_ROW_M * (place.row + 1), TIER_M * max(1, height))

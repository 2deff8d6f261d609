"""Yard cranes: one per block, serving trucks in the order of their arrival.

The trolley position is 0 over the truck lane and positive over the stacks.
"""

from dataclasses import dataclass

from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.containers import Container
from simulators.port.cranes import Crane, Spot
from simulators.port.layout import BAY_M, STACK_ROW_M, TIER_M, Block, Point
from simulators.port.quay import CHASSIS_M
from simulators.port.vehicles import Truck
from simulators.profiles import Yard
from simulators.truth import TruthLog, YardMove


@dataclass(frozen=True, slots=True)
class Request:
    """A truck at a bay of the block: ``stack`` takes its containers, ``deliver`` gives it some."""

    kind: str
    truck: Truck
    containers: tuple[Container, ...]


class YardCrane(Crane):
    """A yard crane and the requests of the trucks in its block."""

    def __init__(self, agenda: Agenda, number: int, random: Generator, limits: Yard, block: Block) -> None:
        """Stand somewhere along the block."""
        self._clearance = CHASSIS_M + TIER_M * (limits.tiers + 1)
        rest = Spot(0.0, self._clearance)
        super().__init__(f"YC{number + 1:02d}", random, limits, random.uniform(block.x0 + 10, block.x1 - 10), rest)
        self.block = block
        self.requests: Store[Request] = Store(agenda)
        self.expected = 0
        """Trucks on their way to the block or waiting in it."""
        self._agenda = agenda
        self._tiers = limits.tiers

    def bay(self) -> Point:
        """Draw a place on the truck lane, m."""
        bays = int((self.block.x1 - self.block.x0 - 20) / BAY_M)
        return self.block.x0 + 10 + BAY_M * int(self._random.integers(bays)), self.block.lane_y

    def work(self, truth: TruthLog) -> Process:
        """Serve one request after another for ever."""
        while True:
            request = yield self.requests
            yield from self._serve(request, truth)
            self.expected -= 1
            request.truck.turn.put(None)

    def _serve(self, request: Request, truth: TruthLog) -> Process:
        truck, stacking = request.truck, request.kind == "stack"
        remaining = list(request.containers)
        for container in request.containers:
            now = self._agenda.now
            self.prepare(now, (container,))
            lane = Spot(0.0, CHASSIS_M + TIER_M)
            pile = self._pile()
            origin, goal = (lane, pile) if stacking else (pile, lane)
            there = self.drive(now, truck.track.place[0])
            free = self.travel(max(now, there), self._clearance, origin, laden=False)
            lock, free = self.pick(free, origin, container.gross_t)
            unlock, free = self.put(self.travel(free, self._clearance, goal, laden=True), goal)
            remaining.remove(container)
            cargo = tuple(remaining) if stacking else (*truck.cargo, container)
            truck.set_cargo(lock if stacking else unlock, cargo)
            truth.add(
                YardMove(
                    self.name,
                    lock,
                    unlock,
                    request.kind,
                    container.gross_t,
                    container.size_ft,
                    (container.number,),
                    truck.name,
                )
            )
            # The truck may go as soon as it is done with; the crane itself finishes its lift first.
            yield free - now

    def _pile(self) -> Spot:
        row, tier = int(self._random.integers(self.block.rows)), int(self._random.integers(self._tiers))
        return Spot(STACK_ROW_M * (row + 1), TIER_M * (tier + 1))

"""The tours of trucks: tractors between quay and yard, and the visits of road trucks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.arrivals import UNBOOKED_PEAK, ArrivalTimes
from simulators.port.containers import Container, make_container
from simulators.port.gate import Gate
from simulators.port.layout import Layout, Point, keep_right
from simulators.port.quay import Order
from simulators.port.roads import GATE, RoadGraph
from simulators.port.stacks import Box, Place, Stacks
from simulators.port.vehicles import COLLECT, DELIVER, MOVING, QUEUING, Truck
from simulators.port.yard import Request, YardCrane
from simulators.profiles import Profile
from simulators.truth import TruthLog, Turn

LOOKED_AT: Final = 6
"""Blocks that are asked for a container before another one is taken in its place."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a truck does at a block: where it goes, what is lifted, and from or onto which stacks."""

    crane: YardCrane
    bay: Point
    containers: tuple[Container, ...]
    places: tuple[Place, ...] = ()
    boxes: tuple[Box, ...] = ()


class Tours:
    """What trucks do, one after another."""

    def __init__(
        self,
        agenda: Agenda,
        profile: Profile,
        layout: Layout,
        yard_cranes: list[YardCrane],
        gates: list[Gate],
        truth: TruthLog,
    ) -> None:
        """Trucks use every block and every lane."""
        self._agenda = agenda
        self._profile = profile
        self._layout = layout
        self._yard_cranes = yard_cranes
        lanes_in = len(layout.lanes_in)
        self._gates_in, self._gates_out = gates[:lanes_in], gates[lanes_in:]
        self._truth = truth
        self._roads = RoadGraph(profile.roads, layout) if profile.roads else None
        self._idle: Store[tuple[Truck, Generator]] = Store(agenda)
        self._arrivals: ArrivalTimes | None = None

    # Yard tractors

    def shuttle(self, truck: Truck, orders: "Store[Order]") -> Process:
        """Carry containers between quay cranes and the yard for ever."""
        truck.has_steps = True
        while True:
            crane, job = yield orders
            block = self._block_for(crane.place[0])
            truck.mark(MOVING + COLLECT)
            if job.kind == "load":
                yield from self._fetch(truck, self._export(block, job.containers))
            entrance = crane.line.slot(len(crane.line) + 1)
            truck.mark(MOVING + (DELIVER if job.kind == "load" else COLLECT))
            yield truck.drive(self._layout.lane_to_lane(truck.track.place, entrance))
            crane.line.join(truck)
            crane.ready[job.kind].put(truck)
            truck.mark(QUEUING + (DELIVER if job.kind == "load" else COLLECT))
            yield truck.turn
            if job.kind == "discharge":
                truck.mark(MOVING + DELIVER)
                errand = self._stacking(block, truck.cargo)
                yield truck.drive(self._layout.lane_to_lane(truck.track.place, errand.bay))
                truck.mark(QUEUING + DELIVER)
                yield from self._served(truck, "stack", errand, "import")
            truck.mark(0)

    def _fetch(self, truck: Truck, errand: Errand) -> Process:
        yield truck.drive(self._layout.lane_to_lane(truck.track.place, errand.bay))
        truck.mark(QUEUING + COLLECT)
        yield from self._served(truck, "deliver", errand, "export")

    @staticmethod
    def _served(truck: Truck, kind: str, errand: Errand, flow: str) -> Process:
        errand.crane.requests.put(Request(kind, truck, errand.containers, errand.places, errand.boxes, flow))
        yield truck.turn

    # Road trucks

    def visits(self, truck: Truck, random: Generator) -> Process:
        """Visit the port, leave and come back after a while, for ever."""
        while True:
            yield from self._visit(truck, random)
            yield random.uniform(*self._profile.trucks.away_s)
            truck.set_cargo(self._agenda.now, ())

    def wait_for_visits(self, truck: Truck, random: Generator) -> None:
        """Let a truck be called by :meth:`call_trucks`."""
        self._idle.put((truck, random))

    def call_trucks(self, arrivals: ArrivalTimes) -> Process:
        """Send idle trucks on visits at the times drawn; a visit waits where no truck is idle."""
        self._arrivals = arrivals
        while True:
            yield max(0.0, arrivals.next() - self._agenda.now)
            truck, random = yield self._idle
            self._agenda.start(self._called(truck, random))

    def _called(self, truck: Truck, random: Generator) -> Process:
        yield from self._visit(truck, random)
        truck.set_cargo(self._agenda.now, ())
        self._idle.put((truck, random))

    def _visit(self, truck: Truck, random: Generator) -> Process:
        """From home through the gate to one or two errands, and home again."""
        arrivals, layout = self._profile.arrivals, self._layout
        home = truck.track.place
        brings, fetches = _errands(random, 0.0 if arrivals is None else arrivals.double_share)
        if brings:
            truck.set_cargo(self._agenda.now, (make_container(random, self._profile.containers),))
        yield from self._drive_in(truck)
        entry = self._lane(self._gates_in)
        yield truck.drive(self._approach(truck, entry))
        entry.join(truck)
        yield truck.turn
        entered, moves = truck.opened_s, 0
        if random.random() < self._profile.trucks.depot_share:
            yield from self._visit_depot(truck, random, brings=brings)
        else:
            if brings:
                yield from self._visit_block(truck, random, brings=True)
            if fetches:
                yield from self._visit_block(truck, random, brings=False)
            moves = brings + fetches
        leave = self._lane(self._gates_out)
        yield truck.drive([(leave.lane.x, layout.plaza_y)])
        leave.join(truck)
        yield truck.turn
        self._truth.add(Turn(truck.name, entered, truck.opened_s, truck.plate, moves))
        yield from self._drive_home(truck, leave, home)

    def _drive_in(self, truck: Truck) -> Process:
        if self._roads is not None:
            legs = self._roads.way(truck.home, GATE)
            limits = [leg.limit_mps * self._flow() for leg in legs]
            yield truck.drive([leg.corner for leg in legs], limits=limits)

    def _drive_home(self, truck: Truck, leave: Gate, home: Point) -> Process:
        outside = self._layout.outside_y
        if self._roads is None:
            yield truck.drive([(leave.lane.x, outside), (home[0], outside), home])
            return
        yield truck.drive([(leave.lane.x, outside), self._roads.places[GATE]])
        legs = self._roads.way(GATE, truck.home)
        limits = [leg.limit_mps * self._flow() for leg in legs]
        yield truck.drive([*(leg.corner for leg in legs), home], limits=[*limits, limits[-1]])

    def _flow(self) -> float:
        """Return the share of the limits that traffic reaches now."""
        arrivals, roads = self._arrivals, self._profile.roads
        if arrivals is None or roads is None:
            return 1.0
        return 1.0 - roads.rush_slowdown * min(1.0, arrivals.factor(self._agenda.now) / UNBOOKED_PEAK)

    def _approach(self, truck: Truck, gate: Gate) -> list[Point]:
        x, _ = truck.track.place
        return [(x, self._layout.outside_y), (gate.lane.x, self._layout.outside_y)]

    def _lane(self, gates: list[Gate]) -> Gate:
        """Choose the lane with the shortest line among those that are open, or among all where none is."""
        now = self._agenda.now
        usable = [gate for gate in gates if gate.blocked_until(now) <= now] or gates
        lengths = [len(gate.line) for gate in usable]
        return usable[lengths.index(min(lengths))]

    def _visit_depot(self, truck: Truck, random: Generator, *, brings: bool) -> Process:
        """The empty depot's own machines send nothing in this version."""
        layout = self._layout
        depot_x = layout.depot[0] + float(random.uniform(-70, 70))
        gate_x, _ = truck.track.place
        way = keep_right([(gate_x, layout.plaza_y), (depot_x, layout.plaza_y)], layout.plaza_y)
        yield truck.drive([*way, (depot_x, layout.depot[1])])
        yield random.uniform(*self._profile.trucks.depot_s)
        cargo = () if brings else (make_container(random, self._profile.containers),)
        truck.set_cargo(self._agenda.now, cargo)
        out_x = layout.lanes_out[0].x
        yield truck.drive(keep_right([(depot_x, layout.plaza_y), (out_x, layout.plaza_y)], layout.plaza_y))

    def _visit_block(self, truck: Truck, random: Generator, *, brings: bool) -> Process:
        layout = self._layout
        gate_x, _ = truck.track.place
        block, road = self._block_for(gate_x), layout.plaza_y
        errand = self._stacking(block, truck.cargo) if brings else self._import(block, random)
        entry = [(gate_x, road), *layout.lane_entry(errand.bay, road)]
        yield truck.drive(keep_right(entry, road))
        yield from self._served(truck, "stack" if brings else "deliver", errand, "export" if brings else "import")
        exit_way = [*layout.lane_exit(truck.track.place, road), (layout.lanes_out[0].x, road)]
        yield truck.drive(keep_right(exit_way, road))

    # Where containers go and come from

    def _block_for(self, x: float) -> YardCrane:
        """Choose the block with the fewest trucks expected, the nearer one where two are equal."""
        fewest = min([crane.expected for crane in self._yard_cranes])
        free = [crane for crane in self._yard_cranes if crane.expected == fewest]
        crane = min(free, key=lambda one: (abs(one.block.middle_x - x), one.name)) if len(free) > 1 else free[0]
        crane.expected += 1
        return crane

    def _and_next_best(self, crane: YardCrane) -> Iterator[YardCrane]:
        """Yield a block, and after it those with the fewest trucks expected."""
        yield crane
        yield from sorted(self._yard_cranes, key=lambda one: (one.expected, one.name))[:LOOKED_AT]

    def _stacking(self, crane: YardCrane, containers: tuple[Container, ...]) -> Errand:
        """Find places for containers, in the crane's block or, where that is full, in another."""
        if crane.stacks is None:
            return Errand(crane, crane.bay(), containers)
        for other in self._and_next_best(crane):
            places = tuple(place for _ in containers if (place := _stacks(other).reserve()))
            if len(places) == len(containers):
                return Errand(self._moved(crane, other), other.beside(places[0].bay), containers, places)
            for place in places:
                _stacks(other).release(place)
        return Errand(crane, crane.bay(), containers)

    def _export(self, crane: YardCrane, wanted: tuple[Container, ...]) -> Errand:
        """Find exports of the sizes that a ship takes; what the block does not have comes from elsewhere."""
        if crane.stacks is None:
            return Errand(crane, crane.bay(), wanted)
        found = [crane.stacks.claim("export", self._agenda.now, container.size_ft) for container in wanted]
        boxes = tuple(box for box in found if box is not None)
        if len(boxes) < len(wanted):
            for box in boxes:
                crane.stacks.unclaim(box)
            return Errand(crane, crane.bay(), wanted)
        containers = tuple(_stacks(crane).named(box) for box in boxes)
        return Errand(crane, crane.beside(boxes[0].place.bay), containers, boxes=boxes)

    def _import(self, crane: YardCrane, random: Generator) -> Errand:
        """Find the import whose stay has been over for longest, in the crane's block or in one of the next."""
        if crane.stacks is not None:
            now = self._agenda.now
            for other in self._and_next_best(crane):
                box = _stacks(other).claim("import", now)
                if box is not None:
                    bay = other.beside(box.place.bay)
                    return Errand(self._moved(crane, other), bay, (_stacks(other).named(box),), boxes=(box,))
        return Errand(crane, crane.bay(), (make_container(random, self._profile.containers),))

    @staticmethod
    def _moved(planned: YardCrane, other: YardCrane) -> YardCrane:
        """Expect a truck at another block than was planned."""
        planned.expected -= 1
        other.expected += 1
        return other


def _errands(random: Generator, double_share: float) -> tuple[bool, bool]:
    """Draw whether a visit brings a container and whether it fetches one: at least one of the two."""
    if random.random() < double_share:
        return True, True
    brings = bool(random.integers(2))
    return brings, not brings


def _stacks(crane: YardCrane) -> Stacks:
    """Return the stacks of a block; every block has an account of them, or none has."""
    if crane.stacks is None:
        raise AssertionError(f"{crane.name} keeps no account of its stacks")
    return crane.stacks

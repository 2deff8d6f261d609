"""The port as a whole: everything that a profile asks for, and the tours of its trucks."""

from typing import Final

import numpy as np
from numpy.random import Generator

from simulators.port.agenda import Agenda, Process
from simulators.port.containers import make_container
from simulators.port.gate import Gate
from simulators.port.layout import Layout, keep_right
from simulators.port.quay import QuayCrane
from simulators.port.vehicles import Truck
from simulators.port.weather import Weather
from simulators.port.yard import Request, YardCrane
from simulators.profiles import Profile
from simulators.truth import Move, TruthLog

WARM_UP_S: Final = 900.0
"""Time after which cranes, lines and trucks have left their common start behind, s."""
LOOK_AHEAD_S: Final = 240.0
FIRST_LIFT_PART: Final = 0.4
"""How much of the first lift is over at the opening: the load hangs, but has not crossed the quay edge."""
PLATE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"


class Port:
    """A port in virtual time; two ports of one profile and one seed are the same to the last bit."""

    def __init__(self, profile: Profile, seed: int) -> None:
        """Build the port at time 0 with everything at rest; see :meth:`open`."""
        self.profile = profile
        self.layout = Layout(profile)
        self.agenda = Agenda()
        self.truth = TruthLog()
        # One stream of random numbers per part: more trucks must not change what a crane draws.
        quay, yard, gates, trucks, weather = (np.random.default_rng([seed, part]) for part in range(5))
        self.weather = Weather(weather, profile.park)
        self.quay_cranes = [
            QuayCrane(self.agenda, number, generator, profile, self.layout)
            for number, generator in enumerate(quay.spawn(profile.quay.cranes))
        ]
        self.yard_cranes = [
            YardCrane(self.agenda, number, generator, profile.yard, self.layout.blocks[number])
            for number, generator in enumerate(yard.spawn(profile.yard.cranes))
        ]
        lanes = (*self.layout.lanes_in, *self.layout.lanes_out)
        self.gates = [
            Gate(self.agenda, lane, generator, profile.gates)
            for lane, generator in zip(lanes, gates.spawn(len(lanes)), strict=True)
        ]
        self.yard_trucks = self._yard_trucks(trucks)
        self.external_trucks = self._external_trucks(trucks)
        self._start(trucks)

    def open(self) -> float:
        """Advance into the middle of operations and return that moment, in s of the port's time.

        It is chosen in the quickest lift in sight, so that who starts a port soon sees a move completed.
        """
        self.agenda.advance(WARM_UP_S)
        self.forget(WARM_UP_S)
        self.truth.take(WARM_UP_S)
        self.agenda.advance(WARM_UP_S + LOOK_AHEAD_S)
        lifts = [fact for fact in self.truth.peek() if isinstance(fact, Move) and fact.start_s > WARM_UP_S + 2]
        quickest = min(lifts, key=lambda lift: lift.end_s - lift.start_s, default=None)
        moment = WARM_UP_S
        if quickest:
            moment = float(int(quickest.start_s + FIRST_LIFT_PART * (quickest.end_s - quickest.start_s)))
        self.truth.take(moment)
        for gate in self.gates:
            while gate.reads and gate.reads[0].time < moment:
                gate.reads.popleft()
        return moment

    def advance(self, until: float) -> None:
        """Make everything up to ``until`` (s) final; it can then be sampled."""
        if until > self.agenda.now:
            self.agenda.advance(until)

    def forget(self, before: float) -> None:
        """Drop motions that lie before ``before`` (s), so that memory does not grow."""
        for crane in (*self.quay_cranes, *self.yard_cranes):
            crane.forget(before)
        for truck in (*self.yard_trucks, *self.external_trucks):
            truck.track.forget(before)
            truck.laden.forget(before)
        for gate in self.gates:
            gate.barrier.forget(before)
            gate.line.length.forget(before)

    def _yard_trucks(self, random: Generator) -> list[Truck]:
        limits = self.profile.trucks
        cranes = self.yard_cranes
        places = [cranes[number % len(cranes)].bay() if cranes else (0.0, 52.0) for number in range(limits.yard)]
        return [
            Truck(self.agenda, f"TT{number + 1:02d}", place, limits.yard_mps * random.uniform(0.9, 1.1), limits)
            for number, place in enumerate(places)
        ]

    def _external_trucks(self, random: Generator) -> list[Truck]:
        limits = self.profile.trucks
        trucks = []
        for number in range(limits.external):
            speed = limits.external_mps * random.uniform(0.85, 1.1)
            truck = Truck(self.agenda, f"XT{number + 1:03d}", self.layout.outside_place(number), speed, limits)
            letter = PLATE_LETTERS[int(random.integers(len(PLATE_LETTERS)))]
            truck.plate = f"浙B{letter}{int(random.integers(10_000)):04d}"
            truck.tag = f"E280{int(random.integers(1 << 40)):010X}{number:010X}"
            trucks.append(truck)
        return trucks

    def _start(self, random: Generator) -> None:
        start = self.agenda.start
        for crane in self.quay_cranes:
            start(crane.work(self.truth), random.uniform(0, 90))
        for yard_crane in self.yard_cranes:
            start(yard_crane.work(self.truth))
        for gate in self.gates:
            start(gate.work(self.truth))
        tours = random.spawn(len(self.yard_trucks) + len(self.external_trucks))
        for number, truck in enumerate(self.yard_trucks):
            if self.quay_cranes:
                start(self._shuttle(truck, self.quay_cranes[number % len(self.quay_cranes)]), random.uniform(0, 120))
        away = self.profile.trucks.away_s
        for truck, generator in zip(self.external_trucks, tours[len(self.yard_trucks) :], strict=True):
            start(self._visits(truck, generator), random.uniform(0, 1.5 * away[1]))

    def _block_for(self, x: float) -> YardCrane:
        """Choose the block with the fewest trucks expected, the nearer one where two are equal."""
        crane = min(
            self.yard_cranes, key=lambda one: (one.expected, abs((one.block.x0 + one.block.x1) / 2 - x), one.name)
        )
        crane.expected += 1
        return crane

    def _shuttle(self, truck: Truck, crane: QuayCrane) -> Process:
        """Carry containers between one quay crane and the yard for ever."""
        while True:
            order = yield crane.orders
            block = self._block_for(crane.place[0])
            if order.kind == "load":
                yield from self._to_block(truck, block)
                block.requests.put(Request("deliver", truck, order.containers))
                yield truck.turn
            entrance = crane.line.slot(len(crane.line) + 1)
            yield truck.drive(self.layout.lane_to_lane(truck.track.place, entrance))
            crane.line.join(truck)
            crane.ready[order.kind].put(truck)
            yield truck.turn
            if order.kind == "discharge":
                yield from self._to_block(truck, block)
                block.requests.put(Request("stack", truck, truck.cargo))
                yield truck.turn

    def _to_block(self, truck: Truck, block: YardCrane) -> Process:
        yield truck.drive(self.layout.lane_to_lane(truck.track.place, block.bay()))

    def _visits(self, truck: Truck, random: Generator) -> Process:
        """Visit the port, leave and come back, for ever."""
        limits, layout = self.profile.trucks, self.layout
        home = truck.track.place
        while True:
            brings = bool(random.integers(2))
            if brings:
                truck.set_cargo(self.agenda.now, (make_container(random, self.profile.containers),))
            entry = min(self.gates[: len(layout.lanes_in)], key=lambda gate: (len(gate.line), gate.lane.name))
            yield truck.drive(self._approach(truck, entry))
            entry.join(truck)
            yield truck.turn
            if random.random() < limits.depot_share:
                yield from self._visit_depot(truck, random, brings=brings)
            else:
                yield from self._visit_block(truck, random, brings=brings)
            leave = min(self.gates[len(layout.lanes_in) :], key=lambda gate: (len(gate.line), gate.lane.name))
            yield truck.drive([(leave.lane.x, layout.plaza_y)])
            leave.join(truck)
            yield truck.turn
            yield truck.drive([(leave.lane.x, layout.outside_y), (home[0], layout.outside_y), home])
            yield random.uniform(*limits.away_s)
            truck.set_cargo(self.agenda.now, ())

    def _approach(self, truck: Truck, gate: Gate) -> list[tuple[float, float]]:
        x, _ = truck.track.place
        return [(x, self.layout.outside_y), (gate.lane.x, self.layout.outside_y)]

    def _visit_depot(self, truck: Truck, random: Generator, *, brings: bool) -> Process:
        """The empty depot's own machines send nothing in this version."""
        layout = self.layout
        depot_x = layout.depot[0] + float(random.uniform(-70, 70))
        gate_x, _ = truck.track.place
        way = keep_right([(gate_x, layout.plaza_y), (depot_x, layout.plaza_y)], layout.plaza_y)
        yield truck.drive([*way, (depot_x, layout.depot[1])])
        yield random.uniform(*self.profile.trucks.depot_s)
        cargo = () if brings else (make_container(random, self.profile.containers),)
        truck.set_cargo(self.agenda.now, cargo)
        out_x = layout.lanes_out[0].x
        yield truck.drive(keep_right([(depot_x, layout.plaza_y), (out_x, layout.plaza_y)], layout.plaza_y))

    def _visit_block(self, truck: Truck, random: Generator, *, brings: bool) -> Process:
        layout = self.layout
        gate_x, _ = truck.track.place
        block = self._block_for(gate_x)
        road = layout.plaza_y
        entry = [(gate_x, road), *layout.lane_entry(block.bay(), road)]
        yield truck.drive(keep_right(entry, road))
        containers = truck.cargo if brings else (make_container(random, self.profile.containers),)
        block.requests.put(Request("stack" if brings else "deliver", truck, containers))
        yield truck.turn
        exit_way = [*layout.lane_exit(truck.track.place, road), (layout.lanes_out[0].x, road)]
        yield truck.drive(keep_right(exit_way, road))

"""The port as a whole: everything that a profile asks for, started and advanced together."""

from typing import Final

import numpy as np
from numpy.random import Generator

from simulators.port.agenda import WARM_UP_S, Agenda, Process
from simulators.port.arrivals import ArrivalTimes
from simulators.port.berths import Berth
from simulators.port.gate import Gate
from simulators.port.hindrances import Hindrances
from simulators.port.layout import Layout, Point
from simulators.port.park import DockDoor, Reefer
from simulators.port.quay import QuayCrane
from simulators.port.roads import HOMES, RoadGraph
from simulators.port.tours import Tours
from simulators.port.vehicles import Truck
from simulators.port.weather import Tide, Weather
from simulators.port.yard import YardCrane
from simulators.profiles import Profile
from simulators.truth import Move, TruthLog
from simulators.truth_figures import figures_of_the_hour

LOOK_AHEAD_S: Final = 240.0
FIRST_LIFT_PART: Final = 0.4
"""How much of the first lift is over at the opening: the load hangs, but has not crossed the quay edge."""
PLATE_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"
HOME_SPREAD_M: Final = 300.0
"""How far from its place on the map a road truck may be at home, m."""
HOUR_S: Final = 3600.0


class Port:
    """A port in virtual time; two ports of one profile and one seed are the same to the last bit."""

    def __init__(self, profile: Profile, seed: int) -> None:
        """Build the port at time 0 with everything at rest; see :meth:`open`."""
        self.profile = profile
        self.layout = Layout(profile)
        self.agenda = Agenda()
        self.truth = TruthLog()
        # One stream of random numbers per part: more trucks must not change what a crane draws.
        quay, yard, gates, trucks, weather, berths, park, hindrances, arrivals = (
            np.random.default_rng([seed, part]) for part in (0, 1, 2, 3, 4, 6, 7, 8, 9)
        )
        self.weather = Weather(weather, profile.park, profile.storm)
        self.tide = Tide(weather, profile.tide)
        self.hindrances = Hindrances(self.agenda, hindrances, profile, self.weather)
        self.quay_cranes = [
            QuayCrane(self.agenda, number, generator, profile, self.layout, self.truth, self.hindrances)
            for number, generator in enumerate(quay.spawn(profile.quay.cranes))
        ]
        self.yard_cranes = [
            YardCrane(self.agenda, number, generator, profile, self.layout.blocks[number], self.hindrances)
            for number, generator in enumerate(yard.spawn(profile.yard.cranes))
        ]
        lanes = (*self.layout.lanes_in, *self.layout.lanes_out)
        blocked = {lane.name: [one for one in profile.blocked_lanes if one.device == lane.name] for lane in lanes}
        self.gates = [
            Gate(self.agenda, lane, generator, profile.gates, self.truth, blocked[lane.name])
            for lane, generator in zip(lanes, gates.spawn(len(lanes)), strict=True)
        ]
        self.yard_trucks = self._yard_trucks(trucks)
        self.external_trucks = self._external_trucks(trucks)
        self.berths = self._berths(berths)
        self.doors = [
            DockDoor(self.agenda, number, generator, profile.park.door_gap_s)
            for number, generator in enumerate(park.spawn(profile.park.doors))
        ]
        self.reefers = [Reefer(number, park) for number in range(profile.park.reefers)]
        self.tours = Tours(self.agenda, profile, self.layout, self.yard_cranes, self.gates, self.truth)
        self._start(trucks, arrivals)

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
            gate.take_reads(moment)
        for crane in (*self.quay_cranes, *self.yard_cranes):
            crane.drop_alarms(moment)
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
            truck.step.forget(before)
        for gate in self.gates:
            gate.forget(before)
        for door in self.doors:
            door.open.forget(before)

    def _yard_trucks(self, random: Generator) -> list[Truck]:
        limits, agenda, truth = self.profile.trucks, self.agenda, self.truth
        cranes = self.yard_cranes
        places = [cranes[number % len(cranes)].bay() if cranes else (0.0, 52.0) for number in range(limits.yard)]
        return [
            Truck(agenda, f"TT{number + 1:02d}", place, limits.yard_mps * random.uniform(0.9, 1.1), limits, truth)
            for number, place in enumerate(places)
        ]

    def _external_trucks(self, random: Generator) -> list[Truck]:
        limits = self.profile.trucks
        roads = RoadGraph(self.profile.roads, self.layout) if self.profile.roads else None
        trucks = []
        for number in range(limits.external):
            speed = limits.external_mps * random.uniform(0.85, 1.1)
            home, place = self._home(number, random, roads)
            truck = Truck(self.agenda, f"XT{number + 1:03d}", place, speed, limits, self.truth)
            truck.home = home
            letter = PLATE_LETTERS[int(random.integers(len(PLATE_LETTERS)))]
            truck.plate = f"浙B{letter}{int(random.integers(10_000)):04d}"
            truck.tag = f"E280{int(random.integers(1 << 40)):010X}{number:010X}"
            trucks.append(truck)
        return trucks

    def _home(self, number: int, random: Generator, roads: RoadGraph | None) -> tuple[str, Point]:
        """Return where a road truck comes from: a place of the map, or the ground before the gate."""
        if roads is None:
            return "", self.layout.outside_place(number)
        home = HOMES[int(random.integers(len(HOMES)))]
        x, y = roads.places[home]
        return home, (x + random.uniform(-1, 1) * HOME_SPREAD_M, y + random.uniform(-1, 1) * HOME_SPREAD_M)

    def _berths(self, random: Generator) -> list[Berth]:
        """Divide the quay cranes among the berths, each a whole stretch of the quay."""
        calls = self.profile.calls
        if calls is None:
            return []
        edges = [round(number * len(self.quay_cranes) / calls.berths) for number in range(calls.berths + 1)]
        return [
            Berth(
                self.agenda,
                number,
                generator,
                self.profile,
                calls,
                self.quay_cranes[edges[number] : edges[number + 1]],
                self.tide,
            )
            for number, generator in enumerate(random.spawn(calls.berths))
        ]

    def _start(self, random: Generator, arrivals: Generator) -> None:
        start, profile = self.agenda.start, self.profile
        for crane in self.quay_cranes:
            start(crane.work(self.truth), random.uniform(0, 90))
        for yard_crane in self.yard_cranes:
            start(yard_crane.work(self.truth))
        others: tuple[Gate | Berth | DockDoor, ...] = (*self.gates, *self.berths, *self.doors)
        for part in others:
            start(part.work(self.truth))
        for gate in self.gates:
            start(gate.block(self.truth))
        start(self._figures())
        tours = random.spawn(len(self.yard_trucks) + len(self.external_trucks))
        for number, truck in enumerate(self.yard_trucks):
            if self.quay_cranes:
                crane = self.quay_cranes[number % len(self.quay_cranes)]
                start(self.tours.shuttle(truck, crane.orders), random.uniform(0, 120))
        for truck, generator in zip(self.external_trucks, tours[len(self.yard_trucks) :], strict=True):
            if profile.arrivals is None:
                start(self.tours.visits(truck, generator), random.uniform(0, 1.5 * profile.trucks.away_s[1]))
            else:
                self.tours.wait_for_visits(truck, generator)
        if profile.arrivals is not None:
            start(self.tours.call_trucks(ArrivalTimes(arrivals, profile.arrivals)))

    def _figures(self) -> Process:
        """Note the figures of each full hour of the port's time."""
        while True:
            yield HOUR_S
            end = self.agenda.now
            for fact in figures_of_the_hour(self.truth.hour, end - HOUR_S, end):
                self.truth.add(fact)
            self.truth.hour = [fact for fact in self.truth.hour if fact.end_s >= end]

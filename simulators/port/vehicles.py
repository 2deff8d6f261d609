"""Trucks, and the lines in which they wait."""

import math
from collections.abc import Sequence
from typing import Final

from simulators.port.agenda import Agenda, Store
from simulators.port.containers import Container
from simulators.port.layout import QUEUE_PITCH_M, Point
from simulators.port.motion import Steps, Track
from simulators.profiles import Trucks
from simulators.truth import STEPS, STOP_S, JobStep, Queue, Stop, Trip, TruthLog

INSIDE_MPS: Final = 9.5
"""Nobody drives faster inside the terminal and before its gate, m/s."""
REACTION_S: Final = 1.5
"""Time until a driver in a line follows the truck in front, s."""


MOVING, QUEUING, READY = 1, 2, 3
COLLECT, DELIVER = 0, 3
"""A step of a job is the one plus the other: ready to deliver is ``READY + DELIVER``."""


class Truck:
    """A yard tractor with its trailer, or a road truck."""

    def __init__(
        self, agenda: Agenda, name: str, place: Point, top_speed_mps: float, limits: Trucks, truth: TruthLog
    ) -> None:
        """Stand at ``place`` with an empty trailer."""
        self.name = name
        self.plate = ""
        self.tag = ""
        self.cargo: tuple[Container, ...] = ()
        self.laden = Steps()
        self.step = Steps()
        """Which of the six steps of a job the truck is at, as numbered in ``simulators.truth``; 0 is none."""
        self.has_steps = False
        self.turn: Store[None] = Store(agenda)
        """Gets an item each time a crane or a gate lane has finished with the truck."""
        self.opened_s = 0.0
        """When a gate last opened for the truck, s."""
        self.home = ""
        """Where a road truck comes from: a place of the roads."""
        self._agenda = agenda
        self._top_speed = top_speed_mps
        self._limits = limits
        self._truth = truth
        self._trip = (0.0, 0.0, 0.0)
        """Start (s), end (s) and length (m) of the present or last trip."""
        self._at_step = (0, 0.0)
        self.track = Track(*place, heading=math.pi / 2, odometer=0.0)

    def drive(
        self, path: list[Point], *, after: float = 0.0, reverse: bool = False, limits: Sequence[float] = ()
    ) -> float:
        """Drive along ``path``, ``after`` seconds from now or after the present drive; returns how long (s).

        ``limits`` are those of the road for each part of the path, m/s.
        """
        start = max(self._agenda.now + after, self.track.driven.free_at)
        able = self._limits
        speed = self._top_speed if limits else min(self._top_speed, INSIDE_MPS)
        speed = able.corner_mps if reverse else speed
        before, place = self.track.odometer, self.track.place
        arrival = self.track.drive(
            start, path, speed, able.acceleration_mps2, able.corner_mps, reverse=reverse, limits=limits
        )
        if self.track.odometer > before:
            self._note_drive(start, arrival, self.track.odometer - before, place)
        return max(0.0, arrival - self._agenda.now)

    def _note_drive(self, start: float, arrival: float, distance: float, place: Point) -> None:
        """Add a drive to the present trip, or end that and begin another."""
        begun, ended, length = self._trip
        if start - ended < STOP_S:
            self._trip = (begun, arrival, length + distance)
            return
        if length:
            self._truth.add(Trip(self.name, begun, ended, round(length, 1)))
        self._truth.add(Stop(self.name, ended, start, round(place[0], 1), round(place[1], 1)))
        self._trip = (start, arrival, distance)

    def mark(self, step: int) -> None:
        """Be at a step of a job from now on, 0 for none; for trucks that have jobs."""
        before, since = self._at_step
        if not self.has_steps or step == before:
            return
        now = self._agenda.now
        if before:
            self._truth.add(JobStep(self.name, since, now, STEPS[before]))
        self._at_step = (step, now)
        self.step.set(now, step)

    def mark_ready(self) -> None:
        """Be ready to collect or to deliver, whichever the truck has been queuing for."""
        step, _ = self._at_step
        if step:
            self.mark(READY + (step - 1) // 3 * 3)

    def set_cargo(self, time: float, cargo: tuple[Container, ...]) -> None:
        """Carry ``cargo`` from ``time`` (s)."""
        self.cargo = cargo
        self.laden.set(time, float(bool(cargo)))


class Line:
    """Trucks that wait one behind the other for a place: below a crane or at a barrier."""

    def __init__(self, agenda: Agenda, name: str, head: Point, back: Point, truth: TruthLog) -> None:
        """``name`` of the lane or crane; ``head``: the place waited for, m; ``back``: unit vector to the line's end."""
        self.name = name
        self.head = head
        self._truth = truth
        self._since: dict[str, float] = {}
        self.length = Steps()
        self._agenda = agenda
        self._back = back
        self._waiting: list[Truck] = []

    def __len__(self) -> int:
        """Return how many trucks wait, without the one that has been called."""
        return len(self._waiting)

    def slot(self, number: int) -> Point:
        """Return where the truck ``number`` of the line stands (0 is the first), m."""
        distance = QUEUE_PITCH_M * (number + 1)
        return self.head[0] + self._back[0] * distance, self.head[1] + self._back[1] * distance

    def join(self, truck: Truck) -> float:
        """Drive the truck to the end of the line; returns how long that takes (s)."""
        self._waiting.append(truck)
        self._since[truck.name] = self._agenda.now
        self.length.set(self._agenda.now, len(self._waiting))
        return truck.drive([self.slot(len(self._waiting) - 1)])

    def call(self, truck: Truck) -> float:
        """Drive ``truck`` to the head and let the others close up; returns how long until it stands there (s)."""
        self._waiting.remove(truck)
        self.length.set(self._agenda.now, len(self._waiting))
        self._truth.add(Queue(self.name, self._since.pop(truck.name), self._agenda.now, truck.name))
        duration = truck.drive([self.head])
        for number, other in enumerate(self._waiting):
            if other.track.place != self.slot(number):
                other.drive([self.slot(number)], after=REACTION_S * (number + 1))
        return duration

    def relocate(self, head: Point) -> None:
        """Move the place waited for; the trucks follow, backwards if need be."""
        forward = (head[0] - self.head[0]) * -self._back[0] + (head[1] - self.head[1]) * -self._back[1] >= 0
        self.head = head
        for number, truck in enumerate(self._waiting):
            truck.drive([self.slot(number)], after=REACTION_S, reverse=not forward)

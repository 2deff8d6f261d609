"""Trucks, and the lines in which they wait."""

import math
from typing import Final

from simulators.port.agenda import Agenda, Store
from simulators.port.containers import Container
from simulators.port.layout import QUEUE_PITCH_M, Point
from simulators.port.motion import Steps, Track
from simulators.profiles import Trucks

REACTION_S: Final = 1.5
"""Time until a driver in a line follows the truck in front, s."""


class Truck:
    """A yard tractor with its trailer, or a road truck."""

    def __init__(self, agenda: Agenda, name: str, place: Point, top_speed_mps: float, limits: Trucks) -> None:
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
        self._agenda = agenda
        self._top_speed = top_speed_mps
        self._limits = limits
        self.track = Track(*place, heading=math.pi / 2, odometer=0.0)

    def drive(self, path: list[Point], *, after: float = 0.0, reverse: bool = False) -> float:
        """Drive along ``path``, ``after`` seconds from now or after the present drive; returns how long (s)."""
        start = max(self._agenda.now + after, self.track.driven.free_at)
        limits = self._limits
        speed = limits.corner_mps if reverse else self._top_speed
        arrival = self.track.drive(start, path, speed, limits.acceleration_mps2, limits.corner_mps, reverse=reverse)
        return max(0.0, arrival - self._agenda.now)

    def set_cargo(self, time: float, cargo: tuple[Container, ...]) -> None:
        """Carry ``cargo`` from ``time`` (s)."""
        self.cargo = cargo
        self.laden.set(time, float(bool(cargo)))


class Line:
    """Trucks that wait one behind the other for a place: below a crane or at a barrier."""

    def __init__(self, agenda: Agenda, head: Point, back: Point) -> None:
        """``head``: the place waited for, m; ``back``: unit vector that points to the end of the line."""
        self.head = head
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
        self.length.set(self._agenda.now, len(self._waiting))
        return truck.drive([self.slot(len(self._waiting) - 1)])

    def call(self, truck: Truck) -> float:
        """Drive ``truck`` to the head and let the others close up; returns how long until it stands there (s)."""
        self._waiting.remove(truck)
        self.length.set(self._agenda.now, len(self._waiting))
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

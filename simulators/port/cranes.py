"""What quay cranes and yard cranes have in common: hoist, trolley, gantry, spreader and load cell."""

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from numpy.random import Generator

from simulators.port.containers import Container
from simulators.port.motion import Axis, Ramps, Steps
from simulators.profiles import Quay, Yard

FINAL_APPROACH_MPS: Final = 0.5
FINAL_APPROACH_M: Final = 2.5
"""The last metres are lowered slowly, at this speed from this height above the goal."""
ROPE_TAKE_UP_S: Final = 1.2
"""Time in which the ropes take up the load or give it off, s."""
GANTRY_ACCELERATION_MPS2: Final = 0.2
SWAY_S: Final = 45.0
"""Time after which a swing of the load has died away, s: so long are the trolley's motions kept."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a spreader can land: trolley position and height of the container's top, m."""

    trolley: float
    height: float


class AlarmChange(NamedTuple):
    """An alarm that a crane raises or clears at a time (s)."""

    time: float
    code: str
    active: bool


class Crane:
    """The axes of one crane and what its spreader does; every method commits a motion and returns when it is over."""

    def __init__(self, name: str, random: Generator, limits: Quay | Yard, gantry: float, rest: Spot) -> None:
        """Stand at ``gantry`` (m along x) with the empty spreader at ``rest``."""
        self.name = name
        self.hoist = Axis(rest.height, limits.ramp_s)
        self.trolley = Axis(rest.trolley, limits.ramp_s)
        self.gantry = Axis(gantry, limits.ramp_s)
        self.load = Ramps()
        self.locked = Steps()
        self.landed = Steps()
        self.size_ft = Steps(40)
        self.twin = Steps()
        self.alarms: deque[AlarmChange] = deque()
        """Alarms raised and cleared, now or for certain, that have not been sent."""
        self._random = random
        self._limits = limits

    def prepare(self, time: float, containers: tuple[Container, ...]) -> None:
        """Set the spreader to the length and number of the containers to be lifted."""
        self.size_ft.set(time, containers[0].size_ft)
        self.twin.set(time, float(len(containers) > 1))

    def travel(self, time: float, clearance: float, goal: Spot, *, laden: bool) -> float:
        """Hoist to ``clearance`` (m), cross, and lower to just above ``goal``; crossing overlaps both."""
        limits = self._limits
        speed = limits.hoist_laden_mps if laden else limits.hoist_empty_mps
        acceleration = limits.hoist_acceleration_mps2
        high = max(self.hoist.goal, clearance)
        up = self.hoist.move(time, high, speed, acceleration)
        start = max(time, up - 2.0)
        over = self.trolley.move(start, goal.trolley, limits.trolley_mps, limits.trolley_acceleration_mps2)
        lowering = max(up, start + 0.65 * (over - start))
        down = self.hoist.move(lowering, goal.height + FINAL_APPROACH_M, speed, acceleration)
        return max(over, down)

    def pick(self, time: float, spot: Spot, gross_t: float) -> tuple[float, float]:
        """Land, lock and take up the load; returns when it locked and when the load hangs (s)."""
        landed = self._land(time, spot)
        lock = landed + self._random.uniform(0.6, 1.4)
        self.locked.set(lock, 1)
        lift = lock + self._random.uniform(0.8, 1.5)
        self.load.ramp(lift, ROPE_TAKE_UP_S, gross_t)
        self.landed.set(lift + ROPE_TAKE_UP_S, 0)
        return lock, lift + ROPE_TAKE_UP_S

    def put(self, time: float, spot: Spot) -> tuple[float, float]:
        """Land, give off the load and unlock; returns when it unlocked and when the spreader is free (s)."""
        landed = self._land(time, spot)
        self.load.ramp(landed, ROPE_TAKE_UP_S, 0.0)
        unlock = landed + ROPE_TAKE_UP_S + self._random.uniform(0.3, 1.0)
        self.locked.set(unlock, 0)
        free = unlock + self._random.uniform(0.8, 1.4)
        self.landed.set(free, 0)
        return unlock, free

    def drive(self, time: float, goal: float) -> float:
        """Drive the gantry to ``goal`` (m)."""
        return self.gantry.move(time, goal, self._limits.gantry_mps, GANTRY_ACCELERATION_MPS2)

    def forget(self, before: float) -> None:
        """Drop what lies before ``before`` (s)."""
        self.drop_alarms(before)
        self.trolley.forget(before - SWAY_S - 2.0)
        for curve in (
            self.hoist,
            self.gantry,
            self.load,
            self.locked,
            self.landed,
            self.size_ft,
            self.twin,
        ):
            curve.forget(before)

    def drop_alarms(self, before: float) -> None:
        """Drop the alarms raised or cleared before ``before`` (s)."""
        while self.alarms and self.alarms[0].time < before:
            self.alarms.popleft()

    def _land(self, time: float, spot: Spot) -> float:
        aligned = time + self._random.uniform(*self._limits.positioning_s)
        landed = self.hoist.move(aligned, spot.height, FINAL_APPROACH_MPS, self._limits.hoist_acceleration_mps2)
        self.landed.set(landed, 1)
        return landed

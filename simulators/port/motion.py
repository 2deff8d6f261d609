"""Motions as curves over time: axes that accelerate, cruise and brake, and steps of a state.

Curves are appended to by the model and sampled in bulk. What lies before a moment can be forgotten.
"""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from devices.columns import Floats

SINCE_EVER_S = -1e7
"""When the first rest of an axis began, s: long before the port's own start."""


class Axis:
    """The position of one axis: pieces of constant acceleration, each (start time s, position, speed, acceleration).

    With a ``ramp`` the acceleration builds up and fades within that time instead of at once: what is sampled is the
    mean of the pieces over the last ``ramp`` seconds, which bounds the jerk to acceleration / ramp and keeps positions,
    speeds and the way covered. It is computed from the integral of each piece, so it is exact.
    """

    def __init__(self, position: float = 0.0, ramp: float = 0.0) -> None:
        """Rest at ``position`` since ever; ``ramp`` in s, 0 for none."""
        self.ramp = ramp
        self._start = [SINCE_EVER_S]
        self._position = [position]
        self._speed = [0.0]
        self._acceleration = [0.0]
        self._area = [position * SINCE_EVER_S]
        """Integral of the position from time 0 to the start of the piece, m·s; kept where there is a ramp."""

    @property
    def goal(self) -> float:
        """Where the axis will rest after the last motion."""
        return self._position[-1]

    @property
    def free_at(self) -> float:
        """When the last motion is over, s."""
        return self._start[-1] + self.ramp

    def rests(self, since: float, until: float) -> bool:
        """Whether the axis stands still from ``since`` to ``until`` (s)."""
        piece = bisect_right(self._start, since) - 1
        last = piece + 1 == len(self._start)
        return not self._speed[piece] and not self._acceleration[piece] and (last or self._start[piece + 1] > until)

    @property
    def first_position(self) -> float:
        """The position at the beginning of what is still remembered."""
        return self._position[0]

    def move(self, start: float, goal: float, top_speed: float, acceleration: float) -> float:
        """Go from rest to rest at ``goal`` with a trapezoid of speed; returns when it arrives (s).

        ``start`` must not be earlier than :attr:`free_at`; ``top_speed`` and ``acceleration`` are magnitudes > 0.
        """
        distance = goal - self.goal
        if not distance:
            return start
        arrival = self.run(start, [(abs(distance), top_speed)], acceleration, math.copysign(1.0, distance))
        self.settle(goal)
        return arrival

    def run(
        self,
        start: float,
        pieces: list[tuple[float, float]],
        acceleration: float,
        sign: float = 1.0,
        corner: float = 0.0,
    ) -> float:
        """Cover ``pieces`` of (length, top speed) one after another, passing between them at ``corner`` speed at most.

        Starts and ends at rest; returns when it arrives (s).
        """
        if len(pieces) == 1:
            return self._run_one(start, *pieces[0], acceleration, sign)
        ends = [min(corner, a, b) for (_, a), (_, b) in itertools.pairwise(pieces)] + [0.0]
        for index in range(len(pieces) - 2, -1, -1):  # brake early enough for the pieces that follow
            ends[index] = min(ends[index], math.sqrt(ends[index + 1] ** 2 + 2 * acceleration * pieces[index + 1][0]))
        time, position, speed = start, self.goal, 0.0
        for (length, top_speed), wanted in zip(pieces, ends, strict=True):
            if length <= 0:
                continue
            end = min(wanted, math.sqrt(speed**2 + 2 * acceleration * length))
            peak = max(speed, end, min(top_speed, math.sqrt(acceleration * length + (speed**2 + end**2) / 2)))
            rise, fall = peak - speed, peak - end
            up, down = (peak + speed) * rise / (2 * acceleration), (peak + end) * fall / (2 * acceleration)
            cruise = max(0.0, length - up - down)
            for duration, initial, rate, covered in (
                (rise / acceleration, speed, acceleration, up),
                (cruise / peak, peak, 0.0, cruise),
                (fall / acceleration, peak, -acceleration, down),
            ):
                if duration > 0:
                    self._add(time, position, sign * initial, sign * rate)
                    time += duration
                    position += sign * covered
            speed = end
        self._add(time, position, 0.0, 0.0)
        return time + self.ramp

    def _run_one(self, start: float, length: float, top_speed: float, acceleration: float, sign: float) -> float:
        """Cover one piece from rest to rest: most motions are of this kind, and quicker to lay down."""
        time, position = start, self.goal
        if length > 0:
            peak = min(top_speed, math.sqrt(acceleration * length))
            rise = peak / acceleration
            ramp = peak * peak / (2 * acceleration)
            self._add(time, position, 0.0, sign * acceleration)
            time, position = time + rise, position + sign * ramp
            cruise = max(0.0, length - ramp - ramp)
            if cruise / peak > 0:
                self._add(time, position, sign * peak, 0.0)
                time, position = time + cruise / peak, position + sign * cruise
            self._add(time, position, sign * peak, -sign * acceleration)
            time, position = time + rise, position + sign * ramp
        self._add(time, position, 0.0, 0.0)
        return time + self.ramp

    def _add(self, time: float, position: float, speed: float, acceleration: float) -> None:
        if self.ramp:
            since = time - self._start[-1]
            mean = self._position[-1] + since * (self._speed[-1] / 2 + since * self._acceleration[-1] / 6)
            self._area.append(self._area[-1] + since * mean)
        self._start.append(time)
        self._position.append(position)
        self._speed.append(speed)
        self._acceleration.append(acceleration)

    def settle(self, goal: float) -> None:
        """Replace the resting position by ``goal``, which it equals but for rounding."""
        self._position[-1] = goal

    def sample(self, times: Floats) -> tuple[Floats, Floats]:
        """Return position and speed at ``times`` (n,), both (n,), in m and m/s."""
        if not self.ramp:
            starts = np.array(self._start)
            piece = starts.searchsorted(times, side="right") - 1
            since = times - starts[piece]
            speed = np.array(self._speed)[piece]
            rate = np.array(self._acceleration)[piece]
            return np.array(self._position)[piece] + since * (speed + 0.5 * rate * since), speed + rate * since
        late, late_area = self._integrated(times)
        early, early_area = self._integrated(times - self.ramp)
        return (late_area - early_area) / self.ramp, (late - early) / self.ramp

    def acceleration(self, times: Floats) -> Floats:
        """Return the acceleration at ``times`` (n,), shape (n,), in m/s²."""
        starts = np.array(self._start)
        rates = np.array(self._acceleration)
        if not self.ramp:
            return np.asarray(rates[starts.searchsorted(times, side="right") - 1])
        speeds = np.array(self._speed)

        def speed(at: Floats) -> Floats:
            piece = starts.searchsorted(at, side="right") - 1
            return np.asarray(speeds[piece] + rates[piece] * (at - starts[piece]))

        return np.asarray((speed(times) - speed(times - self.ramp)) / self.ramp)

    def pushed(self, times: Floats) -> Floats:
        """Return the acceleration at ``times`` (n,) as if it changed at once in the middle of each ramp, shape (n,)."""
        starts = np.array(self._start)
        return np.asarray(np.array(self._acceleration)[starts.searchsorted(times - self.ramp / 2, side="right") - 1])

    def jolts(self, since: float, until: float) -> list[tuple[float, float]]:
        """Return the changes of :meth:`pushed` that begin in [since, until) as (time s, change m/s²)."""
        first = bisect_right(self._start, since)
        changes = []
        for at in range(max(1, first), len(self._start)):
            if self._start[at] >= until:
                break
            changes.append((self._start[at] + self.ramp / 2, self._acceleration[at] - self._acceleration[at - 1]))
        return changes

    def _integrated(self, times: Floats) -> tuple[Floats, Floats]:
        """Return position (m) and its integral from time 0 (m·s) without the ramp, both (n,)."""
        starts = np.array(self._start)
        piece = starts.searchsorted(times, side="right") - 1
        since = times - starts[piece]
        position = np.array(self._position)[piece]
        speed = np.array(self._speed)[piece]
        rate = np.array(self._acceleration)[piece]
        area = np.array(self._area)[piece] + since * (position + since * (0.5 * speed + since * rate / 6))
        return position + since * (speed + 0.5 * rate * since), area

    def forget(self, before: float) -> None:
        """Drop the pieces that ended before ``before`` (s) and are no longer needed for the ramp."""
        keep = bisect_right(self._start, before - self.ramp) - 1
        if keep > 0:
            for column in (self._start, self._position, self._speed, self._acceleration):
                del column[:keep]
            if self.ramp:
                del self._area[:keep]


class Steps:
    """A value that changes at moments and holds in between."""

    def __init__(self, value: float = 0.0) -> None:
        """Hold ``value`` since ever."""
        self._start = [SINCE_EVER_S]
        self._value = [value]

    @property
    def last(self) -> float:
        """The value after the last change."""
        return self._value[-1]

    def set(self, time: float, value: float) -> None:
        """Hold ``value`` from ``time`` (s), which must not be earlier than the last change."""
        self._start.append(time)
        self._value.append(value)

    def changes(self) -> tuple[list[float], list[float]]:
        """Return the moments (s) and the values from then on that are still remembered."""
        return list(self._start), list(self._value)

    def sample(self, times: Floats) -> Floats:
        """Return the value at ``times`` (n,), shape (n,)."""
        values = self._value
        if len(values) == 1:
            return np.full(len(times), values[0])
        return np.array(values)[np.array(self._start).searchsorted(times, side="right") - 1]

    def forget(self, before: float) -> None:
        """Drop the values that ended before ``before`` (s)."""
        keep = bisect_right(self._start, before) - 1
        if keep > 0:
            del self._start[:keep], self._value[:keep]


class Ramps:
    """A value that changes linearly between knots, such as the load while the ropes take it up."""

    def __init__(self, value: float = 0.0) -> None:
        """Hold ``value`` since ever."""
        self._time = [SINCE_EVER_S]
        self._value = [value]

    def ramp(self, start: float, duration: float, value: float) -> None:
        """Go linearly to ``value`` over ``duration`` seconds from ``start`` (s)."""
        self._time += [start, start + duration]
        self._value += [self._value[-1], value]

    def sample(self, times: Floats) -> Floats:
        """Return the value at ``times`` (n,), shape (n,)."""
        return np.interp(times, self._time, self._value)

    def forget(self, before: float) -> None:
        """Drop the knots that are no longer needed after ``before`` (s)."""
        keep = bisect_right(self._time, before) - 1
        if keep > 0:
            del self._time[:keep], self._value[:keep]


class Track:
    """The way of a vehicle over the ground: an axis of distance driven and the corners of its path."""

    def __init__(self, x: float, y: float, heading: float, odometer: float) -> None:
        """Stand at (x, y) in local metres; ``heading`` is the local direction of travel, rad from +x towards +y."""
        self.driven = Axis(odometer)
        self._at = [odometer - 1.0, odometer]
        self._x = [x - math.cos(heading), x]
        self._y = [y - math.sin(heading), y]
        self._heading = [heading, heading]

    @property
    def odometer(self) -> float:
        """What the odometer will show after the last drive, m."""
        return self._at[-1]

    @property
    def place(self) -> tuple[float, float]:
        """Where the vehicle will stand after the last drive, local metres."""
        return self._x[-1], self._y[-1]

    def drive(
        self,
        start: float,
        path: list[tuple[float, float]],
        top_speed: float,
        acceleration: float,
        corner: float,
        *,
        reverse: bool = False,
        limits: Sequence[float] = (),
    ) -> float:
        """Drive along ``path`` (corner points in local metres, without the present place); returns the arrival (s).

        ``limits`` are speed limits of its parts in m/s, if there are any.
        """
        pieces: list[tuple[float, float]] = []
        distance = self._at[-1]
        for nth, (x, y) in enumerate(path):
            along, across = x - self._x[-1], y - self._y[-1]
            length = math.hypot(along, across)
            if length < 0.01:  # noqa: PLR2004 - a centimetre is no drive
                continue
            distance += length
            pieces.append((length, min(top_speed, limits[nth]) if limits else top_speed))
            self._at.append(distance)
            self._x.append(x)
            self._y.append(y)
            self._heading.append(math.atan2(across, along) + (math.pi if reverse else 0.0))
        if not pieces:
            return start
        arrival = self.driven.run(max(start, self.driven.free_at), pieces, acceleration, corner=corner)
        self.driven.settle(distance)
        return arrival

    def sample(self, times: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Return x, y (m), speed (m/s), local heading (rad from +x towards +y) and odometer (m) at ``times`` (n,)."""
        driven, speed = self.driven.sample(times)
        at = np.array(self._at)
        leg = np.minimum(at.searchsorted(driven, side="left"), len(at) - 1)
        heading = np.array(self._heading)[leg]
        return (
            np.interp(driven, at, self._x),
            np.interp(driven, at, self._y),
            np.abs(speed),
            heading,
            driven,
        )

    def forget(self, before: float) -> None:
        """Drop the legs driven before ``before`` (s)."""
        self.driven.forget(before)
        first = self.driven.first_position
        keep = min(bisect_right(self._at, first) - 2, len(self._at) - 2)
        if keep > 0:
            del self._at[:keep], self._x[:keep], self._y[:keep], self._heading[:keep]

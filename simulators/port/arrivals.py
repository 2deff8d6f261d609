"""When road trucks set out: rates by the hour of the week, and the moments drawn from them.

Two shapes of a week, both with mean 1. Without slots trucks come when it suits them: the busiest hour has 3.3 times the
mean of the week and Sundays are nearly empty. With slots the terminal spreads them over the day: 2.6 times, and within
an hour they come evenly.
"""

import math
from typing import Final

import numpy as np
from numpy.random import Generator

from devices.columns import Floats
from simulators.port.agenda import WARM_UP_S
from simulators.profiles import Arrivals

HOUR_S: Final = 3600.0
WEEK_H: Final = 168
UNBOOKED_PEAK: Final = 3.3
BOOKED_PEAK: Final = 2.6
UNBOOKED_DAY: Final = (2, 2, 2, 2, 3, 8, 13, 15, 19, 24, 28, 29, 28, 27, 26, 25, 21, 16, 11, 8, 6, 5, 4, 3)
BOOKED_DAY: Final = (3, 3, 3, 3, 4, 8, 13, 15, 17, 18, 18, 18, 18, 18, 18, 18, 17, 15, 12, 9, 7, 5, 4, 3)
UNBOOKED_WEEK: Final = (0.9, 0.95, 1.0, 1.05, 1.1, 0.35, 0.03)
BOOKED_WEEK: Final = (1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5)
"""Weights of the hours of a day and of the days of a week, Monday first."""


def hours_of_week(*, slots: bool) -> Floats:
    """Return how busy each hour of the week is, Monday 00:00 first; shape (168,), mean 1."""
    day, week, peak = (BOOKED_DAY, BOOKED_WEEK, BOOKED_PEAK) if slots else (UNBOOKED_DAY, UNBOOKED_WEEK, UNBOOKED_PEAK)
    shape = np.outer(week, day).ravel() / (np.max(week) * np.max(day))
    low, high = 0.05, 8.0
    for _ in range(60):  # the sharpness at which the busiest hour has the wanted share
        sharpness = (low + high) / 2
        sharp = 1 / np.mean(shape**sharpness) > peak
        low, high = (low, sharpness) if sharp else (sharpness, high)
    return np.asarray(shape**low / np.mean(shape**low))


class ArrivalTimes:
    """Draws the moments at which visits begin."""

    def __init__(self, random: Generator, limits: Arrivals) -> None:
        """Begin at the profile's hour of the week, which is when the warm-up ends."""
        self._random = random
        self._limits = limits
        self._factors = hours_of_week(slots=limits.slots).tolist()
        self._pending: list[float] = []
        self._hour = 0

    def factor(self, time: float) -> float:
        """Return how busy the hour of ``time`` (s of the port's time) is; 1 is the mean of the week."""
        hour = self._limits.opening_hour + (time - WARM_UP_S) / HOUR_S
        return float(self._factors[math.floor(hour) % WEEK_H])

    def next(self) -> float:
        """Return the moment of the next visit, s of the port's time; never earlier than the one before."""
        while not self._pending:
            start = self._hour * HOUR_S
            wanted = self._limits.visits_per_hour * self.factor(start)
            count = round(wanted) if self._limits.slots else int(self._random.poisson(wanted))
            drawn = self._random.random(count)
            if self._limits.slots:  # one in each slot
                drawn = (np.arange(count) + drawn) / max(1, count)
            self._pending = sorted((start + HOUR_S * drawn).tolist(), reverse=True)
            self._hour += 1
        return self._pending.pop()

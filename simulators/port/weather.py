"""Wind and air: smooth fields made of slow waves, pure functions of time."""

from typing import Final

import numpy as np
from numpy.random import Generator

from devices.columns import Floats
from simulators.port.agenda import WARM_UP_S
from simulators.profiles import Park, Storm
from simulators.profiles import Tide as TideLimits

WIND_AT_BOOM: Final = 1.3
"""Wind at the height of a quay crane's boom over wind at 10 m (dimensionless)."""
MOON_S: Final = 44_714.0
"""Period of the tide that the moon makes, s (12.42 h)."""


class Weather:
    """The air over the port; drawn once from the seed, then a function of time alone."""

    def __init__(self, random: Generator, park: Park, storm: Storm | None = None) -> None:
        """Draw phases of waves between 20 s (gusts) and 20 min; a ``storm`` raises the mean."""
        self._park = park
        self._storm = storm
        self._rate = 2 * np.pi / np.geomspace(20.0, 1200.0, 7)
        self._phase = random.uniform(0, 2 * np.pi, 7)
        self._weight = np.array([0.08, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15])

    def wind_mps(self, times: Floats, height_gain: float = 1.0) -> Floats:
        """Return the wind speed at ``times`` (n,) in m/s, shape (n,); it grows with height by ``height_gain``."""
        # Summed row by row, not as a matrix product: the last bit must not depend on how many times are asked for.
        waves = np.zeros(len(times))
        for weight, rate, phase in zip(self._weight, self._rate, self._phase, strict=True):
            waves += weight * np.sin(rate * times + phase)
        mean = np.full(len(times), self._park.wind_mean_mps)
        if self._storm is not None:
            storm, begin = self._storm, WARM_UP_S + self._storm.from_s
            knots = np.cumsum([begin, storm.rise_s, storm.lasts_s, storm.rise_s])
            more = storm.peak_mps - self._park.wind_mean_mps
            mean += np.interp(times, knots, [0.0, more, more, 0.0])
        return np.asarray(mean * height_gain * np.maximum(0.0, 1 + waves))

    def temperature_celsius(self, times: Floats) -> Floats:
        """Return the air temperature at ``times`` (n,) in °C, shape (n,)."""
        return np.asarray(self._park.temperature_mean_celsius + 1.5 * np.sin(times * 2 * np.pi / 7200 + self._phase[0]))

    def humidity_percent(self, times: Floats) -> Floats:
        """Return the relative humidity at ``times`` (n,) in percent, shape (n,)."""
        return np.asarray(72.0 - 6.0 * np.sin(times * 2 * np.pi / 7200 + self._phase[0]))


class Tide:
    """The level of the water at the quay: a wave of the moon's period."""

    def __init__(self, random: Generator, limits: TideLimits | None) -> None:
        """Draw the hour of high water; without a section ``tide`` the water stands still."""
        self._phase = float(random.uniform(0, 2 * np.pi))
        self._range_m = limits.range_m if limits else 0.0
        self._least_m = limits.berthing_above_m if limits else -1.0

    def height_m(self, time: float) -> float:
        """Return the level above the mean at ``time`` (s), m."""
        return self._range_m / 2 * float(np.sin(2 * np.pi * time / MOON_S + self._phase))

    def wait(self, time: float) -> float:
        """Return how long after ``time`` (s) the water first is high enough to berth, s."""
        waits = np.arange(0.0, MOON_S, 300.0)
        levels = self._range_m / 2 * np.sin(2 * np.pi * (time + waits) / MOON_S + self._phase)
        high = np.flatnonzero(levels >= min(self._least_m, 0.9 * self._range_m / 2))
        return float(waits[high[0]]) if len(high) else 0.0

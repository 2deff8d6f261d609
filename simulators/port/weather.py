"""Wind and air: smooth fields made of slow waves, pure functions of time."""

import numpy as np
from numpy.random import Generator

from devices.columns import Floats
from simulators.profiles import Park


class Weather:
    """The air over the port; drawn once from the seed, then a function of time alone."""

    def __init__(self, random: Generator, park: Park) -> None:
        """Draw phases of waves between 20 s (gusts) and 20 min."""
        self._park = park
        self._rate = 2 * np.pi / np.geomspace(20.0, 1200.0, 7)
        self._phase = random.uniform(0, 2 * np.pi, 7)
        self._weight = np.array([0.08, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15])

    def wind_mps(self, times: Floats, height_gain: float = 1.0) -> Floats:
        """Return the wind speed at ``times`` (n,) in m/s, shape (n,); it grows with height by ``height_gain``."""
        # Summed row by row, not as a matrix product: the last bit must not depend on how many times are asked for.
        waves = np.zeros(len(times))
        for weight, rate, phase in zip(self._weight, self._rate, self._phase, strict=True):
            waves += weight * np.sin(rate * times + phase)
        return np.asarray(self._park.wind_mean_mps * height_gain * np.maximum(0.0, 1 + waves))

    def temperature_celsius(self, times: Floats) -> Floats:
        """Return the air temperature at ``times`` (n,) in °C, shape (n,)."""
        return np.asarray(self._park.temperature_mean_celsius + 1.5 * np.sin(times * 2 * np.pi / 7200 + self._phase[0]))

    def humidity_percent(self, times: Floats) -> Floats:
        """Return the relative humidity at ``times`` (n,) in percent, shape (n,)."""
        return np.asarray(72.0 - 6.0 * np.sin(times * 2 * np.pi / 7200 + self._phase[0]))

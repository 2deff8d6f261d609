"""The logistics park: dock doors that open for trucks, and refrigerated containers at their sockets."""

from typing import Final

import numpy as np
from numpy.random import Generator

from devices.columns import Floats
from simulators.port.agenda import Agenda, Process
from simulators.port.motion import Steps
from simulators.truth import DoorOpening, TruthLog

SET_POINTS_CELSIUS: Final = (-18.0, -18.0, -22.0, 2.0, 4.0, 13.0)
"""Frozen goods, deep-frozen fish, chilled goods, bananas."""
CYCLE_S: Final = (900.0, 2400.0)
SWING_K: Final = (0.5, 1.2)
DEFROST_EVERY_S: Final = 6 * 3600.0
DEFROST_S: Final = 1200.0
DEFROST_K: Final = 6.0
COOLING_KW: Final = (4.0, 9.0)
FANS_KW: Final = 0.7
HEATER_KW: Final = 4.5
RUNNING: Final = 0.55
"""Share of a cycle in which the compressor runs."""


class DockDoor:
    """A door of a warehouse: a truck docks, the door opens, goods are moved, the door closes."""

    def __init__(self, agenda: Agenda, number: int, random: Generator, gap_s: tuple[float, float]) -> None:
        """Stand closed; ``gap_s`` is the shortest and longest time between two trucks, s."""
        self.name = f"DD{number + 1:03d}"
        self.open = Steps()
        self._agenda = agenda
        self._random = random
        self._gap_s = gap_s

    def work(self, truth: TruthLog) -> Process:
        """Serve one truck after another for ever."""
        random = self._random
        yield random.uniform(0, self._gap_s[1])
        while True:
            now = self._agenda.now
            closes = now + float(random.uniform(900, 3600))
            self.open.set(now, 1)
            self.open.set(closes, 0)
            truth.add(DoorOpening(self.name, now, closes))
            yield closes - now + float(random.uniform(*self._gap_s))


class Reefer:
    """A refrigerated container: its air swings about the set point, and warms while it defrosts."""

    def __init__(self, number: int, random: Generator) -> None:
        """Draw goods and machine; all that follows is a function of time."""
        self.name = f"RF{number + 1:04d}"
        self.set_point_celsius = SET_POINTS_CELSIUS[int(random.integers(len(SET_POINTS_CELSIUS)))]
        self._period_s = float(random.uniform(*CYCLE_S))
        self._swing_k = float(random.uniform(*SWING_K))
        self._cooling_kw = float(random.uniform(*COOLING_KW))
        self._phase_s = float(random.uniform(0, DEFROST_EVERY_S))

    def sample(self, times: Floats) -> dict[str, Floats]:
        """Return the reefer's signals at ``times`` (n,) in s, each (n,)."""
        place = np.mod(times + self._phase_s, self._period_s) / self._period_s
        running = place < RUNNING
        # Down while the compressor runs, up while it stands.
        swing = np.where(running, 1 - 2 * place / RUNNING, 2 * (place - RUNNING) / (1 - RUNNING) - 1)
        since = np.mod(times + self._phase_s, DEFROST_EVERY_S)
        defrost = DEFROST_K * np.where(since < DEFROST_S, since / DEFROST_S, np.exp(-(since - DEFROST_S) / 600))
        if self.set_point_celsius > 0:
            defrost = np.zeros(len(times))
        defrosting = (since < DEFROST_S) & (self.set_point_celsius <= 0)
        back = self.set_point_celsius + self._swing_k * swing + defrost
        return {
            "set_point_celsius": np.full(len(times), self.set_point_celsius),
            "return_air_celsius": back,
            "supply_air_celsius": back - np.where(running & ~defrosting, 2.5, 0.4),
            "power_kw": FANS_KW + np.where(defrosting, HEATER_KW, np.where(running, self._cooling_kw, 0.0)),
            "plugged_in": np.ones(len(times)),
        }

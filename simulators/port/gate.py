"""Gate lanes: a barrier, a line of trucks and a tag reader with two antennas."""

from collections import deque
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.layout import GateLane
from simulators.port.motion import Steps
from simulators.port.vehicles import Line, Truck
from simulators.profiles import Gates
from simulators.truth import Passage, TruthLog

BARRIER_OPEN_S: Final = 6.0
STRONGEST_RSSI_DBM: Final = -48.0
RSSI_NOISE_DB: Final = 2.5


class Read(NamedTuple):
    """One raw read of one tag: when (s of the port's time), which tag, at which antenna and how strong.

    ``passage_s`` is when the truck's passage began.
    """

    time: float
    tag: str
    antenna: int
    rssi_dbm: float
    passage_s: float


class Gate:
    """One lane of the gate."""

    def __init__(self, agenda: Agenda, lane: GateLane, random: Generator, limits: Gates) -> None:
        """Open for business with an empty line."""
        self.lane = lane
        self.line = Line(agenda, (lane.x, lane.y), (0.0, -lane.travel))
        self.arrivals: Store[Truck] = Store(agenda)
        self.barrier = Steps()
        self.reads: deque[Read] = deque()
        """Raw reads that happen or will happen for certain, in order of time."""
        self._agenda = agenda
        self._random = random
        self._limits = limits

    def join(self, truck: Truck) -> None:
        """Queue up; the truck's ``turn`` comes when the barrier is open for it."""
        self.line.join(truck)
        self.arrivals.put(truck)

    def work(self, truth: TruthLog) -> Process:
        """Let one truck after another through for ever."""
        while True:
            truck = yield self.arrivals
            yield self.line.call(truck)
            now = self._agenda.now
            reads = self._read(truck, now)
            opened = now + max(self._random.uniform(*self._limits.service_s), reads[-1].time - now)
            truth.add(
                Passage(
                    self.lane.name,
                    reads[0].time,
                    reads[-1].time,
                    self.lane.direction,
                    truck.tag,
                    truck.name,
                    truck.plate,
                    len(reads),
                    opened,
                )
            )
            self.barrier.set(opened, 1)
            self.barrier.set(opened + BARRIER_OPEN_S, 0)
            yield opened - now
            truck.turn.put(None)
            yield BARRIER_OPEN_S

    def _read(self, truck: Truck, start: float) -> list[Read]:
        """Draw the raw reads of one passage: strongest when the truck stands before an antenna."""
        random, limits = self._random, self._limits
        count = int(random.integers(limits.reads[0], limits.reads[1] + 1))
        duration = random.uniform(*limits.reading_s)
        at = np.sort(random.random(count))
        both = random.random() < 0.6  # noqa: PLR2004 - share of passages seen by the second antenna too
        antenna = np.where(both & (at + random.normal(0, 0.15, count) > 0.5), 2, 1)  # noqa: PLR2004 - half-way
        middle = np.where(antenna == 1, 0.3, 0.7)
        rssi = STRONGEST_RSSI_DBM - 40 * (at - middle) ** 2 - np.abs(random.normal(0, RSSI_NOISE_DB, count))
        reads = [
            Read(start + duration * moment, truck.tag, int(port), round(float(power) * 2) / 2, start)
            for moment, port, power in zip(at.tolist(), antenna, rssi, strict=True)
        ]
        self.reads.extend(reads)
        return reads

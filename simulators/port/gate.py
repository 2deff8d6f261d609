"""Gate lanes: a barrier, a line of trucks and a tag reader with two antennas."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.random import Generator

from devices.columns import Floats, Ints
from simulators.port.agenda import WARM_UP_S, Agenda, Process, Store
from simulators.port.layout import GateLane
from simulators.port.motion import Steps
from simulators.port.vehicles import Line, Truck
from simulators.profiles import Gates, Planned
from simulators.truth import Alarm, Passage, TruthLog

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


class RawReads(NamedTuple):
    """The raw reads of one passage as columns, (n,) each, in order of time."""

    start: float
    tag: str
    times: list[float]
    antenna: Ints
    rssi_dbm: Floats

    def reads(self) -> Iterator[Read]:
        """Yield them one by one."""
        columns = zip(self.times, self.antenna.tolist(), self.rssi_dbm.tolist(), strict=True)
        return (Read(time, self.tag, antenna, rssi, self.start) for time, antenna, rssi in columns)


class Gate:
    """One lane of the gate."""

    def __init__(
        self,
        agenda: Agenda,
        lane: GateLane,
        random: Generator,
        limits: Gates,
        truth: TruthLog,
        blocked: Sequence[Planned] = (),
    ) -> None:
        """Open for business with an empty line, but for the times in which the lane is ``blocked``."""
        self.lane = lane
        self.line = Line(agenda, lane.name, (lane.x, lane.y), (0.0, -lane.travel), truth)
        self._blocked = [(WARM_UP_S + one.from_s, WARM_UP_S + one.from_s + one.lasts_s) for one in blocked]
        self.arrivals: Store[Truck] = Store(agenda)
        self.barrier = Steps()
        self._raw: deque[RawReads] = deque()
        self._due: deque[Read] = deque()
        self._agenda = agenda
        self._random = random
        self._limits = limits

    def join(self, truck: Truck) -> None:
        """Queue up; the truck's ``turn`` comes when the barrier is open for it."""
        self.line.join(truck)
        self.arrivals.put(truck)

    def blocked_until(self, time: float) -> float:
        """Return when a lane that is blocked at ``time`` (s) opens again, ``time`` where it is not."""
        if not self._blocked:
            return time
        return max((end for begin, end in self._blocked if begin <= time < end), default=time)

    def block(self, truth: TruthLog) -> Process:
        """Tell the truth log of the times in which the lane is blocked."""
        for begin, end in self._blocked:
            yield max(0.0, begin - self._agenda.now)
            truth.add(Alarm(self.lane.name, begin, end, "lane_blocked"))

    def work(self, truth: TruthLog) -> Process:
        """Let one truck after another through for ever."""
        while True:
            truck = yield self.arrivals
            while (opens := self.blocked_until(self._agenda.now)) > self._agenda.now:
                yield opens - self._agenda.now
            yield self.line.call(truck)
            now = self._agenda.now
            raw = self._read(truck, now)
            times = raw.times
            opened = now + max(self._random.uniform(*self._limits.service_s), times[-1] - now)
            truth.add(
                Passage(
                    self.lane.name,
                    times[0],
                    times[-1],
                    self.lane.direction,
                    truck.tag,
                    truck.name,
                    truck.plate,
                    len(times),
                    opened,
                )
            )
            truck.opened_s = opened
            self.barrier.set(opened, 1)
            self.barrier.set(opened + BARRIER_OPEN_S, 0)
            yield opened - now
            truck.turn.put(None)
            yield BARRIER_OPEN_S

    def take_reads(self, until: float) -> list[Read]:
        """Remove and return the raw reads before ``until`` (s), in order of time."""
        while self._raw and self._raw[0].times[0] < until:
            self._due.extend(self._raw.popleft().reads())
        taken = []
        while self._due and self._due[0].time < until:
            taken.append(self._due.popleft())
        return taken

    def forget(self, before: float) -> None:
        """Drop what lies before ``before`` (s)."""
        self.barrier.forget(before)
        self.line.length.forget(before)
        while self._raw and self._raw[0].times[-1] < before:
            self._raw.popleft()

    def _read(self, truck: Truck, start: float) -> "RawReads":
        """Draw the raw reads of one passage: strongest when the truck stands before an antenna."""
        random, limits = self._random, self._limits
        count = int(random.integers(limits.reads[0], limits.reads[1] + 1))
        duration = random.uniform(*limits.reading_s)
        at = np.sort(random.random(count))
        both = random.random() < 0.6  # noqa: PLR2004 - share of passages seen by the second antenna too
        antenna = np.where(both & (at + random.normal(0, 0.15, count) > 0.5), 2, 1)  # noqa: PLR2004 - half-way
        middle = np.where(antenna == 1, 0.3, 0.7)
        rssi = STRONGEST_RSSI_DBM - 40 * (at - middle) ** 2 - np.abs(random.normal(0, RSSI_NOISE_DB, count))
        raw = RawReads(start, truck.tag, (start + duration * at).tolist(), antenna, np.rint(rssi * 2) / 2)
        self._raw.append(raw)
        return raw

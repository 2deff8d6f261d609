"""How often something comes, and how far off it is, of any number of messages in a bounded amount of memory."""

from array import array
from typing import Final

import numpy as np

from devices.times import NS

MOST: Final = 4_096
"""Values that are kept: up to so many, what is said is exact."""
FEWEST_GAPS: Final = 3
"""Distances from which on something can be called usual."""


class Sample:
    """Some of many numbers, evenly out of all of them, of which the median is close to that of all."""

    __slots__ = ("_every", "_kept", "seen")

    def __init__(self) -> None:
        """Keep every number at first."""
        self._kept = array("q")
        self._every = 1
        self.seen = 0

    def add(self, number: int) -> None:
        """Take the next number, of 64 bits; one of so many is kept."""
        if not self.seen % self._every:
            self._kept.append(max(-(2**63), min(number, 2**63 - 1)))
            if len(self._kept) > MOST:
                self._kept, self._every = self._kept[::2], 2 * self._every
        self.seen += 1

    def median(self) -> float:
        """Return the median of what is kept, of which there must be something."""
        return float(np.median(np.array(self._kept, np.float64)))


class Pace:
    """Times, of which those that belong together come about together, if not in order."""

    __slots__ = ("_first", "_gaps", "_last", "_longest", "_settled", "_times", "seen")

    def __init__(self) -> None:
        """Nothing has come."""
        self._times = array("q")
        """Those among which others may still come, in any order."""
        self._settled: int | None = None
        """The last time before these."""
        self._gaps = Sample()
        self._longest = 0
        self._first = self._last = 0
        self.seen = 0

    def add(self, ts: int) -> None:
        """Take a time, ns."""
        self._first = min(self._first, ts) if self.seen else ts
        self._last = max(self._last, ts) if self.seen else ts
        self.seen += 1
        self._times.append(ts)
        if len(self._times) > MOST:
            self._settle(MOST // 2)

    def rate_hz(self) -> float | None:
        """Return how many come a second, None where that cannot be told."""
        span_s = (self._last - self._first) / NS
        return round((self.seen - 1) / span_s, 3) if span_s > 0 else None

    def pauses_s(self) -> tuple[float, float]:
        """Return the longest and the usual distance of two neighbours, s; 0 and 0 where there are too few."""
        self._settle(len(self._times))
        if self._gaps.seen < FEWEST_GAPS:
            return 0.0, 0.0
        return self._longest / NS, self._gaps.median() / NS

    def _settle(self, number: int) -> None:
        """Measure the distances of the first so many times that are kept."""
        times = np.sort(np.array(self._times, np.int64))
        due, self._times = times[:number], array("q", times[number:].tolist())
        # Who comes later than that is not looked for among those that are gone.
        known = due if self._settled is None else due[due >= self._settled]
        if not len(known):
            return
        before = known[:1] if self._settled is None else np.array([self._settled])
        gaps = np.diff(np.concatenate([before, known]))[self._settled is None :]
        for gap in gaps.tolist():
            self._gaps.add(gap)
        self._longest = max(self._longest, int(gaps.max(initial=0)))
        self._settled = int(known[-1])

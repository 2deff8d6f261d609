"""Per-device watermarks: up to which event time a device is believed to have spoken.

While a device speaks, its watermark trails its greatest event time by the allowed lateness. Once it has been silent for
the idle time-out, the watermark moves on with the clock, so that a dead device holds nothing up. It never goes back,
and no device moves another's.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from analytics.rows import starts_of
from devices.columns import Bools, Ints
from devices.times import NS

NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Lateness:
    """How long to wait for what may still come."""

    allowed_ns: int = 2 * NS
    """How far behind its newest sample a device may deliver in the ordinary course, ns ≥ 0."""
    idle_ns: int = 10 * NS
    """Silence in receive time after which a device's watermark moves on by itself, ns > 0."""

    def __post_init__(self) -> None:
        """Refuse negative waits."""
        if self.allowed_ns < 0 or self.idle_ns <= 0:
            msg = f"allowed_ns {self.allowed_ns} must be ≥ 0 and idle_ns {self.idle_ns} > 0"
            raise ValueError(msg)


class Watermarks:
    """The watermarks of a worker's devices; arrays of shape (devices,), ns UTC, -1 where nothing was heard."""

    def __init__(self, lateness: Lateness) -> None:
        """Start without devices."""
        self.lateness = lateness
        self.newest: Ints = np.empty(0, np.int64)
        self.heard: Ints = np.empty(0, np.int64)
        self.mark: Ints = np.empty(0, np.int64)
        self.released: Ints = np.empty(0, np.int64)
        """Event time up to which a device's detectors have been told everything."""

    def grow(self, devices: int) -> None:
        """Make room for at least ``devices`` devices."""
        more = devices - len(self.mark)
        if more > 0:
            more = max(more, len(self.mark), 64)
            self.newest, self.heard, self.mark, self.released = (
                np.append(array, np.full(more, NEVER, np.int64))
                for array in (self.newest, self.heard, self.mark, self.released)
            )

    def hear(self, device: Ints, ts: Ints, received: Ints, end: Ints) -> Bools:
        """Note frames in order of receipt and return which were late: the watermark had passed their ``end`` before.

        Device indices, event times, receive times and ends of the windows, arrays of shape (n,). A frame is judged by
        those before it alone, so that it does not matter how the frames were cut into batches.
        """
        late = self.passed(device, end)
        self._move(device, ts, received)
        suspects = self.passed(device, end) & ~late
        if suspects.any():
            of_those = np.flatnonzero(np.isin(device, device[suspects]))
            late[of_those] |= self._overtaken(device[of_those], ts[of_those], end[of_those])
        return late

    def _move(self, device: Ints, ts: Ints, received: Ints) -> None:
        np.maximum.at(self.newest, device, ts)
        np.maximum.at(self.heard, device, received)
        np.maximum.at(self.mark, device, self.newest[device] - self.lateness.allowed_ns)

    def _overtaken(self, device: Ints, ts: Ints, end: Ints) -> Bools:
        """Return which frames came after an earlier one of the same arrays had moved the watermark past their end."""
        order = np.argsort(device, kind="stable")
        times, rank = np.unique(ts[order], return_inverse=True)
        starts = starts_of(device[order])
        # The running maximum of (device, time), as one number so that it begins anew with each device.
        nth = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order)))) * len(times)
        newest = times[np.maximum.accumulate(nth + rank) - nth]
        before = np.append(0, newest[:-1])
        before[starts] = 0
        result = np.empty(len(order), np.bool_)
        result[order] = before - self.lateness.allowed_ns >= end[order]
        return result

    def passed(self, device: Ints, end: Ints) -> Bools:
        """Return where a device's watermark has already passed ``end``; arrays of shape (n,)."""
        result: Bools = self.mark[device] >= end
        return result

    def tick(self, now: int, since: int = 0) -> None:
        """Move the watermarks of silent devices on to what ``now`` implies.

        ``since`` when somebody has listened; both ns UTC.
        """
        silence = now - np.maximum(self.heard, since)
        idle = (self.heard > NEVER) & (silence > self.lateness.idle_ns)
        moved = self.newest - self.lateness.allowed_ns + silence
        self.mark[idle] = np.maximum(self.mark[idle], moved[idle])

    def release(self) -> None:
        """Note that detectors have been told everything up to the watermarks."""
        self.released = self.mark.copy()

    def restore(self, device: int, newest: int, heard: int, mark: int) -> None:
        """Put back what a checkpoint kept of one device."""
        self.grow(device + 1)
        self.newest[device], self.heard[device], self.mark[device] = newest, heard, mark

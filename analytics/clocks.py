"""How far a device's clock is off: the median of receive time minus event time over its latest looks.

A look is taken at one frame every four seconds, and the latest 15 count: what one minute says. The median follows a
clock that drifts, takes half a minute to believe one that jumps, and does not heed the odd frame that was held up. A
device that delivers old data late looks like one whose clock is behind: seen from here, the two are the same.
"""

from typing import Final

import msgspec
import numpy as np

from devices.columns import Ints

LOOKS: Final = 15
PERIOD_NS: Final = 4_000_000_000
UNKNOWN: Final = np.iinfo(np.int64).min


class ClockState(msgspec.Struct, array_like=True):
    """The looks at one device, as they rest in a checkpoint."""

    heard: int
    """When the last was taken, ns UTC."""
    count: int
    """How many were taken."""
    looks: bytes
    """The latest of them, int64 ns, in the places in which they are replaced."""


class ClockOffsets:
    """The offsets of a worker's devices; positive where a clock is behind, or data are under way that long."""

    def __init__(self) -> None:
        """Start without devices."""
        self._looks: Ints = np.empty((0, LOOKS), np.int64)
        self._count: Ints = np.empty(0, np.int64)
        self._heard: Ints = np.empty(0, np.int64)
        self.offset: Ints = np.empty(0, np.int64)
        """Offset by device index, ns; :data:`UNKNOWN` where nothing was heard."""

    def grow(self, devices: int) -> None:
        """Make room for at least ``devices`` devices."""
        more = devices - len(self._count)
        if more > 0:
            more = max(more, len(self._count), 64)
            # Places not taken yet sort behind all others.
            self._looks = np.append(self._looks, np.full((more, LOOKS), np.iinfo(np.int64).max), axis=0)
            self._count = np.append(self._count, np.zeros(more, np.int64))
            self._heard = np.append(self._heard, np.full(more, -PERIOD_NS, np.int64))
            self.offset = np.append(self.offset, np.full(more, UNKNOWN, np.int64))

    def hear(self, device: Ints, ts: Ints, received: Ints) -> None:
        """Note frames in order of receipt: device indices, event and receive times in ns UTC, arrays of shape (n,)."""
        due = np.flatnonzero(received - self._heard[device] >= PERIOD_NS)
        if not len(due):
            return
        devices, first = np.unique(device[due], return_index=True)
        at = due[first]
        self._looks[devices, self._count[devices] % LOOKS] = received[at] - ts[at]
        self._count[devices] += 1
        self._heard[devices] = received[at]
        self._settle(devices)

    def state(self, device: int) -> ClockState | None:
        """Return what a checkpoint keeps of a device; None where nothing was heard."""
        count = int(self._count[device])
        if not count:
            return None
        return ClockState(int(self._heard[device]), count, self._looks[device, :count].tobytes())

    def restore(self, device: int, state: ClockState) -> None:
        """Put back what :meth:`state` gave."""
        looks = np.frombuffer(state.looks, np.int64)
        self._looks[device, : len(looks)] = looks
        self._heard[device], self._count[device] = state.heard, state.count
        self._settle(np.array([device]))

    def _settle(self, devices: Ints) -> None:
        """Take the median of the looks that devices have."""
        there = np.minimum(self._count[devices], LOOKS)
        ordered = np.sort(self._looks[devices], axis=1)
        self.offset[devices] = ordered[np.arange(len(devices)), (there - 1) // 2]

"""Integers at rest: the least of them, and how far each lies above it, in as few bytes as the furthest needs."""

from typing import Final

import msgspec
import numpy as np

from devices.columns import Ints

_WIDTHS: Final = (1, 2, 4)
_WIDEST: Final = 8


class PackedInts(msgspec.Struct, array_like=True, frozen=True):
    """Integers of 64 bits, in their order."""

    least: int
    width: int
    """Bytes of each."""
    data: bytes
    """What each is above the least, unsigned, the low byte first."""

    @classmethod
    def of(cls, numbers: Ints) -> "PackedInts":
        """Pack integers (n,), any of 64 bits."""
        if not len(numbers):
            return cls(0, 1, b"")
        least = int(numbers.min())
        span = int(numbers.max()) - least
        width = next((width for width in _WIDTHS if span < 1 << 8 * width), _WIDEST)
        # Where the span takes 64 bits the difference wraps around, and around again in ints().
        return cls(least, width, (numbers - least).astype(f"<u{width}").tobytes())

    def ints(self) -> Ints:
        """Return the integers, shape (n,)."""
        above: Ints = np.frombuffer(self.data, f"<u{self.width}").astype(np.int64)
        return above + self.least

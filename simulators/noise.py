"""Noise of instruments: pure functions of a seed, a stream and time, so that a run cut into any pieces is the same.

Numbers come from a hash of (seed, stream, tick) instead of a generator that is drawn from in order. The distribution is
the sum of four 16-bit numbers: near enough to a normal one (within 3.5 σ), and exact to the bit whatever the array.
"""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from devices.columns import Bools, Floats

TICK_S: Final = 1e-3
"""Two samples closer than this see the same noise, s."""
GOLDEN: Final = 0x9E3779B97F4A7C15
UNIT: Final = 2.0**-16
WORD: Final = 2**64 - 1

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Level:
    """How much noise the instruments of a port have; standard deviations unless said otherwise."""

    gnss_m: float
    """Slow wander of a position, m."""
    gnss_jitter_m: float
    """Difference from fix to fix, m."""
    multipath_share: float
    """Share of the time in which a vehicle sees reflections, as below cranes and between stacks."""
    multipath_m: float
    """Displacement by reflections, m."""
    dropout_share: float
    """Share of the time without any fix."""
    load_t: float
    """Load cell, t."""
    position_m: float
    """Hoist and trolley encoders, m."""
    bounce_share: float
    """Share of the twistlock transitions that bounce back for one sample."""
    wind_mps: float
    current_a: float
    missed_share: float
    """Share of raw tag reads that are not reported."""
    unread_share: float
    """Share of passages of which no read at all is reported."""
    neighbour_share: float
    """Share of raw reads that the neighbouring lane's antenna hears too."""
    ghost_share: float
    """Share of raw reads that come with a ghost: a tag that does not exist, read once."""


LEVELS: Final[dict[str, Level | None]] = {
    "none": None,
    "default": Level(
        gnss_m=1.2,
        gnss_jitter_m=0.3,
        multipath_share=0.03,
        multipath_m=8.0,
        dropout_share=0.01,
        load_t=0.12,
        position_m=0.01,
        bounce_share=0.0,
        wind_mps=0.3,
        current_a=4.0,
        missed_share=0.1,
        unread_share=0.0,
        neighbour_share=0.002,
        ghost_share=0.002,
    ),
    "heavy": Level(
        gnss_m=3.0,
        gnss_jitter_m=1.0,
        multipath_share=0.15,
        multipath_m=25.0,
        dropout_share=0.06,
        load_t=0.5,
        position_m=0.05,
        bounce_share=0.05,
        wind_mps=1.0,
        current_a=15.0,
        missed_share=0.4,
        unread_share=0.01,
        neighbour_share=0.03,
        ghost_share=0.02,
    ),
}
"""``none`` is a port of perfect instruments; ``default`` one in good order; ``heavy`` one that needs maintenance."""


class Noise:
    """The noise of one device; streams of one device do not depend on each other."""

    def __init__(self, seed: int, device: str, level: Level) -> None:
        """Two devices of one seed have nothing in common."""
        self.level = level
        self._key = (seed * GOLDEN + (zlib.crc32(device.encode()) << 20)) & WORD

    def uniform(self, stream: int, times: Floats) -> Floats:
        """Return numbers in [0, 1), one per time (n,) in s; shape (n,)."""
        return np.asarray((self._words(stream, times) >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def normal(self, stream: int, times: Floats) -> Floats:
        """Return numbers of mean 0 and deviation 1, one per time (n,) in s; shape (n,)."""
        words = self._words(stream, times)
        total = np.zeros(len(times))
        for shift in (0, 16, 32, 48):
            total += ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64)
        return np.asarray((total * UNIT - 2.0) * 3.0**0.5)

    def wander(self, stream: int, times: Floats, knot_s: float) -> Floats:
        """Return a curve of mean 0 and deviation about 1 that changes within ``knot_s``; shape (n,)."""
        knot = np.floor(times / knot_s)
        place = times / knot_s - knot
        return self.normal(stream, knot * TICK_S) * (1 - place) + self.normal(stream, (knot + 1) * TICK_S) * place

    def spells(self, stream: int, times: Floats, spell_s: float, share: float) -> Bools:
        """Return True for a ``share`` of the time, in spells of ``spell_s``; shape (n,)."""
        return np.asarray(self.uniform(stream, np.floor(times / spell_s) * TICK_S) < share)

    def _words(self, stream: int, times: Floats) -> Words:
        """Hash (device, stream, tick) as SplitMix64 does (Steele, Lea, Flood 2014)."""
        ticks = np.rint(times / TICK_S).astype(np.int64).astype(np.uint64)
        base = np.uint64((self._key ^ (stream * GOLDEN)) & WORD)
        mixed = base + ticks * np.uint64(GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def noise_of(seed: int, device: str, level: str) -> Noise | None:
    """Return the noise of a device, None at level ``none``; ValueError where the level is not known."""
    if level not in LEVELS:
        raise ValueError(f"noise = {level!r}: allowed are {', '.join(LEVELS)}")
    found = LEVELS[level]
    return Noise(seed, device, found) if found else None

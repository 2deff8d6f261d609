"""Containers: ISO 6346 numbers, sizes and weights."""

import string
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from simulators.profiles import Containers

OWNERS: Final = ("CQYU", "NZPU", "QFLU", "TSTU", "BLNU", "ZHSU")
"""Owner codes of containers that exist in the simulator only."""
TEU_OF_SIZE_FT: Final = {20: 1.0, 40: 2.0, 45: 2.25}

_LETTERS: Final = dict(zip(string.ascii_uppercase, (n for n in range(10, 39) if n % 11), strict=True))
"""A = 10 … Z = 38 without the multiples of 11."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container: its number, length in feet and gross weight in t (tare included)."""

    number: str
    size_ft: int
    gross_t: float

    @property
    def teu(self) -> float:
        """Twenty-foot equivalents."""
        return TEU_OF_SIZE_FT[self.size_ft]


def check_digit(number: str) -> int:
    """Return the check digit of the first ten characters (ISO 6346: Σ value·2^i, modulo 11, modulo 10)."""
    values = (int(char) if char.isdigit() else _LETTERS[char] for char in number[:10])
    return sum(value << place for place, value in enumerate(values)) % 11 % 10


def make_container(random: Generator, mix: Containers, size_ft: int | None = None) -> Container:
    """Draw a container; ``size_ft`` fixes its length, else the profile's mix decides."""
    if size_ft is None:
        draw = random.random()
        size_ft = 20 if draw < mix.share_20ft else 40 if draw < mix.share_20ft + mix.share_40ft else 45
    stem = f"{OWNERS[int(random.integers(len(OWNERS)))]}{int(random.integers(1_000_000)):06d}"
    low, high = mix.gross_t
    # 20 ft boxes carry the dense cargo, so length says little about weight: one triangular distribution for all.
    gross = float(random.triangular(low, low + 0.45 * (high - low), high))
    return Container(f"{stem}{check_digit(stem)}", size_ft, round(gross, 2))

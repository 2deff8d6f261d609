"""Times of JT/T 808: BCD digits YYMMDDhhmmss in GMT+8, to int64 ns UTC and back."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from devices.columns import Ints
from devices.times import NS

CHINA: Final = timezone(timedelta(hours=8))
DIGITS: Final = tuple(
    10 * (byte >> 4) + (byte & 15) if byte >> 4 < 10 and byte & 15 < 10 else 255  # noqa: PLR2004 - digits
    for byte in range(256)
)
"""Byte → the two decimal digits in it, 255 where it holds none."""
_DIGITS: Final = np.array(DIGITS, np.int64)
UNSET: Final = 0
"""What no clock shows: the time of receipt counts, as for every time before 2000, unless it was kept for later."""


def time_of(digits: bytes) -> int:
    """Return ns UTC of six bytes, :data:`UNSET` where they are no time, as from a clock that was never set."""
    start = _day(digits[:3])
    hours, minutes, seconds = DIGITS[digits[3]], DIGITS[digits[4]], DIGITS[digits[5]]
    if start < 0 or hours > 23 or minutes > 59 or seconds > 59:  # noqa: PLR2004 - a clock
        return UNSET
    return start + (hours * 3_600 + minutes * 60 + seconds) * NS


def times_of(digits: NDArray[np.uint8]) -> Ints:
    """Return what :func:`time_of` does of each row of six bytes; shape (n, 6), answer (n,)."""
    octets = digits.astype(np.int64)
    days, place = np.unique(octets[:, 0] << 16 | octets[:, 1] << 8 | octets[:, 2], return_inverse=True)
    start = np.array([_day(day.to_bytes(3)) for day in days.tolist()], np.int64)[place]
    hours, minutes, seconds = _DIGITS[octets[:, 3:]].T
    good = (start >= 0) & (hours <= 23) & (minutes <= 59) & (seconds <= 59)  # noqa: PLR2004 - a clock
    return np.where(good, start + (hours * 3_600 + minutes * 60 + seconds) * NS, UNSET)


def digits_of(ns: int, zone: tzinfo = CHINA) -> bytes:
    """Return the six bytes of a time in ns UTC, in whole seconds."""
    return bytes.fromhex(datetime.fromtimestamp(ns // NS, zone).strftime("%y%m%d%H%M%S"))


@lru_cache(maxsize=4_096)
def _day(digits: bytes) -> int:
    """Return the first instant of a day in China, ns UTC; -1 where the digits are none."""
    year, month, day = (DIGITS[byte] for byte in digits)
    try:
        start = datetime(2000 + year, month, day, tzinfo=CHINA)
    except ValueError:
        return -1
    return int((start - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * NS

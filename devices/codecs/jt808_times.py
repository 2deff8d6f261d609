"""Times of JT/T 808: BCD digits YYMMDDhhmmss in GMT+8, to int64 ns UTC and back."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final

from devices.times import NS

CHINA: Final = timezone(timedelta(hours=8))
DIGITS: Final = tuple(
    10 * (byte >> 4) + (byte & 15) if byte >> 4 < 10 and byte & 15 < 10 else 255  # noqa: PLR2004 - digits
    for byte in range(256)
)
"""Byte → the two decimal digits in it, 255 where it holds none."""
UNSET: Final = 0
"""What no clock shows: the time of receipt counts, as for every time before 2000, unless it was kept for later."""


def time_of(digits: bytes) -> int:
    """Return ns UTC of six bytes, :data:`UNSET` where they are no time, as from a clock that was never set."""
    start = _day(digits[:3])
    hours, minutes, seconds = DIGITS[digits[3]], DIGITS[digits[4]], DIGITS[digits[5]]
    if start < 0 or hours > 23 or minutes > 59 or seconds > 59:  # noqa: PLR2004 - a clock
        return UNSET
    return start + (hours * 3_600 + minutes * 60 + seconds) * NS


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

"""RFC 3339 text to int64 nanoseconds UTC and back."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

NS: Final = 1_000_000_000
SECONDS: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})", re.ASCII)
SECONDS_LENGTH: Final = len("2026-11-23T08:00:00")
FRACTION_AND_ZONE: Final = re.compile(r"(?:[.,](\d{1,18}))?(?:[Zz]|([+-]\d{2}):?(\d{2}))", re.ASCII)
OFFSET: Final = re.compile(r"([+-]\d{2}):(\d{2})", re.ASCII)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_rfc3339(text: str) -> int:
    """Return nanoseconds since 1970 UTC; a zone is required and a fraction beyond nanoseconds is cut off.

    Raises ValueError with what is expected.
    """
    found = FRACTION_AND_ZONE.fullmatch(text, SECONDS_LENGTH)
    if found is None:
        raise ValueError(_expected(text))
    fraction, hours, minutes = found.groups()
    seconds = _seconds(text[:SECONDS_LENGTH])
    if hours is not None:
        seconds -= _offset(hours, minutes)
    return seconds * NS + (int(fraction.ljust(9, "0")[:9]) if fraction else 0)


@lru_cache(4_096)
def _seconds(text: str) -> int:
    """Return the whole seconds of a time without its zone; many messages share each of them."""
    found = SECONDS.fullmatch(text)
    if found is None:
        raise ValueError(_expected(text))
    return int((datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00") - EPOCH).total_seconds())


@lru_cache(256)
def _offset(hours: str, minutes: str) -> int:
    """Return the seconds by which a zone is ahead of UTC."""
    if int(hours[1:]) > 23 or int(minutes) > 59:  # noqa: PLR2004 - hours of a day, minutes of an hour
        raise ValueError(f"zone {hours}:{minutes}: expected less than a day")
    offset = 3_600 * int(hours[1:]) + 60 * int(minutes)
    return -offset if hours[0] == "-" else offset


def parse_offset(text: str) -> int:
    """Return how far a zone such as ``+08:00`` is ahead of UTC, ns; ValueError with what is expected."""
    found = OFFSET.fullmatch(text)
    if found is None:
        raise ValueError(f"zone {text[:32]!r}: expected an offset such as +08:00")
    return _offset(found[1], found[2]) * NS


def _expected(text: str) -> str:
    return f"{text[:64]!r} is not an RFC 3339 time with a zone, such as 2026-11-23T08:00:00Z"


def format_rfc3339(ns: int) -> str:
    """Return ``ns`` as RFC 3339 in UTC, with as many of 0, 3, 6 or 9 fractional digits as it needs."""
    seconds, fraction = divmod(ns, NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if not fraction:
        return f"{text}Z"
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"

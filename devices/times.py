"""RFC 3339 text to int64 nanoseconds UTC and back."""

import re
from datetime import UTC, datetime
from typing import Final

NS: Final = 1_000_000_000
RFC3339: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:[.,](\d{1,18}))?([Zz]|[+-]\d{2}:?\d{2})",
    re.ASCII,
)


def parse_rfc3339(text: str) -> int:
    """Return nanoseconds since 1970 UTC; a zone is required and a fraction beyond nanoseconds is cut off.

    Raises ValueError with what is expected.
    """
    found = RFC3339.fullmatch(text)
    if found is None:
        msg = f"{text[:64]!r} is not an RFC 3339 time with a zone, such as 2026-11-23T08:00:00Z"
        raise ValueError(msg)
    day, clock, fraction, zone = found.groups()
    whole = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    seconds = int((whole - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * NS + int((fraction or "0").ljust(9, "0")[:9])


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

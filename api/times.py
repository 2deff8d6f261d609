"""Times and steps as people write them, to int64 nanoseconds UTC and back; "now" is handed in."""

import re
from typing import Final

import numpy as np

from devices.columns import Ints
from devices.times import NS, parse_rfc3339

TIME_FORMS: Final = "RFC 3339 with a zone (2026-11-23T08:00:00Z), now, now-6h, -1h, or PT1H for one hour ago"
STEP_FORMS: Final = "a duration such as 10s, 5m, 1h, 1d, PT5M or P1D, in multiples of 10 s"
TIME_PATTERN: Final = (
    r"^(now([+-][0-9]{1,9}(s|m|h|d|w))?|-([0-9]{1,9}(s|m|h|d|w)){1,5}|-?P(T?[0-9]{1,9}[WDHMS]){1,5}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2}))$"
)
"""What a client should send as a time; a little more is understood. For the API description."""
STEP_PATTERN: Final = r"^(([0-9]{1,9}(s|m|h|d|w)){1,5}|P(T?[0-9]{1,9}[WDHMS]){1,5})$"

GRID_NS: Final = 10 * NS
"""Ranges begin and end on the finest window's boundaries."""
MAX_NS: Final = 2**63 - 1

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SHORT: Final = re.compile(r"(?:\d{1,9}[smhdw]){1,5}", re.ASCII)
_SHORT_PART: Final = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)
_ISO: Final = re.compile(
    r"P(?=[\dT])(?:(?P<w>\d{1,9})W)?(?:(?P<d>\d{1,9})D)?"
    r"(?:T(?=\d)(?:(?P<h>\d{1,9})H)?(?:(?P<m>\d{1,9})M)?(?:(?P<s>\d{1,9})S)?)?",
    re.ASCII,
)
_ZONE_LOST_ITS_PLUS: Final = re.compile(r"(.*[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?) (\d{2}:\d{2})")


def parse_duration(text: str) -> int:
    """Return the seconds of ``5m``, ``1h30m`` or ``PT5M``; ValueError for anything else (months have no length)."""
    if _SHORT.fullmatch(text):
        return sum(int(number) * _SECONDS[unit] for number, unit in _SHORT_PART.findall(text))
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is not a duration such as 10s, 5m, 1h30m, 1d, PT5M or P1D")
    return sum(int(number) * _SECONDS[unit] for unit, number in found.groupdict().items() if number)


def parse_time(text: str, now_ns: int) -> int:
    """Return ns UTC of an absolute time or of one relative to ``now_ns``; ValueError says what is allowed."""
    try:
        ns = _parse_time(text, now_ns)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a time; allowed: {TIME_FORMS}") from None
    if not 0 <= ns <= MAX_NS:
        raise ValueError(f"{shown(text)} is out of range; allowed: 1970 to 2262")
    return ns


def _parse_time(text: str, now_ns: int) -> int:
    if text == "now":
        return now_ns
    rest = text.removeprefix("now")
    if text.startswith("now") and rest[:1] in {"+", "-", " "}:
        # An unescaped plus sign arrives as a space.
        sign = -1 if rest[0] == "-" else 1
        return now_ns + sign * parse_duration(rest[1:]) * NS
    if text[:1] in {"-", "P"}:
        return now_ns - parse_duration(text.removeprefix("-")) * NS
    lost = _ZONE_LOST_ITS_PLUS.fullmatch(text)
    return parse_rfc3339(f"{lost[1]}+{lost[2]}" if lost else text)


def parse_step(text: str) -> int:
    """Return a step in seconds, a positive multiple of 10 s; ValueError says what is allowed."""
    seconds = parse_duration(text)
    if seconds <= 0 or seconds * NS % GRID_NS:
        raise ValueError(f"{shown(text)} is not a step; allowed: {STEP_FORMS}")
    return seconds


def format_duration(seconds: int) -> str:
    """Return ``seconds`` > 0 as an ISO 8601 duration, such as ``PT1M30S`` or ``P1D``."""
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    clock = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if number)
    return "P" + (f"{days}D" if days else "") + (f"T{clock}" if clock else "")


def on_grid(ns: int) -> int:
    """Return the start of the finest window that holds ``ns``."""
    return ns - ns % GRID_NS


def rfc3339_column(ns: Ints) -> list[str]:
    """Format times (n,), ns UTC, each with 0, 3, 6 or 9 fractional digits; :func:`format_rfc3339` in bulk."""
    result = np.empty(len(ns), dtype="<U30")
    rest = ns % NS
    left = np.ones(len(ns), dtype=np.bool_)
    for unit, width in (("s", NS), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)):
        which = left & (rest % width == 0)
        if which.any():
            result[which] = np.datetime_as_string((ns[which] // width).astype(f"datetime64[{unit}]"), timezone="UTC")
        left &= ~which
    return list(result.tolist())


def shown(text: str) -> str:
    """Return user input quoted and cut to a length fit for a message."""
    quoted = repr(text)
    return quoted if len(quoted) <= 60 else f"{quoted[:57]}..."  # noqa: PLR2004 - a width for people

"""What readers of all makes report, as the event that a gate lane publishes: ``tag_read``."""

import math
import re
from functools import lru_cache
from typing import Final

from devices.codecs.readings import Happening
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar
from devices.times import parse_rfc3339
from devices.topics import ROOT, device_id

MAX_BYTES: Final = 62
"""A code has 496 bits at most."""
HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){1,62}")
"""A code of 8 to 496 bits."""
DIRECTIONS: Final = {"in": "in", "entry": "in", "entrance": "in", "out": "out", "exit": "out"}
"""Name of an antenna in lower case → the direction of the lane that it looks at."""
NAMING_TOPIC: Final = f"{ROOT}/"
LOWEST_MHZ: Final = 800.0
HIGHEST_MHZ: Final = 1_000.0
TURN: Final = 360.0
MS: Final = 1_000_000
US: Final = 1_000
LATEST_MS: Final = 10**14
LATEST_US: Final = 10**17
LATEST_NS: Final = 2**63


def reader_of(told: str, topic: str) -> str:
    """Return the id of a reader: "" where the topic names it, since readers call themselves by host name or MAC."""
    return _id_of(told) if told and not topic.startswith(NAMING_TOPIC) else ""


_id_of = lru_cache(4_096)(device_id)
"""Readers are few, and each says its name with every read."""


def tag_read(tag: str, antenna: int | None, rssi_dbm: float | None, tid: str = "", antenna_name: str = "") -> Happening:
    """Return a read as an event; what a reader does not report is left out. ``tag`` is digits in capitals."""
    data: dict[str, Scalar] = {"tag": tag}
    if antenna is not None:
        data["antenna"] = antenna
    if rssi_dbm is not None:
        data["rssi_dbm"] = rssi_dbm
    if tid:
        data["tid"] = tid.upper()
    if antenna_name:
        data["antenna_name"] = antenna_name
        direction = DIRECTIONS.get(antenna_name.lower())
        if direction is not None:
            data["direction"] = direction
    return Happening("tag_read", data)


@lru_cache(4_096)
def hex_tag(digits: str, where: str) -> str:
    """Return a tag's code in capitals; RejectError names ``where`` it is not made of pairs of hexadecimal digits.

    Remembered, because each tag of a passage is read dozens of times.
    """
    if HEX.fullmatch(digits) is None:
        raise RejectError(Reason.WRONG_TYPE, where, f"{digits[:64]!r}: expected 1 to 62 pairs of hexadecimal digits")
    return digits.upper()


def radians(degrees: float) -> float:
    """Return a phase in rad, of either sign as the reader counts it."""
    return math.radians(degrees % TURN if degrees >= 0 else -(-degrees % TURN))


def in_band(megahertz: float) -> bool:
    """Tell whether a number is a frequency of UHF RFID, and not the number of a channel."""
    return LOWEST_MHZ <= megahertz <= HIGHEST_MHZ


def epoch_ns(number: float) -> int:
    """Return a count since 1970 in ns; its size tells whether it counts milli-, micro- or nanoseconds."""
    if not -LATEST_NS < number < LATEST_NS:
        raise ValueError(f"{str(number)[:32]} is no time")
    size = abs(number)
    unit = MS if size < LATEST_MS else US if size < LATEST_US else 1
    return number * unit if isinstance(number, int) else int(number * unit)


def read_time(stamp: str | float | None, where: str) -> int | None:
    """Return a reader's time in ns UTC, None where it gives none; RejectError names ``where`` it is unreadable."""
    if stamp is None or stamp == "":
        return None
    try:
        return parse_rfc3339(stamp) if isinstance(stamp, str) else epoch_ns(stamp)
    except ValueError as error:
        raise RejectError(Reason.WRONG_TYPE, where, str(error)) from None

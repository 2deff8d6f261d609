"""What the two sides of JT/T 808 say, as message bodies: the terminal's reports and the platform's replies.

Terminals are simulated and tested with the one half, the gateway answers with the other. Frames are made of them by
:func:`devices.codecs.jt808_frames.frames_of`.
"""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from devices.codecs.jt808 import LAYOUT, SOUTH, WEST
from devices.codecs.jt808_times import digits_of
from devices.times import NS

ACCEPTED: Final = 0
FAILED: Final = 1
DAMAGED: Final = 2
"""Result of a message with something wrong in it."""
MOST_ASKED: Final = 255
"""Parts asked for at once, whose number is told in one byte."""
NO_SUCH_TERMINAL: Final = 4
"""Result of a registration: the platform's database has no such terminal."""


def item(number: int, value: bytes) -> bytes:
    """Return an item that follows a location, such as 0x01, the odometer in 0.1 km as u32."""
    return bytes([number, len(value)]) + value


def location(  # noqa: PLR0913 - the fields of the layout
    ts: int,
    latitude: float,
    longitude: float,
    *,
    speed_mps: float = 0.0,
    heading_deg: float = 0.0,
    altitude_m: float = 0.0,
    ignition: bool = True,
    laden: bool = False,
    alarm: int = 0,
    items: bytes = b"",
) -> bytes:
    """Return a location (0x0200): ``ts`` in ns UTC, latitude and longitude in degrees."""
    status = ignition | 2 | 0x300 * laden | SOUTH * (latitude < 0) | WEST * (longitude < 0)
    fields = (
        round(abs(latitude) * 1e6),
        round(abs(longitude) * 1e6),
        round(altitude_m) & 0xFFFF,
        round(speed_mps * 36),
    )
    return LAYOUT.pack(alarm, status, *fields, round(heading_deg) % 360, digits_of(ts)) + items


def batch(locations: Sequence[bytes], *, late: bool) -> bytes:
    """Return a batch (0x0704) of locations; ``late``: they were kept while there was no network."""
    parts = [struct.pack(">H", len(each)) + each for each in locations]
    return struct.pack(">HB", len(locations), late) + b"".join(parts)


def registration(plate: str, *, terminal: str = "7654321", maker: str = "QF808", model: str = "Q1") -> bytes:
    """Return a registration (0x0100) of 2013, of a vehicle with a blue plate of Zhejiang."""
    fixed = [
        text.encode("gbk").ljust(length, b"\0")[:length] for text, length in ((maker, 5), (model, 20), (terminal, 7))
    ]
    return struct.pack(">HH", 33, 206) + b"".join(fixed) + b"\x01" + plate.encode("gbk")


def authentication(code: str, *, of_2019: bool = False, imei: str = "", software: str = "") -> bytes:
    """Return an authentication (0x0102) with the code of the registration's reply."""
    told = code.encode("gbk")
    if not of_2019:
        return told
    return bytes([len(told)]) + told + imei.encode().ljust(15, b"\0")[:15] + software.encode().ljust(20, b"\0")[:20]


def general_reply(serial: int, kind: int, result: int = ACCEPTED) -> bytes:
    """Return the platform's reply (0x8001) to message ``kind`` with ``serial``: 0 accepted, 1 failed."""
    return struct.pack(">HHB", serial, kind, result)


def registration_reply(serial: int, code: str) -> bytes:
    """Return the platform's reply (0x8100) to a registration: accepted, with the code to authenticate with."""
    return struct.pack(">HB", serial, ACCEPTED) + code.encode("gbk")


def registration_refusal(serial: int) -> bytes:
    """Return the platform's reply (0x8100) to a registration: there is no such terminal (result 4)."""
    return struct.pack(">HB", serial, NO_SUCH_TERMINAL)


def parts_request(first: int, missing: Sequence[int], *, of_2019: bool = False) -> bytes:
    """Return the platform's request (0x8003) for the parts ``missing`` of the message that begins with a serial."""
    asked = missing[:MOST_ASKED]
    return struct.pack(f">H{'H' if of_2019 else 'B'}{len(asked)}H", first, len(asked), *asked)


def multimedia_reply(number: int, missing: Sequence[int] = ()) -> bytes:
    """Return the platform's reply (0x8800) to an upload: which parts are missing; nothing after its id if none is."""
    asked = missing[:MOST_ASKED]
    return struct.pack(">I", number) + (struct.pack(f">B{len(asked)}H", len(asked), *asked) if asked else b"")


def time_reply(now: int) -> bytes:
    """Return the platform's reply (0x8004) to a query of the time, ns UTC: six BCD digits pairs, in UTC."""
    return digits_of(now, UTC)


def time_sync_reply(now: int) -> bytes:
    """Return the reply (0x8109) to what some terminals ask instead (0x0109): year u16, then five bytes, in UTC."""
    at = datetime.fromtimestamp(now // NS, UTC)
    return struct.pack(">HBBBBB", at.year, at.month, at.day, at.hour, at.minute, at.second)

"""Plain locations of JT/T 808 as columns: frames of one length that have the same items at the same places.

Thousands of terminals say the same with other numbers. A :class:`Layout` is made of one frame and reads every frame
like it at once, to exactly what :mod:`devices.codecs.jt808` makes of each. A frame that is anything else but sound and
with items that are numbers of known lengths is not read here: it has to be looked into by itself.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import defstruct
from numpy.typing import NDArray

from devices.codecs.jt808 import BELOW_SEA, FIXED, FUEL, ITEMS, LAYOUT, ODOMETER, SOUTH, WEST
from devices.codecs.jt808_frames import (
    ENCRYPTED,
    ESCAPE,
    FLAG,
    HEAD,
    HEAD_2019,
    IN_PARTS,
    LENGTH,
    LOCATION,
    OF_2019,
    unescaped,
)
from devices.codecs.jt808_times import times_of
from devices.columns import Bools, Ints

Octets = NDArray[np.uint8]
PHONE_BITS: Final = 48
"""Bits of a phone number that is read here: those of 2019 have room for more digits, which no number has."""
LAST: Final = 2
"""Checksum and flag behind the body, bytes."""
_FORMATS: Final = {">B": "u1", ">H": ">u2", ">h": ">i2", ">I": ">u4"}
_BODY: Final[dict[str, tuple[str, int]]] = {
    "alarm": (">u4", 0),
    "status": (">u4", 4),
    "latitude": (">u4", 8),
    "longitude": (">u4", 12),
    "altitude": (">u2", 16),
    "speed": (">u2", 18),
    "course": (">u2", 20),
}
"""Field of a location → its type and where it begins in the body."""
CLOCK: Final = slice(22, LAYOUT.size)
"""Where a location has its time."""
FIXED_NAMES: Final = (
    "latitude_deg",
    "longitude_deg",
    "altitude_m",
    "speed_mps",
    "heading_deg",
    "ignition_on",
    "laden",
)


class Locations(NamedTuple):
    """What n frames of a layout say, arrays (n,); of those that are not ``sound`` it means nothing."""

    sound: Bools
    """Whether a frame is one that can be read here."""
    phone: Ints
    """The digits of the terminal's number, as those of a number in base 16."""
    serial: Ints
    ts: Ints
    """Event time, ns UTC; 0 where the clock shows none."""
    values: list[NDArray[Any]]
    """Of each name of the layout, float64, int64 or bool, in the metric's unit."""
    info: list[Ints]
    """Of each fact of the layout."""


class Layout:
    """Where frames of one length have their numbers."""

    def __init__(self, frame: bytes, body: int, items: list[tuple[int, int, int]]) -> None:
        """``frame`` is one of them, whose ``body`` begins there; ``items``: place of the value, number and length."""
        size = len(frame)
        phone = body - 8
        fields = {"phone_high": (">u2", phone), "phone_low": (">u4", phone + 2), "serial": (">u2", phone + 6)}
        fields |= {name: (format_, body + at) for name, (format_, at) in _BODY.items()}
        names, info = list(FIXED_NAMES), ["status", "alarm"]
        for at, number, _ in items:
            if number == ODOMETER:
                names.append("odometer_m")
                fields["odometer_m"] = ">u4", at
            elif number == FUEL:
                names.append("fuel_l")
                fields["fuel_l"] = ">u2", at
            else:
                format_, name = ITEMS[number]
                info.append(name)
                fields[name] = _FORMATS[format_], at
        self.names = tuple(names)
        """Metrics, in the order in which a reading has them."""
        self.values = defstruct("Values", self.names, gc=False)
        """Makes of the values of one frame what is encoded as a reading's are, in less time than a dictionary."""
        self.info = tuple(info)
        """Facts, in the order in which they are told."""
        self._size = size
        self._body = body
        self._type = np.dtype(
            {
                "names": list(fields),
                "formats": [format_ for format_, _ in fields.values()],
                "offsets": [at for _, at in fields.values()],
                "itemsize": size,
            }
        )
        # Kind, attributes, of 2019 also the digits of the phone in front of those that are read, and what items follow.
        head = [0, 1, 2, 3, 4, size - 1, *(range(6, phone) if body - 1 == HEAD_2019.size else ())]
        self._alike = np.array([*head, *(at - back for at, _, _ in items for back in (2, 1))])
        self._template = np.frombuffer(frame, np.uint8)[self._alike]

    def read(self, frames: bytes) -> Locations:
        """Read n frames of the layout's length that are :func:`plain`, one behind the other."""
        octets = np.frombuffer(frames, np.uint8).reshape(-1, self._size)
        sound = (octets[:, self._alike] == self._template).all(axis=1)
        sound &= np.bitwise_xor.reduce(octets[:, 1:-1], axis=1) == 0
        rows = np.frombuffer(frames, self._type)
        fields = {name: rows[name].astype(np.int64) for name in self._type.names or ()}
        status, altitude = fields["status"], fields["altitude"]
        sound &= status & FIXED != 0
        values: dict[str, NDArray[Any]] = {
            "latitude_deg": np.where(status & SOUTH, -fields["latitude"], fields["latitude"]) / 1e6,
            "longitude_deg": np.where(status & WEST, -fields["longitude"], fields["longitude"]) / 1e6,
            "altitude_m": np.where(altitude < BELOW_SEA, altitude, altitude - 0x10000),
            "speed_mps": fields["speed"] / 36,
            "heading_deg": fields["course"],
            "ignition_on": status & 1 != 0,
            "laden": status & 0x300 != 0,
        }
        if "odometer_m" in fields:
            values["odometer_m"] = fields["odometer_m"] * 100
        if "fuel_l" in fields:
            values["fuel_l"] = fields["fuel_l"] / 10
        return Locations(
            sound,
            fields["phone_high"] << 32 | fields["phone_low"],
            fields["serial"],
            times_of(octets[:, self._body :][:, CLOCK]),
            [values[name] for name in self.names],
            [fields[name] for name in self.info],
        )


def plain(frame: bytes) -> bytes:
    """Return a frame as it came without its escapes, between two flags; nothing where it is not written so."""
    if ESCAPE not in frame:
        return frame if frame.count(FLAG) == 2 else b""  # noqa: PLR2004 - before and behind
    if frame.count(FLAG) != 2 or frame[:1] != FLAG or frame[-1:] != FLAG:  # noqa: PLR2004 - as above
        return b""
    data, faults = unescaped(frame[1:-1])
    return b"" if faults else FLAG + data + FLAG


def layout_of(frame: bytes) -> Layout | None:
    """Return the layout of a frame that is :func:`plain`; None where it has none."""
    if len(frame) < 1 + HEAD.size + LAYOUT.size + LAST or int.from_bytes(frame[1:3]) != LOCATION:
        return None
    attributes = int.from_bytes(frame[3:5])
    body = 1 + (HEAD_2019.size if attributes & OF_2019 else HEAD.size)
    end = len(frame) - LAST
    if attributes & (ENCRYPTED | IN_PARTS) or attributes & LENGTH != end - body or end - body < LAYOUT.size:
        return None
    if body - 1 == HEAD_2019.size and any(frame[6 : body - 8]):
        return None
    items: list[tuple[int, int, int]] = []
    at = body + LAYOUT.size
    while at + 2 <= end:
        number, length = frame[at], frame[at + 1]
        if length != _length_of(number) or number in {known for _, known, _ in items}:
            return None
        items.append((at + 2, number, length))
        at += 2 + length
    if at != end or frame[:1] != FLAG or frame[-1:] != FLAG:
        return None
    return Layout(frame, body, items)


def _length_of(number: int) -> int:
    """Return how long an item is that is read as a number, -1 where it is none."""
    if number in {ODOMETER, FUEL}:
        return 4 if number == ODOMETER else 2
    return np.dtype(_FORMATS[ITEMS[number][0]]).itemsize if number in ITEMS else -1

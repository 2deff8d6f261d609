"""Teltonika packets: AVL records of codec 8, 8 extended and 16, as vehicle trackers send them over TCP.

    packet  = 0 u32 | length u32 | codec u8 | records u8 | record* | records u8 | CRC-16/IBM u32 of codec … records
    record  = time u64 ms | priority u8 | position | event | elements
    position = longitude i32 | latitude i32 (1e-7 degree) | altitude i16 m | angle u16 | satellites u8 | speed u16 km/h
    elements = count, then for 1, 2, 4 and 8 bytes: count, (id, value)*; in 8E then: count, (id, length, value)*

Ids and counts are u8 in codec 8; in 8E both are u16; in 16 ids are u16, counts u8, and a generation u8 follows the
event. Some models add elements of 16 bytes to codec 8 and say so nowhere but in the length. Longitude comes before
latitude. Layouts after Teltonika's public description of its data sending protocols.
"""

import struct
from typing import Final, NamedTuple

from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar
from devices.vocabulary import DeviceClass

MS: Final = 1_000_000
POSITION: Final = struct.Struct(">QBiihHBH")
FRAME: Final = struct.Struct(">IIBB")
KMH: Final = 1 / 3.6
LAST_MS: Final = 9_000_000_000_000
"""Later times than this, ms since 1970, do not fit into int64 ns."""
SHORTEST: Final = FRAME.size + 5
IMEI_DIGITS: Final = range(14, 18)


class Layout(NamedTuple):
    """What tells the codecs apart: bytes of an element's id and of a count."""

    id_bytes: int
    count_bytes: int
    generation: bool
    variable: bool
    sizes: tuple[int, ...] = (1, 2, 4, 8)


LAYOUTS: Final[dict[int, Layout]] = {
    0x08: Layout(1, 1, generation=False, variable=False),
    0x8E: Layout(2, 2, generation=False, variable=True),
    0x10: Layout(2, 1, generation=True, variable=False),
}
WITH_16: Final = LAYOUTS[0x08]._replace(sizes=(1, 2, 4, 8, 16))
COMMANDS: Final = frozenset({0x0C, 0x0D, 0x0E, 0x0F})
"""Codecs of commands and their answers: text, kept as an event."""
TIMED: Final = 0x0D
"""The one of these whose text has its time before it."""
OF_IMEI: Final = 0x0E
"""The one whose text has the terminal's IMEI before it, in BCD."""
IMEI_BYTES: Final = 8
YEAR_2000_S: Final = 946_684_800
METRICS: Final[dict[int, tuple[str, float]]] = {
    16: ("odometer_m", 1.0),
    113: ("battery_percent", 1.0),
    239: ("ignition_on", 1.0),
}
"""Element of every family of trackers → metric and factor; what else an id means depends on the model."""


class Teltonika:
    """Decodes one packet, or the IMEI with which a terminal begins."""

    name: Final = "teltonika"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per record; RejectError where the packet ends early or is of no codec that is read."""
        del topic
        if (imei := imei_of(payload)) is not None:
            return [Reading(device=imei, device_class=DeviceClass.VEHICLE, online=True)]
        if len(payload) < SHORTEST:
            raise RejectError(Reason.UNDECODABLE, "", f"{len(payload)} bytes: a packet has at least {SHORTEST}")
        zero, length, codec, count = FRAME.unpack_from(payload)
        if zero:
            raise RejectError(Reason.UNDECODABLE, "", "a packet begins with four zero bytes")
        flags: tuple[str, ...] = () if is_sound(payload) else ("checksum",)
        if length != len(payload) - 12:
            flags += ("length",)
        if codec in COMMANDS:
            return [_command(payload, flags)]
        layout = LAYOUTS.get(codec)
        if layout is None:
            raise RejectError(Reason.UNSUPPORTED_VERSION, "/codec", f"codec {codec:#04x}: 0x08, 0x8E and 0x10 are read")
        return _records(payload, count, layout, flags)


def is_sound(packet: bytes) -> bool:
    """Tell whether a packet ends with the checksum of its content."""
    return int.from_bytes(packet[-4:]) == crc16(packet[8:-4])


def crc16(data: bytes) -> int:
    """Return CRC-16/IBM (ARC): polynomial 0x8005 reflected, from 0."""
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc


def imei_of(payload: bytes) -> str | None:
    """Return the IMEI of an introduction (its length as u16, then digits), None if the bytes are none."""
    digits = payload[2:]
    if len(digits) in IMEI_DIGITS and int.from_bytes(payload[:2]) == len(digits) and digits.isdigit():
        return digits.decode()
    return None


def packet_of(codec: int, count: int, records: bytes) -> bytes:
    """Return a packet around records, as :func:`record_of` writes them."""
    content = bytes([codec, count]) + records + bytes([count])
    return bytes(4) + len(content).to_bytes(4) + content + crc16(content).to_bytes(4)


def record_of(
    ts: int, latitude: float, longitude: float, *, speed_mps: float = 0.0, elements: dict[int, int] | None = None
) -> bytes:
    """Return a record of codec 8 with elements (id → value) of four bytes; ``ts`` in ns UTC, degrees."""
    where = (round(longitude * 1e7), round(latitude * 1e7))
    head = POSITION.pack(ts // MS, 0, *where, 0, 0, 12, round(speed_mps / KMH))
    found = elements or {}
    four = b"".join(struct.pack(">BI", number, value) for number, value in found.items())
    return head + bytes([0, len(found), 0, 0, len(found)]) + four + b"\0"


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


TABLE: Final = _table()


def _records(payload: bytes, count: int, layout: Layout, flags: tuple[str, ...]) -> list[Reading]:
    if not count:
        raise RejectError(Reason.NO_SAMPLES, "/records", "a packet without records")
    end = len(payload) - 5
    plain = _fitting(payload, count, layout)
    if (plain is None or plain[1] != end) and layout is LAYOUTS[0x08]:
        other = _fitting(payload, count, WITH_16)
        plain = other if other is not None and other[1] == end else plain
    if plain is None:
        raise RejectError(Reason.UNDECODABLE, "/records", "the packet ends within a record")
    readings, position = plain
    readings[0].flags = (*flags, *readings[0].flags)
    if position != end or payload[end] != count:
        readings[0].flags += ("count",)
    return readings


def _fitting(payload: bytes, count: int, layout: Layout) -> tuple[list[Reading], int] | None:
    """Return the records read by a layout and where they end, None if that is beyond the packet."""
    position = FRAME.size
    readings = []
    try:
        for _ in range(count):
            reading, position = _record(payload, position, layout)
            readings.append(reading)
    except (struct.error, IndexError):
        return None
    return (readings, position) if position <= len(payload) else None


def _record(payload: bytes, start: int, layout: Layout) -> tuple[Reading, int]:
    """Return one record and where it ends."""
    ms, priority, longitude, latitude, altitude, angle, satellites, speed = POSITION.unpack_from(payload, start)
    reading = Reading(device_class=DeviceClass.VEHICLE, ts=min(ms, LAST_MS) * MS)
    info: dict[str, Scalar] = {"satellites": satellites}
    if priority:
        info["priority"] = priority
    values: dict[str, float | bool] = {}
    if satellites or longitude or latitude:
        values = {
            "latitude_deg": latitude / 1e7,
            "longitude_deg": longitude / 1e7,
            "altitude_m": altitude,
            "speed_mps": speed * KMH,
            "heading_deg": angle,
        }
    if not satellites:
        reading.flags = ("no_fix",)
    position = start + POSITION.size
    position += layout.id_bytes + layout.generation + layout.count_bytes
    for size in layout.sizes:
        count = int.from_bytes(payload[position : position + layout.count_bytes])
        position += layout.count_bytes
        for _ in range(count):
            number = int.from_bytes(payload[position : position + layout.id_bytes])
            position += layout.id_bytes
            _take(number, int.from_bytes(payload[position : position + size]), values, info)
            position += size
            if position > len(payload):
                raise IndexError
    if layout.variable:
        position = _take_variable(payload, position, info)
    reading.values, reading.info = values, info
    return reading, position


def _take(number: int, value: int, values: dict[str, float | bool], info: dict[str, Scalar]) -> None:
    found = METRICS.get(number)
    if found is None:
        info[f"io_{number}"] = value
    elif found[0] == "ignition_on":
        values["ignition_on"] = bool(value)
    else:
        values[found[0]] = value * found[1]


def _take_variable(payload: bytes, position: int, info: dict[str, Scalar]) -> int:
    """Take the elements of any length, which stay raw, in hex; return where they end."""
    count = int.from_bytes(payload[position : position + 2])
    position += 2
    for _ in range(count):
        number, length = struct.unpack_from(">HH", payload, position)
        position += 4 + length
        if position > len(payload):
            raise IndexError
        info[f"io_{number}"] = payload[position - length : position].hex()
    return position


def _command(payload: bytes, flags: tuple[str, ...]) -> Reading:
    said, ts = payload[FRAME.size + 5 : -5], None
    if payload[8] == TIMED:
        said, ts = _timed(said)
    data: dict[str, Scalar] = {"type": payload[FRAME.size]}
    if payload[8] == OF_IMEI and len(said) >= IMEI_BYTES:
        data["imei"], said = said[:IMEI_BYTES].hex().removeprefix("0"), said[IMEI_BYTES:]
    data["text"] = said.decode("latin-1")[:1_000]
    happenings = (Happening("command_text", data),)
    return Reading(device_class=DeviceClass.VEHICLE, ts=ts, happenings=happenings, flags=flags)


def _timed(said: bytes) -> tuple[bytes, int | None]:
    """Split text of codec 13 from the time before it: u32 s, of some models u64 ms; None where neither is one."""
    if (seconds := int.from_bytes(said[:4])) >= YEAR_2000_S:
        return said[4:], seconds * 1_000 * MS
    if YEAR_2000_S * 1_000 <= (ms := int.from_bytes(said[:8])) < LAST_MS:
        return said[8:], ms * MS
    return said, None

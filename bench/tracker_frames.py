"""Made messages of vehicle trackers, in the formats that they speak."""

import json
import struct
from typing import Final

from devices.codecs import jt808_bodies as jt808
from devices.codecs.jt808_frames import LOCATION, frame_of, frames_of
from devices.codecs.sparkplug_payloads import DOUBLE, Metric, write
from devices.codecs.teltonika import packet_of, record_of

START_NS: Final = 1_795_421_730_000_000_000
"""2026-11-23T08:15:30Z."""
PHONE: Final = "13812345678"


def jt808_location(nth: int = 0, phone: str = PHONE, start: int = START_NS) -> bytes:
    """Return the frame of a terminal's ``nth`` report, one every 5 s, with odometer, fuel and signal."""
    items = jt808.item(1, struct.pack(">I", 10_000 + nth)) + jt808.item(2, struct.pack(">H", 350))
    items += jt808.item(0x30, b"\x1f") + jt808.item(0x31, b"\x0c")
    body = jt808.location(
        start + nth * 5_000_000_000,
        29.93 + nth % 1_000 * 1e-5,
        121.85,
        speed_mps=8.3,
        heading_deg=nth % 360,
        laden=nth % 40 < 20,  # noqa: PLR2004 - half of the time
        items=items,
    )
    return frame_of(LOCATION, phone, nth & 0xFFFF, body)


_LOCATIONS: Final = [jt808.location(START_NS + nth * 10**10, 29.9, 121.8 + nth * 1e-4) for nth in range(3)]

SIGNALS: Final = (
    "hoist_height_m", "hoist_speed_mps", "trolley_position_m", "gantry_position_m", "load_t", "power_kw",
    "wind_speed_mps", "x_m", "y_m", "altitude_m",
)  # fmt: skip


def sparkplug_birth(start_ms: int = START_NS // 1_000_000) -> bytes:
    """Return a node's birth: its death's number, and ten signals with their aliases."""
    signals = [Metric(f"Crane/{name}", 20 + nth, start_ms, DOUBLE, 1.5) for nth, name in enumerate(SIGNALS)]
    return write(start_ms, 0, [Metric("bdSeq", value=3, datatype=8), *signals])


def sparkplug_data(nth: int = 1, start_ms: int = START_NS // 1_000_000) -> bytes:
    """Return the ``nth`` message after the birth, one every 100 ms, with a value of each signal by its alias."""
    at = start_ms + 100 * nth
    return write(at, nth & 0xFF, [Metric("", 20 + each, at, DOUBLE, nth % 97 + 0.5) for each in range(len(SIGNALS))])


TRACKERS: Final[dict[str, tuple[bytes, ...]]] = {
    "jt808": (
        jt808_location(),
        frame_of(0x0704, PHONE, 7, jt808.batch(_LOCATIONS, late=True)),
        frame_of(0x0704, PHONE, 8, jt808.batch(_LOCATIONS, late=False), of_2019=True),
        frame_of(0x0100, PHONE, 1, jt808.registration("浙B12345")),
        frame_of(0x0102, PHONE, 2, jt808.authentication("code", of_2019=True, imei="123456789012345"), of_2019=True),
        frame_of(0x0002, PHONE, 3),
        frame_of(0x0702, PHONE, 4, bytes.fromhex("022007211830000004D5C5C8FD") + bytes(20) + b"\x02AB\x20\x19\x06\x30"),
        *frames_of(0x0704, PHONE, 9, jt808.batch(_LOCATIONS * 20, late=True)),
    ),
    "teltonika": (
        packet_of(8, 2, record_of(START_NS, 29.9, 121.8, elements={16: 4_711}) * 2),
        bytes.fromhex("000F") + b"123456789012345",
        packet_of(0x0C, 1, b"\x06\0\0\0\x05hello"),
        # 8 extended: ids and counts of two bytes, an element of three bytes.
        packet_of(0x8E, 1, record_of(START_NS, 29.9, 121.8)[:24] + bytes(12) + b"\0\x01\0\x4e\0\x03abc"),
        packet_of(0x10, 1, record_of(START_NS, 29.9, 121.8)[:24] + b"\0\0\5\1\1\0\xef\1\0\0\0"),
    ),
    "sparkplug": (
        sparkplug_birth(),
        sparkplug_data(),
        write(
            1,
            2,
            [
                Metric("x_m", ts=5, datatype=9, value=1.5, historical=True),
                Metric("Properties/Maker", value="ZPMC"),
                Metric("speed_mps", datatype=3, value=7),
                Metric("laden", datatype=11, value=True),
                Metric("load_t"),
            ],
        ),
        bytes.fromhex("0880b2c7cc8b33120b0a05626453657120045803"),
    ),
    "owntracks": tuple(
        json.dumps(tree).encode()
        for tree in (
            {
                "_type": "location",
                "lat": 29.93,
                "lon": 121.85,
                "tst": START_NS // 10**9,
                "vel": 36,
                "batt": 67,
                "t": "u",
            },
            {"_type": "transition", "event": "enter", "desc": "gate 3", "tst": START_NS // 10**9},
            {"_type": "lwt", "tst": START_NS // 10**9},
            {
                "position": {"latitude": 29.93, "longitude": 121.85, "speed": 10, "fixTime": "2026-11-23T08:00:00Z"},
                "device": {"uniqueId": "865284041968706"},
            },
        )
    ),
}
"""Name of a codec → messages that it decodes."""

"""Teltonika packets: published ones record by record, what is odd about them, refusals."""

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.readings import Reading
from devices.codecs.teltonika import Teltonika, crc16, is_sound, packet_of, record_of
from devices.rejects import RejectError
from devices.times import NS, parse_rfc3339

T0 = parse_rfc3339("2026-11-23T08:00:00Z")
DOCUMENTED = (
    "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F01F10000601A014E"
    "0000000000000000010000C7CF"
)
"""A packet of the maker's description."""


def decode(packet: bytes) -> list[Reading]:
    return Teltonika().decode(packet)


def test_the_documented_packet() -> None:
    assert is_sound(bytes.fromhex(DOCUMENTED))
    [reading] = decode(bytes.fromhex(DOCUMENTED))
    assert reading.ts == 1_560_161_086_000_000_000
    assert reading.values == {}
    assert reading.flags == ("no_fix",)
    assert reading.info == {
        "satellites": 0, "priority": 1, "io_21": 3, "io_1": 1, "io_66": 24_079, "io_241": 24_602, "io_78": 0,
    }  # fmt: skip


def test_every_published_packet_is_read_record_by_record(recorded: Path) -> None:
    lines = (recorded / "trackers" / "teltonika_traccar.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = [json.loads(line) for line in lines]
    assert len(vectors) == 52
    records = unread = 0
    for vector in vectors:
        packet = bytes.fromhex(vector["payload"])
        # An old codec (7), a keep-alive byte and a packet as it goes over UDP.
        if packet[8:9] == b"\x07" or packet == b"\xff" or packet[2:4] == b"\xca\xfe":
            with pytest.raises(RejectError):
                decode(packet)
            unread += 1
            continue
        readings = decode(packet)
        if packet[8:9] in {b"\x08", b"\x8e", b"\x10"}:
            assert len(readings) == packet[9]
            records += len(readings)
            for reading, at in zip(readings, positions(packet, readings), strict=True):
                ms, _, longitude, latitude = struct.unpack_from(">QBii", packet, at)
                assert reading.ts == ms * 10**6
                if reading.values.get("latitude_deg") is not None:
                    assert reading.values["latitude_deg"] == latitude / 1e7
                    assert reading.values["longitude_deg"] == longitude / 1e7
        flags = {flag for reading in readings for flag in reading.flags}
        assert ("checksum" in flags) is (len(packet) > 17 and not is_sound(packet))
    assert (records, unread) == (100, 5)


def positions(packet: bytes, readings: list[Reading]) -> list[int]:
    """Where records begin: each begins with the time that was read."""
    found, at = [], 10
    for reading in readings:
        assert reading.ts is not None
        at = packet.index((reading.ts // 10**6).to_bytes(8), at)
        found.append(at)
        at += 8
    return found


def test_what_another_library_expects_of_a_packet_is_kept_raw(recorded: Path) -> None:
    lines = (recorded / "trackers" / "teltonika_traccar.jsonl").read_text(encoding="utf-8").splitlines()
    found = {}
    for vector in map(json.loads, lines):
        if vector["verify"] == "Attribute":
            [reading] = decode(bytes.fromhex(vector["payload"]))
            found[vector["expected"]] = reading
    assert len(found) == 4
    # The figures of tags lie in elements whose layout is that of the tags' maker.
    assert "6d0f" in str(found['"tag1Voltage", 3090'].info["io_548"])
    assert (3_030).to_bytes(2).hex() in str(found['"tag1Battery", 3030'].info["io_10831"])
    assert found['"eyeTemp1", -11.87'].info["io_10800"] == -1_187 & 0xFFFF
    [driver] = found['Position.KEY_DRIVER_UNIQUE_ID, "12749884"'].happenings
    assert "|12749884|" in str(driver.data["text"])


def test_elements_of_every_family_become_metrics() -> None:
    packet = packet_of(
        8, 1, record_of(T0, 29.93, 121.85, speed_mps=10, elements={16: 4_711, 113: 81, 239: 1, 66: 24_000})
    )
    [reading] = decode(packet)
    assert reading.values == pytest.approx(
        {"latitude_deg": 29.93, "longitude_deg": 121.85, "altitude_m": 0, "speed_mps": 10, "heading_deg": 0,
         "odometer_m": 4_711, "battery_percent": 81, "ignition_on": True}
    )  # fmt: skip
    assert reading.info == {"satellites": 12, "io_66": 24_000}


def test_what_is_odd_is_flagged() -> None:
    record = record_of(T0, 29.93, 121.85)
    good = packet_of(8, 2, record * 2)
    assert [reading.flags for reading in decode(good)] == [(), ()]
    spoilt = good[:-1] + bytes([good[-1] ^ 1])
    assert [reading.flags for reading in decode(spoilt)] == [("checksum",), ()]
    assert decode(packet_of(8, 1, record * 2))[0].flags == ("count",)


def test_an_imei_is_a_sign_of_life() -> None:
    [reading] = decode(bytes.fromhex("000F") + b"123456789012345")
    assert (reading.device, reading.online) == ("123456789012345", True)


@pytest.mark.parametrize(
    ("packet", "reason", "pointer"),
    [
        (b"", "undecodable", ""),
        (b"\x01" * 20, "undecodable", ""),
        (packet_of(7, 1, record_of(T0, 1, 1)), "unsupported_version", "/codec"),
        (packet_of(8, 0, b"\0\0\0"), "no_samples", "/records"),
        (packet_of(8, 3, record_of(T0, 1, 1)), "undecodable", "/records"),
    ],
)
def test_refusals(packet: bytes, reason: str, pointer: str) -> None:
    with pytest.raises(RejectError) as caught:
        decode(packet)
    assert caught.value.reject[:2] == (reason, pointer)


@given(st.binary(max_size=300))
def test_crc_is_the_long_division(data: bytes) -> None:
    crc = 0
    for byte in data:
        for bit in range(8):
            carry = (crc ^ byte >> bit) & 1
            crc = crc >> 1 ^ (0xA001 if carry else 0)
    assert crc16(data) == crc


some_elements = st.dictionaries(st.integers(0, 255), st.integers(0, 2**32 - 1), max_size=9)


@given(st.floats(-90, 90), st.floats(-180, 180), st.integers(0, 10**10), some_elements)
def test_what_is_written_is_read(latitude: float, longitude: float, second: int, elements: dict[int, int]) -> None:
    [reading] = decode(packet_of(8, 1, record_of(second * NS, latitude, longitude, elements=elements)))
    assert reading.ts == min(second, 9 * 10**9) * NS
    assert reading.values["latitude_deg"] == pytest.approx(latitude, abs=1e-7)
    assert reading.values["longitude_deg"] == pytest.approx(longitude, abs=1e-7)
    raw = {int(name.removeprefix("io_")): value for name, value in reading.info.items() if name.startswith("io_")}
    assert raw == {number: value for number, value in elements.items() if number not in {16, 113, 239}}


def test_an_answer_of_codec_14_names_its_terminal() -> None:
    """After the example of the protocol's description."""
    text = b"Ver:03.18.14_04 GPS:AXN_5.10_3333"
    said = bytes.fromhex("0352093081452251") + text
    content = b"\x0e\x01\x06" + len(said).to_bytes(4) + said + b"\x01"
    packet = bytes(4) + len(content).to_bytes(4) + content + crc16(content).to_bytes(4)
    [reading] = decode(packet)
    assert reading.happenings[0].data == {"type": 6, "imei": "352093081452251", "text": text.decode()}
    assert reading.flags == ()

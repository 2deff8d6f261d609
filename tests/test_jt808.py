"""JT/T 808: other libraries' frames field by field, what terminals get wrong, and both sides of the conversation."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808 import MEDIA, Jt808
from devices.codecs.jt808_frames import LENGTH, MAX_FRAME, checksum, frame_of, frames_of, open_frame
from devices.codecs.jt808_parts import MAX_BYTES, MAX_EACH, MAX_PARTS
from devices.codecs.jt808_terminals import authentication
from devices.codecs.jt808_times import UNSET, digits_of, time_of
from devices.codecs.readings import Reading
from devices.rejects import Reason, RejectError
from devices.times import NS, parse_rfc3339
from quayflow.main import app

DOCUMENTED = (
    "7E02000026123456789012007D02000000010000000200BA7F0E07E4F11C0028003C00001810151010100104000000640202007D01137E"
)
"""A frame of the specification's annex, in which both escapes occur."""
PHONE = "13812345678"
T0 = parse_rfc3339("2026-11-23T08:00:00Z")
ITEM_NAMES = {
    "3": "recorder_speed", "4": "alarm_event", "6": "carriage_temperature", "37": "vehicle_signals", "42": "io",
    "43": "analog", "48": "rssi", "49": "satellites",
}  # fmt: skip


def decode(frame: bytes, codec: Jt808 | None = None) -> list[Reading]:
    return (codec or Jt808()).decode(frame)


def spoilt(frame: bytes, at: int, mask: int = 0x01) -> bytes:
    """The frame with one bit changed, and nothing else set right."""
    data = bytearray(frame)
    data[at] ^= mask
    return bytes(data)


def pairs(recorded: Path) -> list[tuple[bytes, dict[str, Any]]]:
    text = (recorded / "trackers" / "jt808_yezhihao_pairs.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [(bytes.fromhex(line["hex"]), line["decoded"]) for line in lines]


def dumped(recorded: Path) -> list[tuple[bytes, dict[str, str]]]:
    """Frames of another library with its dump: Chinese field name → value."""
    text = (recorded / "trackers" / "jt808_gojt808_decoded.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        (bytes.fromhex(line["hex"]), {name: value for _, name, value in line["fields_hex_name_value"]})
        for line in lines
    ]


def test_the_documented_frame_on_the_command_line() -> None:
    result = CliRunner().invoke(app, ["decode", "--codec", "jt808", "--hex", DOCUMENTED])
    line = json.loads(result.stdout)
    assert result.exit_code == 0
    assert line["device"] == "123456789012"
    assert line["seq"] == 126
    assert line["time"] == "2018-10-15T02:10:10Z"
    assert line["values"] == {
        "latitude_deg": 12.222222, "longitude_deg": 132.444444, "altitude_m": 40, "speed_mps": pytest.approx(6 / 3.6),
        "heading_deg": 0, "ignition_on": False, "laden": False, "odometer_m": 10_000, "fuel_l": 12.5,
    }  # fmt: skip


def assert_location(reading: Reading, expected: dict[str, Any]) -> None:
    """Compare a location with the other library's, which keeps the raw numbers."""
    # The other library leaves it to its caller to look at south and west.
    south, west = expected["statusBit"] & 4, expected["statusBit"] & 8
    assert reading.values["latitude_deg"] == expected["latitude"] / (-1e6 if south else 1e6)
    assert reading.values["longitude_deg"] == expected["longitude"] / (-1e6 if west else 1e6)
    assert reading.values["altitude_m"] == expected["altitude"]
    assert reading.values["speed_mps"] == pytest.approx(expected["speed"] / 36)
    assert reading.values["heading_deg"] == expected["direction"]
    assert reading.info.get("alarm", 0) == expected["warnBit"]
    assert reading.info["status"] == expected["statusBit"]
    assert reading.ts == parse_rfc3339(expected["deviceTime"] + "+08:00")
    for item, value in expected.get("attributes", {}).items():
        if item == "1":
            assert reading.values["odometer_m"] == value * 100
        elif item == "2":
            assert reading.values["fuel_l"] == value / 10
        elif item in ITEM_NAMES:
            assert reading.info[ITEM_NAMES[item]] == value
        else:
            # The other library looks into items whose layout is a vendor's; here they stay raw.
            assert bytes.fromhex(str(reading.info[f"item_{int(item):02X}"]))


def test_every_frame_of_another_library_field_by_field(recorded: Path) -> None:
    found = pairs(recorded)
    assert len(found) == 138
    for frame, expected in found:
        assert_paired(frame, expected)


def assert_paired(frame: bytes, expected: dict[str, Any]) -> None:
    """Compare a frame with the other library's decoding: its head, and its body where that is read or written here."""
    message = open_frame(frame, strict=True)
    assert message.kind == expected["messageId"]
    assert message.serial == expected["serialNo"]
    assert message.of_2019 == (expected["protocolVersion"] == 1)
    assert message.phone == expected["clientId"].lstrip("0")
    readings = decode(frame)
    if expected["messageId"] in {0x0200, 0x0201}:
        assert_location(readings[0], expected)
    elif expected["messageId"] == 0x0704:
        assert len(readings) == expected["total"] == len(expected["items"])
        for reading, item in zip(readings, expected["items"], strict=True):
            assert_location(reading, item)
            assert ("historical" in reading.flags) is (expected["type"] == 1)
    elif expected["messageId"] == 0x0801:
        [upload] = readings[0].happenings
        assert [upload.data[name] for name in ("id", "format", "event", "channel")] == [
            expected[name] for name in ("id", "format", "event", "channelId")
        ]
        assert upload.data["medium"] == MEDIA[expected["type"]]
        assert upload.data["latitude_deg"] == expected["location"]["latitude"] / 1e6
        assert upload.data["longitude_deg"] == expected["location"]["longitude"] / 1e6
        assert readings[0].ts == parse_rfc3339(expected["location"]["deviceTime"] + "+08:00")
    assert_terminal(readings[0], expected)
    assert written(expected, of_2019=message.of_2019) in {None, message.body}


def written(expected: dict[str, Any], *, of_2019: bool) -> bytes | None:
    """What the platform's side here writes for a decoded message of the platform; None for others."""
    match expected["messageId"]:
        case 0x8001:
            return bodies.general_reply(
                expected["responseSerialNo"], expected["responseMessageId"], expected["resultCode"]
            )
        case 0x8003:
            return bodies.parts_request(expected["responseSerialNo"], expected["id"], of_2019=of_2019)
        case 0x8800:
            return bodies.multimedia_reply(expected["mediaId"], expected["id"])
    return None


def assert_terminal(reading: Reading, expected: dict[str, Any]) -> None:
    """Compare what a terminal says of itself and its driver, where the message is one of those."""
    if expected["messageId"] == 0x0100:
        names = {"province": "provinceId", "city": "cityId", "maker": "makerId", "model": "deviceModel"}
        names |= {"terminal": "deviceId", "plate_colour": "plateColor", "plate": "plateNo"}
        assert {name: reading.info[name] for name in names} == {name: expected[other] for name, other in names.items()}
    elif expected["messageId"] == 0x0102 and "imei" in expected:
        assert reading.info == {"imei": expected["imei"], "software": expected["softwareVersion"]}
    elif expected["messageId"] == 0x0702:
        [card] = reading.happenings
        names = {
            "name": "name",
            "licence": "licenseNo",
            "authority": "institution",
            "valid_until": "licenseValidPeriod",
        }
        assert {name: card.data[name] for name in names} == {name: expected[other] for name, other in names.items()}
        assert card.data["card"] == "out"
        assert reading.ts == parse_rfc3339("2020-07-21T18:30:00+08:00")


def test_frames_of_a_second_library_field_by_field(recorded: Path) -> None:
    found = dumped(recorded)
    # Six frames have no body, which that library did not take apart.
    assert (len(found), sum(not expected for _, expected in found)) == (42, 6)
    locations = registrations = replies = 0
    for frame, expected in found:
        kind, readings = assert_dumped(frame, expected)
        locations += readings if kind in {0x0200, 0x0704} else 0
        registrations += kind == 0x0100
        replies += kind in {0x8001, 0x8100} and bool(expected)
    assert (locations, registrations, replies) == (9, 3, 21)


def assert_dumped(frame: bytes, expected: dict[str, str]) -> tuple[int, int]:
    """Compare a frame with the second library's dump; return the message's kind and its number of readings."""
    message = open_frame(frame, strict=True)
    if not expected:
        assert frame_of(message.kind, message.phone, message.serial, of_2019=message.of_2019) == frame
        return message.kind, 0
    assert message.phone == expected["终端手机号"].lstrip("0")
    assert message.serial == int(expected["消息流水号"])
    readings = decode(frame)
    if message.kind in {0x0200, 0x0704}:
        for reading in readings:
            assert reading.values["latitude_deg"] == int(expected["纬度"]) / 1e6
            assert reading.values["longitude_deg"] == int(expected["经度"]) / 1e6
            assert reading.values["altitude_m"] == int(expected["海拔高度"])
            assert reading.values["speed_mps"] == pytest.approx(int(expected["速度"]) / 36)
            assert reading.values["heading_deg"] == int(expected["方向"])
            assert reading.info["status"] == int(expected["状态标志"])
            assert reading.info["alarm"] == int(expected["报警标志"])
            assert reading.ts == parse_rfc3339(expected["时间"].replace(" ", "T") + "+08:00")
    elif message.kind == 0x0100:
        info = readings[0].info
        assert info["plate"] == expected["车牌号"]
        assert (info["province"], info["city"]) == (int(expected["省域ID"]), int(expected["市县域ID"]))
    elif message.kind == 0x8001:
        body = bodies.general_reply(int(expected["应答消息流水号"]), int(expected["应答消息ID"]), int(expected["结果"]))
        assert frame_of(0x8001, message.phone, message.serial, body, of_2019=message.of_2019) == frame
    elif message.kind == 0x8100:
        body = bodies.registration_reply(int(expected["应答流水号"]), expected["鉴权码"])
        assert frame_of(0x8100, message.phone, message.serial, body, of_2019=message.of_2019) == frame
    return message.kind, len(readings)


def assert_status(text: str) -> None:
    """Compare a status with the second library's table of its bits, which says all of them and the load in two."""
    status = sum(
        1 << int(bit) for bit, on in re.findall(r"\[bit(\d+)\][^\n]*?:?\[(true|false)\]", text) if on == "true"
    )
    [load] = re.findall(r"\[bit8-bit9\][^\n]*\[(\d\d)\]", text)
    status |= int(load, 2) << 8
    body = struct.pack(">IIIIHHH6s", 0, status, 30_000_000, 120_000_000, 0, 0, 0, digits_of(T0))
    [reading] = decode(frame_of(0x0200, PHONE, 1, body))
    assert reading.info["status"] == status
    assert (reading.values["ignition_on"], reading.flags) == (True, ())
    assert (reading.values["latitude_deg"], reading.values["longitude_deg"]) == (-30.0, -120.0)
    assert reading.values["laden"] is (load != "00")


def assert_items(text: str) -> None:
    """Compare items with the second library's table of them: id, length, then each field in hexadecimal digits."""
    items, told = b"", {}
    for block in re.findall(r"\{(.*?)\n\t\}", text, re.DOTALL):
        if not (head := re.search(r"\[(\w\w)\]附加信息ID.*?\[(\w\w)\]附加信息长度", block, re.DOTALL)):
            continue
        number, length = (int(each, 16) for each in head.groups())
        fields = re.findall(r"\[((?:[0-9a-f]{2})+)\][^\[\]]*:?\[", block[head.end() :])
        told[number] = bytes.fromhex("".join(fields))[:length]
        items += bodies.item(number, told[number])
    [reading] = decode(frame_of(0x0200, PHONE, 1, bodies.location(T0, 29.9, 121.8, items=items)))
    assert reading.flags == ()
    assert reading.values["odometer_m"] == 1_100
    assert reading.values["fuel_l"] == 2.2
    assert (reading.info["recorder_speed"], reading.info["alarm_event"]) == (33, 44)
    for number, value in told.items():
        if str(number) not in ITEM_NAMES and number > 2:
            assert reading.info[f"item_{number:02X}"] == value.hex()
        elif number > 2:
            assert reading.info[ITEM_NAMES[str(number)]] == int.from_bytes(value)


@pytest.mark.parametrize("load", range(4))
def test_status_bits_as_a_second_library_tells_them(recorded: Path, load: int) -> None:
    path = recorded / "trackers" / "jt808_gojt808" / f"protocol__model__testdata__0x0200_status_sign_0{load}.txt"
    assert_status(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("table", [1, 2])
def test_items_as_a_second_library_tells_them(recorded: Path, table: int) -> None:
    path = recorded / "trackers" / "jt808_gojt808" / f"protocol__model__testdata__0x0200_addition_{table}.txt"
    assert_items(path.read_text(encoding="utf-8"))


def test_a_message_as_a_second_library_cuts_it_into_parts(recorded: Path) -> None:
    folder = recorded / "trackers" / "jt808_gojt808"
    whole = bytes.fromhex((folder / "protocol__jt808__testdata__0x1205_src.txt").read_text(encoding="utf-8").strip())
    frames = (folder / "protocol__jt808__testdata__0x1205_dst.txt").read_text(encoding="utf-8").split()
    messages = [open_frame(bytes.fromhex(line), strict=True) for line in frames]
    assert b"".join(message.body for message in messages) == whole
    assert [message.part for message in messages] == [(nth, 6) for nth in range(1, 7)]
    codec = Jt808()
    last = [decode(bytes.fromhex(line), codec) for line in frames][-1]
    assert last[0].info == {"message": "0x1205"}


@pytest.mark.parametrize("edition", [2013, 2019])
def test_a_head_as_a_second_library_tells_it(recorded: Path, edition: int) -> None:
    path = recorded / "trackers" / "jt808_gojt808" / f"protocol__jt808__testdata__head_{edition}.txt"
    text = path.read_text(encoding="utf-8")
    [phone], [serial] = re.findall(r"\] 终端手机号:\[(\d+)\]", text), re.findall(r"\] 消息流水号:\[(\d+)\]", text)
    message = open_frame(frame_of(0x0002, phone, int(serial), of_2019=edition == 2019), strict=True)
    assert (message.kind, message.phone, message.serial) == (0x0002, phone, int(serial))
    assert f"版本号:[JT{edition}]" in text
    assert message.of_2019 is (edition == 2019)


def test_every_other_published_frame_is_read(recorded: Path) -> None:
    folder = recorded / "trackers"
    lines = (folder / "jt808_yezhihao_frames.txt").read_text(encoding="utf-8").split()
    assert len(lines) == 96
    for line in lines:
        assert all(
            set(reading.flags) <= {"no_fix", "not_read", "historical"} for reading in decode(bytes.fromhex(line))
        )


def test_a_message_in_parts_is_whole_in_any_order_and_however_often_a_part_comes(recorded: Path) -> None:
    text = (recorded / "trackers" / "jt808_yezhihao_fragments_1205.txt").read_text(encoding="utf-8").split()
    frames = [bytes.fromhex(line) for line in text if int(line[2:6], 16) == 0x1205]
    codec = Jt808()
    last: list[Reading] = []
    for frame in [frames[3], *reversed(frames)]:
        last = decode(frame, codec)
    assert [reading.info for reading in last] == [{"message": "0x1205"}]
    [[phone, kind, total, [_, _, _, whole]]] = msgpack.unpackb(codec.take_state(), strict_map_key=False)
    assert (phone, kind, total, whole) == ("17299841738", 0x1205, 18, True)


@pytest.mark.parametrize("of_2019", [False, True])
def test_a_batch_in_parts_comes_with_the_last_part_and_over_a_restart(of_2019: bool) -> None:
    locations = [bodies.location(T0 + nth * NS, 29.9, 121.8, speed_mps=nth) for nth in range(99)]
    frames = frames_of(0x0704, PHONE, 0xFFFF, bodies.batch(locations, late=True), of_2019=of_2019)
    codec = Jt808()
    for frame in frames[:-1]:
        [reading] = decode(frame, codec)
        assert reading.online is True
        assert codec.learned
    again = Jt808()
    again.restore(codec.take_state())
    assert not codec.learned
    readings = decode(frames[-1], again)
    assert [reading.ts for reading in readings] == [T0 + nth * NS for nth in range(99)]
    assert {reading.flags for reading in readings} == {("historical",)}


def later(codec: Jt808, frame: bytes, seconds: int = 0) -> list[Reading]:
    codec.received += seconds * NS
    return decode(frame, codec)


def part(serial: int, number: int, total: int = 3, body: bytes = b"x", kind: int = 0x0704) -> bytes:
    return frame_of(kind, PHONE, serial, body, part=(number, total))


def test_parts_that_do_not_come_are_given_up_and_what_has_come_of_them_is_in_quarantine() -> None:
    codec = Jt808()
    codec.received = T0
    assert later(codec, part(5, 1, body=b"one"))[0].info == {"part": "1/3"}
    later(codec, part(7, 3, body=b"three"), 60)
    heartbeat, location = frame_of(0x0002, PHONE, 8), frame_of(0x0200, PHONE, 9, bodies.location(T0, 29.9, 121.8))
    assert len(later(codec, heartbeat, 120)) == len(later(codec, location, 1)) == 1
    codec.learned = False
    again = Jt808()
    again.restore(codec.take_state())
    again.received = codec.received
    [alive, lost] = later(again, heartbeat)
    assert alive.online
    assert (lost.device, lost.flags, lost.payload, lost.seq) == (PHONE, ("parts_lost",), b"onethree", None)
    [reject] = lost.refused
    assert (reject.reason, reject.detail) == (
        Reason.PARTS_MISSING, "message 0x0704: of 3 parts there never came 1 (2)",
    )  # fmt: skip
    assert again.learned
    assert len(later(again, heartbeat, 999)) == 1


def test_a_message_that_is_refused_does_not_take_with_it_what_was_given_up() -> None:
    codec = Jt808()
    codec.received = T0
    later(codec, part(5, 1))
    with pytest.raises(RejectError):
        later(codec, frame_of(0x0704, PHONE, 8, b"\0"), 300)
    assert [reading.flags for reading in later(codec, frame_of(0x0002, PHONE, 9))] == [(), ("parts_lost",)]


def test_parts_are_those_of_the_message_whose_serials_they_have() -> None:
    where = [bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(80)]
    early = frames_of(0x0704, PHONE, 65_534, bodies.batch(where, late=True))
    late = frames_of(0x0704, PHONE, 1, bodies.batch(where[::-1], late=True))
    assert len(early) == len(late) == 3
    codec = Jt808()
    for frame in (early[0], late[0], late[2], early[2], late[2]):
        assert [reading.ts for reading in decode(frame, codec)] == [None]
    assert [reading.ts for reading in decode(late[1], codec)] == [T0 + nth * NS for nth in range(79, -1, -1)]
    assert [reading.ts for reading in decode(early[1], codec)] == [T0 + nth * NS for nth in range(80)]
    # Sent again, a part is that of the message which is whole.
    for frame in (*early, *late):
        assert [reading.online for reading in later(codec, frame, 9)] == [True]
    assert len(later(codec, frame_of(0x0002, PHONE, 9), 999)) == 1


def test_a_terminal_may_send_something_else_between_two_parts() -> None:
    where = [bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(80)]
    frames = frames_of(0x0704, PHONE, 10, bodies.batch(where, late=True))
    pieces = [open_frame(frame).body for frame in frames]
    codec = Jt808()
    found = [decode(part(10 + 2 * nth, nth + 1, body=piece), codec) for nth, piece in enumerate(pieces)]
    assert [len(readings) for readings in found] == [1, 1, 80]


def test_parts_are_bounded_and_a_terminal_that_begins_anew_gives_up_what_it_had_begun() -> None:
    codec = Jt808()
    codec.received = T0
    assert len(later(codec, part(5, 1, body=b"one"))) == 1
    begun = later(codec, part(5, 1, body=b"other"))
    assert [reading.payload for reading in begun] == [b"", b"one"]
    for nth in range(MAX_EACH - 1):
        assert len(later(codec, part(100 * nth + 50, 1), 1)) == 1
    assert [reading.payload for reading in later(codec, part(9_000, 1), 1)] == [b"", b"other"]
    for frame, reason in ((part(1, 3, 2), "part 3 of 2"), (part(1, 1, MAX_PARTS + 1), "at most")):
        with pytest.raises(RejectError, match=reason):
            later(codec, frame)
    full = [frame_of(0x0704, str(nth + 1), 1, bytes(LENGTH), part=(1, 2)) for nth in range(MAX_BYTES // LENGTH)]
    with pytest.raises(RejectError, match="parts_missing at /parts"):
        [later(codec, frame) for frame in full]


def test_an_upload_is_told_by_what_stands_before_its_data() -> None:
    head = struct.pack(">IBBBB", 123, 0, 0, 1, 2)
    picture = head + bodies.location(T0, 29.93, 121.85) + b"\xff\xd8" + bytes(3_000)
    codec, frames = Jt808(), frames_of(0x0801, PHONE, 5, picture)
    for frame in frames[1:]:
        decode(frame, codec)
    [reading] = decode(frames[0], codec)
    [upload] = reading.happenings
    assert upload.type == "multimedia"
    assert upload.data == {
        "id": 123, "medium": "picture", "format": 0, "event": 1, "channel": 2, "parts": 3,
        "latitude_deg": 29.93, "longitude_deg": 121.85,
    }  # fmt: skip
    assert (reading.ts, reading.values, reading.online) == (T0, {}, True)
    # The edition of 2011 has no location there, and a short one no data.
    for body in (head + b"\xff\xd8" + bytes(99), head + b"\xff"):
        [reading] = decode(frame_of(0x0801, PHONE, 5, body))
        assert reading.ts is None
        assert reading.happenings[0].data == {"id": 123, "medium": "picture", "format": 0, "event": 1, "channel": 2}


def test_what_terminals_get_wrong_is_flagged_or_in_strict_mode_refused() -> None:
    good = frame_of(0x0200, PHONE, 7, bodies.location(T0, 29.93, 121.85, items=b"\x01\x04\0\0\0\x64"))
    bad_checksum = spoilt(good, -2)
    inner = good[1:-2]
    short = bytes([*inner[:3], inner[3] - 1, *inner[4:]])
    bad_length = b"\x7e" + short + bytes([checksum(short)]) + b"\x7e"
    for frame, flag in ((bad_checksum, "checksum"), (bad_length, "length")):
        [reading] = decode(frame)
        assert reading.flags == (flag,)
        assert reading.values == decode(good)[0].values
        with pytest.raises(RejectError) as caught:
            Jt808(strict=True).decode(frame)
        assert caught.value.reject.pointer == f"/{flag}"
    [reading] = decode(
        frame_of(0x0200, PHONE, 7, bodies.location(T0, 29.93, 121.85, items=b"\x01\x04\0\0\0\x64\xe0\x09ab"))
    )
    assert reading.flags == ("overrun",)
    assert reading.info["item_E0"] == b"ab".hex()


def test_in_strict_mode_a_body_that_breaks_the_rules_is_refused_as_well() -> None:
    where = bodies.location(T0, 29.93, 121.85)
    batch = bytearray(bodies.batch([where, where], late=False))
    batch[1] = 3
    overrun = bodies.location(T0, 29.93, 121.85, items=b"\xe0\x09ab")
    broken = {
        "overrun": frame_of(0x0200, PHONE, 1, overrun),
        "count": frame_of(0x0704, PHONE, 1, bytes(batch)),
        "bare_code": frame_of(0x0102, PHONE, 1, b"code", of_2019=True),
        "edition": frame_of(0x0100, PHONE, 1, bodies.registration("浙B12345"), of_2019=True),
        "bare_items": frame_of(0x0704, PHONE, 1, b"\0\2\1" + where + where),
    }
    for flag, frame in broken.items():
        assert flag in decode(frame)[0].flags
        with pytest.raises(RejectError) as caught:
            Jt808(strict=True).decode(frame)
        assert caught.value.reject.pointer == f"/{flag}"
    assert Jt808(strict=True).decode(frame_of(0x0200, PHONE, 1, where)) == decode(frame_of(0x0200, PHONE, 1, where))


@pytest.mark.parametrize("code", [b"code", b"0123456789abcdef", b"\x04code", b"\xd5\xe3"])
def test_a_terminal_of_2019_may_leave_out_what_stands_around_its_code(code: bytes) -> None:
    said = authentication(code, of_2019=True)
    assert said.flags == ("bare_code",)
    assert said.code == code.removeprefix(b"\x04").decode("gbk")
    assert decode(frame_of(0x0102, PHONE, 1, code, of_2019=True))[0].flags == ("bare_code",)
    full = authentication(bodies.authentication("code", of_2019=True, imei="123456789012345"), of_2019=True)
    assert (full.code, full.flags) == ("code", ())


def test_an_altitude_below_the_level_of_the_sea_and_an_alarm_that_is_over() -> None:
    def told(altitude: float, alarm: int) -> Reading:
        return decode(frame_of(0x0200, PHONE, 1, bodies.location(T0, 29.9, 121.8, altitude_m=altitude, alarm=alarm)))[0]

    assert told(-12, 1).values["altitude_m"] == -12
    # What a device has said stands until it says otherwise.
    assert (told(3, 1).info["alarm"], told(3, 0).info["alarm"]) == (1, 0)


def test_a_batch_without_the_lengths_of_its_locations_is_read() -> None:
    where = [bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(3)]
    bare = decode(frame_of(0x0704, PHONE, 1, b"\0\3\1" + b"".join(where)))
    sound = decode(frame_of(0x0704, PHONE, 1, bodies.batch(where, late=True)))
    assert [(each.ts, each.values) for each in bare] == [(each.ts, each.values) for each in sound]
    assert [each.flags for each in bare] == [("historical", "bare_items"), ("historical",), ("historical",)]


def test_status_bits() -> None:
    for bits, laden in ((0, False), (1, True), (3, True)):
        body = struct.pack(">IIIIHHH6s", 0, bits << 8 | 2, 1, 1, 0, 0, 0, digits_of(T0))
        assert decode(frame_of(0x0200, PHONE, 1, body))[0].values["laden"] is laden
    [reading] = decode(frame_of(0x0200, PHONE, 1, bodies.location(T0, -33.5, -70.25, ignition=False, laden=True)))
    assert (reading.values["latitude_deg"], reading.values["longitude_deg"]) == (-33.5, -70.25)
    assert (reading.values["ignition_on"], reading.values["laden"]) == (False, True)
    nowhere = struct.pack(">IIIIHHH6s", 0, 1, 0, 0, 0, 0, 0, digits_of(T0))
    [reading] = decode(frame_of(0x0200, PHONE, 1, nowhere))
    assert reading.flags == ("no_fix",)
    assert "latitude_deg" not in reading.values


def test_a_batch_keeps_what_can_be_read_of_it() -> None:
    locations = [bodies.location(T0, 29.9, 121.8), b"short", bodies.location(T0 + NS, 29.9, 121.8)]
    body = bytearray(bodies.batch(locations, late=False))
    body[1] = 9
    readings = decode(frame_of(0x0704, PHONE, 1, bytes(body[:-3])))
    assert [bool(reading.values) for reading in readings] == [True, False, False]
    assert [reading.flags for reading in readings] == [("count",), (), ()]
    assert [reading.refused[0].pointer for reading in readings[1:]] == ["/items/1", "/items/2"]


def test_logout_heartbeat_and_unread_messages() -> None:
    assert decode(frame_of(0x0003, PHONE, 1))[0].online is False
    assert decode(frame_of(0x0002, PHONE, 1))[0].online is True
    [unread] = decode(frame_of(0x0801, PHONE, 1, b"\0"))
    assert (unread.flags, unread.info) == (("not_read",), {"message": "0x0801"})
    [from_platform] = decode(frame_of(0x8300, PHONE, 1, b"\0"))
    assert [each.type for each in from_platform.happenings] == ["cmd"]


@pytest.mark.parametrize(
    ("frame", "pointer"),
    [
        (b"", ""),
        (b"\x7e\x7e", ""),
        (frame_of(0x0200, PHONE, 1, bytes(27)), ""),
        (frame_of(0x0704, PHONE, 1, b"\0"), "/items"),
        (frame_of(0x0704, PHONE, 1, b"\0\x01\0"), "/items"),
        (frame_of(0x0100, PHONE, 1, bytes(20)), ""),
        (frame_of(0x0102, PHONE, 1, b"\x05abc", of_2019=True), ""),
        (frame_of(0x0702, PHONE, 1, b"\x01"), ""),
        (spoilt(frame_of(0x0200, PHONE, 1, bodies.location(T0, 1, 1)), 3, 0x04), "/attributes"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_pointer(frame: bytes, pointer: str) -> None:
    with pytest.raises(RejectError) as caught:
        decode(frame)
    assert caught.value.reject.pointer == pointer


phones = st.text("0123456789", min_size=1, max_size=12)


@given(st.integers(0, 0xFFFF), phones, st.integers(0, 0xFFFF), st.binary(max_size=LENGTH), st.booleans())
def test_a_frame_is_the_inverse_of_its_opening(kind: int, phone: str, serial: int, body: bytes, of_2019: bool) -> None:
    frame = frame_of(kind, phone, serial, body, of_2019=of_2019)
    assert len(frame) <= MAX_FRAME
    assert b"\x7e" not in frame[1:-1]
    message = open_frame(frame, strict=True)
    assert message == (kind, phone.lstrip("0") or "0", serial, body, of_2019, None, ())


@given(st.binary(max_size=3_000), st.integers(0, 0xFFFF))
def test_a_long_body_goes_in_parts(body: bytes, serial: int) -> None:
    messages = [open_frame(frame, strict=True) for frame in frames_of(0x0704, PHONE, serial, body)]
    assert b"".join(message.body for message in messages) == body
    assert [message.serial for message in messages] == [(serial + nth) & 0xFFFF for nth in range(len(messages))]


@given(st.binary(min_size=1, max_size=2_000))
def test_checksum_is_the_exclusive_or(data: bytes) -> None:
    expected = 0
    for byte in data:
        expected ^= byte
    assert checksum(data) == expected


@given(st.integers(parse_rfc3339("2000-01-01T00:00:00+08:00") // NS, parse_rfc3339("2099-12-31T23:59:59+08:00") // NS))
def test_times_come_back(second: int) -> None:
    assert time_of(digits_of(second * NS)) == second * NS


@pytest.mark.parametrize(
    "digits", ["000000000000", "261301000000", "260230000000", "261123240000", "2611230A0000", "ff" * 6]
)
def test_what_no_clock_shows_is_unset(digits: str) -> None:
    assert time_of(bytes.fromhex(digits)) == UNSET


def test_frames_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(ValueError, match="1024 bytes"):
        frame_of(0x0200, PHONE, 1, bytes(1_024))
    with pytest.raises(ValueError, match="at most 12 digits"):
        frame_of(0x0200, "1" * 14, 1)


def test_both_ways_of_asking_the_time() -> None:
    now = parse_rfc3339("2026-11-23T08:15:30Z")
    assert bodies.time_reply(now).hex() == "261123081530"
    assert bodies.time_sync_reply(now).hex() == "07ea0b1708" + "0f1e"

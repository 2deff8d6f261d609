"""RFID readers: Impinj, Zebra and LLRP against observed and recorded messages, and what is wrong with a message."""

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.frames import LLRP_KEEPALIVE, START_NS, impinj_read, llrp_event, llrp_report, zebra_read
from devices.codecs.impinj import Impinj
from devices.codecs.json_frames import MAX_OBJECTS, MAX_PAYLOAD
from devices.codecs.llrp import Llrp
from devices.codecs.readings import Codec, Reading
from devices.codecs.registry import make_codec
from devices.codecs.tag_reads import epoch_ns, radians
from devices.codecs.zebra import MAX_BACKWARD, MAX_SOURCES, Zebra
from devices.rejects import Reason, RejectError
from devices.times import parse_rfc3339
from devices.vocabulary import BY_NAME, DeviceClass
from ingest.checks import MAX_TAG

READERS = ("impinj", "zebra", "llrp")


def text_of(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def read_of(reading: Reading) -> dict[str, Any]:
    [happening] = reading.happenings
    assert happening.type == "tag_read"
    return happening.data


def one(codec: Codec, payload: bytes) -> Reading:
    [reading] = codec.decode(payload)
    return reading


def recorded_messages(recorded: Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every observed message: codec, payload and what its source says that it means."""
    decoded = json.loads((recorded / "rfid" / "reader_payloads_decoded.json").read_text())
    for maker, messages in decoded.items():
        for message in messages:
            yield maker.partition("_")[0], message["payload"], message.get("expect", {})
    for line in (recorded / "rfid" / "reader_payloads_observed.jsonl").read_text().splitlines():
        found = json.loads(line)
        yield found["reader"], found["payload"], {}


# --- observed messages -----------------------------------------------------------------------------------------------


def test_every_observed_message_is_read_as_it_says(recorded: Path) -> None:
    reads = 0
    for name, payload, expected in recorded_messages(recorded):
        found = payload[0] if isinstance(payload, list) else payload
        for read in found.get("tag_reads", [found.get("data", {}) | found.get("tagInventoryEvent", {})]):
            reading = one(make_codec(name), text_of(payload))
            assert reading.device_class is DeviceClass.RFID_GATE
            assert reading.refused == ()
            if found.get("type") == "heartbeat":
                assert (reading.online, reading.happenings, reading.seq) == (True, (), found["eventNum"])
                continue
            reads += 1
            data = read_of(reading)
            digits = read.get("epcHex") or read.get("idHex") or expected.get("epc_hex") or read["epc"]
            assert data["tag"] + data.get("tid", "" if "tidHex" not in read else "x") in {
                digits.upper(), digits.upper() + read.get("tidHex", ""),
            }  # fmt: skip
            assert data.get("antenna") == read.get("antennaPort", read.get("antenna"))
            rssi = read.get("peakRssi", read["peakRssiCdbm"] / 100 if "peakRssiCdbm" in read else None)
            assert data.get("rssi_dbm") == expected.get("rssi_dbm", rssi)
            assert reading.seq == read.get("eventNum")
            stamp = found.get("timestamp", read.get("firstSeenTimestamp"))
            if isinstance(stamp, str):
                assert reading.ts == parse_rfc3339(stamp)
            else:
                assert reading.ts == stamp * (10**6 if stamp < 10**14 else 10**3)
            if "frequency" in read:
                assert reading.values["frequency_mhz"] == read["frequency"] / 1_000
    assert reads == 13


def test_what_a_reader_reports_is_within_the_vocabulary(recorded: Path) -> None:
    for name, payload, _ in recorded_messages(recorded):
        for reading in make_codec(name).decode(text_of(payload)):
            for metric, value in reading.values.items():
                assert DeviceClass.RFID_GATE in BY_NAME[metric].classes
                assert BY_NAME[metric].minimum <= value <= BY_NAME[metric].maximum
            for happening in reading.happenings:
                assert len(str(happening.data["tag"])) <= MAX_TAG


def test_recorded_llrp_messages_agree_with_the_other_librarys_decoding(recorded: Path) -> None:
    paths = sorted((recorded / "rfid" / "llrp").rglob("*.bytes"))
    assert len(paths) == 15
    for path in paths:
        other = json.loads(path.with_suffix(".json").read_text())
        readings = Llrp().decode(path.read_bytes())
        if "TagReportData" in other:
            assert len(readings) == len(other["TagReportData"])
            for reading, tag in zip(readings, other["TagReportData"], strict=True):
                data = read_of(reading)
                assert bytes.fromhex(data["tag"]) == base64.b64decode(tag["EPC96"]["EPC"])
                assert (data["antenna"], data["rssi_dbm"]) == (tag["AntennaID"], tag["PeakRSSI"])
                assert reading.ts == tag["FirstSeenUTC"] * 1_000
            continue
        [reading] = readings
        if "ReaderEventNotificationData" in other:
            event = other["ReaderEventNotificationData"]
            assert reading.ts == event["UTCTimestamp"] * 1_000
            assert [happening.type for happening in reading.happenings] == ["reader_connection_close"]
            assert (event["ConnectionCloseEvent"], reading.online) == ({}, False)
            continue
        assert reading.info["status"] == other["LLRPStatus"]["Status"]
        assert reading.info["error"] == other["LLRPStatus"]["ErrorDescription"]
        general = other.get("GeneralDeviceCapabilities")
        if general:
            assert reading.info["max_antennas"] == general["MaxSupportedAntennas"]
            assert reading.info["utc_clock"] == general["HasUTCClock"]
            assert reading.info["maker"] == general["DeviceManufacturer"]
            assert reading.info["model"] == general["Model"]
            assert reading.info["firmware"] == general["FirmwareVersion"]
        if "Identification" in other:
            assert bytes.fromhex(reading.device) == base64.b64decode(other["Identification"]["ReaderID"])
            for antenna in other["AntennaProperties"]:
                assert reading.info[f"antenna_{antenna['AntennaID']}_connected"] == antenna["AntennaConnected"]
                assert reading.info[f"antenna_{antenna['AntennaID']}_gain_dbi"] == antenna["AntennaGain"] / 100


# --- Impinj ----------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=62), st.booleans(), st.booleans())
def test_a_code_is_the_same_in_base64_of_either_alphabet_and_in_digits(code: bytes, url: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if url else base64.b64encode)(code).decode()
    for event in ({"epc": text if padded else text.rstrip("=")}, {"epcHex": code.hex()}):
        message = {"eventType": "tagInventory", "tagInventoryEvent": event}
        assert read_of(one(Impinj(), text_of(message)))["tag"] == code.hex().upper()


def test_an_array_and_lines_are_reads_one_by_one() -> None:
    messages = [impinj_read(nth) for nth in range(4)]
    single = [one(Impinj(), message) for message in messages]
    assert Impinj().decode(b"[" + b",".join(messages) + b"]") == single
    assert Impinj().decode(b"\n".join(messages) + b"\n") == single
    assert Impinj().decode(b" [" + b", ".join(messages) + b" ] ") == single


def test_one_bad_read_among_good_ones_is_refused_alone() -> None:
    bad = text_of({"eventType": "tagInventory", "tagInventoryEvent": {"epc": "4oAR", "antennaPort": "one"}})
    worse = text_of({"eventType": "tagInventory", "tagInventoryEvent": {"epc": "~"}})
    for payload in (
        b"[" + b",".join([impinj_read(1), bad, worse, impinj_read(2)]) + b"]",
        b"\n".join([impinj_read(1), bad, worse, impinj_read(2)]),
    ):
        readings = Impinj().decode(payload)
        assert readings[0].values == one(Impinj(), impinj_read(1)).values
        assert len(readings) == 2
        assert readings[0].refused[0][:2] == (Reason.WRONG_TYPE, "/1/tagInventoryEvent/antennaPort")
        assert readings[0].refused[1].reason is Reason.WRONG_TYPE


def test_the_name_of_an_antenna_may_tell_the_direction() -> None:
    event = {"epcHex": "E28011", "antennaPort": 2, "antennaName": "Exit", "peakRssiCdbm": -5500}
    data = read_of(one(Impinj(), text_of({"eventType": "tagInventory", "tagInventoryEvent": event})))
    assert (data["direction"], data["antenna_name"]) == ("out", "Exit")
    data = read_of(one(Impinj(), text_of({"eventType": "t", "tagInventoryEvent": event | {"antennaName": "north"}})))
    assert "direction" not in data


def test_what_is_no_read_is_an_event_of_its_own_type() -> None:
    message = {
        "eventType": "inventoryStatus", "timestamp": "2026-11-23T08:15:30Z", "hostname": "gate-1",
        "inventoryStatusEvent": {"inventoryStatus": "running", "nested": {"x": 1}},
    }  # fmt: skip
    reading = one(Impinj(), text_of(message))
    assert (reading.device, reading.happenings[0].type) == ("gate-1", "inventoryStatus")
    assert reading.happenings[0].data == {"inventoryStatus": "running"}


# --- Zebra -----------------------------------------------------------------------------------------------------------


def test_missing_numbers_are_told_once_with_the_read_that_follows() -> None:
    codec = Zebra()
    numbers = [5, 6, 9, 8, 9, 10]
    found = [one(codec, zebra_read(nth)) for nth in numbers]
    assert [reading.seq for reading in found] == [16_511 + nth for nth in numbers]
    assert [reading.info.get("missing") for reading in found] == [None, None, 2, None, None, None]
    assert [reading.flags for reading in found] == [(), (), ("gap",), (), (), ()]


def test_a_reader_that_starts_again_has_lost_nothing() -> None:
    codec = Zebra()
    one(codec, zebra_read(MAX_BACKWARD + 5))
    assert one(codec, zebra_read(0)).flags == ()
    assert one(codec, zebra_read(1)).flags == ()


def test_heartbeats_and_reads_are_numbered_apart() -> None:
    codec = Zebra()
    one(codec, zebra_read(0))
    heartbeat = {"type": "heartbeat", "eventNum": 372, "timestamp": "2026-03-28T07:19:57.878+0000"}
    assert one(codec, text_of(heartbeat)).flags == ()
    assert one(codec, text_of(heartbeat | {"eventNum": 374})).info == {"missing": 1}
    assert one(codec, zebra_read(1)).flags == ()


def test_numbers_of_no_more_readers_than_a_bound_are_remembered() -> None:
    codec = Zebra()
    for nth in range(MAX_SOURCES + 50):
        message = {"type": "SIMPLE", "data": {"idHex": "E2", "eventNum": 1, "MAC": f"reader-{nth}"}}
        assert one(codec, text_of(message)).device == f"reader-{nth}"
    assert len(codec._last) == MAX_SOURCES  # noqa: SLF001 - the bound is the law


def test_a_tid_read_at_once_is_taken_from_the_code() -> None:
    message = {
        "type": "CUSTOM",
        "data": {"format": "fastID", "idHex": "e28011b0a5050076c4d7530ae28011b02000b30a26ba03b6"},
    }
    assert read_of(one(Zebra(), text_of(message))) == {
        "tag": "E28011B0A5050076C4D7530A",
        "tid": "E28011B02000B30A26BA03B6",
    }


def test_a_handhelds_batch_is_its_reads_and_scans() -> None:
    tags = [{"eventNum": 1, "idHex": "E280"}, {"eventNum": 2}, {"eventNum": 3, "idHex": "E281", "peakRssi": -40}]
    data = {"tagData": tags, "barcodeData": [{"decodedBarcode": "CSQU3054383", "symbology": "CODE128"}]}
    readings = Zebra().decode(text_of({"type": "dataEVT", "timestamp": 1_600_000_000_000, "data": data}))
    assert [happening.type for reading in readings for happening in reading.happenings] == [
        "tag_read", "tag_read", "barcode_read",
    ]  # fmt: skip
    assert {reading.ts for reading in readings} == {1_600_000_000 * 10**9}
    assert [reading.info.get("missing") for reading in readings] == [None, 1, None]
    assert readings[0].refused[0][:2] == (Reason.MISSING_FIELD, "/data/tagData/1/idHex")
    assert readings[2].happenings[0].data["decodedBarcode"] == "CSQU3054383"


@pytest.mark.parametrize(
    ("number", "ns"),
    [(1_600_000_000_000, 1_600_000_000 * 10**9), (1_706_119_203_123_456, 1_706_119_203_123_456_000), (10**18, 10**18)],
)
def test_a_count_since_1970_is_read_by_its_size(number: int, ns: int) -> None:
    assert epoch_ns(number) == ns


@given(st.floats(-360, 360))
def test_a_phase_keeps_its_sign_and_fits_the_metric(degrees: float) -> None:
    assert abs(radians(degrees)) <= math.tau
    assert radians(degrees) == 0 or math.copysign(1, radians(degrees)) == math.copysign(1, degrees)


# --- LLRP ------------------------------------------------------------------------------------------------------------


def test_a_report_is_its_tags_with_the_vendors_finer_figures() -> None:
    readings = Llrp().decode(llrp_report(3))
    assert len(readings) == 3
    expected = {"tag": "3074257BF7194E4000001A85", "antenna": 2, "rssi_dbm": -61.25}
    assert all(read_of(reading) == expected for reading in readings)
    assert {reading.ts for reading in readings} == {START_NS // 1_000 * 1_000}
    assert readings[0].values == {"phase_rad": math.pi}
    assert readings[0].info == {"channel": 7, "reads": 3}


def test_messages_one_after_another_are_all_read() -> None:
    readings = Llrp().decode(llrp_report(1) + LLRP_KEEPALIVE + llrp_event(256, b"\x00\x00"))
    assert [reading.online for reading in readings] == [None, True, True]
    assert readings[2].happenings[0].data == {"status": "success"}


@pytest.mark.parametrize(
    ("kind", "value", "name", "data", "online"),
    [
        (248, b"\x00\x01\x01", "reader_gpi", {"port": 1, "state": 1}, None),
        (249, struct.pack(">BII", 1, 7, 0), "reader_rospec", {"event": "ended", "rospec": 7, "preempting": 0}, None),
        (250, b"\x5a", "reader_report_buffer_level", {"percent": 90}, None),
        (251, b"", "reader_report_buffer_overflow", {}, None),
        (252, b"\x00\x05upset", "reader_exception", {"message": "upset"}, None),
        (255, b"\x00\x00\x03", "reader_antenna", {"event": "disconnected", "antenna": 3}, None),
        (256, b"\x00\x09", "reader_connection_attempt", {"status": 9}, False),
        (257, b"", "reader_connection_close", {}, False),
    ],
)
def test_a_readers_event_has_its_own_name(
    kind: int, value: bytes, name: str, data: dict[str, Any], online: bool | None
) -> None:
    reading = one(Llrp(), llrp_event(kind, value))
    assert (reading.happenings[0].type, reading.happenings[0].data, reading.online) == (name, data, online)
    assert reading.ts == START_NS // 1_000 * 1_000


def test_what_comes_before_a_broken_message_counts() -> None:
    readings = Llrp().decode(llrp_report(2) + llrp_report(1)[:-3])
    assert len(readings) == 2
    assert readings[0].refused[0].detail == "byte 160: a length of 84 bytes, 81 are there"


def test_a_report_without_a_tag_is_a_sign_of_life() -> None:
    reading = one(Llrp(), struct.pack(">HII", 0x43D, 10, 0))
    assert (reading.online, reading.refused) == (True, ())


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        (struct.pack(">HHH", 241, 6, 0), "byte 88: a tag report without a code"),
        (b"\xff", "byte 88: parameter type 127 is unknown, and with it its length"),
        (struct.pack(">HHH", 241, 6, 96), "byte 94: 0 bytes left, 12 expected"),
    ],
    ids=["no bits", "unknown", "cut off"],
)
def test_a_tag_report_that_is_broken_is_refused_alone(part: bytes, detail: str) -> None:
    good = llrp_report(1)[10:]
    body = good + struct.pack(">HH", 240, 4 + len(part)) + part + good * 2
    readings = Llrp().decode(struct.pack(">HII", 0x43D, 10 + len(body), 7) + body)
    assert [read_of(reading)["tag"] for reading in readings] == ["3074257BF7194E4000001A85"] * 3
    assert [reject.detail for reading in readings for reject in reading.refused] == [detail]


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        (b"", "no bytes"),
        (b"\x04\x3d", "byte 0: 2 bytes left, a message has at least 10"),
        (b"\x1c\x3d" + bytes(8), "byte 0: 7 is no version of LLRP: expected 1 or 2"),
        (struct.pack(">HII", 0x43D, 9, 0), "byte 2: a length of 9 bytes, 10 are there"),
        (struct.pack(">HII", 0x43F, 10, 0), "byte 10: a notification without an event"),
        (struct.pack(">HIIHH", 0x43D, 14, 0, 240, 3), "byte 12: a length of 3 bytes, a parameter has at least 4"),
        (struct.pack(">HIIHH", 0x43D, 14, 0, 240, 9), "byte 10: parameter type 240 ends 5 bytes after what holds it"),
        (struct.pack(">HIIB", 0x43D, 11, 0, 0xFF), "byte 10: parameter type 127 is unknown, and with it its length"),
        (struct.pack(">HIIHH", 0x43D, 14, 0, 240, 4), "byte 14: a tag report without a code"),
        (llrp_event(255, b"\x00"), "byte 30: antenna: 1 bytes: expected 3"),
    ],
)
def test_a_broken_message_is_refused_with_the_byte_at_fault(payload: bytes, detail: str) -> None:
    with pytest.raises(RejectError) as caught:
        Llrp().decode(payload)
    assert caught.value.reject == (Reason.UNDECODABLE, "", detail)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload", "reason", "pointer"),
    [
        ("impinj", b"{", Reason.UNDECODABLE, ""),
        ("impinj", b"[]", Reason.NO_SAMPLES, ""),
        ("impinj", b"5", Reason.WRONG_TYPE, ""),
        ("impinj", b"{}", Reason.MISSING_FIELD, "/eventType"),
        ("impinj", b'{"tagInventoryEvent":{}}', Reason.MISSING_FIELD, "/tagInventoryEvent/epc"),
        ("impinj", b'{"tagInventoryEvent":{"epc":"!"}}', Reason.WRONG_TYPE, "/tagInventoryEvent/epc"),
        ("impinj", b'{"tagInventoryEvent":{"epcHex":"E"}}', Reason.WRONG_TYPE, "/tagInventoryEvent/epcHex"),
        ("impinj", b'{"tagInventoryEvent":{"epcHex":"E2"},"timestamp":"now"}', Reason.WRONG_TYPE, "/timestamp"),
        ("impinj", b'{"tag_reads":[]}', Reason.NO_SAMPLES, "/tag_reads"),
        ("impinj", b'{"tag_reads":[{}]}', Reason.MISSING_FIELD, "/tag_reads/0/epc"),
        ("impinj", b'{"tag_reads":[{"epc":"xyz"}]}', Reason.WRONG_TYPE, "/tag_reads/0/epc"),
        ("impinj", b"[" * 100_000, Reason.UNDECODABLE, ""),
        ("impinj", b" " * (MAX_PAYLOAD + 1), Reason.TOO_LARGE, ""),
        ("impinj", b"[" + b"{}," * MAX_OBJECTS + b"{}]", Reason.TOO_LARGE, ""),
        ("zebra", b"{}", Reason.MISSING_FIELD, "/type"),
        ("zebra", b'{"type":1}', Reason.WRONG_TYPE, "/type"),
        ("zebra", b'{"type":"SIMPLE","data":{"idHex":"zz"}}', Reason.WRONG_TYPE, "/data/idHex"),
        ("zebra", b'{"type":"SIMPLE","data":{"idHex":"E2"},"timestamp":1e300}', Reason.WRONG_TYPE, "/timestamp"),
        ("zebra", b'{"type":"SIMPLE","data":{"idHex":"E2","antenna":1e99}}', Reason.WRONG_TYPE, "/data/antenna"),
        ("zebra", b"\xff\xfe", Reason.UNDECODABLE, ""),
        ("llrp", b"\x04" * (MAX_PAYLOAD + 1), Reason.TOO_LARGE, ""),
    ],
)
def test_a_message_is_refused_with_the_field_at_fault(name: str, payload: bytes, reason: Reason, pointer: str) -> None:
    with pytest.raises(RejectError) as caught:
        make_codec(name).decode(payload)
    assert caught.value.reject[:2] == (reason, pointer)
    assert caught.value.reject.detail

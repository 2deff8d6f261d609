"""The native payload: what it encodes it decodes, and whatever else comes is refused with a reason and a field."""

import json
import math
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, assert_every_frame_is_booked, frame, pipeline_of, read_of, topic, values

from devices.codecs.native import (
    EXPLAIN_LIMIT,
    Event,
    Payload,
    Status,
    Telemetry,
    decode_event,
    decode_status,
    decode_telemetry,
    encode,
    event_time,
    identity_reject,
)
from devices.rejects import Reason, Reject, RejectError
from devices.times import NS
from devices.topics import DeviceKey
from faults.resident import now_mb, peak_mb

DECODERS: tuple[Callable[[bytes], Payload], ...] = (decode_telemetry, decode_event, decode_status)
KEY = DeviceKey("CNNGB-DEMO", "quay-crane", "QC01")
MUTATIONS = 120_000

names = st.text(max_size=40)
scalars = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
common: dict[str, st.SearchStrategy[Any]] = {
    "v": st.just(1),
    "boot": st.none() | st.integers(0, 2**64 - 1),
    "seq": st.none() | st.integers(0, 2**63 - 1),
    "ts": st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=30),
    "site": st.none() | names,
    "class_": st.none() | names,
    "device": st.none() | names,
}
numbers = st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
event_types = st.text(
    st.characters(exclude_characters="/+#\x7f", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64
)
telemetries = st.builds(Telemetry, m=st.dictionaries(names, numbers, max_size=8), **common)
events = st.builds(Event, type=event_types, data=st.dictionaries(names, scalars, max_size=8), **common)
statuses = st.builds(Status, online=st.booleans(), info=st.dictionaries(names, scalars, max_size=8), **common)


def reject_of(payload: bytes, decode: Callable[[bytes], Payload] = decode_telemetry) -> Reject:
    with pytest.raises(RejectError) as raised:
        decode(payload)
    return raised.value.reject


def in_both_forms(body: dict[str, Any]) -> tuple[bytes, bytes]:
    return msgspec.json.encode(body), msgspec.msgpack.encode(body)


@pytest.mark.parametrize("binary", [True, False], ids=["msgpack", "json"])
@given(payload=telemetries | events | statuses)
def test_what_is_encoded_is_decoded(binary: bool, payload: Payload) -> None:
    decode = {Telemetry: decode_telemetry, Event: decode_event, Status: decode_status}[type(payload)]
    assert decode(encode(payload, binary=binary)) == payload


WRONG: list[tuple[dict[str, Any], Reason, str]] = [
    ({}, Reason.MISSING_FIELD, "/v"),
    ({"m": {}}, Reason.MISSING_FIELD, "/v"),
    ({"v": 1}, Reason.MISSING_FIELD, "/m"),
    ({"v": 2, "m": {}}, Reason.UNSUPPORTED_VERSION, "/v"),
    ({"v": 0, "m": {}}, Reason.UNSUPPORTED_VERSION, "/v"),
    ({"v": -(2**63), "m": {}}, Reason.UNSUPPORTED_VERSION, "/v"),
    ({"v": "1", "m": {}}, Reason.WRONG_TYPE, "/v"),
    ({"v": 1.5, "m": {}}, Reason.WRONG_TYPE, "/v"),
    ({"v": True, "m": {}}, Reason.WRONG_TYPE, "/v"),
    ({"v": None, "m": {}}, Reason.WRONG_TYPE, "/v"),
    ({"v": 1, "m": []}, Reason.WRONG_TYPE, "/m"),
    ({"v": 1, "m": None}, Reason.WRONG_TYPE, "/m"),
    ({"v": 1, "m": "load_t"}, Reason.WRONG_TYPE, "/m"),
    ({"v": 1, "m": {"load_t": "abc"}}, Reason.WRONG_TYPE, "/m/load_t"),
    ({"v": 1, "m": {"load_t": "12"}}, Reason.WRONG_TYPE, "/m/load_t"),
    ({"v": 1, "m": {"load_t": None}}, Reason.WRONG_TYPE, "/m/load_t"),
    ({"v": 1, "m": {"load_t": [1]}}, Reason.WRONG_TYPE, "/m/load_t"),
    ({"v": 1, "m": {"load_t": {"v": 1}}}, Reason.WRONG_TYPE, "/m/load_t"),
    ({"v": 1, "m": {"good": 1, "a/b~c": "x"}}, Reason.WRONG_TYPE, "/m/a~1b~0c"),
    ({"v": 1, "m": {f"m{nth}": 1 for nth in range(1_025)}}, Reason.WRONG_TYPE, "/m"),
    ({"v": 1, "m": {}, "extra": 1}, Reason.UNKNOWN_FIELD, "/extra"),
    ({"v": 1, "m": {}, "e/x": 1}, Reason.UNKNOWN_FIELD, "/e~1x"),
    ({"v": 1, "m": {}, "type": "x"}, Reason.UNKNOWN_FIELD, "/type"),
    ({"v": 1, "m": {}, "boot": -1}, Reason.WRONG_TYPE, "/boot"),
    ({"v": 1, "m": {}, "boot": "5"}, Reason.WRONG_TYPE, "/boot"),
    ({"v": 1, "m": {}, "boot": 1.5}, Reason.WRONG_TYPE, "/boot"),
    ({"v": 1, "m": {}, "seq": -1}, Reason.WRONG_TYPE, "/seq"),
    ({"v": 1, "m": {}, "seq": 2**63}, Reason.WRONG_TYPE, "/seq"),
    ({"v": 1, "m": {}, "seq": 2**64 - 1}, Reason.WRONG_TYPE, "/seq"),
    ({"v": 1, "m": {}, "seq": False}, Reason.WRONG_TYPE, "/seq"),
    ({"v": 1, "m": {}, "ts": 1.5e18}, Reason.WRONG_TYPE, "/ts"),
    ({"v": 1, "m": {}, "ts": [1]}, Reason.WRONG_TYPE, "/ts"),
    ({"v": 1, "m": {}, "site": 1}, Reason.WRONG_TYPE, "/site"),
    ({"v": 1, "m": {}, "class": {}}, Reason.WRONG_TYPE, "/class"),
    ({"v": 1, "m": {}, "device": True}, Reason.WRONG_TYPE, "/device"),
]


@pytest.mark.parametrize(("body", "reason", "pointer"), WRONG)
def test_the_field_at_fault_is_named_in_both_forms(body: dict[str, Any], reason: Reason, pointer: str) -> None:
    for payload in in_both_forms(body):
        found = reject_of(payload)
        assert (found.reason, found.pointer) == (reason, pointer)
        assert 0 < len(found.detail) < 300


WRONG_EVENTS: list[tuple[dict[str, Any], Reason, str]] = [
    ({"v": 1}, Reason.MISSING_FIELD, "/type"),
    ({"v": 1, "type": ""}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "x" * 65}, Reason.WRONG_TYPE, "/type"),
    # It becomes the last level of the topic quayflow/{site}/events/{type}.
    ({"v": 1, "type": "a/b"}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "a+"}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "#"}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "a\x00"}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "a\n"}, Reason.WRONG_TYPE, "/type"),
    ({"v": 1, "type": "x", "data": {"a": []}}, Reason.WRONG_TYPE, "/data/a"),
    ({"v": 1, "type": "x", "data": {"a": {}}}, Reason.WRONG_TYPE, "/data/a"),
    ({"v": 1, "type": "x", "data": {str(nth): 1 for nth in range(65)}}, Reason.WRONG_TYPE, "/data"),
    ({"v": 1, "type": "x", "m": {}}, Reason.UNKNOWN_FIELD, "/m"),
    ({"v": 3, "type": "x"}, Reason.UNSUPPORTED_VERSION, "/v"),
]


@pytest.mark.parametrize(("body", "reason", "pointer"), WRONG_EVENTS)
def test_the_field_at_fault_of_an_event_is_named(body: dict[str, Any], reason: Reason, pointer: str) -> None:
    for payload in in_both_forms(body):
        found = reject_of(payload, decode_event)
        assert (found.reason, found.pointer) == (reason, pointer)


@pytest.mark.parametrize(
    ("body", "reason", "pointer"),
    [
        ({"v": 1}, Reason.MISSING_FIELD, "/online"),
        ({"v": 1, "online": 1}, Reason.WRONG_TYPE, "/online"),
        ({"v": 1, "online": True, "info": {"a": [1]}}, Reason.WRONG_TYPE, "/info/a"),
        ({"v": 9, "online": True}, Reason.UNSUPPORTED_VERSION, "/v"),
    ],
)
def test_the_field_at_fault_of_a_status_is_named(body: dict[str, Any], reason: Reason, pointer: str) -> None:
    for payload in in_both_forms(body):
        found = reject_of(payload, decode_status)
        assert (found.reason, found.pointer) == (reason, pointer)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "1" + "0" * 400])
def test_a_number_that_no_float_holds_is_named_in_json(number: str) -> None:
    found = reject_of(b'{"v":1,"m":{"good":1,"load_t":%s}}' % number.encode())
    assert (found.reason, found.pointer) == (Reason.NOT_FINITE, "/m/load_t")
    found = reject_of(b'{"v":1,"type":"x","data":{"a":%s}}' % number.encode(), decode_event)
    assert (found.reason, found.pointer) == (Reason.NOT_FINITE, "/data/a")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named_in_msgpack(number: float) -> None:
    found = reject_of(msgspec.msgpack.encode({"v": 1, "type": "x", "data": {"a": number}}), decode_event)
    assert (found.reason, found.pointer) == (Reason.NOT_FINITE, "/data/a")
    found = reject_of(msgspec.msgpack.encode({"v": 1, "online": True, "info": {"a": number}}), decode_status)
    assert (found.reason, found.pointer) == (Reason.NOT_FINITE, "/info/a")
    # The values of telemetry are checked as whole columns, by the pipeline.
    pipeline = pipeline_of()
    body = values(1, T0, load_t=number, hoist_height_m=3.0)
    pipeline.process([frame(topic("quay-crane", "QC01"), body, binary=True)])
    (refused,) = pipeline.take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.NOT_FINITE, "/m/load_t")
    assert_every_frame_is_booked(pipeline, 1)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"abc",
        b"\xef\xbb\xbf{}",
        b'{"v":1,"m":{}',
        b'{"v":1,"m":{}} x',
        b'{"v":1,"m":{"a":1,}}',
        b"{'v':1}",
        b'{"v":1,"m":{"\xff":1}}',
        b"\x82\xa1v\x01\xa1m\x81\xa1\xff\x01",
        b"\x82\xa1v\x01\xa1m",
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa1v\x01\xa1m\xdf\xff\xff\xff\xff",
        b'{"a":' * 100_000,
        b'{"v":1,"m":' + b"[" * 100_000,
        b"[" * 60_000,
        b"\x91" * 100_000,
        b"\x91" * 60_000,
        b"\x82\xa1v\x01\xa1m" + b"\x81\xa1a" * 20_000,
        b"\x82\xa1v\x01\xa1m" + b"\x81\xa1a" * 40_000,
    ],
    ids=lambda payload: payload[:24].hex() + f"-{len(payload)}",
)
def test_what_is_no_payload_at_all_is_undecodable(payload: bytes) -> None:
    for decode in DECODERS:
        found = reject_of(payload, decode)
        assert found.reason in {Reason.UNDECODABLE, Reason.WRONG_TYPE}
        assert found.pointer == ""
        assert 0 < len(found.detail) < 300


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_a_truncated_payload_is_undecodable(length: int) -> None:
    body = values(118, T0, trolley_position_m=31.2, load_t=24.6)
    for payload in in_both_forms(body):
        assert reject_of(payload[:-length]).reason is Reason.UNDECODABLE


def test_half_a_character_is_refused_in_words_that_can_be_stored() -> None:
    for payload in (
        rb'{"v":1,"m":{"a":"\ud800"}}',
        rb'{"v":1,"\ud800":1}',
        rb'{"v":1,"m":{"\ud800":"x"}}',
        rb'{"v":"\ud8',
    ):
        for decode in DECODERS:
            found = reject_of(payload, decode)
            (found.pointer + found.detail).encode()


def test_the_last_of_duplicate_keys_counts() -> None:
    assert decode_telemetry(b'{"v":2,"v":1,"m":{"a":1},"m":{"a":1,"a":2}}').m == {"a": 2}
    twice = b"\x83\xa1v\x02\xa1v\x01\xa1m\x82\xa1a\x01\xa1a\x02"
    assert decode_telemetry(twice).m == {"a": 2}


def test_a_refusal_repeats_little_of_what_it_refuses() -> None:
    long = "x" * 50_000
    for body in ({"v": 1, long: 1}, {"v": 1, "m": {long: "x"}}, {"v": 1, "m": {"a": long}}, {"v": long, "m": {}}):
        for payload in in_both_forms(body):
            found = reject_of(payload)
            assert len(found.pointer) < 100
            assert len(found.detail) < 300
    for claim in (Telemetry(1, {}, site=long), Telemetry(1, {}, device=long)):
        mismatch = identity_reject(claim, KEY)
        assert mismatch is not None
        assert len(mismatch.detail) < 300
    with pytest.raises(RejectError) as raised:
        event_time(Telemetry(1, {}, ts=long), T0)
    assert raised.value.reject.pointer == "/ts"
    assert len(raised.value.reject.detail) < 300


def test_large_wrong_payloads_are_refused_without_a_search() -> None:
    body = {"v": 1, "m": {"a": "x" * EXPLAIN_LIMIT}}
    for payload in in_both_forms(body):
        found = reject_of(payload)
        assert (found.reason, found.pointer) == (Reason.UNDECODABLE, "")
        assert str(len(payload)) in found.detail


def test_a_bomb_of_nested_maps_costs_no_memory() -> None:
    # Untyped decoding makes 72 bytes of each of these.
    bomb = b"\xdd" + struct.pack(">I", 8 << 20) + b"\x80" * (8 << 20)
    wrapped = b"\x82\xa1v\x01\xa1m\xdf" + struct.pack(">I", 4 << 20) + b"\xa1a\x80" * (4 << 20)
    before = peak_mb()
    for payload in (bomb, wrapped, b"[" + b"{}," * (2 << 20) + b"{}]", b'{"v":1,"m":' + b'{"a":{},' * (1 << 20)):
        for decode in DECODERS:
            assert reject_of(payload, decode).reason is Reason.UNDECODABLE
    assert peak_mb() - before < 20


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (Telemetry(1, {}, site="CNNGB-OTHER"), "site"),
        (Telemetry(1, {}, class_="vehicle"), "class"),
        (Event(1, "x", device="QC02"), "device"),
        (Status(1, True, device=""), "device"),
        (Telemetry(1, {}, site="CNNGB-DEMO", class_="quay-crane", device="qc01"), "device"),
    ],
)
def test_another_identity_than_the_topic_is_refused(payload: Payload, field: str) -> None:
    found = identity_reject(payload, KEY)
    assert found is not None
    assert (found.reason, found.pointer) == (Reason.IDENTITY_MISMATCH, f"/{field}")


@pytest.mark.parametrize("text", ["12.5", "nonsense", "temp=20\n", "箱号 CSQU3054383", "5 " * 40])
def test_plain_text_is_refused_as_the_text_that_it_is(text: str) -> None:
    found = reject_of(text.encode())
    assert (found.reason, found.pointer) == (Reason.UNDECODABLE, "")
    assert found.detail.startswith(f"expected a JSON or msgpack object, got the text '{text.strip()[:20]}")
    assert len(found.detail) < 100


def test_the_own_identity_is_accepted() -> None:
    assert identity_reject(Telemetry(1, {}), KEY) is None
    assert identity_reject(Status(1, True, site=KEY.site, class_=KEY.device_class, device=KEY.device), KEY) is None


def test_time_is_that_of_the_payload_or_of_receipt() -> None:
    assert event_time(Telemetry(1, {}), 7) == 7
    assert event_time(Telemetry(1, {}, ts=5), 7) == 5
    assert event_time(Telemetry(1, {}, ts="1970-01-01T00:00:01Z"), 7) == NS


def decodes(payload: bytes) -> bool:
    """Whether any decoder takes the payload; anything but a reject propagates."""
    taken = False
    for decode in DECODERS:
        try:
            decode(payload)
            taken = True
        except RejectError as error:
            (error.reject.pointer + error.reject.detail).encode()
    return taken


def foreign_values(folder: Path) -> Iterator[bytes]:
    """Every encoded value of the published corpora."""
    for path in sorted((folder / "JSONTestSuite" / "test_parsing").glob("*.json")):
        yield path.read_bytes()
    suite = json.loads((folder / "msgpack-test-suite.json").read_text())
    for cases in suite.values():
        for case in cases:
            for text in case["msgpack"]:
                yield bytes.fromhex(text.replace("-", ""))
    for text in json.loads((folder / "blns.json").read_text()):
        yield text.encode(errors="surrogatepass")


def test_foreign_payloads_are_refused_and_never_crash(recorded: Path) -> None:
    pipeline, fed = pipeline_of(), 0
    for payload in foreign_values(recorded / "robustness"):
        assert not decodes(payload)
        streams = ("telemetry", "event", "status")
        pipeline.process([frame(topic("rfid-gate", "G1", stream), payload) for stream in streams])
        fed += 3
    assert fed > 2_500
    assert len(pipeline.take_quarantine()) == pipeline.config.max_quarantine_per_commit
    assert_every_frame_is_booked(pipeline, fed)


def test_foreign_values_in_every_field_never_crash(recorded: Path) -> None:
    pipeline, fed = pipeline_of(), 0
    for value in foreign_values(recorded / "robustness"):
        for payload in (
            b'{"v":1,"m":{"load_t":%s}}' % value,
            b'{"v":1,"ts":%s,"m":{"load_t":1}}' % value,
            b'{"v":1,"boot":1,"seq":%s,"m":{"load_t":1}}' % value,
            b'{"v":1,"boot":%s,"seq":1,"m":{"load_t":1}}' % value,
            b'{"v":1,"m":%s}' % value,
            b"{%s:1}" % value,
            b"\x82\xa1v\x01\xa1m\x81\xa6load_t" + value,
            b"\x83\xa1v\x01\xa2ts" + value + b"\xa1m\x81\xa6load_t\x01",
            b"\x82\xa1v\x01" + value + b"\x01",
        ):
            decodes(payload)
            pipeline.process([frame(topic("quay-crane", "QC1"), payload)])
            fed += 1
        for payload in (
            b'{"v":1,"type":"tag_read","data":{"tag":%s,"antenna":1,"rssi_dbm":-60}}' % value,
            b'{"v":1,"type":"tag_read","data":{"tag":"E2","antenna":%s,"rssi_dbm":-60}}' % value,
            b'{"v":1,"type":%s}' % value,
            b"\x83\xa1v\x01\xa4type\xa8tag_read\xa4data\x83\xa3tag\xa1x\xa8rssi_dbm\x01\xa7antenna" + value,
        ):
            decodes(payload)
            pipeline.process([frame(topic("rfid-gate", "G1", "event"), payload)])
            fed += 1
        pipeline.take_quarantine()
        pipeline.take_events()
    pipeline.tick(T0 + 3_600 * NS)
    assert_every_frame_is_booked(pipeline, fed)


@given(st.integers(-(10**500), 10**500) | st.integers(-(2**70), 2**70))
def test_any_whole_number_is_taken_or_refused_wherever_it_stands(number: int) -> None:
    text = str(number).encode()
    pipeline = pipeline_of()
    bodies = [
        b'{"v":%s,"m":{"load_t":1}}' % text,
        b'{"v":1,"ts":%s,"m":{"load_t":1}}' % text,
        b'{"v":1,"boot":1,"seq":%s,"m":{"load_t":1}}' % text,
        b'{"v":1,"boot":%s,"seq":1,"m":{"load_t":1}}' % text,
        b'{"v":1,"m":{"load_t":%s}}' % text,
    ]
    pipeline.process([frame(topic("quay-crane", "QC1"), body) for body in bodies])
    assert_every_frame_is_booked(pipeline, len(bodies))


def test_mutated_payloads_never_crash_and_are_all_booked() -> None:
    chance = random.Random(7)
    crane, gate = topic("quay-crane", "QC01"), topic("rfid-gate", "G1", "event")
    status = topic("quay-crane", "QC01", "status")
    bodies = [
        (crane, values(118, T0, trolley_position_m=31.2, hoist_height_m=12.85, load_t=24.6, spreader_locked=True)),
        (crane, {"v": 1, "ts": "2026-11-23T08:00:00.25Z", "m": {"load_t": 24}, "site": "CNNGB-DEMO"}),
        (gate, read_of(9, T0, "E28011700000020F1A2B3C4D")),
        (status, {"v": 1, "boot": 5, "seq": 0, "online": True, "info": {"maker": "ZPMC", "height_m": 4.5}}),
    ]
    originals = [(where, payload) for where, body in bodies for payload in in_both_forms(body)]
    pipeline, fed, grown = pipeline_of(), 0, 0.0
    start = now_mb()
    while fed < MUTATIONS:
        frames = []
        for _ in range(2_000):
            where, payload = originals[chance.randrange(len(originals))]
            at, byte = chance.randrange(len(payload)), chance.randrange(256)
            mutant = payload[:at] + bytes([byte]) + payload[at + 1 :]
            frames.append(frame(where, mutant, recv_ts=T0 + fed * 1_000_000))
        pipeline.process(frames)
        fed += len(frames)
        pipeline.tick(T0 + fed * 1_000_000)
        refused = pipeline.take_quarantine()
        assert all(record.reason and record.detail for record in refused)
        pipeline.take_events()
        pipeline.take_rows(fed)
        grown = max(grown, now_mb() - start)
    assert_every_frame_is_booked(pipeline, MUTATIONS)
    assert pipeline.quarantine_dropped == 0
    assert grown < 60

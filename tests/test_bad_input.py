"""What no device means to send, in every stream: nothing crashes or grows, and each frame ends in one account."""

import math
import struct
import tracemalloc
from typing import Any

import msgspec
import pytest
from made_frames import T0, accounts, assert_every_frame_is_booked, frame, pipeline_of, topic, values

from devices.codecs.registry import CODECS, make_codec
from devices.rejects import Reason, RejectError
from devices.times import NS

CRANE = topic("quay-crane", "QC01")
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "telemetry": (CRANE, {"v": 1, "m": {"load_t": 1}}),
    "block": (CRANE, {"v": 1, "t0": T0, "dt": NS, "names": ["load_t"], "f32": struct.pack("<f", 1)}),
    "event": (topic("quay-crane", "QC01", "event"), {"v": 1, "type": "fault", "data": {"code": 1}}),
    "tag_read": (
        topic("rfid-gate", "G1", "event"),
        {"v": 1, "type": "tag_read", "data": {"tag": "E2", "antenna": 1, "rssi_dbm": -60}},
    ),
    "status": (topic("quay-crane", "QC01", "status"), {"v": 1, "online": True, "info": {"height_m": 1}}),
}
INNER = {"telemetry": ("m", "load_t"), "event": ("data", "code"), "status": ("info", "height_m")}
MIB = 1 << 20
BOMB_BYTES = 8 * MIB


def encoded(body: dict[str, Any]) -> list[bytes]:
    """The body as msgpack and, where JSON can say it, as JSON."""
    binary = any(isinstance(value, bytes) for value in body.values())
    return [msgspec.msgpack.encode(body)] + ([] if binary else [msgspec.json.encode(body)])


def refusals(where: str, payload: bytes) -> list[tuple[str, str]]:
    """Reason and pointer of what a pipeline refuses of a frame; it must be booked, and a neighbour stay untouched."""
    pipeline = pipeline_of()
    neighbour = frame(topic("vehicle", "T1"), values(1, T0, speed_mps=1))
    pipeline.process([neighbour, frame(where, payload), neighbour._replace(payload=neighbour.payload + b" ")])
    pipeline.tick(T0 + 3_600 * NS)
    assert len(pipeline.take_rows(1))
    assert_every_frame_is_booked(pipeline, 3)
    assert accounts(pipeline)["CNNGB-DEMO/vehicle/T1", "windowed", ""] == (1, 1)
    found = pipeline.take_quarantine()
    assert all(record.reason and record.detail for record in found)
    return [(record.reason, record.pointer) for record in found]


@pytest.mark.parametrize("number", [2**64 - 1, 2**63, -1, -(2**63)])
@pytest.mark.parametrize("kind", BODIES)
def test_an_extreme_counter_is_taken_or_refused_by_its_name(kind: str, number: int) -> None:
    where, body = BODIES[kind]
    for payload in encoded({**body, "boot": number, "seq": 1}):
        assert [pointer for _, pointer in refusals(where, payload)] == ([] if number >= 0 else ["/boot"])
    for payload in encoded({**body, "boot": 1, "seq": number}):
        assert [pointer for _, pointer in refusals(where, payload)] == ["/seq"]


@pytest.mark.parametrize("number", [2**64 - 1, 2**63, 2**63 - 1])
@pytest.mark.parametrize("kind", BODIES)
def test_a_time_that_nobody_will_see_is_refused_by_its_name(kind: str, number: int) -> None:
    where, body = BODIES[kind]
    field = "t0" if kind == "block" else "ts"
    for payload in encoded({**body, field: number}):
        [(_, pointer)] = refusals(where, payload)
        assert pointer.startswith(f"/{field}")


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
@pytest.mark.parametrize("kind", BODIES)
def test_a_time_before_there_were_devices_is_that_of_receipt_and_flagged(kind: str, number: int) -> None:
    where, body = BODIES[kind]
    for payload in encoded({**body, "t0" if kind == "block" else "ts": number}):
        pipeline = pipeline_of()
        pipeline.process([frame(where, payload)])
        assert pipeline.take_quarantine() == []
        uid = "/".join(where.split("/")[1:4])
        assert accounts(pipeline)[uid, "windowed", ""][0] == 1
        assert accounts(pipeline)[uid, "flagged", "clock_unset"][0] == 1
        (device,) = (each for each in pipeline.directory.devices if each.uid == uid)
        assert pipeline.watermarks.newest[device.index] == T0


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", INNER)
def test_an_extreme_value_is_refused_where_it_cannot_be_counted(kind: str, value: float) -> None:
    where, body = BODIES[kind]
    outer, name = INNER[kind]
    found = refusals(where, msgspec.msgpack.encode({**body, outer: {name: value}}))
    finite = math.isfinite(value)
    # Facts of events and statuses may be any finite number; a load has a range.
    assert [pointer for _, pointer in found] == ([] if finite and kind != "telemetry" else [f"/{outer}/{name}"])


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
@pytest.mark.parametrize("kind", INNER)
def test_json_that_is_no_number_is_refused(kind: str, word: bytes) -> None:
    where, body = BODIES[kind]
    outer, name = INNER[kind]
    payload = msgspec.json.encode({**body, outer: {name: 12345}}).replace(b"12345", word)
    assert len(refusals(where, payload)) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.4e38])
def test_a_sample_of_a_block_that_cannot_be_counted_is_refused_alone(value: float) -> None:
    pipeline = pipeline_of()
    body = {**BODIES["block"][1], "f32": struct.pack("<3f", 1, value, 2)}
    pipeline.process([frame(CRANE, msgspec.msgpack.encode(body), recv_ts=T0 + 3 * NS)])
    assert_every_frame_is_booked(pipeline, 1)
    booked = accounts(pipeline)
    assert booked["CNNGB-DEMO/quay-crane/QC01", "windowed", ""][1] == 2
    assert sum(samples for (_, account, _), (_, samples) in booked.items() if account == "quarantined") == 1


@pytest.mark.parametrize("kind", ["telemetry", "event", "status"])
def test_the_last_of_duplicate_keys_counts_in_every_stream(kind: str) -> None:
    where, body = BODIES[kind]
    plain = msgspec.json.encode({**body, "boot": 1, "seq": 1})
    packed = msgspec.msgpack.encode({**body, "boot": 1, "seq": 1})
    for twice in (plain[:-1] + b',"seq":2}', bytes([packed[0] + 1]) + packed[1:] + b"\xa3seq\x02"):
        pipeline = pipeline_of()
        pipeline.process([frame(where, payload) for payload in (plain, twice, twice)])
        booked = accounts(pipeline)
        assert booked["CNNGB-DEMO/quay-crane/QC01", "windowed", ""][0] == 2
        assert booked["CNNGB-DEMO/quay-crane/QC01", "duplicate", ""][0] == 1
    # Nor does a second name get past the first.
    assert refusals(where, plain[:-1] + b',"device":"QC01","device":"QC02"}') == [("identity_mismatch", "/device")]


def bombs(size: int) -> dict[str, bytes]:
    """Payloads of some size that cost a careless decoder a multiple of it in memory, time or stack."""
    return {
        "json-arrays": b"[" * size,
        "json-objects": b'{"a":' * (size // 5),
        "json-inner": b'{"v":1,"m":' + b'{"a":' * (size // 5),
        "json-empty-maps": b"[" + b"{}," * (size // 3) + b"{}]",
        "json-lines": b"{}\n" * (size // 3),
        "msgpack-arrays": b"\x91" * size,
        "msgpack-maps": b"\x81\xa1a" * (size // 3),
        "msgpack-empty-maps": b"\xdd" + struct.pack(">I", size) + b"\x80" * size,
        "msgpack-claim": b"\xdd\xff\xff\xff\xff" + bytes(size),
        "zeros": bytes(size),
        "protobuf-metrics": b"\x12\x00" * (size // 2),
        "flags": b"\x7e" * size,
        "numbers": b"E280116060000204 " * (size // 17),
    }


@pytest.mark.parametrize("bomb", bombs(0))
def test_a_bomb_is_quarantined_in_every_stream_and_costs_no_memory(bomb: str) -> None:
    payload = bombs(BOMB_BYTES)[bomb]
    pipeline, streams = pipeline_of(), ("telemetry", "event", "status", "cmd", "cmd-ack")
    # Commands and their answers are kept, counted, and not decoded.
    decoded = {topic("quay-crane", "QC01", stream) for stream in streams[:3]}
    frames = [frame(topic("quay-crane", "QC01", stream), payload) for stream in streams]
    tracemalloc.start()
    try:
        pipeline.process(frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_every_frame_is_booked(pipeline, len(frames))
    assert {record.topic for record in pipeline.take_quarantine()} == decoded
    assert peak < 2 * BOMB_BYTES


@pytest.mark.parametrize("name", CODECS)
def test_a_bomb_is_refused_by_every_codec_and_costs_no_memory(name: str) -> None:
    where = {"sparkplug": "spBv1.0/g/NBIRTH/n", "native": CRANE}.get(name, "")
    for bomb, payload in bombs(BOMB_BYTES).items():
        codec = make_codec(name)
        tracemalloc.start()
        try:
            with pytest.raises(RejectError) as raised:
                codec.decode(payload, where)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert raised.value.reject.detail, bomb
        assert peak < 2 * BOMB_BYTES, bomb


def test_a_message_of_sparkplug_of_many_tiny_fields_is_refused_before_it_is_read() -> None:
    with pytest.raises(RejectError) as raised:
        make_codec("sparkplug").decode(b"\x08\x00" * MIB)
    assert raised.value.reject.reason is Reason.TOO_LARGE

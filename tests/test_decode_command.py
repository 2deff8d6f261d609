"""`quayflow decode`: any message by hand, from digits, a file or standard input."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devices.codecs import native
from devices.codecs.jt808_bodies import location
from devices.codecs.jt808_frames import frame_of
from devices.codecs.native import Block, Event, Status, Telemetry
from devices.codecs.registry import CODECS, make_codec
from devices.rejects import RejectError
from quayflow.main import app

TOPIC = "port/CNNGB-BLCT/quay-crane/QC01/telemetry"
TELEMETRY = Telemetry(v=1, m={"load_t": 24.6, "spreader_locked": True}, boot=5, seq=118, ts=1_795_421_730_250_000_000)


def decode(*arguments: str, given: bytes | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Run the verb; return its exit status and the lines on standard output."""
    result = CliRunner().invoke(app, ["decode", *arguments], input=given)
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def test_every_codec_is_made_anew_under_its_own_name() -> None:
    for name in CODECS:
        assert make_codec(name).name == name
        assert make_codec(name) is not make_codec(name)
    with pytest.raises(ValueError, match="'sparkplug-a': expected one of native"):
        make_codec("sparkplug-a")


@pytest.mark.parametrize("binary", [True, False])
def test_digits_a_file_and_standard_input_say_the_same(tmp_path: Path, binary: bool) -> None:
    payload = native.encode(TELEMETRY, binary=binary)
    file = tmp_path / "message"
    file.write_bytes(payload)
    expected = {
        "codec": "native", "time": "2026-11-23T08:15:30.250Z", "ts": 1_795_421_730_250_000_000, "boot": 5, "seq": 118,
        "values": {"load_t": 24.6, "spreader_locked": True},
    }  # fmt: skip
    assert decode("--codec", "native", "--hex", payload.hex()) == (0, [expected])
    assert decode("--codec", "native", "--file", str(file)) == (0, [expected])
    assert decode("--codec", "native", "-", given=payload) == (0, [expected])
    from_topic = expected | {"device": "QC01", "class": "quay-crane"}
    assert decode("--codec", "native", "--topic", TOPIC, "--hex", payload.hex(" ")) == (0, [from_topic])


def test_values_that_ingest_would_refuse_are_named_and_the_others_printed() -> None:
    payload = Telemetry(v=1, m={"load_t": 9_999.0, "hoist_height_m": float("inf"), "colour": 3.0, "power_kw": 1.5})
    code, [line] = decode("--codec", "native", "--topic", TOPIC, "--hex", native.encode(payload).hex())
    assert code == 0
    assert line["values"] == {"power_kw": 1.5}
    assert line["unknown"] == {"colour": 3.0}
    refused = {(each["pointer"], each["reason"], each["detail"]) for each in line["refused"]}
    assert refused == {
        ("/values/load_t", "out_of_range", "9999 t: expected -20 to 500"),
        ("/values/hoist_height_m", "not_finite", "inf is not a finite number"),
    }


def test_a_block_is_one_line_per_row() -> None:
    block = Block(
        v=1, t0=10**18, dt=10**8, names=("load_t", "x"), f32=bytes(4) + b"\0\0\x80?" + bytes(8), boot=1, seq=2
    )
    for topic in ("", TOPIC):
        code, lines = decode("--codec", "native", "--topic", topic, "--hex", native.encode(block).hex())
        assert code == 0
        assert [line["ts"] - 10**18 for line in lines] == [0, 10**8]
        assert [line["values"] for line in lines] == [{"load_t": 0.0}, {"load_t": 0.0}]
        assert [line["unknown"] for line in lines] == [{"x": 1.0}, {"x": 0.0}]


def test_events_and_statuses_are_told_by_their_topic_or_their_fields() -> None:
    event = native.encode(Event(v=1, type="spreader_fault", data={"code": 17.0}), binary=False)
    status = native.encode(Status(v=1, online=False, info={"maker": "ZPMC"}))
    for topics in (("", ""), (TOPIC.replace("telemetry", "event"), TOPIC.replace("telemetry", "status"))):
        _, [line] = decode("--codec", "native", "--topic", topics[0], "--hex", event.hex())
        assert line["events"] == [{"type": "spreader_fault", "data": {"code": 17.0}}]
        _, [line] = decode("--codec", "native", "--topic", topics[1], "--hex", status.hex())
        assert (line["online"], line["info"]) == (False, {"maker": "ZPMC"})


def test_a_strict_reading_refuses_what_is_else_flagged_and_is_not_for_every_format() -> None:
    damaged = frame_of(0x0200, "13812345678", 1, location(10**18, 29.9, 121.8))[:-2] + b"\x00\x7e"
    code, [line] = decode("--codec", "jt808", "--hex", damaged.hex())
    assert (code, line["flags"]) == (0, ["checksum"])
    code, [line] = decode("--codec", "jt808", "--strict", "--hex", damaged.hex())
    assert (code, line["reject"]["pointer"]) == (1, "/checksum")
    result = CliRunner().invoke(app, ["decode", "--codec", "epc", "--strict", "--hex", "00"])
    assert result.exit_code == 2
    assert "those that have are jt808" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("payload", "topic", "reason", "pointer"),
    [
        (b"{", TOPIC, "undecodable", ""),
        (b"", "", "undecodable", ""),
        (b'{"v":1,"m":{}}', "", "no_samples", "/m"),
        (b'{"v":1,"m":{"load_t":"1"}}', "", "wrong_type", "/m/load_t"),
        (b'{"v":1,"type":"a/b"}', "", "wrong_type", "/type"),
        (b'{"v":1,"m":{"load_t":1},"ts":"yesterday"}', "", "wrong_type", "/ts"),
        (b'{"v":1,"m":{"load_t":1},"device":"QC02"}', TOPIC, "identity_mismatch", "/device"),
        (b'{"v":1,"m":{"load_t":1}}', "port/x", "unknown_topic", ""),
    ],
)
def test_a_reject_is_printed_with_reason_and_pointer(payload: bytes, topic: str, reason: str, pointer: str) -> None:
    code, [line] = decode("--codec", "native", "--topic", topic, "--json", "-", given=payload)
    assert code == 1
    assert (line["reject"]["reason"], line["reject"]["pointer"]) == (reason, pointer)
    assert line["reject"]["detail"]
    with pytest.raises(RejectError):
        make_codec("native").decode(payload, topic)


def test_a_text_of_a_device_cannot_end_a_line_or_move_a_terminal() -> None:
    text = "浙B12345\x85\u2028\x9b2J\x7f\n"
    payload = native.encode(Event(v=1, type="fault", data={"text": text}))
    result = CliRunner().invoke(app, ["decode", "--codec", "native", "-"], input=payload)
    assert len(result.stdout.splitlines()) == 1
    assert "浙B12345" in result.stdout
    assert json.loads(result.stdout)["events"] == [{"type": "fault", "data": {"text": text}}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--hex", "00"),
        ("--codec", "native"),
        ("--codec", "native", "--hex", "00", "-"),
        ("--codec", "native", "--hex", "0"),
        ("--codec", "morse", "--hex", "00"),
        ("--codec", "native", "--file", "no such file"),
        ("--codec", "native", "--zone", "+08:00", "--hex", "00"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    assert decode(*arguments)[0] == 2


@pytest.mark.parametrize("codec", CODECS)
def test_no_bytes_are_no_message_of_any_format(codec: str) -> None:
    code, [line] = decode("--codec", codec, "--json", "--hex", "")
    assert code == 1
    assert line["reject"]["detail"]

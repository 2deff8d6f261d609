"""`quayflow check` of every format: in files as they are found in the field, in recordings, and on a real broker."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from typer.testing import CliRunner, Result

from devices.codecs.native import Event, Telemetry
from devices.codecs.sparkplug_node import EdgeNode
from devices.codecs.teltonika import packet_of, record_of
from devices.vocabulary import DeviceClass
from engines.mosquitto import Mosquitto, running_mosquitto
from quayflow.captures import pieces
from quayflow.main import app
from simulators.speakers import Impinj, Jt808, Tic40, Zebra

NS = 1_000_000_000
BEGIN = 1_795_421_730 * NS
TIMES = [BEGIN + second * NS for second in range(10)]
PLACE = {"latitude_deg": 29.9, "longitude_deg": 121.8, "speed_mps": 5.0, "heading_deg": 90.0, "odometer_m": 1_000.0}
CRANE = {"load_t": 10.0, "hoist_height_m": 3.0}


def check(*arguments: str, status: int = 0) -> Result:
    found = CliRunner().invoke(app, ["check", *arguments])
    assert found.exit_code == status, found.output
    return found


def report(*arguments: str, status: int = 0) -> dict[str, Any]:
    return dict(json.loads(check(*arguments, "--json", status=status).stdout))


def errors(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["check"], each["pointer"]) for each in found["findings"] if each["severity"] == "error"}


def tic40(at: int, codec: str = "tic40") -> bytes:
    crane = Tic40(codec, "QC09", DeviceClass.QUAY_CRANE)
    return crane.write(at, Telemetry(v=1, ts=at, m=dict(CRANE))) or b""


def read_at(at: int) -> Event:
    data: dict[str, Any] = {"tag": "3074257BF7194E4000001A85", "antenna": 1, "rssi_dbm": -50.0, "direction": "in"}
    return Event(v=1, type="tag_read", ts=at, data=data)


def jt808() -> list[bytes]:
    terminal = Jt808("13957400001")
    return [terminal.write(at, Telemetry(v=1, ts=at, m=PLACE | {"laden": True})) or b"" for at in TIMES]


def zebra() -> bytes:
    reader = Zebra("84:24:8d:00:00:01")
    return b"\n".join(reader.write(at, read_at(at)) or b"" for at in TIMES)


def teltonika() -> list[bytes]:
    return [packet_of(8, 1, record_of(at, 29.9, 121.8, elements={16: 1_000, 239: 1})) for at in TIMES]


def owntracks() -> bytes:
    fix = {"_type": "location", "lat": 29.9, "lon": 121.8, "topic": "owntracks/bob/phone"}
    return "\n".join(json.dumps(fix | {"tst": at // NS}) for at in TIMES).encode()


def native(at: int) -> dict[str, Any]:
    return {"v": 1, "boot": 5, "seq": 10 + (at - BEGIN) // NS, "ts": at, "m": CRANE}


IMEI = b"\x00\x0f356307042441013"
FILES: dict[str, tuple[str, str, str, Callable[[], bytes]]] = {
    "msgpack, one after another": (
        *("native", "quay-crane", "CNNGB-DEMO/quay-crane/CHECKED"),
        lambda: b"".join(msgpack.packb(native(at)) for at in TIMES),
    ),
    "msgpack, a line each": (
        *("native", "quay-crane", "CNNGB-DEMO/quay-crane/CHECKED"),
        lambda: b"\n".join(msgpack.packb(native(at)) for at in TIMES),
    ),
    "msgpack and JSON": (
        *("native", "quay-crane", "CNNGB-DEMO/quay-crane/CHECKED"),
        lambda: b"\n".join(
            json.dumps(native(at)).encode() if nth % 2 else msgpack.packb(native(at)) for nth, at in enumerate(TIMES)
        ),
    ),
    "tic40": ("tic40", "quay-crane", "CNNGB-DEMO/quay-crane/QC09", lambda: b"\n".join(map(tic40, TIMES))),
    "tic40, over several lines": (
        *("tic40", "quay-crane", "CNNGB-DEMO/quay-crane/QC09"),
        lambda: "\n".join(json.dumps(json.loads(tic40(at)), indent=2) for at in TIMES).encode(),
    ),
    "tic40-flat": (
        *("tic40-flat", "quay-crane", "CNNGB-DEMO/quay-crane/QC09"),
        lambda: b"\r\n".join(tic40(at, "tic40-flat") for at in TIMES),
    ),
    "impinj": (
        *("impinj", "rfid-gate", "CNNGB-DEMO/rfid-gate/impinj-g1"),
        lambda: b"\n".join(Impinj("impinj-g1").write(at, read_at(at)) or b"" for at in TIMES),
    ),
    "zebra": ("zebra", "rfid-gate", "CNNGB-DEMO/rfid-gate/84:24:8d:00:00:01", zebra),
    "jt808": ("jt808", "vehicle", "CNNGB-DEMO/vehicle/13957400001", lambda: b"".join(jt808())),
    "jt808, hexadecimal": (
        *("jt808", "vehicle", "CNNGB-DEMO/vehicle/13957400001"),
        lambda: "\n".join(frame.hex() for frame in jt808()).encode(),
    ),
    "teltonika": (
        *("teltonika", "vehicle", "CNNGB-DEMO/vehicle/356307042441013"),
        lambda: IMEI + b"".join(teltonika()),
    ),
    "teltonika, hexadecimal": (
        *("teltonika", "vehicle", "CNNGB-DEMO/vehicle/CHECKED"),
        lambda: "\n".join(packet.hex() for packet in teltonika()).encode(),
    ),
    "owntracks": ("owntracks", "vehicle", "CNNGB-DEMO/vehicle/bob:phone", owntracks),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_any_format_conforms_as_what_it_is_and_as_nothing_else(name: str, tmp_path: Path) -> None:
    codec, device_class, uid, content = FILES[name]
    path = tmp_path / "capture"
    path.write_bytes(content())
    found = report(str(path), "--as", device_class, "--codec", codec)
    (device,) = found["devices"]
    beginning = name.startswith("teltonika") and codec in name and "hex" not in name
    assert (device["uid"], device["messages"]) == (uid, len(TIMES) + beginning)
    assert (device["formats"], device["rate_hz"], device["skew_s"]) == ([codec], 1.0, None)
    assert [each for each in found["findings"] if each["severity"] != "note"] == []
    if codec == "native":
        return
    other = "yard-crane" if device_class != "yard-crane" else "vehicle"
    assert ("identity", "") in errors(report(str(path), "--as", other, "--codec", codec, status=1))
    # Who forgets to say what it is, is told.
    assert f"--codec {codec}" in check(str(path), "--as", device_class, status=2).output


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_says_where(name: str, tmp_path: Path) -> None:
    codec, device_class, _, content = FILES[name]
    whole = content()
    path = tmp_path / "capture"
    path.write_bytes(whole[:-20])
    found = report(str(path), "--as", device_class, "--codec", codec, status=1)
    assert found["messages"] == len(list(pieces(whole, codec)))
    assert any(each["first"].startswith(("line", "byte")) for each in found["findings"])


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30), st.sampled_from([b"", b"\n", b"\r\n"]))
def test_messages_of_msgpack_end_where_they_say(numbers: list[int], between: bytes) -> None:
    packed = [msgpack.packb({"v": 1, "seq": number, "m": {"load_t": 10, "x": b"\n\n"}}) for number in numbers]
    assert [each.payload for each in pieces(between.join(packed) + between, "native")] == packed


def test_a_frame_that_did_not_come_is_missed_by_its_serial(tmp_path: Path) -> None:
    frames = jt808()
    path = tmp_path / "capture.bin"
    path.write_bytes(b"".join(frames[:3] + frames[5:]))
    (device,) = report(str(path), "--as", "vehicle", "--codec", "jt808")["devices"]
    assert (device["numbered"], device["missing"]) == (8, 2)


def framed(topic: str, payload: bytes, ts: int) -> str:
    return json.dumps({"ts": ts, "topic": topic, "payload": base64.b64encode(payload).decode()})


def test_sparkplug_is_read_from_its_birth_on(tmp_path: Path) -> None:
    node, path = EdgeNode("G", "QC09", "plc"), tmp_path / "frames.jsonl"
    said = [each for at in TIMES for each in node.tell(at, CRANE)]
    lines = [framed(each.topic, each.payload, BEGIN + nth * NS) for nth, each in enumerate(said)]
    path.write_text("\n".join(lines))
    found = report(str(path), "--as", "quay-crane", "--codec", "sparkplug")
    assert {row["uid"]: row["messages"] for row in found["devices"]} == {
        "CNNGB-DEMO/quay-crane/G:QC09": 11,
        "CNNGB-DEMO/quay-crane/G:QC09:plc": 10,
    }
    assert "--codec" in check(str(path), "--as", "quay-crane", status=1).output
    path.write_text("\n".join(lines[2:]))
    assert errors(report(str(path), "--as", "quay-crane", "--codec", "sparkplug", status=1)) == {("names", "")}
    (birth := tmp_path / "birth.bin").write_bytes(said[0].payload)
    given_topic = ("--topic", said[0].topic)
    assert report(str(birth), "--as", "quay-crane", "--codec", "sparkplug", *given_topic)["messages"] == 1
    assert "--topic" in check(str(birth), "--as", "quay-crane", "--codec", "sparkplug", status=2).output


def test_the_sources_of_the_settings_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text("\n".join(framed("terminal/che/9", tic40(at), at) for at in TIMES))
    assert errors(report(str(path), "--as", "quay-crane", status=1)) == {("identity", "")}
    source = {"codec": "tic40", "filters": ["terminal/che/#"], "class": "quay-crane", "site": "CNNGB-BLCT"}
    monkeypatch.setenv("QUAYFLOW_SOURCES", json.dumps([source]))
    (device,) = report(str(path), "--as", "quay-crane")["devices"]
    assert (device["uid"], device["skew_s"]) == ("CNNGB-BLCT/quay-crane/QC09", 0.0)


def test_what_a_message_is_and_what_its_topic_says_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text("\n".join(framed("port/CNNGB-DEMO/yard-crane/QC09/tic40", tic40(at), at) for at in TIMES))
    details = [each["detail"] for each in report(str(path), "--as", "yard-crane", status=1)["findings"]]
    assert "the message is that of a quay-crane, its topic says yard-crane" in details
    path.write_text("\n".join(framed("port/CNNGB-DEMO/quay-crane/QC08/tic40", tic40(at), at) for at in TIMES))
    assert errors(report(str(path), "--as", "quay-crane", status=1)) == {("identity", "/device")}


def test_a_clock_that_shows_local_time_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text(
        "\n".join(framed("port/CNNGB-DEMO/quay-crane/QC09/tic40", tic40(at), at + 28_800 * NS) for at in TIMES)
    )
    assert "8 h: local time instead of UTC?" in check(str(path), "--as", "quay-crane").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.jsonl",), "no such file"),
        (("{file}", "--codec", "sparkplugg"), "expected one of native, tic40"),
        (("{file}", "--codec", "zebra", "--zone", "+08:00"), "times with a zone"),
        (("{file}", "--only", "port/#"), "which this is not"),
        (("{file}", "--codec", "jt808", "--topic", "a/+"), "without + and #"),
        (("{folder}",), "holds no recording"),
        (("port/#", "--codec", "tic40"), "name their format themselves"),
        (("port/#/x",), "must be a whole level"),
        (("x/y", "--topic", "z"), "there is none of this name"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(tic40(BEGIN))
    folder = tmp_path / "empty"
    folder.mkdir()
    given_names = [each.format(file=tmp_path / "file", folder=folder) for each in arguments]
    assert said in check(*given_names, "--as", "quay-crane", status=2).output


@contextmanager
def speaking(
    broker: Mosquitto, say: Callable[[int, Callable[[str, bytes], object]], None], listen: str
) -> Iterator[list[bytes]]:
    """Publish ten times a second what ``say`` says; yield what comes on ``listen``."""
    heard: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: heard.append(bytes(message.payload))
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.subscribe(listen)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.1):
            say(time.time_ns(), lambda topic, payload: client.publish(topic, payload, 1))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()
        client.disconnect()
        client.loop_stop()


def test_foreign_topics_are_judged_as_they_come_and_from_their_recording(tmp_path: Path) -> None:
    def say(at: int, publish: Callable[[str, bytes], object]) -> None:
        publish("port/CNNGB-DEMO/quay-crane/QC09/tic40", tic40(at))
        publish("terminal/che/9", tic40(at))
        publish("owntracks/bob/phone", json.dumps({"_type": "location", "lat": 1, "lon": 2, "tst": at // NS}).encode())

    with running_mosquitto() as broker, speaking(broker, say, "none"):
        where = ("--broker", f"127.0.0.1:{broker.port}", "--for", "1s")
        (device,) = report("port/+/quay-crane/QC09/#", "--as", "quay-crane", *where)["devices"]
        assert device["formats"] == ["tic40"]
        assert abs(device["skew_s"]) < 1
        assert ("identity", "") in errors(report("port/+/+/+/tic40", "--as", "vehicle", *where, status=1))
        assert "--codec" in check("terminal/che/#", "--as", "quay-crane", *where, status=1).output
        (device,) = report("terminal/che/#", "--as", "quay-crane", "--codec", "tic40", *where)["devices"]
        assert device["uid"] == "CNNGB-DEMO/quay-crane/QC09"
        (device,) = report("owntracks/#", "--as", "vehicle", "--codec", "owntracks", *where)["devices"]
        assert device["uid"] == "CNNGB-DEMO/vehicle/bob:phone"
        out = tmp_path / "recording"
        found = CliRunner().invoke(app, ["record", "--out", str(out), "--topic", "#", *where])
        assert found.exit_code == 0, found.output
    recorded = report(str(out), "--as", "quay-crane", "--only", "port/#")
    (device,) = recorded["devices"]
    assert device["messages"] == recorded["messages"] > 3
    assert abs(device["skew_s"]) < 1
    segment = next(out.glob("*.qfj"))
    only = ("--only", "terminal/#", "--codec", "tic40")
    assert report(str(segment), "--as", "quay-crane", *only)["devices"][0]["uid"] == "CNNGB-DEMO/quay-crane/QC09"


def test_a_sparkplug_node_that_was_born_before_is_asked_to_be_born_again() -> None:
    node = EdgeNode("G", "QC09", "plc")
    node.tell(time.time_ns(), CRANE)
    asked: list[bytes] = []

    def say(at: int, publish: Callable[[str, bytes], object]) -> None:
        while asked:
            node.command(asked.pop())
        for each in node.tell(at, CRANE):
            publish(each.topic, each.payload)

    with running_mosquitto() as broker, speaking(broker, say, node.command_topic) as heard:
        asked = heard
        where = ("--broker", f"127.0.0.1:{broker.port}", "--for", "5s")
        found = report("spBv1.0/#", "--as", "quay-crane", "--codec", "sparkplug", *where)
    assert node.births == 2
    assert {each["severity"] for each in found["findings"]} == {"note"}
    assert {row["uid"] for row in found["devices"]} == {
        f"CNNGB-DEMO/quay-crane/{each}" for each in ("G:QC09", "G:QC09:plc")
    }


def test_names_that_the_registry_has_adopted_count_under_its_data_folder(tmp_path: Path) -> None:
    data, path = str(tmp_path / "data"), tmp_path / "payloads.jsonl"
    uid = "CNNGB-DEMO/quay-crane/QC09"
    for verb in (["add", uid], ["adopt", uid, "Last_kg", "load_t", "--scale", "0.001"]):
        found = CliRunner().invoke(app, ["device", *verb, "--data", data])
        assert found.exit_code == 0, found.output
    path.write_text(json.dumps(native(BEGIN) | {"m": {"Last_kg": 20_000}, "device": "QC09"}))
    assert errors(report(str(path), "--as", "quay-crane", status=1)) == {("names", "/m/Last_kg")}
    assert report(str(path), "--as", "quay-crane", "--data", data)["devices"][0]["uid"] == uid

"""`quayflow check`: what conforms passes, what ingest would refuse is named with its pointer."""

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from devices.vocabulary import DeviceClass
from engines.mosquitto import running_mosquitto
from faults.publisher import Outgoing, Publisher
from quayflow.captures import Message
from quayflow.conformance import judge
from quayflow.main import app
from simulators import profiles
from simulators.messages import PortMessages

NS = 1_000_000_000
TOPIC = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"


def message(body: dict[str, Any], at: float = 0.0, topic: str = TOPIC) -> Message:
    return Message(topic, json.dumps(body).encode(), BEGIN + round(at * NS))


BEGIN = 1_795_421_730 * NS


def good(seq: int, **values: Any) -> dict[str, Any]:
    return {"v": 1, "boot": 5, "seq": seq, "ts": BEGIN + seq * NS, "m": values or {"load_t": 1.0}}


def findings(*messages: Message, as_class: DeviceClass = DeviceClass.QUAY_CRANE) -> list[tuple[str, str, str]]:
    report = judge(list(messages), as_class, "test")
    return [(each.severity, each.check, each.pointer) for each in report.findings]


def run(*arguments: str, status: int = 0) -> Result:
    found = CliRunner().invoke(app, ["check", *arguments])
    assert found.exit_code == status, found.output
    return found


def test_what_a_simulated_port_sends_conforms() -> None:
    port = PortMessages(profiles.load("small"), 7, "CNNGB-DEMO", BEGIN)
    sent = [each for each in port.advance(30 * NS) if "/quay-crane/" in each.topic]
    report = judge([Message(each.topic, each.payload, each.due_ns) for each in sent], DeviceClass.QUAY_CRANE, "port")
    assert report.conforms
    assert [each for each in report.findings if each.severity == "error"] == []
    assert {row["numbered"] == row["messages"] for row in report.devices} == {True}


@pytest.mark.parametrize(
    ("body", "finding"),
    [
        (good(1, load_t=1.0) | {"device": "QC02"}, ("error", "identity", "/device")),
        (good(1, load_t=501.0), ("error", "ranges", "/m/load_t")),
        (good(1, load_t=1.0, colour=1), ("error", "names", "/m/colour")),
        (good(1, hoist_height_mm=12_300), ("error", "units", "/m/hoist_height_mm")),
        (good(1, load_t=1.0) | {"ts": 5}, ("warning", "clock", "/ts")),
        (good(1, load_t=1.0) | {"ts": BEGIN + 3_600 * NS}, ("error", "clock", "/ts")),
        (good(1, load_t="1"), ("error", "payload", "/m/load_t")),
        ({"v": 1, "ts": BEGIN, "m": {"load_t": 1}}, ("warning", "sequence", "/seq")),
        ({"v": 1, "boot": 5, "seq": 1, "m": {"load_t": 1}}, ("warning", "clock", "/ts")),
        (good(1) | {"ts": BEGIN - 60 * NS}, ("warning", "clock", "/ts")),
    ],
)
def test_what_is_wrong_is_named_with_its_place(body: dict[str, Any], finding: tuple[str, str, str]) -> None:
    found = findings(message(body, 1))
    assert finding in found
    report = judge([message(body, 1)], DeviceClass.QUAY_CRANE, "test")
    assert report.conforms is (finding[0] == "warning")


def test_another_class_than_asked_for_is_an_error() -> None:
    assert ("error", "identity", "") in findings(message(good(1), 1), as_class=DeviceClass.VEHICLE)
    assert ("error", "identity", "") in findings(message(good(1), 1, "port/x"))


def test_gaps_and_pauses_are_warnings_that_do_not_fail() -> None:
    seen = [message(good(seq), seq) for seq in (*range(10), *range(12, 20))]
    assert findings(*seen) == [("warning", "sequence", "/seq")]
    paused = [message(good(seq), seq if seq < 10 else seq + 30) for seq in range(20)]
    assert ("warning", "rate", "") in findings(*paused)


def test_the_same_fault_again_and_again_is_one_finding() -> None:
    report = judge([message(good(seq, load_t=501.0), seq) for seq in range(50)], DeviceClass.QUAY_CRANE, "test")
    (finding,) = [each for each in report.findings if each.severity == "error"]
    assert finding.count == 50


def test_a_file_of_payloads_or_of_recorded_frames_is_judged(tmp_path: Path) -> None:
    plain, recorded = tmp_path / "plain.jsonl", tmp_path / "recorded.jsonl"
    plain.write_text("\n".join(json.dumps(good(seq, load_t=1.0, reefer=2)) for seq in range(3)))
    lines = [{"ts": BEGIN, "topic": TOPIC, "payload": base64.b64encode(json.dumps(good(0)).encode()).decode()}]
    recorded.write_text("\n".join(map(json.dumps, lines)))
    found = run(str(plain), "--as", "quay-crane", "--json", "--html", str(tmp_path / "report.html"), status=1)
    report = json.loads(found.output)
    assert (report["conforms"], report["messages"], report["findings"][0]["pointer"]) == (False, 3, "/m/reefer")
    assert "does not conform" in (tmp_path / "report.html").read_text()
    assert "/m/reefer" in (tmp_path / "report.html").read_text()
    assert "conforms as quay-crane" in run(str(recorded), "--as", "quay-crane").output
    plain.write_text('{"topic":"x","payload":"?"}')
    run(str(plain), "--as", "quay-crane", status=2)


def test_a_topic_is_listened_to(tmp_path: Path) -> None:
    with running_mosquitto() as broker:
        bodies = [json.dumps(good(seq) | {"ts": time.time_ns()}).encode() for seq in range(100)]

        def speak() -> None:
            with Publisher(broker.port, (Outgoing(TOPIC, body, None) for body in bodies), 50.0) as publisher:
                publisher.finish()

        speaking = threading.Thread(target=speak)
        speaking.start()
        where = ("--broker", f"127.0.0.1:{broker.port}", "--for", "1.5s")
        heard = json.loads(run(TOPIC, "--as", "quay-crane", *where, "--json").output)
        speaking.join()
        assert heard["messages"] > 10
        silent = run("port/CNNGB-DEMO/vehicle/+/telemetry", "--as", "vehicle", *where, status=1)
        assert "no message came" in silent.output
    run(TOPIC, "--as", "quay-crane", *where, status=3)


def test_a_file_without_times_says_nothing_of_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "payloads.jsonl"
    path.write_text('{"v":1,"m":{"load_t":1}}\n' * 3)
    result = CliRunner().invoke(app, ["check", str(path), "--as", "quay-crane", "--json"])
    assert json.loads(result.stdout)["devices"][0]["rate_hz"] is None


def test_a_number_that_is_used_again_for_something_else_loses_what_it_says() -> None:
    stuck = [message(good(7, load_t=float(nth)), nth) for nth in range(20)]
    report = judge(stuck, DeviceClass.QUAY_CRANE, "test")
    (finding,) = [each for each in report.findings if each.severity == "error"]
    assert (finding.check, finding.pointer, finding.count, report.conforms) == ("sequence", "/seq", 19, False)
    # The same message once more is what QoS 1 does.
    again = [message(good(7, load_t=1.0), 7), message(good(7, load_t=1.0), 8)]
    assert judge(again, DeviceClass.QUAY_CRANE, "test").conforms

"""Load runs: what is due when, packets made beforehand, and the judgement of what limits."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mqtt5
import numpy as np
import pytest

from devices.codecs.native import Block, Telemetry
from devices.times import NS
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import free_port
from engines.subscriber import eventually, received
from simulators import profiles
from simulators.broker import Broker
from simulators.ingest_figures import IngestFigures, parse
from simulators.load import LoadConfig, LoadResult, Stage, judge, run
from simulators.moving import decoded
from simulators.rates import Rate, due_times
from simulators.templates import FIRST_SEQ, Form, forms_of, lanes_of

START = 1_795_420_800 * NS


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto() as running:
        yield running


@pytest.fixture(scope="module")
def forms() -> list[Form]:
    return forms_of(profiles.load("small"), 7, "CNNGB-LOAD")


@pytest.mark.parametrize(
    ("text", "seconds", "due"),
    [
        ("constant:500", 4, [0, 500, 1_000, 1_500, 2_000]),
        ("soak:500", 4, [0, 500, 1_000, 1_500, 2_000]),
        ("ramp:100-500", 4, [0, 150, 400, 750, 1_200]),
        ("step:300", 2, [0, 300, 600, 600]),
    ],
)
def test_what_is_due_is_the_integral_of_the_rate(text: str, seconds: float, due: list[int]) -> None:
    (stretch,) = Rate.parse(text).stretches(seconds)
    assert [stretch.due(at) for at in range(len(due))] == due


def test_a_spike_is_five_fifths_of_which_the_middle_one_is_high() -> None:
    stretches = Rate.parse("spike:200x5").stretches(10)
    assert [(each.seconds, each.begin, each.end) for each in stretches] == [
        (4, 200, 200),
        (2, 1000, 1000),
        (4, 200, 200),
    ]
    assert [Rate.parse("step").step(nth, 5).begin for nth in range(3)] == [2_000, 3_000, 4_500]


@pytest.mark.parametrize("text", ["constant:700", "ramp:100-900", "ramp:900-100"])
def test_every_message_is_due_when_the_integral_comes_to_it(text: str) -> None:
    (stretch,) = Rate.parse(text).stretches(3)
    total = int(stretch.due(3))
    for nth in range(0, total, 97):
        at, _ = due_times(stretch, START, nth, 1)
        assert stretch.due((at - START) / NS) == pytest.approx(nth, abs=0.01)
    first, last = due_times(stretch, START, 0, total)
    assert (first, last) == (START, due_times(stretch, START, total - 1, 1)[0])


@pytest.mark.parametrize(
    "text", ["", "constant", "constant:0", "ramp:5", "spike:2", "wave:3", "constant:1e9", "step:x"]
)
def test_a_rate_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate = .*allowed"):
        LoadConfig(rate=text)


@pytest.mark.parametrize(
    ("field", "value"), [("devices", 0), ("clients", 0), ("qos", 2), ("duration_s", 0), ("seed", -1)]
)
def test_a_wrong_setting_is_named(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        LoadConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("qos", [0, 1])
def test_packets_made_beforehand_are_messages_of_the_profile_each_once(forms: list[Form], qos: int) -> None:
    assert sum(form.share for form in forms) == pytest.approx(1)
    assert len({form.device_class for form in forms}) > 2
    boot = 1 << 61
    lanes = lanes_of(forms, 50, 3, "CNNGB-LOAD", boot, qos)
    assert len(lanes) == 3
    seen: set[tuple[str, int | None, int | None]] = set()
    kinds = set()
    for lane in (each for connection in lanes for each in connection):
        times = START + np.arange(2 * len(lane.rows) + 1) * 1_000
        data = memoryview(lane.take(times, 65_530))
        at = 0
        for nth, ts in enumerate(times.tolist()):
            packet, length = mqtt5.read(data[at:])
            at += length
            assert isinstance(packet, mqtt5.PublishPacket)
            assert packet.packet_id == ((65_530 - 1 + nth) % 65_535 + 1 if qos else None)
            native = decoded(packet.topic, packet.payload)
            assert native is not None
            key, _, found = native
            assert found.ts == ts
            assert found.seq is not None
            assert found.seq >= FIRST_SEQ
            seen.add((key.uid, found.boot, found.seq))
            kinds.add(type(found))
        assert at == len(data)
    assert kinds <= {Telemetry, Block}
    assert len(seen) == sum(2 * len(lane.rows) + 1 for connection in lanes for lane in connection)


def load(config: LoadConfig, broker: Mosquitto) -> tuple[LoadResult, list[tuple[str, bytes]]]:
    async def scenario() -> tuple[LoadResult, list[tuple[str, bytes]]]:
        async with received(broker, "port/CNNGB-LOAD/#") as messages:
            result = await run(config)
            await eventually(lambda: len(messages) >= result.acked, "every message arrives")
        return result, [(str(message.topic), bytes(message.payload)) for message in messages]

    return asyncio.run(scenario())


@pytest.mark.parametrize(("qos", "rate"), [(1, "constant:800"), (0, "ramp:400-1200"), (1, "spike:500x4")])
def test_as_many_messages_arrive_as_were_asked_for(broker: Mosquitto, qos: int, rate: str) -> None:
    config = LoadConfig(Broker(port=broker.port), rate, 1.5, devices=40, clients=3, qos=qos, thresholds=("lost==0",))
    result, messages = load(config, broker)
    assert result.messages == pytest.approx(1_200, rel=0.05)
    assert (result.sent, result.acked, result.lost) == (result.messages,) * 2 + (0,)
    assert len(messages) == result.messages
    assert len({*messages}) == result.messages
    assert result.thresholds[0]["ok"]
    assert not result.refused
    assert sum(form["share"] for form in result.forms) == pytest.approx(1, abs=0.01)
    assert (result.acked_ms["p99"] > 0) == (qos == 1)


def stage(behind_p99: float = 2.0, **changes: Any) -> Stage:
    figures: dict[str, Any] = {"seconds": 10.0, "due": 1_000, "sent": 1_000, "held_back": 0.0, "cpu": 0.2}
    return Stage(100.0, behind_ms={"p99": behind_p99}, **(figures | changes))


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        (stage(), ""),
        (stage(sent=900, held_back=0.9), "broker"),
        (stage(behind_p99=400.0, held_back=0.6), "broker"),
        (stage(sent=900, cpu=1.0), "generator"),
        (stage(behind_p99=400.0, cpu=0.99, held_back=0.1), "generator"),
        (stage(ingest_rate=60.0, ingest_seconds=2.5), "ingest"),
        (stage(ingest_rate=88.0, ingest_seconds=2.5), "ingest"),
        (stage(ingest_rate=95.0, ingest_seconds=20.0), "ingest"),
        # Short by the messages of 0.12 s: so much what ingest says may be off.
        (stage(ingest_rate=95.2, ingest_seconds=2.5), ""),
        (stage(ingest_rate=99.0, ingest_seconds=2.5, store_lag_s=22.0), "store"),
        # Of many devices ingest commits once in 10 s.
        (stage(ingest_rate=99.0, ingest_seconds=2.5, store_lag_s=12.0), ""),
    ],
)
def test_what_limits_is_told_from_what_was_seen(case: Stage, limit: str) -> None:
    assert judge(case) == limit


def test_the_figures_of_all_workers_are_taken_together() -> None:
    text = (
        "# HELP quayflow_ingest_journal_frames_total Frames.\n"
        'quayflow_ingest_journal_frames_total{worker="a"} 120.0\n'
        'quayflow_ingest_journal_frames_total{worker="b"} 30.0\n'
        'quayflow_ingest_store_lag_seconds{worker="a"} 0.5\nquayflow_ingest_store_lag_seconds{worker="b"} 7.25\n'
        'quayflow_ingest_status_age_seconds{worker="a"} 0.25\nquayflow_ingest_status_age_seconds{worker="b"} 1.5\n'
    )
    assert parse(text, 100.0) == IngestFigures(150, 7.25, 98.5)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "quayflow", "load", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_steps_go_on_until_something_breaks_and_the_report_says_what(broker: Mosquitto, tmp_path: Path) -> None:
    report = tmp_path / "l.html"
    done = command(
        *("--broker", f"127.0.0.1:{broker.port}", "--rate", "step:200", "--step", "1s", "--for", "3s", "--json"),
        *("--devices", "40", "--clients", "2", "--html", str(report), "--threshold", "knee>100"),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [each["asked"] for each in said["stages"]] == [200, 300, 450]
    assert said["knee"] == pytest.approx(450, rel=0.05)
    assert said["lost"] == 0
    page = report.read_text()
    assert page.count("<svg") == 2
    assert "passed" in page
    missed = command(
        *("--broker", f"127.0.0.1:{broker.port}", "--rate", "constant:100", "--for", "1s", "--devices", "20"),
        *("--threshold", "rate>5000"),
    )
    assert missed.returncode == 99


def test_without_a_broker_a_load_run_is_unreachable() -> None:
    done = command("--broker", f"127.0.0.1:{free_port()}", "--rate", "constant:100", "--for", "1s")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr

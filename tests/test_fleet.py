import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from devices.codecs.native import decode_status
from devices.codecs.sparkplug import REBIRTH, Sparkplug
from devices.codecs.sparkplug_payloads import BOOLEAN, Metric, write
from devices.topics import DeviceKey, Stream, topic_of
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.subscriber import eventually, received
from simulators import profiles
from simulators.accounts import Lag
from simulators.broker import Broker
from simulators.fleet import FleetConfig, run
from simulators.messages import NS, PortMessages
from simulators.publisher import Publisher

DEVICES = 4 + 6 + 4 + 20 + 40 + 2


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto() as running:
        yield running


def fast(broker: Mosquitto, site: str, **changes: Any) -> FleetConfig:
    config = FleetConfig(Broker(port=broker.port), site=site, speed=20.0, duration_s=1.5, payload="mixed")
    return replace(config, **changes)


def expected_by_topic(config: FleetConfig, port_s: float) -> dict[str, list[bytes]]:
    assert config.start_ns is not None
    source = PortMessages(profiles.load(config.profile), config.seed, config.site, config.start_ns, config.payload)
    messages = list(source.hello())
    messages += source.advance(round(port_s * NS))
    messages += source.goodbye()
    by_topic: dict[str, list[bytes]] = {}
    for message in messages:
        by_topic.setdefault(message.topic, []).append(message.payload)
    return by_topic


def test_every_acknowledged_message_is_received_as_published_and_in_order(broker: Mosquitto, tmp_path: Path) -> None:
    config = fast(broker, "CNNGB-ALL", start_ns=1_764_000_000 * NS, summary_path=tmp_path / "summary.json")

    async def scenario() -> tuple[dict[str, Any], list[aiomqtt.Message]]:
        async with received(broker, "port/CNNGB-ALL/#") as messages:
            summary = await run(config)
            await eventually(lambda: len(messages) >= summary["acked"], "every message arrives")
        return summary, messages

    summary, messages = asyncio.run(scenario())
    assert summary["acked"] == summary["sent"] == len(messages) > 2_000
    assert summary["outstanding"] == summary["resent"] == summary["refused"] == 0
    by_topic: dict[str, list[bytes]] = {}
    for message in messages:
        by_topic.setdefault(str(message.topic), []).append(bytes(message.payload))
    assert by_topic == expected_by_topic(config, config.speed * 1.5)
    assert len(summary["devices"]) == DEVICES
    for account in summary["devices"].values():
        assert account["first_seq"] == 0
        assert account["last_seq"] == account["acked"] - 1
    assert json.loads((tmp_path / "summary.json").read_bytes()) == summary
    assert not list(tmp_path.glob(".summary*"))


NODES = """
title = "Nodes"
what = "Cranes that speak Sparkplug"
expect = ["lost == 0"]

[change.wire]
quay_crane = "sparkplug"
"""


def test_nodes_are_born_live_die_and_are_born_again_when_a_host_asks(broker: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "nodes.toml"
    path.write_text(NODES)
    config = fast(broker, "CNNGB-NODES", scenario=str(path), speed=2.0, duration_s=4.0, payload="msgpack")
    group = "CNNGB-NODES-quay-crane"
    asked = write(1, None, [Metric(REBIRTH, datatype=BOOLEAN, value=True)])

    async def scenario() -> tuple[dict[str, Any], list[aiomqtt.Message]]:
        async with received(broker, f"spBv1.0/{group}/#") as messages, aiomqtt.Client("127.0.0.1", broker.port) as host:

            def births() -> int:
                return sum(str(message.topic) == f"spBv1.0/{group}/NBIRTH/QC03" for message in messages)

            running = asyncio.create_task(run(config))
            await eventually(lambda: births() == 1, "the node is born")
            await host.publish(f"spBv1.0/{group}/NCMD/QC03", asked, qos=1)
            await eventually(lambda: births() == 2, "the node is born again")
            summary = await running
            await eventually(lambda: sum("/NDEATH/" in str(one.topic) for one in messages) == 4, "all nodes die")
        return summary, messages

    summary, messages = asyncio.run(scenario())
    assert summary["births"] == 5
    assert summary["outstanding"] == summary["refused"] == 0
    codec = Sparkplug()
    for message in messages:
        codec.decode(bytes(message.payload), str(message.topic))
    # No number is missing, however the messages of the four were mixed on their way.
    assert codec.wants(2**62) == []


FAULTY = """
title = "Faults"
what = "On the way to a real broker"
seed = 11
noise = "default"
expect = ["lost == 0"]

[[faults]]
kind = "duplicate"
share = 0.3

[[faults]]
kind = "backfill"
devices = "QC0*"
from_s = 5.0
lasts_s = 3600.0

[[faults]]
kind = "lost"
devices = "TT*"
share = 1.0
"""


def test_a_scenarios_faults_happen_on_the_way_and_are_counted(broker: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "faulty.toml"
    path.write_text(FAULTY)
    config = fast(broker, "CNNGB-BAD", start_ns=1_764_000_000 * NS, scenario=str(path), payload="msgpack")

    async def scenario() -> tuple[dict[str, Any], list[aiomqtt.Message]]:
        async with received(broker, "port/CNNGB-BAD/+/+/telemetry") as messages:
            summary = await run(config)
            telemetry = summary["acked"] - 2 * DEVICES
            await eventually(lambda: len(messages) >= 0.8 * telemetry, "nearly every message arrives")
        return summary, messages

    summary, messages = asyncio.run(scenario())
    assert summary["outstanding"] == 0
    faults = summary["faults"]
    assert set(faults) == {"duplicate", "backfill", "lost"}
    assert min(faults.values()) > 100
    topics = Counter(str(message.topic).split("/")[3] for message in messages)
    assert not [device for device in topics if device.startswith("TT")]
    # What the dead zone held back is sent at the end, and only then.
    assert topics["QC01"] > 60
    payloads = Counter(bytes(message.payload) for message in messages)
    assert max(payloads.values()) == 2
    source = PortMessages(profiles.load("small"), 11, "CNNGB-BAD", 1_764_000_000 * NS, noise="default")
    sent = [*source.hello(), *source.advance(round(config.speed * 1.5 * NS))]
    assert set(payloads) <= {message.payload for message in sent}


def test_devices_are_online_while_the_port_runs_and_offline_after(broker: Mosquitto) -> None:
    truck = topic_of(DeviceKey("CNNGB-RET", "vehicle", "XT001"), Stream.STATUS)

    async def retained() -> bytes:
        async with received(broker, truck) as messages:
            await eventually(lambda: bool(messages), "the retained status arrives")
        assert messages[0].retain
        return bytes(messages[0].payload)

    async def scenario() -> tuple[bytes, bytes]:
        stop = asyncio.Event()
        running = asyncio.create_task(run(fast(broker, "CNNGB-RET", duration_s=None), stop=stop))
        async with received(broker, truck) as messages:
            await eventually(lambda: bool(messages), "the device says hello")
        during = await retained()
        stop.set()
        await running
        return during, await retained()

    during, after = (decode_status(payload) for payload in asyncio.run(scenario()))
    assert during.online
    assert during.seq == 0
    assert str(during.info["plate"]).startswith("浙B")
    assert not after.online


@pytest.mark.parametrize("kill", [True, False])
def test_nothing_is_missing_when_the_broker_restarts_in_the_middle(kill: bool) -> None:
    with running_mosquitto() as broker:
        config = fast(broker, "CNNGB-CUT", speed=5.0, duration_s=4.0)

        async def scenario() -> dict[str, Any]:
            running = asyncio.create_task(run(config))
            await asyncio.sleep(1.0)  # the broker's death is the test, and it has to come while messages flow
            await asyncio.to_thread(broker.restart, kill=kill)
            return await running

        summary = asyncio.run(scenario())
    assert summary["finished"]
    assert summary["reconnects"] >= 1
    assert summary["outstanding"] == 0
    assert summary["acked"] == summary["sent"] > 1_500
    assert summary["port_s"] == 20.0
    for uid, account in summary["devices"].items():
        assert account["acked"] == account["last_seq"] + 1 > 3, uid
        assert account["first_seq"] == 0


def test_a_broker_that_is_absent_at_the_start_is_waited_for() -> None:
    with running_mosquitto() as broker:
        broker.stop()

        async def scenario() -> dict[str, Any]:
            running = asyncio.create_task(run(fast(broker, "CNNGB-LATE", speed=1.0, duration_s=2.0)))
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.start)
            return await running

        summary = asyncio.run(scenario())
    assert summary["acked"] == summary["sent"] > DEVICES * 3
    assert summary["lag_ms"]["max"] > 300


def test_the_ports_clock_stands_still_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.fleet.MAX_OUTSTANDING", 300)
    with running_mosquitto() as broker:
        broker.stop()

        async def scenario() -> dict[str, Any]:
            running = asyncio.create_task(run(fast(broker, "CNNGB-FULL", speed=20.0, duration_s=1.0)))
            await asyncio.sleep(1.0)
            await asyncio.to_thread(broker.start)
            return await running

        summary = asyncio.run(scenario())
    assert summary["paused_s"] > 0.5
    assert summary["port_s"] == 20.0  # later, but all of it
    assert summary["elapsed_s"] > 1.5
    assert all(account["acked"] == account["last_seq"] + 1 for account in summary["devices"].values())


def test_a_refused_message_is_no_acknowledged_message() -> None:
    with running_mosquitto() as broker:
        acl = broker.folder / "acl"
        acl.write_text("topic write allowed/#\n")
        broker.configure(acl_file=acl)
        broker.restart()

        class Note:
            due_ns, device, seq, topic, payload, retain = 0, 0, 0, "forbidden/one", b"x", False

        async def scenario() -> tuple[int, int]:
            async with Publisher(Broker(port=broker.port), 1, 1, time.time_ns, "refused") as publisher:
                publisher.offer(Note())
                await eventually(lambda: publisher.refused >= 2, "it is offered again")
                return publisher.acked, publisher.outstanding

        assert asyncio.run(scenario()) == (0, 1)


@pytest.mark.slow
def test_sigterm_ends_a_run_in_order_and_its_first_message_comes_within_a_second(
    broker: Mosquitto, tmp_path: Path, root: Path
) -> None:
    summary = tmp_path / "summary.json"
    code = (
        "import asyncio, pathlib; from simulators.broker import Broker; from simulators.fleet import FleetConfig, run; "
        f"config = FleetConfig(Broker(port={broker.port}), 'CNNGB-TERM', summary_path=pathlib.Path({str(summary)!r})); "
        "asyncio.run(run(config))"
    )

    async def scenario() -> float:
        async with received(broker, "port/CNNGB-TERM/#") as messages:
            started = time.monotonic()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=root)
            try:
                await eventually(lambda: bool(messages), "the first message arrives")
                first_s = time.monotonic() - started
                await eventually(summary.exists, "the summary is written while it runs")
                await asyncio.sleep(1.0)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 10) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        return first_s

    first_s = asyncio.run(scenario())
    found = json.loads(summary.read_bytes())
    assert found["finished"]
    assert found["acked"] == found["sent"]
    assert first_s < 5.0  # 0.4 on a quiet machine; tests run on busy ones


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("site", "Ningbo", "CNNGB-DEMO"),
        ("seed", -1, "0 or more"),
        ("speed", 0.0, "above 0"),
        ("duration_s", float("nan"), "above 0"),
        ("connections", 0, "1 to 1000"),
        ("payload", "xml", "msgpack, json, mixed"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=field) as refused:
        FleetConfig(**{field: value})  # type: ignore[arg-type]
    assert allowed in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "allowed"), [("port", 0, "1 to 65535"), ("port", 65_536, "1 to 65535"), ("host", "", "a name")]
)
def test_a_broker_that_cannot_be_is_named_with_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = .*{allowed}"):
        Broker(**{field: value})  # type: ignore[arg-type]


def test_a_port_faster_than_time_begins_in_the_past_so_that_no_clock_runs_ahead() -> None:
    config = FleetConfig(speed=10.0, duration_s=60.0)
    now = 1_764_000_000 * NS
    assert config.port_start_ns(now) == now - 540 * NS
    assert FleetConfig(speed=1.0).port_start_ns(now) == now
    assert FleetConfig(speed=2.0).port_start_ns(now) == now - 86_400 * NS


def test_lag_quantiles_are_upper_bounds_within_a_quarter() -> None:
    lag = Lag()
    for milliseconds in range(1, 1001):
        lag.add(milliseconds * 1_000_000)
    assert 500 <= lag.quantile_ms(0.5) <= 625
    assert 990 <= lag.quantile_ms(0.99) <= 1000
    assert lag.summary()["max"] == 1000

"""What happens to the ledger when space is short, when sites are flooded, and when it does not balance."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import mqtt5
import numpy as np
import pytest
from made_frames import T0, frame, pipeline_of, topic, values
from made_sessions import config_of

from devices.topics import DeviceKey
from faults.scripted_broker import Wire, publish, scripted_broker
from faults.simulation.world import Silent
from ingest.directory import CardinalityError, Directory
from ingest.edges import Edges
from ingest.ledger import Account, Ledger
from ingest.worker import IngestConfig, Worker
from store.admission import admission_of
from store.registry_entries import Policy, Site

TELEMETRY = topic("vehicle", "T-001")
PAYLOAD = b'{"v":1,"m":{"speed_mps":1.5}}'


async def run_worker(
    folder: Path, port: int, edges: Edges, until: Callable[[dict[str, Any]], bool], **config: Any
) -> dict[str, Any]:
    """Run a worker until its status says what is waited for; return that status."""
    worker, stop, running = await _worker_until(folder, port, edges, until, **config)
    stop.set()
    await running
    return worker.status()


async def kill_worker(
    folder: Path, port: int, edges: Edges, until: Callable[[dict[str, Any]], bool], **config: Any
) -> None:
    """Run a worker until its status says what is waited for, then end it without another commit."""
    _, _, running = await _worker_until(folder, port, edges, until, **config)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _worker_until(
    folder: Path, port: int, edges: Edges, until: Callable[[dict[str, Any]], bool], **config: Any
) -> tuple[Worker, asyncio.Event, asyncio.Task[None]]:
    store = f"sqlite:///{folder / 'quayflow.db'}"
    worker = Worker(IngestConfig(folder, store, store, config_of(port), **config), "test", edges=edges)
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(20):
        while not running.done() and not (worker.connected and until(worker.status())):  # noqa: ASYNC110 - from outside
            await asyncio.sleep(0.02)
    return worker, stop, running


def ledger_of(folder: Path) -> dict[tuple[str, str], int]:
    with closing(sqlite3.connect(folder / "quayflow.db")) as connection:
        rows = connection.execute("SELECT uid, account, frames FROM ledger WHERE frames > 0").fetchall()
    return {(uid, account): frames for uid, account, frames in rows}


@pytest.mark.parametrize("short", [True, False])
def test_where_space_is_short_messages_at_qos_0_are_shed_and_counted(short: bool, tmp_path: Path) -> None:
    acknowledged: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.accept()
        await asyncio.sleep(0.3)
        for number in range(1, 11):
            wire.send(mqtt5.PublishPacket(TELEMETRY, PAYLOAD).write())
            wire.send(publish(TELEMETRY, PAYLOAD, number))
        wire.send(mqtt5.PublishPacket("port/nonsense", PAYLOAD).write())
        while True:
            packet = await wire.packet()
            if isinstance(packet, mqtt5.PubAckPacket):
                acknowledged.append(packet.packet_id)

    async def scenario() -> dict[str, Any]:
        free = 10 if short else 10_000
        async with scripted_broker(script) as broker:
            return await run_worker(
                tmp_path,
                broker.port,
                Edges(results=Silent, free_bytes=lambda _: free),
                lambda status: status["frames"] == 21 and len(acknowledged) == 10,
                shed_below_bytes=1_000,
            )

    status = asyncio.run(scenario())
    uid = "CNNGB-DEMO/vehicle/T-001"
    assert acknowledged == list(range(1, 11))
    assert status["balanced"]
    assert status["shedding"] is short
    assert status["shed"] == (11 if short else 0)
    assert status["journal_frames"] == (10 if short else 21)
    ledger = ledger_of(tmp_path)
    assert ledger[uid, "received"] == 20
    assert ledger.get((uid, "shed"), 0) == (10 if short else 0)
    assert ledger.get(("", "shed"), 0) == (1 if short else 0)


def test_what_was_shed_stays_counted_after_a_restart(tmp_path: Path) -> None:
    async def script(wire: Wire) -> None:
        await wire.accept(session_present=wire.number > 1)
        await asyncio.sleep(0.3)
        wire.send(mqtt5.PublishPacket(TELEMETRY, PAYLOAD).write())

    async def scenario() -> list[dict[str, Any]]:
        edges = Edges(results=Silent, free_bytes=lambda _: 0)
        async with scripted_broker(script) as broker:

            def shed_again(status: dict[str, Any]) -> bool:
                return bool(status["shed"] >= broker.connections)

            return [
                await run_worker(
                    tmp_path,
                    broker.port,
                    edges,
                    shed_again,
                    shed_below_bytes=1,
                )
                for _ in range(2)
            ]

    statuses = asyncio.run(scenario())
    assert [status["shed"] for status in statuses] == [1, 2]
    assert all(status["balanced"] for status in statuses)


def test_what_was_shed_since_the_last_commit_stays_counted_where_ingest_is_killed(tmp_path: Path) -> None:
    async def script(wire: Wire) -> None:
        await wire.accept(session_present=wire.number > 1)
        await asyncio.sleep(0.3)
        wire.send(mqtt5.PublishPacket(TELEMETRY, PAYLOAD).write())

    async def scenario() -> dict[str, Any]:
        edges = Edges(results=Silent, free_bytes=lambda _: 0)
        async with scripted_broker(script) as broker:

            def shed_again(status: dict[str, Any]) -> bool:
                return bool(status["shed"] >= broker.connections)

            await run_worker(tmp_path, broker.port, edges, shed_again, shed_below_bytes=1)
            for _ in range(2):
                await kill_worker(
                    tmp_path, broker.port, edges, shed_again, shed_below_bytes=1, commit_interval_s=3600.0
                )
            return await run_worker(tmp_path, broker.port, edges, shed_again, shed_below_bytes=1)

    status = asyncio.run(scenario())
    assert status["balanced"]
    assert status["shed"] == 4
    assert ledger_of(tmp_path)["CNNGB-DEMO/vehicle/T-001", "shed"] == 4
    # What a commit contains that no power cut can take back is kept no longer.
    assert list((tmp_path / "shed").iterdir()) == []


def test_a_ledger_that_does_not_balance_raises_the_alarm_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(wire: Wire) -> None:
        await wire.accept()
        wire.send(publish(TELEMETRY, PAYLOAD, 1))

    async def scenario() -> dict[str, Any]:
        def until(status: dict[str, Any]) -> bool:
            if status["committed_frames"]:
                monkeypatch.setattr(Ledger, "unbalanced", lambda _: [1])
            return not status["balanced"]

        async with scripted_broker(script) as broker:
            return await run_worker(tmp_path, broker.port, Edges(results=Silent), until, commit_interval_s=0.1)

    status = asyncio.run(scenario())
    assert status["balanced"] is False
    alarms = [record.getMessage() for record in caplog.records if "DOES NOT BALANCE" in record.getMessage()]
    assert len(alarms) == 1
    assert "CNNGB-DEMO/vehicle/T-001" in alarms[0]


def test_a_flooded_site_does_not_take_the_places_of_the_others() -> None:
    pipeline = pipeline_of(max_site_devices=3, max_site_series=4)
    flood = [
        frame(f"port/CNNGB-FLOOD/vehicle/T-{n:04d}/telemetry", values(0, T0, speed_mps=1.0, odometer_m=1.0))
        for n in range(50)
    ]
    calm = [frame(topic("vehicle", "T-001"), values(0, T0, speed_mps=1.0, odometer_m=1.0))]
    pipeline.process([*flood, *calm])
    ledger = {(row.uid, row.account, row.reason): row for row in pipeline.ledger_rows(pipeline.directory.devices)}
    # Three devices and four series of the flood; the rest of its frames and samples is refused, and counted.
    refused = sum(row.frames for key, row in ledger.items() if key[1:] == ("quarantined", "cardinality"))
    assert refused == 48
    assert ledger["CNNGB-DEMO/vehicle/T-001", "windowed", ""].samples == 2
    assert pipeline.ledger.balanced()


def test_invented_sites_do_not_take_the_places_of_registered_ones() -> None:
    directory = Directory(10, 20, max_site_devices=5)
    directory.admit(admission_of([Site(site="CNNGB-DEMO", policy=Policy.OPEN)]))
    taken = [directory.device(DeviceKey(f"CNNGB-S{n}", "vehicle", "A")) for n in range(5)]
    for device in taken:
        for metric in ("speed_mps", "odometer_m"):
            directory.series(device, metric)
    with pytest.raises(CardinalityError, match="5 devices of sites that are not registered"):
        directory.device(DeviceKey("CNNGB-S9", "vehicle", "A"))
    with pytest.raises(CardinalityError, match="10 series of sites that are not registered"):
        directory.series(taken[0], "x_m")
    for n in range(5):
        directory.series(directory.device(DeviceKey("CNNGB-DEMO", "vehicle", f"T-{n}")), "speed_mps")
    # A site that is registered later has its places; without any registered site there is nobody to keep them for.
    directory.admit(admission_of([]))
    directory.series(taken[0], "x_m")


def test_a_checkpoint_is_not_held_to_the_caps_of_its_site() -> None:
    directory = Directory(10, 10, max_site_devices=1, max_site_series=1)
    first = directory.device(DeviceKey("CNNGB-DEMO", "vehicle", "A"))
    directory.series(first, "speed_mps")
    with pytest.raises(CardinalityError, match="1 devices of site CNNGB-DEMO"):
        directory.device(DeviceKey("CNNGB-DEMO", "vehicle", "B"))
    with pytest.raises(CardinalityError, match="1 series of site CNNGB-DEMO"):
        directory.series(first, "odometer_m")
    second = directory.device(DeviceKey("CNNGB-DEMO", "vehicle", "B"), capped=False)
    directory.series(second, "odometer_m", capped=False)
    directory.device(DeviceKey("CNNGB-OTHER", "vehicle", "A"))


def test_a_commit_is_given_the_accounts_that_changed_and_those_only() -> None:
    ledger = Ledger()
    ledger.grow(3)
    ledger.receive(np.array([1, 2]), np.array([4, 5]))
    ledger.book(Account.WINDOWED, np.array([1, 2]), np.array([4, 5]))
    devices = [(1, "a", 0), (2, "b", 3)]
    first = ledger.take_rows(devices)
    # Everything, the first time, so that an account at 0 is there to be read.
    assert sorted(map(repr, first)) == sorted(map(repr, [row for device in devices for row in ledger.rows(*device)]))
    assert ledger.take_rows(devices) == []
    ledger.receive(np.array([2]), np.array([5]))
    ledger.quarantine(2, "out_of_range", frames=1, samples=5)
    found = {(row.uid, row.account, row.reason): (row.frames, row.samples) for row in ledger.take_rows([(2, "b", 4)])}
    assert found == {
        ("b", "received", ""): (2, 10),
        ("b", "quarantined", "out_of_range"): (1, 5),
        ("b", "lost_before_journal", ""): (4, 0),
    }

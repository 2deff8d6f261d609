"""The ingest worker as a process of its own on a real broker, judged by a publisher that keeps its own ledger."""

import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engines.influx import Influx
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import wait_until
from engines.postgres import Postgres
from faults import verifier
from faults.ingest_process import IngestProcess
from faults.publisher import SITE, Outgoing, Publisher, readings, telemetry_topic, truck
from store.journal import read
from store.open import open_records, open_windows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RATE = 1_500.0


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True, max_inflight_messages=0) as running:
        yield running


@pytest.fixture
def ingest(broker: Mosquitto, tmp_path: Path) -> Iterator[IngestProcess]:
    """A worker, not started yet."""
    with IngestProcess(tmp_path / "data", broker.port) as process:
        yield process


def settled(ingest: IngestProcess, publisher: Publisher) -> verifier.Findings:
    """Stop the publisher, then the worker when it has taken everything, and compare."""
    publisher.stop()
    verifier.until_taken(ingest.folder, len(publisher.acked))
    assert ingest.terminate() == 0, ingest.words()
    return verifier.verify(ingest.folder, publisher.acked)


def publish_one(broker: Mosquitto, topic: str, payload: bytes) -> None:
    with Publisher(broker.port, iter([Outgoing(topic, payload, None)]), None) as publisher:
        publisher.finish()


def test_no_acknowledged_message_is_lost_or_counted_twice_over_kills(broker: Mosquitto, ingest: IngestProcess) -> None:
    dice = random.Random(7)
    ingest.start()
    with Publisher(broker.port, readings(), RATE) as publisher:
        for kill in range(12):
            time.sleep(dice.uniform(0.1, 1.0))
            ingest.kill()
            # Every third time it is killed while it starts and recovers.
            ingest.start(connected=kill % 3 != 0)
        found = settled(ingest, publisher)
    assert found.good, found
    assert found.acked == found.stored > 5_000
    assert found.lost_before_journal == 0
    keys, damage = verifier.journalled(ingest.folder)
    assert keys == publisher.acked
    assert damage == []


def test_a_broker_restarted_in_order_costs_nothing(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(), RATE) as publisher:
        time.sleep(1.0)
        for _ in range(2):
            broker.restart()
            time.sleep(1.5)
        found = settled(ingest, publisher)
    assert publisher.reconnects >= 2
    assert found.good, found
    assert found.acked == found.stored
    status = verifier.status(ingest.folder)
    assert status["reconnects"] == 2
    assert status["session_losses"] == 0
    assert ingest.lives == 1


def test_a_broker_that_is_absent_at_the_start_is_waited_for(broker: Mosquitto, ingest: IngestProcess) -> None:
    broker.stop()
    ingest.start(connected=False)
    wait_until(lambda: ingest.said("cannot be reached") >= 2, "it says that there is no broker")
    assert ingest.said("Traceback") == 0
    broker.start()
    wait_until(lambda: ingest.said("connected to") == 1, "it connects")
    with Publisher(broker.port, readings(count=500), None) as publisher:
        publisher.finish()
        found = settled(ingest, publisher)
    assert found.good, found
    assert found.stored == 500


def test_a_worker_told_to_end_under_load_takes_nothing_twice(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(), RATE) as publisher:
        for _ in range(4):
            time.sleep(0.7)
            assert ingest.terminate() == 0, ingest.words()
            ingest.start()
        found = settled(ingest, publisher)
    assert found.good, found
    assert found.acked == found.stored
    assert found.repeated == 0
    assert ingest.said("incomplete records") == 0


def test_what_was_acknowledged_to_the_broker_is_in_the_journal(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(count=3_000), None) as publisher:
        publisher.finish()
        wait_until(lambda: len(verifier.journalled(ingest.folder)[0]) == 3_000, "the journal holds all")
        ingest.kill()
    # The broker, asked by the next life, has nothing more to give, and recovery alone completes the store.
    broker.stop()
    ingest.start(connected=False)
    verifier.until_taken(ingest.folder, 3_000)
    ingest.terminate()
    found = verifier.verify(ingest.folder, publisher.acked)
    assert found.good, found
    assert found.stored == 3_000


def test_a_second_instance_on_the_folder_ends_with_status_3(ingest: IngestProcess) -> None:
    ingest.start()
    second = IngestProcess(ingest.folder, 1)
    second.log = ingest.folder.parent / "second.log"
    with second:
        second.start(connected=False)
        assert second.wait() == 3
    assert f"is in use by process {ingest.pid}" in second.words()
    assert "--data" in second.words()
    assert second.said("Traceback") == 0
    ingest.terminate()


def test_a_full_disk_stops_acknowledgements_until_there_is_space(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(), 500.0) as publisher:
        verifier.until_taken(ingest.folder, 500)
        journal = next((ingest.folder / "journal").glob("*.qfj"))
        ingest.limit_file_size(journal.stat().st_size + 1_000)
        wait_until(lambda: ingest.said("nothing is acknowledged until there is space") == 1, "it says so")
        size = journal.stat().st_size
        time.sleep(1.5)
        assert journal.stat().st_size == size
        assert len(verifier.journalled(ingest.folder)[0]) < len(publisher.acked)
        ingest.limit_file_size(None)
        found = settled(ingest, publisher)
    assert ingest.lives == 1
    assert found.good, found
    assert found.acked == found.stored
    assert found.repeated == 0
    assert ingest.said("Traceback") == 0


def test_what_devices_say_while_the_disk_is_full_is_not_late(broker: Mosquitto, tmp_path: Path) -> None:
    with IngestProcess(tmp_path / "data", broker.port, idle_s=0.5, lateness_s=0) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 500.0) as publisher:
            verifier.until_taken(ingest.folder, 500)
            # Over the end of a window.
            time.sleep((7 - time.time()) % 10)
            journal = next((ingest.folder / "journal").glob("*.qfj"))
            ingest.limit_file_size(journal.stat().st_size + 1_000)
            time.sleep(5)
            ingest.limit_file_size(None)
            found = settled(ingest, publisher)
        assert ingest.said("nothing is acknowledged until there is space") == 1
    assert found.good, found
    frames = ingest.ask("ledger")["total"]["frames"]
    assert frames["merged_late"] == 0, frames
    assert frames["windowed"] == found.stored


@pytest.mark.parametrize("journal_only", [True, False])
def test_told_to_end_while_the_disk_is_full_it_ends_and_loses_nothing(
    journal_only: bool, broker: Mosquitto, ingest: IngestProcess
) -> None:
    ingest.start()
    with Publisher(broker.port, readings(), 500.0) as publisher:
        verifier.until_taken(ingest.folder, 300)
        journal = next((ingest.folder / "journal").glob("*.qfj"))
        ingest.limit_file_size(journal.stat().st_size + 1_000 if journal_only else 20_000)
        wait_until(lambda: ingest.said("nothing is acknowledged until there is space") == 1, "it says so")
        assert ingest.terminate(timeout_s=10) in {1, 3}, ingest.words()
        assert ingest.said("Traceback") == 0
        ingest.start()
        found = settled(ingest, publisher)
    assert found.good, found
    assert found.acked == found.stored


def test_killed_while_the_disk_is_full_it_loses_nothing(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(), 500.0) as publisher:
        verifier.until_taken(ingest.folder, 300)
        journal = next((ingest.folder / "journal").glob("*.qfj"))
        ingest.limit_file_size(journal.stat().st_size + 1_000)
        wait_until(lambda: ingest.said("nothing is acknowledged until there is space") == 1, "it says so")
        ingest.kill()
        ingest.start()
        found = settled(ingest, publisher)
    assert found.good, found
    assert found.acked == found.stored


def test_rows_and_records_reach_the_servers_through_the_outbox(
    broker: Mosquitto, influx: Influx, postgres: Postgres, tmp_path: Path
) -> None:
    windows_url, records_url = influx.create("worker"), postgres.create("worker")
    settings = {"windows_url": windows_url, "records_url": records_url}
    with IngestProcess(tmp_path / "data", broker.port, **settings) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 500.0) as publisher:
            time.sleep(1.0)
            influx.stop(kill=True)
            time.sleep(1.0)
            ingest.kill()
            ingest.start()
            time.sleep(0.5)
            influx.start()
            publisher.stop()

        records = open_records(records_url)
        windows = open_windows(windows_url, read_only=True)
        try:

            def taken() -> int:
                rows = records.ledger()
                return sum(row.frames * {"received": 1, "duplicate": -1}.get(row.account, 0) for row in rows)

            wait_until(lambda: taken() >= len(publisher.acked), "the records hold every message", 60)
            assert ingest.terminate() == 0, ingest.words()
            series = windows.find(site=SITE, metrics=["odometer_m"])
            rows = windows.read(10, 0, time.time_ns() + 10**12, series)
            devices = records.devices(limit=100)
        finally:
            windows.close()
            records.close()
    expected: dict[str, int] = {}
    for device, _, _ in publisher.acked:
        expected[device] = expected.get(device, 0) + 1
    stored: dict[str, int] = {}
    for at, count in zip(rows.series.tolist(), rows.count.tolist(), strict=True):
        stored[series[at].device] = stored.get(series[at].device, 0) + count
    assert stored == expected
    assert sum(rows.sum.tolist()) == sum(seq for _, _, seq in publisher.acked) * verifier.RESOLUTION
    assert {device.device for device in devices} == set(expected)


BAD_INPUT = [
    pytest.param("vehicle/B-01", {"v": 1, "m": {"speed_mps": "abc"}}, "wrong_type", "/m/speed_mps", id="text"),
    pytest.param("vehicle/B-02", b"\x93\x01", "undecodable", "", id="undecodable"),
    pytest.param("boat/B-03", {"v": 1, "m": {"speed_mps": 1}}, "unknown_topic", "", id="unknown topic"),
    pytest.param("vehicle/B-04", b'{"v":1,"m":{"speed_mps":NaN}}', "not_finite", "/m/speed_mps", id="NaN"),
    pytest.param("vehicle/B-05", b'{"v":1,"m":{"speed_mps":Infinity}}', "not_finite", "/m/speed_mps", id="Infinity"),
    pytest.param("vehicle/B-06", {"v": 1, "m": {"speed_mps": 999}}, "out_of_range", "/m/speed_mps", id="range"),
    pytest.param("vehicle/B-08", {"v": 1, "ts": 2**62, "m": {"speed_mps": 1}}, "clock_future", "/ts", id="far ahead"),
    pytest.param(
        "vehicle/B-09", {"v": 1, "device": "B-99", "m": {"speed_mps": 1}}, "identity_mismatch", "/device", id="identity"
    ),
    pytest.param(
        "vehicle/B-10", {"v": 1, "m": {"hoist_height_m": 1}}, "unknown_metric", "/m/hoist_height_m", id="name"
    ),
    pytest.param("vehicle/B-11", {"v": 9, "m": {"speed_mps": 1}}, "unsupported_version", "/v", id="version"),
    pytest.param("vehicle/B-12", {"v": 1}, "missing_field", "/m", id="no values"),
    pytest.param("vehicle/B-13", {"v": 1, "m": {"speed_mps": 1}, "x": 1}, "unknown_field", "/x", id="unknown field"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str, str, bytes]]]:
    """Topic → reason, pointer, detail and payload kept, of all bad input among good, in one life of a worker."""
    folder = tmp_path_factory.mktemp("refused")
    with running_mosquitto() as broker, IngestProcess(folder / "data", broker.port) as ingest:
        ingest.start()
        pid = ingest.pid
        for case in BAD_INPUT:
            where, payload = case.values[0], case.values[1]
            raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            publish_one(broker, f"port/{SITE}/{where}/telemetry", raw)
        with Publisher(broker.port, readings(count=100), None) as publisher:
            publisher.finish()
        verifier.until_taken(ingest.folder, 100 + len(BAD_INPUT))
        assert ingest.pid == pid
        assert ingest.terminate() == 0
        found = verifier.verify(ingest.folder, publisher.acked)
        assert found.good, found
        assert found.quarantined == len(BAD_INPUT)
        with closing(sqlite3.connect(ingest.folder / "quayflow.db")) as connection:
            rows = connection.execute("SELECT topic, reason, pointer, detail, payload FROM quarantine").fetchall()
        yield {topic: rest for topic, *rest in rows}


@pytest.mark.parametrize(("where", "payload", "reason", "pointer"), BAD_INPUT)
def test_bad_input_ends_in_quarantine_with_the_field_named(
    where: str, payload: object, reason: str, pointer: str, refused: dict[str, tuple[str, str, str, bytes]]
) -> None:
    said_reason, said_pointer, detail, kept = refused[f"port/{SITE}/{where}/telemetry"]
    assert (said_reason, said_pointer) == (reason, pointer)
    assert detail
    assert kept == (payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def test_a_message_without_sequence_and_time_counts_every_time(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    for _ in range(3):
        publish_one(broker, telemetry_topic(truck(1)), b'{"v":1,"m":{"odometer_m":5}}')
    verifier.until_taken(ingest.folder, 3)
    ingest.terminate()
    assert verifier.windows(ingest.folder) == {truck(1): (3, 150)}


def test_the_ledger_on_the_command_line_agrees(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(devices=3, count=30), None) as publisher:
        publisher.finish()
        found = settled(ingest, publisher)
    command = [sys.executable, "-m", "quayflow", "ledger", "--json", "--data", str(ingest.folder)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert said["balanced"]
    assert said["total"]["frames"]["received"] == found.received == 30
    assert [device["uid"] for device in said["items"]] == [f"{SITE}/vehicle/{truck(n)}" for n in range(3)]


def test_the_ledger_on_the_command_line_names_the_reasons_of_quarantine(
    broker: Mosquitto, ingest: IngestProcess
) -> None:
    ingest.start()
    publish_one(broker, telemetry_topic(truck(1)), b'{"v":1,"m":{"odometer_m":"far"}}')
    publish_one(broker, telemetry_topic(truck(1)), b'{"v":1,"m":{"odometer_m":5}}')
    verifier.until_taken(ingest.folder, 2)
    ingest.terminate()
    command = [sys.executable, "-m", "quayflow", "ledger", "--data", str(ingest.folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "quarantined: wrong_type 1" in said
    assert said.endswith("balanced\n")


def test_the_journal_alone_holds_what_the_store_holds(broker: Mosquitto, ingest: IngestProcess) -> None:
    ingest.start()
    with Publisher(broker.port, readings(count=1_000), None) as publisher:
        publisher.finish()
        settled(ingest, publisher)
    before = verifier.windows(ingest.folder)
    for file in ingest.folder.glob("quayflow.db*"):
        file.unlink()
    broker.stop()
    ingest.start(connected=False)
    verifier.until_taken(ingest.folder, 1_000)
    ingest.terminate()
    assert verifier.windows(ingest.folder) == before
    assert len(list(read(ingest.folder / "journal"))) == 1_000

"""One store whatever the way: one worker or three of which one is killed, live, replayed or recorded and replayed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.influx import Influx
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import wait_until
from engines.postgres import Postgres
from faults.ingest_process import IngestProcess
from store.journal import read
from store.open import open_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FILTERS = ("port/+/quay-crane/#", "port/+/rfid-gate/#", "port/+/yard-crane/#,port/+/vehicle/#,port/+/park-sensor/#")
QUIET_S = 14.0
"""After the last message is stored: idle time-out, lateness, and the silence that ends a passage or a held state."""


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True, max_inflight_messages=0) as running:
        yield running


def command(*words: str, **settings: object) -> bytes:
    """What a command of the product prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
    environment |= {f"QUAYFLOW_{name.upper()}": str(value) for name, value in settings.items()}
    done = subprocess.run([sys.executable, "-m", "quayflow", *words], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def running(*words: str) -> "subprocess.Popen[bytes]":
    """A command of the product in a process of its own, which ends with the test at the latest."""
    return subprocess.Popen(
        [sys.executable, "-m", "quayflow", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def settled(records_url: str, workers: int, frames: int = 0) -> bool:
    """Whether workers have taken ``frames`` in all and none waits to run again, as of their last commits."""
    records = open_records(records_url)
    try:
        statuses = list(records.workers().values())
    finally:
        records.close()
    return (
        len(statuses) == workers
        and not any(each["waiting_to_run_again"] for each in statuses)
        and sum(int(str(each["frames"])) for each in statuses) >= frames
    )


def hash_of(**settings: object) -> dict[str, object]:
    data = str(settings["data"])
    found: dict[str, object] = json.loads(command("verify", "--data", data, "--json", **settings))
    return found


def test_one_worker_three_with_one_killed_and_a_replay_end_with_the_same_store(
    broker: Mosquitto, influx: Influx, postgres: Postgres, tmp_path: Path
) -> None:
    servers = {"windows_url": influx.create("same_store"), "records_url": postgres.create("same_store")}
    address = f"127.0.0.1:{broker.port}"
    one = IngestProcess(tmp_path / "one", broker.port, idle_s=1, state_hold_s=5)
    three = [
        IngestProcess(
            tmp_path / f"of-three-{nth}",
            broker.port,
            idle_s=1,
            state_hold_s=5,
            worker=f"w{nth}",
            topic_filters=filters,
            **servers,
        )
        for nth, filters in enumerate(FILTERS)
    ]
    again = IngestProcess(tmp_path / "again", broker.port, idle_s=1, state_hold_s=5)
    with one, three[0], three[1], three[2], again:
        for each in (one, *three):
            each.start()
        simulating = subprocess.Popen(
            [sys.executable, "-m", "quayflow", "simulate", "--broker", address, "--speed", "20", "--for", "8s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(5)
        three[0].kill()
        time.sleep(1)
        three[0].start()
        assert simulating.wait(60) == 0
        wait_until(lambda: settled(f"sqlite:///{one.folder}/quayflow.db", 1), "the one worker has caught up", 30)
        recording = tmp_path / "recording.msgpack"
        recording.write_bytes(command("journal", "cat", "--format", "msgpack", "--data", str(one.folder)))
        assert one.terminate() == 0, one.words()

        # A life of its own, while the three are sent everything a second time.
        again.start()
        replay = ("replay", str(recording), "--broker", address, "--speed", "max", "--shift", "none")
        report = json.loads(command(*replay, "--threshold", "lost==0", "--json"))
        assert report["sent"] > 10_000
        # The one worker rests as well: nothing comes to it that it does not know, but time has to pass.
        one.start()
        sent = int(report["sent"])
        stores = {
            "the replay is stored and has been caught up with": (f"sqlite:///{again.folder}/quayflow.db", 1, sent),
            "the one worker rests": (f"sqlite:///{one.folder}/quayflow.db", 1, sent),
            "the three have caught up": (servers["records_url"], 3, sent),
        }
        # Only once everything is stored does the silence begin; a busy machine may be long about it.
        for what, (url, workers, frames) in stores.items():
            wait_until(lambda: settled(url, workers, frames), what, 60)  # noqa: B023 - asked at once
        time.sleep(QUIET_S)
        # What came too late for it runs again after the silence.
        for what, (url, workers, frames) in stores.items():
            wait_until(lambda: settled(url, workers, frames), what, 60)  # noqa: B023 - as above

        def hashes() -> set[str]:
            found = (hash_of(data=one.folder), hash_of(data=again.folder), hash_of(data=tmp_path, **servers))
            return {json.dumps(each, sort_keys=True) for each in found}

        wait_until(lambda: len(hashes()) == 1, "the stores are equal", 60)
        for each in (one, *three, again):
            assert each.terminate() == 0, each.words()

    found = hash_of(data=one.folder)
    assert int(str(found["rows"])) > 10_000
    assert int(str(found["events"])) > 5
    assert hash_of(data=again.folder) == found
    assert hash_of(data=tmp_path, **servers) == found


def test_a_port_that_is_recorded_beside_ingest_and_replayed_elsewhere_gives_the_same_store(tmp_path: Path) -> None:
    recording, sqlite = tmp_path / "recording", "sqlite:///{}/quayflow.db"
    with (
        running_mosquitto(max_inflight_messages=0, log_type="subscribe") as first,
        running_mosquitto(max_inflight_messages=0) as second,
        IngestProcess(tmp_path / "live", first.port, idle_s=1, state_hold_s=5) as live,
        IngestProcess(tmp_path / "again", second.port, idle_s=1, state_hold_s=5) as again,
        running("record", "--out", str(recording), "--broker", f"127.0.0.1:{first.port}", "--json") as recorder,
    ):
        try:
            live.start()
            again.start()
            wait_until(lambda: b"quayflow-record-" in first.log.read_bytes(), "the recorder has subscribed")
            simulated = json.loads(
                command("simulate", "--broker", f"127.0.0.1:{first.port}", "--speed", "30", "--for", "5s", "--json")
            )
            wait_until(lambda: sum(1 for _ in read(recording)) >= simulated["acked"], "all is recorded")
        finally:
            recorder.send_signal(signal.SIGINT)
        recorded = json.loads(recorder.communicate(timeout=30)[0])
        assert recorded["messages"] == simulated["acked"] == simulated["sent"] > 5_000

        broker = ("--broker", f"127.0.0.1:{second.port}")
        replayed = json.loads(command("replay", str(recording), *broker, "--speed", "max", "--shift", "none", "--json"))
        assert (replayed["sent"], replayed["lost"]) == (recorded["messages"], 0)
        for each in (live, again):
            url = sqlite.format(each.folder)
            wait_until(lambda: settled(url, 1, recorded["messages"]), f"{each.folder.name} has taken all", 60)  # noqa: B023 - asked at once
        # The last passage and the last states end by silence.
        time.sleep(QUIET_S)
        wait_until(lambda: hash_of(data=live.folder) == hash_of(data=again.folder), "the two stores are equal", 30)
        for each in (live, again):
            assert each.terminate() == 0, each.words()

    found = hash_of(data=live.folder)
    assert int(str(found["rows"])) > 5_000
    assert int(str(found["events"])) > 5
    assert hash_of(data=again.folder) == found

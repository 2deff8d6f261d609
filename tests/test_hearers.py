"""One worker for each device: several that hear the same one are found out, and no figure of its losses is told."""

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
from made_port import NOW, MadePort, client_of
from made_records import commit, device
from made_rows import BEGIN, SITE
from sqlalchemy import create_engine, select

from devices.times import NS
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import wait_until
from engines.postgres import Postgres
from faults.ingest_process import IngestProcess
from store.accounts import accounts_of, is_balanced
from store.device_health import gaps_and_refusals
from store.hearers import OVERLAP_NS
from store.interface import DeviceRecord, LedgerRow, Overlap
from store.open import open_records
from store.records import SqlRecords
from store.tables import HEARD_ALONE, HEARD_BY

NUMBER = itertools.count(1)
GROUP = "$share/ingest/port/#"
TELLS = "HEAR THE SAME DEVICES"
UID = f"{SITE}/quay-crane/QC01"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/quayflow.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.create(f"hearers_{next(NUMBER)}")


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    opened = open_records(url, read_only=False)
    for worker in ("w1", "w2"):
        opened.write(commit(worker=worker, status={"worker": worker}))
    yield opened
    opened.close()


def heard(first_s: float, last_s: float, name: str = "QC01", frames: int = 1) -> DeviceRecord:
    """A device as a worker has heard it between two times, s."""
    first, last = BEGIN + int(first_s * NS), BEGIN + int(last_s * NS)
    return msgspec.structs.replace(device(name), first_seen_ns=first, last_seen_ns=last, frames=frames)


def told(*worker_frames: tuple[str, int], lost: int = 7) -> dict[str, list[LedgerRow]]:
    """What workers book of a device."""
    return {
        worker: [
            LedgerRow(uid=UID, account="received", reason="", frames=frames, samples=frames),
            LedgerRow(uid=UID, account="windowed", reason="", frames=frames, samples=frames),
            LedgerRow(uid=UID, account="lost_before_journal", reason="", frames=lost, samples=0),
        ]
        for worker, frames in worker_frames
    }


def test_a_device_that_two_workers_hear_at_a_time_is_flagged_with_all_of_its_frames(records: SqlRecords) -> None:
    rows = told(("w1", 30), ("w2", 20))
    for worker in ("w1", "w2"):
        records.write(commit(worker=worker, devices=[heard(0, 60), heard(0, 60, worker)], ledger=rows[worker]))
    assert records.overlaps() == [Overlap(UID, "w1", "w2", BEGIN + 60 * NS)]
    flags = [row for row in records.ledger() if row.account == "flagged"]
    assert flags == [LedgerRow(uid=UID, account="flagged", reason="several_workers", frames=50, samples=0)]
    assert records.ledger(uids=[UID]) == records.ledger()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param((0, 60), (60, 120), 0, id="handed over"),
        pytest.param((0, 60), (60 - OVERLAP_NS / NS, 120), 0, id="clocks of machines that differ"),
        pytest.param((0, 60), (50, 120), 1, id="both for ten seconds"),
        pytest.param((0, 60), (20, 40), 1, id="away and back"),
    ],
)
def test_a_device_that_is_handed_over_is_not_flagged(
    records: SqlRecords, one: tuple[float, float], other: tuple[float, float], expected: int
) -> None:
    for _ in range(2):
        # The order of commits does not matter, nor whether one is delivered again.
        records.write(commit(worker="w2", devices=[heard(*other)]))
        records.write(commit(worker="w1", devices=[heard(*one)]))
    assert len(records.overlaps()) == expected


class Alone:
    """A device that w1 and w2 have heard for a minute, and then w1 alone, a message a second."""

    def __init__(self, records: SqlRecords) -> None:
        self._records = records
        self.minutes(0, 1)
        self.minutes(0, 1, worker="w2")

    def minutes(self, first: int, last: int, worker: str = "w1", lost: int = 7, each_s: int = 1) -> None:
        """Let a worker hear it, and commit every minute."""
        for second in range(60 * first + 60, 60 * last + 1, 60):
            frames = second // each_s
            rows = told((worker, frames), lost=lost)[worker]
            self._records.write(commit(worker=worker, devices=[heard(0, second, frames=frames)], ledger=rows))

    def accounts(self) -> tuple[int | None, dict[str, int]]:
        """What the ledger tells as lost, and its flags; the ledger must balance."""
        rows = self._records.ledger(uids=[UID])
        assert is_balanced(rows)
        found = accounts_of(rows)
        assert found["frames"]["lost_before_journal"] == gaps_and_refusals(rows)[0]
        return found["frames"]["lost_before_journal"], found["flags"]


def test_a_device_is_cleared_when_one_worker_has_heard_it_alone_for_ten_minutes(records: SqlRecords) -> None:
    device = Alone(records)
    # The first minute of its own only begins the time.
    device.minutes(1, 11)
    assert device.accounts() == (None, {"several_workers": 660 + 60})
    device.minutes(11, 12)
    assert records.overlaps() == []
    assert device.accounts() == (0, {"several_workers_before": 720 + 60})
    # What is lost from then on is told exactly, and what may count twice remains what it was.
    device.minutes(12, 15, lost=10)
    for _ in range(2):
        assert device.accounts() == (3, {"several_workers_before": 720 + 60})
        # A commit that is delivered again changes nothing.
        device.minutes(14, 15, lost=10)


def test_a_device_that_another_worker_hears_again_is_flagged_again_and_cleared_again(records: SqlRecords) -> None:
    device = Alone(records)
    device.minutes(1, 6)
    device.minutes(6, 7, worker="w2")
    device.minutes(7, 17)
    assert device.accounts()[0] is None
    device.minutes(17, 18)
    assert device.accounts() == (0, {"several_workers_before": 18 * 60 + 7 * 60})
    device.minutes(19, 20, worker="w2", lost=20)
    device.minutes(18, 20, lost=30)
    assert device.accounts() == (None, {"several_workers": 40 * 60})
    device.minutes(20, 31, lost=30)
    assert device.accounts() == (0, {"several_workers_before": 51 * 60})


def test_a_device_that_seldom_speaks_is_not_cleared_by_time_alone(records: SqlRecords) -> None:
    device = Alone(records)
    device.minutes(1, 30, each_s=60)
    assert device.accounts()[0] is None


def test_records_of_before_devices_were_cleared_are_read(records: SqlRecords, url: str) -> None:
    records.write(commit(ledger=told(("w1", 5))["w1"]))
    engine = create_engine(url)
    HEARD_ALONE.drop(engine)
    engine.dispose()
    reading = open_records(url)
    assert reading.overlaps() == []
    assert len(reading.ledger()) == 3
    reading.close()


def test_a_worker_alone_notes_nothing(url: str) -> None:
    writer = open_records(url, read_only=False)
    for second in range(3):
        writer.write(commit(worker="w1", devices=[heard(0, second * 60)], status={"worker": "w1"}))
    writer.close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert not list(connection.execute(select(HEARD_BY)))
    engine.dispose()


def test_the_api_tells_no_loss_that_nobody_knows_and_is_not_ready(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    writer = open_records(port.records_url, read_only=False)
    recent = msgspec.structs.replace(device(), first_seen_ns=NOW - 60 * NS, last_seen_ns=NOW)
    rows = told(("w1", 30), ("w2", 20))
    for _ in range(2):
        for worker in ("w1", "w2"):
            writer.write(commit(worker=worker, devices=[recent], ledger=rows[worker], status={"worker": worker}))
    writer.close()
    with client_of(port) as client:
        ledger = client.json("/v1/ledger")
        assert ledger["balanced"]
        for accounts in (ledger["total"], *ledger["items"]):
            assert accounts["frames"]["lost_before_journal"] is None
            assert accounts["flags"] == {"several_workers": 50}
        listed = client.json("/v1/devices")["items"][0]
        health = client.json(listed["health"])
        assert listed["lost_before_journal"] is health["lost_before_journal"] is None
        assert "heard by several workers" in health["verdict"]
        check = client.get("/readyz").json()["checks"]["ledger"]
        assert check == {"ok": False, "detail": f"w1 and w2 both hear 1 devices, such as {UID}"}
        metrics = client.get("/metrics").text
        assert "quayflow_ledger_several_workers 1.0" in metrics
        assert 'account="lost_before_journal"' not in metrics
        assert 'quayflow_ledger_frames_total{account="flagged",reason="several_workers"} 50.0' in metrics


# --- real workers at a real broker ----------------------------------------------------------------------------------


async def publish(broker: Mosquitto, sites: Sequence[str], seqs: Sequence[int], seconds: float) -> None:
    """Let a vehicle of each site send its numbers, spread over some seconds."""
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for seq in seqs:
            for site in sites:
                payload = {"v": 1, "boot": 5, "seq": seq, "m": {"speed_mps": 1.5}}
                await client.publish(f"port/{site}/vehicle/T1/telemetry", json.dumps(payload), qos=1)
            await asyncio.sleep(seconds / len(seqs))


def received(process: IngestProcess) -> int:
    found: int = process.ask("ledger")["total"]["frames"]["received"]
    return found


def by_device(ledger: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["uid"].split("/")[0]: each for each in ledger["items"] if each["uid"]}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_at_mosquitto_three_workers_tell_every_loss_with_filters_of_their_own_and_none_where_two_have_the_same(
    postgres: Postgres, tmp_path: Path
) -> None:
    filters = ("port/CNNGB-A/#", "port/CNNGB-B/#,port/CNNGB-C/#", "port/CNNGB-C/#")
    records = postgres.create("hearers_disjoint")
    with running_mosquitto(max_inflight_messages=0) as broker:
        workers = [
            IngestProcess(tmp_path / f"w{nth}", broker.port, worker=f"w{nth}", topic_filters=its, records_url=records)
            for nth, its in enumerate(filters)
        ]
        with workers[0], workers[1], workers[2]:
            for each in workers:
                each.start()
            seqs = [*range(40), *range(43, 80)]
            asyncio.run(publish(broker, ("CNNGB-A", "CNNGB-B", "CNNGB-C"), seqs, 9))
            wait_until(lambda: received(workers[0]) == 4 * len(seqs), "all is stored", 30)
            devices = by_device(workers[0].ask("ledger"))
            assert [devices[site]["frames"]["lost_before_journal"] for site in ("CNNGB-A", "CNNGB-B")] == [3, 3]
            assert [devices[site]["flags"] for site in ("CNNGB-A", "CNNGB-B")] == [{}, {}]
            both = devices["CNNGB-C"]
            assert both["frames"]["lost_before_journal"] is None
            assert both["flags"] == {"several_workers": 2 * len(seqs)}
            assert [each.said(TELLS) for each in workers] != [0, 0, 0]
            for each in workers:
                assert each.terminate() == 0, each.words()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_at_mosquitto_a_group_whose_dealing_no_canary_could_tell_is_found_out_by_what_comes(
    postgres: Postgres, tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite port/#\n")
    rules.chmod(0o600)
    records = postgres.create("hearers_dealt")
    with running_mosquitto(max_inflight_messages=0, acl_file=rules) as broker:
        workers = [
            IngestProcess(tmp_path / f"w{nth}", broker.port, worker=f"w{nth}", topic_filters=GROUP, records_url=records)
            for nth in range(2)
        ]
        with workers[0], workers[1]:
            for each in workers:
                each.start()
                assert each.said("cannot be told whether the broker serves shared subscriptions")
            asyncio.run(publish(broker, ("CNNGB-A",), range(90), 9))
            wait_until(lambda: received(workers[0]) == 90, "all is stored", 30)
            dealt = by_device(workers[0].ask("ledger"))["CNNGB-A"]
            # Each has heard every other message, and took the rest for lost: nothing was.
            assert dealt["frames"]["lost_before_journal"] is None
            assert dealt["flags"] == {"several_workers": 90}
            assert sum(each.said(TELLS) for each in workers) >= 1
            for each in workers:
                assert each.terminate() == 0, each.words()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_at_mosquitto_no_worker_joins_a_group(tmp_path: Path) -> None:
    with running_mosquitto(max_inflight_messages=0) as broker:
        workers = [
            IngestProcess(tmp_path / f"w{nth}", broker.port, worker=f"w{nth}", topic_filters=GROUP) for nth in range(2)
        ]
        with workers[0], workers[1]:
            for each in workers:
                each.start(connected=False)
            for each in workers:
                wait_until(lambda: each.said("Nothing is subscribed to") > 0, "it refuses", 30)  # noqa: B023 - at once
            asyncio.run(publish(broker, ("CNNGB-A",), range(10), 0.1))
            for each in workers:
                assert each.terminate() == 0, each.words()
                assert received(each) == 0

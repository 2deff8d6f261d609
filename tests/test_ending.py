"""How a worker ends: soon, whatever has failed and whoever does not listen."""

import asyncio
import contextlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from made_frames import topic
from made_sessions import config_of

from faults.scripted_broker import Wire, publish, scripted_broker
from faults.simulation.world import Silent
from ingest import committing
from ingest.edges import Edges
from ingest.results import Results
from ingest.worker import IngestConfig, Worker
from simulators.ending import AGAIN_S, end
from store import sqlite_files
from store.interface import StoreUnreachableError
from store.journal import JournalError, JournalWriter

TELEMETRY = topic("vehicle", "T-001")
PAYLOAD = b'{"v":1,"m":{"speed_mps":1.5}}'
SOON_S = 5.0


class Deaf(Results):
    """Never learns that it is cancelled, as when asyncio.wait_for loses it, but listens to what it is told."""

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until it is over."""
        began = time.monotonic()
        while not stop.is_set() and time.monotonic() < began + 2 * SOON_S:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)


async def one_message(wire: Wire) -> None:
    await wire.accept()
    wire.send(publish(TELEMETRY, PAYLOAD, 1))


def worker_in(folder: Path, port: int, results: type[Results]) -> Worker:
    store = f"sqlite:///{folder / 'quayflow.db'}"
    config = IngestConfig(folder, store, store, config_of(port), commit_interval_s=0.1)
    return Worker(config, "test", edges=Edges(results=results))


def test_a_worker_that_fails_ends_though_a_part_overlooks_its_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise JournalError("the disk is gone")

    async def scenario() -> None:
        async with scripted_broker(one_message) as broker:
            await worker_in(tmp_path, broker.port, Deaf).run(asyncio.Event())

    monkeypatch.setattr(JournalWriter, "append", fail)
    began = time.monotonic()
    with pytest.raises(JournalError, match="the disk is gone"):
        asyncio.run(scenario())
    assert time.monotonic() - began < SOON_S


def test_last_commits_wait_for_a_lock_no_longer_than_one_try_and_the_last_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_files, "BUSY_S", 1.5)

    async def scenario() -> float:
        async with scripted_broker(one_message) as broker:
            worker, stop = worker_in(tmp_path, broker.port, Silent), asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            while not worker.received:  # noqa: ASYNC110 - from outside
                await asyncio.sleep(0.01)
            with closing(sqlite3.connect(tmp_path / "quayflow.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                stop.set()
                began = time.monotonic()
                with pytest.raises(StoreUnreachableError, match="locked"):
                    await running
                return time.monotonic() - began

    took = asyncio.run(scenario())
    # A commit under way when told, and one more: not five.
    assert took < 2 * sqlite_files.BUSY_S + committing.LAST_S + 1.5


def test_a_simulators_tasks_end_though_one_overlooks_that_it_is_cancelled() -> None:
    async def deaf(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def failing() -> None:
        raise ConnectionError

    async def scenario() -> list[bool]:
        tasks = [asyncio.create_task(each) for each in (deaf(0), deaf(2), failing())]
        await asyncio.sleep(0)
        await end(tasks)
        return [task.cancelled() for task in tasks]

    began = time.monotonic()
    assert asyncio.run(scenario()) == [True, True, False]
    assert time.monotonic() - began < 2 * AGAIN_S + SOON_S

"""A server's clock that is set: what was right stays right, and nothing is deleted for it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import T0, frame, pipeline_of, topic, values
from made_journal import append
from made_sessions import config_of

from devices.times import NS
from faults.scripted_broker import Wire, publish, scripted_broker
from faults.simulation.world import Silent
from ingest.edges import Edges
from ingest.ledger import Account
from ingest.server_clock import SETTLED_AFTER, STEP, ServerClock
from ingest.worker import IngestConfig, Worker
from store.journal import JournalConfig, JournalWriter, list_segments

YEAR = 365 * 86_400 * NS


class Machine:
    """A machine whose clock is set by hand."""

    def __init__(self) -> None:
        self.elapsed = 5 * NS
        self.ahead = T0
        self.clock = ServerClock(lambda: self.elapsed + self.ahead, lambda: self.elapsed)

    def wait(self, ns: int) -> None:
        self.elapsed += ns

    def set(self, by: int) -> None:
        self.ahead += by


@pytest.mark.parametrize("by", [YEAR, -YEAR, 10 * 60 * NS, -6 * 60 * NS, STEP + 1, -STEP - 1])
def test_a_step_is_believed_once_it_has_stood(by: int, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.wait(NS)
    machine.set(by)
    for _ in range(10):
        assert machine.clock.steady() == T0 + machine.elapsed
        # The later of both: nobody's right time is in the future, whether the clock was right before or is now.
        assert machine.clock.received() == T0 + machine.elapsed + max(by, 0)
        assert machine.clock.doubted()
        machine.wait(SETTLED_AFTER // 10)
    assert machine.clock.steady() == machine.clock.received() == T0 + machine.elapsed + by
    assert not machine.clock.doubted()
    assert machine.clock.steps == 1
    assert [each.levelno for each in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_step_that_is_taken_back_was_none() -> None:
    machine = Machine()
    machine.set(YEAR)
    assert machine.clock.doubted()
    machine.wait(600 * NS)
    machine.set(-YEAR)
    assert not machine.clock.doubted()
    assert machine.clock.steady() == machine.clock.received() == T0 + machine.elapsed
    assert machine.clock.steps == 1


def test_another_step_has_to_stand_for_an_hour_of_its_own() -> None:
    machine = Machine()
    machine.set(YEAR)
    assert machine.clock.doubted()
    machine.wait(SETTLED_AFTER - NS)
    machine.set(YEAR)
    assert machine.clock.steady() == T0 + machine.elapsed
    machine.wait(SETTLED_AFTER - NS)
    assert machine.clock.doubted()
    machine.wait(NS)
    assert machine.clock.steady() == T0 + machine.elapsed + 2 * YEAR
    assert machine.clock.steps == 2


@given(st.lists(st.tuples(st.integers(0, 3_600 * NS), st.integers(-STEP, STEP)), max_size=20))
def test_a_clock_that_the_network_keeps_is_believed_at_once(moves: list[tuple[int, int]]) -> None:
    machine = Machine()
    for wait, by in moves:
        machine.wait(wait)
        machine.set(by)
        assert machine.clock.steady() == machine.clock.received() == machine.elapsed + machine.ahead
        assert not machine.clock.doubted()
    assert machine.clock.steps == 0


def test_the_system_s_own_clocks_agree() -> None:
    clock = ServerClock()
    assert abs(clock.steady() - clock.received()) < NS
    assert (clock.doubted(), clock.steps) == (False, 0)


def test_a_clock_set_a_year_ahead_deletes_no_segment_for_its_age(tmp_path: Path) -> None:
    machine = Machine()
    config = JournalConfig(tmp_path, segment_bytes=64, keep_s=7 * 86_400)
    writer = JournalWriter(config, machine.clock.received)
    for nth in range(5):
        machine.wait(NS)
        append(writer, [("a", b"x" * 100, 1)], machine.clock.received())
        if nth == 2:
            machine.set(YEAR)
    assert len(list_segments(tmp_path)) == 5
    machine.wait(SETTLED_AFTER // 2)
    assert writer.expendable(writer.end, machine.clock.steady()) == []
    # Set right again, everything is as if nothing had been.
    machine.set(-YEAR)
    machine.wait(7 * 86_400 * NS - SETTLED_AFTER)
    assert writer.expendable(writer.end, machine.clock.steady()) == []
    machine.wait(SETTLED_AFTER)
    gone = writer.expendable(writer.end, machine.clock.steady())
    # Those sealed before the step; what was stamped a year ahead stays until then, or until its room is needed.
    assert len(gone) == 2
    writer.close()


@pytest.mark.parametrize("by", [-YEAR, -6 * 60 * NS, 6 * 60 * NS, YEAR])
def test_a_clock_that_is_set_makes_no_good_device_s_time_the_future(by: int) -> None:
    machine, pipeline = Machine(), pipeline_of()
    for seq in range(10):
        machine.wait(360 * NS)
        if seq == 5:
            machine.set(by)
        truth = T0 + machine.elapsed
        body = values(seq, truth, load_t=1)
        pipeline.process([frame(topic("quay-crane", "QC01"), body, recv_ts=machine.clock.received(), offset=seq)])
        pipeline.tick(machine.clock.steady())
        # A step ahead does not carry marks away over what is still to come.
        assert pipeline.watermarks.mark.max() <= truth
    assert pipeline.take_quarantine() == []
    assert pipeline.ledger.total(Account.WINDOWED) == 10


def test_a_worker_whose_clock_is_set_back_goes_on_and_raises_the_alarm(tmp_path: Path) -> None:
    where, ahead = topic("vehicle", "T-001"), [0]

    async def script(wire: Wire) -> None:
        await wire.accept()
        for number in range(1, 11):
            if number == 6:
                await asyncio.sleep(0.3)
                ahead[0] = -600 * NS
            body = values(number, time.time_ns(), speed_mps=1.5)
            wire.send(publish(where, msgspec.json.encode(body), number))
        await asyncio.sleep(3_600)

    async def run() -> dict[str, Any]:
        async with scripted_broker(script) as broker:
            store = f"sqlite:///{tmp_path / 'quayflow.db'}"
            config = IngestConfig(tmp_path, store, store, config_of(broker.port))
            edges = Edges(results=Silent)
            worker = Worker(config, "test", lambda: time.time_ns() + ahead[0], edges, time.monotonic_ns)
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(20):
                while not running.done() and worker.received < 10:  # noqa: ASYNC110 - from outside
                    await asyncio.sleep(0.02)
            stop.set()
            await running
            return worker.status()

    said = asyncio.run(run())
    assert (said["frames"], said["quarantined"]) == (10, 0)
    assert (said["clock_stepped"], said["clock_steps"]) == (True, 1)

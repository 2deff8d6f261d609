"""Memory: what ingest needed for a moment does not stay with it."""

import asyncio
import ctypes
import gc
import multiprocessing
import socket
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made_frames import topic
from made_sessions import config_of

from analytics.scattered import FULL, KEPT, RUN, SPAN_BITS, Waiting
from faults.resident import now_mb
from faults.scripted_broker import Wire, publish, scripted_broker
from faults.simulation.world import Silent
from ingest import worker as of_workers
from ingest.edges import Edges, give_back_memory
from ingest.intake import BUFFER, Bounds, Intake, Marks
from ingest.worker import IngestConfig, Worker

TOPIC = topic("vehicle", "T-001")
PAYLOAD = b'{"v":1,"m":{"speed_mps":1.5}}'
LARGE = 5 * BUFFER


async def received(intake: Intake, broker: socket.socket, payload: bytes) -> int:
    """Let a message arrive in pieces that the socket has room for; return the length of its payload as taken."""
    left = memoryview(publish(TOPIC, payload, 1))
    while True:
        left = left[broker.send(left[: 1 << 16]) :] if left else left
        intake.receive()
        if found := intake.messages(lambda _: None):
            intake.release()
            return len(found[0].payload)
        await asyncio.sleep(0)


def test_the_buffer_of_a_connection_is_as_small_after_a_large_packet_as_before() -> None:
    async def scenario() -> None:
        ours, brokers = socket.socketpair()
        with ours, brokers:
            ours.setblocking(False)
            intake = Intake(ours, Bounds(1_000, LARGE, 2 * LARGE), Marks())
            assert await received(intake, brokers, PAYLOAD) == len(PAYLOAD)
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                assert await received(intake, brokers, bytes(LARGE)) == LARGE
                assert await received(intake, brokers, PAYLOAD) == len(PAYLOAD)
                gc.collect()
                after, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert most > LARGE
        # The buffer was made before anything was traced: all of the new one counts.
        assert after - before < BUFFER + (1 << 16)

    asyncio.run(scenario())


class HeldUp(socket.socket):
    """A socket at which all of this has been waiting."""

    def __init__(self, waiting: bytes) -> None:
        super().__init__()
        self.waiting = memoryview(waiting)

    def recv_into(self, buffer: memoryview, *_: int) -> int:  # type: ignore[override]
        count = min(len(buffer), len(self.waiting))
        if not count:
            raise BlockingIOError
        buffer[:count], self.waiting = self.waiting[:count], self.waiting[count:]
        return count


def test_small_messages_that_were_held_up_are_read_as_they_are_taken_and_wait_at_the_socket() -> None:
    bound = 1_000
    message = publish(TOPIC, PAYLOAD, 1)
    size = len(message)

    async def scenario() -> None:
        with HeldUp(message * 3) as ours:
            intake = Intake(ours, Bounds(bound, LARGE, LARGE), Marks())
            intake.receive()
            assert len(intake.messages(lambda _: None)) == 3
            intake.release()
            # What a broker may send while the disk takes its time, many batches of it.
            ours.waiting = memoryview(message * (LARGE // size))
            taken = 0
            while ours.waiting or taken < LARGE // size:
                intake.receive()
                read = LARGE - LARGE % size - len(ours.waiting)
                assert read - taken * size <= BUFFER
                found = intake.messages(lambda _: None)
                assert 0 < len(found) <= bound
                taken += len(found)
                intake.release()

    asyncio.run(scenario())


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_is_freed_below_something_in_use_is_given_back() -> None:
    waiting, size, count = Waiting(), KEPT // 16, 200
    assert not list(waiting.take())
    blocks = [np.ones(size, np.uint8) for _ in range(count)]
    held = blocks[::20]
    del blocks
    before = now_mb()
    give_back_memory()
    assert before - now_mb() > 0.7 * (count - len(held)) * size / (1 << 20)
    assert all(block.all() for block in held)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_samples_that_come_slowly_take_the_pages_that_they_reach() -> None:
    # Where a process has had large pages already, as one that has run other tests, arrays may come to lie in them.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        grown = apart.submit(grown_by_slow_samples).result()
    room = 6 * FULL * 32 / (1 << 20)
    # Besides, what is gathered before it goes to the buckets.
    assert grown < room / 2 + RUN * 32 / (1 << 20)


def grown_by_slow_samples() -> float:
    """Return how much more is resident, MB, once some samples of six buckets of series wait."""
    count = 6 << SPAN_BITS
    series, nothing = np.random.default_rng(3).permutation(count), np.zeros(count, np.int64)
    Waiting()
    give_back_memory()
    before = now_mb()
    waiting = Waiting()
    for _ in range(2):
        assert not list(waiting.add(series, nothing, nothing, nothing, nothing > 0))
    give_back_memory()
    grown = now_mb() - before
    assert sum(each.shape[1] for each in waiting.take()) == 2 * count
    return grown


@pytest.mark.parametrize("constant", ["GIVE_BACK_S", "BEHIND_COMMIT_S"])
def test_a_worker_gives_memory_back_again_and_again_and_behind_commits(
    constant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIVE_BACK_S", "BEHIND_COMMIT_S"):
        monkeypatch.setattr(of_workers, name, 0.01 if name == constant else 1e9)

    async def script(wire: Wire) -> None:
        await wire.accept()

    async def scenario() -> None:
        stop, times = asyncio.Event(), list[int]()
        loop = asyncio.get_running_loop()

        def noted() -> None:
            times.append(len(times))
            if len(times) == 3:
                loop.call_soon_threadsafe(stop.set)

        async with scripted_broker(script) as broker, asyncio.timeout(20):
            store = f"sqlite:///{tmp_path / 'quayflow.db'}"
            config = IngestConfig(tmp_path, store, store, config_of(broker.port))
            await Worker(config, "test", edges=Edges(results=Silent, give_back=noted)).run(stop)
        assert len(times) >= 3

    asyncio.run(scenario())

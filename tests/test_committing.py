"""When the next commit is made: soon where commits are small, and behind the end of a window where they are large."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from devices.times import NS
from faults.simulation.clock import VirtualLoop
from ingest.committing import SETTLING_NS, WINDOW_NS, Committer
from store.interface import StoreUnreachableError

T0 = 1_795_421_730 * NS
SHARE = 0.1


class Slow:
    """A sink whose commits take as long as they are told, on the loop's own clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 0.0

    def commit(self, commit: Any) -> list[Any]:
        del commit
        self.now += self.takes
        return []


def pause_after(seconds: float, now_ns: int, interval_s: float = 1.0) -> float:
    """Return the pause behind two commits that have taken ``seconds`` each."""
    sink = Slow()
    sink.takes = seconds

    async def twice() -> float:
        asyncio.get_running_loop().time = lambda: sink.now  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as thread:
            committer = Committer(sink, thread)  # type: ignore[arg-type]
            for _ in range(2):
                await committer.commit(None, asyncio.Event())  # type: ignore[arg-type]
            return committer.pause_s(interval_s, SHARE, now_ns)

    return asyncio.run(twice())


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.029])
def test_small_commits_are_an_interval_apart(seconds: float) -> None:
    assert pause_after(seconds, T0 + 3 * NS) == 1.0


def test_commits_of_some_size_take_a_small_share_of_the_time() -> None:
    assert pause_after(0.06, T0) == pytest.approx(0.06 / 0.03 - 0.06)


@pytest.mark.parametrize("seconds", [0.13, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("at_s", [0.0, 0.4, 0.6, 3.3, 9.9])
def test_large_commits_begin_behind_the_end_of_a_window_and_are_put_off_by_no_more_than_one(
    seconds: float, at_s: float
) -> None:
    now = T0 + round(at_s * NS)
    pause, least = pause_after(seconds, now), max(1.0, seconds * (1 - SHARE) / SHARE)
    assert (now + round(pause * NS)) % WINDOW_NS == pytest.approx(SETTLING_NS, abs=1_000)
    assert least - 1e-6 <= pause <= least + WINDOW_NS / NS


def test_large_commits_follow_each_other_window_by_window() -> None:
    # One that has begun as it should and has taken half a second is followed by one a window after it.
    assert pause_after(0.5, T0 + SETTLING_NS + NS // 2) + 0.5 == pytest.approx(WINDOW_NS / NS)


@pytest.mark.parametrize("away_s", [1.0, 33.0, 900.0])
def test_store_that_is_back_has_the_commit_within_seconds_however_long_it_was_away(away_s: float) -> None:
    loop = VirtualLoop(random.Random(3))
    tried: list[float] = []

    class Locked:
        def commit(self, commit: Any) -> list[Any]:
            del commit
            tried.append(loop.time())
            if loop.time() < away_s:
                raise StoreUnreachableError("quayflow.db: database is locked")
            return []

    with ThreadPoolExecutor(1) as thread:
        committer = Committer(Locked(), thread)  # type: ignore[arg-type]
        loop.run_until_complete(committer.commit(None, asyncio.Event()))  # type: ignore[arg-type]
    loop.close()
    assert tried[-1] - away_s < 2.1
    assert len(tried) <= 4 + away_s / 2

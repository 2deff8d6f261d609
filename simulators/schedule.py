"""Waiting for a moment of real time, reading ahead meanwhile, and being told to stop."""

import asyncio
import contextlib
import gc
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")

NS: Final = 1_000_000_000
FINEST_S: Final = 0.0005
"""Shorter waits are not worth the event loop's timer, s."""
LONGEST_S: Final = 0.5
"""Longer waits are cut, so that a clock that is set meanwhile is noticed, s."""
AT_ONCE: Final = 64
"""Items read ahead in one go: about a millisecond's work."""
GOES_AHEAD: Final = 64
"""So many goes are read ahead."""
SWITCH_S: Final = 0.0005
"""The thread that keeps a schedule is let in after so long, s; Python's own interval is ten times as much."""


@contextlib.contextmanager
def stopped_by_signal(stop: asyncio.Event | None) -> Iterator[asyncio.Event]:
    """Yield ``stop``, or, where it is None, an event that SIGTERM and SIGINT set."""
    if stop is not None or threading.current_thread() is not threading.main_thread():
        yield stop or asyncio.Event()
        return
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def punctual() -> Iterator[None]:
    """Keep what is there already out of garbage collections, and let no thread hold up the schedule for long."""
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()


async def read_ahead(items: Iterator[T]) -> AsyncGenerator[list[T], None]:
    """Yield what ``items`` yields in lists, made in another thread while the caller waits for its moments."""
    loop = asyncio.get_running_loop()

    def take() -> list[T]:
        return list(islice(items, AT_ONCE))

    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        going = deque(loop.run_in_executor(reader, take) for _ in range(GOES_AHEAD))
        try:
            # The caller's time begins with the first list: until then there is time to be well ahead.
            await asyncio.wait(going)
            while some := await going.popleft():
                going.append(loop.run_in_executor(reader, take))
                yield some
        finally:
            for each in going:
                each.cancel()
            await asyncio.gather(*going, return_exceptions=True)


async def wait_until(wall_ns: int, clock: Callable[[], int], ending: asyncio.Event) -> bool:
    """Wait until ``clock`` shows ``wall_ns`` (ns UTC); returns False as soon as ``ending`` is set."""
    while not ending.is_set():
        wait_s = (wall_ns - clock()) / NS
        if wait_s <= FINEST_S:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(wait_s, LONGEST_S)):
                await ending.wait()
    return False

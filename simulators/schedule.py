"""Waiting for a moment of real time, and being told to stop."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final

NS: Final = 1_000_000_000
FINEST_S: Final = 0.0005
"""Shorter waits are not worth the event loop's timer, s."""
LONGEST_S: Final = 0.5
"""Longer waits are cut, so that a clock that is set meanwhile is noticed, s."""


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

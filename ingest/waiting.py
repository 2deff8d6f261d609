"""Waiting that ends early where there is something to do, such as to end."""

import asyncio
import contextlib
from collections.abc import Sequence


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until ``stop``."""
    # No task of its own, as asyncio.wait_for makes, which takes three times as many rounds of the loop.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def first_of(events: Sequence[asyncio.Event], seconds: float) -> None:
    """Sleep until one of the events is set, or for so long."""
    if seconds <= 0 or any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()

"""Ends tasks for good."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

AGAIN_S: Final = 1.0
"""How long a task may take over its end before it is cancelled again, s."""


async def end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until each has ended, however it ends.

    Once is not enough: before Python 3.12 asyncio.wait_for, on which aiomqtt waits, loses a cancellation that comes
    together with what it waits for; and a goodbye that fails hides it behind an error that only means "connect again".
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)

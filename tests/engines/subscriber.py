"""A plain MQTT subscriber, and waiting for something in an event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiomqtt

from engines.mosquitto import Mosquitto


@asynccontextmanager
async def received(broker: Mosquitto, topic: str) -> AsyncIterator[list[aiomqtt.Message]]:
    """Yield a list that grows by everything a subscriber receives while the block runs."""
    messages: list[aiomqtt.Message] = []
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(topic, qos=1)

        async def listen() -> None:
            async for message in client.messages:
                messages.append(message)  # noqa: PERF401 - it is watched while it grows

        task = asyncio.create_task(listen())
        try:
            yield messages
        finally:
            task.cancel()


async def eventually(holds: Callable[[], bool], what: str, within_s: float = 10.0) -> None:
    """Wait until ``holds`` returns True; AssertionError with ``what`` when it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)

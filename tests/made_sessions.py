"""Sessions under test: how they are configured, and reading from them."""

import asyncio
from collections.abc import Sequence

import aiomqtt

from engines.mosquitto import Mosquitto
from ingest.session import Message, Session, SessionConfig

TOPIC = "port/CNNGB-DEMO/vehicle/T-001/telemetry"


def config_of(port: int, client_id: str = "session-test", **changes: object) -> SessionConfig:
    return SessionConfig(port=port, client_id=client_id, **changes)  # type: ignore[arg-type]


async def read_until(session: Session, wanted: int, within_s: float = 20.0) -> list[Message]:
    """Read until there are ``wanted`` messages."""
    messages: list[Message] = []
    async with asyncio.timeout(within_s):
        while len(messages) < wanted:
            messages += await session.read(asyncio.Event())
    return messages


async def read_to_the_end(config: SessionConfig, messages: list[Message]) -> None:
    """Connect and read into ``messages`` until the session fails."""
    session = await Session.open(config)
    try:
        async with asyncio.timeout(10):
            while True:
                messages += await session.read(asyncio.Event())
    finally:
        session.abort()


async def publish_numbers(broker: Mosquitto, numbers: Sequence[int], topic: str = TOPIC) -> None:
    async with aiomqtt.Client(broker.host, broker.port) as client:
        for number in numbers:
            await client.publish(topic, str(number).encode(), qos=1)


def numbers_of(messages: Sequence[Message]) -> list[int]:
    return [int(message.payload) for message in messages]

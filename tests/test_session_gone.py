"""A broker whose machine is gone without a word is soon found out; one that stands still is waited for."""

import asyncio
import os
import signal
import time

import pytest
from made_sessions import TOPIC, config_of, publish_numbers, read_until

from engines.mosquitto import running_mosquitto
from faults.scripted_broker import Wire, publish, scripted_broker
from ingest.session import Session, SessionConfig, SessionError

GONE_S = 1.0


@pytest.mark.parametrize("reading", [True, False], ids=["reading", "waiting for our own disk"])
def test_a_machine_that_vanishes_is_found_out_long_before_the_keep_alive(reading: bool) -> None:
    async def script(wire: Wire) -> None:
        await wire.accept()
        wire.send(publish(TOPIC, b"1", 1))
        await wire.drain()
        await asyncio.sleep(0.3)
        wire.vanish()
        await asyncio.sleep(60)

    async def scenario() -> float:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, gone_s=GONE_S))
            session.acknowledge(await read_until(session, 1))
            began = time.monotonic()
            if not reading:
                await asyncio.sleep(4 * GONE_S)
                began = time.monotonic()
            with pytest.raises(SessionError, match="lost: its machine does not answer"):
                await asyncio.wait_for(session.read(asyncio.Event()), 20)
            session.abort()
            return time.monotonic() - began

    took = asyncio.run(scenario())
    assert took < (5 * GONE_S if reading else 1)


def test_a_broker_that_stands_still_longer_than_that_is_not_given_up() -> None:
    async def scenario() -> None:
        with running_mosquitto() as broker:
            session = await Session.open(config_of(broker.port, gone_s=GONE_S))
            assert broker.pid
            os.kill(broker.pid, signal.SIGSTOP)
            reading = asyncio.create_task(session.read(asyncio.Event()))
            await asyncio.sleep(3 * GONE_S)
            os.kill(broker.pid, signal.SIGCONT)
            assert not reading.done()
            await publish_numbers(broker, [1])
            (message,) = await reading
            assert message.payload == b"1"
            await session.close()

    asyncio.run(scenario())


def test_it_takes_ten_seconds_by_default() -> None:
    assert SessionConfig().gone_s <= 10

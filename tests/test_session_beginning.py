"""How a session begins: what a broker may answer to CONNECT and SUBSCRIBE, and what it may send in between."""

import asyncio

import mqtt5
import pytest
from made_sessions import TOPIC, config_of, numbers_of, read_until

from faults.scripted_broker import Wire, publish, scripted_broker
from ingest import session as session_module
from ingest.session import Message, Session, SessionError, SessionRefusedError
from store.journal import DUPLICATE

NEVER = 60.0


@pytest.mark.parametrize("answers_connect", [False, True])
def test_a_broker_that_does_not_answer_is_given_up(answers_connect: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "CONNACK_TIMEOUT_S", 0.3)

    async def script(wire: Wire) -> None:
        if answers_connect:
            await wire.connected()
        await asyncio.sleep(NEVER)

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionError, match="did not answer within"):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["NOT_AUTHORIZED", "BAD_USER_NAME_OR_PASSWORD", "BANNED", "SERVER_BUSY"])
def test_a_refusal_is_named(name: str) -> None:
    code = getattr(mqtt5.ConnAckReasonCode, name)

    async def script(wire: Wire) -> None:
        await wire.packet()
        wire.send(mqtt5.ConnAckPacket(reason_code=code).write())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionRefusedError, match=name):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())


def test_a_subscription_refused_is_named() -> None:
    async def script(wire: Wire) -> None:
        await wire.connected()
        await wire.packet()
        codes = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE, mqtt5.SubAckReasonCode.NOT_AUTHORIZED]
        wire.send(mqtt5.SubAckPacket(1, codes).write())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionRefusedError, match="'secret/#'"):
                await Session.open(config_of(broker.port, filters=("port/#", "secret/#")))

    asyncio.run(scenario())


def test_a_packet_id_in_use_is_not_insisted_on() -> None:
    asked: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.connected(session_present=True)
        while True:
            packet = await wire.packet()
            assert isinstance(packet, mqtt5.SubscribePacket)
            asked.append(packet.packet_id)
            if len(asked) == 3:
                break
            wire.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.PACKET_ID_IN_USE]).write())
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
        wire.send(mqtt5.SubAckPacket(asked[-1], granted).write() + publish(TOPIC, b"0", 1))

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port))
            assert numbers_of(await read_until(session, 1)) == [0]
            session.abort()

    asyncio.run(scenario())
    # The ids of what the broker sends go up from 1: ours keep out of their way.
    assert min(asked) > 65_000
    assert len(set(asked)) == 3


def test_packet_ids_in_use_without_end_are_a_refusal() -> None:
    async def script(wire: Wire) -> None:
        await wire.connected()
        while True:
            packet = await wire.packet()
            assert isinstance(packet, mqtt5.SubscribePacket)
            wire.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.PACKET_ID_IN_USE]).write())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionRefusedError, match="PACKET_ID_IN_USE"):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())


def test_a_broker_of_mqtt_3_is_told_from_a_broken_one() -> None:
    async def script(wire: Wire) -> None:
        await wire.packet()
        wire.send(b"\x20\x02\x00\x01")

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionRefusedError, match=r"speaks MQTT 3\.1\.1 and not MQTT 5"):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())


def test_who_hangs_up_on_connect_is_asked_for_its_version() -> None:
    async def script(wire: Wire) -> None:
        await wire.packet()
        wire.reset()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionError, match="does it speak MQTT 5"):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())


def test_a_broker_that_grants_nothing_before_acknowledgements_gets_them() -> None:
    under_way, total = 5, 12

    async def script(wire: Wire) -> None:
        await wire.connected(session_present=True)
        packet = await wire.packet()
        assert isinstance(packet, mqtt5.SubscribePacket)
        for first in range(0, total, under_way):
            numbers = range(first, min(first + under_way, total))
            for number in numbers:
                wire.send(publish(TOPIC, str(number).encode(), number + 1, duplicate=True))
            for _ in numbers:
                assert isinstance(await wire.packet(), mqtt5.PubAckPacket)
        wire.send(mqtt5.SubAckPacket(packet.packet_id, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write())
        wire.send(publish(TOPIC, str(total).encode(), 1))

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port))
            messages: list[Message] = []
            async with asyncio.timeout(20):
                while len(messages) <= total:
                    batch = await session.read(asyncio.Event())
                    session.acknowledge(batch)
                    messages += batch
            assert numbers_of(messages) == list(range(total + 1))
            session.abort()

    asyncio.run(scenario())


def test_messages_before_the_subscription_is_granted_are_not_lost() -> None:
    async def script(wire: Wire) -> None:
        await wire.connected(session_present=True)
        wire.send(publish(TOPIC, b"0", 1, duplicate=True))
        await wire.drain()
        await asyncio.sleep(0.05)
        wire.send(publish(TOPIC, b"1", 2))
        packet = await wire.packet()
        assert isinstance(packet, mqtt5.SubscribePacket)
        granted = mqtt5.SubAckPacket(1, [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]).write()
        # In one piece, so that one read of the socket holds all three.
        wire.send(publish(TOPIC, b"2", 3) + granted + publish(TOPIC, b"3", 4))

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port))
            messages = await read_until(session, 4)
            assert numbers_of(messages) == [0, 1, 2, 3]
            assert bool(messages[0].flags & DUPLICATE)
            session.abort()

    asyncio.run(scenario())


def test_a_session_that_holds_more_than_the_bound_is_taken_in_batches_before_its_subscription_is_granted() -> None:
    total, bound = 200, 50

    async def script(wire: Wire) -> None:
        await wire.connected(session_present=True)
        for number in range(total):
            wire.send(publish(TOPIC, str(number).encode(), number + 1, duplicate=True))
        await wire.subscribed()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, max_batch_messages=bound))
            messages: list[Message] = []
            async with asyncio.timeout(20):
                while len(messages) < total:
                    batch = await session.read(asyncio.Event())
                    assert len(batch) <= bound
                    session.acknowledge(batch)
                    messages += batch
            assert numbers_of(messages) == list(range(total))
            session.abort()

    asyncio.run(scenario())

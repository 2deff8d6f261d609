"""The MQTT session against a broker that does what a good one never does."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sessions import TOPIC, config_of, numbers_of, read_to_the_end, read_until

import ingest.session
from engines.ports import free_port
from faults.scripted_broker import Wire, publish, scripted_broker
from ingest.intake import READ_STEP, Bounds, Intake, Marks
from ingest.session import Message, Session, SessionConfig, SessionError

NEVER = 60.0
GOOD = publish(TOPIC, b"good", 1)
# After what is malformed nothing can be read, so whatever a script sends afterwards must not be delivered.
AFTER = publish(TOPIC, b"after", 2)


def test_a_broker_that_is_not_there_is_a_session_error() -> None:
    with pytest.raises(SessionError, match="cannot be reached"):
        asyncio.run(Session.open(config_of(free_port())))


def test_a_name_that_does_not_resolve_is_a_session_error() -> None:
    with pytest.raises(SessionError, match="cannot be reached"):
        asyncio.run(Session.open(SessionConfig(host="no-such-host.invalid")))


def test_acknowledgements_go_out_in_the_order_received() -> None:
    acknowledged: list[int] = []

    async def script(wire: Wire) -> None:
        await wire.accept()
        ids = [7, 3, 65_535, 1, 2]
        wire.send(b"".join(publish(TOPIC, str(nth).encode(), packet_id) for nth, packet_id in enumerate(ids)))
        for _ in ids:
            packet = await wire.packet()
            assert isinstance(packet, mqtt5.PubAckPacket)
            acknowledged.append(packet.packet_id)
        wire.reset()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port))
            session.acknowledge(await read_until(session, 5))
            with pytest.raises(SessionError):
                await session.read(asyncio.Event())
            session.abort()

    asyncio.run(scenario())
    assert acknowledged == [7, 3, 65_535, 1, 2]


def test_an_acknowledgement_of_a_lost_connection_goes_nowhere() -> None:
    heard: list[mqtt5.Packet] = []

    async def script(wire: Wire) -> None:
        await wire.accept()
        wire.send(publish(TOPIC, b"%d" % wire.number, 1))
        await wire.drain()
        if wire.number == 1:
            await asyncio.sleep(0.2)
            wire.reset()
            return
        while True:
            heard.append(await wire.packet())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            first = await Session.open(config_of(broker.port))
            old = await read_until(first, 1)
            with pytest.raises(SessionError):
                await first.read(asyncio.Event())
            second = await Session.open(config_of(broker.port))
            new = await read_until(second, 1)
            assert old[0].packet_id == new[0].packet_id
            # The kernel may still take it, for a connection that nobody has any more.
            with contextlib.suppress(SessionError):
                first.acknowledge(old)
            await asyncio.sleep(0.1)
            assert heard == []
            second.acknowledge(new)
            await second.close()
            first.abort()
            await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert [type(packet) for packet in heard] == [mqtt5.PubAckPacket, mqtt5.DisconnectPacket]


def test_a_disconnect_is_a_session_error_with_its_reason() -> None:
    async def script(wire: Wire) -> None:
        await wire.accept()
        wire.send(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionError, match="SESSION_TAKEN_OVER"):
                await read_to_the_end(config_of(broker.port), [])

    asyncio.run(scenario())


def test_a_silent_broker_is_asked_and_then_given_up() -> None:
    asked: list[mqtt5.Packet] = []

    async def script(wire: Wire) -> None:
        await wire.accept()
        while True:
            asked.append(await wire.packet())

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, keep_alive_s=1))
            with pytest.raises(SessionError, match="silent for"):
                await asyncio.wait_for(session.read(asyncio.Event()), 5)
            session.abort()

    asyncio.run(scenario())
    assert asked
    assert all(isinstance(packet, mqtt5.PingReqPacket) for packet in asked)


def test_nothing_more_than_the_bound_is_read_before_a_batch_is_handed_back() -> None:
    total, size, bound = 300, 100_000, 1 << 20

    async def script(wire: Wire) -> None:
        await wire.accept()
        for number in range(total):
            wire.send(publish(TOPIC, str(number).encode().ljust(size), number + 1))
            await wire.drain()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, max_batch_bytes=bound))
            messages = [*await session.read(asyncio.Event())]
            held = session.bytes_received
            assert held <= bound + READ_STEP + (1 << 20)
            await asyncio.sleep(0.5)
            assert session.bytes_received == held
            async with asyncio.timeout(20):
                while len(messages) < total:
                    before = session.bytes_received
                    messages += await session.read(asyncio.Event())
                    assert session.bytes_received - before <= bound + (2 << 20)
            assert numbers_of(messages) == list(range(total))
            session.abort()

    asyncio.run(scenario())


def test_nothing_more_than_the_bound_in_messages_is_handed_out_before_a_batch_is_handed_back() -> None:
    total, bound = 1_000, 64

    async def script(wire: Wire) -> None:
        await wire.accept()
        # In one piece, so that one read of the socket holds them all.
        wire.send(b"".join(publish(TOPIC, str(number).encode(), number + 1) for number in range(total)))
        await wire.drain()

    async def scenario() -> Marks:
        marks = Marks()
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, max_batch_messages=bound), marks)
            messages: list[Message] = []
            async with asyncio.timeout(20):
                while len(messages) < total:
                    batch = await session.read(asyncio.Event())
                    assert len(batch) <= bound
                    assert marks.messages == len(batch)
                    session.acknowledge(batch)
                    assert marks.messages == 0
                    messages += batch
            assert numbers_of(messages) == list(range(total))
            session.abort()
        return marks

    marks = asyncio.run(scenario())
    assert marks.most_messages == bound
    assert marks.most_bytes > 0
    assert marks.stops >= total // bound - 1


def test_what_a_bound_leaves_behind_is_filled_up_and_handed_out_before_the_connection_is_given_up() -> None:
    bound = 10

    async def scenario() -> None:
        ours, brokers = socket.socketpair()
        with ours, brokers:
            ours.setblocking(False)
            marks = Marks()
            intake = Intake(ours, Bounds(bound, 1 << 20, 1 << 20), marks)

            def send(first: int, count: int) -> None:
                numbers = range(first, first + count)
                brokers.sendall(b"".join(publish(TOPIC, str(number).encode(), number + 1) for number in numbers))

            def taken() -> list[int]:
                intake.receive()
                found = numbers_of([*intake.messages(lambda _: None)])
                intake.release()
                return found

            send(0, 15)
            assert taken() == [*range(10)]
            send(15, 10)
            assert taken() == [*range(10, 20)]
            brokers.close()
            assert marks.stops == 2
            assert taken() == [*range(20, 25)]
            with pytest.raises(SessionError, match="closed the connection"):
                taken()
            assert marks.stops == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("announced", [(16 << 20) + 1, 256 << 20])
def test_a_packet_larger_than_allowed_is_refused_before_it_is_read(announced: int) -> None:
    async def script(wire: Wire) -> None:
        await wire.accept()
        rest, length = announced - 5, bytearray()
        while rest:
            rest, low = divmod(rest, 128)
            length.append(low | (0x80 if rest else 0))
        wire.send(b"\x32" + bytes(length) + b"\x00\x04port")
        while True:
            wire.send(bytes(1 << 20))
            await wire.drain()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            with pytest.raises(SessionError, match="bytes, more than 16777216"):
                await read_to_the_end(config_of(broker.port), [])

    asyncio.run(scenario())


def test_a_packet_in_single_bytes_arrives_whole() -> None:
    async def script(wire: Wire) -> None:
        await wire.accept()
        for byte in publish(TOPIC, b"1", 1) + publish(TOPIC, b"2", 2):
            wire.send(bytes([byte]))
            await wire.drain()
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, tick_s=0.0, gather_s=0.0))
            assert numbers_of(await read_until(session, 2)) == [1, 2]
            session.abort()

    asyncio.run(scenario())


def test_a_broker_that_waits_for_acknowledgements_is_not_left_to_wait_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds, at_once, busy_s, pause_s = 8, 5, 0.01, 1.0
    # However little there was to do, the pause would be the longest.
    monkeypatch.setattr(ingest.session, "GATHER", 1e9)

    async def script(wire: Wire) -> None:
        await wire.accept()
        for first in range(1, 1 + rounds * at_once, at_once):
            for number in range(first, first + at_once):
                wire.send(publish(TOPIC, str(number).encode(), number))
            await wire.drain()
            for _ in range(at_once):
                await wire.packet()

    async def scenario() -> float:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, period_s=pause_s))
            began = asyncio.get_running_loop().time()
            messages: list[Message] = []
            while len(messages) < rounds * at_once:
                some = await session.read(asyncio.Event())
                await asyncio.sleep(busy_s)
                session.acknowledge(some)
                messages += some
            session.abort()
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(scenario()) < rounds * pause_s / 2


# --- malformed packets -----------------------------------------------------------------------------------------------

# The codec panics on a topic that is no UTF-8; what it leaves behind is its own.
panics = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def outcome(packets: bytes, *, instead_of_connack: bool = False) -> list[Message]:
    """Return what is read of ``packets`` until the session ends, which it must with a SessionError."""

    async def script(wire: Wire) -> None:
        if instead_of_connack:
            await wire.packet()
        else:
            await wire.accept()
        wire.send(packets)
        await wire.drain()
        await asyncio.sleep(0.01)
        wire.reset()

    messages: list[Message] = []
    async with scripted_broker(script) as broker:
        with pytest.raises(SessionError):
            await read_to_the_end(config_of(broker.port, tick_s=0.001, gather_s=0.0), messages)
    return messages


def corpus(recorded: Path) -> list[tuple[str, bytes, bool]]:
    """Return name, bytes and whether decoding must fail, of packets recorded elsewhere."""
    lines = (recorded / "robustness" / "mqtt_mochi_packets.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    return [
        (case["case"], bytes.fromhex(case["raw_hex"]), case["group"] == "decode" and bool(case["fail_first"]))
        for case in cases
    ]


def test_recorded_malformed_packets_end_the_connection_with_a_session_error(recorded: Path) -> None:
    async def scenario() -> None:
        for name, packet, malformed in corpus(recorded):
            messages = await outcome(packet)
            assert not (malformed and messages), name

    asyncio.run(scenario())


def test_recorded_packets_instead_of_an_answer_to_connect_are_session_errors(recorded: Path) -> None:
    async def scenario() -> None:
        for _, packet, _ in corpus(recorded):
            assert await outcome(packet, instead_of_connack=True) == []

    asyncio.run(scenario())


@panics
@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"\x30\x06\x00\x03\xff\xfe\xfd\x00", id="topic is no UTF-8"),
        pytest.param(b"\x36\x08\x00\x01a\x00\x01\x00ab", id="QoS 3"),
        pytest.param(b"\x30\xff\xff\xff\xff\xff\xff", id="length without end"),
        pytest.param(b"\x00\x00", id="packet type 0"),
        pytest.param(b"\x32\x03\x00\x03a", id="topic longer than the packet"),
        pytest.param(b"\x20\x03\x00\x00\x05", id="properties longer than the packet"),
    ],
)
@pytest.mark.parametrize("instead_of_connack", [False, True])
def test_what_breaks_the_protocol_ends_the_connection(packet: bytes, instead_of_connack: bool) -> None:
    assert asyncio.run(outcome(packet + AFTER, instead_of_connack=instead_of_connack)) == []


@panics
@given(
    changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, len(GOOD)),
)
def test_any_damage_to_a_packet_is_a_message_or_a_session_error(changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(GOOD)
    for position, byte in changes:
        damaged[position] = byte
    asyncio.run(outcome(bytes(damaged[: len(GOOD) - cut])))


def test_a_configuration_that_no_broker_accepts_is_refused() -> None:
    cases: list[dict[str, Any]] = [
        *({"port": port} for port in (0, 65_536)),
        *({"receive_max": number} for number in (0, 65_536)),
        *({"filters": filters} for filters in ((), ("port/#", "port/#/x"), ("$share/port",), ("$share/+/port/#",))),
        {"max_batch_bytes": 0},
        {"max_batch_messages": 0},
    ]
    for changes in cases:
        with pytest.raises(ValueError, match=next(iter(changes))):
            SessionConfig(**changes)


def test_the_socket_is_given_back_on_every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    connect = socket.create_connection

    def remember(address: tuple[str, int], timeout: float) -> socket.socket:
        made.append(connect(address, timeout))
        return made[-1]

    async def script(wire: Wire) -> None:
        await wire.packet()
        wire.reset()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            monkeypatch.setattr(socket, "create_connection", remember)
            with pytest.raises(SessionError):
                await Session.open(config_of(broker.port))

    asyncio.run(scenario())
    assert [each.fileno() for each in made] == [-1]


def test_the_last_acknowledgements_reach_a_broker_that_is_busy_sending() -> None:
    heard: list[mqtt5.Packet] = []

    async def script(wire: Wire) -> None:
        await wire.accept()
        wire.send(b"".join(publish(TOPIC, b"x" * 1_000, number) for number in range(1, 1_001)))
        await asyncio.sleep(0.3)
        # It goes on sending before it looks at what it was sent.
        wire.send(publish(TOPIC, b"x", 1_001))
        await asyncio.sleep(0.1)
        try:
            while not heard or not isinstance(heard[-1], mqtt5.DisconnectPacket):
                heard.append(await wire.packet())
        finally:
            ended.set()

    ended = asyncio.Event()

    async def scenario() -> None:
        async with scripted_broker(script) as broker:
            session = await Session.open(config_of(broker.port, max_batch_messages=10))
            messages = await read_until(session, 1)
            session.acknowledge(messages)
            await session.close()
            await asyncio.wait_for(ended.wait(), 10)
            told = [packet.packet_id for packet in heard if isinstance(packet, mqtt5.PubAckPacket)]
            assert told == [message.packet_id for message in messages]
            assert isinstance(heard[-1], mqtt5.DisconnectPacket)

    asyncio.run(scenario())

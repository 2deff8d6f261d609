import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiomqtt
import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import free_port
from faults.scripted_broker import Wire, publish, scripted_broker
from ingest import session as session_module
from ingest.session import Message, Session, SessionConfig, SessionError, SessionRefusedError
from store.journal import DUPLICATE

TOPIC = "port/CNNGB-DEMO/vehicle/T-001/telemetry"
NEVER = 60.0
SERVER_FILES = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
CLIENT_FILES = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
GOOD = publish(TOPIC, b"good", 1)
# After what is malformed nothing can be read, so whatever a script sends afterwards must not be delivered.
AFTER = publish(TOPIC, b"after", 2)


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True, max_inflight_messages=0) as running:
        yield running


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


# --- against a real broker -------------------------------------------------------------------------------------------


def test_only_what_was_handed_back_is_acknowledged(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "acknowledges", filters=("acknowledges/#",))
        first = await Session.open(config)
        await publish_numbers(broker, range(10), "acknowledges/1")
        taken = await read_until(first, 10)
        assert numbers_of(taken) == list(range(10))
        first.acknowledge(taken[:4])
        await first.close()

        second = await Session.open(config)
        assert second.session_present
        again = await read_until(second, 6)
        assert numbers_of(again) == list(range(4, 10))
        assert all(message.flags & DUPLICATE for message in again)
        second.acknowledge(again)
        await second.close()

        third = await Session.open(config)
        await publish_numbers(broker, [99], "acknowledges/1")
        assert numbers_of(await read_until(third, 1)) == [99]
        await third.close()

    asyncio.run(scenario())


def test_what_is_read_on_a_lost_connection_comes_again(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "lost-connection", filters=("lost-connection/#",))
        first = await Session.open(config)
        await publish_numbers(broker, range(5), "lost-connection/1")
        await read_until(first, 5)
        first.abort()

        second = await Session.open(config)
        again = await read_until(second, 5)
        assert numbers_of(again) == list(range(5))
        assert all(message.flags & DUPLICATE for message in again)
        await second.close()

    asyncio.run(scenario())


def test_what_was_published_while_away_is_delivered_in_order(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "away", filters=("away/#",))
        await (await Session.open(config)).close()
        await publish_numbers(broker, range(3_000), "away/1")
        session = await Session.open(config)
        numbers: list[int] = []
        async with asyncio.timeout(20):
            while len(numbers) < 3_000:
                messages = await session.read(asyncio.Event())
                numbers += numbers_of(messages)
                session.acknowledge(messages)
        assert numbers == list(range(3_000))
        await session.close()

    asyncio.run(scenario())


def test_a_broker_that_knows_nothing_of_the_session_says_so() -> None:
    async def scenario() -> None:
        with running_mosquitto() as forgetful:
            config = config_of(forgetful.port)
            first = await Session.open(config)
            assert not first.session_present
            await first.close()
            second = await Session.open(config)
            assert second.session_present
            forgetful.restart()
            with pytest.raises(SessionError, match="broker"):
                await second.read(asyncio.Event())
            second.abort()
            third = await Session.open(config)
            assert not third.session_present
            await third.close()

    asyncio.run(scenario())


def test_a_packet_as_large_as_allowed_arrives_whole(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "large", filters=("large/#",))
        session = await Session.open(config)
        # Fixed header 5, topic 2 + 7, packet id 2, properties 1: the packet is 16 MiB to the byte.
        payload = bytes(range(256)) * (config.max_packet_bytes // 256)
        payload = payload[: config.max_packet_bytes - 17]
        async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
            await client.publish("large/1", payload, qos=1, timeout=30)
        [message] = await read_until(session, 1)
        assert message.payload == payload
        session.acknowledge([message])
        await session.close()

    asyncio.run(scenario())


def test_a_broker_that_wants_a_password_refuses_and_is_named() -> None:
    async def scenario() -> None:
        with (
            running_mosquitto(allow_anonymous=False) as strict,
            pytest.raises(SessionRefusedError, match="refused the connection"),
        ):
            await Session.open(config_of(strict.port))

    asyncio.run(scenario())


def test_a_stop_ends_a_read_that_waits(broker: Mosquitto) -> None:
    async def scenario() -> None:
        session = await Session.open(config_of(broker.port, "stopped", filters=("stopped/#",)))
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        async with asyncio.timeout(5):
            assert await session.read(stop) == []
        await session.close()

    asyncio.run(scenario())


def test_an_idle_connection_outlives_the_keep_alive(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "idle", filters=("idle/#",), keep_alive_s=1)
        session = await Session.open(config)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.read(asyncio.Event()), 3.5)
        await publish_numbers(broker, [1], "idle/1")
        assert numbers_of(await read_until(session, 1)) == [1]
        await session.close()

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and certificate and key of ``server`` and ``client`` signed by it."""
    folder = tmp_path_factory.mktemp("certificates")
    fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", *fresh, "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *fresh, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path) -> Iterator[int]:
    """The port of a broker that speaks TLS and asks for a client's certificate."""
    port = free_port()
    files = {name: certificates / file for name, file in SERVER_FILES.items()}
    with running_mosquitto(listener=f"{port} 127.0.0.1", require_certificate=True, **files):
        yield port


def test_messages_come_over_mutual_tls(certificates: Path, tls_port: int) -> None:
    async def scenario() -> None:
        files = {name: str(certificates / file) for name, file in CLIENT_FILES.items()}
        session = await Session.open(config_of(tls_port, "tls", tls=True, filters=("tls/#",), **files))
        certificate = aiomqtt.TLSParameters(files["ca_file"], files["cert_file"], files["key_file"])
        # More than one record of TLS, and more than one read of the socket.
        payloads = [bytes([number]) * 40_000 for number in range(100)]
        async with aiomqtt.Client("127.0.0.1", tls_port, tls_params=certificate) as client:
            for payload in payloads:
                await client.publish("tls/1", payload, qos=1)
        messages = await read_until(session, len(payloads))
        assert [message.payload for message in messages] == payloads
        session.acknowledge(messages)
        await session.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        pytest.param({"ca_file": None}, "certificate verify failed", id="authority not known"),
        pytest.param({"cert_file": None, "key_file": None}, "broker", id="no certificate of our own"),
        pytest.param({"ca_file": "/no/such.pem"}, "/no/such.pem", id="authority not there"),
        pytest.param({"key_file": "/no/such.key"}, "/no/such.key", id="key not there"),
        pytest.param({"tls": False}, "broker", id="no TLS at all"),
    ],
)
def test_tls_that_cannot_work_is_a_session_error(
    changes: dict[str, object], named: str, certificates: Path, tls_port: int
) -> None:
    files = {name: str(certificates / file) for name, file in CLIENT_FILES.items()}
    config = config_of(tls_port, "tls", **{"tls": True, **files, **changes})
    with pytest.raises(SessionError, match=named):
        asyncio.run(Session.open(config))


# --- against a broker that does what a good one never does -----------------------------------------------------------


def test_a_broker_that_is_not_there_is_a_session_error() -> None:
    with pytest.raises(SessionError, match="cannot be reached"):
        asyncio.run(Session.open(config_of(free_port())))


def test_a_name_that_does_not_resolve_is_a_session_error() -> None:
    with pytest.raises(SessionError, match="cannot be reached"):
        asyncio.run(Session.open(SessionConfig(host="no-such-host.invalid")))


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
            messages = await session.read(asyncio.Event())
            held = session.bytes_received
            assert held <= bound + session_module.READ_STEP + (1 << 20)
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
    for changes in ({"port": 0}, {"port": 65_536}, {"receive_max": 0}, {"receive_max": 65_536}, {"filters": ()}):
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

"""The MQTT session against a real broker."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest
from made_sessions import config_of, numbers_of, publish_numbers, read_until

from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import free_port
from ingest.session import Session, SessionError, SessionRefusedError
from store.journal import DUPLICATE

SERVER_FILES = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
CLIENT_FILES = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True, max_inflight_messages=0) as running:
        yield running


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
            assert len(await session.read(stop)) == 0
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

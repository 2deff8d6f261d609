"""The gateway on real sockets: durable before the reply, bounded whoever connects, positions in the API at the end."""

import asyncio
import contextlib
import resource
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import httpx
import pytest
from made_frames import accounts, pipeline_of
from made_port import Clock, served

from api.app import create_app
from api.commands import BrokerAddress, Commander, Outcome, Sent
from api.config import ApiConfig
from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import (
    ASK_FOR_PARTS,
    AUTHENTICATE,
    BATCH,
    FLAG,
    HEARTBEAT,
    LOCATION,
    REGISTER,
    REGISTER_REPLY,
    REPLY,
    Message,
    frame_of,
    frames_of,
    open_frame,
)
from devices.codecs.teltonika import packet_of, record_of
from devices.times import NS, format_rfc3339
from devices.topics import DeviceKey
from devices.vocabulary import DeviceClass
from engines.mosquitto import running_mosquitto
from engines.ports import free_port, wait_until
from faults.ingest_process import IngestProcess
from ingest import packets
from ingest.conversations import code_of
from ingest.gateway import KEY_FILE, Gateway, GatewayConfig, GatewayError, key_in
from store.admission import Admission, admission_of
from store.journal import Frame, read
from store.open import open_records, open_registry
from store.registry_entries import Alias, Policy, RegisteredDevice, Site

SITE = "CNNGB-DEMO"
PHONE = "13812345678"
KEY = b"k" * 32
NOW = 1_795_420_800 * NS
CONFIG = GatewayConfig(SITE, jt808_port=0, teltonika_port=0, anyone=True, gather_s=0.001)


class Disk:
    """Takes messages as the worker does, as fast as it is let."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.taken: list[packets.Message] = []

    async def take(self, messages: Sequence[packets.Message]) -> bool:
        await self.free.wait()
        self.taken += messages
        return True


@asynccontextmanager
async def running(config: GatewayConfig = CONFIG) -> AsyncIterator[tuple[Gateway, Disk]]:
    disk, stop = Disk(), asyncio.Event()
    gateway = Gateway(config, KEY, disk.take, lambda: NOW)
    await gateway.listen()
    task = asyncio.create_task(gateway.run(stop))
    try:
        yield gateway, disk
    finally:
        disk.free.set()
        stop.set()
        await task
    assert not gateway.connections


class Terminal:
    """A terminal's end of a connection, with a serial of its own; :func:`run` closes it."""

    opened: ClassVar[list[asyncio.StreamWriter]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, phone: str) -> None:
        self.reader, self.writer, self.phone = reader, writer, phone
        self.serial = 0
        self.opened.append(writer)

    def send(self, kind: int, body: bytes = b"") -> None:
        self.writer.write(frame_of(kind, self.phone, self.serial, body))
        self.serial += 1

    async def reply(self) -> Message:
        async with asyncio.timeout(10):
            await self.reader.readexactly(1)
            return open_frame(FLAG + await self.reader.readuntil(FLAG), strict=True)

    async def ask(self, kind: int, body: bytes = b"") -> Message:
        self.send(kind, body)
        return await self.reply()

    async def closed(self) -> bytes:
        """Wait until the gateway has ended it, and return what it said until then."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                return await self.reader.read()
        return b""


async def terminal(gateway: Gateway, phone: str = PHONE, codec: str = "jt808") -> Terminal:
    return Terminal(*await asyncio.open_connection("127.0.0.1", gateway.ports[codec]), phone)


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody of it
            await asyncio.sleep(0.005)
    assert condition(), what


def run(test: Awaitable[None]) -> None:
    async def wrapped() -> None:
        try:
            async with asyncio.timeout(60):
                await test
        finally:
            while Terminal.opened:
                writer = Terminal.opened.pop()
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(wrapped())


def location(second: int = 0, longitude: float = 121.85) -> bytes:
    return bodies.location(NOW + second * NS, 29.93, longitude, speed_mps=5)


def test_a_reply_waits_until_the_frame_is_durable() -> None:
    async def test() -> None:
        async with running() as (gateway, disk):
            one = await terminal(gateway)
            disk.free.clear()
            one.send(LOCATION, location())
            await until(lambda: gateway.waiting_frames == 1, "the frame waits")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await one.reader.read(1)
            disk.free.set()
            reply = await one.reply()
            assert (reply.kind, reply.body) == (REPLY, bodies.general_reply(0, LOCATION))
            [message] = disk.taken
            assert message.topic == f"port/{SITE}/vehicle/{PHONE}/jt808"
            assert gateway.waiting_frames == gateway.waiting_bytes == 0

    run(test())


def test_a_terminal_that_has_left_keeps_its_frames_in_the_journal() -> None:
    async def test() -> None:
        async with running() as (gateway, disk):
            disk.free.clear()
            one = await terminal(gateway)
            one.send(LOCATION, location())
            await until(lambda: gateway.waiting_frames == 1, "the frame waits")
            one.writer.close()
            await until(lambda: not gateway.connections, "it is gone")
            disk.free.set()
            await until(lambda: len(disk.taken) == 1, "it is taken")
            assert gateway.closed == {"peer": 1}

    run(test())


def test_a_slow_disk_stops_the_reading_and_costs_no_frame() -> None:
    async def test() -> None:
        async with running(replace(CONFIG, max_waiting=100)) as (gateway, disk):
            disk.free.clear()
            one = await terminal(gateway)
            for second in range(5_000):
                one.send(HEARTBEAT if second % 2 else LOCATION, b"" if second % 2 else location(second))
            await until(lambda: bool(gateway.paused), "it is paused")
            most = gateway.waiting_frames
            await asyncio.sleep(0.1)
            assert gateway.waiting_frames == most < 2_000
            disk.free.set()
            for _ in range(5_000):
                await one.reply()
            assert len(disk.taken) == gateway.frames == 5_000
            assert gateway.pauses > 1
            serials = [open_frame(message.payload).serial for message in disk.taken]
            assert serials == list(range(5_000))

    run(test())


def test_the_newest_of_two_terminals_with_one_number_wins() -> None:
    async def test() -> None:
        async with running(replace(CONFIG, anyone=False)) as (gateway, disk):
            one = await terminal(gateway)
            code = (await one.ask(REGISTER, bodies.registration("浙B12345"))).body[3:]
            await one.ask(AUTHENTICATE, code)
            other = await terminal(gateway)
            await other.ask(HEARTBEAT)
            # Whoever only says the number does not take its place.
            assert (await one.ask(HEARTBEAT)).body[4] == bodies.ACCEPTED
            await other.ask(AUTHENTICATE, code)
            assert await one.closed() == b""
            assert (await other.ask(LOCATION, location())).body[4] == bodies.ACCEPTED
            assert gateway.closed == {"replaced": 1}
            assert gateway.refused == {"not_authenticated": 1}
            assert gateway.status()["gateway_terminals"] == 1
            kinds = [open_frame(message.payload).kind for message in disk.taken]
            assert kinds == [REGISTER, AUTHENTICATE, HEARTBEAT, AUTHENTICATE, LOCATION]

    run(test())


def test_a_part_that_does_not_come_is_asked_for_on_the_connection() -> None:
    async def test() -> None:
        disk, stop, now = Disk(), asyncio.Event(), [NOW]
        gateway = Gateway(CONFIG, KEY, disk.take, lambda: now[0])
        await gateway.listen()
        task = asyncio.create_task(gateway.run(stop))
        one = await terminal(gateway)
        frames = frames_of(BATCH, PHONE, 0, bodies.batch([location(nth) for nth in range(80)], late=True))
        for frame in (frames[0], frames[2]):
            one.writer.write(frame)
            assert (await one.reply()).kind == REPLY
        now[0] += 11 * NS
        asked = await one.reply()
        assert (asked.kind, asked.body) == (ASK_FOR_PARTS, bodies.parts_request(0, [2]))
        one.writer.write(frames[1])
        assert (await one.reply()).kind == REPLY
        await until(lambda: not gateway.in_parts, "nothing is waited for")
        status = gateway.status()
        assert (status["gateway_parts_asked"], status["gateway_parts_given_up"]) == (1, 0)
        assert [message.payload for message in disk.taken] == [frames[0], frames[2], frames[1]]
        stop.set()
        await task

    run(test())


def test_who_does_not_speak_or_not_to_the_end_is_hung_up_on() -> None:
    async def test() -> None:
        hasty = replace(CONFIG, introduction_s=1.5, frame_s=0.7, idle_s=2.5)
        async with running(hasty) as (gateway, _):
            silent, half, drop, idle = [await terminal(gateway, str(nth + 1)) for nth in range(4)]
            half.writer.write(frame_of(LOCATION, "2", 0, location())[:20])
            await idle.ask(HEARTBEAT)

            async def dripping() -> None:
                # A byte now and then: from its first byte on, a frame has so long and no longer.
                for byte in frame_of(LOCATION, "3", 0, location()):
                    drop.writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)

            with contextlib.suppress(ConnectionError):
                await asyncio.gather(dripping(), *(each.closed() for each in (silent, half, drop, idle)))
            await until(lambda: not gateway.connections, "all are gone")
            assert gateway.closed == {"no_introduction": 1, "half_frame": 2, "silent": 1}

    run(test())


def test_rubbish_is_hung_up_on_and_counted() -> None:
    async def test() -> None:
        async with running(replace(CONFIG, anyone=False)) as (gateway, disk):
            one, other, third = [await terminal(gateway, str(nth + 1)) for nth in range(3)]
            one.writer.write(b"GET / HTTP/1.1\r\n\r\n" + frame_of(LOCATION, "1", 0, location()) * 20)
            other.writer.write(b"\x7eabc\x7e" * 20)
            third.writer.write(b"x" * 100_000)
            await one.closed()
            await other.closed()
            await until(lambda: gateway.garbage == 18 + 100_000, "garbage is counted")
            assert gateway.refused == {"not_authenticated": 16, "undecodable": 16}
            assert gateway.closed == {"refused": 2}
            assert not disk.taken

    run(test())


def test_who_does_not_read_its_replies_is_hung_up_on() -> None:
    async def test() -> None:
        async with running() as (gateway, disk):
            with socket.socket() as deaf:
                deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                deaf.connect(("127.0.0.1", gateway.ports["jt808"]))
                deaf.setblocking(False)
                unsent = frames = frame_of(HEARTBEAT, PHONE, 0) * 500
                while not gateway.closed:
                    with contextlib.suppress(BlockingIOError):
                        unsent = unsent[deaf.send(unsent) :] or frames
                    await asyncio.sleep(0.002)
            assert gateway.closed == {"not_reading": 1}
            assert disk.taken

    run(test())


def test_connections_beyond_the_bound_are_closed_and_the_others_go_on() -> None:
    async def test() -> None:
        async with running(replace(CONFIG, max_connections=2)) as (gateway, _):
            one, two = await terminal(gateway, "1"), await terminal(gateway, "2")
            await one.ask(HEARTBEAT)
            assert await (await terminal(gateway, "3")).closed() == b""
            assert (await two.ask(HEARTBEAT)).body[4] == bodies.ACCEPTED
            assert gateway.closed == {"too_many": 1}

    run(test())


def test_two_thousand_terminals_at_once_all_get_their_replies() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4_200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))

    async def test() -> None:
        async with running(replace(CONFIG, gather_s=0.02)) as (gateway, disk):
            terminals = [await terminal(gateway, str(10_000 + nth)) for nth in range(2_000)]
            for nth in range(2):
                for each in terminals:
                    each.send(LOCATION, location(nth))
                replies = await asyncio.gather(*(each.reply() for each in terminals))
                assert {reply.body[4] for reply in replies} == {bodies.ACCEPTED}
                assert [reply.phone for reply in replies] == [each.phone for each in terminals]
            assert gateway.status()["gateway_terminals"] == 2_000
            assert Counter(message.topic for message in disk.taken) == Counter({
                f"port/{SITE}/vehicle/{each.phone}/jt808": 2 for each in terminals
            })  # fmt: skip
            for each in terminals:
                each.writer.close()

    run(test())


def test_a_teltonika_terminal_over_tcp() -> None:
    async def test() -> None:
        async with running() as (gateway, disk):
            one = await terminal(gateway, codec="teltonika")
            one.writer.write(bytes.fromhex("000F") + b"356307042441013")
            assert await one.reader.readexactly(1) == b"\x01"
            packet = packet_of(8, 2, record_of(NOW, 29.93, 121.85) * 2)
            one.writer.write(packet)
            assert await one.reader.readexactly(4) == b"\0\0\0\2"
            assert [message.topic for message in disk.taken] == [f"port/{SITE}/vehicle/356307042441013/teltonika"]
            assert disk.taken[0].payload == packet

    run(test())


CLOSED = Site(site=SITE, policy=Policy.CLOSED)
ADMITTED = admission_of([CLOSED, RegisteredDevice(uid=f"{SITE}/vehicle/{PHONE}")])


@asynccontextmanager
async def guarded(admission: Admission, *, anyone: bool) -> AsyncIterator[tuple[Gateway, Disk]]:
    async with running(replace(CONFIG, anyone=anyone)) as (gateway, disk):
        gateway.admit(admission)
        yield gateway, disk


def test_a_closed_site_refuses_a_terminal_that_it_does_not_know() -> None:
    async def test() -> None:
        async with guarded(ADMITTED, anyone=False) as (gateway, disk):
            stranger = await terminal(gateway, "13900000000")
            refused = await stranger.ask(REGISTER, bodies.registration("浙B12345"))
            assert (refused.kind, refused.body) == (REGISTER_REPLY, bytes([0, 0, bodies.NO_SUCH_TERMINAL]))
            code = code_of(KEY, "13900000000").encode()  # a code of the time when the site was open
            assert (await stranger.ask(AUTHENTICATE, code)).body[4] == bodies.FAILED
            known = await terminal(gateway)
            registered = await known.ask(REGISTER, bodies.registration("浙B12345"))
            assert (await known.ask(AUTHENTICATE, registered.body[3:])).body[4] == bodies.ACCEPTED
            assert (await known.ask(LOCATION, location())).body[4] == bodies.ACCEPTED
            assert gateway.refused == {"not_registered": 2}
            assert {message.topic for message in disk.taken} == {f"port/{SITE}/vehicle/{PHONE}/jt808"}

    run(test())


def test_a_closed_site_refuses_strangers_also_where_terminals_need_no_code() -> None:
    async def test() -> None:
        async with guarded(ADMITTED, anyone=True) as (gateway, disk):
            stranger = await terminal(gateway, "13900000000")
            assert (await stranger.ask(LOCATION, location())).body[4] == bodies.FAILED
            assert (gateway.refused, disk.taken) == ({"not_registered": 1}, [])
            assert (await (await terminal(gateway)).ask(LOCATION, location())).body[4] == bodies.ACCEPTED

    run(test())


def test_a_closed_site_turns_a_teltonika_terminal_away() -> None:
    async def test() -> None:
        imei = "352093081452251"
        async with guarded(admission_of([CLOSED]), anyone=True) as (gateway, disk):
            one = await terminal(gateway, codec="teltonika")
            reader, writer = one.reader, one.writer
            writer.write(len(imei).to_bytes(2) + imei.encode())
            async with asyncio.timeout(10):
                assert await reader.readexactly(1) == b"\x00"
                # What it says all the same is no introduction.
                writer.write(packet_of(8, 1, record_of(NOW, 29.9, 121.8)))
                assert await reader.read() == b""
            assert gateway.refused == {"not_registered": 1, "undecodable": 1}
            assert (gateway.closed, disk.taken) == ({"refused": 1}, [])

    run(test())


def test_an_alias_admits_the_terminal_whose_device_is_registered() -> None:
    async def test() -> None:
        truck = f"{SITE}/vehicle/T-07"
        entries = [CLOSED, RegisteredDevice(uid=truck), Alias(scheme="jt808", foreign=PHONE, device=truck)]
        async with guarded(admission_of(entries), anyone=True) as (gateway, disk):
            assert (await (await terminal(gateway)).ask(LOCATION, location())).body[4] == bodies.ACCEPTED
        # What is acknowledged is booked to the device, in a closed site as in an open one.
        for admission in (admission_of(entries), admission_of(entries[1:])):
            pipeline = pipeline_of(admission=admission)
            pipeline.process([Frame(40, NOW, 1, 1, message.topic, message.payload) for message in disk.taken])
            assert pipeline.take_quarantine() == []
            assert accounts(pipeline)[truck, "windowed", ""] == (1, 7)
            assert {uid for uid, _, _ in accounts(pipeline)} == {truck}

    run(test())


def test_a_terminal_that_is_taken_out_of_the_registry_is_hung_up_on() -> None:
    async def test() -> None:
        async with guarded(ADMITTED, anyone=True) as (gateway, _):
            one = await terminal(gateway)
            assert (await one.ask(LOCATION, location())).body[4] == bodies.ACCEPTED
            gateway.admit(admission_of([CLOSED, RegisteredDevice(uid=f"{SITE}/vehicle/{PHONE}", enabled=False)]))
            assert await one.closed() == b""
            assert gateway.closed == {"not_registered": 1}
            again = await terminal(gateway)
            assert (await again.ask(LOCATION, location(1))).body[4] == bodies.FAILED

    run(test())


def test_a_port_that_is_taken_is_named() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            gateway = Gateway(replace(CONFIG, teltonika_port=port), KEY, Disk().take, lambda: NOW)
            with pytest.raises(GatewayError, match=f"teltonika on 127.0.0.1, port {port}"):
                await gateway.listen()

    run(test())


@pytest.mark.parametrize("wrong", [{"site": "Ningbo"}, {"idle_s": 0}, {"max_connections": 0}])
def test_a_configuration_that_cannot_be_is_refused_by_name(wrong: dict[str, object]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **wrong)  # type: ignore[arg-type]


def test_the_key_stays_and_is_nobody_elses(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    assert len(key) == 32
    assert key_in(tmp_path) == key
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[tuple[IngestProcess, int, int]]:
    """A worker behind a real broker, with the port of its gateway and that of the broker."""
    port = free_port()
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port, jt808_port=port) as process:
        yield process.start(), port, broker.port


@pytest.mark.slow
def test_a_terminal_known_by_an_alias_is_the_device_in_the_store(installation: tuple[IngestProcess, int, int]) -> None:
    process, port, _ = installation
    url, truck = f"sqlite:///{process.folder / 'quayflow.db'}", f"{SITE}/vehicle/T-07"
    registry, records = open_registry(url, read_only=False), open_records(url)
    for entry in (CLOSED, RegisteredDevice(uid=truck), Alias(scheme="jt808", foreign=PHONE, device=truck)):
        registry.put(entry, actor="cli:test", now_ns=1)
    wait_until(lambda: process.said("the registry has revision 3") == 1, "ingest reads the registry")

    async def report() -> None:
        one = Terminal(*await asyncio.open_connection("127.0.0.1", port), PHONE)
        registered = await one.ask(REGISTER, bodies.registration("浙B12345"))
        assert (await one.ask(AUTHENTICATE, registered.body[3:])).body[4] == bodies.ACCEPTED
        body = bodies.location(time.time_ns(), 29.93, 121.85, laden=True)
        assert (await one.ask(LOCATION, body)).body[4] == bodies.ACCEPTED

    run(report())
    wait_until(lambda: any(row.account == "windowed" for row in records.ledger()), "it is in the store")
    assert {(row.uid, row.account): row.frames for row in records.ledger() if row.frames} == {
        (truck, "received"): 3,
        (truck, "windowed"): 3,
    }
    registry.close()
    records.close()


@pytest.mark.slow
def test_a_command_to_a_terminal_on_the_gateway_is_refused_and_not_left_without_an_answer(
    installation: tuple[IngestProcess, int, int],
) -> None:
    process, port, broker_port = installation
    registry = open_registry(f"sqlite:///{process.folder / 'quayflow.db'}", read_only=False)
    commander = Commander(BrokerAddress(host="127.0.0.1", port=broker_port), registry, time.time_ns)
    truck = DeviceKey(SITE, DeviceClass.VEHICLE, PHONE.lstrip("0"))

    async def command() -> tuple[list[Sent], Sent]:
        one = Terminal(*await asyncio.open_connection("127.0.0.1", port), PHONE)
        registered = await one.ask(REGISTER, bodies.registration("浙B12345"))
        assert (await one.ask(AUTHENTICATE, registered.body[3:])).body[4] == bodies.ACCEPTED
        other = truck._replace(device="13900000000")
        # Within the second in which answers are gathered.
        three = (commander.send(truck, "stop", {}, wait_s=5.0, actor="cli:test") for _ in range(3))
        refused = await asyncio.gather(*three)
        return refused, await commander.send(other, "stop", {}, wait_s=1.5, actor="cli:test")

    async def play() -> None:
        refused, unanswered = await command()
        why = "it speaks jt808 over the gateway, which passes no commands on; nothing was done"
        assert [(each.outcome, each.detail) for each in refused] == 3 * [(Outcome.REFUSED, why)]
        assert unanswered.outcome is Outcome.UNANSWERED

    run(play())
    registry.close()


@pytest.mark.slow
def test_a_terminals_positions_come_out_of_the_api(installation: tuple[IngestProcess, int, int]) -> None:
    process, port, broker_port = installation
    start = time.time_ns() // NS * NS - 60 * NS
    where = [bodies.location(start + nth * NS, 29.93, 121.85 + nth / 1_000, laden=True) for nth in range(5)]
    late = bodies.batch([bodies.location(start - 3_600 * NS + nth * NS, 29.9, 121.0) for nth in range(3)], late=True)

    async def report() -> None:
        one = Terminal(*await asyncio.open_connection("127.0.0.1", port), PHONE)
        registered = await one.ask(REGISTER, bodies.registration("浙B12345"))
        assert registered.kind == REGISTER_REPLY
        assert (await one.ask(AUTHENTICATE, registered.body[3:])).body[4] == bodies.ACCEPTED
        for each in where[:3]:
            assert (await one.ask(LOCATION, each)).body[4] == bodies.ACCEPTED
        # The worker dies at once after its reply: what it had answered is there afterwards, and the code still holds.
        process.kill()
        await one.closed()
        process.start()
        again = Terminal(*await asyncio.open_connection("127.0.0.1", port), PHONE)
        await again.ask(AUTHENTICATE, registered.body[3:])
        again.serial += 3  # that never come
        for kind, body in ((LOCATION, where[2]), (LOCATION, where[3]), (LOCATION, where[4]), (BATCH, late)):
            assert (await again.ask(kind, body)).body[4] == bodies.ACCEPTED

    run(report())
    database = f"sqlite:///{process.folder / 'quayflow.db'}"
    frames = list(read(process.folder / "journal"))
    assert len(frames) == 10
    config = ApiConfig(windows_url=database, records_url=database, broker_host="127.0.0.1", broker_port=broker_port)
    with served(create_app(config, clock=Clock(time.time_ns()))) as url, httpx.Client(base_url=url) as client:
        uid = f"{SITE}/vehicle/{PHONE}"

        def ledger() -> dict[str, dict[str, int]]:
            items = client.get("/v1/ledger").json()["items"]
            return next((item for item in items if item["uid"] == uid), {"frames": {}})

        wait_until(lambda: ledger()["frames"].get("received") == 10, "the ledger has every frame", 20)
        assert client.get("/v1/ledger").json()["balanced"]
        found = ledger()
        # The third location came twice: before the end and after it.
        assert (found["frames"]["duplicate"], found["frames"]["quarantined"]) == (1, 0)
        assert found["flags"] == {"historical": 3}
        # What the serials leave out, of which only the second connection left out any.
        assert found["frames"]["lost_before_journal"] == 3
        [device] = client.get("/v1/devices", params={"class": "vehicle"}).json()["items"]
        assert device["info"]["plate"] == "浙B12345"
        assert device["latest"]["longitude_deg"]["value"] == pytest.approx(121.854)
        assert device["latest"]["laden"]["value"] == 1
        wanted = {"metric": "longitude_deg", "step": "10s", "start": format_rfc3339(start - 7_200 * NS)}
        series = client.get(f"/v1/devices/{PHONE}/telemetry", params=wanted).json()
        assert series["summary"]["count"] == 8
        assert series["summary"]["sum"] == pytest.approx(5 * 121.852 + 3 * 121.0)
        assert series["points"][0]["max"] == 121.0
        assert series["points"][-1]["last"] == pytest.approx(121.854)
        metrics = client.get("/metrics").text
        assert 'quayflow_ingest_gateway_frames_total{worker="ingest-1"}' in metrics

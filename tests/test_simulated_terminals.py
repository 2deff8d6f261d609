"""Simulated JT/T 808 terminals over TCP: each location reaches the gateway, through gaps, refusals and lost replies."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from made_port import Clock, served

from api.app import create_app
from api.config import ApiConfig
from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808 import Jt808
from devices.codecs.jt808_frames import AUTHENTICATE, BATCH, HEARTBEAT, LOCATION, REGISTER, frame_of, open_frame
from devices.times import NS, format_rfc3339
from engines.mosquitto import running_mosquitto
from engines.ports import free_port, wait_until
from faults.ingest_process import IngestProcess
from ingest import packets
from ingest.gateway import Gateway, GatewayConfig
from simulators import fleet, profiles, terminals
from simulators.accounts import Account, Lag
from simulators.broker import Broker
from simulators.fleet import FleetConfig
from simulators.messages import Message, PortMessages
from simulators.scenarios import changed
from simulators.terminals import Terminals, Vehicle

SITE = "CNNGB-DEMO"
PHONES = ("13957400000", "13957400001")
NOW = 1_795_420_800 * NS


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

    def kinds(self, phone: str) -> list[int]:
        return [open_frame(one.payload).kind for one in self.taken if one.topic.split("/")[3] == phone]

    def seconds(self, phone: str) -> list[int]:
        codec, found = Jt808(), []
        for one in self.taken:
            if one.topic.split("/")[3] == phone:
                found += [reading.ts for reading in codec.decode(one.payload) if reading.ts is not None]
        return [(ts - NOW) // NS for ts in found]


@asynccontextmanager
async def gateway_at(port: int, disk: Disk, key: bytes = b"k" * 32) -> AsyncIterator[Gateway]:
    stop = asyncio.Event()
    gateway = Gateway(GatewayConfig(SITE, jt808_port=port, gather_s=0.001), key, disk.take, lambda: NOW)
    await gateway.listen()
    task = asyncio.create_task(gateway.run(stop))
    try:
        yield gateway
    finally:
        disk.free.set()
        stop.set()
        await task


def made(port: int) -> Terminals:
    vehicles = {3 + nth: Vehicle(phone, f"浙B1234{nth}") for nth, phone in enumerate(PHONES)}
    return Terminals(("127.0.0.1", port), vehicles, [Account() for _ in range(5)], Lag(), lambda: NOW)


def located(second: int, device: int = 3, payload: bytes | None = None) -> Message:
    frame = frame_of(LOCATION, PHONES[device - 3], second, bodies.location(NOW + second * NS, 29.93, 121.85))
    return Message(
        NOW, device, second, f"port/{SITE}/vehicle/{PHONES[device - 3]}/jt808", payload or frame, retain=False
    )


async def until(terminals_: Terminals, count: str, least: int) -> None:
    async with asyncio.timeout(20):
        while terminals_.counts[count] < least:  # noqa: ASYNC110 - what is waited for tells nobody of it
            await asyncio.sleep(0.005)


def test_a_terminal_registers_authenticates_and_reports_in_order() -> None:
    async def test() -> tuple[Disk, Terminals]:
        disk, port = Disk(), free_port()
        async with gateway_at(port, disk), made(port) as found:
            await until(found, "registrations", 2)
            for second in range(5):
                found.offer(located(second))
                assert await found.drain(10)
            found.offer(located(9, device=4))
            assert await found.drain(10)
            assert found.summary()["connected"] == 2
        return disk, found

    disk, found = asyncio.run(test())
    assert disk.kinds(PHONES[0]) == [REGISTER, AUTHENTICATE, *[LOCATION] * 5]
    assert disk.seconds(PHONES[0]) == [0, 1, 2, 3, 4]
    assert disk.seconds(PHONES[1]) == [9]
    assert found.accounts[3] == Account(5, 5, 0, 4)
    assert found.accounts[4] == Account(1, 1, 9, 9)
    serials = [open_frame(one.payload).serial for one in disk.taken if one.topic.split("/")[3] == PHONES[0]]
    assert serials == list(range(7))
    assert found.counts["connections"] == 2
    assert not found.counts["refused"]


def test_what_was_kept_in_a_gap_is_told_in_batches_and_a_code_that_holds_no_more_is_asked_for_anew() -> None:
    async def test() -> tuple[Disk, Terminals]:
        disk, port = Disk(), free_port()
        async with made(port) as found:
            async with gateway_at(port, disk):
                found.offer(located(0))
                assert await found.drain(10)
            for second in range(1, 61):
                found.offer(located(second))
            assert not await found.drain(0.2)
            async with gateway_at(port, disk, b"another key"):
                assert await found.drain(20)
        return disk, found

    disk, found = asyncio.run(test())
    assert disk.seconds(PHONES[0]) == list(range(61))
    assert disk.kinds(PHONES[0]) == [REGISTER, AUTHENTICATE, LOCATION, REGISTER, AUTHENTICATE, BATCH, BATCH, BATCH]
    assert found.accounts[3] == Account(61, 61, 0, 60)
    assert (found.counts["batches"], found.counts["backfilled"]) == (3, 60)
    assert found.counts["refused"] >= 1
    late = [reading for one in disk.taken[-1:] for reading in Jt808().decode(one.payload)]
    assert {reading.flags for reading in late} == {("historical",)}


def test_a_reply_that_does_not_come_makes_the_terminal_tell_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "REPLY_S", 0.3)

    async def test() -> tuple[Disk, Terminals]:
        disk, port = Disk(), free_port()
        async with gateway_at(port, disk), made(port) as found:
            found.offer(located(0))
            assert await found.drain(10)
            disk.free.clear()
            found.offer(located(1))
            await until(found, "connections", 4)
            assert found.outstanding == 1
            disk.free.set()
            assert await found.drain(20)
        return disk, found

    disk, found = asyncio.run(test())
    assert set(disk.seconds(PHONES[0])) == {0, 1}
    assert found.accounts[3] == Account(2, 2, 0, 1)


def test_a_silent_terminal_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "HEARTBEAT_S", 0.05)

    async def test() -> Disk:
        disk, port = Disk(), free_port()
        async with gateway_at(port, disk), made(port) as found, asyncio.timeout(20):
            await until(found, "registrations", 2)
            while disk.kinds(PHONES[0]).count(HEARTBEAT) < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        return disk

    assert asyncio.run(test()).kinds(PHONES[0])[2:4] == [HEARTBEAT, HEARTBEAT]


def test_a_damaged_frame_leaves_as_it_is_and_is_counted() -> None:
    async def test() -> tuple[Disk, Terminals]:
        disk, port = Disk(), free_port()
        damaged = located(1).payload[:-4] + b"\x01\x02\x03\x7e"
        async with gateway_at(port, disk), made(port) as found:
            for message in (located(0), located(1, payload=damaged), located(2)):
                await until(found, "registrations", 2)
                found.offer(message)
                assert await found.drain(10)
        return disk, found

    disk, found = asyncio.run(test())
    assert len(disk.kinds(PHONES[0])) == 5
    assert found.counts["damaged"] == 1
    assert (found.accounts[3].sent, found.accounts[3].acked) == (3, 2)


@pytest.mark.parametrize("jt808", ["127.0.0.1", "127.0.0.1:0", ":6808", "host:port"])
def test_an_address_that_is_none_is_refused_by_name(jt808: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        FleetConfig(jt808=jt808)


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[tuple[IngestProcess, int, int]]:
    """A worker behind a real broker, with the port of its gateway and that of the broker."""
    port = free_port()
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port, jt808_port=port) as process:
        yield process.start(), port, broker.port


def expected(config: FleetConfig, virtual_s: float) -> Counter[str]:
    """Return how many locations each terminal reports."""
    profile = changed(profiles.load(config.profile), {"wire": fleet.TERMINALS})
    assert config.start_ns is not None
    source = PortMessages(profile, config.seed, config.site, config.start_ns)
    sent = source.advance(round(virtual_s * NS))
    return Counter(one.topic.split("/")[3] for one in sent if one.topic.endswith("/jt808"))


@pytest.mark.slow
def test_terminals_positions_come_out_of_the_api_and_none_is_lost(
    installation: tuple[IngestProcess, int, int],
) -> None:
    process, port, broker_port = installation
    start = time.time_ns() // NS * NS - 600 * NS
    config = FleetConfig(
        Broker(port=broker_port), site=SITE, speed=10.0, duration_s=9.0, jt808=f"127.0.0.1:{port}", start_ns=start
    )

    async def scenario() -> dict[str, object]:
        running = asyncio.create_task(fleet.run(config))
        await asyncio.sleep(3.0)
        # The worker dies, and with it every connection; what is reported meanwhile is kept.
        await asyncio.to_thread(process.kill)
        await asyncio.sleep(1.5)
        # From this thread: it ends with the one that starts it.
        process.start(connected=False)
        return await running

    summary = asyncio.run(scenario())
    wanted = expected(config, 90.0)
    told: Mapping[str, int] = summary["terminals"]  # type: ignore[assignment]
    assert summary["outstanding"] == 0
    assert len(wanted) == told["connected"] == 40
    assert told["registrations"] == 40
    assert told["connections"] >= 80
    assert told["backfilled"] > 40
    database = f"sqlite:///{process.folder / 'quayflow.db'}"
    api = ApiConfig(windows_url=database, records_url=database, broker_host="127.0.0.1", broker_port=broker_port)
    with served(create_app(api, clock=Clock(time.time_ns()))) as url, httpx.Client(base_url=url) as client:
        span = {"metric": "longitude_deg", "step": "10s", "start": format_rfc3339(start - 60 * NS)}

        def positions() -> dict[str, int]:
            found = {}
            for phone in wanted:
                answer = client.get(f"/v1/devices/{phone}/telemetry", params=span)
                found[phone] = answer.json()["summary"]["count"] if answer.is_success else 0
            return found

        wait_until(lambda: positions() == wanted, "every position is in the API, once", 30)
        ledger = client.get("/v1/ledger", params={"limit": 500}).json()
        assert ledger["balanced"]
        items: Sequence[dict[str, dict[str, int]]] = [one for one in ledger["items"] if "/vehicle/1395" in one["uid"]]
        assert len(items) == 40
        for item in items:
            assert item["frames"].get("lost_before_journal", 0) == item["frames"].get("quarantined", 0) == 0
        assert sum(item["flags"].get("historical", 0) for item in items) >= told["backfilled"]

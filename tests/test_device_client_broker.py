"""Device clients on a real Mosquitto with its default persistence, which forgets what it has acknowledged."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from devices import commands
from devices.client import AsyncClient, Client, ClientConfig
from devices.codecs import native
from devices.topics import Stream, parse, topic_of
from devices.vocabulary import DeviceClass
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import wait_until
from engines.subscriber import eventually, received
from faults.ingest_process import IngestProcess
from store.journal import read
from store.open import open_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SITE = "CNNGB-DEMO"
KILLS = 3
DECODERS: dict[Stream, Callable[[bytes], native.Telemetry | native.Event]] = {
    Stream.TELEMETRY: native.decode_telemetry,
    Stream.EVENT: native.decode_event,
}


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True) as running:
        yield running


@pytest.fixture
def ingest(broker: Mosquitto, tmp_path: Path) -> Iterator[IngestProcess]:
    with IngestProcess(tmp_path / "data", broker.port) as process:
        process.start()
        yield process


def config(broker: Mosquitto, folder: Path, device: str = "QC09", **settings: Any) -> ClientConfig:
    given: dict[str, Any] = {"device_class": DeviceClass.QUAY_CRANE, "port": broker.port, "resend_s": 1.0}
    return ClientConfig(site=SITE, device=device, folder=folder / device, **(given | settings))


def journalled(ingest: IngestProcess) -> set[tuple[str, int, int]]:
    """Device, boot and sequence of every numbered message in the journal."""
    keys = set()
    for frame in read(ingest.folder / "journal"):
        key, stream = parse(frame.topic)
        decode = DECODERS.get(stream)
        if decode is not None:
            found = decode(frame.payload)
            assert found.boot is not None
            assert found.seq is not None
            keys.add((key.device, found.boot, found.seq))
    return keys


def received_of(ingest: IngestProcess) -> dict[str, tuple[int, int, int]]:
    """Device → samples of its metric windowed, frames received, frames lost before the journal."""
    with closing(open_records(f"sqlite:///{ingest.folder}/quayflow.db")) as records:
        found: dict[str, dict[str, int]] = {}
        for row in records.ledger():
            found.setdefault(row.uid.rpartition("/")[2], {})[row.account] = row.frames
    return {
        device: (
            accounts["windowed"] + accounts["merged_late"],
            accounts["received"],
            accounts["lost_before_journal"],
        )
        for device, accounts in found.items()
    }


def test_a_killed_broker_loses_nothing_that_it_had_acknowledged(
    broker: Mosquitto, ingest: IngestProcess, tmp_path: Path
) -> None:
    ending = threading.Event()
    clients: dict[str, Client] = {}

    def load(device: str) -> set[tuple[str, int, int]]:
        mine: set[tuple[str, int, int]] = set()
        with Client(config(broker, tmp_path, device)) as client:
            clients[device] = client
            while not ending.is_set():
                seq = client.publish({"load_t": len(mine) % 60})
                mine.add((device, client.boot, seq))
                time.sleep(0.002)
            assert client.flush(30), f"{client.waiting} messages of {device} wait"
            assert client.dropped == 0
        return mine

    def all_connected(before: int) -> bool:
        return len(clients) == 3 and all(client.connects > before for client in clients.values())

    with ThreadPoolExecutor() as pool:
        loads = [pool.submit(load, f"QC{number}") for number in range(3)]
        for kill in range(KILLS + 1):
            wait_until(partial(all_connected, kill), "every client connects")
            time.sleep(0.7)
            if kill < KILLS:
                broker.restart(kill=True)
        ending.set()
        published = [each.result(60) for each in loads]
    assert ingest.terminate() == 0, ingest.words()
    sent = set().union(*published)
    assert len(sent) > 1_000
    assert sent - journalled(ingest) == set()
    accounts = received_of(ingest)
    for mine in published:
        windowed, _, lost = accounts[next(iter(mine))[0]]
        # The statuses at connect carry no number: each makes a sample of its own.
        assert windowed >= len(mine)
        assert lost == 0


def test_messages_published_while_nobody_listens_arrive_when_ingest_is_there(broker: Mosquitto, tmp_path: Path) -> None:
    with Client(config(broker, tmp_path)) as client:
        for number in range(50):
            client.publish({"load_t": number})
        wait_until(lambda: client.connected, "the client connects")
        time.sleep(0.5)
        # The broker has acknowledged all of them and kept none: nobody has subscribed yet.
        assert client.waiting == 50
        with IngestProcess(tmp_path / "data", broker.port) as ingest:
            ingest.start()
            assert client.flush(20)
            assert client.resent >= 50
            assert ingest.terminate() == 0
            assert received_of(ingest)["QC09"][2] == 0


def test_what_was_published_before_a_crash_is_sent_by_the_next_start(broker: Mosquitto, tmp_path: Path) -> None:
    nowhere = config(broker, tmp_path, port=1)
    with Client(nowhere) as first:
        for number in range(20):
            first.publish({"load_t": number})
        assert not first.connected
    with IngestProcess(tmp_path / "data", broker.port) as ingest:
        ingest.start()
        with Client(config(broker, tmp_path)) as second:
            second.publish({"load_t": 20})
            assert second.flush(20)
        assert ingest.terminate() == 0
        assert len(journalled(ingest)) == 21


def test_the_asyncio_client_survives_the_same_kill(broker: Mosquitto, ingest: IngestProcess, tmp_path: Path) -> None:
    async def publish() -> int:
        async with AsyncClient(config(broker, tmp_path, "T-07", device_class=DeviceClass.VEHICLE)) as truck:
            for number in range(400):
                await truck.publish({"speed_mps": number % 20})
                if number == 200:
                    await asyncio.to_thread(broker.restart, kill=True)
                await asyncio.sleep(0.002)
            await truck.event("door_open", {"side": "left"})
            assert await truck.flush(30), truck.waiting
            assert truck.connects >= 2
            return 401

    count = asyncio.run(publish())
    assert ingest.terminate() == 0, ingest.words()
    assert len(journalled(ingest)) == count
    assert received_of(ingest)["T-07"][2] == 0


@pytest.mark.parametrize("flavour", ["threads", "asyncio"])
def test_a_command_is_answered_and_the_last_will_tells_of_the_end(
    broker: Mosquitto, tmp_path: Path, flavour: str
) -> None:
    key = config(broker, tmp_path).key

    def act(command: commands.Command) -> dict[str, Any]:
        return {"doubled": float(command.args["n"] or 0) * 2}

    async def ask(statuses: list[aiomqtt.Message]) -> commands.CommandAnswer:
        await eventually(lambda: bool(statuses), "the device says that it is there")
        async with received(broker, topic_of(key, Stream.COMMAND_ACK)) as answers:
            payload = commands.encode(commands.Command(1, "c1", "double", {"n": 21}))
            async with aiomqtt.Client(broker.host, broker.port) as operator:
                for _ in range(20):
                    await operator.publish(topic_of(key, Stream.COMMAND), payload, qos=1)
                    await asyncio.sleep(0.1)
                    if answers:
                        break
            await eventually(lambda: bool(answers), "the device answers")
            return commands.decode_answer(bytes(answers[0].payload))

    async def play() -> tuple[commands.CommandAnswer, list[bool]]:
        async with received(broker, topic_of(key, Stream.STATUS)) as statuses:
            if flavour == "threads":
                with Client(config(broker, tmp_path), act):
                    answer = await ask(statuses)
            else:
                async with AsyncClient(config(broker, tmp_path), act):
                    answer = await ask(statuses)
            await eventually(lambda: len(statuses) == 2, "the device says goodbye")
            return answer, [native.decode_status(bytes(each.payload)).online for each in statuses]

    answer, online = asyncio.run(play())
    assert answer == commands.CommandAnswer(1, "c1", ok=True, data={"doubled": 42.0})
    assert online == [True, False]

"""What ingest tells through the broker: in time, whatever else there is to do."""

import asyncio
import random
import socket
from collections.abc import Iterator
from itertools import count
from typing import Self

import aiomqtt
import msgspec
import pytest
from made_records import event

import ingest.results
from devices.codecs.readings import Request
from engines.mosquitto import Mosquitto, running_mosquitto
from faults.simulation.clock import VirtualLoop
from ingest.results import BROKER_S, EVENTS_TOGETHER, LIVE_LEAST_S, STATUS_PERIOD_S, Live, Results
from ingest.session import SessionConfig

BUSY_S = 0.05
SECONDS = 10


class Client:
    """Stands in for a client whose every message waits for a loop that has much to do."""

    published: list[str]
    takes_s = BUSY_S

    def __init__(self, *_args: object, **_settings: object) -> None:
        """Take whatever a client is given."""

    async def __aenter__(self) -> Self:
        """Be connected."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Be gone."""

    async def publish(self, topic: str, _payload: bytes, **_options: object) -> None:
        """Take a message late."""
        await asyncio.sleep(self.takes_s)
        self.published.append(topic)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(random.Random(1))
    yield loop
    loop.close()


async def told_for_a_while(results: Results) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(results.run(stop))
    await asyncio.sleep(SECONDS)
    stop.set()
    await running


def test_no_live_value_waits_until_the_one_before_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    hurries: list[int] = []
    connected = asyncio.Event()

    class Watched(aiomqtt.Client):
        async def __aenter__(self) -> Self:
            await super().__aenter__()
            connection = self._client.socket()
            assert isinstance(connection, socket.socket)
            hurries.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            connected.set()
            return self

    monkeypatch.setattr(aiomqtt, "Client", Watched)

    async def scenario(broker: Mosquitto) -> None:
        config, stop = SessionConfig(host=broker.host, port=broker.port), asyncio.Event()
        running = asyncio.ensure_future(Results(config, "w1", live=dict, status=dict, now=lambda: 0).run(stop))
        async with asyncio.timeout(10):
            await connected.wait()
        stop.set()
        await running

    with running_mosquitto() as broker:
        asyncio.run(scenario(broker))
    assert hurries == [1]


def test_live_values_are_not_put_off_for_what_else_the_loop_has_to_do(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client.published = []
    monkeypatch.setattr(aiomqtt, "Client", Client)
    numbers = count()

    def live() -> Live:
        return {("S", device_class): {"D1": {"speed_mps": float(next(numbers))}} for device_class in ("a", "b", "c")}

    results = Results(SessionConfig(host="h", port=1), "w1", live=live, status=dict, now=loop.now_ns)

    async def scenario() -> None:
        stop = asyncio.Event()
        running = asyncio.ensure_future(results.run(stop))
        while loop.time() < SECONDS:
            results.changed.set()
            await asyncio.sleep(0.001)
        stop.set()
        await running

    loop.run_until_complete(scenario())
    looks = sum(topic.endswith("/a") for topic in Client.published)
    # The messages of a look wait together, and the next look comes soon after; a status a second waits by itself.
    assert looks >= SECONDS / (3 * BUSY_S)
    assert len(Client.published) == 3 * looks + sum("_workers" in topic for topic in Client.published)


def test_live_values_are_looked_at_right_behind_a_change_and_not_without_one(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client.published = []
    monkeypatch.setattr(aiomqtt, "Client", Client)
    monkeypatch.setattr(Client, "takes_s", 0.0)
    looked: list[float] = []

    def live() -> Live:
        looked.append(loop.time())
        return {}

    results = Results(SessionConfig(host="h", port=1), "w1", live=live, status=dict, now=loop.now_ns)

    async def scenario() -> float:
        stop = asyncio.Event()
        running = asyncio.ensure_future(results.run(stop))
        await asyncio.sleep(SECONDS + 0.5)
        results.changed.set()
        changed = loop.time()
        await asyncio.sleep(LIVE_LEAST_S / 2)
        stop.set()
        await running
        return changed

    changed = loop.run_until_complete(scenario())
    # The status wants a look every second.
    assert len(looked) <= SECONDS / STATUS_PERIOD_S + 2
    assert 0 <= looked[-1] - changed < LIVE_LEAST_S / 2


def test_an_end_does_not_wait_for_a_slow_broker_to_take_every_event(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client.published = []
    monkeypatch.setattr(aiomqtt, "Client", Client)
    monkeypatch.setattr(Client, "takes_s", 1.0)
    results = Results(SessionConfig(host="h", port=1), "w1", live=dict, status=dict, now=loop.now_ns)
    results.announce([event(number) for number in range(1_000)])

    async def scenario() -> float:
        stop = asyncio.Event()
        running = asyncio.ensure_future(results.run(stop))
        await asyncio.sleep(SECONDS)
        stop.set()
        told = loop.time()
        await running
        return loop.time() - told

    took = loop.run_until_complete(scenario())
    assert SECONDS < len(Client.published) / EVENTS_TOGETHER < SECONDS + BROKER_S + 4
    assert took < BROKER_S + 4


def test_events_that_the_broker_did_not_take_are_told_again_and_in_order(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Client):
        """Loses its connection at the fifth message, and then takes every one."""

        failures = [5]  # noqa: RUF012 - of all of them

        async def publish(self, topic: str, _payload: bytes, **_options: object) -> None:
            """Take a message, or fail."""
            self.failures[0] -= 1
            if self.failures[0] == 0:
                raise aiomqtt.MqttError("gone")
            if _options.get("qos"):
                told.append(msgspec.json.decode(_payload)["id"])
            await super().publish(topic, _payload)

    told: list[str] = []
    Failing.published = []
    monkeypatch.setattr(aiomqtt, "Client", Failing)
    results = Results(SessionConfig(host="h", port=1), "w1", live=dict, status=dict, now=loop.now_ns)
    events = [event(number) for number in range(3 * EVENTS_TOGETHER)]
    results.announce(events)

    loop.run_until_complete(told_for_a_while(results))
    ids = [each.id for each in events]
    assert told == [*ids[:4], *ids[5:EVENTS_TOGETHER], ids[4], *ids[EVENTS_TOGETHER:]]
    assert not results.events_dropped


def test_of_too_many_events_the_newest_are_told_and_the_others_counted(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client.published = []
    monkeypatch.setattr(aiomqtt, "Client", Client)
    monkeypatch.setattr(ingest.results, "MAX_EVENTS_WAITING", 5)
    results = Results(SessionConfig(host="h", port=1), "w1", live=dict, status=dict, now=loop.now_ns)
    results.announce([event(number) for number in range(3)])
    results.announce([event(number) for number in range(3, 9)])

    loop.run_until_complete(told_for_a_while(results))
    assert sum("/events/" in topic for topic in Client.published) == 5
    assert results.events_dropped == 4


def test_every_answer_is_given_also_several_on_one_topic(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(Client):
        """Loses its connection at the third message."""

        failures = [3]  # noqa: RUF012 - of all of them

        async def publish(self, topic: str, _payload: bytes, **_options: object) -> None:
            """Take a message, or fail."""
            self.failures[0] -= 1
            if self.failures[0] == 0:
                raise aiomqtt.MqttError("gone")
            await super().publish(topic, _payload)
            if topic == "ack":
                told.append(_payload)

    told: list[bytes] = []
    Losing.published = []
    monkeypatch.setattr(aiomqtt, "Client", Losing)
    monkeypatch.setattr(ingest.results, "MAX_ANSWERS_WAITING", 5)
    results = Results(SessionConfig(host="h", port=1), "w1", live=dict, status=dict, now=loop.now_ns)
    results.answer([Request("ack", bytes([number])) for number in range(4)])
    results.answer([Request("ack", bytes([number])) for number in range(4, 8)])

    loop.run_until_complete(told_for_a_while(results))
    # The newest of too many, the others counted.
    assert told == [bytes([number]) for number in range(3, 8)]
    assert results.answers_dropped == 3


def test_a_request_that_changes_while_it_is_told_is_told_again(
    loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asking(Client):
        """Is asked for something newer while it takes the first."""

        async def publish(self, topic: str, _payload: bytes, **_options: object) -> None:
            """Take a message."""
            if topic == "ask":
                told.append(_payload)
                if len(told) == 1:
                    results.request([Request("ask", b"newer")])
            await super().publish(topic, _payload)

    told: list[bytes] = []
    Asking.published = []
    monkeypatch.setattr(aiomqtt, "Client", Asking)
    results = Results(SessionConfig(host="h", port=1), "w1", live=dict, status=dict, now=loop.now_ns)
    results.request([Request("ask", b"older")])

    loop.run_until_complete(told_for_a_while(results))
    assert told == [b"older", b"newer"]

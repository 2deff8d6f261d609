"""Shared and disjoint subscriptions: on a real broker, and on one that grants what it does not serve."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sessions import config_of, numbers_of, publish_numbers, read_until

from devices.filters import fault_of, is_shared, plain
from engines.mosquitto import Mosquitto, running_mosquitto
from faults.scripted_broker import Wire, scripted_broker
from ingest.session import Message, Session, SessionConfig
from ingest.sharing import Sharing, probe, subscribed
from ingest.worker import IngestConfig, Worker

GROUP = ("$share/ingest/port/#",)


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto(persistence=True, max_inflight_messages=0) as running:
        yield running


async def read_between(sessions: list[Session], wanted: int) -> list[list[Message]]:
    """Read from all until ``wanted`` messages have come to them together."""
    stop = asyncio.Event()
    taken: list[list[Message]] = [[] for _ in sessions]

    async def read(nth: int) -> None:
        while not stop.is_set():
            batch = await sessions[nth].read(stop)
            sessions[nth].acknowledge(batch)
            taken[nth] += batch
            if sum(map(len, taken)) >= wanted:
                stop.set()

    async with asyncio.timeout(20):
        await asyncio.gather(*(read(nth) for nth in range(len(sessions))))
    return taken


SPLITS: dict[str, list[tuple[str, ...]]] = {
    "shared": [("$share/both/split/#",), ("$share/both/split/#",)],
    "disjoint": [("split/0/#", "split/1/#"), ("split/2/#",)],
}


@pytest.mark.parametrize("name", SPLITS)
def test_two_sessions_get_every_message_once_between_them(name: str, broker: Mosquitto) -> None:
    async def scenario() -> None:
        sessions = [
            await Session.open(config_of(broker.port, f"{name}-{nth}", filters=filters))
            for nth, filters in enumerate(SPLITS[name])
        ]
        for third in range(3):
            await publish_numbers(broker, range(third * 100, third * 100 + 100), f"split/{third}/x")
        taken = await read_between(sessions, 300)
        assert sorted(number for each in taken for number in numbers_of(each)) == list(range(300))
        assert all(taken)
        if name == "disjoint":
            assert sorted(numbers_of(taken[1])) == list(range(200, 300))
        for session in sessions:
            await session.close()

    asyncio.run(scenario())


def test_what_a_member_of_a_group_has_not_acknowledged_is_not_lost(broker: Mosquitto) -> None:
    async def scenario() -> None:
        config = config_of(broker.port, "member", filters=("$share/members/member/#",))
        first = await Session.open(config)
        await publish_numbers(broker, range(20), "member/1")
        taken = await read_until(first, 20)
        first.acknowledge(taken[:5])
        first.abort()
        second = await Session.open(config)
        assert second.session_present
        assert set(numbers_of(await read_until(second, 15))) >= set(range(5, 20))
        await second.close()

    asyncio.run(scenario())


def test_a_filter_given_up_delivers_no_more(broker: Mosquitto) -> None:
    async def scenario() -> None:
        await (await Session.open(config_of(broker.port, "changes", filters=("old/#",)))).close()
        changed = config_of(broker.port, "changes", filters=("new/#",), former_filters=("old/#",))
        session = await Session.open(changed)
        assert session.session_present
        # Its answer to UNSUBSCRIBE comes before anything published later.
        await publish_numbers(broker, [1], "old/1")
        await publish_numbers(broker, [2], "new/1")
        assert numbers_of(await read_until(session, 1)) == [2]
        await session.close()

    asyncio.run(scenario())


def test_mosquitto_is_found_to_deal_a_clients_messages_among_the_members(broker: Mosquitto) -> None:
    assert asyncio.run(probe(config_of(broker.port, filters=GROUP))) is Sharing.DEALT


class Groups:
    """A broker that serves groups: ``chosen`` gives the member that gets a topic's messages, of those there are."""

    def __init__(self, chosen: Callable[[str], int]) -> None:
        self._chosen = chosen
        self._members: list[tuple[Wire, list[str]]] = []

    async def __call__(self, wire: Wire) -> None:
        await wire.connected()
        while True:
            packet = await wire.packet()
            if isinstance(packet, mqtt5.SubscribePacket):
                self._members.append((wire, [each.pattern for each in packet.topic_filters]))
                granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE for _ in packet.topic_filters]
                wire.send(mqtt5.SubAckPacket(packet.packet_id, granted).write())
            if isinstance(packet, mqtt5.PublishPacket):
                plainly = [member for member, patterns in self._members if packet.topic in patterns]
                group = self._members[self._chosen(packet.topic) % len(self._members)][0]
                for member in plainly or [group]:
                    member.send(packet.write())


BY_CLIENT: dict[str, tuple[Callable[[str], int], Sharing]] = {
    "all of a client to the first": (lambda _: 0, Sharing.SHARED),
    "all of a client to the last": (lambda _: 1, Sharing.SHARED),
    "by the topic": (lambda topic: crc32(topic.encode()), Sharing.DEALT),
}


@pytest.mark.parametrize("name", BY_CLIENT)
def test_a_group_serves_where_one_member_gets_all_that_a_client_says(name: str) -> None:
    chosen, expected = BY_CLIENT[name]

    async def scenario() -> Sharing:
        async with scripted_broker(Groups(chosen)) as broker:
            return await probe(config_of(broker.port, filters=GROUP))

    assert asyncio.run(scenario()) is expected


def test_a_worker_subscribes_to_nothing_where_messages_are_dealt_and_says_what_to_do(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> dict[str, object]:
        store = f"sqlite:///{tmp_path / 'quayflow.db'}"
        session = config_of(broker.port, filters=GROUP)
        worker = Worker(IngestConfig(tmp_path / "data", store, store, session), "test")
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(20):
            while "Nothing is subscribed to" not in caplog.text and not running.done():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        await publish_numbers(broker, range(10))
        await asyncio.sleep(0.5)
        status = worker.status()
        stop.set()
        await running
        return status

    status = asyncio.run(scenario())
    assert (status["subscription"], status["frames"]) == (Sharing.DEALT, 0)
    assert status["broker"] != "connected"
    for words in ("topic_filters: $share/ingest/port/#", "port/SITE/#", "hash_clientid"):
        assert words in caplog.text


def test_without_a_group_nothing_is_asked_of_the_broker() -> None:
    assert asyncio.run(probe(SessionConfig(host="no-such-host.invalid"))) is Sharing.PLAIN


def test_an_access_list_that_keeps_the_canary_silent_proves_nothing(tmp_path: Path) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite port/#\n")
    rules.chmod(0o600)
    with running_mosquitto(acl_file=rules) as strict:
        found = asyncio.run(probe(config_of(strict.port, filters=GROUP), patience_s=0.3))
    assert found is Sharing.UNPROVEN


class Grants:
    """A broker that grants every subscription and delivers to those without a group only."""

    def __init__(self, *, admits: bool = False, refuses: bool = False) -> None:
        self._admits, self._refuses = admits, refuses
        self.subscribed: list[list[str]] = []

    async def __call__(self, wire: Wire) -> None:
        await wire.packet()
        wire.send(mqtt5.ConnAckPacket(shared_subscription_available=not self._admits).write())
        patterns: list[str] = []
        while True:
            packet = await wire.packet()
            if isinstance(packet, mqtt5.SubscribePacket):
                patterns = [each.pattern for each in packet.topic_filters]
                self.subscribed.append(patterns)
                granted = mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE
                refused = mqtt5.SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
                codes = [refused if self._refuses and is_shared(pattern) else granted for pattern in patterns]
                wire.send(mqtt5.SubAckPacket(packet.packet_id, codes).write())
            if isinstance(packet, mqtt5.PublishPacket) and packet.topic in patterns:
                wire.send(packet.write())


@pytest.mark.parametrize("how", [{}, {"admits": True}, {"refuses": True}])
def test_a_broker_that_does_not_serve_groups_is_found_out(how: dict[str, bool]) -> None:
    async def scenario() -> Sharing:
        async with scripted_broker(Grants(**how)) as broker:
            return await probe(config_of(broker.port, filters=GROUP), patience_s=0.2)

    assert asyncio.run(scenario()) is Sharing.FALLBACK


def test_a_worker_falls_back_says_so_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grants = Grants()

    async def scenario() -> dict[str, object]:
        async with scripted_broker(grants) as broker:
            store = f"sqlite:///{tmp_path / 'quayflow.db'}"
            session = config_of(broker.port, filters=(*GROUP, "park/#"))
            worker = Worker(IngestConfig(tmp_path / "data", store, store, session), "test")
            stop = asyncio.Event()
            running = asyncio.create_task(worker.run(stop))
            async with asyncio.timeout(20):
                while not worker.connected and not running.done():  # noqa: ASYNC110 - as any caller would
                    await asyncio.sleep(0.02)
            status = worker.status()
            stop.set()
            await running
        return status

    status = asyncio.run(scenario())
    assert status["subscription"] == Sharing.FALLBACK
    assert ["port/#", "park/#"] in grants.subscribed
    assert any("run one, or give each filters of its own" in record.message for record in caplog.records)


def test_filters_are_subscribed_to_once_without_their_groups() -> None:
    config = SessionConfig(filters=("$share/a/port/#", "$share/b/port/#", "park/#"))
    assert subscribed(config, Sharing.FALLBACK).filters == ("port/#", "park/#")
    assert subscribed(config, Sharing.UNPROVEN) is config


@pytest.mark.parametrize("pattern", ["port/#", "#", "+", "+/+/x", "port//x", "$share/g/#", "$share/g/port/+/x"])
def test_a_filter_that_brokers_take_is_taken(pattern: str) -> None:
    assert fault_of(pattern) == ""


@pytest.mark.parametrize(
    "pattern", ["", "#/x", "port/#x", "a+/b", "\0", "$share/", "$share/g", "$share//x", "$share/a+/x", "x" * 65_536]
)
def test_a_filter_that_no_broker_takes_is_refused(pattern: str) -> None:
    assert fault_of(pattern)


@given(st.text(alphabet="ab/+#", max_size=12), st.text(alphabet="xyz", min_size=1, max_size=3))
def test_a_group_changes_nothing_about_what_a_filter_matches(pattern: str, group: str) -> None:
    shared = f"$share/{group}/{pattern}"
    assert bool(fault_of(shared)) == bool(fault_of(pattern))
    assert plain(shared) == pattern == plain(pattern)

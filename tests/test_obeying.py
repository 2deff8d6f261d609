"""Commands to simulated devices: answered once, by name, with an effect."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from api.commands import BrokerAddress, ask
from devices.codecs.native import decode_status
from devices.commands import Command, CommandAnswer, decode_answer, encode
from devices.topics import DeviceKey, Stream, topic_of
from engines.mosquitto import Mosquitto, running_mosquitto
from simulators import profiles
from simulators.broker import Broker
from simulators.fleet import FleetConfig, run
from simulators.messages import FIXED_START_NS, NS, Message, PortMessages
from simulators.obeying import COMMANDS, Obeying, command_filters
from simulators.profiles import Profile
from simulators.scenarios import changed

SITE = "CNNGB-DEMO"
CRANE = DeviceKey(SITE, "quay-crane", "QC01")
TRUCK = DeviceKey(SITE, "vehicle", "TT01")
SENSOR = DeviceKey(SITE, "park-sensor", "PS01")


class Desk:
    """A small port that is told something, without a broker."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.source = PortMessages(profile or profiles.load("small"), 7, SITE, FIXED_START_NS)
        self.answers: list[Message] = []
        self.obeying = Obeying(self.source, lambda: FIXED_START_NS, self.answers.append)

    def tell(self, key: DeviceKey, name: str, *, command_id: str = "c-1", **args: Any) -> CommandAnswer:
        payload = encode(Command(v=1, id=command_id, name=name, args=args))
        self.obeying.heard(topic_of(key, Stream.COMMAND), payload, False)
        answer = self.answers[-1]
        assert answer.topic == topic_of(key, Stream.COMMAND_ACK)
        assert not answer.retain
        return decode_answer(answer.payload)

    def telemetry(self, key: DeviceKey, seconds: float) -> int:
        topic = topic_of(key, Stream.TELEMETRY)
        return sum(message.topic == topic for message in self.source.advance(round(seconds * NS)))


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.obeying.close()


def test_status_is_said_again_in_order_and_once(desk: Desk) -> None:
    desk.source.advance(NS)
    before = next(device.seq for device in desk.source.devices if device.key == CRANE)
    answer = desk.tell(CRANE, "status")
    assert answer.ok
    assert answer.data == {"online": True, "seq": before, "hz": 5.0}
    said = [message for message in desk.source.advance(NS) if message.topic == topic_of(CRANE, Stream.STATUS)]
    assert len(said) == 1
    assert said[0].retain
    assert said[0].seq == before
    found = decode_status(said[0].payload)
    assert (found.online, found.info["kind"]) == (True, "sts")
    assert not [message for message in desk.source.advance(NS) if message.topic == topic_of(CRANE, Stream.STATUS)]


@pytest.mark.parametrize(("key", "hertz"), [(CRANE, 2.0), (TRUCK, 4.0), (SENSOR, 1.0)])
def test_a_new_rate_counts_from_then_on_and_for_that_device_alone(desk: Desk, key: DeviceKey, hertz: float) -> None:
    other = DeviceKey(SITE, "quay-crane", "QC02")
    desk.source.advance(NS)
    assert desk.tell(key, "set_rate", hz=hertz) == CommandAnswer(v=1, id="c-1", ok=True, data={"hz": hertz})
    # A crane's slow signals go on at 1 Hz and travel with the others.
    counts = [desk.telemetry(key, 20.0)]
    assert abs(counts[0] - 20 * hertz) <= 2
    assert desk.telemetry(other, 20.0) == 100


def test_a_rate_can_be_changed_back(desk: Desk) -> None:
    desk.tell(CRANE, "set_rate", hz=0.1, command_id="c-1")
    desk.tell(CRANE, "set_rate", hz=5, command_id="c-2")
    assert desk.telemetry(CRANE, 10.0) == 50


def test_the_same_id_again_is_answered_and_not_done_again(desk: Desk) -> None:
    first = desk.tell(CRANE, "set_rate", hz=2)
    desk.tell(CRANE, "set_rate", hz=5, command_id="c-2")
    assert desk.tell(CRANE, "set_rate", hz=2) == first
    assert desk.telemetry(CRANE, 10.0) == 50
    assert not desk.tell(CRANE, "set_rate", hz=3).ok


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("fly", {}, f"UnknownCommandError: 'fly': this device knows {', '.join(COMMANDS)}"),
        ("set_rate", {}, "ArgumentError: hz: missing"),
        ("set_rate", {"hz": "5"}, "ArgumentError: hz: expected a number, got '5'"),
        ("set_rate", {"hz": True}, "ArgumentError: hz: expected a number, got True"),
        ("set_rate", {"hz": 0}, "ArgumentError: hz: 0 is outside 0.01 to 10"),
        ("set_rate", {"hz": 2, "herz": 2}, "ArgumentError: herz: not known; expected hz"),
        ("status", {"all": True}, "ArgumentError: all: not known; expected no argument"),
    ],
)
def test_what_cannot_be_is_refused_by_name(desk: Desk, name: str, args: dict[str, Any], said: str) -> None:
    answer = desk.tell(CRANE, name, **args)
    assert (answer.ok, answer.detail) == (False, said)
    assert desk.telemetry(CRANE, 10.0) == 50


def test_packed_signals_keep_their_rate() -> None:
    desk = Desk(changed(profiles.load("small"), {"wire": {"quay_crane": "packed", "quay_crane_hz": 50.0}}))
    answer = desk.tell(CRANE, "set_rate", hz=2)
    assert not answer.ok
    assert answer.detail.startswith("ArgumentError: hz: this device packs its signals")
    desk.obeying.close()


def test_nobody_answers_for_others(desk: Desk) -> None:
    payload = encode(Command(v=1, id="c-1", name="status"))
    stranger = DeviceKey(SITE, "vehicle", "SOMEBODY")
    for topic in (topic_of(stranger, Stream.COMMAND), topic_of(CRANE, Stream.TELEMETRY), "spBv1.0/quay/NCMD/QC01", "x"):
        desk.obeying.heard(topic, payload, False)
    desk.obeying.heard(topic_of(CRANE, Stream.COMMAND), b"status", False)
    assert desk.answers == []
    desk.obeying.heard(topic_of(CRANE, Stream.COMMAND), payload, True)
    assert "retained" in decode_answer(desk.answers[0].payload).detail


def test_terminals_of_a_gateway_are_answered_for_by_ingest() -> None:
    desk = Desk(changed(profiles.load("small"), {"wire": {"external": "jt808"}}))
    terminal = next(device.key for device in desk.source.devices if device.speaker is not None)
    payload = encode(Command(v=1, id="c-1", name="status"))
    desk.obeying.heard(topic_of(terminal, Stream.COMMAND), payload, False)
    assert desk.answers == []


def test_a_running_port_answers_over_the_broker() -> None:
    async def scenario(broker: Mosquitto) -> tuple[dict[str, Any], list[CommandAnswer | None]]:
        stop = asyncio.Event()
        config = FleetConfig(Broker(port=broker.port), site=SITE)
        playing = asyncio.create_task(run(config, stop=stop))
        address = BrokerAddress(host="127.0.0.1", port=broker.port)
        commands = [
            Command(v=1, id="c-1", name="set_rate", args={"hz": 2}),
            Command(v=1, id="c-2", name="fly"),
        ]
        heard = [await ask(address, CRANE, command, 20.0) for command in commands]
        stop.set()
        return await playing, [each.answer for each in heard]

    with running_mosquitto() as broker:
        summary, answers = asyncio.run(scenario(broker))
    assert answers[0] == CommandAnswer(v=1, id="c-1", ok=True, data={"hz": 2.0})
    assert answers[1] is not None
    assert "'fly'" in answers[1].detail
    assert summary["outstanding"] == 0
    assert summary["sent"] == summary["acked"]


def test_all_commands_of_a_site_are_subscribed_to() -> None:
    source = PortMessages(profiles.load("small"), 7, SITE, FIXED_START_NS)
    assert command_filters(source, SITE) == [f"port/{SITE}/+/+/cmd"]

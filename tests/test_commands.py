"""Commands to devices over a real Mosquitto with access control: sent by who may, done once, answered, and noted."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as mqtt
import pytest
from made_port import NOW, Client, MadePort, client_of, device
from paho.mqtt.enums import CallbackAPIVersion

from api.commands import MOST, BrokerAddress, Commander, CommandNotSentError, Outcome
from devices import commands
from devices.client import Client as DeviceClient
from devices.client import ClientConfig
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import wait_until
from quayflow.broker_access import SECRETS, BrokerAccess, password_credential
from store.access import API, SIMULATOR, username_of
from store.open import open_registry
from store.registry import SqlRegistry

pytestmark = pytest.mark.timeout(120)

SECRET = "a secret for commands"
BEARER = {"authorization": f"Bearer {SECRET}"}
QC01 = DeviceKey("CNNGB-DEMO", "quay-crane", "QC01")
T07 = DeviceKey("CNNGB-DEMO", "vehicle", "T-07")
PATH = "/v1/devices/QC01/commands"
USERS = {API: "", SIMULATOR: "", username_of(QC01): QC01.uid, username_of(T07): T07.uid}
PASSWORDS = {user: f"password of {user}" for user in USERS}
# Hashed once: argon2 is slow for a purpose.
CREDENTIALS = [password_credential(user, uid, PASSWORDS[user], NOW) for user, uid in USERS.items()]


@dataclass
class Yard:
    """A broker that keeps to the registry, the folder of an installation beside it, and what a crane is told."""

    broker: Mosquitto
    port: MadePort
    registry: SqlRegistry
    passwords: dict[str, str]
    folder: Path

    def address(self, username: str = API) -> BrokerAddress:
        return BrokerAddress(
            host=self.broker.host, port=self.broker.port, username=username, password=self.passwords[username]
        )

    def send(self, name: str, /, wait_s: float = 5, user: str = API, key: DeviceKey = QC01, **given: Any) -> Any:
        commander = Commander(self.address(user), self.registry, time.time_ns)
        args = given.pop("args", {})
        return asyncio.run(commander.send(key, name, args, wait_s=wait_s, actor="cli:test", **given))

    @contextmanager
    def crane(self, key: DeviceKey = QC01, slowly: threading.Event | None = None) -> Iterator[list[commands.Command]]:
        """Run a device with its own credentials; yields the commands that it has done.

        ``slowly``: is set when a command has begun, which then takes its time.
        """
        done: list[commands.Command] = []

        def act(command: commands.Command) -> dict[str, Any]:
            done.append(command)
            if slowly is not None:
                slowly.set()
                time.sleep(1)
            if command.name == "explode":
                raise RuntimeError("not today")
            return {"was_hz": 2}

        config = ClientConfig(
            site=key.site,
            device_class=DeviceClass(key.device_class),
            device=key.device,
            folder=self.folder / key.device,
            port=self.broker.port,
            username=username_of(key),
            password=self.passwords[username_of(key)],
        )
        with DeviceClient(config, act) as client:
            wait_until(lambda: client.connected, "the device is there")
            yield done

    def audit(self) -> list[tuple[str, str, str, str]]:
        rows = [(row.actor, row.action, row.subject, row.detail) for row in self.registry.audit()]
        return [row for row in reversed(rows) if row[1].startswith("command.")]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    folder = tmp_path / "data"
    folder.mkdir()
    port = MadePort(folder)
    port.commit(devices=[device(QC01.uid), device(T07.uid)])
    registry = open_registry(port.records_url, read_only=False)
    for credential in CREDENTIALS:
        registry.issue(credential, actor="cli:test")
    (folder / "mosquitto").mkdir()
    (folder / "mosquitto" / SECRETS).write_text(json.dumps({API: PASSWORDS[API]}))
    access = BrokerAccess(registry, folder / "mosquitto", None)
    access.refresh()
    files = {"password_file": access.files.passwords, "acl_file": access.files.rules}
    with running_mosquitto(allow_anonymous=False, **files) as broker:
        yield Yard(broker, port, registry, PASSWORDS, folder)
    registry.close()


@contextmanager
def api_of(yard: Yard) -> Iterator[Client]:
    settings = {
        "broker_host": yard.broker.host,
        "broker_port": yard.broker.port,
        "broker_username": API,
        "broker_password": yard.passwords[API],
        "change_secret": SECRET,
    }
    with client_of(yard.port, clock=time.time_ns, **settings) as client:  # type: ignore[arg-type]
        yield client


def test_a_command_is_done_answered_and_noted_before_and_after(yard: Yard) -> None:
    with yard.crane() as done:
        sent = yard.send("set_rate", args={"hz": 5.0})
    assert (sent.outcome, sent.data, sent.detail) == (Outcome.DONE, {"was_hz": 2.0}, "")
    assert [(each.id, each.name, each.args, each.expires) for each in done] == [
        (sent.id, "set_rate", {"hz": 5.0}, sent.expires)
    ]
    assert yard.audit() == [
        ("cli:test", "command.send", QC01.uid, f'{sent.id} set_rate {{"hz":5.0}}'),
        ("cli:test", "command.end", QC01.uid, f"{sent.id} set_rate done"),
    ]


def test_a_command_that_fails_is_refused_with_what_the_device_says(yard: Yard) -> None:
    with yard.crane():
        sent = yard.send("explode")
    assert (sent.outcome, sent.detail) == (Outcome.REFUSED, "RuntimeError: not today")


def test_the_same_id_again_is_done_once_and_answered_again_also_after_a_restart_of_the_device(yard: Yard) -> None:
    with yard.crane() as done:
        first = [yard.send("set_rate", command_id="c-1").outcome for _ in range(2)]
    with yard.crane() as later:
        again = yard.send("set_rate", command_id="c-1")
        other = yard.send("stop", command_id="c-1")
    assert (first, len(done), again.outcome, later) == ([Outcome.DONE] * 2, 1, Outcome.DONE, [])
    assert (other.outcome, other.detail) == (
        Outcome.REFUSED,
        "this id was that of another command; nothing was done",
    )


def test_a_command_for_who_is_not_there_ends_unanswered_and_is_not_done_later(yard: Yard) -> None:
    sent = yard.send("set_rate", wait_s=1)
    assert (sent.outcome, sent.answered) == (Outcome.UNANSWERED, None)
    assert "not known whether it was done" in sent.detail
    with yard.crane():
        pass
    assert "a device that says that it is not there" in yard.send("set_rate", wait_s=1).detail
    with yard.crane() as done:
        assert yard.send("ping").outcome is Outcome.DONE
    assert [each.name for each in done] == ["ping"]
    assert [row[3].split()[2] for row in yard.audit() if row[1] == "command.end"] == ["unanswered"] * 2 + ["done"]


def test_a_queued_command_is_dropped_by_the_broker_once_it_has_expired(yard: Yard) -> None:
    """A device with a session that outlives its connection, and with a clock that nobody can rely on."""
    who: dict[str, Any] = {"username": username_of(QC01), "password": yard.passwords[username_of(QC01)]}

    async def listen(seconds: float) -> list[bytes]:
        heard: list[bytes] = []
        client = aiomqtt.Client(yard.broker.host, yard.broker.port, identifier="persistent", clean_session=False, **who)
        async with client:
            await client.subscribe(topic_of(QC01, Stream.COMMAND), qos=1)
            try:
                async with asyncio.timeout(seconds):
                    async for message in client.messages:
                        heard.append(bytes(message.payload))  # noqa: PERF401 - until time is over
            except TimeoutError:
                pass
        return heard

    asyncio.run(listen(0.2))
    assert yard.send("early", wait_s=1).outcome is Outcome.UNANSWERED
    asyncio.run(asyncio.sleep(1.2))
    assert asyncio.run(listen(0.7)) == []


def test_nothing_is_retained(yard: Yard) -> None:
    yard.send("set_rate", wait_s=1)

    async def retained() -> list[str]:
        who: dict[str, Any] = {"username": SIMULATOR, "password": yard.passwords[SIMULATOR]}
        async with aiomqtt.Client(yard.broker.host, yard.broker.port, **who) as client:
            await client.subscribe("port/+/+/+/cmd", qos=1)
            try:
                async with asyncio.timeout(0.5):
                    async for message in client.messages:
                        return [str(message.topic)]
            except TimeoutError:
                pass
        return []

    assert asyncio.run(retained()) == []


def test_only_the_server_can_send_and_only_the_device_is_told_and_can_answer(yard: Yard) -> None:
    with yard.crane() as done, yard.crane(T07) as others:
        for user in (username_of(T07), username_of(QC01)):
            with pytest.raises(CommandNotSentError, match="Not authorized") as refused:
                yard.send("set_rate", user=user)
            assert refused.value.refused
        forged = commands.encode(commands.CommandAnswer(1, "c-9", ok=True, detail="forged"))

        async def forge() -> None:
            who: dict[str, Any] = {"username": username_of(T07), "password": yard.passwords[username_of(T07)]}
            async with aiomqtt.Client(yard.broker.host, yard.broker.port, **who) as client:
                for _ in range(10):
                    await client.publish(topic_of(QC01, Stream.COMMAND_ACK), forged, qos=1)
                    await asyncio.sleep(0.05)

        async def both() -> Any:
            commander = Commander(yard.address(), yard.registry, time.time_ns)
            forging = asyncio.create_task(forge())
            sent = await commander.send(QC01, "explode", {}, wait_s=5, actor="cli:test", command_id="c-9")
            await forging
            return sent

        sent = asyncio.run(both())
    assert (sent.outcome, sent.detail) == (Outcome.REFUSED, "RuntimeError: not today")
    assert ([each.id for each in done], others) == (["c-9"], [])


def test_a_broker_that_is_not_there_or_lets_us_not_in_is_said_at_once(yard: Yard) -> None:
    nowhere = BrokerAddress(host="127.0.0.1", port=1)
    stranger = BrokerAddress(host=yard.broker.host, port=yard.broker.port, username=API, password="wrong")
    for address, refused in ((nowhere, False), (stranger, True)):
        commander = Commander(address, yard.registry, time.time_ns)
        with pytest.raises(CommandNotSentError) as found:
            asyncio.run(commander.send(QC01, "stop", {}, wait_s=5, actor="cli:test"))
        assert found.value.refused is refused
    assert [row[3].split(maxsplit=2)[2][:9] for row in yard.audit() if row[1] == "command.end"] == ["not sent:"] * 2


def test_a_command_is_done_once_by_a_device_that_comes_while_it_waits_also_after_the_broker_was_killed(
    yard: Yard,
) -> None:
    async def play(*, kill: bool) -> Any:
        commander = Commander(yard.address(), yard.registry, time.time_ns)
        sending = asyncio.create_task(commander.send(QC01, "set_rate", {}, wait_s=15, actor="cli:test"))
        await asyncio.sleep(0.7)
        if kill:
            await asyncio.to_thread(yard.broker.restart, kill=True)
        with yard.crane() as done:
            return await sending, len(done)

    for kill in (False, True):
        sent, times = asyncio.run(play(kill=kill))
        assert (sent.outcome, times) == (Outcome.DONE, 1)


def test_an_answer_that_dies_with_the_broker_is_given_again_and_the_command_not_done_again(yard: Yard) -> None:
    begun = threading.Event()

    async def play() -> Any:
        commander = Commander(yard.address(), yard.registry, time.time_ns)
        sending = asyncio.create_task(commander.send(QC01, "lift", {}, wait_s=15, actor="cli:test"))
        await asyncio.to_thread(begun.wait, 5)
        await asyncio.to_thread(yard.broker.restart, kill=True)
        return await sending

    with yard.crane(slowly=begun) as done:
        sent = asyncio.run(play())
    assert (sent.outcome, len(done)) == (Outcome.DONE, 1)


# --- over HTTP ----------------------------------------------------------------------------------------------------


def post(client: Client, body: object, headers: dict[str, str] | None = None, path: str = PATH) -> Any:
    return client.request("POST", path, json=body, headers=BEARER if headers is None else headers)


@contextmanager
def overhearing(yard: Yard) -> Iterator[list[bytes]]:
    """Hear what is published for the crane, to the byte."""
    heard: list[bytes] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(username_of(QC01), yard.passwords[username_of(QC01)])
    client.on_message = lambda _client, _given, message: heard.append(bytes(message.payload))
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(yard.broker.host, yard.broker.port)
    client.loop_start()
    wait_until(client.is_connected, "who overhears is connected")
    client.subscribe(topic_of(QC01, Stream.COMMAND), qos=1)
    assert subscribed.wait(10)
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def typed(facts: Any) -> dict[str, tuple[str, Any]]:
    """The facts with their types, which Python does not look at when it compares."""
    return {name: (type(value).__name__, value) for name, value in facts.items()}


def test_a_whole_number_reaches_the_device_as_one_and_a_float_as_a_float(yard: Yard) -> None:
    body = '{"name":"set","args":{"hz":5,"slow":5.0,"part":2.5,"on":true,"long":9007199254740993},"id":"c-1"}'
    with yard.crane() as done, overhearing(yard) as heard, api_of(yard) as client:
        found = client.request("POST", PATH, content=body, headers=BEARER | {"content-type": "application/json"})
        assert found.status_code == 200, found.text
        wait_until(lambda: bool(heard), "the command is overheard")
    expected = {"hz": 5, "slow": 5.0, "part": 2.5, "on": True, "long": 2**53 + 1}
    assert b'"args":{"hz":5,"slow":5.0,"part":2.5,"on":true,"long":9007199254740993}' in heard[0]
    assert typed(done[0].args) == typed(found.json()["args"]) == typed(expected)
    assert typed(found.json()["data"]) == typed({"was_hz": 2})
    assert '{"hz":5,"slow":5.0,"part":2.5,"on":true,"long":9007199254740993}' in yard.audit()[0][3]


def test_the_endpoint_returns_the_acknowledgement_and_fits_its_description(yard: Yard) -> None:
    from jsonschema.validators import Draft202012Validator  # noqa: PLC0415

    with yard.crane() as done, api_of(yard) as client:
        found = post(client, {"name": "set_rate", "args": {"hz": 5, "mode": "fast"}, "timeout": "5s"})
        assert (found.status_code, found.json()["outcome"], found.json()["data"]) == (200, "done", {"was_hz": 2.0})
        refused = post(client, {"name": "explode"}).json()
        assert (refused["outcome"], refused["detail"]) == ("refused", "RuntimeError: not today")
        described = client.json("/openapi.json")
        operation = described["paths"]["/v1/devices/{id}/commands"]["post"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        for document in (
            found.json(),
            refused,
            operation["responses"]["200"]["content"]["application/json"]["example"],
        ):
            Draft202012Validator({**schema, "components": described["components"]}).validate(document)
        assert operation["security"] == [{"change_secret": []}]
    assert done[0].args == {"hz": 5.0, "mode": "fast"}
    assert {row[0] for row in yard.audit()} == {"api:127.0.0.1"}


def test_a_device_that_does_not_answer_is_a_problem_with_the_id_to_ask_again(yard: Yard) -> None:
    with api_of(yard) as client:
        found = post(client, {"name": "stop", "timeout": "1s"})
        assert (found.status_code, found.json()["type"]) == (504, "/problems/no-answer")
        with yard.crane() as done:
            again = post(client, {"name": "stop", "id": found.json()["id"]})
    assert (again.json()["outcome"], len(done)) == ("done", 1)


def test_who_has_no_secret_may_not_and_learns_nothing(yard: Yard) -> None:
    with yard.crane() as done, api_of(yard) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Digest {SECRET}"}):
            for body in ({"name": "stop"}, {"nothing": 1}):
                found = post(client, body, headers)
                assert (found.status_code, found.json()["type"]) == (401, "/problems/not-authorised")
                assert found.headers["www-authenticate"] == "Bearer"
    assert (done, yard.audit()) == ([], [])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 65}, "/name"),
        ({"name": "stop", "args": {"a": {"b": 1}}}, "/args/a"),
        ({"name": "stop", "args": {"a": 2**64}}, "/args/a"),
        ({"name": "stop", "args": {"b": 1, "a": -(2**63) - 1}}, "/args/a"),
        ({"name": "stop", "id": ""}, "/id"),
        ({"name": "stop", "timeout": "1h"}, "/timeout"),
        ({"name": "stop", "timeout": "soon"}, "/timeout"),
        ({"name": "stop", "qos": 2}, "/qos"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(tmp_path: Path, body: object, pointer: str) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(QC01.uid)])
    with client_of(port, change_secret=SECRET) as client:
        found = post(client, body)
        assert (found.status_code, found.json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_an_argument_that_is_no_finite_number_is_refused_by_its_name(word: str, tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(QC01.uid)])
    with client_of(port, change_secret=SECRET) as client:
        body = f'{{"name":"stop","args":{{"a":{word}}}}}'
        found = client.request("POST", PATH, content=body, headers=BEARER | {"content-type": "application/json"})
        assert (found.status_code, found.json()["errors"][0]["pointer"]) == (422, "/args/a")


def test_other_refusals_of_the_endpoint(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(QC01.uid)])
    with client_of(port) as closed:
        found = post(closed, {"name": "stop"})
        assert (found.status_code, found.json()["type"]) == (403, "/problems/changes-off")
    with client_of(port, change_secret=SECRET) as client:
        assert post(client, {"name": "stop"}, path="/v1/devices/QC77/commands").status_code == 404
        assert post(client, {"name": "stop"}).json()["type"] == "/problems/broker-unreachable"
        assert client.get(PATH).status_code == 404
        assert post(client, {"name": "stop"}, path=f"{PATH}?force=1").json()["type"] == "/problems/unknown-parameter"


def test_more_commands_than_may_wait_are_told_so(yard: Yard) -> None:
    async def play() -> int:
        commander = Commander(yard.address(), yard.registry, time.time_ns)
        each = [commander.send(QC01, "stop", {}, wait_s=1.5, actor="cli:test") for _ in range(MOST + 3)]
        found = await asyncio.gather(*each, return_exceptions=True)
        return sum(isinstance(answer, OverflowError) for answer in found)

    assert asyncio.run(play()) == 3


# --- on the command line ------------------------------------------------------------------------------------------


def quayflow(yard: Yard, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "quayflow", "device", "command", *arguments, "--data", str(yard.folder)],
        cwd=root,
        env=environment | {"QUAYFLOW_BROKER_PORT": str(yard.broker.port), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_command_line_prints_the_acknowledgement_and_says_by_its_status_how_it_went(yard: Yard, root: Path) -> None:
    with yard.crane() as done:
        given = ("--argument", "hz=5", "--argument", "slow=5.0", "--argument", "mode=fast", "--argument", "on=true")
        found = quayflow(yard, root, "QC01", "set_rate", *given, "--json")
        assert found.returncode == 0, found.stderr
        assert typed(json.loads(found.stdout)["data"]) == typed({"was_hz": 2})
        assert typed(done[0].args) == typed({"hz": 5, "slow": 5.0, "mode": "fast", "on": True})
        refused = quayflow(yard, root, "QC01", "explode")
        assert (refused.returncode, "RuntimeError: not today" in refused.stdout) == (1, True)
    silent = quayflow(yard, root, "QC01", "stop", "--timeout", "1s")
    assert (silent.returncode, "no answer within 1 s" in silent.stdout) == (1, True)
    for wrong, word in (
        (("QC01", "stop", "--argument", "5"), "--argument"),
        (("QC01", "stop", "--argument", f"n={2**64}"), "n: a whole number beyond 64 bits"),
        (("QC01", "stop", "--timeout", "1h"), "--timeout"),
        (("QC01", ""), "$.name"),
        (("QC77", "stop"), "QC77"),
    ):
        found = quayflow(yard, root, *wrong)
        assert (found.returncode, word in found.stderr) == (2, True), found.stderr
    yard.broker.stop()
    assert quayflow(yard, root, "QC01", "stop").returncode == 3

"""Brokers that ask who may do what: EMQX's and VerneMQ's own questions, and the answers that they expect."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_port import NOW, Client, Clock, MadePort, client_of

from api.config import ApiConfig
from devices.times import NS
from devices.topics import DeviceKey
from quayflow.broker_access import password_credential
from store.access import INGEST, username_of
from store.gatekeeper import AUDIT_ROWS, Gatekeeper
from store.interface import StoreUnreachableError
from store.open import open_registry
from store.registry import Credential, SqlRegistry
from store.registry_entries import Alias

SECRET = "a secret of the brokers"
QC01 = DeviceKey("CNNGB-DEMO", "quay-crane", "QC01")
T07 = DeviceKey("CNNGB-DEMO", "vehicle", "T-07")
USER, PASSWORD = username_of(QC01), "correct horse battery"
OWN = f"port/{QC01.uid}/telemetry"
OTHERS = f"port/{T07.uid}/telemetry"
BEARER = {"authorization": f"Bearer {SECRET}"}
BASIC = {"authorization": "Basic " + base64.b64encode(f"vernemq:{SECRET}".encode()).decode()}


# Hashed once: argon2 is slow for a purpose.
OF_QC01 = password_credential(USER, QC01.uid, PASSWORD, 1)
OF_INGEST = password_credential(INGEST, "", "another password", 1)
OF_T07 = Credential(username=username_of(T07), uid=T07.uid, kind="certificate", serial="1f", issued_ns=1)


@contextmanager
def made(folder: Path) -> Iterator[tuple[Client, SqlRegistry, Clock]]:
    """An API that answers brokers, its registry open for writing, and its clock."""
    port, clock = MadePort(folder), Clock()
    registry = open_registry(port.records_url, read_only=False)
    for credential in (OF_QC01, OF_INGEST, OF_T07):
        registry.issue(credential, actor="a")
    with client_of(port, clock, access_secret=SECRET) as client:
        yield client, registry, clock
    registry.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, SqlRegistry, Clock]]:
    """One for all tests that change nothing but the audit trail."""
    with made(tmp_path_factory.mktemp("broker")) as found:
        yield found


@pytest.fixture
def client(shared: tuple[Client, SqlRegistry, Clock]) -> Client:
    client, _, clock = shared
    clock.now_ns += 60 * NS  # the audit trail takes so many rows a minute
    return client


@pytest.fixture
def registry(shared: tuple[Client, SqlRegistry, Clock]) -> SqlRegistry:
    return shared[1]


def emqx(client: Client, what: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    """Ask as EMQX 5 does; what a client does not have is the empty string there."""
    answer = client.request("POST", f"/broker/emqx/{what}", json=body, headers=BEARER if headers is None else headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def verne(client: Client, hook: str, **body: Any) -> Any:
    """Ask as VerneMQ does; what a client does not have is null there."""
    whole = {"mountpoint": "", "client_id": "c1", **body} | ({"properties": {}} if hook.endswith("_m5") else {})
    answer = client.request("POST", "/broker/vernemq", json=whole, headers=BASIC | {"vernemq-hook": hook})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


DENIED = {"result": "deny"}
NOT_ALLOWED = {"result": {"error": "not_allowed"}}


def denials(registry: SqlRegistry, since: int = 0) -> list[tuple[str, str, str]]:
    """Actor, subject and detail of the denials in the audit trail with a cursor above ``since``, oldest first."""
    rows = [row for row in reversed(registry.audit(limit=1_000)) if row.cursor > since]
    return [(row.actor, row.subject, row.detail) for row in rows if row.action == "denied"]


def newest(registry: SqlRegistry) -> int:
    """Cursor of the newest row of the audit trail."""
    return registry.audit(limit=1)[0].cursor


def figure(client: Client, broker: str, question: str, answer: str) -> float:
    name = f'quayflow_broker_questions_total{{answer="{answer}",broker="{broker}",question="{question}"}} '
    found = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(found[0].removeprefix(name)) if found else 0.0


def test_emqx_lets_in_who_has_the_password_and_nobody_else(client: Client, registry: SqlRegistry) -> None:
    since = newest(registry)
    before = [figure(client, "emqx", "connect", answer) for answer in ("allowed", "denied")]
    for _ in range(2):  # argon2 decides the first time, what it has accepted the second
        right = emqx(client, "authentication", username=USER, password=PASSWORD, clientid="c1")
        assert right == {"result": "allow", "is_superuser": False}
    for username, password in (
        (USER, "wrong"),
        (USER, ""),
        ("nobody", PASSWORD),
        ("", ""),
        (username_of(T07), ""),
        (USER, "x" * 100_000),
    ):
        assert emqx(client, "authentication", username=username, password=password) == DENIED
    after = [figure(client, "emqx", "connect", answer) for answer in ("allowed", "denied")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 6]
    assert denials(registry, since)[:3] == [
        ("broker:emqx", USER, "connect: wrong password"),
        ("broker:emqx", USER, "connect: wrong password"),
        ("broker:emqx", "nobody", "connect: no such user with a password"),
    ]
    assert registry.audit_break() is None


@pytest.mark.parametrize(
    ("username", "action", "topic", "allowed"),
    [
        (USER, "publish", OWN, True),
        (USER, "publish", OTHERS, False),
        (USER, "subscribe", f"port/{QC01.uid}/cmd", True),
        (USER, "subscribe", OWN, False),
        (USER, "subscribe", "#", False),
        (USER, "subscribe", "$SYS/#", False),
        (username_of(T07), "publish", OTHERS, True),
        (INGEST, "subscribe", "$share/ingest/port/#", True),
        ("nobody", "publish", OWN, False),
        ("", "publish", OWN, False),
    ],
)
def test_both_brokers_are_told_what_the_table_says(
    client: Client, registry: SqlRegistry, username: str, action: str, topic: str, allowed: bool
) -> None:
    since = newest(registry)
    found = emqx(client, "authorization", username=username, action=action, topic=topic, qos="1", retain="false")
    assert found == ({"result": "allow"} if allowed else DENIED)
    for version in ("", "_m5"):
        given: dict[str, Any] = (
            {"topic": topic, "qos": 1, "payload": "aGVsbG8=", "retain": False}
            if action == "publish"
            else {"topics": [{"topic": topic, "qos": 1}]}
        )
        answer = verne(client, f"auth_on_{action}{version}", username=username or None, **given)
        assert answer == ({"result": "ok"} if allowed else NOT_ALLOWED)
    rows = [] if allowed else [("broker:emqx", username), *[("broker:vernemq", username)] * 2]
    assert [(actor, user) for actor, user, _ in denials(registry, since)] == rows
    assert all(detail == f"{action} to {topic}" for _, _, detail in denials(registry, since))


@pytest.mark.parametrize("version", ["", "_m5"])
def test_vernemq_lets_in_who_has_the_password(client: Client, registry: SqlRegistry, version: str) -> None:
    hook, since = f"auth_on_register{version}", newest(registry)
    others: dict[str, Any] = {"peer_addr": "127.0.0.1", "peer_port": 8888, "clean_session": False}
    assert verne(client, hook, username=USER, password=PASSWORD, **others) == {"result": "ok"}
    assert verne(client, hook, username=USER, password="wrong", **others) == NOT_ALLOWED
    assert verne(client, hook, username=None, password=None, **others) == NOT_ALLOWED
    assert len(denials(registry, since)) == 2


def test_a_subscription_to_several_topics_gets_those_that_are_allowed(client: Client, registry: SqlRegistry) -> None:
    own = {"topic": f"port/{QC01.uid}/cmd", "qos": 1, "no_local": True, "rap": False, "retain_handling": "dont_send"}
    topics = [own, {"topic": "#", "qos": 2}]
    since = newest(registry)
    old = verne(client, "auth_on_subscribe", username=USER, topics=topics)
    assert old == {"result": "ok", "topics": [own, {"topic": "#", "qos": 128}]}
    new = verne(client, "auth_on_subscribe_m5", username=USER, topics=topics)
    assert new == {"result": "ok", "modifiers": {"topics": [own, {"topic": "#", "qos": 135}]}}
    assert figure(client, "vernemq", "subscribe", "in_part") == 2
    nothing = verne(client, "auth_on_subscribe", username=USER, topics=[])
    assert nothing == NOT_ALLOWED
    assert denials(registry, since) == [("broker:vernemq", USER, "subscribe to #")] * 2


def test_only_a_right_to_publish_is_kept_by_vernemq(client: Client) -> None:

    def kept(hook: str, **body: Any) -> str:
        headers = BASIC | {"vernemq-hook": hook}
        answer = client.request("POST", "/broker/vernemq", json={"username": USER, **body}, headers=headers)
        return str(answer.headers["cache-control"])

    assert kept("auth_on_publish", topic=OWN) == "max-age=10"
    assert kept("auth_on_publish", topic=OTHERS) == "no-store"
    assert kept("auth_on_register", password=PASSWORD) == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"authorization": SECRET},
        {"authorization": f"Digest {SECRET}"},
        {"authorization": "Basic !!"},
        {"authorization": "Basic " + base64.b64encode(SECRET.encode()).decode()},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
        {"authorization": "Bearer \u00e9\u00e9"},
    ],
)
def test_without_the_secret_all_is_denied(client: Client, registry: SqlRegistry, headers: dict[str, str]) -> None:
    since, before = newest(registry), figure(client, "vernemq", "unknown", "wrong_secret")
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for path, denial in (
        ("/broker/emqx/authentication", DENIED),
        ("/broker/emqx/authorization", DENIED),
        ("/broker/vernemq", NOT_ALLOWED),
    ):
        body = {"username": USER, "password": PASSWORD, "topic": OWN, "action": "publish"}
        answer = client.request("POST", path, json=body, headers={"vernemq-hook": "auth_on_publish", **raw})
        assert (answer.status_code, answer.json()) == (200, denial)
    assert figure(client, "vernemq", "unknown", "wrong_secret") == before + 1
    # Who has no secret cannot fill the audit trail.
    assert denials(registry, since) == []


@pytest.mark.parametrize(
    ("path", "hook", "body"),
    [
        ("emqx/authentication", "", b"not json"),
        ("emqx/authentication", "", b"[]"),
        ("emqx/authentication", "", b'{"username":7}'),
        ("emqx/authentication", "", b'{"username":"a","password":"\xff"}'),
        ("emqx/authorization", "", b'{"username":"a"}'),
        ("emqx/authorization", "", b'{"username":"a","topic":"b","action":"own"}'),
        ("vernemq", "", b"{}"),
        ("vernemq", "on_publish", b"{}"),
        ("vernemq", "auth_on_publish", b"{}"),
        ("vernemq", "auth_on_subscribe", b'{"topics":[{"qos":1}]}'),
        ("vernemq", "auth_on_subscribe_m5", b'{"topics":[7]}'),
        ("vernemq", "auth_on_subscribe_m5", b'{"topics":' + b"[" * 10_000),
        ("vernemq", "auth_on_register_m5", b""),
    ],
)
def test_a_question_that_makes_no_sense_is_denied(client: Client, path: str, hook: str, body: bytes) -> None:
    before = figure(client, path.partition("/")[0], "unknown", "malformed")
    answer = client.request("POST", f"/broker/{path}", content=body, headers=BEARER | {"vernemq-hook": hook})
    denial = DENIED if path.startswith("emqx") else NOT_ALLOWED
    assert (answer.status_code, answer.json()) == (200, denial)
    assert figure(client, path.partition("/")[0], "unknown", "malformed") == before + 1


def test_a_message_of_many_bytes_may_come_along_with_its_question(client: Client) -> None:
    long = {"username": USER, "topic": OWN, "qos": 1, "retain": False, "payload": "a" * 900_000}
    assert verne(client, "auth_on_publish", **long) == {"result": "ok"}
    too_long = client.request("POST", "/broker/vernemq", json=long | {"payload": "a" * 1_100_000}, headers=BASIC)
    assert too_long.status_code == 413
    assert client.request("POST", "/v1/devices", content=b"x" * 100_000).status_code == 413


def test_what_is_removed_or_over_is_denied_at_once(tmp_path: Path) -> None:
    ends = Credential(
        username="ends", uid=T07.uid, kind="password", argon2=OF_QC01.argon2, issued_ns=1, expires_ns=NOW + NS
    )
    with made(tmp_path) as (client, registry, clock):
        registry.issue(ends, actor="a")

        def lets_in(username: str, password: str) -> bool:
            found = emqx(client, "authentication", username=username, password=password)
            return bool(found["result"] == "allow")

        assert lets_in("ends", PASSWORD)
        clock.now_ns += NS
        assert not lets_in("ends", PASSWORD)
        assert emqx(client, "authorization", username="ends", action="publish", topic=OTHERS) == DENIED
        assert lets_in(USER, PASSWORD)
        registry.issue(password_credential(USER, QC01.uid, "a new password", 2), actor="a")
        assert not lets_in(USER, PASSWORD)
        assert lets_in(USER, "a new password")
        registry.withdraw(USER, actor="a", now_ns=3)
        assert not lets_in(USER, "a new password")
        assert emqx(client, "authorization", username=USER, action="publish", topic=OWN) == DENIED


def test_without_the_setting_nobody_may_post(client: Client, tmp_path: Path) -> None:
    with client_of(MadePort(tmp_path)) as closed:
        asked = closed.request("POST", "/broker/emqx/authentication", json={}, headers=BEARER)
        assert (asked.status_code, asked.headers["allow"]) == (405, "GET, HEAD")
    answer = client.request("PUT", "/broker/vernemq")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.request("POST", "/v1/devices").headers["allow"] == "GET, HEAD"
    assert not [path for path in client.json("/openapi.json")["paths"] if path.startswith("/broker")]


def test_a_secret_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="access_secret has 5 characters; allowed: 16 and more") as refused:
        ApiConfig(windows_url="sqlite:///x", records_url="sqlite:///x", broker_host="h", access_secret="12345")
    assert "12345" not in str(refused.value)


def test_the_audit_trail_takes_so_many_denials_a_minute_and_the_number_of_the_rest(registry: SqlRegistry) -> None:
    now, since = [NOW], newest(registry)
    keeper = Gatekeeper(registry, registry, lambda: now[0])
    for number in range(AUDIT_ROWS + 25):
        assert keeper.permits(f"u{number}", "write", [OWN], "emqx") == [False]
    assert len(denials(registry, since)) == AUDIT_ROWS
    assert keeper.unkept == 25
    now[0] += 60 * NS
    keeper.permits("next", "write", [OWN], "emqx")
    further, last = denials(registry, since)[-2:]
    assert further == ("broker:emqx", "", "25 further denials")
    assert last == ("broker:emqx", "next", f"publish to {OWN}")


class Gone(SqlRegistry):
    """A registry whose database goes away."""

    def __init__(self, inner: SqlRegistry) -> None:
        self.inner = inner
        self.reads = True

    def credential(self, username: str) -> Credential | None:
        if not self.reads:
            raise StoreUnreachableError("away")
        return self.inner.credential(username)

    def aliases_of(self, uid: str) -> list[Alias]:
        return self.inner.aliases_of(uid)

    def note(self, rows: Any) -> None:
        raise StoreUnreachableError(f"away with {len(rows)} rows")


def test_a_store_that_is_away_denies(tmp_path: Path) -> None:
    with made(tmp_path) as (client, registry, _):
        gone = Gone(registry)
        keeper = Gatekeeper(gone, gone, lambda: NOW)
        assert keeper.permits(USER, "write", [OWN, OTHERS], "emqx") == [True, False]
        assert keeper.unkept == 1
        gone.reads = False
        wiring = client.app.state.wiring
        for answers_nothing in (keeper, object()):
            client.app.state.wiring = replace(wiring, gatekeeper=answers_nothing)
            assert emqx(client, "authorization", username=USER, action="publish", topic=OWN) == DENIED
        assert figure(client, "emqx", "unknown", "failed") == 2


def test_passwords_asked_by_several_threads_at_once_are_all_judged(registry: SqlRegistry) -> None:
    reader = Gatekeeper(registry, registry, lambda: NOW)
    found: list[tuple[bool, bool]] = []

    def ask(right: bool) -> None:
        found.append((right, reader.admits(USER, PASSWORD if right else "wrong", "emqx")))

    threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert all(right == admitted for right, admitted in found)

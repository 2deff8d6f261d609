"""Who may do what at the broker: the table, its files, and a real Mosquitto that keeps to them."""

import asyncio
import functools
import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from made_port import MadePort, client_of

from devices.codecs.registry import CODECS
from devices.filters import matches
from devices.times import NS
from devices.topics import DeviceKey
from engines.mosquitto import CONNECT, Mosquitto, running_mosquitto
from engines.ports import free_port, wait_until
from faults.ingest_process import IngestProcess
from quayflow.broker import Protection, configure
from quayflow.broker_access import BrokerAccess, part_passwords, password_credential
from quayflow.certificates import Authority, CertificateError
from store.access import API, INGEST, PARTS, SIMULATOR, access_list, may, password_file, rules_of, username_of
from store.open import open_records, open_registry
from store.passwords import argon2_hash, fits, mosquitto_hash, new_password
from store.registry import Credential, SqlRegistry
from store.registry_entries import Alias

QC01 = DeviceKey("CNNGB-DEMO", "quay-crane", "QC01")
T07 = DeviceKey("CNNGB-DEMO", "vehicle", "T-07")
NOW = 1_795_421_730 * NS


def topic(key: DeviceKey, stream: str) -> str:
    return f"port/{key.uid}/{stream}"


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "where", "allowed"),
    [
        ("write", topic(QC01, "telemetry"), True),
        ("write", topic(QC01, "event"), True),
        ("write", topic(QC01, "status"), True),
        ("write", topic(QC01, "cmd-ack"), True),
        ("write", topic(QC01, "cmd"), False),
        ("read", topic(QC01, "cmd"), True),
        ("read", topic(QC01, "telemetry"), False),
        ("read", "quayflow/CNNGB-DEMO/acks/quay-crane/QC01", True),
        ("write", "quayflow/CNNGB-DEMO/acks/quay-crane/QC01", False),
        ("write", topic(T07, "telemetry"), False),
        ("read", topic(T07, "cmd"), False),
        ("read", "port/CNNGB-DEMO/quay-crane/+/cmd", False),
        ("read", "#", False),
        ("read", "$SYS/#", False),
        ("read", "quayflow/#", False),
        ("write", "$CONTROL/dynamic-security/v1", False),
    ],
)
def test_a_device_may_do_its_own_and_nothing_else(action: Any, where: str, allowed: bool) -> None:
    assert may(username_of(QC01), QC01.uid, action, where) is allowed
    assert not may("nobody", "", action, where)


@pytest.mark.parametrize("codec", [name for name in CODECS if name != "native"])
def test_a_device_may_speak_every_format_under_its_own_name_and_no_other(codec: str) -> None:
    assert may(username_of(QC01), QC01.uid, "write", f"port/{QC01.uid}/{codec}")
    assert not may(username_of(QC01), QC01.uid, "write", f"port/{T07.uid}/{codec}")
    assert not may(username_of(QC01), QC01.uid, "read", f"port/{QC01.uid}/{codec}")


NODE = Alias(scheme="sparkplug", foreign="BLCT:PLC-1", device=QC01.uid)
PHONE = Alias(scheme="owntracks", foreign="li:phone", device=T07.uid)


@pytest.mark.parametrize(
    ("key", "alias", "action", "where", "allowed"),
    [
        (QC01, NODE, "write", "spBv1.0/BLCT/NBIRTH/PLC-1", True),
        (QC01, NODE, "write", "spBv1.0/BLCT/DDATA/PLC-1/hoist", True),
        (QC01, NODE, "read", "spBv1.0/BLCT/NCMD/PLC-1", True),
        (QC01, NODE, "read", "spBv1.0/STATE/+", True),
        (QC01, NODE, "write", "spBv1.0/BLCT/NDATA/PLC-2", False),
        (QC01, NODE, "write", "spBv1.0/BLCT/NCMD/PLC-1", False),
        (QC01, NODE, "write", "spBv1.0/OTHER/NDATA/PLC-1", False),
        (QC01, NODE, "read", "spBv1.0/#", False),
        (T07, PHONE, "write", "owntracks/li/phone", True),
        (T07, PHONE, "write", "owntracks/li/phone/event", True),
        (T07, PHONE, "read", "owntracks/li/phone/cmd", True),
        (T07, PHONE, "write", "owntracks/li/phone/cmd", False),
        (T07, PHONE, "write", "owntracks/wang/phone", False),
        (T07, NODE, "write", "owntracks/BLCT/PLC-1", False),
        (QC01, Alias(scheme="owntracks", foreign="+:#", device=QC01.uid), "write", "owntracks/li/phone", False),
        (QC01, Alias(scheme="sparkplug", foreign="a/b:+", device=QC01.uid), "write", "spBv1.0/a/b/NDATA/x", False),
    ],
)
def test_an_alias_gives_the_rights_of_who_speaks_under_it_and_no_others(
    key: DeviceKey, alias: Alias, action: Any, where: str, allowed: bool
) -> None:
    assert may(username_of(key), key.uid, action, where, [alias]) is allowed
    assert not may(username_of(key), key.uid, action, where)


def test_a_part_may_do_what_it_works_on() -> None:
    assert may(INGEST, "", "read", "port/#")
    assert may(INGEST, "", "read", "$share/ingest/port/#")
    assert may(API, "", "read", "quayflow/#")
    assert not may(API, "", "write", topic(QC01, "telemetry"))
    assert may(API, "", "write", topic(QC01, "cmd"))
    assert not may(API, "", "read", "#")
    assert may(SIMULATOR, "", "write", topic(QC01, "telemetry"))
    assert not any(may(part, "", "read", "$SYS/#") for part in PARTS)


levels = st.lists(st.sampled_from(["port", "CNNGB-DEMO", "quay-crane", "QC01", "cmd", "+"]), min_size=1, max_size=6)


@given(levels, st.booleans(), st.lists(st.sampled_from(["port", "CNNGB-DEMO", "quay-crane", "QC01", "cmd", "x"])))
def test_a_subscription_that_is_allowed_delivers_nothing_beyond_the_rights(
    parts: list[str], deep: bool, heard: list[str]
) -> None:
    wanted, came = "/".join([*parts, *(["#"] if deep else [])]), "/".join(heard)
    for username, uid in ((username_of(QC01), QC01.uid), (API, ""), (SIMULATOR, "")):
        if may(username, uid, "read", wanted) and matches(wanted, came):
            assert any(matches(rule.pattern, came) for rule in rules_of(username, uid) if rule.action == "read")


def test_a_colon_in_an_id_does_not_end_the_user_name() -> None:
    key = QC01._replace(device="02:42:ac:11")
    credential = password_credential(username_of(key), key.uid, "secret", 1)
    (line,) = password_file([credential]).splitlines()
    name, _, rest = line.partition(":")
    assert (name, rest) == ("CNNGB-DEMO/quay-crane/02%3A42%3Aac%3A11", credential.broker_hash)
    assert f"topic write port/{key.uid}/telemetry" in access_list([credential], {})


# --- passwords and certificates -----------------------------------------------------------------------------------


def test_a_password_is_kept_as_hashes_that_only_it_fits() -> None:
    password = new_password()
    assert len(password) == 32
    kept = argon2_hash(password)
    assert kept.startswith("$argon2id$")
    assert fits(kept, password)
    assert not fits(kept, password + "x")
    assert not fits("", password)
    assert password not in kept + mosquitto_hash(password)
    assert mosquitto_hash("a", b"123456789012") == mosquitto_hash("a", b"123456789012")
    assert mosquitto_hash("a") != mosquitto_hash("a")


def test_an_authority_is_made_once_and_signs_what_it_issues(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls", NOW)
    again = Authority(tmp_path / "tls", NOW)
    root = x509.load_pem_x509_certificate(authority.certificate_file.read_bytes())
    issued = again.device(username_of(QC01), NOW)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    certificate.verify_directly_issued_by(root)
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert name.value == QC01.uid
    assert f"{certificate.serial_number:x}" == issued.serial
    assert issued.expires_ns > NOW
    for name_of_key in ("ca.key", "server.key"):
        authority.serve(NOW)
        assert (tmp_path / "tls" / name_of_key).stat().st_mode & 0o077 == 0
    crl = x509.load_pem_x509_crl(authority.revocations({issued.serial: NOW}, NOW))
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    with pytest.raises(CertificateError, match="at most 64"):
        authority.device("x" * 65, NOW)
    (tmp_path / "tls" / "ca.key").write_bytes(b"not a key")
    with pytest.raises(CertificateError, match="cannot be used"):
        Authority(tmp_path / "tls", NOW)


def test_a_certificate_of_the_broker_is_renewed_before_it_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NOW)
    certificate, _ = authority.serve(NOW)
    first = certificate.read_bytes()
    authority.serve(NOW + 86_400 * NS)
    assert certificate.read_bytes() == first
    authority.serve(NOW + 800 * 86_400 * NS)
    assert certificate.read_bytes() != first


# --- a real broker ------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqlRegistry]:
    (tmp_path / "data").mkdir()
    opened = open_registry(f"sqlite:///{tmp_path}/data/quayflow.db", read_only=False)
    yield opened
    opened.close()


@contextmanager
def guarded(registry: SqlRegistry, folder: Path) -> Iterator[tuple[Mosquitto, BrokerAccess]]:
    """Run a broker that keeps to the registry."""
    access = BrokerAccess(registry, folder, None)
    access.refresh()
    options = {"allow_anonymous": False, "password_file": access.files.passwords, "acl_file": access.files.rules}
    with running_mosquitto(**options) as broker:
        yield broker, access


def reread(broker: Mosquitto, access: BrokerAccess) -> None:
    assert access.refresh()
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGHUP)
    time.sleep(0.3)


def credential_of(registry: SqlRegistry, key: DeviceKey) -> dict[str, Any]:
    password = new_password()
    registry.issue(password_credential(username_of(key), key.uid, password, NOW), actor="cli:test")
    return {"username": username_of(key), "password": password}


async def attempt(broker: Mosquitto, where: str, payload: bytes = b"{}", **who: Any) -> str:
    """Publish at QoS 1; return what the broker said."""
    said: list[str] = []
    client = aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5, **who)
    publish = client._on_publish  # noqa: SLF001 - aiomqtt takes a refusal for an acknowledgement

    def note(*arguments: Any) -> None:
        said.append(str(arguments[3]) if arguments[3].is_failure else "Success")
        publish(*arguments)

    client._client.on_publish = note  # noqa: SLF001 - as above
    try:
        async with client:
            await client.publish(where, payload, qos=1, timeout=5)
    except aiomqtt.MqttError as error:
        return str(error)
    return said[0]


async def overheard(broker: Mosquitto, patterns: list[str], speak: Any, **who: Any) -> list[str]:
    """Subscribe as ``who``, let ``speak`` publish, and return the topics delivered."""
    async with aiomqtt.Client(broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5, **who) as client:
        for pattern in patterns:
            await client.subscribe(pattern, qos=1)
        await speak()
        heard = []
        try:
            async with asyncio.timeout(0.7):
                async for message in client.messages:
                    heard.append(str(message.topic))  # noqa: PERF401 - until time is over
        except TimeoutError:
            return heard
    return heard


def test_a_device_with_its_credentials_can_neither_publish_nor_listen_elsewhere(
    registry: SqlRegistry, tmp_path: Path
) -> None:
    parts = part_passwords(registry, tmp_path / "broker", NOW)
    crane, truck = credential_of(registry, QC01), credential_of(registry, T07)
    simulator: dict[str, Any] = {"username": SIMULATOR, "password": parts[SIMULATOR]}
    with guarded(registry, tmp_path / "broker") as (broker, _):

        async def play() -> None:
            assert await attempt(broker, topic(QC01, "telemetry"), **crane) == "Success"
            for where in (topic(T07, "telemetry"), topic(QC01, "cmd"), "quayflow/x", "$SYS/broker/uptime", "other"):
                assert await attempt(broker, where, **crane) == "Not authorized", where
            for who in (crane | {"password": truck["password"]}, {}, {"username": "nobody", "password": "x"}):
                assert "Not authorized" in await attempt(broker, topic(QC01, "telemetry"), **who)

            async def everybody_speaks() -> None:
                for key, stream in ((T07, "telemetry"), (T07, "cmd"), (QC01, "telemetry")):
                    assert await attempt(broker, topic(key, stream), **simulator) in {"Success", "Not authorized"}
                ingest: dict[str, Any] = {"username": INGEST, "password": parts[INGEST]}
                for where in (topic(QC01, "cmd"), topic(T07, "cmd"), "quayflow/CNNGB-DEMO/acks/vehicle/T-07"):
                    assert await attempt(broker, where, **ingest) == "Success"

            everything = ["#", "$SYS/#", "port/#", "quayflow/#", topic(T07, "telemetry")]
            assert set(await overheard(broker, everything, everybody_speaks, **crane)) == {topic(QC01, "cmd")}

        asyncio.run(play())


def test_a_device_speaks_a_foreign_format_with_its_own_credentials_at_the_broker(
    registry: SqlRegistry, tmp_path: Path
) -> None:
    part_passwords(registry, tmp_path / "broker", NOW)
    crane = credential_of(registry, QC01)
    registry.put(NODE, actor="cli:test", now_ns=NOW)
    with guarded(registry, tmp_path / "broker") as (broker, _):

        async def play() -> None:
            for where in (f"port/{QC01.uid}/tic40", "spBv1.0/BLCT/NBIRTH/PLC-1", "spBv1.0/BLCT/DDATA/PLC-1/hoist"):
                assert await attempt(broker, where, **crane) == "Success", where
            for where in (f"port/{T07.uid}/tic40", "spBv1.0/BLCT/NDATA/PLC-2", "owntracks/li/phone"):
                assert await attempt(broker, where, **crane) == "Not authorized", where

        asyncio.run(play())


def test_a_change_of_the_registry_holds_at_the_broker_after_sighup(registry: SqlRegistry, tmp_path: Path) -> None:
    part_passwords(registry, tmp_path / "broker", NOW)
    with guarded(registry, tmp_path / "broker") as (broker, access):

        def said(who: dict[str, Any]) -> str:
            return asyncio.run(attempt(broker, topic(QC01, "telemetry"), **who))

        first = credential_of(registry, QC01)
        assert "Not authorized" in said(first)
        reread(broker, access)
        assert said(first) == "Success"
        second = credential_of(registry, QC01)
        reread(broker, access)
        assert ("Not authorized" in said(first), said(second)) == (True, "Success")
        registry.withdraw(username_of(QC01), actor="cli:test", now_ns=NOW)
        reread(broker, access)
        assert "Not authorized" in said(second)
        assert not access.refresh()


def test_the_parts_keep_their_passwords_and_get_new_ones_where_the_registry_lost_them(
    registry: SqlRegistry, tmp_path: Path
) -> None:
    first = part_passwords(registry, tmp_path, NOW)
    assert (set(first), part_passwords(registry, tmp_path, NOW)) == (set(PARTS), first)
    registry.withdraw(API, actor="cli:test", now_ns=NOW)
    second = part_passwords(registry, tmp_path, NOW)
    assert second[API] != first[API]
    assert second[INGEST] == first[INGEST]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_spoofed_payload_is_quarantined_and_audited_whatever_the_broker_allowed(
    registry: SqlRegistry, tmp_path: Path
) -> None:
    parts = part_passwords(registry, tmp_path / "broker", NOW)
    crane = credential_of(registry, QC01)
    with guarded(registry, tmp_path / "broker") as (broker, _):
        who = {"broker_username": INGEST, "broker_password": parts[INGEST]}
        with IngestProcess(tmp_path / "data", broker.port, **who) as ingest:
            ingest.start()
            spoof = json.dumps({"v": 1, "device": "QC02", "m": {"load_t": 1}}).encode()
            honest = json.dumps({"v": 1, "device": "QC01", "m": {"load_t": 1}}).encode()
            for payload in (spoof, honest):
                assert asyncio.run(attempt(broker, topic(QC01, "telemetry"), payload, **crane)) == "Success"
            records = open_records(f"sqlite:///{tmp_path}/data/quayflow.db")
            wait_until(lambda: bool(records.quarantine()), "the spoof is in quarantine")
            assert ingest.terminate() == 0
            (refused,) = records.quarantine()
            accounts = {row.account: row.frames for row in records.ledger(uids=[QC01.uid])}
            records.close()
    with client_of(MadePort(tmp_path / "data")) as client:
        (told,) = client.json("/v1/quarantine", reason="identity_mismatch")["items"]
        assert (told["uid"], told["pointer"], told["topic"]) == (QC01.uid, "/device", topic(QC01, "telemetry"))
        assert json.loads(told["payload"])["device"] == "QC02"
    assert (refused.reason, refused.pointer) == ("identity_mismatch", "/device")
    assert (accounts["received"], accounts["windowed"], accounts["quarantined"]) == (2, 1, 1)
    (row,) = [row for row in registry.audit() if row.action == "refused"]
    assert (row.subject, row.actor) == (topic(QC01, "telemetry"), "ingest:ingest-1")
    assert registry.audit_break() is None


def test_a_certificate_is_the_device_and_ends_when_it_is_revoked(registry: SqlRegistry, tmp_path: Path) -> None:
    now = time.time_ns()
    authority = Authority(tmp_path / "tls", now)

    def certificate(folder: str) -> dict[str, str]:
        issued = authority.device(username_of(QC01), now)
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.pem").write_bytes(issued.certificate)
        (tmp_path / folder / "c.key").write_bytes(issued.key)
        registry.issue(
            Credential(
                username=username_of(QC01), uid=QC01.uid, kind="certificate", serial=issued.serial, issued_ns=now
            ),
            actor="cli:test",
        )
        return {"certfile": str(tmp_path / folder / "c.pem"), "keyfile": str(tmp_path / folder / "c.key")}

    first = certificate("first")
    access = BrokerAccess(registry, tmp_path / "broker", authority)
    access.refresh()
    plain, device_port = free_port(), free_port()
    protection = Protection(access.files, authority.serve(now), authority.certificate_file, device_port)
    command = configure(tmp_path / "broker", plain, protection)
    with (tmp_path / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        broker = Mosquitto(tmp_path, {})
        broker.port = device_port

        authorities = str(authority.certificate_file)

        def said(stream: str, own: dict[str, str]) -> str:
            params = aiomqtt.TLSParameters(authorities, own["certfile"], own["keyfile"])
            try:
                return asyncio.run(attempt(broker, topic(QC01, stream), tls_params=params))
            except OSError as error:
                return f"refused: {error}"

        def is_let_in(**own: str) -> bool:
            # Not by a client: in TLS 1.3 it believes itself connected, and waits ten seconds for what does not come.
            context = ssl.create_default_context(cafile=authorities)
            if own:
                context.load_cert_chain(**own)
            with socket.create_connection((broker.host, device_port), 10) as plain:
                try:
                    with context.wrap_socket(plain, server_hostname=broker.host) as connection:
                        connection.sendall(CONNECT)
                        return connection.recv(4) == b"\x20\x02\x00\x00"
                except (ssl.SSLError, ConnectionError):
                    return False

        wait_until(lambda: said("telemetry", first) == "Success", "the broker takes the certificate")
        assert said("cmd", first) == "Not authorized"
        assert is_let_in(**first)
        assert not is_let_in()
        second = certificate("second")
        assert access.refresh()
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: not is_let_in(**first), "the broker has read that it is revoked")
        assert said("telemetry", second) == "Success"
        assert is_let_in(**second)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.slow
def test_a_secured_installation_runs_and_a_device_added_to_it_is_heard(root: Path, tmp_path: Path) -> None:
    """`up --secure --tls`, `device add --credentials`, a message, `device show`."""
    data = tmp_path / "data"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}

    def quayflow(*arguments: str, status: int = 0) -> dict[str, Any]:
        command = [sys.executable, "-m", "quayflow", *arguments, "--data", str(data), "--json"]
        found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == status, found.stderr + found.stdout
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    command = [sys.executable, "-m", "quayflow", "up", "--secure", "--tls", "--port", "0", "--broker-port", "0"]
    with subprocess.Popen(
        [*command, "--no-open", "--json", "--data", str(data)],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            ready = json.loads(running.stdout.readline())
            assert ready["broker"].startswith("mqtts://")
            added = quayflow("device", "add", "QC09", "--class", "quay-crane", "--credentials")
            silent = quayflow("device", "show", "CNNGB-DEMO/quay-crane/QC09", status=1)
            assert silent["verdict"].startswith("never heard")
            broker = Mosquitto(tmp_path, {})
            broker.port = ready["broker_port"]
            who = {
                "username": added["username"],
                "password": added["password"],
                "tls_params": aiomqtt.TLSParameters(ca_certs=str(data / "tls" / "ca.pem")),
            }
            where = "port/CNNGB-DEMO/quay-crane/QC09/telemetry"
            payload = b'{"v":1,"m":{"load_t":4.2,"hoist mm":14500}}'

            def heard() -> bool:
                return asyncio.run(attempt(broker, where, payload, **who)) == "Success"

            wait_until(heard, "the broker has read its files again", 10)
            wait_until(
                lambda: json.loads(
                    subprocess.run(
                        [*command[:3], "device", "show", "QC09", "--data", str(data), "--json"],
                        cwd=root,
                        env=environment,
                        capture_output=True,
                        check=False,
                    ).stdout
                    or b"{}"
                ).get("live", False),
                "the device is heard",
            )
            found = quayflow("device", "show", "QC09")
            assert found["credential"] == "password"
            assert "unknown_metric" in found["quarantined"]
            assert f"-p {ready['broker_port']} --cafile" in found["publish"]
            adopt = f"quayflow device adopt --data {data} CNNGB-DEMO/quay-crane/QC09 'hoist mm' METRIC"
            assert found["adopt"] == {"hoist mm": adopt}
            quayflow("device", "adopt", "QC09", "hoist mm", "hoist_height_m", "--scale", "0.001")
            quayflow("device", "rotate", "QC09")
            assert quayflow("device", "remove", "QC09")["credential"] is True
            # The two lines that were printed at the start, as they stand there.
            password = quayflow(*shlex.split(ready["register"])[1:])["password"]
            line = shlex.split(ready["publish"].replace("PASSWORD", password))
            published = functools.partial(subprocess.run, line, cwd=root, capture_output=True, check=False)
            wait_until(lambda: published().returncode == 0, "the first reading is published", 10)
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(30)
    assert running.returncode == 0

"""The names of a device's own over HTTP: listed with guesses, adopted, given up; and who may change them."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_port import NOW, SITE, Client, MadePort, client_of, device

from devices.guesses import guesses
from devices.times import format_rfc3339
from devices.unknown_names import refusal_of
from devices.vocabulary import DeviceClass
from store.interface import QuarantineRecord
from store.open import open_registry
from store.registry import SqlRegistry
from store.registry_entries import Adoption, Entry, Policy, RegisteredDevice, Site

QC01 = f"{SITE}/quay-crane/QC01"
PATH = "/v1/devices/QC01/names"
SECRET = "a secret of the test"
LOCAL = {"Host": "localhost:8080"}
WITH_SECRET = {"Authorization": f"Bearer {SECRET}"}
ODD = ["hoist mm", "a/b?c=d&e#f", "起升 高度", "../..", "100%", "a\nb", "+"]


def refused(number: int, name: str, value: float | str, uid: str = QC01) -> QuarantineRecord:
    return QuarantineRecord(
        id=f"{number}#0",
        reason="unknown_metric",
        pointer="/m/x",
        detail=refusal_of(uid, name, value),
        topic=f"port/{uid}/telemetry",
        uid=uid,
        recv_ns=NOW + number,
        payload=b"{}",
        payload_bytes=2,
        payload_sha256="0" * 64,
    )


@contextmanager
def made(tmp_path: Path, **settings: Any) -> Iterator[tuple[MadePort, Client]]:
    port = MadePort(tmp_path)
    names = [refused(n, name, n) for n, name in enumerate(ODD)]
    mute = f"{SITE}/vehicle/MUTE"
    port.commit(devices=[device(QC01)], quarantine=[*names, refused(50, "speed kmh", "3.5", mute)])
    with client_of(port, **settings) as client:
        yield port, client


def put(
    client: Client, body: Any, name: str = "hoist mm", headers: Any = WITH_SECRET, path: str = PATH
) -> httpx.Response:
    return client.request("PUT", path, params={"name": name}, json=body, headers=headers)


def actors(port: MadePort) -> list[str]:
    registry = open_registry(port.records_url)
    found = [f"{row.actor} {row.action} {row.subject}" for row in registry.audit()]
    registry.close()
    return found


def test_names_are_listed_the_newest_first_with_what_they_may_mean(tmp_path: Path) -> None:
    with made(tmp_path) as (_, client):
        found = client.json(PATH)
        assert [item["name"] for item in found["items"]] == ODD[::-1]
        assert found["items"][-1] == {
            "name": "hoist mm",
            "value": "0",
            "refused": 1,
            "first": format_rfc3339(NOW),
            "last": format_rfc3339(NOW),
            "adopted": None,
            "guesses": [{"metric": "hoist_height_m", "scale": 0.001}],
            "command": f"quayflow device adopt {QC01} 'hoist mm' METRIC",
        }


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_adopted_once_changed_and_given_up(tmp_path: Path, name: str) -> None:
    with made(tmp_path, change_secret=SECRET) as (port, client):
        meaning = {"metric": "hoist_height_m", "scale": 0.001}
        for _ in range(2):
            answer = put(client, meaning, name)
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"device": QC01, "name": name, **meaning, "offset": 0.0}
        assert actors(port) == [f"api:127.0.0.1 registry.add adoption {QC01}#{name}"]
        assert put(client, {"metric": "load_t"}, name).json()["scale"] == 1.0
        (item,) = [item for item in client.json(PATH)["items"] if item["name"] == name]
        assert (item["adopted"], item["guesses"]) == ({"metric": "load_t", "scale": 1.0, "offset": 0.0}, [])
        gone = client.request("DELETE", PATH, params={"name": name}, headers=WITH_SECRET)
        assert (gone.status_code, gone.json()["metric"]) == (200, "load_t")
        again = client.request("DELETE", PATH, params={"name": name}, headers=WITH_SECRET)
        assert (again.status_code, again.json()["type"]) == (404, "/problems/not-adopted")
        assert [line.split()[1] for line in actors(port)] == ["registry.remove", "registry.change", "registry.add"]


@pytest.mark.parametrize(
    ("body", "slug", "pointer"),
    [
        ({"metric": "hoist"}, "unknown-metric", "/metric"),
        ({"metric": "fuel_l"}, "unknown-metric", "/metric"),
        ({"metric": "moves"}, "unknown-metric", "/metric"),
        ({}, "invalid-parameter", "/metric"),
        ({"metric": "load_t", "scale": 0}, "invalid-parameter", "/scale"),
        ({"metric": "load_t", "scale": 1e300}, "invalid-parameter", "/scale"),
        ({"metric": "load_t", "offset": "far"}, "invalid-parameter", "/offset"),
        ({"metric": "load_t", "unit": "kg"}, "invalid-parameter", "/unit"),
        ([], "invalid-parameter", ""),
    ],
)
def test_what_cannot_be_adopted_is_a_problem_of_its_field(tmp_path: Path, body: Any, slug: str, pointer: str) -> None:
    with made(tmp_path, change_secret=SECRET) as (port, client):
        answer = put(client, body)
        assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}")
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]
        assert actors(port) == []


@pytest.mark.parametrize("name", ["", "x" * 257, "a\0b"])
def test_a_name_that_cannot_be_is_a_problem_of_the_parameter(tmp_path: Path, name: str) -> None:
    with made(tmp_path, change_secret=SECRET) as (_, client):
        answer = put(client, {"metric": "load_t"}, name)
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "name")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        LOCAL,
        {"Authorization": "Bearer wrong"},
        {"Authorization": SECRET},
        {"Authorization": "Basic " + base64.b64encode(b"me:wrong").decode()},
        {"Authorization": "Basic ?"},
    ],
)
def test_with_a_secret_nobody_changes_anything_without_it(tmp_path: Path, headers: dict[str, str]) -> None:
    with made(tmp_path, change_secret=SECRET, local_changes=True) as (port, client):
        for method in ("PUT", "DELETE"):
            answer = client.request(method, PATH, params={"name": "x"}, json={"metric": "load_t"}, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (401, "/problems/not-authorised")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert actors(port) == []


def test_who_gives_a_name_with_the_secret_stands_in_the_audit_trail(tmp_path: Path) -> None:
    given = base64.b64encode(f"wang:{SECRET}".encode()).decode()
    with made(tmp_path, change_secret=SECRET) as (port, client):
        assert put(client, {"metric": "load_t"}, headers={"Authorization": f"Basic {given}"}).status_code == 200
        assert actors(port)[0].startswith("api:wang registry.add")


@pytest.mark.parametrize(
    "headers",
    [LOCAL, {"Host": "127.0.0.1:8080"}, {"Host": "[::1]:8080"}, {**LOCAL, "Origin": "http://localhost:8080"}],
)
def test_without_a_secret_whoever_sits_at_the_machine_may(tmp_path: Path, headers: dict[str, str]) -> None:
    with made(tmp_path, local_changes=True) as (_, client):
        assert put(client, {"metric": "load_t"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "port.example"},
        {"Host": "localhost.port.example:8080"},
        {**LOCAL, "Origin": "http://port.example"},
        {**LOCAL, "Origin": "null"},
        {**LOCAL, "X-Forwarded-For": "192.0.2.7"},
        {**LOCAL, "Via": "1.1 proxy"},
    ],
)
def test_without_a_secret_nobody_else_may(tmp_path: Path, headers: dict[str, str]) -> None:
    with made(tmp_path, local_changes=True) as (port, client):
        answer = put(client, {"metric": "load_t"}, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/changes-off")
        assert "change_secret" in answer.json()["detail"]
        assert actors(port) == []


def test_switched_off_nobody_may(tmp_path: Path) -> None:
    with made(tmp_path) as (_, client):
        answer = put(client, {"metric": "load_t"}, headers=LOCAL)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/changes-off")


def test_the_path_says_which_methods_it_answers(tmp_path: Path) -> None:
    with made(tmp_path) as (_, client):
        answer = client.request("POST", PATH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT, DELETE, HEAD")


def test_a_device_that_was_never_heard_is_answered_for_where_it_is_known(tmp_path: Path) -> None:
    with made(tmp_path, change_secret=SECRET) as (port, client):
        client.problem(404, "/v1/devices/NEW/health")
        registry = open_registry(port.records_url, read_only=False)
        registry.put(RegisteredDevice(uid=f"{SITE}/quay-crane/NEW"), actor="test", now_ns=NOW)
        for path in ("/v1/devices/NEW/health", f"/v1/devices/{SITE}~quay-crane~NEW/health"):
            found = client.json(path)
            assert (found["heard"], found["verdict"].split(":")[0]) == (False, "never heard")
            assert found["publish"] == (
                f"mosquitto_pub -h 127.0.0.1 -p 1 -q 1 -t port/{SITE}/quay-crane/NEW/telemetry "
                """-m '{"v":1,"m":{"hoist_height_m":1}}'"""
            )
        mute = f"/v1/devices/{SITE}~vehicle~MUTE"
        assert client.json(f"{mute}/health")["verdict"].startswith("everything that it sends is refused")
        assert client.json(f"{mute}/names")["items"][0]["value"] == '"3.5"'
        assert put(client, {"metric": "speed_mps"}, "speed kmh", path=f"{mute}/names").status_code == 200
        registry.put(RegisteredDevice(uid="CNSHA-YS1/quay-crane/NEW"), actor="test", now_ns=NOW)
        assert len(client.problem(409, "/v1/devices/NEW/health")["uids"]) == 2
        client.problem(404, f"/v1/devices/{SITE}~boat~NEW/health")
        registry.close()


def test_a_device_of_which_nothing_was_ever_accepted_is_refused_and_not_offline(tmp_path: Path) -> None:
    with made(tmp_path) as (port, client):
        uid = f"{SITE}/vehicle/MUTE"
        port.commit(devices=[device(uid, online=False, last_event_ns=0)])
        assert client.json("/v1/devices/MUTE/health")["cause"] == "all_refused"
        port.commit(devices=[device(uid, online=False)])
        assert client.json("/v1/devices/MUTE/health")["cause"] == "offline"


def test_how_a_device_does_is_told_without_reading_the_registry_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made(tmp_path) as (port, client):
        registry = open_registry(port.records_url, read_only=False)
        registry.put(Site(site=SITE, policy=Policy.CLOSED), actor="test", now_ns=NOW)
        assert client.json("/v1/devices/QC01/health")["cause"] == "not_admitted"
        registry.put(RegisteredDevice(uid=QC01), actor="test", now_ns=NOW)

        def entries(*_: object, **__: object) -> list[Entry]:
            raise AssertionError("a panel that is open asks every 2 s: entries of other devices are not its business")

        monkeypatch.setattr(SqlRegistry, "entries", entries)
        found = client.json("/v1/devices/QC01/health")
        assert (found["registered"], found["admitted"]) == (True, True)
        registry.close()


def test_adopted_names_that_are_not_refused_any_more_stay_in_the_list(tmp_path: Path) -> None:
    with made(tmp_path) as (port, client):
        registry = open_registry(port.records_url, read_only=False)
        for uid, name in ((QC01, "Load kg"), (f"{QC01}9", "other")):
            registry.put(Adoption(device=uid, name=name, metric="load_t", scale=0.001), actor="t", now_ns=NOW)
        registry.close()
        last = client.json(PATH)["items"][-1]
        assert (last["name"], last["refused"], last["last"]) == ("Load kg", 0, None)
        assert len(client.json(PATH)["items"]) == len(ODD) + 1


@pytest.mark.parametrize(
    ("name", "device_class", "first"),
    [
        ("hoist mm", DeviceClass.QUAY_CRANE, ("hoist_height_m", 0.001)),
        ("HoistHeight_mm", DeviceClass.QUAY_CRANE, ("hoist_height_m", 0.001)),
        ("SpreaderLocked", DeviceClass.YARD_CRANE, ("spreader_locked", 1.0)),
        ("Load_kg", DeviceClass.QUAY_CRANE, ("load_t", 0.001)),
        ("fuelLevel", DeviceClass.VEHICLE, ("fuel_l", 1.0)),
        ("che.hoist.hoisting.heigth", DeviceClass.QUAY_CRANE, ("hoist_height_m", 1.0)),
        ("起升", DeviceClass.QUAY_CRANE, None),
        ("mm", DeviceClass.QUAY_CRANE, None),
        ("qwertz", DeviceClass.VEHICLE, None),
        ("", DeviceClass.VEHICLE, None),
    ],
)
def test_a_guess_is_a_metric_that_is_like_the_name_and_its_unit(
    name: str, device_class: DeviceClass, first: tuple[str, float] | None
) -> None:
    assert next(iter(guesses(name, device_class)), None) == first

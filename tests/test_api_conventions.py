"""Errors are problems that name the field; headers, limits and pages are as promised on every path."""

import asyncio
import gzip
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_port import NOW, SITE, Client, MadePort, client_of, device, event, served, worker_status

from api.app import create_app
from api.config import ApiConfig
from api.problems import KINDS
from devices.times import NS, format_rfc3339
from store.interface import LedgerRow, QuarantineRecord, StoreUnreachableError

QC01 = f"{SITE}/quay-crane/QC01"
TWICE = ("CNNGB-DEMO/quay-crane/QC09", "CNSHA-YS1/quay-crane/QC09")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    port = MadePort(tmp_path_factory.mktemp("conventions"))
    times = [NOW - n * NS for n in range(600, 0, -1)]
    port.add(QC01, "load_t", times, [n / 10 for n in range(600)])
    latest = {"load_t": (NOW - NS, 59.9)}
    devices = [
        device(QC01, latest=latest, info={"vendor": "simulated"}),
        device(f"{SITE}/vehicle/TT01", last_seen_ns=NOW - 31 * NS),
        device(f"{SITE}/vehicle/TT02", online=False),
        *map(device, TWICE),
    ]
    port.commit(devices=devices, events=[event(n) for n in range(3)])
    with client_of(port) as client:
        yield client


PARAMETER_FAULTS = [
    ("/v1/devices/QC01/telemetry", {}, "metric", "invalid-parameter", "required"),
    ("/v1/devices/QC01/telemetry", {"metric": "lod_t"}, "metric", "unknown-metric", "did you mean load_t"),
    ("/v1/devices/QC01/telemetry", {"metric": "fuel_l"}, "metric", "unknown-metric", "quay-crane"),
    (
        "/v1/devices/QC01/telemetry",
        {"metric": "load_t", "step": "15s"},
        "step",
        "invalid-parameter",
        "multiples of 10 s",
    ),
    ("/v1/devices/QC01/telemetry", {"metric": "load_t", "strat": "-1h"}, "strat", "unknown-parameter", "start"),
    ("/v1/throughput", {"start": "yesterday"}, "start", "invalid-parameter", "RFC 3339"),
    ("/v1/throughput", {"end": "2026-11-23T08:00:00"}, "end", "invalid-parameter", "RFC 3339"),
    ("/v1/throughput", {"start": "-1h", "end": "-2h"}, "end", "reversed-range", "not after start"),
    ("/v1/throughput", {"start": "-1h", "end": "-1h"}, "end", "reversed-range", "not after start"),
    ("/v1/throughput", {"start": "-5s"}, "end", "reversed-range", "10 s"),
    ("/v1/throughput", {"start": "-401d"}, "start", "range-too-large", "400"),
    ("/v1/throughput", {"start": "-30d", "step": "10s"}, "step", "range-too-large", "at least"),
    ("/v1/throughput", {"group_by": "ship"}, "group_by", "invalid-parameter", "crane"),
    ("/v1/throughput", {"site": "nowhere"}, "site", "invalid-parameter", "of the form"),
    ("/v1/events", {"limit": 0}, "limit", "invalid-parameter", "at least 1"),
    ("/v1/events", {"limit": 1_001}, "limit", "invalid-parameter", "at most 1000"),
    ("/v1/events", {"limit": "many"}, "limit", "invalid-parameter", "whole number"),
    ("/v1/events", {"order": "up"}, "order", "invalid-parameter", "asc"),
    ("/v1/events", {"after": -1}, "after", "invalid-parameter", "at least 0"),
    ("/v1/events", {"after": 2**63}, "after", "invalid-parameter", "at most 9223372036854775807"),
    ("/v1/events", {"after": 5, "before": 5}, "before", "reversed-range", "not greater"),
    ("/v1/events", {"start": "-1h", "end": "-2h"}, "end", "reversed-range", "not after"),
    ("/v1/events", {"cursor": "abc"}, "cursor", "invalid-cursor", "next"),
    ("/v1/devices", {"class": "boat"}, "class", "invalid-parameter", "quay-crane"),
    ("/v1/quarantine", {"reason": "whim"}, "reason", "invalid-parameter", "wrong_type"),
    ("/v1/ledger", {"page": 2}, "page", "unknown-parameter", "cursor"),
    ("/v1/stream", {"after": "x"}, "after", "invalid-parameter", "whole number"),
    ("/healthz", {"verbose": 1}, "verbose", "unknown-parameter", "none"),
]


@pytest.mark.parametrize(("path", "parameters", "name", "slug", "allowed"), PARAMETER_FAULTS)
def test_a_wrong_parameter_is_named_with_what_is_allowed(
    client: Client, path: str, parameters: dict[str, str | int], name: str, slug: str, allowed: str
) -> None:
    problem = client.problem(422, path, **parameters)
    assert problem["type"] == f"/problems/{slug}"
    assert [error["parameter"] for error in problem["errors"]] == [name]
    assert allowed in problem["errors"][0]["detail"]


def test_a_parameter_given_twice_is_refused(client: Client) -> None:
    answer = client.get("/v1/events?limit=1&limit=2")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "limit"


def test_a_wrong_header_is_named(client: Client) -> None:
    answer = client.get("/v1/stream", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "last-event-id"


def test_an_unknown_device_is_a_problem_of_its_id(client: Client) -> None:
    for path in ("/v1/devices/QC77", "/v1/devices/CNNGB-DEMO~vehicle~QC01"):
        problem = client.problem(404, path)
        assert (problem["type"], problem["errors"][0]["parameter"]) == ("/problems/unknown-device", "id")
    assert client.problem(404, "/v1/events", device="QC77")["errors"][0]["parameter"] == "device"


def test_an_ambiguous_device_lists_the_uids_that_work(client: Client) -> None:
    problem = client.problem(409, "/v1/devices/QC09")
    assert problem["uids"] == list(TWICE)
    for uid in TWICE:
        assert client.json(f"/v1/devices/{uid.replace('/', '~')}")["uid"] == uid


def test_a_site_settles_which_device_is_meant(client: Client) -> None:
    client.problem(409, "/v1/events", device="QC09")
    assert client.json("/v1/events", device="QC09", site="CNSHA-YS1")["items"] == []


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/nothing", "/v1/devices/a/b", "/problems/none", "/..%2fetc"])
def test_an_unknown_path_is_a_problem(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_only_get_and_head_are_allowed(client: Client, method: str) -> None:
    answer = client.request(method, "/v1/devices")
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"


def test_every_type_of_problem_has_its_page(client: Client) -> None:
    listed = client.get("/problems").text
    for slug, kind in KINDS.items():
        page = client.get(f"/problems/{slug}")
        assert page.status_code == 200
        assert kind.title.split("<")[0] in page.text
        assert f"/problems/{slug}" in listed


def test_a_fault_is_a_problem_without_a_trace_and_the_log_has_it(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret of the store")

    monkeypatch.setattr(client.app.state.wiring.stores.records, "devices_named", fail)
    with caplog.at_level(logging.ERROR):
        problem = client.problem(500, "/v1/devices/QC01")
    assert problem["type"] == "/problems/internal-error"
    assert "secret" not in str(problem)
    assert problem["trace_id"] in caplog.text
    assert "the secret of the store" in caplog.text


def test_a_store_that_cannot_be_reached_is_a_problem_without_its_address(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnreachableError("postgresql://user:word@host is down")

    monkeypatch.setattr(client.app.state.wiring.stores.records, "devices_named", fail)
    problem = client.problem(503, "/v1/devices/QC01")
    assert problem["type"] == "/problems/store-unreachable"
    assert "word" not in str(problem)


def test_a_slow_store_is_given_up_and_a_crowd_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(QC01)])
    release = threading.Event()
    with client_of(port, query_timeout_s=0.05, query_threads=1, max_waiting_queries=1) as client:
        monkeypatch.setattr(client.app.state.wiring.stores.records, "devices_named", lambda _: release.wait(30))
        try:
            for _ in range(2):
                assert client.problem(503, "/v1/devices/QC01")["type"] == "/problems/query-timeout"
            answer = client.get("/v1/devices/QC01")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/busy")
            assert answer.headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
        finally:
            release.set()
            monkeypatch.undo()


def test_ranges_are_relative_to_the_clock_and_echoed(client: Client) -> None:
    now = format_rfc3339(NOW - NOW % (10 * NS))
    hour_ago = format_rfc3339(NOW - 3_600 * NS - (NOW - 3_600 * NS) % (10 * NS))
    for asked in ({}, {"start": "-1h"}, {"start": "PT1H", "end": "now"}, {"start": "now-1h"}, {"start": "-60m"}):
        found = client.json("/v1/throughput", **asked)
        assert (found["start"], found["end"]) == (hour_ago, now)


@pytest.mark.parametrize(
    ("start", "step"), [("-10m", "PT10S"), ("-2h", "PT1M"), ("-24h", "PT15M"), ("-20d", "PT1H"), ("-100d", "PT5H")]
)
def test_without_a_step_at_most_five_hundred_points_are_chosen(client: Client, start: str, step: str) -> None:
    assert client.json("/v1/devices/QC01/telemetry", metric="load_t", start=start)["step"] == step


def test_a_device_says_how_it_is(client: Client) -> None:
    states = {item["id"]: item["state"] for item in client.json("/v1/devices", site=SITE)["items"]}
    assert states == {"QC01": "live", "TT01": "stale", "TT02": "offline", "QC09": "live"}
    found = client.json("/v1/devices/QC01")
    assert found["latest"] == {"load_t": {"value": 59.9, "unit": "t", "time": format_rfc3339(NOW - NS)}}
    assert found["info"] == {"vendor": "simulated"}
    assert found == client.json("/v1/devices")["items"][0]


@pytest.mark.parametrize("path", ["/v1/devices", "/nowhere", "/docs", "/", "/metrics", "/problems", "/openapi.json"])
def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"].split("style-src")[0]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_head_is_get_without_the_body(client: Client) -> None:
    for path in ("/v1/devices", "/v1/vocabulary", "/nowhere", "/openapi.json"):
        get, head = client.get(path), client.request("HEAD", path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    stream = client.request("HEAD", "/v1/stream")
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_large_answers_are_compressed_for_who_takes_it(client: Client) -> None:
    plain = client.get("/v1/vocabulary", headers={"Accept-Encoding": "identity"})
    packed = client.get("/v1/vocabulary", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 3
    assert packed.json() == plain.json()
    assert len(gzip.compress(plain.content)) < len(plain.content)


def test_a_long_query_is_refused(client: Client) -> None:
    answer = client.get("/v1/devices?site=" + "x" * 5_000)
    assert (answer.status_code, answer.json()["type"]) == (414, "/problems/query-too-long")


def test_a_large_body_is_refused_unread(client: Client) -> None:
    answer = client.request("POST", "/v1/devices", content=b"x" * 100_000)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/content-too-large")


def test_a_body_without_a_length_is_not_taken_in(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 65_536

    async def ask(url: str) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.post(f"{url}/v1/devices", content=endless(), timeout=20)

    port = MadePort(tmp_path)
    with served(create_app(port.config())) as url:
        answer = asyncio.run(ask(url))
        assert answer.status_code == 405
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_without_the_built_page_the_api_says_how_to_build_it(client: Client) -> None:
    for path in ("/", "/docs"):
        problem = client.problem(503, path)
        assert (problem["type"], "make setup" in problem["detail"]) == ("/problems/page-not-built", True)
        page = client.get(path, headers={"Accept": "text/html"})
        assert (page.status_code, "make setup" in page.text) == (503, True)


def test_the_built_page_is_served_and_nothing_beside_it(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    for name in ("index.html", "assets/page.js", "swagger/swagger-ui.css", "swagger/swagger-ui-bundle.js"):
        (port.static / name).parent.mkdir(parents=True, exist_ok=True)
        (port.static / name).write_text(f"this is {name}")
    (tmp_path / "secret").write_text("secret")
    with client_of(port) as client:
        assert client.get("/").text == "this is index.html"
        assert "no-cache" in client.get("/").headers["cache-control"]
        assert "immutable" in client.get("/assets/page.js").headers["cache-control"]
        assert client.get("/assets/page.js").headers["content-type"].startswith("text/javascript")
        docs = client.get("/docs")
        assert docs.status_code == 200
        assert "http" not in docs.text.replace("http-equiv", "")
        for name in ("/swagger/swagger-ui.css", "/swagger/swagger-ui-bundle.js", "/docs/start.js"):
            assert name in docs.text
            assert client.get(name).status_code == 200
        for path in ("/../secret", "/%2e%2e/secret", "/assets/..%2f..%2fsecret", "/assets/%2e%2e/%2e%2e/secret"):
            assert client.get(path).status_code == 404


def test_a_payload_is_shown_as_text_or_in_base64(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    payloads = [(b'{"v":1}', 7), ("吊".encode() * 2 + b"\xe5\x90", 4_100), (b"\xff\x00", 2), (b"\xe5\x90", 2)]
    records = [
        QuarantineRecord(
            id=str(n),
            reason="undecodable",
            pointer="",
            detail="-",
            topic=f"port/{QC01}/telemetry",
            uid=QC01,
            recv_ns=NOW,
            payload=payload,
            payload_bytes=size,
            payload_sha256="0" * 64,
        )
        for n, (payload, size) in enumerate(payloads)
    ]
    port.commit(quarantine=records)
    with client_of(port) as client:
        found = client.json("/v1/quarantine", device="CNNGB-DEMO~quay-crane~QC01")["items"]
        shown = {item["id"]: (item["payload"], item["payload_encoding"]) for item in found}
        assert shown == {
            "0": ('{"v":1}', "utf-8"),
            "1": ("吊吊", "utf-8"),
            "2": ("/wA=", "base64"),
            "3": ("5ZA=", "base64"),
        }
        client.problem(404, "/v1/quarantine", device="QC01")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windows_url": "quayflow.db"}, "windows_url must be a URL"),
        ({"broker_host": ""}, "broker_host must not be empty"),
        ({"broker_port": 0}, "broker_port is 0; allowed: 1 to 65535"),
        ({"broker_password": "x"}, "broker_username is missing"),
        ({"max_points": 0}, "max_points is 0; allowed: 1 and above"),
        ({"query_timeout_s": float("nan")}, "query_timeout_s is nan"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    given = {"windows_url": "sqlite:///x", "records_url": "sqlite:///x", "broker_host": "h"} | settings
    with pytest.raises(ValueError, match=message):
        ApiConfig(**given)


def test_a_password_is_not_shown() -> None:
    config = ApiConfig(
        windows_url="sqlite:///x",
        records_url="sqlite:///x",
        broker_host="h",
        broker_username="u",
        broker_password="word",
    )
    assert "word" not in repr(config)


def test_a_store_in_a_missing_folder_is_told_in_the_answer_not_in_silence(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.windows_url = port.records_url = f"sqlite:///{tmp_path}/missing/quayflow.db"
    with client_of(port) as client:
        assert client.problem(503, "/v1/devices")["type"] == "/problems/store-unreachable"
        assert client.problem(503, "/readyz")["checks"]["store"]["ok"] is False
        assert "quayflow_store_reachable 0.0" in client.get("/metrics").text


def test_windows_that_cannot_be_reached_are_told_beside_records_that_answer(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.windows_url = "influxdb://127.0.0.1:9/windows"
    with client_of(port) as client:
        check = client.problem(503, "/readyz")["checks"]["store"]
        assert check == {"ok": False, "detail": "the window store cannot be reached; see the log"}
        assert client.get("/v1/devices").status_code == 200


def test_the_ledger_balances_only_if_every_device_does(tmp_path: Path) -> None:
    def rows(uid: str, received: int, windowed: int, quarantined: int) -> list[LedgerRow]:
        counts = (("received", "", received), ("windowed", "", windowed), ("quarantined", "wrong_type", quarantined))
        return [LedgerRow(uid=uid, account=a, reason=r, frames=n, samples=n) for a, r, n in counts]

    port = MadePort(tmp_path)
    port.commit(ledger=[*rows(QC01, 10, 9, 1), *rows("", 1, 0, 1)], status=worker_status(journal_frames=11))
    with client_of(port) as client:
        found = client.json("/v1/ledger")
        assert (found["balanced"], found["journal_frames"]) == (True, 11)
        assert found["total"]["frames"]["received"] == 11
        assert found["total"]["quarantined_by_reason"] == {"wrong_type": 2}
        assert [item["uid"] for item in found["items"]] == ["", QC01]
        assert client.json("/v1/ledger", site=SITE)["total"]["frames"]["received"] == 10
        # Two devices whose errors cancel out.
        port.commit(ledger=[*rows(QC01, 10, 8, 1), *rows("", 1, 1, 1)])
        assert client.json("/v1/ledger")["balanced"] is False

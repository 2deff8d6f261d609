"""The API description is true: examples fit, answers fit, and generated requests find no fault."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator
from made_port import NOW, SITE, Client, Clock, MadePort, client_of, device, event, served, worker_status
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.app import create_app
from devices.times import NS
from store.interface import LedgerRow, QuarantineRecord
from store.open import open_registry
from store.registry_entries import RegisteredDevice, Site, Tag, Zone

SECRET = "sixteen-letters-0"
QC01, G1 = f"{SITE}/quay-crane/QC01", f"{SITE}/rfid-gate/G1"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> MadePort:
    return made(tmp_path_factory.mktemp("description"))


def made(folder: Path) -> MadePort:
    port = MadePort(folder)
    times = [NOW - n * NS for n in range(1_200, 0, -1)]
    port.add(QC01, "load_t", times, [n / 100 for n in range(1_200)])
    port.add(QC01, "moves", times[::100], [1.0] * 12)
    port.add(QC01, "teu", times[::100], [2.0] * 12)
    port.add(G1, "passages_in", times[::50], [1.0] * 24)
    accounts = [
        LedgerRow(uid=QC01, account=account, reason="", frames=9, samples=9) for account in ("received", "windowed")
    ]
    refusal = QuarantineRecord(
        id="1",
        reason="wrong_type",
        pointer="/m/load_t",
        detail="expected a number",
        topic=f"port/{QC01}/telemetry",
        uid=QC01,
        recv_ns=NOW,
        payload=b"\xff",
        payload_bytes=1,
        payload_sha256="0" * 64,
    )
    port.commit(
        devices=[device(QC01, latest={"load_t": (NOW, 1.0)}, info={"vendor": "x", "year": 2019}), device(G1)],
        events=[event(n) for n in range(5)],
        quarantine=[refusal],
        ledger=accounts,
        status=worker_status(),
    )
    registry = open_registry(port.records_url, read_only=False)
    for entry in (
        Site(site=SITE),
        RegisteredDevice(uid=QC01),
        Tag(tag="E1", carrier="C1"),
        Tag(tag="E2", carrier="C2"),
    ):
        registry.put(entry, actor="test", now_ns=NOW)
    square = {"type": "Polygon", "coordinates": [[[121.8, 29.9], [121.81, 29.9], [121.81, 29.91], [121.8, 29.9]]]}
    registry.put(Zone(id="A1", site=SITE, geometry=square), actor="test", now_ns=NOW)
    registry.close()
    return port


@pytest.fixture(scope="module")
def client(port: MadePort) -> Iterator[Client]:
    with client_of(port) as client:
        yield client


@pytest.fixture(scope="module")
def openapi(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.json("/openapi.json")
    return found


def check(openapi: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": openapi["components"]}).validate(value)


def operations(openapi: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, methods in openapi["paths"].items() for operation in methods.values()]


def test_nearly_every_path_answers_get_alone_and_all_have_names_summaries_and_descriptions(
    openapi: dict[str, Any],
) -> None:
    others = {path: list(methods) for path, methods in openapi["paths"].items() if list(methods) != ["get"]}
    assert others == {"/v1/devices/{id}/names": ["get", "put", "delete"], "/v1/devices/{id}/commands": ["post"]}
    names = [operation["operationId"] for _, operation in operations(openapi)]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["description"] for _, operation in operations(openapi))


def test_every_example_fits_its_schema(openapi: dict[str, Any]) -> None:
    checked = 0
    for path, operation in operations(openapi):
        for kind, content in operation["responses"]["200"]["content"].items():
            assert "example" in content, path
            check(openapi, content["schema"], content["example"])
            checked += kind == "application/json"
        for parameter in operation.get("parameters", ()):
            for example in parameter["schema"].get("examples", ()):
                check(openapi, parameter["schema"], example)
    assert checked == len(operations(openapi)) - 2
    problem = openapi["components"]["schemas"]["Problem"]
    check(openapi, problem, problem["examples"][0])


def test_every_error_is_described_as_a_problem(openapi: dict[str, Any]) -> None:
    for path, operation in operations(openapi):
        for status, response in operation["responses"].items():
            if status != "200":
                assert list(response["content"]) == ["application/problem+json"], (path, status)
    assert not {"HTTPValidationError", "ValidationError"} & set(openapi["components"]["schemas"])


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/devices", "/v1/devices?limit=1"),
        ("/v1/devices/{id}", "/v1/devices/QC01"),
        ("/v1/devices/{id}/telemetry", "/v1/devices/QC01/telemetry?metric=load_t&step=1m"),
        ("/v1/devices/{id}/telemetry", "/v1/devices/QC01/telemetry?metric=power_kw"),
        ("/v1/devices/{id}/health", "/v1/devices/QC01/health"),
        ("/v1/devices/{id}/names", "/v1/devices/QC01/names"),
        ("/v1/registry/{kind}", "/v1/registry/zone"),
        ("/v1/registry/{kind}", "/v1/registry/tag?limit=1"),
        ("/v1/throughput", "/v1/throughput?group_by=crane&step=5m"),
        ("/v1/throughput", "/v1/throughput?group_by=gate"),
        ("/v1/throughput", "/v1/throughput?group_by=site"),
        ("/v1/throughput", "/v1/throughput?site=CNSHA-YS1"),
        ("/v1/events", "/v1/events?limit=2"),
        ("/v1/quarantine", "/v1/quarantine"),
        ("/v1/ledger", "/v1/ledger"),
        ("/v1/vocabulary", "/v1/vocabulary"),
        ("/healthz", "/healthz"),
        ("/version", "/version"),
    ],
)
def test_an_answer_fits_its_description_to_the_last_member(
    client: Client, openapi: dict[str, Any], path: str, asked: str
) -> None:
    schema = openapi["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    check(openapi, schema, client.json(asked))


def test_a_problem_fits_its_description(client: Client, openapi: dict[str, Any]) -> None:
    for path in ("/nowhere", "/v1/devices/QC77", "/v1/events?limit=0", "/readyz", "/docs"):
        check(openapi, openapi["components"]["schemas"]["Problem"], client.get(path).json())


def test_every_parameter_is_documented(root: Any, openapi: dict[str, Any]) -> None:
    text = (root / "docs" / "api.md").read_text()
    sections = {part.split("\n")[0].strip("` "): part for part in text.split("\n### ")[1:]}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            section = sections[f"{method.upper()} {path}"].lower()
            for parameter in operation.get("parameters", ()):
                assert f"`{parameter['name']}`".lower() in section, (method, path, parameter["name"])


def test_the_metrics_tell_what_worker_ledger_and_api_say(client: Client) -> None:
    text = client.get("/metrics").text
    for line in (
        'quayflow_ingest_status_age_seconds{worker="w1"} 1.0',
        'quayflow_ingest_broker_connected{worker="w1"} 1.0',
        'quayflow_ingest_journal_frames_total{worker="w1"} 60.0',
        'quayflow_ledger_frames_total{account="received",reason=""} 9.0',
        "quayflow_ledger_balanced 1.0",
        "quayflow_store_reachable 1.0",
        "quayflow_stream_clients 0.0",
    ):
        assert line in text.splitlines()
    client.get("/v1/devices/QC01")
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'quayflow_api_requests_total{method="GET",route="/v1/devices/{id}",status="200"}' in text
    assert "/nowhere" not in text


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    # A port of its own: some of the requests change it.
    port = made(tmp_path_factory.mktemp("asked"))
    with served(create_app(port.config(change_secret=SECRET), clock=Clock())) as url:
        # The stream never ends, /readyz truly is not ready here, and no device answers commands: see test_commands.
        yield schemathesis.openapi.from_url(f"{url}/openapi.json").exclude(
            path=["/v1/stream", "/readyz", "/v1/devices/{id}/commands"]
        )


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_generated_requests_find_no_fault(described: BaseSchema, mode: GenerationMode) -> None:
    asked: set[str] = set()
    for result in described.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.definition.raw.get("parameters"):
            continue

        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
        def ask(case: schemathesis.Case[Any], known: bool) -> None:
            if case.operation.method.upper() != "GET":
                case.headers["Authorization"] = f"Bearer {SECRET}"
            if known and mode is GenerationMode.POSITIVE and "id" in case.path_parameters:
                case.path_parameters["id"] = "QC01"
            # A range may be well-formed and yet reversed or too wide: not all that fits the schema is accepted.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])
            asked.add(case.operation.path)

        ask()
    assert len(asked) >= 7


def test_the_registry_is_paged_and_filtered(client: Client) -> None:
    first = client.json("/v1/registry/tag", limit=1)
    second = client.json("/v1/registry/tag", limit=1, cursor=first["next"])
    assert [page["items"][0]["entry"]["carrier"] for page in (first, second)] == ["C1", "C2"]
    assert (second["next"], second["revision"]) == (None, 5)
    assert client.json("/v1/registry/zone", site="DEHAM-CTA")["items"] == []
    client.problem(422, "/v1/registry/ship")


def test_a_device_s_health_says_why_it_is_silent(client: Client) -> None:
    found = client.json("/v1/devices/QC01/health")
    assert (found["live"], found["registered"], found["quarantined"]) == (True, True, {})
    assert found["verdict"] == "live, and in part refused as wrong_type at /m/load_t: expected a number"
    assert found["refusals"][0]["reason"] == "wrong_type"
    client.problem(404, "/v1/devices/QC77/health")

"""The compose file and what it mounts, checked without an engine: no machine of ours runs one."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from analytics.rows import TIERS_S
from devices.vocabulary import BY_NAME
from engines.influx import Influx
from quayflow.settings import Settings, load
from store.line_protocol import FLOAT_FIELDS, INTEGER_FIELDS, TAGS, measurement

PINNED = re.compile(r"[a-z0-9./-]+:v?\d+(\.\d+)+(-[a-z0-9]+)*")
METRIC = re.compile(r"\b(quayflow_\w+?)(?:_total)?\b")
INTERPOLATED = re.compile(r"\$\{(\w+)(:-[^}]*)?\}")


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


@pytest.fixture(scope="module")
def dashboards(root: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in (root / "deploy/grafana/dashboards").glob("*.json")}


def queries(dashboard: dict[str, Any], kind: str) -> list[str]:
    targets = [(panel, target) for panel in dashboard["panels"] for target in panel.get("targets", ())]
    found = [target for panel, target in targets if (target.get("datasource") or panel["datasource"])["type"] == kind]
    return [target["query" if kind == "influxdb" else "expr"] for target in found]


def quayflow_variables(root: Path) -> set[str]:
    texts = [(root / name).read_text() for name in ("docker-compose.yml", "Dockerfile", "docs/deploy.md")]
    return {name for text in texts for name in re.findall(r"\bQUAYFLOW_[A-Z0-9_]+", text)}


def test_the_file_is_what_the_compose_specification_allows(compose: dict[str, Any]) -> None:
    schema = json.loads(files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text())
    jsonschema.validate(compose, schema)


def test_the_parts_of_the_house_are_there(services: dict[str, dict[str, Any]]) -> None:
    always = {name for name, service in services.items() if not service.get("profiles")}
    assert always == {"broker", "influxdb", "postgres", "ingest", "api", "simulators"}
    assert {name for name in services if name not in always} == {"prometheus", "grafana"}


def test_images_are_pinned_by_version(services: dict[str, dict[str, Any]]) -> None:
    assert [service["image"] for service in services.values() if not PINNED.fullmatch(service["image"])] == []


def test_the_image_has_the_version_of_the_distribution(root: Path, services: dict[str, dict[str, Any]]) -> None:
    version = re.search(r'^version = "(.+)"', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert {s["image"] for s in services.values() if "build" in s} == {f"quayflow:{version[1]}"}


def test_every_file_mounted_exists(root: Path, services: dict[str, dict[str, Any]]) -> None:
    mounted = [volume.split(":")[0] for s in services.values() for volume in s.get("volumes", ()) if volume[0] == "."]
    assert mounted
    assert [path for path in mounted if not (root / path).exists()] == []


def test_every_named_volume_is_declared_and_used(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    used = {volume.split(":")[0] for s in services.values() for volume in s.get("volumes", ()) if volume[0] != "."}
    assert used == set(compose["volumes"])


def test_every_dependency_is_a_service_that_can_be_waited_for(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, condition in dict.fromkeys(service.get("depends_on", ()), None).items():
            assert other in services, f"{name} waits for {other}"
            wants = service["depends_on"][other]["condition"] if isinstance(service["depends_on"], dict) else condition
            assert wants != "service_healthy" or "test" in services[other].get("healthcheck", {}), f"{name} → {other}"


def test_every_port_is_published_on_this_host_alone(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_every_variable_is_a_setting(root: Path) -> None:
    known = {f"QUAYFLOW_{name.upper()}" for name in Settings.model_fields}
    variables = quayflow_variables(root)
    assert variables
    assert variables - known == set()


def test_every_interpolated_variable_has_a_value_of_its_own_and_is_documented(root: Path) -> None:
    text, guide = (root / "docker-compose.yml").read_text(), (root / "docs" / "deploy.md").read_text()
    for name, default in INTERPOLATED.findall(text):
        assert default, f"{name} has no default: `docker compose up -d` must do without an .env"
        assert f"`{name}`" in guide, f"{name} is not in docs/deploy.md"


def test_the_settings_of_each_part_are_valid(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in (services[name] for name in ("ingest", "api", "simulators")):
        with monkeypatch.context() as patch:
            for name, value in service["environment"].items():
                patch.setenv(name, INTERPOLATED.sub(lambda found: found[2][2:], value))
            found = load()
        assert found.broker_host == "broker"
        assert found.broker_username is None, "an empty variable is no user name"


def test_the_image_copies_what_exists(root: Path) -> None:
    text = (root / "Dockerfile").read_text()
    copies = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ") and "--from=" not in line]
    sources = [source for line in copies for source in line]
    assert [source for source in sources if not (root / source).exists()] == []
    admitted = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source.split("/")[0] for source in sources} <= admitted


def test_the_image_runs_as_nobody_special(root: Path) -> None:
    text = (root / "Dockerfile").read_text()
    assert re.search(r"^USER quayflow$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text


def test_grafana_finds_what_it_is_given(root: Path, services: dict[str, dict[str, Any]]) -> None:
    sources = yaml.safe_load((root / "deploy/grafana/provisioning/datasources/quayflow.yml").read_text())["datasources"]
    hosts = {re.search(r"//([a-z]+):", source["url"])[1] for source in sources}  # type: ignore[index]
    assert hosts <= set(services)
    provider = yaml.safe_load((root / "deploy/grafana/provisioning/dashboards/quayflow.yml").read_text())["providers"][
        0
    ]
    targets = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    assert provider["options"]["path"] in targets


def test_dashboards_use_the_provisioned_sources(root: Path, dashboards: dict[str, dict[str, Any]]) -> None:
    text = (root / "deploy/grafana/provisioning/datasources/quayflow.yml").read_text()
    known = {(source["type"], source["uid"]) for source in yaml.safe_load(text)["datasources"]}
    used = {
        (part["datasource"]["type"], part["datasource"]["uid"])
        for dashboard in dashboards.values()
        for panel in dashboard["panels"]
        for part in (panel, *panel.get("targets", ()))
        if "datasource" in part
    }
    assert used
    assert used <= known


def test_dashboards_ask_influxdb_for_what_the_store_writes(dashboards: dict[str, dict[str, Any]]) -> None:
    measurements = {measurement(tier) for tier in TIERS_S}
    fields = {*INTEGER_FIELDS, *FLOAT_FIELDS, "mean"}
    asked = [query for dashboard in dashboards.values() for query in queries(dashboard, "influxdb")]
    assert asked
    for query in asked:
        select, rest = query.split(" FROM ")
        assert set(re.findall(r'"(\w+)"', select)) <= fields, query
        source, conditions = rest.split(" WHERE ")
        assert source.strip('"') in measurements, query
        assert set(re.findall(r'"(\w+)"', conditions)) <= set(TAGS), query
        assert set(re.findall(r"\"metric\" = '(\w+)'", conditions)) <= set(BY_NAME), query


def test_influxdb_understands_every_question_of_the_dashboards(
    influx: Influx, dashboards: dict[str, dict[str, Any]]
) -> None:
    influx.create("dashboards")
    for query in (query for dashboard in dashboards.values() for query in queries(dashboard, "influxdb")):
        plain = query.replace("$timeFilter", "time >= now() - 6h").replace("$__interval", "10s")
        answer = json.loads(influx.ask(plain, "dashboards"))
        assert "error" not in answer, f"{query}: {answer}"
        assert "error" not in answer["results"][0], f"{query}: {answer}"


def test_dashboards_ask_prometheus_for_metrics_that_exist(root: Path, dashboards: dict[str, dict[str, Any]]) -> None:
    documented = set(METRIC.findall((root / "docs" / "metrics.md").read_text()))
    asked = {
        name
        for dashboard in dashboards.values()
        for query in queries(dashboard, "prometheus")
        for name in METRIC.findall(query)
    }
    assert asked
    assert asked - documented == set()


def test_prometheus_asks_the_api(root: Path, services: dict[str, dict[str, Any]]) -> None:
    (job,) = yaml.safe_load((root / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    ((target,),) = [entry["targets"] for entry in job["static_configs"]]
    host, port = target.split(":")
    assert services[host]["environment"]["QUAYFLOW_PORT"] == port

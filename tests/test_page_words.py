"""The page's Chinese words for what the code says: none is missing, and real sentences are among those known."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_port import MadePort, client_of, device

from analytics.kpis import DEFINITIONS
from api.problems import KINDS
from devices.codecs import native
from devices.rejects import Reason, Reject, RejectError
from devices.topics import TopicError, parse
from devices.unknown_names import refusal_of
from engines.ports import free_port
from store.admission import Admission
from store.registry_entries import Policy


@pytest.fixture(scope="module")
def words(root: Path) -> str:
    return (root / "web/src/i18n/details.zh.ts").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def problem_words(root: Path) -> str:
    return (root / "web/src/i18n/problems.zh.ts").read_text(encoding="utf-8")


def test_every_reason_is_explained(words: str) -> None:
    explained = words[words.index("EXPLAINED") : words.index("WORDS")]
    assert set(re.findall(r"^  (\w+): \"", explained, re.MULTILINE)) == set(Reason)


def test_every_definition_is_translated_in_its_version(root: Path) -> None:
    translated = (root / "web/src/i18n/kpis.zh.ts").read_text(encoding="utf-8")
    assert set(re.findall(r'^  "([\w/]+)": {', translated, re.MULTILINE)) == {
        f"{kpi.id}/{kpi.version}" for kpi in DEFINITIONS.values()
    }


def test_every_kind_of_problem_is_explained(problem_words: str) -> None:
    explained = problem_words[problem_words.index("PROBLEMS") : problem_words.index("PROBLEM_SENTENCES")]
    assert set(re.findall(r"^  \"?([\w-]+)\"?: \"", explained, re.MULTILINE)) == set(KINDS)


ASKED: tuple[tuple[str, str, dict[str, str], dict[str, object]], ...] = (
    ("GET", "/v1/devices/QC99", {}, {}),
    ("GET", "/v1/devices/CNNGB-DEMO~quay-crane~QC99/health", {}, {}),
    ("GET", "/v1/devices/QC09", {}, {}),
    ("GET", "/v1/devices/QC01/telemetry", {"metric": "lod_t"}, {}),
    ("GET", "/v1/devices/QC01/telemetry", {"metric": "zzz"}, {}),
    ("GET", "/v1/throughput", {"start": "-1h", "end": "-2h"}, {}),
    ("GET", "/v1/throughput", {"start": "-5s"}, {}),
    ("GET", "/v1/throughput", {"start": "-401d"}, {}),
    ("GET", "/v1/throughput", {"start": "-30d", "step": "10s"}, {}),
    ("GET", "/v1/throughput", {"start": "yesterday"}, {}),
    ("GET", "/v1/nothing", {}, {}),
    ("POST", "/v1/devices", {}, {}),
    ("PUT", "/v1/devices/QC01/names", {"name": "h"}, {"metric": "nothing"}),
    ("PUT", "/v1/devices/QC01/names", {"name": "h"}, {"metric": "hoist_height_m", "scale": 0}),
    ("DELETE", "/v1/devices/QC01/names", {"name": "h"}, {}),
    ("POST", "/v1/devices/QC01/commands", {}, {"name": "status", "timeout": "0s"}),
    ("POST", "/v1/devices/QC01/commands", {}, {"name": "status", "timeout": "2h"}),
    ("POST", "/v1/devices/QC01/commands", {}, {"name": "status", "timeout": "1s"}),
)
"""Requests that fail: method, path, parameters, body."""


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return what the page shows of problems, in English."""
    port = MadePort(tmp_path_factory.mktemp("problems"))
    uids = ("CNNGB-DEMO/quay-crane/QC01", "CNNGB-DEMO/quay-crane/QC09", "CNSHA-YS1/quay-crane/QC09")
    port.commit(devices=[device(uid) for uid in uids])
    secret = "sixteen letters and more"
    headers = {"Authorization": f"Bearer {secret}"}
    with client_of(port, change_secret=secret, broker_port=free_port()) as client:
        found = [
            client.request(method, path, params=parameters, json=body, headers=headers).json()
            for method, path, parameters, body in ASKED
        ]
        found.append(client.request("DELETE", "/v1/devices/QC01/names", params={"name": "h"}).json())
    asked = ("DELETE", "/v1/devices/QC01/names")
    with client_of(port) as client:
        faults: tuple[dict[str, str], ...] = (
            {"origin": "http://elsewhere"},
            {"forwarded": "for=10.0.0.1"},
            {"host": "elsewhere"},
            {},
        )
        found += [client.request(*asked, params={"name": "h"}, headers=fault).json() for fault in faults]
    with client_of(port, local_changes=False) as client:
        found.append(client.request(*asked, params={"name": "h"}).json())
    return [shown(problem) for problem in found]


def shown(problem: dict[str, Any]) -> str:
    """Return what the page shows of a problem: what is wrong with a field of the body stands beside the field."""
    first: dict[str, str] = next(iter(problem["errors"]), {})
    return str(first["detail"] if first.get("pointer") else problem["detail"])


def test_the_problems_that_a_page_meets_are_known_in_chinese(problem_words: str, problems: list[str]) -> None:
    patterns = patterns_of(problem_words[problem_words.index("PROBLEM_SENTENCES") :])
    assert len(patterns) > 30
    assert [detail for detail in problems if not any(pattern.search(detail) for pattern in patterns)] == []


def patterns_of(table: str) -> list[re.Pattern[str]]:
    """Return the patterns of a table of sentences."""
    found = re.findall(r"^  \[/(.*?)/s?, [\"']", table, re.MULTILINE)
    return [re.compile(pattern.replace("\\/", "/"), re.DOTALL) for pattern in found]


def _rejected(decode: Callable[[bytes], object], payload: bytes) -> Reject:
    with pytest.raises(RejectError) as caught:
        decode(payload)
    return caught.value.reject


PAYLOADS = (
    b'{"v":1,"m":',
    b'{"v":1,"m":{"load_t":2}',
    b'{"v":1 "m":{}}',
    b"\xc1",
    b'{"v":2,"m":{"load_t":2}}',
    b'{"m":{"load_t":2}}',
    b'{"v":1}',
    b'{"v":"1","m":{}}',
    b'{"v":1,"m":[]}',
    b'{"v":1,"seq":-1,"m":{}}',
    b'{"v":1,"m":{"load_t":"heavy"}}',
    b'{"v":1,"m":{"load_t":null}}',
    b'{"v":1,"m":{"load_t":{}}}',
    b'{"v":1,"m":{"load_t":NaN}}',
    b'{"v":1,"m":{},"extra":1}',
    b"[1]",
    b"12.5",
)


def details() -> list[str]:
    """Return what the code says of common mistakes."""
    found = [_rejected(native.decode_telemetry, payload).detail for payload in PAYLOADS]
    found.append(
        _rejected(lambda at: native.event_time(native.Telemetry(v=1, ts=at.decode(), m={}), 0), b"today").detail
    )
    for topic in ("port/x", "port/?/vehicle/T/cmd", "port/CNNGB-DEMO/ship/T/cmd", "port/CNNGB-DEMO/vehicle/ /cmd"):
        with pytest.raises(TopicError) as caught:
            parse(topic)
        found.append(f"{caught.value.level}: {caught.value}")
    for value in ((), (14500.0,)):
        found += [refusal_of("CNNGB-DEMO/quay-crane/QC01", name, *value) for name in ("hoist mm", "x" * 300)]
    key = parse("port/CNNGB-DEMO/vehicle/T/telemetry").key
    for admission in (Admission(default=Policy.CLOSED), Admission(devices={key.uid: False})):
        refusal = admission.refusal(key)
        assert refusal is not None
        found.append(refusal)
    return found


def test_what_the_code_says_of_common_mistakes_is_known_in_chinese(words: str) -> None:
    patterns = patterns_of(words[words.index("SENTENCES") :])
    assert len(patterns) > 50
    assert [detail for detail in details() if not any(pattern.search(detail) for pattern in patterns)] == []

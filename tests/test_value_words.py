"""Values of the wrong kind are told in words of ours, whatever pydantic would say of them."""

import json
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from made_port import MadePort, client_of, device
from pydantic import TypeAdapter, ValidationError
from pydantic_core import _pydantic_core

from api.problems import BODY_UNREADABLE
from api.routes.commands import CommandRequest
from api.routes.names import Meaning
from quayflow.settings import Settings, SettingsError, SourceSettings, load
from store.value_words import KINDS, OTHERWISE, SENTENCES, said_of, words_of

SECRET = "sixteen letters and more"
HALF = "a\ud800"
WRONG: tuple[Any, ...] = (
    *(None, True, 3, -1, 2**70, 1.5, 1e300, float("nan"), float("inf"), float("-inf"), object()),
    *("", " ", "x", "x" * 10_000, "1", "1.5", "-1", "9" * 5_000, "inf", "nan", "true", HALF, "a\0b", b"x", b"\xff"),
    *([], [5], ["x"], [{}], (), ("x",), {}, {"x": 1}, {str(nth): nth for nth in range(100)}),
    *(
        ip_address("::1"),
        Path(),
        {"args": {"x": [1]}},
        {"args": {"x": {}}},
        {"args": {HALF: 1}},
        {"args": {"x": 2**80}},
    ),
    *(
        {"name": "x" * 100},
        {"name": ""},
        {"name": HALF},
        {"metric": 5, "scale": "x"},
        {"codec": 5, "class": "y", "x": 1},
    ),
    *({"name": "a", "args": 5}, {"name": "a", "args": {str(nth): nth for nth in range(100)}}),
    *({"filters": 5}, {"filters": [5]}, {"site": 5}, {"zone": 5}, {"timeout": "x"}, {"timeout": 5}, {"id": ""}),
)
"""A value of every kind, and of every shape that a model here has, with something wrong in it."""


def adapters() -> Iterator[TypeAdapter[Any]]:
    """Yield what validates every setting and everything that a request can hold."""
    for model in (Settings, SourceSettings):
        for field in model.model_fields.values():
            yield TypeAdapter(field.rebuild_annotation())
    yield from (TypeAdapter(model) for model in (SourceSettings, CommandRequest, Meaning))


def faults_found() -> Iterator[dict[str, Any]]:
    """Yield each entry of pydantic's about each wrong value."""
    for adapter in adapters():
        for value in WRONG:
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                yield from (dict(each) for each in error.errors())


@pytest.fixture(scope="module")
def met() -> dict[str, dict[str, Any]]:
    """Return one entry for each kind of fault that a wrong value meets here."""
    return {each["type"]: each for each in faults_found()}


def test_every_kind_of_fault_that_a_model_here_can_raise_has_words_of_its_own(met: dict[str, dict[str, Any]]) -> None:
    # Such as a bound that no setting has at the moment, and what FastAPI says of a body.
    others = {"less_than", "json_invalid", "string_sub_type", "model_attributes_type"}
    assert met.keys() - {"value_error"} - KINDS.keys() - SENTENCES.keys() == set()
    assert KINDS.keys() | SENTENCES.keys() <= met.keys() | others
    assert len(met) > 20


def test_nothing_of_what_is_said_is_said_by_pydantic(met: dict[str, dict[str, Any]]) -> None:
    said = {kind: said_of([fault]) for kind, fault in met.items()}
    del said["string_pattern_mismatch"]
    assert [kind for kind, words in said.items() if "{" in words or "Input" in words or "should" in words] == []
    assert [kind for kind, words in said.items() if words == OTHERWISE] == []
    assert all(words not in {str(fault["msg"]) for fault in met.values()} for words in said.values())


def test_a_kind_of_fault_that_is_not_in_the_table_is_told_without_pydantics_words() -> None:
    kinds = {each["type"]: each["example_context"] or {} for each in _pydantic_core.list_all_errors()}
    for kind, context in kinds.items():
        expected, wrong = words_of(kind, context)
        assert bool(expected) != bool(wrong), kind
        assert wrong in {*SENTENCES.values(), OTHERWISE, ""} or kind == "value_error"


ASKED: tuple[tuple[str, str, Any, str, str], ...] = (
    ("GET", "/v1/devices?limit=x", None, "limit", "expected a whole number"),
    ("GET", "/v1/devices?limit=0", None, "limit", "expected at least 1"),
    ("GET", "/v1/devices?limit=5000", None, "limit", "expected at most 1000"),
    ("GET", "/v1/events?order=up", None, "order", "expected one of asc, desc"),
    ("GET", "/v1/events?type=", None, "type", "expected text of length 1 or more"),
    ("GET", "/v1/devices/QC01/telemetry", None, "metric", "it is required"),
    ("POST", "commands", {}, "/name", "it is required"),
    ("POST", "commands", [], "", "expected an object"),
    ("POST", "commands", b"", "", "it is required"),
    ("POST", "commands", b"{", "", "it is no JSON"),
    ("POST", "commands", {"name": 5}, "/name", "expected text"),
    ("POST", "commands", {"name": "a", "to": 1}, "/to", "there is no such field here"),
    ("POST", "commands", {"name": "a", "to/~me": 1}, "/to~1~0me", "there is no such field here"),
    (
        "POST",
        "commands",
        {"name": "a", "args": {"x": [1]}},
        "/args/x",
        "expected text or a whole number or a number or true or false",
    ),
    ("POST", "commands", {"name": "a", "args": {"x": 2**70}}, "/args/x", "a whole number beyond 64 bits"),
    ("POST", "commands", b'{"name":"a","args":{"x":"\\ud800"}}', "/args/x", "text with half of a character"),
    ("PUT", "names?name=h", {"metric": "load_t", "scale": "much"}, "/scale", "expected a number"),
)
"""Method, path, body, the place that is blamed, and the words."""


def test_a_request_is_told_what_is_wrong_and_where(tmp_path: Path, root: Path) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device("CNNGB-DEMO/quay-crane/QC01")])
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    with client_of(port, change_secret=SECRET) as client:
        for method, path, body, place, words in ASKED:
            where = path if path.startswith("/") else f"/v1/devices/QC01/{path}"
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            answer = client.request(method, where, content=content, headers=headers)
            (entry,) = answer.json()["errors"]
            assert (answer.status_code, entry) == (
                422,
                {"parameter" if method == "GET" else "pointer": place, "detail": words},
            )
            assert answer.json()["detail"] == (f"{place}: {words}" if place else words)
        unread = client.request("POST", "/v1/devices/QC01/commands", content=b"\xff", headers=headers)
        assert (unread.status_code, unread.json()["detail"]) == (400, BODY_UNREADABLE)
        plain = headers | {"Content-Type": "text/plain"}
        (said,) = client.request("POST", "/v1/devices/QC01/commands", content=b"{}", headers=plain).json()["errors"]
        assert said == {"pointer": "", "detail": "expected JSON, sent as Content-Type: application/json"}


def test_what_every_path_refuses_is_in_words_of_ours(tmp_path: Path) -> None:
    """Of each parameter of each path that is read, with each wrong value that a query can carry."""
    port = MadePort(tmp_path)
    port.commit(devices=[device("CNNGB-DEMO/quay-crane/QC01")])
    said: set[str] = set()
    with client_of(port) as client:
        for path, methods in client.app.openapi()["paths"].items():
            names = [each["name"] for each in methods.get("get", {}).get("parameters", ()) if each["in"] == "query"]
            for name in () if path == "/v1/stream" else names:
                for value in ("", "x", "-1", "1.5", "nan", "9" * 5_000, "a\0b"):
                    where = path.replace("{id}", "QC01").replace("{kind}", "zone")
                    answer = client.request("GET", where, params={name: value})
                    if answer.status_code == 422:
                        said |= {entry["detail"] for entry in answer.json()["errors"]}
    assert {"expected a whole number", "expected at least 1", "expected one of asc, desc"} <= said
    assert [words for words in said if "Input" in words or "should" in words or words == OTHERWISE] == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"port": "x"}, "port: expected a whole number (got 'x')"),
        ({"secure": "perhaps"}, "secure: expected true or false (got 'perhaps')"),
        ({"access_secret": "short"}, "access_secret: expected text of length 16 or more (got what is not shown)"),
        ({"journal_keep_s": "inf"}, "journal_keep_s: expected a number that is not infinite (got 'inf')"),
        ({"gateway_idle_s": float("inf")}, "gateway_idle_s: expected a number that is not infinite (got inf)"),
        ({"registration": "maybe"}, "registration: expected one of open, closed (got 'maybe')"),
        ({"topic_filters": ()}, "topic_filters: expected at least one topic filter (got ())"),
        ({"sources": [{}]}, "sources.0.codec: it is required (got {})"),
    ],
)
def test_a_setting_is_told_what_is_wrong(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**flags)
    assert str(caught.value) == f"settings cannot be used:\n  {words}"


def test_of_a_long_value_only_the_begin_is_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load(port="9" * 5_000)
    assert len(str(caught.value)) < 400


def test_every_word_is_known_in_chinese(root: Path) -> None:
    table = (root / "web/src/i18n/problems.zh.ts").read_text(encoding="utf-8")
    patterns = [
        re.compile(found.replace("\\/", "/"), re.DOTALL)
        for found in re.findall(r"^  \[/(.*?)/s?, [\"']", table, re.MULTILINE)
    ]
    numbers = {
        "expected": "a, b",
        "pattern": "^a$",
        "ge": 1,
        "gt": 1,
        "le": 1,
        "lt": 1,
        "max_length": 2,
        "min_length": 1,
    }
    said = [f"expected {words.format_map(numbers)}" for words in KINDS.values()]
    for words in (*said, *SENTENCES.values(), OTHERWISE, BODY_UNREADABLE, *(row[-1] for row in ASKED)):
        assert any(pattern.search(words) for pattern in patterns), words
        assert any(pattern.search(f"/name: {words}") for pattern in patterns) or words == BODY_UNREADABLE, words

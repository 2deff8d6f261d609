"""The page's Chinese words for what the code says: none is missing, and real sentences are among those known."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analytics.kpis import DEFINITIONS
from devices.codecs import native
from devices.rejects import Reason, Reject, RejectError
from devices.topics import TopicError, parse
from devices.unknown_names import refusal_of
from store.admission import Admission
from store.registry_entries import Policy


@pytest.fixture(scope="module")
def words(root: Path) -> str:
    return (root / "web/src/i18n/details.zh.ts").read_text(encoding="utf-8")


def test_every_reason_is_explained(words: str) -> None:
    explained = words[words.index("EXPLAINED") : words.index("WORDS")]
    assert set(re.findall(r"^  (\w+): \"", explained, re.MULTILINE)) == set(Reason)


def test_every_definition_is_translated_in_its_version(root: Path) -> None:
    translated = (root / "web/src/i18n/kpis.zh.ts").read_text(encoding="utf-8")
    assert set(re.findall(r'^  "([\w/]+)": {', translated, re.MULTILINE)) == {
        f"{kpi.id}/{kpi.version}" for kpi in DEFINITIONS.values()
    }


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
    sentences = words[words.index("SENTENCES") :]
    patterns = [
        re.compile(pattern.replace("\\/", "/"), re.DOTALL)
        for pattern in re.findall(r"^  \[/(.*?)/s?, [\"']", sentences, re.MULTILINE)
    ]
    assert len(patterns) > 50
    assert [detail for detail in details() if not any(pattern.search(detail) for pattern in patterns)] == []

"""Native topics: parse is the inverse of topic_of, and says which level is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.topics import DeviceKey, Stream, Topic, TopicError, event_topic, live_topic, parse, status_topic, topic_of
from devices.vocabulary import DeviceClass

sites = st.from_regex(r"[A-Z]{2}[A-Z0-9]{3}-[A-Z0-9]{1,12}", fullmatch=True)
devices = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", fullmatch=True)
keys = st.builds(DeviceKey, sites, st.sampled_from(sorted(DeviceClass)), devices)


@given(keys, st.sampled_from(Stream))
def test_parse_is_the_inverse_of_topic_of(key: DeviceKey, stream: Stream) -> None:
    assert parse(topic_of(key, stream)) == Topic(key, stream)


@given(keys)
def test_uid_leads_back_to_the_key(key: DeviceKey) -> None:
    assert DeviceKey.from_uid(key.uid) == key


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused_by_level(text: str) -> None:
    level = ""
    try:
        key, stream = parse(text)
        again = topic_of(key, stream)
    except TopicError as error:
        level, again = error.level, text
    assert level in {"", "topic", "site", "class", "device", "stream"}
    assert again == text


@pytest.mark.parametrize(
    ("topic", "level"),
    [
        ("", "topic"),
        ("port", "topic"),
        ("port/CNNGB-DEMO/vehicle/T1", "topic"),
        ("port/CNNGB-DEMO/vehicle/T1/telemetry/more", "topic"),
        ("Port/CNNGB-DEMO/vehicle/T1/telemetry", "topic"),
        ("/port/CNNGB-DEMO/vehicle/T1/telemetry", "topic"),
        ("port//vehicle/T1/telemetry", "site"),
        ("port/CNNGB/vehicle/T1/telemetry", "site"),
        ("port/cnngb-demo/vehicle/T1/telemetry", "site"),
        ("port/CNNGB-/vehicle/T1/telemetry", "site"),
        ("port/CNNGB-DEMODEMODEMOD/vehicle/T1/telemetry", "site"),
        ("port/CNNGB-DEMO\n/vehicle/T1/telemetry", "site"),
        ("port/CNNGB-DEMO/truck/T1/telemetry", "class"),
        ("port/CNNGB-DEMO/Vehicle/T1/telemetry", "class"),
        ("port/CNNGB-DEMO/vehicle//telemetry", "device"),
        ("port/CNNGB-DEMO/vehicle/-T1/telemetry", "device"),
        ("port/CNNGB-DEMO/vehicle/T 1/telemetry", "device"),
        ("port/CNNGB-DEMO/vehicle/Т1/telemetry", "device"),  # noqa: RUF001 - Cyrillic on purpose
        ("port/CNNGB-DEMO/vehicle/T1\x00/telemetry", "device"),
        ("port/CNNGB-DEMO/vehicle/" + "T" * 65 + "/telemetry", "device"),
        ("port/CNNGB-DEMO/vehicle/T1/", "stream"),
        ("port/CNNGB-DEMO/vehicle/T1/Telemetry", "stream"),
        ("port/CNNGB-DEMO/vehicle/T1/commands", "stream"),
    ],
)
def test_the_level_at_fault_is_named(topic: str, level: str) -> None:
    with pytest.raises(TopicError) as raised:
        parse(topic)
    assert raised.value.level == level
    assert "expected" in str(raised.value)


@pytest.mark.parametrize("level", range(1, 5))
def test_a_refusal_repeats_little_of_a_long_topic(level: int) -> None:
    levels = ["port", "CNNGB-DEMO", "vehicle", "T1", "telemetry"]
    levels[level] = "x" * 60_000
    with pytest.raises(TopicError) as raised:
        parse("/".join(levels))
    assert len(str(raised.value)) < 300


def test_results_have_topics_of_their_own() -> None:
    assert live_topic("CNNGB-DEMO", "vehicle") == "quayflow/CNNGB-DEMO/live/vehicle"
    assert event_topic("CNNGB-DEMO", "crane_move") == "quayflow/CNNGB-DEMO/events/crane_move"
    assert status_topic("ingest-1") == "quayflow/_workers/ingest-1/status"

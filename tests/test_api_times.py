"""Times and steps as people write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.times import (
    MAX_NS,
    STEP_PATTERN,
    TIME_PATTERN,
    format_duration,
    parse_duration,
    parse_step,
    parse_time,
    rfc3339_column,
)
from devices.times import NS, format_rfc3339, parse_rfc3339

NOW = parse_rfc3339("2026-11-23T08:00:00.5Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("-1h", NOW - 3_600 * NS),
        ("-90s", NOW - 90 * NS),
        ("-1h30m", NOW - 5_400 * NS),
        ("now-6h", NOW - 21_600 * NS),
        ("now+5m", NOW + 300 * NS),
        ("now 5m", NOW + 300 * NS),
        ("PT1H", NOW - 3_600 * NS),
        ("-PT1H", NOW - 3_600 * NS),
        ("P1DT2H", NOW - 93_600 * NS),
        ("P2W", NOW - 1_209_600 * NS),
        ("2026-11-23T08:00:00Z", NOW - NS // 2),
        ("2026-11-23T16:00:00+08:00", NOW - NS // 2),
        ("2026-11-23T16:00:00 08:00", NOW - NS // 2),
        ("2026-11-23T08:00:00.500000001Z", NOW + 1),
    ],
)
def test_a_time_is_absolute_or_relative_to_now(text: str, expected: int) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "yesterday",
            "1h",
            "-1",
            "-h",
            "now-",
            "now1h",
            "now--1h",
            "P",
            "PT",
            "P1M",
            "P1Y",
            "PT1H1H",
            "1700000000",
        ),
        *(
            "2026-11-23",
            "2026-11-23T08:00:00",
            "2026-13-01T00:00:00Z",
            "2026-11-23T08:00:61Z",
            "-1y",
            "-1.5h",
            "-\u0661h",
        ),
        *("9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "-999999999w", "x" * 5_000),
    ],
)
def test_what_is_no_time_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="allowed"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("5m", 300), ("PT5M", 300), ("1h", 3_600), ("1d", 86_400), ("P1D", 86_400), ("PT1M30S", 90)],
)
def test_a_step_is_a_multiple_of_ten_seconds(text: str, seconds: int) -> None:
    assert parse_step(text) == seconds


@pytest.mark.parametrize("text", ["0s", "5s", "15s", "-1m", "1", "m", "PT0S", "1.5m", "P1M", ""])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 10s, 5m"):
        parse_step(text)


@given(st.integers(1, 10**9))
def test_a_duration_survives_writing_and_reading(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.lists(st.one_of(st.integers(0, MAX_NS), st.integers(0, MAX_NS // NS).map(lambda n: n * NS)), max_size=20))
def test_the_bulk_format_is_the_single_format(times: list[int]) -> None:
    assert rfc3339_column(np.array(times, np.int64)) == [format_rfc3339(ns) for ns in times]


@given(st.one_of(st.from_regex(TIME_PATTERN, fullmatch=True), st.text(max_size=40)))
def test_any_text_is_a_time_or_refused_with_what_is_allowed(text: str) -> None:
    try:
        ns = parse_time(text, NOW)
    except ValueError as error:
        ns, said = 0, str(error)
    else:
        said = "allowed"
    assert 0 <= ns <= MAX_NS
    assert "allowed" in said


@given(st.one_of(st.from_regex(STEP_PATTERN, fullmatch=True), st.text(max_size=40)))
def test_any_text_is_a_step_or_refused_with_what_is_allowed(text: str) -> None:
    try:
        seconds = parse_step(text)
    except ValueError as error:
        seconds, said = 10, str(error)
    else:
        said = "such as"
    assert seconds > 0
    assert seconds % 10 == 0
    assert "such as" in said

"""RFC 3339 to nanoseconds and back."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.times import NS, format_rfc3339, parse_rfc3339

# From year 1677 to 2262: what int64 nanoseconds hold.
instants = st.integers(-(2**63), 2**63 - 1)


@given(instants)
def test_text_leads_back_to_the_nanosecond(ns: int) -> None:
    assert parse_rfc3339(format_rfc3339(ns)) == ns


@given(instants)
def test_text_has_no_more_digits_than_it_needs(ns: int) -> None:
    text = format_rfc3339(ns)
    digits = len(text.split(".")[1]) - 1 if "." in text else 0
    assert digits in {0, 3, 6, 9}
    assert ns % 10 ** (9 - digits) == 0
    assert digits == 0 or ns % 10 ** (12 - digits) != 0


@given(st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001 - zone below
def test_a_zone_is_taken_into_account(local: datetime, minutes: int) -> None:
    there = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = there - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_rfc3339(there.isoformat()) == (since // timedelta(microseconds=1)) * 1_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.5Z", -NS // 2),
        ("2026-11-23T08:15:30Z", 1_795_421_730 * NS),
        ("2026-11-23t08:15:30z", 1_795_421_730 * NS),
        ("2026-11-23 08:15:30Z", 1_795_421_730 * NS),
        ("2026-11-23T16:15:30+08:00", 1_795_421_730 * NS),
        ("2026-11-23T16:15:30+0800", 1_795_421_730 * NS),
        ("2026-11-23T08:15:30-00:00", 1_795_421_730 * NS),
        ("2026-11-22T22:15:30.25-10:00", 1_795_421_730 * NS + NS // 4),
        ("2026-11-23T08:15:30,25Z", 1_795_421_730 * NS + NS // 4),
        ("2026-11-23T08:15:30.1234567899Z", 1_795_421_730 * NS + 123_456_789),
        ("2026-11-23T08:15:30.999999999999999999Z", 1_795_421_730 * NS + 999_999_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * NS),
        ("2000-02-29T23:59:59Z", 951_868_799 * NS),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140 * NS),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139 * NS),
    ],
)
def test_a_time_is_read_exactly(text: str, ns: int) -> None:
    assert parse_rfc3339(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-23",
        "08:15:30Z",
        "2026-11-23T08:15Z",
        "2026-11-23T08:15:30",
        "2026-11-23T08:15:30.Z",
        "2026-11-23T08:15:30+8",
        "2026-11-23T08:15:30+08:00:00",
        "2026-11-23T08:15:30 +08:00",
        "2026-11-23T08:15:30Z\n",
        " 2026-11-23T08:15:30Z",
        "2026-11-23T24:00:01Z",
        "2026-11-23T08:60:00Z",
        "2026-11-23T08:15:61Z",
        "2026-11-23T08:15:30+24:00",
        "2023-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "12026-11-23T08:15:30Z",
        "-026-11-23T08:15:30Z",
        "२०२६-११-२३T०८:१५:३०Z",  # noqa: RUF001 - digits, but not those
        "2026-11-23T08:15:30.٢Z",
        "2026-11-23T08:15:30." + "1" * 19 + "Z",
        "1795421730",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_rfc3339(text)


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", fullmatch=True))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    try:
        found = parse_rfc3339(text)
    except ValueError:
        return
    assert isinstance(found, int)


def test_a_refusal_repeats_little_of_a_long_text() -> None:
    with pytest.raises(ValueError, match="RFC 3339") as raised:
        parse_rfc3339("9" * 100_000)
    assert len(str(raised.value)) < 200

"""Container numbers, size-type codes, places and plates: what is wrong with them is said, and nothing is lost."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.detectors.cranes import TEU_OF_SIZE_FT
from devices.codecs import places
from devices.codecs.iso6346 import (
    MAX_LINES,
    TEU,
    VALUE,
    ContainerNumbers,
    check_digit,
    describe,
    parse_number,
    parse_size_type,
)
from devices.rejects import Reason, RejectError

OWNERS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)


# --- container numbers -----------------------------------------------------------------------------------------------


def test_published_numbers_are_marked_as_their_sources_mark_them(recorded: Path) -> None:
    published = json.loads((recorded / "logistics" / "iso6346.json").read_text())
    assert all(parse_number(number).valid for number in published["valid"])
    for number, wrong in published["published_but_invalid"].items():
        found = parse_number(number)
        assert not found.valid
        assert found.expected == wrong["expected"]
    assert (len(published["valid"]), len(published["published_but_invalid"])) == (11, 5)


def test_the_doctest_of_another_library_agrees(recorded: Path) -> None:
    text = (recorded / "logistics" / "iso6346_python-stdnum.doctest").read_text()
    good, bad = text.split("Test with invalid numbers")
    numbers = re.findall(r"(?:validate|is_valid)\('(\w+)'\)", good)
    assert len(numbers) == 7
    assert all(parse_number(number).valid for number in numbers)
    for number, error in re.findall(r"validate\('(\w+)'\)\nTraceback.*\n    \.\.\.\n(\w+)", bad):
        if error == "InvalidChecksum":
            assert not parse_number(number).valid
        else:
            with pytest.raises(ValueError, match="expected 4 letters and 7 digits"):
                parse_number(number)


def test_values_of_letters_leave_out_the_multiples_of_eleven() -> None:
    assert (VALUE["A"], VALUE["B"], VALUE["K"], VALUE["L"], VALUE["U"], VALUE["V"], VALUE["Z"]) == (
        10,
        12,
        21,
        23,
        32,
        34,
        38,
    )


@given(OWNERS, st.sampled_from("UJZ"), st.integers(0, 999_999), st.integers(0, 9))
def test_exactly_one_check_digit_is_right(owner: str, category: str, serial: int, digit: int) -> None:
    ten = f"{owner}{category}{serial:06}"
    found = parse_number(f"{ten}{digit}")
    assert found.valid == (digit == check_digit(ten))
    assert found.text == f"{ten}{digit}"


@pytest.mark.parametrize("text", ["CSQU3054383", "csqu3054383", "CSQU 305438 3", "CSQU305438-3", " CSQU3054383\t"])
def test_a_number_is_read_as_people_write_it(text: str) -> None:
    assert parse_number(text).text == "CSQU3054383"


@pytest.mark.parametrize("text", ["", "CSQU305438", "CSQU3054Z83", "CSQ93054383", "CSQU30543833", "CSQU٣054383"])
def test_what_has_another_form_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected 4 letters and 7 digits"):
        parse_number(text)


# --- size-type codes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "length_ft", "teu", "height_ft", "group"),
    [
        ("22G1", 20, 1.0, 8.5, "general"),
        ("45R1", 40, 2.0, 9.5, "reefer"),
        ("42R0", 40, 2.0, 8.5, "reefer"),
        ("L5G1", 45, 2.25, 9.5, "general"),
        ("22gp", 20, 1.0, 8.5, "general"),
        ("4EG1", 40, 2.0, None, "general"),
        ("40EM", 40, 2.0, 8.0, None),
        ("4310", 40, 2.0, None, None),
        ("0000", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_a_size_type_says_as_much_as_it_says(
    code: str, length_ft: int | None, teu: float | None, height_ft: float | None, group: str | None
) -> None:
    assert parse_size_type(code)[1:] == (length_ft, teu, height_ft, group)


def test_a_box_counts_the_same_whether_a_message_or_a_crane_reports_it() -> None:
    assert all(TEU[size_ft] == teu == size_ft / 20 for size_ft, teu in TEU_OF_SIZE_FT.items())


@given(st.text(max_size=20), st.text(max_size=8))
def test_whatever_stands_for_a_container_is_kept(number: str, size_type: str) -> None:
    data, flags = describe(number, size_type)
    if "container_number" not in flags:
        assert data["container"] == parse_number(number).text
    else:
        assert data["container"] == number


# --- the codec -------------------------------------------------------------------------------------------------------


def test_numbers_come_one_a_line_with_or_without_a_size_type() -> None:
    readings = ContainerNumbers().decode(b"CSQU3054383 22G1\n\nTESI1120274\nhlxu1234561,45R1\r\n")
    assert [reading.happenings[0].data["container"] for reading in readings] == [
        "CSQU3054383",
        "TESI1120274",
        "HLXU1234561",
    ]
    assert [reading.flags for reading in readings] == [(), ("check_digit", "container_category"), ()]
    assert readings[0].happenings[0].data["teu"] == 1.0
    assert readings[1].happenings[0].data["expected"] == 7
    assert readings[2].happenings[0].data["type"] == "reefer"


@pytest.mark.parametrize(
    ("payload", "reason", "pointer"),
    [
        (b"", Reason.NO_SAMPLES, ""),
        (b"\xff", Reason.UNDECODABLE, ""),
        (b"CSQU3054383\nhello", Reason.WRONG_TYPE, "/1"),
        (b"CSQU3054383\n" * (MAX_LINES + 1), Reason.TOO_LARGE, ""),
    ],
)
def test_what_holds_no_numbers_is_refused_with_the_line(payload: bytes, reason: Reason, pointer: str) -> None:
    with pytest.raises(RejectError) as caught:
        ContainerNumbers().decode(payload)
    assert caught.value.reject[:2] == (reason, pointer)


# --- places and plates -----------------------------------------------------------------------------------------------


def test_published_locodes_have_the_form(recorded: Path) -> None:
    folder = recorded / "logistics"
    codes = re.findall(r"^([A-Z]\w{4}),", (folder / "unlocode_ningbo_neighbours.csv").read_text(), re.MULTILINE)
    codes += re.findall(r"[A-Z]{2}\w{3}", (folder / "unlocode_cn_parents.csv").read_text())
    assert len(codes) > 200
    assert [code for code in codes if not places.is_locode(code)] == []


@pytest.mark.parametrize("text", ["", "CNNG", "CNNGB1", "cnngb", "XXABC", "CNNG1", "CNNG0", "12345"])
def test_what_is_no_locode_is_told(text: str) -> None:
    assert not places.is_locode(text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("浙B·12345", "standard"),
        ("浙B 1234A", "standard"),
        ("沪ad12345", "new energy"),
        ("浙B12345F", "new energy"),
        ("浙B1234挂", "trailer"),
        ("京A1234警", "special"),
        ("粤Z1234港", "special"),
        ("993NGR", "foreign"),
        ("HH-AB 123", "foreign"),
        ("浙I12345", None),
        ("浙B1O345", None),
        ("hello", None),
        ("", None),
    ],
)
def test_a_plate_is_known_by_its_form(text: str, kind: str | None) -> None:
    assert places.plate_kind(text) == kind


def test_a_plate_is_compared_without_what_separates_its_parts() -> None:
    assert {places.plain_plate(text) for text in ("浙B·12345", "浙b 12345", "浙B-12345", "浙B12345")} == {"浙B12345"}

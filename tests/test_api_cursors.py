"""Cursors are opaque, bound to their list and question, and never trusted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import decode, encode, fingerprint

MARK = fingerprint([("site", "CNNGB-DEMO")])


@given(st.integers(0, 2**63 - 1), st.text(max_size=80))
def test_a_cursor_survives_writing_and_reading(number: int, text: str) -> None:
    written = encode("events", MARK, (number, text, None))
    assert written.isascii()
    assert decode("events", MARK, written, (int, str, int)) == (number, text, None)


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(ValueError, match="another list"):
        decode("devices", MARK, encode("events", MARK, (1,)), (int,))


def test_a_cursor_of_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="another question"):
        decode("events", fingerprint([("site", "CNSHA-X")]), encode("events", MARK, (1,)), (int,))


@pytest.mark.parametrize("position", [("a",), (True,), (1, 2), (None, None)])
def test_a_cursor_with_a_position_of_another_form_is_refused(position: tuple[int | str | None, ...]) -> None:
    with pytest.raises(ValueError, match="cursor"):
        decode("events", MARK, encode("events", MARK, position), (int,))


def test_the_order_of_the_filters_does_not_matter() -> None:
    assert fingerprint([("a", "1"), ("b", "2")]) == fingerprint([("b", "2"), ("a", "1")])


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: raw.hex())))
def test_any_text_is_a_cursor_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        decode("events", MARK, text, (int,))

"""GS1 keys outside a tag: check digits, element strings and the canonical Digital Link URI."""

from collections.abc import Container, Sequence
from typing import Final, NamedTuple

LINK: Final = "https://id.gs1.org"
UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
ATTRIBUTES: Final = frozenset({"11", "13", "15", "16", "17", "7006", "7007"})
"""Application identifiers that describe and do not identify: they stand in the query of a link."""


class Element(NamedTuple):
    """A GS1 application identifier and its value, as in ``(01)09506000134352``."""

    identifier: str
    value: str


def check_digit(digits: str) -> str:
    """Return the check digit of a GS1 key: weights 3 and 1 from the right (GS1 General Specifications, 7.9.1)."""
    total = sum(int(digit) * (3 if nth % 2 == 0 else 1) for nth, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def digital_link(elements: Sequence[Element]) -> str:
    """Return the canonical GS1 Digital Link URI: keys in the path, attributes such as dates in the query."""
    path = "".join(f"/{ai}/{_quoted(value)}" for ai, value in elements if ai not in ATTRIBUTES)
    query = "&".join(f"{ai}={_quoted(value)}" for ai, value in elements if ai in ATTRIBUTES)
    return f"{LINK}{path}" + (f"?{query}" if query else "")


def escaped(text: str, which: Container[str]) -> str:
    """Return ``text`` with the characters of ``which`` as percent and two hexadecimal digits."""
    return "".join(f"%{ord(character):02X}" if character in which else character for character in text)


def _quoted(text: str) -> str:
    return "".join(character if character in UNRESERVED else f"%{ord(character):02X}" for character in text)

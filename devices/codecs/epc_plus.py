"""EPC schemes with a + in their name, new in TDS 2.0: GS1 keys digit by digit, without partition (TDS 2.3, 14.5, 14.6).

After header, data toggle and filter follow the key as decimal digits of 4 bits and a serial in the form that needs the
fewest bits, which a 3-bit indicator names. The schemes with ++ add a host name, which is not read: it changes the stem
of a link and not what the tag identifies. Data that a set toggle announces after the code are not read either.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from devices.codecs.bits import DIGITS, Bits
from devices.codecs.gs1 import Element

DATE_TYPES: Final = ("11", "13", "15", "16", "17", "7006", "7007")
"""Date type indicator of DSGTIN+ → application identifier (TDS 14.5.3)."""
LAST_FORM: Final = 5
TERMINATOR: Final = 15
DELIMITER: Final = 14
BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CODE40: Final = "\0ABCDEFGHIJKLMNOPQRSTUVWXYZ-.:0123456789"
CODE40_BITS: Final = 16
GS1_CHARACTERS: Final = frozenset(
    "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz#"
)
"""What serials may hold: the 82 characters of GS1 General Specifications 7.11-1, and # of 7.11-2."""
MONTHS: Final = 12
DAYS: Final = 31


class Plus(NamedTuple):
    """What a code of a + scheme says."""

    scheme: str
    filter: int
    elements: tuple[Element, ...]


Reader = Callable[[Bits], tuple[Element, ...]]


def decode(header: int, bits: Bits) -> Plus:
    """Decode what follows a header of :data:`SCHEMES`; ValueError where it is broken."""
    name, read = SCHEMES[header]
    bits.take(1)
    filter_value = bits.take(3)
    return Plus(name, filter_value, read(bits))


def gs1_text(text: str) -> str:
    """Return ``text`` if a GS1 serial may hold all of its characters; ValueError otherwise."""
    if not GS1_CHARACTERS.issuperset(text):
        raise ValueError(f"text {text!r}: a character that GS1 serials do not have")
    return text


def _digits(bits: Bits, count: int) -> str:
    """Read a decimal number of 4 bits a digit (TDS 14.5.4)."""
    digits = [bits.take(4) for _ in range(count)]
    if max(digits) >= DIGITS:
        raise ValueError("a digit above 9")
    return "".join(map(str, digits))


def _counted_digits(bits: Bits, length_bits: int, most: int) -> str:
    """Read digits as one number after their count (TDS 14.5.6.1 and 14.5.13)."""
    length = _length(bits, length_bits, most)
    return bits.decimal(math.ceil(length * math.log2(DIGITS)), length)


def _alphanumeric(bits: Bits, most: int) -> str:
    """Read text of up to ``most`` characters in the form that its first 3 bits name (TDS 14.5.6)."""
    form = bits.take(3)
    if form > LAST_FORM:
        raise ValueError(f"encoding indicator {form}: expected 0 to {LAST_FORM}")
    if form == 0:
        return _counted_digits(bits, 5, most)
    length = _length(bits, 5, most)
    if form in {1, 2}:
        text = "".join(f"{bits.take(4):x}" for _ in range(length))
        return text.upper() if form == 1 else text
    if form == 3:  # noqa: PLR2004 - the indicator of table E
        return "".join(BASE64[bits.take(6)] for _ in range(length))
    if form == 4:  # noqa: PLR2004 - the same
        return gs1_text("".join(chr(bits.take(7)) for _ in range(length)))
    return _code40(bits, length)


def _length(bits: Bits, width: int, most: int) -> int:
    length = bits.take(width)
    if not 0 < length <= most:
        raise ValueError(f"{length} characters: expected 1 to {most}")
    return length


def _code40(bits: Bits, length: int) -> str:
    """Read three characters from every 16 bits (TDS 14.5.6.5)."""
    text = ""
    for _ in range(math.ceil(length / 3)):
        number = bits.take(CODE40_BITS) - 1
        if not 0 <= number < len(CODE40) ** 3:
            raise ValueError("three characters of URN Code 40: beyond its table")
        text += CODE40[number // 1_600] + CODE40[number // 40 % 40] + CODE40[number % 40]
    # Padding fills the last three; within the text it is an error.
    text = text[:length]
    if "\0" in text:
        raise ValueError("padding within a text of URN Code 40")
    return text


def _delimited(bits: Bits, most: int) -> str:
    """Read digits of 4 bits up to a mark, and after a delimiter text (TDS 14.5.5)."""
    text = ""
    while (digit := bits.take(4)) < DIGITS:
        text += str(digit)
        if len(text) > most:
            raise ValueError(f"more than {most} digits")
    if digit == TERMINATOR:
        return text
    if digit != DELIMITER:
        raise ValueError("a digit above 9")
    return text + _alphanumeric(bits, most - len(text))


def _date(bits: Bits) -> Element:
    """Read the kind of a date and the date as YYMMDD (TDS 14.5.3)."""
    kind = bits.take(4)
    year, month, day = bits.take(7), bits.take(4), bits.take(5)
    if kind >= len(DATE_TYPES) or year > 99 or not 1 <= month <= MONTHS or day > DAYS:  # noqa: PLR2004 - two digits
        raise ValueError(f"date {year:02}{month:02}{day:02} of type {kind}")
    return Element(DATE_TYPES[kind], f"{year:02}{month:02}{day:02}")


def _key(identifier: str, digits: int) -> Reader:
    return lambda bits: (Element(identifier, _digits(bits, digits)),)


def _key_and_serial(identifier: str, digits: int, serial_identifier: str) -> Reader:
    return lambda bits: (
        Element(identifier, _digits(bits, digits)),
        Element(serial_identifier, _alphanumeric(bits, 20)),
    )


def _key_with_serial(identifier: str, digits: int, most: int) -> Reader:
    return lambda bits: (Element(identifier, _digits(bits, digits) + _alphanumeric(bits, most)),)


def _asset(bits: Bits) -> tuple[Element, ...]:
    return (Element("8004", _delimited(bits, 30)),)


def _component(bits: Bits) -> tuple[Element, ...]:
    return Element("8010", _delimited(bits, 30)), Element("8011", _counted_digits(bits, 4, 12))


def _coupon(bits: Bits) -> tuple[Element, ...]:
    return (Element("255", _digits(bits, 13) + _counted_digits(bits, 4, 12)),)


def _dated_item(bits: Bits) -> tuple[Element, ...]:
    date = _date(bits)
    return (*_key_and_serial("01", 14, "21")(bits), date)


_READERS: Final[dict[str, tuple[int, int, Reader]]] = {
    "cpi": (0xF0, 0xE6, _component),
    "grai": (0xF1, 0xEB, _key_with_serial("8003", 14, 16)),
    "sgln": (0xF2, 0xE9, _key_and_serial("414", 13, "254")),
    "itip": (0xF3, 0xED, _key_and_serial("8006", 18, "21")),
    "gsrn": (0xF4, 0xE7, _key("8018", 18)),
    "gsrnp": (0xF5, 0xE8, _key("8017", 18)),
    "gdti": (0xF6, 0xEA, _key_with_serial("253", 13, 17)),
    "sgtin": (0xF7, 0xFD, _key_and_serial("01", 14, "21")),
    "sgcn": (0xF8, 0xEC, _coupon),
    "sscc": (0xF9, 0xEF, _key("00", 18)),
    "giai": (0xFA, 0xEE, _asset),
    "dsgtin": (0xFB, 0xFC, _dated_item),
}
SCHEMES: Final[dict[int, tuple[str, Reader]]] = {
    header: (name + plus, read)
    for name, (one, two, read) in _READERS.items()
    for header, plus in ((one, "+"), (two, "++"))
}
"""Header → name and what reads the key."""

"""Container numbers and size-type codes of ISO 6346: check digit, length, height and TEU.

A number is four letters, six digits and a check digit. Wrong check digits are printed on real boxes and sent in real
messages, so a number that does not add up is flagged and kept.
"""

import re
from typing import Final, NamedTuple

from devices.codecs.readings import Happening, Reading
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VALUE: Final = dict(zip(LETTERS, (number for number in range(10, 39) if number % 11), strict=True)) | {
    str(digit): digit for digit in range(10)
}
"""Character → value: A is 10, and 11, 22 and 33 are left out."""
NUMBER: Final = re.compile(r"([A-Z]{3})([A-Z])[ -]?(\d{6})[ -]?(\d)", re.ASCII)
LINE: Final = re.compile(r"([A-Z]{3} ?[A-Z][ -]?\d{6}[ -]?\d)(?:[ ,;/]+([0-9A-Z]{4}))?", re.ASCII)
CATEGORIES: Final = {"U": "container", "J": "equipment", "Z": "trailer", "R": "reefer"}
LENGTH_FT: Final = {"1": 10, "2": 20, "3": 30, "4": 40, "5": 45, "L": 45, "M": 48}
"""First character of a size-type code → length, ft."""
TEU: Final = {10: 0.5, 20: 1.0, 30: 1.5, 40: 2.0, 45: 2.25, 48: 2.4}
"""Length, ft → twenty-foot equivalents, as all figures count them: length / 20."""
HEIGHT_FT: Final = {"0": 8.0, "2": 8.5, "4": 9.0, "5": 9.5, "6": 9.5, "8": 4.25, "9": 4.0}
"""Second character of a size-type code, for the usual width → height, ft (6: above it, 9: up to it)."""
GROUPS: Final = {
    "G": "general", "V": "ventilated", "B": "bulk", "S": "named cargo", "R": "reefer", "H": "thermal",
    "U": "open top", "P": "platform", "T": "tank", "K": "tank", "A": "air",
}  # fmt: skip
"""Third character of a size-type code → what the box is built for."""
MAX_LINES: Final = 10_000
MAX_PAYLOAD: Final = 1_048_576


class ContainerNumber(NamedTuple):
    """A container number in its parts; ``expected`` is the check digit that belongs to the other ten characters."""

    owner: str
    category: str
    serial: str
    check_digit: int
    expected: int

    @property
    def text(self) -> str:
        """The number as it is written in messages: eleven characters."""
        return f"{self.owner}{self.category}{self.serial}{self.check_digit}"

    @property
    def valid(self) -> bool:
        """Whether the check digit is the right one."""
        return self.check_digit == self.expected


class SizeType(NamedTuple):
    """What a size-type code says; None where it says nothing."""

    code: str
    length_ft: int | None
    teu: float | None
    height_ft: float | None
    group: str | None


def check_digit(ten: str) -> int:
    """Return the check digit of the first ten characters of a container number (ISO 6346, annex A)."""
    return sum(VALUE[character] << nth for nth, character in enumerate(ten)) % 11 % 10


def parse_number(text: str) -> ContainerNumber:
    """Return a container number, whatever its check digit; blanks and case do not count. ValueError on another form."""
    found = NUMBER.fullmatch(text.strip().upper().replace(" ", ""))
    if found is None:
        raise ValueError(
            f"{text[:64]!r} is not a container number: expected 4 letters and 7 digits, such as CSQU3054383"
        )
    owner, category, serial, digit = found.groups()
    return ContainerNumber(owner, category, serial, int(digit), check_digit(owner + category + serial))


def parse_size_type(code: str) -> SizeType:
    """Return what a size-type code says; odd codes such as ``0000`` or ``40EM`` occur and say less."""
    code = code.strip().upper()
    length_ft = LENGTH_FT.get(code[:1])
    known = length_ft is not None
    return SizeType(
        code,
        length_ft,
        TEU[length_ft] if length_ft is not None else None,
        HEIGHT_FT.get(code[1:2]) if known else None,
        GROUPS.get(code[2:3]) if known else None,
    )


def describe(number: str, size_type: str = "") -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """Return what a message says about a container, for an event's data, and the flags of what is odd about it.

    A text that is no container number is kept as it is, because equipment has other names too.
    """
    data: dict[str, Scalar] = {"container": number}
    flags: list[str] = []
    try:
        found = parse_number(number)
    except ValueError:
        flags.append("container_number")
    else:
        data["container"] = found.text
        if not found.valid:
            flags.append("check_digit")
        if found.category not in CATEGORIES:
            flags.append("container_category")
    if size_type:
        size = parse_size_type(size_type)
        said = {"size_type": size.code, "size_ft": size.length_ft, "teu": size.teu, "type": size.group}
        data |= {name: value for name, value in said.items() if value is not None}
        if size.teu is None:
            flags.append("size_type")
    return data, tuple(flags)


class ContainerNumbers:
    """Decodes container numbers as text, one a line, each perhaps with a size-type code after it."""

    name: Final = "iso6346"

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return one reading per number, with a happening ``container``; a wrong check digit is flagged."""
        del topic
        if len(payload) > MAX_PAYLOAD:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(payload)} bytes: at most {MAX_PAYLOAD}")
        try:
            lines = [line.strip() for line in payload.decode("ascii").upper().splitlines()]
        except UnicodeDecodeError as error:
            raise RejectError(Reason.UNDECODABLE, "", f"byte {error.start} is not ASCII") from None
        lines = [line for line in lines if line]
        if not lines:
            raise RejectError(Reason.NO_SAMPLES, "", "no container number")
        if len(lines) > MAX_LINES:
            raise RejectError(Reason.TOO_LARGE, "", f"{len(lines)} lines: at most {MAX_LINES}")
        return [self._reading(nth, line) for nth, line in enumerate(lines)]

    @staticmethod
    def _reading(nth: int, line: str) -> Reading:
        found = LINE.fullmatch(line)
        if found is None:
            detail = f"{line[:64]!r}: expected 4 letters and 7 digits, and perhaps a size-type code"
            raise RejectError(Reason.WRONG_TYPE, f"/{nth}", detail)
        number = parse_number(found[1])
        data, flags = describe(found[1], found[2] or "")
        data |= {"owner": number.owner, "serial": number.serial, "check_digit": number.check_digit}
        if not number.valid:
            data["expected"] = number.expected
        category = CATEGORIES.get(number.category)
        if category:
            data["category"] = category
        return Reading(happenings=(Happening("container", data),), flags=flags)

"""What a JT/T 808 terminal says of itself and its driver: registration, authentication, driver card."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from devices.codecs.jt808_times import UNSET, time_of
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar

EDITIONS: Final = (("2013", 5, 20, 7), ("2011", 5, 8, 7))
"""Edition and lengths of maker, model and terminal id, the longer layout first: a shorter body can only be of 2011."""
OF_2019: Final = ("2019", 11, 30, 30)
PLATE_COLOURS: Final = frozenset({*range(10), *range(91, 95)})
"""0 where there is no plate, else after JT/T 415 and JT/T 697.7."""
CARD: Final = {1: "in", 2: "out"}
OF_2011: Final = (("name", 0), ("id_card", 20), ("licence", 40), ("authority", 0))
"""Fields of a driver card message of 2011 and their lengths, 0: a byte says how long."""
SINCE_2013: Final = (("name", 0), ("licence", 20), ("authority", 0))
"""The same of the fields that follow state, time and result since 2013."""
IMEI: Final = 15
BARE: Final = ("bare_code",)
FIRST_PRINTABLE: Final = 0x20
"""No code begins below it, and no code has so many characters that its length does not."""


class Authentication(NamedTuple):
    """The code that a terminal presents, and what else it says then."""

    code: str
    facts: dict[str, Scalar]
    flags: tuple[str, ...] = ()
    """``bare_code``: a terminal of 2019 has left out what its edition puts around the code."""


class Card(NamedTuple):
    """A driver's card put in or taken out."""

    ts: int | None
    """When, ns UTC; None where it is not said."""
    data: dict[str, Scalar]


def registration(body: bytes, *, of_2019: bool = False) -> dict[str, Scalar]:
    """Return what a registration (0x0100) says; RejectError where it is too short for any edition.

    The editions are told apart by their length, and where that leaves a choice by what stands in place of the plate's
    colour. Some terminals of 2019 register as those before them do.
    """
    fitting = [each for each in ((OF_2019, *EDITIONS) if of_2019 else EDITIONS) if len(body) > 4 + sum(each[1:])]
    if not fitting:
        raise RejectError(Reason.UNDECODABLE, "", f"{len(body)} bytes: too short for a registration")
    edition, maker, model, terminal = next(
        (each for each in fitting if body[4 + sum(each[1:])] in PLATE_COLOURS), fitting[0]
    )
    plate_at = 4 + maker + model + terminal
    parts = (4, 4 + maker, 4 + maker + model, plate_at)
    names = [text_of(body[begin:end]) for begin, end in pairwise(parts)]
    return {
        "edition": edition,
        "province": int.from_bytes(body[:2]),
        "city": int.from_bytes(body[2:4]),
        "maker": names[0],
        "model": names[1],
        "terminal": names[2],
        "plate_colour": body[plate_at],
        "plate": text_of(body[plate_at + 1 :]),
    }


def is_of_before(registered: Mapping[str, Scalar], *, of_2019: bool) -> bool:
    """Tell whether a terminal of 2019 has registered as those of the editions before do."""
    return of_2019 and registered["edition"] != OF_2019[0]


def authentication(body: bytes, *, of_2019: bool = False) -> Authentication:
    """Return what an authentication (0x0102) says: in 2019 the code has a length, and IMEI and software follow.

    Some terminals of 2019 write the code as the editions before do, alone, or behind its length and nothing after it.
    """
    if not of_2019:
        return Authentication(text_of(body), {})
    length = body[0] if body else 0
    rest = body[1 + length :]
    if len(rest) >= IMEI:
        code = text_of(body[1 : 1 + length])
        return Authentication(code, {"imei": text_of(rest[:IMEI]), "software": text_of(rest[IMEI:])})
    if 0 < length == len(body) - 1:
        return Authentication(text_of(body[1:]), {}, BARE)
    if length >= FIRST_PRINTABLE:
        return Authentication(text_of(body), {}, BARE)
    raise RejectError(Reason.UNDECODABLE, "", f"{len(body)} bytes: too short for an authentication of 2019")


def driver_card(body: bytes, *, of_2019: bool = False) -> Card:
    """Return what a driver card message (0x0702) says: in or out, when, and whose card it is where that was read.

    In 2011 it says only whose card it is, and so when it came: put in. Its first byte is the length of a name there.
    """
    if len(body) < 7:  # noqa: PLR2004 - state and time
        raise RejectError(Reason.UNDECODABLE, "", f"{len(body)} bytes: a driver card message has at least 7")
    ts = time_of(body[1:7])
    if not of_2019 and (body[0] not in CARD or ts == UNSET):
        data, end = _fields(body, 0, OF_2011)
        if len(data) == len(OF_2011) and end == len(body):
            return Card(None, {"card": "in", **data})
    data = {"card": CARD.get(body[0], body[0])}
    if len(body) > 7:  # noqa: PLR2004 - as above
        data["result"] = body[7]
    said, position = _fields(body, 8, SINCE_2013)
    data |= said
    if len(said) == len(SINCE_2013):
        data["valid_until"] = body[position : position + 4].hex()
        if of_2019:
            data["id_card"] = text_of(body[position + 4 :])
    return Card(ts, data)


def _fields(body: bytes, position: int, layout: tuple[tuple[str, int], ...]) -> tuple[dict[str, Scalar], int]:
    """Return the texts that follow each other from a position on, as far as they are there, and where they end."""
    found: dict[str, Scalar] = {}
    for name, fixed in layout:
        length = fixed or (body[position] if position < len(body) else 0)
        begin = position + (not fixed)
        if begin + length > len(body):
            break
        found[name] = text_of(body[begin : begin + length])
        position = begin + length
    return found, position


def text_of(data: bytes) -> str:
    """Return text in GBK without the zeros and blanks that fill its field."""
    return data.decode("gbk", "replace").strip("\0 ")

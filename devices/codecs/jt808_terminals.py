"""What a JT/T 808 terminal says of itself and its driver: registration, authentication, driver card."""

from itertools import pairwise
from typing import Final, NamedTuple

from devices.codecs.jt808_times import time_of
from devices.rejects import Reason, RejectError
from devices.scalars import Scalar

EDITIONS: Final = (("2013", 5, 20, 7), ("2011", 5, 8, 7))
"""Edition and lengths of maker, model and terminal id, the longer layout first: a shorter body can only be of 2011."""
OF_2019: Final = ("2019", 11, 30, 30)
REMOVED: Final = 2
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

    ts: int
    """When, ns UTC."""
    data: dict[str, Scalar]


def registration(body: bytes, *, of_2019: bool = False) -> dict[str, Scalar]:
    """Return what a registration (0x0100) says; RejectError where it is too short for any edition."""
    for edition, maker, model, terminal in (OF_2019,) if of_2019 else EDITIONS:
        plate_at = 4 + maker + model + terminal
        if len(body) <= plate_at:
            continue
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
    raise RejectError(Reason.UNDECODABLE, "", f"{len(body)} bytes: too short for a registration")


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
    """Return what a driver card message (0x0702) says: in or out, when, and whose card it is where that was read."""
    if len(body) < 7:  # noqa: PLR2004 - state and time
        raise RejectError(Reason.UNDECODABLE, "", f"{len(body)} bytes: a driver card message has at least 7")
    data: dict[str, Scalar] = {"card": "out" if body[0] == REMOVED else "in"}
    if len(body) > 7:  # noqa: PLR2004 - as above
        data["result"] = body[7]
    position, rest = 8, len(body)
    for name, fixed in (("name", 0), ("licence", 20), ("authority", 0)):
        length = fixed or (body[position] if position < rest else 0)
        begin = position + (not fixed)
        if begin + length > rest:
            break
        data[name] = text_of(body[begin : begin + length])
        position = begin + length
    else:
        data["valid_until"] = body[position : position + 4].hex()
        if of_2019:
            data["id_card"] = text_of(body[position + 4 :])
    return Card(time_of(body[1:7]), data)


def text_of(data: bytes) -> str:
    """Return text in GBK without the zeros and blanks that fill its field."""
    return data.decode("gbk", "replace").strip("\0 ")

"""Identities that do not add up: tags, containers, plates and places among the facts of an event or a device.

Boxes carry wrong check digits, tags are programmed wrongly, people mistype. What is wrong is named, so that it can be
counted, and never a reason to lose a message. What a fact is, its name says, as formats spell it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from devices.codecs import iso6346
from devices.codecs.epc import TID_HEADER, decode_epc, name_of
from devices.codecs.places import is_locode, plate_kind
from devices.scalars import Scalar

NUMBERED: Final = re.compile(r"#\d+$")
"""How names that come again in a message are told apart."""
SEPARATORS: Final = re.compile(r"[^a-z0-9]+")
ENDINGS: Final = (
    ("tag", re.compile(r"(?:^tag|^tagid|epc|epchex|idhex)$")),
    ("container", re.compile(r"container(?:id|ids|no|nr|num|number|code)?$")),
    ("size_type", re.compile(r"(?:size|iso)type(?:code)?$")),
    ("plate", re.compile(r"plate(?:no|nr|num|number)?$")),
    ("locode", re.compile(r"locode$")),
)
"""What a fact is → how its name ends, in small letters without anything else."""
PAIRS_OF_DIGITS: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
WORD_BYTES: Final = 2
"""A tag's memory is made of words of 16 bits."""
NO_PLATE: Final = 0
"""Colour of the plate of a vehicle without one (JT/T 808): the number of its chassis stands there."""
LOCODE_LETTERS: Final = 5


def odd_identities(facts: Mapping[str, Scalar]) -> tuple[str, ...]:
    """Return the flags of what is wrong with the identities among some facts, each once."""
    found: dict[str, None] = {}
    for name, value in facts.items():
        if type(value) is not str or not value:
            continue
        kind = kind_of(name)
        if kind == "plate" and facts.get("plate_colour") == NO_PLATE:
            continue
        if kind:
            found |= dict.fromkeys(oddities(kind, value))
    return tuple(found)


@lru_cache(4_096)
def kind_of(name: str) -> str:
    """Return what a fact of some name is, "" if no identity."""
    bare = SEPARATORS.sub("", NUMBERED.sub("", name.lower()))
    return next((kind for kind, ending in ENDINGS if ending.search(bare)), "")


@lru_cache(4_096)
def oddities(kind: str, text: str) -> tuple[str, ...]:
    """Return the flags of an identity; remembered, because a tag is read dozens of times while it passes."""
    match kind:
        case "tag":
            return _of_tag(text)
        case "container":
            return iso6346.describe(text)[1]
        case "size_type":
            return () if iso6346.parse_size_type(text).teu else ("size_type",)
        case "plate":
            return () if plate_kind(text) else ("plate",)
        case "locode":
            return () if is_locode(text) else ("locode",)
        case _:
            return ()


def site_oddities(site: str) -> tuple[str, ...]:
    """Return the flags of a site: it begins with the UN/LOCODE of its place."""
    return oddities("locode", site[:LOCODE_LETTERS])


def _of_tag(text: str) -> tuple[str, ...]:
    """Judge the code of a tag: its form, its length, and whether it is what its header says."""
    if PAIRS_OF_DIGITS.fullmatch(text) is None:
        return ("tag_form",)
    code = bytes.fromhex(text)
    flags = () if len(code) % WORD_BYTES == 0 else ("tag_length",)
    if decode_epc(code).problem:
        return (*flags, "epc")
    if code[0] != TID_HEADER and not name_of(code[0]):
        return (*flags, "epc_header")
    return flags

"""Names that devices send and the vocabulary does not have: what a refusal says of one, and how it is read back.

A refusal begins with the name as JSON has it, so that a name of any characters comes back as it was sent, and ends with
the command that adopts it, so that it can be copied.
"""

import json
import re
import shlex
from functools import lru_cache
from typing import Final, NamedTuple

from devices.scalars import Scalar

MAX_NAME: Final = 256
"""Characters of a name that can be adopted."""
SHOWN: Final = 64
VALUE_SHOWN: Final = 40
_TOLD: Final = re.compile(r"(?: \(it was (.*)\))? is not a metric of a ", re.DOTALL)


class Unknown(NamedTuple):
    """A name that was refused, and what was sent under it."""

    name: str
    value: str
    """As JSON, cut to what can be shown; "" where the refusal does not say."""


def is_adoptable(name: str) -> bool:
    """Return whether a name can be kept in the registry and written on a command line."""
    if not 0 < len(name) <= MAX_NAME or "\0" in name:
        return False
    # JSON can spell half a character ("\\ud800"), which no text outside can hold.
    return not any("\ud800" <= character <= "\udfff" for character in name)


def quoted(text: str) -> str:
    """Return a text as one word of a command line of bash or zsh, whatever characters it has."""
    if text.isprintable():
        return shlex.quote(text)
    known = {"\\": "\\\\", "'": "\\'"}
    words = (known.get(each) or (each if each.isprintable() else _bytes(each)) for each in text)
    return f"$'{''.join(words)}'"


def adopt_command(uid: str, name: str, metric: str = "METRIC", *flags: str) -> str:
    """Return the exact command that adopts a name of a device."""
    # A name that begins with a dash is not to be read as a flag.
    end_of_flags = ("--",) if name.startswith("-") else ()
    words = (*flags, uid, *end_of_flags, name, metric)
    return f"quayflow device adopt {' '.join(map(quoted, words))}"


def refusal_of(uid: str, name: str, *value: Scalar) -> str:
    """Return what to say of a name that is no metric of the device's class and that nobody has adopted.

    ``value``: what was sent under it, where that is one value.
    """
    was = f" (it was {_as_json(value[0])[:VALUE_SHOWN]})" if value else ""
    return was.join(_around(uid, name))


@lru_cache(4_096)
def _around(uid: str, name: str) -> tuple[str, str]:
    """Return what stands before the value and after it: a device repeats its names."""
    then = f" is not a metric of a {uid.split('/')[1]}; see /v1/vocabulary"
    if not is_adoptable(name):
        return f"a name of {len(name)} characters, {_as_json(name[:SHOWN])}", then
    return _as_json(name), f"{then}, or say what it is: {adopt_command(uid, name)}"


def unknown_in(detail: str) -> Unknown | None:
    """Return the name that a refusal speaks of, None where it speaks of none that can be adopted."""
    try:
        name, end = json.JSONDecoder().raw_decode(detail)
    except ValueError:
        return None
    told = _TOLD.match(detail, end)
    return Unknown(name, told[1] or "") if isinstance(name, str) and told and is_adoptable(name) else None


def _as_json(value: Scalar) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())

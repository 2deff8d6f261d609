"""What is wrong with a value that was asked for, in words for who has just given it.

pydantic says it in sentences of its own ("Input should be a valid integer, unable to parse string as an integer"), and
of a value that may be one of several kinds it says one for each kind, as if there were a field of that name. Here each
of its kinds of fault has words of ours, and what it says of one place is one sentence. This is the one table of them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

KINDS: Final[Mapping[str, str]] = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "enum": "one of {expected}",
    "finite_number": "a number that is not infinite",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "ip_any_address": "an IP address",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "path_type": "the name of a file or folder",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_sub_type": "text",
    "string_too_long": "text of length {max_length} or less",
    "string_too_short": "text of length {min_length} or more",
    "string_type": "text",
    "string_unicode": "text without halves of characters",
    "too_long": "{max_length} entries or fewer",
    "tuple_type": "a list",
}
"""Kind of fault → what is expected instead."""
SENTENCES: Final[Mapping[str, str]] = {
    "extra_forbidden": "there is no such field here",
    "json_invalid": "it is no JSON",
    "missing": "it is required",
}
"""Kind of fault → what is wrong, where nothing else is expected in its place."""
OTHERWISE: Final = "it is not of the form that is expected"
"""Of a kind of fault that is not in the tables."""
_QUOTED: Final = re.compile(r"'([^']*)'")
_ABSENT: Final = object()


class ValueFault(NamedTuple):
    """What is wrong at one place of what was given."""

    where: tuple[str | int, ...]
    """Names and positions that lead to it."""
    detail: str
    given: Any
    """What stands there; where something is missing, what it is missing in."""


def faults_of(found: Iterable[Mapping[str, Any]], body: object) -> list[ValueFault]:
    """Return what pydantic has found wrong, each place once.

    ``found``: entries of ``errors()`` of a request. Locations that begin with ``body`` lead on into ``body``.
    """
    places: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
    for each in found:
        where, *rest = each["loc"]
        path = _path(rest, body, missing=each["type"] == "missing") if where == "body" else rest
        places.setdefault((where, *path), []).append(each)
    return [ValueFault(where, said_of(each), each[0].get("input")) for where, each in places.items()]


def said_of(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return one sentence for what pydantic says of one place: any of several kinds may be expected there."""
    words = [words_of(each["type"], each.get("ctx") or {}) for each in entries]
    expected = list(dict.fromkeys(expected for expected, _ in words if expected))
    if expected:
        return f"expected {' or '.join(expected)}"
    return "; ".join(dict.fromkeys(wrong for _, wrong in words))


def words_of(kind: str, context: Mapping[str, Any]) -> tuple[str, str]:
    """Return (what is expected, what is wrong), one of the two empty; ``context``: that of pydantic's entry."""
    if kind == "value_error":
        return "", str(context.get("error", OTHERWISE))
    if kind in KINDS:
        return KINDS[kind].format_map({name: _shown(name, value) for name, value in context.items()}), ""
    return "", SENTENCES.get(kind, OTHERWISE)


def _path(location: Iterable[str | int], body: object, *, missing: bool) -> tuple[str | int, ...]:
    """Return a location as far as it leads into what was given: behind that it names the kinds that were tried."""
    path: list[str | int] = []
    at: object = body
    for part in location:
        at = _member(at, part)
        if at is _ABSENT:
            # A field that is missing is named all the same; nothing comes behind it.
            return (*path, part) if missing else tuple(path)
        path.append(part)
    return tuple(path)


def _member(at: object, part: str | int) -> object:
    if isinstance(at, Mapping):
        return at.get(part, _ABSENT)
    if isinstance(at, list | tuple) and isinstance(part, int) and part < len(at):
        return at[part]
    return _ABSENT


def _shown(name: str, value: object) -> str:
    if name == "expected":
        return ", ".join(_QUOTED.findall(str(value))) or str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

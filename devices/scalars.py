"""Facts: the flat values of events, commands, answers and statuses. The one home of their type.

A whole number is one from the wire to the answer, and a float stays a float: `5` and `5.0` are the same number, but not
the same type to a PLC, to a JSON schema or to a column of a database, and which of them was meant only the sender
knows. A boolean is neither, though Python takes `True` for a 1: whoever looks at the type looks at `type(value)`.

Samples are not facts: a value under a metric's name is a float64 from decoding on.
"""

import math
import sys
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

Scalar = str | int | float | bool | None
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
FiniteScalar = str | int | Finite | bool | None
"""As a typed decoder takes it. JSON spells whole numbers of any size: see :func:`bounded_number`."""

LEAST: Final = -(2**63)
MOST: Final = 2**64 - 1
"""Bounds of a whole number of 64 bits, with a sign or without: what msgpack can carry, and what is kept exactly."""


def is_beyond(value: Scalar) -> bool:
    """Return whether a value is a whole number that 64 bits do not hold."""
    return isinstance(value, int) and not LEAST <= value <= MOST


def bounded_number(number: float) -> float:
    """Return a number as it is if 64 bits hold it, else as the nearest float, without end where there is none."""
    if not is_beyond(number):
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def bounded_facts(facts: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return facts with each number :func:`bounded_number`."""
    return {name: bounded_number(value) if isinstance(value, int) else value for name, value in facts.items()}


def as_floats(facts: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return facts with each whole number as the float that is the same number, where there is one.

    In this form facts are compared and hashed: earlier releases made floats of whole numbers, and what they have kept
    is the same as what the same frames give now. Booleans stay what they are.
    """
    return {name: _as_float(value) for name, value in facts.items()}


def _as_float(value: Scalar) -> Scalar:
    if type(value) is int and LEAST <= value <= MOST:
        number = float(value)
        return number if number == value else value
    return value

"""The catalogue's table of contents: every fault under its name, in the order of the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from faults.rig import Outcome, Rig

Play = Callable[[Rig], Outcome]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is done, what must hold, and how to play it."""

    number: str
    """Its number in the catalogue, such as F1; M for a mutation of the product."""
    name: str
    injected: str
    expected: str
    play: Play
    must_fail: bool = False
    """Whether the product is broken on purpose, so that the row must fail."""


FAULTS: Final[dict[str, Fault]] = {}


def fault(number: str, name: str, injected: str, expected: str, *, must_fail: bool = False) -> Callable[[Play], Play]:
    """Enter a function into the catalogue."""

    def enter(play: Play) -> Play:
        if name in FAULTS:
            raise ValueError(f"{name}: two faults of one name")
        FAULTS[name] = Fault(number, name, injected, expected, play, must_fail)
        return play

    return enter


def catalogue() -> list[Fault]:
    """Return every fault, those of the product first, in the order of their numbers."""
    import faults.catalogue  # noqa: PLC0415 - its modules enter their faults here

    del faults
    return sorted(FAULTS.values(), key=lambda each: (each.must_fail, _number(each.number), each.number))


def chosen(only: str) -> list[Fault]:
    """Return the faults that ``only`` names by name or number, separated by commas; all if it is empty.

    ValueError says what there is.
    """
    every = catalogue()
    wanted = [word.strip() for word in only.split(",") if word.strip()]
    for word in wanted:
        if not any(word in {each.name, each.number} for each in every):
            raise ValueError(f"{word!r}: expected one of {', '.join(each.name for each in every)}")
    return [each for each in every if not wanted or each.name in wanted or each.number in wanted]


def _number(text: str) -> int:
    digits = "".join(character for character in text if character.isdigit())
    return int(digits or 0)

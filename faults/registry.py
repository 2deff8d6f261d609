"""The catalogue's table of contents: every fault under its name, in the order of the catalogue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from faults.rig import Outcome, Rig

Play = Callable[[Rig], Outcome]
Shows = Callable[[Outcome], bool]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what is done, what must hold, and how to play it."""

    number: str
    """Its number in the catalogue, such as F1; M for a mutation of the product."""
    name: str
    injected: str
    expected: str
    play: Play
    shows: Shows | None = None
    """For a product that is broken on purpose: tells whether an outcome is wrong in the way that fits."""
    unbroken: Play | None = None
    """What the product as it is must stand beside, a slice of the same."""


FAULTS: Final[dict[str, Fault]] = {}


def fault(
    number: str,
    name: str,
    injected: str,
    expected: str,
    *,
    shows: Shows | None = None,
    unbroken: Play | None = None,
) -> Callable[[Play], Play]:
    """Enter a function into the catalogue."""

    def enter(play: Play) -> Play:
        if name in FAULTS:
            raise ValueError(f"{name}: two faults of one name")
        FAULTS[name] = Fault(number, name, injected, expected, play, shows, unbroken)
        return play

    return enter


def catalogue() -> list[Fault]:
    """Return every fault, those of the product first, in the order of their numbers."""
    import faults.catalogue  # noqa: PLC0415 - its modules enter their faults here

    del faults
    return sorted(FAULTS.values(), key=lambda each: (each.shows is not None, _number(each.number), each.number))


def chosen(only: str) -> list[Fault]:
    """Return the faults that ``only`` names by name or number, separated by commas; all if it is empty.

    A number without a letter stands for those with one too: F18 for F18, F18c and F18m.

    ValueError says what there is.
    """
    every = catalogue()
    wanted = [word.strip() for word in only.split(",") if word.strip()]
    for word in wanted:
        if not any(word in _words(each) for each in every):
            raise ValueError(f"{word!r}: expected one of {', '.join(each.name for each in every)}")
    return [each for each in every if not wanted or _words(each) & set(wanted)]


def _words(each: Fault) -> set[str]:
    return {each.name, each.number, each.number.rstrip("abcdefghijklmnopqrstuvwxyz")}


def _number(text: str) -> int:
    digits = "".join(character for character in text if character.isdigit())
    return int(digits or 0)

"""The table of contents of the measurements: groups of rows, each group one module of ``bench.rows``.

A group is a generator of rounds. It sets up what its rows need (a broker, a store, a folder), yields one round after
another, each a value and a reference value per row taken directly after each other, and cleans up when it is closed:

    @group(Row("codec_example", "messages/s", "msgspec", "the example codec"))
    def rounds(scale: Scale) -> Iterator[Round]:
        messages = made_messages(scale.of(200_000, 10_000))
        while True:
            yield {"codec_example": Pair(rate_of(decode, messages), rate_of(plain_msgspec, messages))}
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the table and of ``latest.json``."""

    name: str
    unit: str
    reference: str
    """What it is compared with: the name of a subject, or in words, such as "stated limit"."""
    title: str
    """What is measured, for people."""
    goal: float | None = None
    """The ratio of value to reference that is asked for, if any."""
    goal_value: float | None = None
    """The value itself that is asked for, if any."""
    less_is_better: bool = False
    """Whether goals are what must not be exceeded, as for times and memory, instead of what must be reached."""

    def met(self, value: float, ratio: float) -> bool | None:
        """Tell whether a figure reaches its goals; None where nothing is asked for."""
        asked = [(found, goal) for found, goal in ((ratio, self.goal), (value, self.goal_value)) if goal is not None]
        if not asked:
            return None
        return all(found <= goal if self.less_is_better else found >= goal for found, goal in asked)


@dataclass(frozen=True, slots=True)
class Pair:
    """A value and its reference, measured directly after each other."""

    value: float
    reference: float
    details: Mapping[str, float] = field(default_factory=dict)
    """Further figures of the same measurement by name, such as ``rss_mb``; kept in the row as their medians."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything to do."""

    quick: bool = False
    """Whether the figures need only be there, not be good: as in the tests."""

    def of(self, full: int, quick: int) -> int:
        """Return the number of something for this run."""
        return quick if self.quick else full


Round = Mapping[str, Pair]
"""Row name → what was measured in one round; every row of the group."""
Rounds = Callable[[Scale], Iterator[Round]]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together."""

    rows: tuple[Row, ...]
    rounds: Rounds
    long: bool = False
    """Whether a round takes many minutes: then it is measured only when it is named, and once."""


GROUPS: Final[list[Group]] = []


def group(*rows: Row, long: bool = False) -> Callable[[Rounds], Rounds]:
    """Enter a generator of rounds into the table of contents; ValueError on a row name that is taken."""

    def enter(rounds: Rounds) -> Rounds:
        taken = {row.name for each in GROUPS for row in each.rows}
        for row in rows:
            if row.name in taken:
                raise ValueError(f"{row.name}: two rows of one name")
        GROUPS.append(Group(rows, rounds, long))
        return rounds

    return enter


def every_group() -> list[Group]:
    """Return all groups, by the names of their modules."""
    import bench.rows  # noqa: PLC0415 - its modules enter their groups here

    for module in sorted(each.name for each in pkgutil.iter_modules(bench.rows.__path__)):
        importlib.import_module(f"bench.rows.{module}")
    return list(GROUPS)


def chosen(only: str) -> list[Group]:
    """Return the groups that have a row which ``only`` names, separated by commas; all but long ones if it is empty.

    A name that ends in ``*`` stands for all that begin with it. A group is measured whole. ValueError says what there
    is.
    """
    every = every_group()
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(_names(word, row.name) for each in every for row in each.rows):
            names = ", ".join(row.name for each in every for row in each.rows)
            raise ValueError(f"{word!r}: expected one of {names}")
    if not words:
        return [each for each in every if not each.long]
    return [each for each in every if any(_names(word, row.name) for word in words for row in each.rows)]


def _names(word: str, name: str) -> bool:
    return name.startswith(word[:-1]) if word.endswith("*") else name == word

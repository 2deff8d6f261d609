"""The truth log: what really happened in the simulated port, and when.

One JSON object per line, ordered by ``end_s``; ``docs/simulator.md`` describes the fields. Times are seconds of the
port's own time here and RFC 3339 once written, so the log does not depend on when a run was started.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from devices.times import format_rfc3339

if TYPE_CHECKING:
    from pathlib import Path

NS = 1_000_000_000


class Move(msgspec.Struct, frozen=True, tag="crane_move", tag_field="type"):
    """A lift of a quay crane from lock to unlock. ``shift`` is a restow from ship to ship."""

    device: str
    start_s: float
    end_s: float
    kind: str
    teu: float
    gross_t: float
    size_ft: int
    containers: tuple[str, ...]
    truck: str


class Relock(msgspec.Struct, frozen=True, tag="relock", tag_field="type"):
    """The empty spreader of a quay crane locked and unlocked: no move."""

    device: str
    start_s: float
    end_s: float


class YardMove(msgspec.Struct, frozen=True, tag="yard_move", tag_field="type"):
    """A lift of a yard crane from lock to unlock; ``kind`` is ``stack`` (from a truck) or ``deliver`` (onto one)."""

    device: str
    start_s: float
    end_s: float
    kind: str
    gross_t: float
    size_ft: int
    containers: tuple[str, ...]
    truck: str


class Passage(msgspec.Struct, frozen=True, tag="gate_passage", tag_field="type"):
    """A truck through a gate lane: first and last raw tag read, and when the barrier opened for it."""

    device: str
    start_s: float
    end_s: float
    direction: str
    tag: str
    truck: str
    plate: str
    reads: int
    opened_s: float


Fact = Move | Relock | YardMove | Passage


class TruthLog:
    """Facts as they happen, kept until they are taken."""

    def __init__(self) -> None:
        """Start empty."""
        self._facts: list[Fact] = []

    def __len__(self) -> int:
        """Return how many facts have not been taken."""
        return len(self._facts)

    def add(self, fact: Fact) -> None:
        """Note a fact; ``end_s`` may lie in the committed future."""
        self._facts.append(fact)

    def peek(self) -> list[Fact]:
        """Return what has been noted and not taken, in order of ``end_s``."""
        return sorted(self._facts, key=_order)

    def take(self, before_s: float) -> list[Fact]:
        """Remove and return the facts that ended before ``before_s``, in order of ``end_s``."""
        taken = sorted((fact for fact in self._facts if fact.end_s < before_s), key=_order)
        self._facts = [fact for fact in self._facts if fact.end_s >= before_s]
        return taken


def lines(facts: Iterable[Fact], origin_ns: int) -> Iterator[bytes]:
    """Encode facts as JSON lines; ``origin_ns`` is second 0 of the port's time, ns UTC."""
    for fact in facts:
        tree: dict[str, Any] = msgspec.to_builtins(fact)
        for key in ("start_s", "end_s", "opened_s"):
            if key in tree:
                tree[key.removesuffix("_s")] = format_rfc3339(origin_ns + round(tree.pop(key) * NS))
        yield msgspec.json.encode(tree) + b"\n"


def append(path: "Path", facts: Iterable[Fact], origin_ns: int) -> None:
    """Append facts to the truth log at ``path``."""
    with path.open("ab") as file:
        file.writelines(lines(facts, origin_ns))


def _order(fact: Fact) -> tuple[float, str]:
    return fact.end_s, fact.device

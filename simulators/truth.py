"""The truth log: what really happened in the simulated port, and when.

One JSON object per line; ``docs/simulator.md`` describes the fields. Times are seconds of the
port's own time here and RFC 3339 once written, so the log does not depend on when a run was started.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from devices.times import format_rfc3339

if TYPE_CHECKING:
    from pathlib import Path

NS: Final = 1_000_000_000
MOMENTS: Final = ("start_s", "end_s", "opened_s", "arrived_s", "first_lift_s", "last_lift_s")
"""Fields that are moments of the port's time."""


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


class JobStep(msgspec.Struct, frozen=True, tag="job_step", tag_field="type"):
    """A yard tractor at one of the six steps of a job, named as TIC 4.0 does."""

    device: str
    start_s: float
    end_s: float
    step: str


class Trip(msgspec.Struct, frozen=True, tag="trip", tag_field="type"):
    """A vehicle under way; halts below :data:`STOP_S` belong to the trip. Known when the vehicle starts again."""

    device: str
    start_s: float
    end_s: float
    distance_m: float


class Stop(msgspec.Struct, frozen=True, tag="stop", tag_field="type"):
    """A vehicle that stood for :data:`STOP_S` or longer between two trips."""

    device: str
    start_s: float
    end_s: float
    x_m: float
    y_m: float


class Queue(msgspec.Struct, frozen=True, tag="queue", tag_field="type"):
    """A truck in a line: from joining it to being called; ``device`` is the gate lane or the crane."""

    device: str
    start_s: float
    end_s: float
    truck: str


class Turn(msgspec.Struct, frozen=True, tag="truck_turn", tag_field="type"):
    """A road truck inside the terminal: from the end of its gate-in to the end of its gate-out."""

    device: str
    start_s: float
    end_s: float
    plate: str
    moves: int


class VesselCall(msgspec.Struct, frozen=True, tag="vessel_call", tag_field="type"):
    """A ship at a berth: ``start`` is the first line fast, ``end`` the last line released.

    ``cut`` tells that the ship was at work already when the port's time began.
    """

    device: str
    start_s: float
    end_s: float
    vessel: str
    arrived_s: float
    first_lift_s: float
    last_lift_s: float
    lifts: int
    cranes: int
    cut: bool


class Alarm(msgspec.Struct, frozen=True, tag="alarm", tag_field="type"):
    """A machine that may not or cannot work: ``breakdown``, ``wind_stop``, ``shift_change`` or ``lane_blocked``."""

    device: str
    start_s: float
    end_s: float
    code: str


class Stay(msgspec.Struct, frozen=True, tag="dwell", tag_field="type"):
    """A container in the yard, from being set down to being fetched; ``device`` is the block's crane."""

    device: str
    start_s: float
    end_s: float
    container: str
    flow: str


class DoorOpening(msgspec.Struct, frozen=True, tag="door_open", tag_field="type"):
    """A dock door that stood open."""

    device: str
    start_s: float
    end_s: float


class Kpi(msgspec.Struct, frozen=True, tag="kpi", tag_field="type"):
    """A figure of one hour of the port's time, from the facts that ended in it; ``count`` is how many it rests on."""

    device: str
    start_s: float
    end_s: float
    kpi: str
    value: float
    count: int


Fact = (
    Move
    | Relock
    | YardMove
    | Passage
    | JobStep
    | Trip
    | Stop
    | Queue
    | Turn
    | VesselCall
    | Alarm
    | Stay
    | DoorOpening
    | Kpi
)

STOP_S: Final = 60.0
"""A vehicle that stands for less is halting, not stopping, s."""
STEPS: Final = (
    "",
    "moving_to_collect",
    "queuing_to_collect",
    "ready_to_collect",
    "moving_to_deliver",
    "queuing_to_deliver",
    "ready_to_deliver",
)
"""The steps of a job by their number in ``job_step``; 0 is none."""


class TruthLog:
    """Facts as they happen, kept until they are taken."""

    def __init__(self) -> None:
        """Start empty."""
        self._facts: list[Fact] = []
        self.hour: list[Fact] = []
        """Facts of the present hour and later, for the figures of the hour."""

    def __len__(self) -> int:
        """Return how many facts have not been taken."""
        return len(self._facts)

    def add(self, fact: Fact) -> None:
        """Note a fact; ``end_s`` may lie in the committed future."""
        self._facts.append(fact)
        if not isinstance(fact, JobStep | Trip | Stop | Kpi):
            self.hour.append(fact)

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
        for key in MOMENTS:
            if key in tree:
                tree[key.removesuffix("_s")] = format_rfc3339(origin_ns + round(tree.pop(key) * NS))
        yield msgspec.json.encode(tree) + b"\n"


def append(path: "Path", facts: Iterable[Fact], origin_ns: int) -> None:
    """Append facts to the truth log at ``path``."""
    with path.open("ab") as file:
        file.writelines(lines(facts, origin_ns))


def _order(fact: Fact) -> tuple[float, str]:
    return fact.end_s, fact.device

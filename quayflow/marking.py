"""How well the pipeline knows what happened: its events and figures marked against the truth of the simulated port."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from analytics.rows import WindowRows
from devices.vocabulary import INDEX, SCALE
from simulators.truth import Alarm, Fact, Move, Passage, Trip, Turn, YardMove
from simulators.truth_figures import figures_of
from store.interface import EventRecord

NS: Final = 1_000_000_000
FINEST_S: Final = 10
MATCH_S: Final = 1.5
"""An event counts as found if it ends within this of the truth, s; sampling at 1 Hz and rounding stay below."""
TURN_MATCH_S: Final = 30.0
"""The same of a truck turn, s: it really ends as the barrier opens, for the readers with the last read of the tag."""
COUNTED: Final = ("moves", "teu", "yard_moves", "passages_in", "passages_out")
"""Metrics that detectors make, whose sum in a range is compared with the truth as a rate per hour."""


class Happening(NamedTuple):
    """One event of the truth or of the detectors, in the form in which the two are compared."""

    device: str
    what: str
    end_s: float
    start_s: float = math.nan
    """Of a truck turn only."""


class PassedTag(NamedTuple):
    """A truck's tag through a gate."""

    end_s: float
    direction: str
    tag: str


class Span(NamedTuple):
    """A range of time, ns UTC, half-open."""

    start_ns: int
    end_ns: int

    @property
    def hours(self) -> float:
        """Its length in h."""
        return (self.end_ns - self.start_ns) / NS / 3600


def happenings_of_truth(facts: Iterable[Fact]) -> Iterator[Happening]:
    """Yield what really happened; restows and empty spreaders are no moves, an alarm counts by its beginning."""
    for fact in facts:
        match fact:
            case Move(kind="shift"):
                continue
            case Move():
                yield Happening(fact.device, "crane_move", fact.end_s)
            case YardMove():
                yield Happening(fact.device, "yard_move", fact.end_s)
            case Passage():
                yield Happening(fact.device, f"gate_passage {fact.direction}", fact.end_s)
            case Trip():
                yield Happening(fact.device, "trip", fact.end_s)
            case Turn():
                yield _turn(fact)
            case Alarm() if fact.code != "lane_blocked":
                yield Happening(fact.device, f"alarm {fact.code}", fact.start_s)
            case _:
                continue


def happenings_of_events(events: Iterable[EventRecord], origin_ns: int) -> Iterator[Happening]:
    """Yield what was detected or told; ``origin_ns`` is second 0 of the port's time, ns UTC."""
    for event in events:
        end_s = (event.ts_ns - origin_ns) / NS
        match event.type:
            case "crane_move" if event.data.get("kind") == "shift":
                continue
            case "crane_move" | "yard_move" | "trip":
                yield Happening(event.device, event.type, end_s)
            case "gate_passage":
                yield Happening(event.device, f"gate_passage {event.data['direction']}", end_s)
            case "alarm" if event.data.get("active"):
                yield Happening(event.device, f"alarm {event.data.get('code')}", end_s)
            case _:
                continue


def tags_through(events: Iterable[EventRecord], origin_ns: int, trucks: Mapping[str, str]) -> Iterator[PassedTag]:
    """Yield the passages detected, under the name of the truck where ``trucks`` (tag → name) has it."""
    for event in events:
        if event.type == "gate_passage":
            tag = str(event.data["tag"])
            yield PassedTag((event.ts_ns - origin_ns) / NS, str(event.data["direction"]), trucks.get(tag, tag))


def turns_of(happenings: Iterable[Happening], passages: Iterable[PassedTag]) -> Iterator[Happening]:
    """Yield what was detected, and the truck turns that follow from it: a tag that came in and went out."""
    yield from happenings
    inside: dict[str, float] = {}
    for passage in sorted(passages, key=lambda each: each.end_s):
        if passage.direction == "in":
            inside[passage.tag] = passage.end_s
        elif (entered := inside.pop(passage.tag, None)) is not None:
            yield Happening(passage.tag, "truck_turn", passage.end_s, entered)


def score(
    truth: Iterable[Happening], found: Iterable[Happening], what: str, within: tuple[float, float]
) -> dict[str, Any]:
    """Match each found event to the nearest unmatched one of the truth of its kind on the same device.

    All are matched, and those that end ``within`` [first, last] (s) are counted: what ends on one side of the edge in
    truth may be found to end on the other. Of turns, those that begin within it, too.
    """
    tolerance = TURN_MATCH_S if what == "truck_turn" else MATCH_S
    waiting: dict[tuple[str, str], list[Happening]] = {}
    total = seen = 0
    for happening in truth:
        if happening.what.startswith(what):
            waiting.setdefault(happening[:2], []).append(happening)
            total += _is_within(happening, within)
    hit = right = 0
    errors = [0.0]
    for happening in sorted(found):
        if not happening.what.startswith(what):
            continue
        counts = _is_within(happening, within)
        seen += counts
        candidates = waiting.get(happening[:2], [])
        nearest = min(candidates, key=lambda each: abs(each.end_s - happening.end_s), default=None)
        if nearest is None or abs(nearest.end_s - happening.end_s) > tolerance:
            continue
        candidates.remove(nearest)
        right += counts
        if _is_within(nearest, within):
            hit += 1
            errors.append(abs(nearest.end_s - happening.end_s))
    return {
        "truth": total,
        "found": seen,
        "recall": round(hit / total, 4) if total else None,
        "precision": round(right / seen, 4) if seen else None,
        "timing_error_s": round(max(errors), 3) if hit else None,
    }


def _is_within(happening: Happening, within: tuple[float, float]) -> bool:
    first, last = within
    return first <= happening.end_s <= last and not happening.start_s < first


class Figures:
    """What folded window rows and events answer about ranges of time."""

    def __init__(self, rows: WindowRows, events: Sequence[EventRecord]) -> None:
        """Take the rows of every tier; the finest is asked."""
        self._rows = rows.take(rows.tier_s == FINEST_S)
        self._metric = np.array([key.metric for key in rows.keys])
        self._alarms = [event.ts_ns for event in events if event.type == "alarm" and event.data.get("active")]

    def of(self, span: Span) -> dict[str, float]:
        """Return the figures of ``simulators.scenarios.FIGURES_OF_A_SPAN``; a mean or maximum of nothing is 0."""
        figures = {name: self._sum(name, span) for name in COUNTED}
        names = ("cycle_s", "queue_length", "moves", "wind_speed_mps")
        cycles, queues, moves, winds = (self._of_metric(name, span) for name in names)
        working = {self._rows.keys[one].device for one in moves.series[moves.sum > 0].tolist()}
        return {
            **figures,
            "moves_per_hour": figures["moves"] / span.hours,
            "cycle_mean_s": _mean(cycles) / _scale("cycle_s"),
            "cranes_working": len(working),
            "queue_max": float(queues.max.max(initial=0)) / _scale("queue_length"),
            "queue_mean": _mean(queues) / _scale("queue_length"),
            "wind_max_mps": float(winds.max.max(initial=0)) / _scale("wind_speed_mps"),
            "alarms": sum(span.start_ns <= at < span.end_ns for at in self._alarms),
        }

    def compared(
        self, facts: Sequence[Fact], found: Sequence[Happening], span: Span, origin_ns: int
    ) -> dict[str, dict[str, float | None]]:
        """Return each key figure as it was, as it was found, and the relative error, None where it was nothing.

        ``found`` are the events, for the figures that no window holds.
        """
        start_s, end_s = ((at - origin_ns) / NS for at in span)
        truth = figures_of(facts, start_s, end_s)
        compared: dict[str, dict[str, float | None]] = {}
        for name in COUNTED:
            was = truth[f"{name}_per_hour"][0]
            rate = self._sum(name, span) / span.hours
            error = round((rate - was) / was, 5) if was else None
            compared[f"{name}_per_hour"] = {"truth": round(was, 3), "found": round(rate, 3), "error": error}
        within = start_s, end_s
        real = [_turn(fact) for fact in facts if isinstance(fact, Turn)]
        turns, paired = (
            [each.end_s - each.start_s for each in some if each.what == "truck_turn" and _is_within(each, within)]
            for some in (real, found)
        )
        was, rate = (sum(each) / len(each) if each else 0.0 for each in (turns, paired))
        error = round((rate - was) / was, 5) if turns and paired else None
        compared["truck_turn_s"] = {"truth": round(was, 3), "found": round(rate, 3), "error": error}
        return compared

    def _sum(self, name: str, span: Span) -> float:
        return float(self._of_metric(name, span).sum.sum()) / _scale(name)

    def _of_metric(self, metric: str, span: Span) -> WindowRows:
        rows = self._rows
        inside = (rows.window >= span.start_ns) & (rows.window < span.end_ns) & (self._metric[rows.series] == metric)
        return rows.take(inside)


def _turn(fact: Turn) -> Happening:
    return Happening(fact.device, "truck_turn", fact.end_s, fact.start_s)


def _scale(metric: str) -> float:
    return float(SCALE[INDEX[metric]])


def _mean(rows: WindowRows) -> float:
    count = int(rows.count.sum())
    return float(rows.sum.sum()) / count if count else 0.0

"""Key figures as they really were: computed from the facts of the truth log, for comparison with ours."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from simulators.truth import Fact, Kpi, Move, Passage, Queue, Turn, VesselCall, YardMove

PORT: Final = "port"
HOUR_S: Final = 3600.0


def figures_of(facts: Iterable[Fact], start_s: float, end_s: float) -> dict[str, tuple[float, int]]:
    """Return figure → (value, number of observations) from the facts that ended in [start, end).

    Counts are always there; means only where something was observed. ``moves_per_hour`` counts a twin lift once and no
    shifts, as the definition in ``docs/kpis.md`` does; ``gate_queue_s`` is the mean wait before a lane;
    ``berth_rate_per_hour`` counts lifts from the first line to the last, of ships that were seen to come.
    """
    hours = (end_s - start_s) / HOUR_S
    ended = [fact for fact in facts if start_s <= fact.end_s < end_s]
    moves = [fact for fact in ended if isinstance(fact, Move) and fact.kind != "shift"]
    ways = Counter(fact.direction for fact in ended if isinstance(fact, Passage))
    yard_moves = sum(isinstance(fact, YardMove) for fact in ended)
    turns = [fact for fact in ended if isinstance(fact, Turn)]
    waits = [fact for fact in ended if isinstance(fact, Queue) and fact.device.startswith("GATE-IN")]
    calls = [fact for fact in ended if isinstance(fact, VesselCall) and not fact.cut]
    figures: dict[str, tuple[float, int]] = {
        "moves_per_hour": (len(moves) / hours, len(moves)),
        "teu_per_hour": (sum(move.teu for move in moves) / hours, len(moves)),
        "yard_moves_per_hour": (yard_moves / hours, yard_moves),
        "passages_in_per_hour": (ways["in"] / hours, ways["in"]),
        "passages_out_per_hour": (ways["out"] / hours, ways["out"]),
    }
    spans: dict[str, Sequence[Fact]] = {"handling_s": moves, "truck_turn_s": turns, "gate_queue_s": waits}
    for name, found in spans.items():
        if found:
            figures[name] = (sum(fact.end_s - fact.start_s for fact in found) / len(found), len(found))
    if calls:
        lifts, spent = sum(call.lifts for call in calls), sum(call.end_s - call.start_s for call in calls)
        figures["berth_rate_per_hour"] = (lifts / (spent / HOUR_S), len(calls))
    return figures


def figures_of_the_hour(facts: Iterable[Fact], start_s: float, end_s: float) -> Iterator[Kpi]:
    """Yield the figures of [start, end) as facts."""
    for name, (value, count) in figures_of(facts, start_s, end_s).items():
        yield Kpi(PORT, start_s, end_s, name, round(value, 3), count)

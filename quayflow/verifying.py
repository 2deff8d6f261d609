"""`quayflow verify`: a simulated port in virtual time through the whole pipeline, marked against its own truth.

    simulated port ─► messages ─► (shuffle, duplicate, drop) ─► pipeline ─► rows and events ─► compare with the truth

No broker, no disk and no waiting: what is verified is decoding, deduplication, windows, detectors and the ledger. The
store hash covers every folded window row and every detected event, so two runs with the same messages agree to the bit
or differ in the hash.
"""

import heapq
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import typer

from analytics.rows import TIERS_S, WindowRows, fold
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.rerunning import catch_up
from quayflow.hashing import StoreHash
from simulators import profiles
from simulators.messages import NS, Message, PortMessages
from simulators.noise import LEVELS
from simulators.truth import Move, Passage, YardMove
from store.interface import EventRecord
from store.journal import DUPLICATE, RECORD, Frame

START_NS: Final = 1_767_225_600 * NS
"""2026-01-01T00:00:00Z: a fixed start, so that a seed means the same bytes in every run."""
CHUNK_NS: Final = NS
COMMIT_EVERY: Final = 10
SETTLE_NS: Final = 120 * NS
"""Virtual time after the last message has arrived, in which everything still open is released."""
CATCH_UP_EVERY: Final = 1_800
"""Chunks after which detectors run again over what came late."""
DELAYS: Final = ((0.7, NS), (0.9, 60 * NS), (1.0, 900 * NS))
"""Shuffled messages: share of those that are delayed by up to so much, ns. What waits for the watermark, what is merged
late, and what comes when the windows are closed and the detectors long past it."""
MATCH_S: Final = 1.5
"""An event counts as found if it ends within this of the truth, s; sampling at 2 Hz and rounding stay well below."""
EDGE_S: Final = 30.0
"""What ends this close to the end of the simulated time is left out, s: messages of it may be missing."""
DETECTED: Final = frozenset({"crane_move", "yard_move", "gate_passage"})


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """What to simulate and what to do to its messages."""

    profile: str = "small"
    """Name or file of the port's profile."""
    seed: int = 7
    """Seed of the port and of what is done to its messages, ≥ 0."""
    hours: float = 1.0
    """Virtual time, h > 0."""
    shuffle: bool = False
    """Whether messages arrive out of order: most delayed by up to a second, some by up to 15 minutes."""
    duplicate: float = 0.0
    """Share of messages that arrive twice, 0 to 1."""
    drop: float = 0.0
    """Share of messages that never arrive, 0 to 1."""
    site: str = "CNNGB-DEMO"
    """Site level of the topics."""
    noise: str = "none"
    """Noise of the instruments: ``none``, ``default`` or ``heavy``."""

    def __post_init__(self) -> None:
        """Refuse shares and times that make no sense."""
        for name in ("duplicate", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: allowed is 0 to 1")
        if self.hours <= 0:
            raise ValueError(f"hours = {self.hours}: allowed is above 0")
        if self.noise not in LEVELS:
            raise ValueError(f"noise = {self.noise!r}: allowed are {', '.join(LEVELS)}")


class Happening(NamedTuple):
    """One event of the truth or of the detectors, in the form in which the two are compared."""

    device: str
    what: str
    end_s: float


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Simulate, process, compare; return the report."""
    pipeline_config = PipelineConfig()
    pipeline = Pipeline("verify", 1, pipeline_config)
    port = PortMessages(profiles.load(config.profile), config.seed, config.site, START_NS, noise=config.noise)
    faults = _Faults(config)
    journal: list[Frame] = []
    rows: list[WindowRows] = []
    events: dict[str, EventRecord] = {}
    delivered = offset = 0
    chunks = round(config.hours * 3600 * NS / CHUNK_NS)
    settled = chunks + (SETTLE_NS + faults.longest_delay_ns) // CHUNK_NS
    for chunk in range(settled):
        now = START_NS + (chunk + 1) * CHUNK_NS
        messages = [*(port.hello() if chunk == 0 else ()), *(port.advance(CHUNK_NS) if chunk < chunks else ())]
        frames = []
        for message, flags in faults.arrive(messages, now):
            frames.append(Frame(offset, now, 1, flags, message.topic, message.payload))
            offset += RECORD.size + len(message.topic) + len(message.payload)
        pipeline.process(frames)
        delivered += len(frames)
        pipeline.tick(now)
        if config.shuffle:
            journal += frames
            if chunk % CATCH_UP_EVERY == CATCH_UP_EVERY - 1:
                catch_up(pipeline, journal)
        if chunk % COMMIT_EVERY == 0:
            rows.append(pipeline.take_rows(chunk))
            _take_events(pipeline, events)
    catch_up(pipeline, journal)
    rows.append(pipeline.take_rows(settled))
    _take_events(pipeline, events)
    return _report(config, pipeline, port, faults, delivered, _folded(rows), list(events.values()))


def _take_events(pipeline: Pipeline, events: dict[str, EventRecord]) -> None:
    """Take what was found and retracted since the last call, as a store does."""
    for id_ in pipeline.detection.take_retracted():
        events.pop(id_, None)
    events |= {event.id: event for event in pipeline.take_events()}


class _Faults:
    """What happens to messages on their way: delay, repetition, loss."""

    def __init__(self, config: VerifyConfig) -> None:
        self._config = config
        self._random = random.Random(config.seed)  # noqa: S311 - repeatable on purpose
        self.longest_delay_ns = DELAYS[-1][1] if config.shuffle else 0
        self._under_way: list[tuple[int, int, Message, int]] = []
        self._count = 0
        self.dropped = 0
        self.sent = 0

    def arrive(self, messages: list[Message], now: int) -> Iterator[tuple[Message, int]]:
        """Take what is sent and yield what has arrived by ``now``, in the order of arrival, with its flags."""
        for message in messages:
            self.sent += 1
            if self._random.random() < self._config.drop:
                self.dropped += 1
                continue
            self._send(message, 0)
            if self._random.random() < self._config.duplicate:
                self._send(message, DUPLICATE)
        while self._under_way and self._under_way[0][0] < now:
            _, _, message, flags = heapq.heappop(self._under_way)
            yield message, flags

    def _send(self, message: Message, flags: int) -> None:
        self._count += 1
        arrival = message.due_ns + (self._delay() if self.longest_delay_ns else 0)
        heapq.heappush(self._under_way, (arrival, self._count, message, flags | 1))

    def _delay(self) -> int:
        share = self._random.random()
        return self._random.randrange(next(longest for most, longest in DELAYS if share < most))


def _folded(rows: list[WindowRows]) -> WindowRows:
    """Return what a store that replaces rows by key would answer: the last row of each key, folded."""
    everything = WindowRows.concatenate([part for part in rows if len(part)])
    order = np.lexsort((everything.epoch, everything.window, everything.series, everything.tier_s))
    ordered = everything.take(order)
    keys = (ordered.tier_s, ordered.series, ordered.window, ordered.epoch)
    last = np.ones(len(ordered), np.bool_)
    last[:-1] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    newest = ordered.take(last)
    return WindowRows.concatenate([fold(newest.take(newest.tier_s == tier)) for tier in np.unique(newest.tier_s)])


def _store_hash(rows: WindowRows, events: list[EventRecord]) -> str:
    result = StoreHash()
    for tier_s in TIERS_S:
        result.add_rows(rows.take(rows.tier_s == tier_s))
    result.add_events(events)
    return result.hexdigest()


def _report(
    config: VerifyConfig,
    pipeline: Pipeline,
    port: PortMessages,
    faults: _Faults,
    delivered: int,
    rows: WindowRows,
    events: list[EventRecord],
) -> dict[str, Any]:
    until_s = port.opening_s + config.hours * 3600 - EDGE_S
    truth = Counter(each for each in _of_truth(port) if each.end_s <= until_s)
    found = Counter(each for each in _of_events(events, port) if each.end_s <= until_s)
    ledger = pipeline.ledger
    rows_of_ledger = pipeline.ledger_rows(pipeline.directory.devices)
    accounts: Counter[str] = Counter()
    for row in rows_of_ledger:
        accounts[row.account] += row.frames
    return {
        "profile": config.profile,
        "seed": config.seed,
        "hours": config.hours,
        "noise": config.noise,
        "messages": faults.sent,
        "delivered": delivered,
        "dropped": faults.dropped,
        "moves": _score(truth, found, "crane_move"),
        "yard_moves": _score(truth, found, "yard_move"),
        "passages": _score(truth, found, "gate_passage"),
        # No detector makes trips yet, and the truth log holds none.
        "trips": {"truth": 0, "found": 0, "recall": None, "precision": None},
        "late_for_detectors": pipeline.detection.late_for_detectors,
        "runs_again": pipeline.detection.runs_again,
        "accounts": dict(sorted(accounts.items())),
        "ledger_balanced": ledger.balanced() and ledger.received == delivered,
        "rows": len(rows),
        "store_hash": _store_hash(rows, events),
    }


def _of_truth(port: PortMessages) -> Iterator[Happening]:
    """Yield what really happened; restows and empty spreaders are no moves."""
    for fact in port.truth():
        match fact:
            case Move(kind="shift"):
                continue
            case Move() | YardMove() | Passage():
                what = f"gate_passage {fact.direction}" if isinstance(fact, Passage) else type_of(fact)
                yield Happening(fact.device, what, fact.end_s)
            case _:
                continue


def type_of(fact: Move | YardMove) -> str:
    """Return the event type that a detector gives to a move."""
    return "crane_move" if isinstance(fact, Move) else "yard_move"


def _of_events(events: list[EventRecord], port: PortMessages) -> Iterator[Happening]:
    for event in events:
        if event.type in DETECTED and event.data.get("kind") != "shift":
            what = f"{event.type} {event.data['direction']}" if event.type == "gate_passage" else event.type
            yield Happening(event.device, what, (event.ts_ns - port.origin_ns) / NS)


def _score(truth: Counter[Happening], found: Counter[Happening], what: str) -> dict[str, Any]:
    """Match each found event to the nearest unmatched one of the truth on the same device."""
    waiting: dict[tuple[str, str], list[float]] = {}
    for happening in truth.elements():
        if happening.what.startswith(what):
            waiting.setdefault(happening[:2], []).append(happening.end_s)
    total = sum(map(len, waiting.values()))
    seen = matched = 0
    errors = []
    for happening in sorted(found.elements()):
        if not happening.what.startswith(what):
            continue
        seen += 1
        candidates = waiting.get(happening[:2], [])
        distances = [abs(end_s - happening.end_s) for end_s in candidates]
        if distances and min(distances) <= MATCH_S:
            candidates.pop(distances.index(min(distances)))
            matched += 1
            errors.append(min(distances))
    return {
        "truth": total,
        "found": seen,
        "recall": round(matched / total, 4) if total else None,
        "precision": round(matched / seen, 4) if seen else None,
        "timing_error_s": round(max(errors), 3) if errors else None,
    }


def show(report: dict[str, Any], *, as_json: bool) -> int:
    """Print a report; return 0 if the ledger balances, else 1."""
    if as_json:
        typer.echo(json.dumps(report))
    else:
        for name in ("moves", "yard_moves", "passages", "trips"):
            score = report[name]
            typer.echo(
                f"{name:<12} truth {score['truth']:>6}  found {score['found']:>6}  recall {score['recall']}  "
                f"precision {score['precision']}"
            )
        typer.echo(f"messages     {report['messages']:,} sent, {report['delivered']:,} delivered")
        typer.echo(f"ledger       {'balanced' if report['ledger_balanced'] else 'NOT BALANCED'}")
        typer.echo(f"store hash   {report['store_hash']}")
    return 0 if report["ledger_balanced"] else 1

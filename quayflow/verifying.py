"""`quayflow verify`: a simulated port in virtual time through the whole pipeline, marked against its own truth.

    simulated port ─► messages ─► (shuffle, duplicate, drop) ─► pipeline ─► rows and events ─► compare with the truth

No broker, no disk and no waiting: what is verified is decoding, deduplication, windows, detectors and the ledger. The
store hash covers every folded window row and every detected event, so two runs with the same messages agree to the bit
or differ in the hash.
"""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import typer

from analytics.rows import TIERS_S, WindowRows, fold
from devices.codecs.sparkplug import NAMESPACE
from devices.topics import device_id
from devices.vocabulary import DeviceClass
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.rerunning import catch_up
from ingest.sources import Source
from quayflow.hashing import StoreHash
from quayflow.marking import Figures, Span, happenings_of_events, happenings_of_truth, score, tags_through, turns_of
from simulators import profiles
from simulators.fault_chain import Chain
from simulators.faults import AnyFault, Backfill, Duplicate, Late, Lost
from simulators.messages import FIXED_START_NS, NS, Message, PortMessages
from simulators.noise import LEVELS
from simulators.scenarios import Scenario
from simulators.truth import Passage
from store.admission import Admission
from store.interface import EventRecord
from store.journal import DUPLICATE, RECORD, Frame

START_NS: Final = FIXED_START_NS
CHUNK_NS: Final = 2 * NS
COMMIT_EVERY: Final = 5
SETTLE_NS: Final = 420 * NS
"""Virtual time after the last message has arrived, in which everything still open is released."""
CATCH_UP_EVERY: Final = 900
"""Chunks after which detectors run again over what came late."""
AHEAD: Final = 15
"""Chunks by which the port is advanced at once."""
DELAYS: Final = ((1.0, 1.0), (0.3, 60.0), (0.1, 900.0))
"""Shuffled messages: share of those that are delayed by up to so much more, s. What waits for the watermark, what is
merged late, and what comes when the windows are closed and the detectors long past it."""
EDGE_S: Final = 30.0
"""What ends this close to the end of the simulated time is left out, s: messages of it may be missing."""
BEGIN_S: Final = 10.0
"""What ends this soon after the beginning is left out, s: a crane that has set down its load already and only has to
unlock was never heard of as laden."""
LOSSES: Final = ("lost", "silent", "lost_in_reboot")
"""Faults whose messages never arrive."""
MISSED: Final = 99
MOST_HOURS: Final = 8_784
"""Longest virtual time, h: a year."""
SCORED: Final = {
    "moves": "crane_move",
    "yard_moves": "yard_move",
    "passages": "gate_passage",
    "turns": "truck_turn",
    "trips": "trip",
    "alarms": "alarm",
}
"""Part of the report → what is scored in it."""


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
    scenario: Scenario | None = None
    """A scenario: its profile takes the place of ``profile``, and its faults come on top."""

    def __post_init__(self) -> None:
        """Refuse shares and times that make no sense."""
        for name in ("duplicate", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: allowed is 0 to 1")
        if not 0 < self.hours <= MOST_HOURS:
            raise ValueError(f"hours = {self.hours}: allowed is above 0, up to {MOST_HOURS}")
        if self.noise not in LEVELS:
            raise ValueError(f"noise = {self.noise!r}: allowed are {', '.join(LEVELS)}")

    @classmethod
    def of(cls, scenario: Scenario, site: str = "CNNGB-DEMO") -> "VerifyConfig":
        """Return the configuration that a scenario declares."""
        declared = scenario.declared
        return cls(declared.profile, declared.seed, declared.hours, site=site, noise=declared.noise, scenario=scenario)

    def faults(self) -> list[AnyFault]:
        """Return what happens to the messages."""
        faults: list[AnyFault] = [*self.scenario.declared.faults] if self.scenario else []
        if self.drop:
            faults.append(Lost(share=self.drop))
        if self.duplicate:
            faults.append(Duplicate(share=self.duplicate))
        if self.shuffle:
            faults += [Late(share=share, delay_s=(0.0, longest)) for share, longest in DELAYS]
        return faults


def verify(config: VerifyConfig) -> dict[str, Any]:
    """Simulate, process, compare; return the report."""
    profile = config.scenario.profile if config.scenario else profiles.load(config.profile)
    port = PortMessages(profile, config.seed, config.site, START_NS, noise=config.noise)
    pipeline = Pipeline("verify", 1, _hosting(port))
    faults = config.faults()
    comes_late = any(isinstance(fault, Late | Backfill) for fault in faults)
    chain = Chain(faults, config.seed, START_NS)
    journal: list[Frame] = []
    rows: list[WindowRows] = []
    events: dict[str, EventRecord] = {}
    sent = delivered = offset = chunk = quiet = 0
    chunks = _chunks_of(port, round(config.hours * 3600 * NS / CHUNK_NS))
    while quiet < SETTLE_NS // CHUNK_NS:
        messages = next(chunks, None)
        now = START_NS + (chunk + 1) * CHUNK_NS
        chain.send(messages or ())
        frames = []
        for _, message, repeated in chain.arrived(now):
            flags = DUPLICATE | 1 if repeated else 1
            frames.append(Frame(offset, now, 1, flags, message.topic, message.payload))
            offset += RECORD.size + len(message.topic) + len(message.payload)
        pipeline.process(frames)
        pipeline.tick(now)
        sent += len(messages or ())
        delivered += len(frames)
        if comes_late:
            journal += frames
            if chunk % CATCH_UP_EVERY == CATCH_UP_EVERY - 1:
                catch_up(pipeline, journal)
        if chunk % COMMIT_EVERY == 0:
            rows.append(pipeline.take_rows(chunk))
            _take_events(pipeline, events)
        quiet = quiet + 1 if messages is None and not len(chain) else 0
        chunk += 1
    catch_up(pipeline, journal)
    rows.append(pipeline.take_rows(chunk))
    _take_events(pipeline, events)
    counts = {"messages": sent, "delivered": delivered, "dropped": sum(chain.counts[name] for name in LOSSES)}
    return _report(config, pipeline, port, counts, _folded(rows), list(events.values()))


def _hosting(port: PortMessages) -> PipelineConfig:
    """Return the configuration of a host of the port's Sparkplug nodes, each of which is an alias of its device."""
    sources: dict[str, Source] = {}
    aliases = {}
    for key, node in ((device.key, device.node) for device in port.devices):
        if node is not None:
            topics = tuple(f"{NAMESPACE}/{node.group}/{levels}" for levels in ("+/+", "+/+/+"))
            sources[node.group] = Source("sparkplug", key.site, DeviceClass(key.device_class), topics)
            aliases[f"sparkplug:{device_id(node.group, node.node, node.device)}"] = key.uid
    return PipelineConfig(sources=tuple(sources.values()), admission=Admission(aliases=aliases))


def _chunks_of(port: PortMessages, chunks: int) -> Iterator[list[Message]]:
    """Yield what is sent in each chunk of time; the port is advanced by many at once, which is quicker."""
    opening = list(port.hello())
    for first in range(0, chunks, AHEAD):
        span = min(AHEAD, chunks - first)
        messages = port.advance(span * CHUNK_NS)
        due = [message.due_ns for message in messages]
        begin = 0
        for nth in range(first + 1, first + span + 1):
            end = bisect_left(due, START_NS + nth * CHUNK_NS)
            yield opening + messages[begin:end]
            opening, begin = [], end


def _take_events(pipeline: Pipeline, events: dict[str, EventRecord]) -> None:
    """Take what was found and retracted since the last call, as a store does."""
    for id_ in pipeline.detection.take_retracted():
        events.pop(id_, None)
    events |= {event.id: event for event in pipeline.take_events()}


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
    counts: dict[str, int],
    rows: WindowRows,
    events: list[EventRecord],
) -> dict[str, Any]:
    end_ns = START_NS + round(config.hours * 3600 - EDGE_S) * NS
    begin_ns = START_NS + round(BEGIN_S * NS)
    within = (begin_ns - port.origin_ns) / NS, (end_ns - port.origin_ns) / NS
    facts = port.truth()
    truth = list(happenings_of_truth(facts))
    trucks = {fact.tag: fact.truck for fact in facts if isinstance(fact, Passage)}
    passed = tags_through(events, port.origin_ns, trucks)
    found = list(turns_of(happenings_of_events(events, port.origin_ns), passed))
    ledger = pipeline.ledger
    accounts: Counter[str] = Counter()
    for row in pipeline.ledger_rows(pipeline.directory.devices):
        accounts[row.account] += row.frames
    figures = Figures(rows, events)
    report = {
        "profile": config.profile if config.scenario is None else config.scenario.declared.profile,
        "seed": config.seed,
        "hours": config.hours,
        "noise": config.noise,
        **counts,
        # No detector makes trips yet: the truth log has them, and found is what there is, nothing.
        **{name: score(truth, found, what, within) for name, what in SCORED.items()},
        "kpis": figures.compared(facts, found, Span(begin_ns, end_ns), port.origin_ns),
        "late_for_detectors": pipeline.detection.late_for_detectors,
        "runs_again": pipeline.detection.runs_again,
        "accounts": dict(sorted(accounts.items())),
        "ledger_balanced": ledger.balanced() and ledger.received == counts["delivered"],
        "rows": len(rows),
        "store_hash": _store_hash(rows, events),
    }
    if config.scenario is not None:
        report |= _outcome(config.scenario, report, figures)
    return report


def _outcome(scenario: Scenario, report: dict[str, Any], figures: Figures) -> dict[str, Any]:
    """Return the figures of a scenario and whether they are what it expects."""
    declared = scenario.declared
    found = figures.of(Span(START_NS, START_NS + round(declared.hours * 3600) * NS))
    for name, (start_s, end_s) in declared.spans.items():
        span = Span(START_NS + round(start_s * NS), START_NS + round(end_s * NS))
        found |= {f"{name}_{figure}": value for figure, value in figures.of(span).items()}
    for kind in ("moves", "yard_moves", "passages"):
        found |= {f"{kind}_{name}": report[kind][name] or 0.0 for name in ("recall", "precision")}
    accounts = report["accounts"]
    found |= {
        "true_moves": report["moves"]["truth"],
        "true_passages": report["passages"]["truth"],
        "lost": accounts.get("lost_before_journal", 0),
        "duplicates": accounts.get("duplicate", 0),
        "merged_late": accounts.get("merged_late", 0),
        "quarantined": accounts.get("quarantined", 0),
    }
    return {
        "scenario": scenario.name,
        "title": declared.title,
        "figures": {name: round(value, 4) for name, value in found.items()},
        "expectations": [
            {"expectation": one.text, "value": round(found[one.figure], 4), "ok": one.holds(found)}
            for one in scenario.expectations
        ],
    }


def show(report: dict[str, Any], *, as_json: bool) -> int:
    """Print a report; return 1 if the ledger does not balance, 99 if a scenario's expectation is missed, else 0."""
    expectations = report.get("expectations", ())
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(report)
        for one in expectations:
            typer.echo(f"{'ok' if one['ok'] else 'MISSED':<12} {one['expectation']}  (is {one['value']:g})")
    if not report["ledger_balanced"]:
        return 1
    return 0 if all(one["ok"] for one in expectations) else MISSED


def _print(report: dict[str, Any]) -> None:
    if "title" in report:
        typer.echo(f"scenario     {report['title']}")
    for name in SCORED:
        found = report[name]
        typer.echo(
            f"{name:<12} truth {found['truth']:>6}  found {found['found']:>6}  recall {found['recall']}  "
            f"precision {found['precision']}  timing error {found['timing_error_s']} s"
        )
    for name, kpi in report["kpis"].items():
        error = "-" if kpi["error"] is None else f"{100 * kpi['error']:+.2f} %"
        typer.echo(f"{name:<22} truth {kpi['truth']:>10.2f}  found {kpi['found']:>10.2f}  error {error}")
    typer.echo(f"messages     {report['messages']:,} sent, {report['delivered']:,} delivered")
    typer.echo(f"ledger       {'balanced' if report['ledger_balanced'] else 'NOT BALANCED'}")
    typer.echo(f"store hash   {report['store_hash']}")

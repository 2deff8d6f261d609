"""What must be true after every seed, whatever struck."""

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from devices.vocabulary import BY_NAME
from faults.simulation.broker import Publication
from faults.simulation.clock import NS, START_NS
from faults.simulation.plan import Plan
from faults.simulation.store import Folded, folded
from faults.simulation.world import RULES, World
from ingest.detection import NOTICES
from ingest.pipeline import Pipeline
from store.interface import EventRecord, LedgerRow
from store.journal import Frame, JournalError, read

LONG_AFTER_NS: Final = START_NS + 86_400 * NS
REPORTED: Final = "fault"
"""The type of event that devices report themselves."""
ENDS: Final = ("windowed", "merged_late", "duplicate", "quarantined", "shed")


class Tally(NamedTuple):
    """How many messages a seed was about."""

    acknowledged: int
    stored: int
    """Different ones that took effect."""
    lost: int
    """Acknowledged by ingest, and nowhere."""
    twice: int
    """Taken for new more than once."""

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum."""
        return Tally(*(one + another for one, another in zip(self, other, strict=True)))


def tally(world: World) -> Tally:
    """Count the messages of a seed."""
    received, new = _received(world), _new(world.store.ledger.values())
    acknowledged = world.broker.acknowledged
    return Tally(len(acknowledged), min(new, len(received)), len(acknowledged - received), max(0, new - len(received)))


def findings(world: World) -> list[str]:
    """Return everything that is not as it must be; empty if all is."""
    found = [*world.unexpected, *world.broker.violations]
    plan, broker = world.plan, world.broker
    received = _received(world)
    if missing := broker.acknowledged - received:
        found.append(f"{len(missing)} acknowledged messages are not in the journal")
    if strange := received - plan.payloads:
        found.append(f"{len(strange)} frames of the journal were never published")
    reference = _reference(plan, received)
    ledger = world.store.ledger
    found += _ledger_findings(ledger, len(received))
    if unbalanced := sum(not commit.status["balanced"] for commit in world.store.commits):
        found.append(f"{unbalanced} of {len(world.store.commits)} commits say that the ledger does not balance")
    refused, expected_refused = (
        _refused(rows) for rows in (ledger.values(), reference.ledger_rows(reference.touched()))
    )
    if refused != expected_refused:
        found.append(f"quarantined samples: {dict(refused)} instead of {dict(expected_refused)}")
    if world.ledger != ledger:
        found.append("the ledger of the records is not that of the commits")
    found += _lost_findings(world, received)
    # What came too late for the detectors, where the journal had forgotten, is counted and not among their findings.
    complete = not any(commit.status["late_for_detectors"] for commit in world.store.commits)
    found += _event_findings(world.events, reference.take_events(), complete=complete)
    found += _row_findings(folded(world.rows), folded([reference.take_rows(1)]), complete=complete)
    return found


def _row_findings(stored: Folded, expected: Folded, *, complete: bool) -> list[str]:
    """Hold the store to the windows of a run without faults; not ``complete``: but for those of findings."""
    wrong = [key for key in stored.keys() | expected.keys() if stored.get(key) != expected.get(key)]
    if not complete:
        wrong = [key for key in wrong if not BY_NAME[key[1].metric].derived]
    if not wrong:
        return []
    first = min(wrong)
    words = f"{stored.get(first)} instead of {expected.get(first)}"
    return [f"{len(wrong)} of {len(expected)} windows differ from a run without faults; first {first}: {words}"]


def _event_findings(stored: Iterable[EventRecord], expected: Iterable[EventRecord], *, complete: bool) -> list[str]:
    """Hold the records to the events of a run without faults; not ``complete``: but for those found."""

    def told(events: Iterable[EventRecord]) -> dict[str, tuple[object, ...]]:
        return {
            event.id: (event.type, event.device, event.ts_ns, event.start_ns, dict(event.data))
            for event in events
            if event.type not in NOTICES and (complete or event.type == REPORTED)
        }

    there, wanted = told(stored), told(expected)
    wrong = sorted(id_ for id_ in there.keys() | wanted.keys() if there.get(id_) != wanted.get(id_))
    if not wrong:
        return []
    first = wrong[0]
    words = f"{there.get(first)} instead of {wanted.get(first)}"
    return [f"{len(wrong)} of {len(wanted)} events differ from a run without faults; first {first}: {words}"]


def _received(world: World) -> set[bytes]:
    """Return the payloads of what ingest has: of the journal where it is whole, else all that was not lost before."""
    if world.plan.keeps_journal:
        try:
            return {frame.payload for frame in read(world.data / "journal")}
        except JournalError:
            # A journal that cannot be read holds nothing.
            return set()
    return world.plan.payloads - world.broker.lost


def _reference(plan: Plan, received: Iterable[bytes]) -> Pipeline:
    """Process what was received in one go, as if nothing had ever happened."""
    pipeline = Pipeline("reference", 1, RULES)
    wanted, frames = set(received), []
    for offset, (at, publication) in enumerate(plan.messages):
        if publication.payload in wanted:
            wanted.discard(publication.payload)
            recv_ts = START_NS + round((at + 1) * NS)
            frames.append(Frame(offset, recv_ts, 1, 1, publication.topic, publication.payload))
    pipeline.process(frames)
    pipeline.tick(LONG_AFTER_NS)
    return pipeline


def _ledger_findings(ledger: dict[tuple[str, str, str], LedgerRow], received: int) -> list[str]:
    """Hold the ledger to its identity, and to the number of different messages."""
    found = []
    rows = list(ledger.values())
    for unit in ("frames", "samples"):
        difference: Counter[str] = Counter()
        for row in rows:
            sign = 1 if row.account == "received" else -(row.account in ENDS)
            difference[row.uid] += sign * getattr(row, unit)
        if any(difference.values()):
            found.append(f"the ledger does not balance in {unit}: {dict(difference)}")
    new = _new(rows)
    if new != received:
        found.append(f"{new} frames took effect, {received} different ones were received")
    return found


def _new(rows: Iterable[LedgerRow]) -> int:
    """Return how many frames were not repetitions."""
    return sum(row.frames * {"received": 1, "duplicate": -1}.get(row.account, 0) for row in rows)


def _lost_findings(world: World, received: set[bytes]) -> list[str]:
    """Hold what the ledger says was lost before the journal to the gaps that there are."""
    by_boot: dict[tuple[str, int], set[int]] = {}
    for publication in _numbered(world.plan):
        if publication.payload in received:
            by_boot.setdefault((publication.device, publication.boot), set()).add(publication.seq)
    gaps = sum(max(seen) - min(seen) + 1 - len(seen) for seen in by_boot.values())
    said = sum(row.frames for row in world.store.ledger.values() if row.account == "lost_before_journal")
    return [] if gaps == said else [f"{said} messages are said to be lost before the journal, {gaps} are"]


def _numbered(plan: Plan) -> list[Publication]:
    return [publication for _, publication in plan.messages if publication.seq >= 0]


def _refused(rows: Iterable[LedgerRow]) -> Counter[tuple[str, str]]:
    """Return device and reason → samples quarantined."""
    refused: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.account == "quarantined" and row.samples:
            refused[row.uid, str(row.reason)] += row.samples
    return refused

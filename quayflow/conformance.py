"""What `quayflow check` makes of messages: each runs through the very pipeline of ingest, in memory.

What the pipeline would refuse is what the report names. Beside it every message is read once more, to see what the
pipeline does not judge: who speaks and as what, how far the clock is off, what has no number, what is odd.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import msgspec

from devices.codecs.readings import Reading, Request
from devices.rejects import Reason, RejectError
from devices.times import NS, parse_rfc3339
from devices.topics import ROOT, DeviceKey, Stream, TopicError, parse
from devices.vocabulary import DeviceClass, accepted_from
from ingest.foreign import COMMANDS, HISTORICAL
from ingest.pipeline import Pipeline, PipelineConfig
from ingest.sources import Feed, Feeds
from quayflow.captures import NATIVE, PLACEHOLDER, Message, body_of
from quayflow.paces import Pace, Sample
from store.device_health import UNSET_S
from store.interface import QuarantineRecord
from store.journal import Frame

SKEW_S: Final = 10.0
"""Median difference of clocks that is worth a warning, s."""
ZONES_S: Final = 1_800
"""Local times are off by multiples of this, s …"""
ZONE_SLACK_S: Final = 60
"""… and by what a clock is off besides."""
AT_ONCE: Final = 256
"""Messages of a file that run through the pipeline together."""
FORGET_EVERY: Final = 1 << 14
"""Messages after which what the pipeline has found is forgotten, so that a file of any size takes no more memory."""
MOST_FINDINGS: Final = 1_000
"""Different findings that are listed; more are counted together."""
PAUSE: Final = 10.0
"""Times the usual distance of two messages that are a pause."""
REMEMBERED: Final = 4_096
"""Numbers of a device that are remembered, to find one that is used again for something else."""
MOST_REFUSED: Final = 1 << 31
"""None is left out: they are counted here, not kept."""
STATE: Final = "spBv1.0/STATE/"
"""How topics begin on which hosts of Sparkplug tell of themselves: no device speaks there."""
CHECKS: Final = {
    Reason.IDENTITY_MISMATCH: "identity",
    Reason.UNKNOWN_TOPIC: "identity",
    Reason.NOT_REGISTERED: "identity",
    Reason.UNKNOWN_METRIC: "names",
    Reason.NO_BIRTH: "names",
    Reason.OUT_OF_RANGE: "ranges",
    Reason.NOT_FINITE: "ranges",
    Reason.CLOCK_FUTURE: "clock",
    Reason.CLOCK_UNSET: "clock",
    Reason.SEQUENCE_TOO_OLD: "sequence",
}
"""Reason for refusal → what of the conformance it concerns; ``payload`` for the others."""
ERROR, WARNING, NOTE = "error", "warning", "note"
FLAGS: Final[dict[str, tuple[str, str, str]]] = {
    HISTORICAL: (NOTE, "clock", "kept by the device for later"),
    "no_zone": (WARNING, "clock", "times without a zone, taken as UTC; --zone or a source's zone says which it is"),
    "no_seq": (WARNING, "sequence", "no number of its own: a repetition is recognised by what it says"),
    "gap": (WARNING, "sequence", "the reader left out numbers before this read"),
    "checksum": (WARNING, "payload", "the checksum is wrong"),
    "length": (WARNING, "payload", "the length in the head is not that of the message"),
    "escape": (WARNING, "payload", "escapes that the format does not know"),
    "count": (WARNING, "payload", "another number of records than the message says"),
    "overrun": (WARNING, "payload", "an item that reaches beyond its message"),
    "parts_lost": (WARNING, "sequence", "a message in parts of which not all came"),
    "not_read": (NOTE, "payload", "a message of a kind that holds nothing for figures"),
    "no_fix": (NOTE, "payload", "the tracker says that its position is not valid"),
    "null": (NOTE, "payload", "a metric without a value"),
    "old_birth": (WARNING, "sequence", "a birth of a life that is over"),
    "old_death": (WARNING, "sequence", "a death of a life that is over"),
    "check_digit": (WARNING, "identity", "the check digit of a container number is wrong"),
    "epc": (WARNING, "identity", "a tag's code breaks the scheme that its header names"),
}
"""Flag of a reading → how bad it is, what it concerns, and what it means; what is missing here is a warning."""
BIRTH_CAME: Final = "before; it came later"
BIRTH_MISSED: Final = "at all; a recording has to begin before it, and live it is asked for"
RANKS: Final = (ERROR, WARNING, NOTE)
INDEX: Final = re.compile(r"/\d+(?=/|$)")


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    severity: str
    """``error``, ``warning`` or ``note``; errors decide the exit status."""
    check: str
    """identity, clock, rate, sequence, names, units, ranges or payload."""
    topic: str
    """Of a file whose messages came without one, the device's uid, or ""."""
    pointer: str
    detail: str
    count: int = 1
    first: str = ""
    """Where it was met first, in a file."""


class Report(msgspec.Struct):
    """What was found of the messages of one check."""

    source: str
    device_class: str
    messages: int
    devices: list[dict[str, Any]]
    """``uid``, ``formats``, ``messages``; ``rate_hz``, ``skew_s`` and ``missing`` are None where nobody can know."""
    findings: list[Finding]

    @property
    def conforms(self) -> bool:
        """Whether there is nothing that would lose a value."""
        return self.messages > 0 and not any(each.severity == ERROR for each in self.findings)


@dataclass(slots=True)
class _Told:
    """What is counted of one device."""

    formats: dict[str, None] = field(default_factory=dict)
    topic: str = ""
    messages: int = 0
    numbered: int = 0
    unnumbered: int = 0
    untimed: int = 0
    said: dict[tuple[int, int], int] = field(default_factory=dict)
    """(boot, seq) → hash of the message that had it, of the last of them."""
    received: Pace = field(default_factory=Pace)
    skews: Sample = field(default_factory=Sample)
    """Time of receipt minus the device's own, ns, where both are known."""

    def repeats(self, number: tuple[int, int], payload: bytes) -> bool:
        """Tell whether another message had a number, and remember that this one has it."""
        said = hash(payload)
        if len(self.said) >= REMEMBERED:
            del self.said[next(iter(self.said))]
        return self.said.setdefault(number, said) != said


def judge(
    messages: Iterable[Message], device_class: DeviceClass, source: str, config: PipelineConfig | None = None
) -> Report:
    """Run messages through the pipeline of ingest and return what it makes of them."""
    judging = Judging(device_class, config or PipelineConfig())
    rest = iter(messages)
    while some := list(islice(rest, AT_ONCE)):
        judging.take(some)
    return judging.report(source)


class Judging:
    """Takes messages as they come."""

    def __init__(self, device_class: DeviceClass, config: PipelineConfig) -> None:
        """``config`` has the sources of foreign formats, and whom the registry admits."""
        self._class = device_class
        self._pipeline = Pipeline("check", 1, replace(config, max_quarantine_per_commit=MOST_REFUSED))
        # Codecs remember, so what is read beside the pipeline is read by others.
        self._feeds = Feeds(self._pipeline.directory, config.sources)
        self._devices: dict[DeviceKey, _Told] = {}
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._first: dict[tuple[str, ...], Finding] = {}
        self._read: set[str] = set()
        """Topics of Sparkplug on which something could be read."""
        self._said: set[tuple[str, ...]] = set()
        """What has been found of the message at hand: of several readings that share a fault, one counts."""
        self.messages = 0

    def take(self, messages: Sequence[Message]) -> None:
        """Judge the next messages; what hosts of Sparkplug say of themselves is none of a device's."""
        messages = [each for each in messages if not each.topic.startswith(STATE)]
        begin = self.messages
        self.messages += len(messages)
        if begin // FORGET_EVERY < self.messages // FORGET_EVERY:
            self._forget()
        self._pipeline.process(
            [Frame(at, each.recv_ts, 1, 1, each.topic, each.payload) for at, each in enumerate(messages, begin)]
        )
        for record in self._pipeline.take_quarantine():
            self._refused(record, messages[int(record.id.partition("#")[0]) - begin])
        for each in messages:
            self._look_at(each)

    def wants(self, now: int) -> list[Request]:
        """Return what ingest would publish at ``now``, ns UTC, such as a request to be born again."""
        return self._pipeline.foreign.feeds.wants(now)

    def report(self, source: str) -> Report:
        """Return what was found so far."""
        findings, rows = [], []
        for place, each in self._first.items():
            found = msgspec.structs.replace(each, count=self._counts[place])
            if place[1] == Reason.NO_BIRTH:
                came = each.topic in self._read
                detail = f"{each.detail} {BIRTH_CAME if came else BIRTH_MISSED}"
                found = msgspec.structs.replace(found, severity=NOTE if came else ERROR, detail=detail)
            findings.append(found)
        for key, told in self._devices.items():
            row = _row(key, told, self._pipeline.directory.device(key, capped=False).tracker.lost)
            rows.append(row)
            findings += _of_device(told.topic or key.uid * (key.device != PLACEHOLDER), told, row)
        return Report(source, self._class, self.messages, rows, sorted(findings, key=rank))

    def _forget(self) -> None:
        """Let go of windows and events: nobody asks for them here, and no time passes that would close them."""
        self._pipeline.take_packed(self.messages // FORGET_EVERY)
        self._pipeline.take_events()
        self._pipeline.detection.waiting.take_all()
        self._pipeline.detection.reads.clear()

    def _note(self, finding: Finding, place: tuple[str, ...]) -> None:
        if len(self._first) >= MOST_FINDINGS and place not in self._first:
            place = (finding.severity, "more")
            finding = Finding(finding.severity, "payload", "", "", "more that is not listed", first=finding.first)
        self._counts[place] += 1
        self._first.setdefault(place, finding)

    def _refused(self, record: QuarantineRecord, message: Message) -> None:
        """Note a refusal: one finding per place and reason, with how often it was met."""
        reason = Reason(record.reason)
        check, detail = CHECKS.get(reason, "payload"), record.detail
        if reason is Reason.UNKNOWN_METRIC:
            name = record.pointer.rpartition("/")[2]
            hint = _like(name, self._class)
            check = "units" if hint and hint.rpartition("_")[0] == name.rpartition("_")[0] else check
            detail = f"did you mean {hint}? {detail}" if hint else detail
        if reason is Reason.UNKNOWN_TOPIC and not message.topic.startswith(f"{ROOT}/"):
            detail = (
                "a topic that no source of the settings takes in: say with --codec what it carries, or add a source"
            )
        if not message.own_topic:
            # Nobody has this id; whoever reads it is to put in the device's own.
            detail = re.sub(rf"\S+/{PLACEHOLDER}\b", "UID", detail)
        if reason is Reason.NO_BIRTH:
            detail += (
                ": only a recording from its birth on can be read, or the wire, where it is asked to be born again"
            )
        topic = message.topic if message.own_topic else ""
        finding = Finding(ERROR, check, topic, record.pointer, f"{record.reason}: {detail}", first=message.place)
        self._note(finding, (ERROR, record.reason, topic, INDEX.sub("/*", record.pointer)))

    def _look_at(self, message: Message) -> None:
        self._said.clear()
        try:
            key, stream = parse(message.topic)
        except TopicError:
            self._look_at_foreign(message)
            return
        if stream in COMMANDS:
            return
        told = self._told(key, message, NATIVE)
        self._hold_class(key, message, "the topic says")
        body = body_of(message.payload)
        numbered = isinstance(body.get("seq"), int) and isinstance(body.get("boot"), int)
        told.numbered += numbered
        if numbered and told.repeats((body["boot"], body["seq"]), message.payload):
            detail = "a number that another message had: it is taken for a repetition, and not counted"
            self._found(ERROR, "sequence", message, detail, "/seq")
        if not body:
            return
        # A last will is written before anybody knows when it will be sent.
        is_will = stream is Stream.STATUS and body.get("online") is False
        told.unnumbered += not numbered and not is_will
        ts = _time_in(body)
        told.untimed += ts is None and not is_will
        if ts is not None and message.received:
            told.skews.add(message.recv_ts - ts)

    def _look_at_foreign(self, message: Message) -> None:
        """Read a foreign message beside the pipeline; what cannot be read, the pipeline has refused."""
        try:
            found = self._feeds.route(message.topic)
            readings = found[1].codec.decode(message.payload, message.topic) if found else []
        except Exception:  # noqa: BLE001 - as above
            return
        if found is None:
            return
        if all(reject.reason is not Reason.NO_BIRTH for reading in readings for reject in reading.refused):
            self._read.add(message.topic)
        spoken: dict[DeviceKey, _Told] = {}
        for reading in readings:
            if reading.happenings and all(each.type in COMMANDS for each in reading.happenings):
                continue
            try:
                key = self._feeds.device_of(reading, *found).key
            except RejectError:
                continue
            if key not in spoken:
                spoken[key] = self._told(key, message, found[1].codec.name)
                spoken[key].numbered += reading.seq is not None
            self._look_at_reading(reading, key, message, found[1])

    def _look_at_reading(self, reading: Reading, key: DeviceKey, message: Message, feed: Feed) -> None:
        told, of_class = self._devices[key], reading.device_class
        by_topic = feed.named and message.own_topic
        says = "the topic says" if by_topic else "the message says" if of_class else "its source says"
        self._hold_class(key, message, says)
        if of_class not in {None, key.device_class}:
            detail = f"the message is that of a {of_class}, its topic says {key.device_class}"
            self._found(ERROR, "identity", message, detail)
        if reading.ts is None:
            told.untimed += bool(reading.values or reading.happenings)
        elif message.received and HISTORICAL not in reading.flags:
            told.skews.add(message.recv_ts - reading.ts)
        for flag in reading.flags:
            severity, check, meaning = FLAGS.get(flag, (WARNING, "payload", "see docs/wire.md"))
            self._found(severity, check, message, f"{flag}: {meaning}")

    def _hold_class(self, key: DeviceKey, message: Message, says: str) -> None:
        """Hold the class of a device against the one that it is to be."""
        if key.device_class == self._class:
            return
        hint = ": set its class there" if says.startswith("its source") else ""
        self._found(ERROR, "identity", message, f"{says} {key.device_class}, expected {self._class}{hint}")

    def _found(self, severity: str, check: str, message: Message, detail: str, pointer: str = "") -> None:
        topic = message.topic if message.own_topic else ""
        place = (severity, check, topic, detail)
        if place not in self._said:
            self._said.add(place)
            self._note(Finding(severity, check, topic, pointer, detail, first=message.place), place)

    def _told(self, key: DeviceKey, message: Message, codec: str) -> _Told:
        told = self._devices.setdefault(key, _Told())
        told.topic = told.topic or (message.topic if message.own_topic else "")
        told.formats.setdefault(codec)
        told.messages += 1
        if message.timed:
            told.received.add(message.recv_ts)
        return told


def _time_in(body: dict[Any, Any]) -> int | None:
    ts = body.get("ts", body.get("t0"))
    try:
        found = parse_rfc3339(ts) if isinstance(ts, str) else ts
    except ValueError:
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _like(name: str, device_class: DeviceClass) -> str:
    """Return the metric whose name is most like ``name``: its own in another unit first, "" if none is."""
    known = list(accepted_from(device_class))
    same = [each for each in known if each.rpartition("_")[0] == name.rpartition("_")[0] and "_" in name]
    return next(iter(same or difflib.get_close_matches(name, known, 1)), "")


def _row(key: DeviceKey, told: _Told, lost: int) -> dict[str, Any]:
    return {
        "uid": key.uid,
        "formats": list(told.formats),
        "messages": told.messages,
        "rate_hz": told.received.rate_hz(),
        "skew_s": round(told.skews.median() / NS, 3) if told.skews.seen else None,
        "numbered": told.numbered,
        # Without numbers nobody knows.
        "missing": lost if told.numbered else None,
    }


def _of_device(where: str, told: _Told, row: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is less sure than it could be: nothing of it loses a value."""
    seq, ts = ("/seq", "/ts") if NATIVE in told.formats else ("", "")
    if told.unnumbered:
        detail = "messages without boot and seq: repetitions and losses cannot be told for sure"
        yield Finding(WARNING, "sequence", where, seq, detail, told.unnumbered)
    if row["missing"]:
        yield Finding(WARNING, "sequence", where, seq, "numbers missing between the first and the last", row["missing"])
    if told.untimed:
        yield Finding(WARNING, "clock", where, ts, "messages without a time: that of receipt counts", told.untimed)
    if row["skew_s"] is not None and abs(row["skew_s"]) > SKEW_S:
        detail = f"the clock is {abs(row['skew_s']):.1f} s {'behind' if row['skew_s'] > 0 else 'ahead'}"
        detail += _zone_hint(row["skew_s"])
        if row["skew_s"] > UNSET_S:
            detail = "the clock is not set: the time of receipt counts"
        yield Finding(WARNING, "clock", where, ts, detail, told.skews.seen)
    longest, usual = told.received.pauses_s()
    if longest > PAUSE * max(usual, 0.001):
        detail = f"a pause of {longest:.1f} s among messages every {usual:.2f} s"
        yield Finding(WARNING, "rate", where, "", detail)


def _zone_hint(skew_s: float) -> str:
    """Say so where a clock is off as local time taken for UTC is."""
    steps = round(skew_s / ZONES_S)
    if not steps or abs(skew_s - steps * ZONES_S) > ZONE_SLACK_S:
        return ""
    return f", {abs(steps) / 2:g} h: local time instead of UTC?"


def rank(finding: Finding) -> tuple[int, str, str, str]:
    """Return by what findings are sorted: the worst first."""
    return RANKS.index(finding.severity), finding.check, finding.topic, finding.pointer

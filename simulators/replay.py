"""Replay: recorded tracks and messages, published with their own timing or as fast as the broker takes them.

Messages leave when they are due, whatever became of the ones before, and how late they left is measured. A message
counts as lost when the broker has not acknowledged it by the end, whether it was sent or not: a replay never passes by
sending less than was asked for.
"""

import asyncio
import hashlib
import heapq
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from devices.codecs.native import Event, Status, Telemetry, decode_event, decode_status, decode_telemetry, encode
from devices.rejects import RejectError
from devices.times import format_rfc3339, parse_rfc3339
from devices.topics import SITE, DeviceKey, Stream, TopicError, parse, topic_of
from devices.vocabulary import DeviceClass
from simulators.publisher import Broker, Publisher, devices_of
from simulators.schedule import NS, stopped_by_signal, wait_until
from simulators.thresholds import Threshold
from simulators.tracks import BadRows, Point, Recorded, RecordingError, files, read_messages, read_track

MIDDLE_M: Final = (360.0, 220.0)
"""Where the middle of a track is placed unless an offset is given: the middle of the small port, m."""
MAX_OUTSTANDING: Final = 5_000
PROGRESS_S: Final = 0.2
SHIFTS: Final = ("now", "none")
FIGURES: Final = frozenset(
    {"messages", "sent", "acked", "lost", "bad_rows", "resent", "refused", "reconnects", "elapsed_s", "rate"}
    | {"behind_p50", "behind_p95", "behind_p99", "behind_max"}
)
"""Figures that thresholds may name; ``behind_…`` and ``elapsed_s`` in s, ``rate`` in messages/s."""


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """What to replay, where to and how."""

    path: Path
    """A CSV or JSON-lines file, a folder or a zip archive of such."""
    host: str = "127.0.0.1"
    """Name or address of the broker."""
    port: int = 1883
    """TCP port of the broker, 1 to 65535."""
    username: str | None = None
    """User name for the broker, or None."""
    password: str | None = field(default=None, repr=False)
    """Password for the broker."""
    tls: bool = False
    """Whether to connect by TLS."""
    tls_ca: str | None = None
    """File with the certificates to trust, or None for the system's."""
    site: str = "CNNGB-DEMO"
    """Site level of the tracks' topics; recorded messages keep their own topics."""
    shift: str = "now"
    """``now``: move all times so that the replay ends as the last message's time comes; ``none``: keep them."""
    speed: float = 1.0
    """Recorded seconds per real second, > 0; infinite is as fast as the broker acknowledges."""
    clients: int = 4
    """MQTT connections, 1 to 1000; devices are spread over them."""
    limit: int | None = None
    """Replay the first so many messages only, ≥ 1, or None for all."""
    limit_devices: int | None = None
    """Replay the first so many devices only, ≥ 1, in the order of file names, or None for all."""
    offset_m: tuple[float, float] | None = None
    """Added to the x and y of tracks, m; None puts the middle of each track in the middle of the small port."""
    payload: str = "msgpack"
    """Form of the tracks' payloads: ``msgpack`` or ``json``."""
    thresholds: tuple[str, ...] = ()
    """Conditions on the result, such as ``lost==0``."""
    patience_s: float = 30.0
    """Give up when the broker acknowledges nothing for so long, s > 0."""

    def __post_init__(self) -> None:
        """Check every value; thresholds included, so that a typing error is found before the replay."""
        _ = self.broker
        if not SITE.fullmatch(self.site):
            raise ValueError(f"site = {self.site!r}: allowed is a UN/LOCODE and a facility, such as CNNGB-DEMO")
        if self.shift not in SHIFTS:
            raise ValueError(f"shift = {self.shift!r}: allowed are {', '.join(SHIFTS)}")
        if not self.speed > 0:
            raise ValueError(f"speed = {self.speed}: allowed is above 0, or max")
        if not 1 <= self.clients <= 1_000:  # noqa: PLR2004 - a client, not a storm
            raise ValueError(f"clients = {self.clients}: allowed is 1 to 1000")
        for name in ("limit", "limit_devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: allowed is 1 or more")
        if self.offset_m is not None and not all(math.isfinite(part) for part in self.offset_m):
            raise ValueError(f"offset_m = {self.offset_m}: allowed are two finite numbers")
        if self.payload not in {"msgpack", "json"}:
            raise ValueError(f"payload = {self.payload!r}: allowed are msgpack, json")
        if not 0 < self.patience_s < math.inf:
            raise ValueError(f"patience_s = {self.patience_s}: allowed is above 0")
        _ = self.conditions

    @property
    def broker(self) -> Broker:
        """The broker's part of the configuration."""
        return Broker(self.host, self.port, self.username, self.password, self.tls, self.tls_ca)

    @property
    def conditions(self) -> tuple[Threshold, ...]:
        """The thresholds, parsed."""
        return tuple(Threshold.parse(text, FIGURES) for text in self.thresholds)


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far a replay is."""

    messages: int
    """How many there are to send."""
    sent: int
    acked: int
    behind_s: float
    """How late the latest message left, s; 0 at unlimited speed."""
    connected: int
    """Connections that stand."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of a replay."""

    messages: int
    """How many were to be sent."""
    sent: int
    acked: int
    lost: int
    """``messages − acked``."""
    bad_rows: int
    bad_row_notes: tuple[str, ...]
    verbatim: int
    """Recorded messages in a form that cannot be moved in time, sent byte for byte."""
    resent: int
    refused: int
    reconnects: int
    elapsed_s: float
    rate: float
    """Acknowledged messages per second."""
    behind_ms: dict[str, float]
    """How late messages left: p50, p95, p99, max; zeros at unlimited speed."""
    shift_ns: int
    """What was added to every recorded time, ns."""
    first_time: str
    last_time: str
    """Event times of the first and the last message as sent."""
    devices: dict[str, dict[str, float]]
    """uid → boot, sent, acked, first_seq, last_seq; for tracks offset_x_m and offset_y_m too."""
    thresholds: tuple[dict[str, Any], ...]
    """Each threshold with the figure it met: ``threshold``, ``value``, ``ok``."""

    @property
    def passed(self) -> bool:
        """Whether every threshold held."""
        return all(threshold["ok"] for threshold in self.thresholds)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {**asdict(self), "passed": self.passed}


class _Timed(NamedTuple):
    """A message ready to be sent."""

    due_ns: int
    device: int
    seq: int
    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Sender:
    """One device of the recording: its points, or its recorded messages."""

    name: str
    entries: Sequence[Point | Recorded]
    key: DeviceKey | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    boot: int = 0


class _Recording:
    """Everything to be replayed, in memory, and how it becomes messages."""

    def __init__(self, config: ReplayConfig) -> None:
        self.bad = BadRows()
        self.verbatim = 0
        self.senders = self._read(config)
        self._config = config
        times = heapq.merge(*([entry.ts for entry in sender.entries] for sender in self.senders))
        chosen = list(itertools.islice(times, config.limit))
        self.messages = len(chosen)
        if not chosen:
            raise RecordingError(f"{config.path}: no message can be replayed ({self.bad.count} bad rows)")
        self.first_ns, self.last_ns = chosen[0], chosen[-1]

    def _read(self, config: ReplayConfig) -> list[_Sender]:
        tracks: dict[str, _Sender] = {}
        messages: dict[str, list[Recorded]] = {}
        for file in files(config.path):
            if file.name.endswith(".csv"):
                key = DeviceKey(config.site, DeviceClass.VEHICLE, file.device)
                if key.uid in tracks:
                    raise RecordingError(f"{file.name}: a second file of the device {file.device}; rename one of them")
                points = read_track(file, self.bad)
                tracks[key.uid] = _Sender(key.uid, points, key, config.offset_m or _to_the_middle(points))
            else:
                for message in read_messages(file, self.bad):
                    # Messages of one device keep their order, so a device is a topic without its last level.
                    name = message.topic.rpartition("/")[0].removeprefix("port/") or message.topic
                    messages.setdefault(name, []).append(message)
        if twice := tracks.keys() & messages.keys():
            raise RecordingError(
                f"{config.path}: {', '.join(sorted(twice))}: both a track and messages; keep one of them"
            )
        recorded = [_Sender(name, sorted(entries, key=lambda one: one.ts)) for name, entries in messages.items()]
        return [sender for sender in (*tracks.values(), *recorded) if sender.entries][: config.limit_devices]

    def shift_ns(self, now_ns: int) -> int:
        """Return what is added to recorded times so that the last message is sent when its own time has come."""
        if self._config.shift == "none":
            return 0
        span = self.last_ns - self.first_ns
        return now_ns - span + round(span / self._config.speed) - self.first_ns

    def play(self, started_ns: int, shift_ns: int) -> Iterator[_Timed]:
        """Yield the messages in the order of time, due from ``started_ns`` on."""
        for sender in self.senders:
            # An unshifted replay of the same recording is the same traffic, a shifted one is new traffic.
            salt = hashlib.blake2b(f"{sender.name}|{shift_ns}".encode(), digest_size=8).digest()
            sender.boot = int.from_bytes(salt, "big") >> 1
        entries = heapq.merge(
            *(
                [(entry.ts, number, seq) for seq, entry in enumerate(sender.entries)]
                for number, sender in enumerate(self.senders)
            )
        )
        for ts, number, seq in itertools.islice(entries, self._config.limit):
            sender = self.senders[number]
            topic, payload, retain = self._message(sender, seq, shift_ns)
            due = started_ns + round((ts - self.first_ns) / self._config.speed)
            yield _Timed(due, number, seq, topic, payload, retain)

    def _message(self, sender: _Sender, seq: int, shift_ns: int) -> tuple[str, bytes, bool]:
        entry = sender.entries[seq]
        if isinstance(entry, Point):
            if sender.key is None:  # pragma: no cover - tracks have a key
                raise AssertionError(sender.name)
            values = dict(entry.values)
            values["x_m"] += sender.offset[0]
            values["y_m"] += sender.offset[1]
            telemetry = Telemetry(v=1, m=dict(values), boot=sender.boot, seq=seq, ts=entry.ts + shift_ns)
            binary = self._config.payload == "msgpack"
            return topic_of(sender.key, Stream.TELEMETRY), encode(telemetry, binary=binary), False
        payload = msgspec.json.encode(entry.payload) if isinstance(entry.payload, dict) else entry.payload
        retain = entry.topic.endswith(f"/{Stream.STATUS}")
        if not shift_ns:
            return entry.topic, payload, retain
        moved = _moved(entry.topic, payload, shift_ns, sender.boot)
        self.verbatim += moved is None
        return entry.topic, payload if moved is None else moved, retain


async def run(
    config: ReplayConfig,
    progress: Callable[[ReplayProgress], None] | None = None,
    clock: Callable[[], int] = time.time_ns,
    stop: asyncio.Event | None = None,
) -> ReplayResult:
    """Replay until everything is acknowledged, ``stop`` is set (or, without it, SIGTERM or SIGINT), or patience ends.

    ``progress`` is called a few times a second.

    Raises:
        simulators.tracks.RecordingError: the recording cannot be used at all.
    """
    recording = _Recording(config)
    started = clock()
    shift = recording.shift_ns(started)
    with stopped_by_signal(stop) as ending:
        async with Publisher(
            config.broker, len(recording.senders), config.clients, clock, f"quayflow-replay-{os.getpid()}"
        ) as publisher:
            watch = asyncio.create_task(_watch(config, recording, publisher, progress, ending))
            paced = math.isfinite(config.speed)
            for message in recording.play(started, shift):
                if paced and not await wait_until(message.due_ns, clock, ending):
                    break
                if publisher.outstanding >= MAX_OUTSTANDING:
                    await _either(publisher.wait_below(MAX_OUTSTANDING), ending)
                if ending.is_set():
                    break
                publisher.offer(message)
            await _either(publisher.wait_below(1), ending)
            watch.cancel()
            if progress is not None:
                progress(_progress(config, recording, publisher))
            return _result(config, recording, publisher, shift, (clock() - started) / NS)


async def _either(waiting: Any, ending: asyncio.Event) -> None:  # noqa: ANN401 - any coroutine
    """Wait for a coroutine or for the end, whichever is first."""
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(ending.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(
    config: ReplayConfig,
    recording: _Recording,
    publisher: Publisher,
    progress: Callable[[ReplayProgress], None] | None,
    ending: asyncio.Event,
) -> None:
    """Report progress, and set ``ending`` when messages wait but none has been acknowledged for too long."""
    loop = asyncio.get_running_loop()
    acked, since = -1, loop.time()
    while True:
        if publisher.acked != acked or not publisher.outstanding:
            acked, since = publisher.acked, loop.time()
        elif loop.time() - since > config.patience_s:
            ending.set()
        if progress is not None:
            progress(_progress(config, recording, publisher))
        await asyncio.sleep(PROGRESS_S)


def _progress(config: ReplayConfig, recording: _Recording, publisher: Publisher) -> ReplayProgress:
    behind = publisher.lag.latest_ns / NS if math.isfinite(config.speed) else 0.0
    return ReplayProgress(recording.messages, publisher.sent, publisher.acked, behind, publisher.connected)


def _result(
    config: ReplayConfig, recording: _Recording, publisher: Publisher, shift: int, elapsed_s: float
) -> ReplayResult:
    behind = publisher.lag.summary()
    if not math.isfinite(config.speed):
        behind = dict.fromkeys(behind, 0.0)
    rate = publisher.acked / elapsed_s if elapsed_s > 0 else 0.0
    figures: dict[str, float] = {
        "messages": recording.messages,
        "sent": publisher.sent,
        "acked": publisher.acked,
        "lost": recording.messages - publisher.acked,
        "bad_rows": recording.bad.count,
        "resent": publisher.resent,
        "refused": publisher.refused,
        "reconnects": publisher.reconnects,
        "elapsed_s": elapsed_s,
        "rate": rate,
        **{f"behind_{name}": value / 1e3 for name, value in behind.items()},
    }
    senders = recording.senders
    ledger = devices_of(publisher, [sender.name for sender in senders], [sender.boot for sender in senders])
    devices: dict[str, dict[str, float]] = {uid: dict(account) for uid, account in ledger.items()}
    for sender in senders:
        if sender.key is not None:
            devices[sender.name] |= {"offset_x_m": sender.offset[0], "offset_y_m": sender.offset[1]}
    return ReplayResult(
        messages=recording.messages,
        sent=publisher.sent,
        acked=publisher.acked,
        lost=recording.messages - publisher.acked,
        bad_rows=recording.bad.count,
        bad_row_notes=tuple(recording.bad.notes),
        verbatim=recording.verbatim,
        resent=publisher.resent,
        refused=publisher.refused,
        reconnects=publisher.reconnects,
        elapsed_s=round(elapsed_s, 3),
        rate=round(rate, 1),
        behind_ms=behind,
        shift_ns=shift,
        first_time=format_rfc3339(recording.first_ns + shift),
        last_time=format_rfc3339(recording.last_ns + shift),
        devices=devices,
        thresholds=tuple(
            {"threshold": one.text, "value": figures[one.figure], "ok": one.holds(figures)} for one in config.conditions
        ),
    )


def _to_the_middle(points: list[Point]) -> tuple[float, float]:
    """Return the offset, in whole metres, that puts the middle of a track into the middle of the small port."""
    if not points:
        return 0.0, 0.0
    x = [point.values["x_m"] for point in points]
    y = [point.values["y_m"] for point in points]
    return float(round(MIDDLE_M[0] - (min(x) + max(x)) / 2)), float(round(MIDDLE_M[1] - (min(y) + max(y)) / 2))


def _decode(stream: Stream, payload: bytes) -> Telemetry | Event | Status:
    match stream:
        case Stream.TELEMETRY:
            return decode_telemetry(payload)
        case Stream.EVENT:
            return decode_event(payload)
        case Stream.STATUS:
            return decode_status(payload)
    raise ValueError(f"{stream}: not a stream of a device")


def _moved(topic: str, payload: bytes, shift_ns: int, boot: int) -> bytes | None:
    """Return a native payload moved in time and made new traffic by another boot; None where it is not native."""
    try:
        stream = parse(topic).stream
        found = _decode(stream, payload)
        if isinstance(found.ts, str):
            found.ts = format_rfc3339(parse_rfc3339(found.ts) + shift_ns)
        elif found.ts is not None:
            found.ts += shift_ns
    except (TopicError, RejectError, ValueError, OverflowError):
        return None
    if found.boot is not None:
        found.boot ^= boot
    return encode(found, binary=payload[:1] != b"{")

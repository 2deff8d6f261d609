"""Recordings as a replay reads them: tracks and messages from files, or frames from a journal, in the order of time.

Files are read into memory. A journal is read twice, first to know how much there is and whose, then as it is played, so
that one of any size can be replayed.
"""

import fnmatch
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from devices.filters import matches
from devices.topics import DeviceKey, Stream
from devices.vocabulary import DeviceClass
from simulators.moving import clone_of
from simulators.tracks import BadRows, Point, Recorded, RecordingError, files, read_messages, read_track
from store.journal import (
    SUFFIX,
    Frame,
    JournalConfig,
    JournalError,
    JournalWriter,
    Segment,
    SegmentScan,
    Selection,
    list_segments,
)
from store.journal.segments import parse_header
from store.system_words import of_file

MIDDLE_M: Final = (360.0, 220.0)
"""Where the middle of a track is placed unless an offset is given: the middle of the small port, m."""
ENDLESS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages of a recording are replayed."""

    topics: tuple[str, ...] = ()
    """MQTT topic filters, one of which has to match; none takes every topic."""
    devices: tuple[str, ...] = ()
    """Patterns such as ``QC*``, one of which the device's id or its uid has to match; none takes every device."""
    from_ns: int = -ENDLESS
    """Recorded at or after this, ns UTC."""
    to_ns: int = ENDLESS
    """Recorded before this, ns UTC."""
    limit: int | None = None
    """The first so many messages only."""
    limit_devices: int | None = None
    """The first so many devices only, as they are met."""

    def takes(self, topic: str, name: str) -> bool:
        """Tell whether messages of a topic, of a device called ``name``, are replayed at all."""
        if self.topics and not any(matches(pattern, topic) for pattern in self.topics):
            return False
        names = (name, name.rpartition("/")[2])
        return not self.devices or any(fnmatch.fnmatchcase(each, pattern) for pattern in self.devices for each in names)


def begun(out: Path, clock: Callable[[], int]) -> JournalWriter:
    """Open the folder of a recording for writing; RecordingError where that cannot be."""
    try:
        return JournalWriter(JournalConfig(out), clock)
    except OSError as error:
        raise RecordingError(f"out = {str(out)!r}: cannot be written: {error.strerror or error}") from None


class Entry(NamedTuple):
    """One message of a recording."""

    ts: int
    """When it was recorded, ns UTC."""
    sender: int
    seq: int
    """Its place among the messages of its sender."""
    topic: str
    content: Point | dict[str, Any] | bytes


@dataclass(slots=True)
class Voice:
    """One device of a recording, or whoever else published on a topic."""

    name: str
    topic: str
    """One of its topics, which tells whether it can be cloned."""
    key: DeviceKey | None = None
    """Its identity, if it is a track."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Added to the x and y of a track, m."""
    messages: int = 0

    @property
    def can_be_cloned(self) -> bool:
        """Whether its topic names a device."""
        return clone_of(self.topic, 1) is not None


class Recording(Protocol):
    """What can be replayed."""

    bad: BadRows
    voices: list[Voice]
    topics: dict[str, int]
    """Topic → how many messages it has."""
    messages: int
    first_ns: int
    last_ns: int

    def entries(self) -> Iterator[Entry]:
        """Yield the messages in the order in which they are to be sent; the same each time."""


def open_recording(path: Path, choice: Choice, site: str, offset_m: tuple[float, float] | None = None) -> Recording:
    """Open a file, a folder, a zip archive, a journal, a data folder or a single segment of a journal.

    Raises:
        RecordingError: there is nothing in it that can be replayed.
    """
    recording: Recording
    if (frames := _journal(path, choice)) is not None:
        recording = JournalRecording(path, choice, frames)
    else:
        recording = FileRecording(path, choice, site, offset_m)
    if not recording.messages:
        raise RecordingError(f"{path}: no message can be replayed ({recording.bad.count} bad rows)")
    return recording


class FileRecording:
    """Tracks and messages from files, in memory."""

    def __init__(self, path: Path, choice: Choice, site: str, offset_m: tuple[float, float] | None) -> None:
        """``site`` is the site level of the tracks' topics; ``offset_m`` None puts tracks into the small port."""
        self.bad = BadRows()
        tracks: dict[str, tuple[Voice, Sequence[Point]]] = {}
        messages: dict[str, list[Recorded]] = {}
        for file in files(path):
            if file.name.endswith(".csv"):
                key = DeviceKey(site, DeviceClass.VEHICLE, file.device)
                if key.uid in tracks:
                    raise RecordingError(f"{file.name}: a second file of the device {file.device}; rename one of them")
                points = read_track(file, self.bad)
                voice = Voice(key.uid, _telemetry_of(key), key, offset_m or _to_the_middle(points))
                if choice.takes(voice.topic, voice.name):
                    tracks[key.uid] = voice, points
            else:
                for message in read_messages(file, self.bad):
                    name = name_of(message.topic)
                    if choice.takes(message.topic, name):
                        messages.setdefault(name, []).append(message)
        if twice := tracks.keys() & messages.keys():
            raise RecordingError(f"{path}: {', '.join(sorted(twice))}: both a track and messages; keep one of them")
        every: list[tuple[Voice, Sequence[Point | Recorded]]] = [*tracks.values()]
        every += [(Voice(name, found[0].topic), sorted(found, key=_time)) for name, found in messages.items()]
        within = [
            (voice, [entry for entry in entries if choice.from_ns <= entry.ts < choice.to_ns])
            for voice, entries in every
        ]
        chosen = [pair for pair in within if pair[1]][: choice.limit_devices]
        self.voices = [voice for voice, _ in chosen]
        self._entries = [entries for _, entries in chosen]
        self._limit = choice.limit
        self.topics: dict[str, int] = {}
        self.messages = 0
        self.first_ns = self.last_ns = 0
        for entry in self.entries():
            self.first_ns = entry.ts if not self.messages else self.first_ns
            self.last_ns = entry.ts
            self.messages += 1
            self.voices[entry.sender].messages += 1
            self.topics[entry.topic] = self.topics.get(entry.topic, 0) + 1

    def entries(self) -> Iterator[Entry]:
        """Yield the messages in the order of time."""
        places = heapq.merge(
            *(
                [(entry.ts, number, seq) for seq, entry in enumerate(entries)]
                for number, entries in enumerate(self._entries)
            )
        )
        for ts, number, seq in islice(places, self._limit):
            entry = self._entries[number][seq]
            if isinstance(entry, Point):
                yield Entry(ts, number, seq, self.voices[number].topic, entry)
            else:
                yield Entry(ts, number, seq, entry.topic, entry.payload)


class JournalRecording:
    """The frames of a journal, read as they are played."""

    def __init__(self, path: Path, choice: Choice, frames: Callable[[BadRows], Iterator[Frame]]) -> None:
        """``frames`` yields them from the beginning each time, and tells of damage."""
        self.bad = BadRows()
        self.voices: list[Voice] = []
        self._choice = choice
        self._frames = frames
        self._numbers: dict[str, int] = {}
        self._by_topic: dict[str, int] = {}
        self.topics: dict[str, int] = {}
        self.messages = 0
        self.first_ns = self.last_ns = 0
        try:
            for entry in self._play(self.bad):
                self.first_ns = entry.ts if not self.messages else self.first_ns
                self.last_ns = entry.ts
                self.messages += 1
                self.voices[entry.sender].messages += 1
                self.topics[entry.topic] = self.topics.get(entry.topic, 0) + 1
        except (JournalError, OSError) as error:
            words = of_file(error) if isinstance(error, OSError) else error
            raise RecordingError(f"{path}: cannot be read: {words}") from error

    def entries(self) -> Iterator[Entry]:
        """Yield the messages in the order of the journal; a clock that was set back stands still meanwhile."""
        return self._play(BadRows())

    def _play(self, bad: BadRows) -> Iterator[Entry]:
        counts: dict[int, int] = {}
        last = -ENDLESS
        for frame in islice(self._chosen(bad), self._choice.limit):
            number = self._by_topic[frame.topic]
            last = max(last, frame.recv_ts)
            seq = counts[number] = counts.get(number, -1) + 1
            yield Entry(last, number, seq, frame.topic, frame.payload)

    def _chosen(self, bad: BadRows) -> Iterator[Frame]:
        """Yield the frames of the voices that are replayed."""
        for frame in self._frames(bad):
            if frame.topic in self._by_topic:
                yield frame
                continue
            name = name_of(frame.topic)
            number = self._numbers.get(name)
            if number is None:
                if len(self.voices) == self._choice.limit_devices:
                    continue
                number = self._numbers[name] = len(self.voices)
                self.voices.append(Voice(name, frame.topic))
            self._by_topic[frame.topic] = number
            yield frame


class _Chosen:
    """The topics that a choice takes."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice

    def __contains__(self, topic: object) -> bool:
        return isinstance(topic, str) and self._choice.takes(topic, name_of(topic))


def name_of(topic: str) -> str:
    """Return whose messages come on a topic: messages of one device keep their order, whatever their stream."""
    return topic.rpartition("/")[0].removeprefix("port/") or topic


def _journal(path: Path, choice: Choice) -> Callable[[BadRows], Iterator[Frame]] | None:
    """Return what reads a journal, a data folder's journal or one segment; None where the path is none of these."""
    selection = Selection(_Chosen(choice), max(choice.from_ns, 0), choice.to_ns)
    if path.suffix == SUFFIX and path.is_file():
        return lambda bad: _frames([parse_header(path)], selection, bad)
    for folder in (path, path / "journal"):
        if folder.is_dir() and any(folder.glob(f"*{SUFFIX}")):
            return lambda bad: _frames(list_segments(folder), selection, bad)
    return None


def _frames(segments: Sequence[Segment], selection: Selection, bad: BadRows) -> Iterator[Frame]:
    """Yield the frames of segments and note what had to be skipped: a recording that is cut short says so."""
    for segment, after in zip_longest(segments, segments[1:]):
        try:
            scan = SegmentScan(segment)
        except FileNotFoundError:
            bad.add(segment.path.name, "was deleted by retention before it could be read")
            continue
        yield from scan.frames(0, selection)
        for damage in scan.damage:
            bad.add(segment.path.name, f"{damage.length} damaged bytes at offset {damage.offset}")
        if tail := (scan.size if after is None else after.base - segment.base) - scan.valid_bytes:
            bad.add(segment.path.name, f"the last {tail} bytes hold no whole record")
        elif scan.without_index and after is None:
            bad.add(segment.path.name, "its index is missing: what followed may have been cut off")


def _time(entry: Point | Recorded) -> int:
    return entry.ts


def _telemetry_of(key: DeviceKey) -> str:
    return f"port/{key.uid}/{Stream.TELEMETRY}"


def _to_the_middle(points: list[Point]) -> tuple[float, float]:
    """Return the offset, in whole metres, that puts the middle of a track into the middle of the small port."""
    if not points:
        return 0.0, 0.0
    x = [point.values["x_m"] for point in points]
    y = [point.values["y_m"] for point in points]
    return float(round(MIDDLE_M[0] - (min(x) + max(x)) / 2)), float(round(MIDDLE_M[1] - (min(y) + max(y)) / 2))

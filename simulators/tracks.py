"""Recordings: tracks in CSV files, messages in JSON lines or msgpack, read from a file, a folder or a zip archive.

A CSV file is one vehicle: a header with ``timestamp``, ``x`` and ``y`` (metres), one row per point; its name gives the
device's id. Further columns that are metrics of a vehicle in the vocabulary are replayed as recorded, others are
ignored. Times are RFC 3339, the same without a zone (taken as UTC), or seconds as a number.

A ``.jsonl`` file holds ``{"topic": …, "payload": object or base64 text, "ts": RFC 3339 or ns, or "offset": seconds}``.

A ``.msgpack`` file is a stream of the same objects, with the payload as binary: what ``quayflow journal cat`` writes.

A row that cannot be read is noted, skipped and counted; a file that cannot be read ends the reading.
"""

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import msgpack

from devices.times import NS, parse_rfc3339
from devices.vocabulary import INDEX, METRICS, DeviceClass, accepted_from
from store.recorded_frames import payload_of, time_of
from store.system_words import of_file

MAX_NOTES: Final = 20
"""Bad rows that are described one by one; all are counted."""
SUFFIXES: Final = (".csv", ".jsonl", ".msgpack")
MAX_OBJECT_BYTES: Final = 16 << 20
"""Largest text, binary or number of elements of one object in a msgpack stream."""
VEHICLE_METRICS: Final = frozenset(accepted_from(DeviceClass.VEHICLE)) - {"x_m", "y_m"}


class RecordingError(ValueError):
    """A recording that cannot be used at all; the message names the file and what is allowed."""


class Point(NamedTuple):
    """One point of a track: ns UTC, and metric → value in the metric's unit."""

    ts: int
    values: dict[str, float]


class Recorded(NamedTuple):
    """One recorded message: ns UTC (or since the recording's start), topic, and payload as an object or as bytes."""

    ts: int
    topic: str
    payload: dict[str, Any] | bytes


@dataclass(slots=True)
class BadRows:
    """Rows that could not be read."""

    count: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, why: str) -> None:
        """Count a row, and describe it while there are few."""
        self.count += 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append(f"{where}: {why}")


class RecordingFile(NamedTuple):
    """The name and the content of one file of a recording."""

    name: str
    content: bytes

    @property
    def device(self) -> str:
        """The device id that the name gives: its stem, with what a topic does not allow replaced by ``-``."""
        stem = PurePosixPath(self.name).stem
        return re.sub(r"[^A-Za-z0-9._:-]", "-", stem).strip("._:-")[:64] or "track"


def files(path: Path) -> Iterator[RecordingFile]:
    """Yield the CSV and JSON-lines files of ``path`` (a file, a folder or a zip archive) in the order of their names.

    Raises:
        RecordingError: ``path`` does not exist, cannot be read or holds no such file.
    """
    found = 0
    try:
        for file in _all_files(path):
            found += 1
            yield file
    # Of an archive that is encrypted, or packed in a way that it does not know, zipfile says RuntimeError.
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        words = of_file(error) if isinstance(error, OSError) else error
        raise RecordingError(f"{path}: cannot be read: {words}") from error
    if not found:
        raise RecordingError(
            f"{path}: holds no recording; allowed are {', '.join(SUFFIXES)}, a folder or a .zip of these"
        )


def read_track(file: RecordingFile, bad: BadRows) -> list[Point]:
    """Return the points of a CSV file in the order of time; what cannot be read goes to ``bad``."""
    text = io.StringIO(file.content.decode("utf-8-sig", errors="replace"), newline="")
    rows = csv.reader(text)
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in ("timestamp", "x", "y") if name not in header]
    if missing:
        raise RecordingError(f"{file.name}: the header lacks {', '.join(missing)}; expected timestamp,x,y[,…]")
    columns = {header.index("x"): "x_m", header.index("y"): "y_m"}
    columns |= {at: name for at, name in enumerate(header) if name in VEHICLE_METRICS}
    when = header.index("timestamp")
    points = []
    while True:
        try:
            row = next(rows)
            if row:
                points.append(_point(row, when, columns, len(header)))
        except StopIteration:
            break
        except (ValueError, csv.Error) as error:
            bad.add(f"{file.name}:{rows.line_num}", str(error))
    points.sort(key=lambda point: point.ts)
    return points


def read_messages(file: RecordingFile, bad: BadRows) -> list[Recorded]:
    """Return the messages of a JSON-lines or msgpack file by time; what cannot be read goes to ``bad``."""
    messages = []
    for number, read in _objects(file):
        try:
            messages.append(_recorded(read()))
        except (TypeError, ValueError, RecursionError, msgpack.StackError) as error:
            bad.add(f"{file.name}:{number}", str(error) or type(error).__name__)
    messages.sort(key=lambda message: message.ts)
    return messages


def _objects(file: RecordingFile) -> Iterator[tuple[int, Callable[[], object]]]:
    """Yield the number of each object of a file, and what reads it or raises."""
    if not file.name.endswith(".msgpack"):
        for number, line in enumerate(file.content.splitlines(), 1):
            if line.strip():
                yield number, partial(json.loads, line)
        return
    stream = msgpack.Unpacker(io.BytesIO(file.content), max_buffer_size=max(len(file.content), MAX_OBJECT_BYTES))
    number = 0
    while stream.tell() < len(file.content):
        number += 1
        try:
            found = stream.unpack()
        except Exception as error:  # noqa: BLE001 - whatever it is: in a stream nothing can be found beyond it
            yield number, partial(_fail, f"nothing can be read from here on: {str(error) or type(error).__name__}")
            return
        yield number, partial(_same, found)


def _same(found: object) -> object:
    return found


def _fail(message: str) -> object:
    raise ValueError(message)


def _all_files(path: Path) -> Iterator[RecordingFile]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                yield RecordingFile(file.relative_to(path).as_posix(), file.read_bytes())
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if PurePosixPath(name).suffix in SUFFIXES:
                    yield RecordingFile(name, archive.read(name))
    elif path.suffix in SUFFIXES or not path.exists():
        yield RecordingFile(path.name, path.read_bytes())


def _point(row: list[str], when: int, columns: dict[int, str], width: int) -> Point:
    if len(row) != width:
        raise ValueError(f"{len(row)} columns, the header has {width}")
    values = {}
    for at, metric in columns.items():
        if not row[at] and metric not in {"x_m", "y_m"}:
            continue
        value = float(row[at])
        limits = METRICS[INDEX[metric]]
        if not math.isfinite(value) or not limits.minimum <= value <= limits.maximum:
            raise ValueError(f"{metric} = {row[at]}: allowed is {limits.minimum:g} to {limits.maximum:g}")
        values[metric] = value
    return Point(_time(row[when]), values)


def _time(text: str | float) -> int:
    """Return ns UTC of RFC 3339 text, of the same without a zone, or of seconds."""
    if isinstance(text, int | float) or re.fullmatch(r"-?\d+(\.\d*)?", text):
        seconds = float(text)
        if not math.isfinite(seconds) or abs(seconds) > 1e11:  # noqa: PLR2004 - the year 5138
            raise ValueError(f"time {text}: expected seconds since 1970")
        whole, _, fraction = str(text).partition(".")
        if "e" in str(text):
            return round(seconds * NS)
        part = int(fraction.ljust(9, "0")[:9] or "0")
        return int(whole) * NS + (-part if whole.startswith("-") else part)
    try:
        return parse_rfc3339(text)
    except ValueError:
        return parse_rfc3339(text + "Z")


def _recorded(tree: object) -> Recorded:
    if not isinstance(tree, dict):
        raise TypeError("expected an object with topic, payload and ts or offset")
    topic = tree.get("topic")
    if not isinstance(topic, str) or not topic or len(topic.encode()) > 65_535 or set(topic) & set("+#\0"):  # noqa: PLR2004 - MQTT
        raise ValueError("topic: expected text without +, # and NUL")
    payload, ts = payload_of(tree), time_of(tree)
    if ts is not None:
        return Recorded(ts, topic, payload)
    match tree:
        case {"offset": bool()}:
            raise ValueError("offset: expected a time, got a boolean")
        case {"offset": int() | float() as offset}:
            return Recorded(_time(offset), topic, payload)
    raise ValueError("ts or offset: one is required; ts is RFC 3339 or ns, offset is seconds")

"""`quayflow journal`: what the journal holds, whether it is intact, and its frames as JSON lines."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn

import msgpack
import typer

from devices.times import format_rfc3339
from quayflow.failures import FAILED, UNREACHABLE
from quayflow.progress import bytes_progress
from quayflow.settings import Settings
from store.journal import (
    DUPLICATE,
    HEADER,
    RETAINED,
    SUFFIX,
    Frame,
    JournalError,
    Segment,
    SegmentScan,
    list_segments,
    read,
)
from store.journal.segments import COMPRESSED, HeaderError, is_header_whole, parse_header, without_header

WORDS: Final = {
    "lost": "bad record",
    "repaired": "wrong bit, put right,",
    "index": "damaged index",
    "header": "damaged header",
}


def folder_of(settings: Settings) -> Path:
    """Return the journal's folder of a data folder; ends with status 3 where there is none."""
    folder = settings.data / "journal"
    if not folder.is_dir():
        typer.echo(f"quayflow: no journal in {settings.data}: name the data folder with --data", err=True)
        raise typer.Exit(UNREACHABLE)
    return folder


def info(folder: Path, *, as_json: bool) -> int:
    """Print size, times and devices of a journal; return the exit status."""
    segments = list_segments(folder)
    sizes = [segment.path.stat().st_size for segment in segments]
    frames, first, last = 0, None, None
    topics: set[str] = set()
    epochs: set[int] = set()
    with bytes_progress("journal", sum(sizes)) as advance:
        for segment, size in zip(segments, sizes, strict=True):
            for frame in SegmentScan(segment).frames(segment.base):
                frames += 1
                topics.add(frame.topic)
                epochs.add(frame.epoch)
                first = frame.recv_ts if first is None else min(first, frame.recv_ts)
                last = frame.recv_ts if last is None else max(last, frame.recv_ts)
            advance(size)
    result = {
        "folder": str(folder),
        "segments": len(segments),
        "compressed": sum(segment.version == COMPRESSED for segment in segments),
        "bytes": sum(sizes),
        "frames": frames,
        "first_offset": segments[0].base if segments else 0,
        "first_frame": segments[0].first_frame if segments else 0,
        "first_received": format_rfc3339(first) if first is not None else None,
        "last_received": format_rfc3339(last) if last is not None else None,
        "topics": len(topics),
        "connections": len(epochs),
    }
    typer.echo(json.dumps(result) if as_json else "\n".join(f"{name:<16} {value}" for name, value in result.items()))
    return 0


class Finding(NamedTuple):
    """Something wrong in a segment."""

    segment: str
    offset: int
    bytes: int
    what: str
    """``lost`` records, a chunk ``repaired``, an ``index`` or a ``header`` that is damaged but not needed."""


def verify(folder: Path, *, as_json: bool) -> int:
    """Check every record; print each damaged stretch by segment and offset; return 1 if there is any."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    frames = missing = torn = 0
    findings: list[Finding] = []
    segments, headless = _segments(folder, paths)
    with bytes_progress("verified", sum(path.stat().st_size for path in paths)) as advance:
        for segment, after in zip_longest(segments, segments[1:]):
            scan = SegmentScan(segment)
            count = sum(1 for _ in scan.frames(segment.base))
            frames += count
            name, end = segment.path.name, segment.base + scan.valid_bytes
            if segment in headless or not is_header_whole(segment.path):
                findings.append(Finding(name, segment.base, HEADER.size, "header"))
            findings += [Finding(name, each.offset, each.length, "lost") for each in scan.damage]
            findings += [Finding(name, each.offset, each.length, "repaired") for each in scan.repaired]
            findings += [Finding(name, end, 0, "index")] if scan.without_index else []
            # The newest segment may be being written; in a sealed one, missing bytes are damage.
            if after is None:
                torn = scan.size - scan.valid_bytes
            elif after.base > end:
                findings.append(Finding(name, end, after.base - end, "lost"))
            if after is not None and min(segment.first_frame, after.first_frame) >= 0:
                missing += after.first_frame - segment.first_frame - count
            advance(segment.path.stat().st_size)
    if as_json:
        rows = [finding._asdict() for finding in findings]
        result = {"frames": frames, "bad": len(rows), "frames_lost": missing, "damage": rows}
        typer.echo(json.dumps(result | {"incomplete_tail_bytes": torn}))
    else:
        for finding in findings:
            typer.echo(f"{WORDS[finding.what]} in {finding.segment} at offset {finding.offset} ({finding.bytes} bytes)")
        typer.echo(f"{frames:,} records intact, {len(findings)} bad, {torn} bytes of an incomplete tail")
        if missing:
            typer.echo(f"{missing:,} frames of sealed segments are lost")
    return FAILED if findings else 0


def _segments(folder: Path, paths: list[Path]) -> tuple[list[Segment], list[Segment]]:
    """Return the segments of a folder, and those among them whose header is damaged."""
    try:
        return list_segments(folder), []
    except HeaderError:
        found, headless = [], []
        for path in paths:
            try:
                found.append(parse_header(path))
            except HeaderError:
                headless.append(without_header(path))
                found.append(headless[-1])
        return found, headless


def lines(folder: Path, start: int, end: int, topic: str | None, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield frames received in [start, end) ns as plain values, those whose topic contains ``topic``.

    The form is what ``quayflow replay`` reads: ``ts`` in ns, ``topic``, and ``payload`` as binary.
    """
    topics = None if topic is None else Containing(topic)
    for frame in islice(read(folder, topics=topics, from_ns=start, to_ns=end), limit):
        yield line_of(frame)


class Containing:
    """The topics that contain a text."""

    def __init__(self, part: str) -> None:
        """``part`` may be anything from a letter to a whole topic."""
        self._part = part

    def __contains__(self, topic: object) -> bool:
        """Tell whether a topic is one of them."""
        return isinstance(topic, str) and self._part in topic


def line_of(frame: Frame) -> dict[str, Any]:
    """Return a frame as plain values."""
    return {
        "offset_bytes": frame.offset,
        "ts": frame.recv_ts,
        "received": format_rfc3339(frame.recv_ts),
        "epoch": frame.epoch,
        "qos": frame.flags & 3,
        "duplicate": bool(frame.flags & DUPLICATE),
        "retained": bool(frame.flags & RETAINED),
        "topic": frame.topic,
        "payload": frame.payload,
    }


Topic = Annotated[str | None, typer.Option(help="Only topics that contain this.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many frames.")]


Form = Annotated[Literal["jsonl", "msgpack"], typer.Option("--format", help="JSON lines, or a stream of msgpack maps.")]


def cat(folder: Path, start: int | None, end: int | None, topic: str | None, limit: int | None, form: str) -> int:
    """Write frames to standard output as JSON lines (payload in base64) or msgpack; return the exit status."""
    pack = msgpack.Packer().pack
    for line in lines(folder, start or 0, 2**63 if end is None else end, topic, limit):
        if form == "msgpack":
            sys.stdout.buffer.write(pack(line))
        else:
            typer.echo(json.dumps(line | {"payload": base64.b64encode(line["payload"]).decode()}))
    return 0


def leave(command: Callable[[], int]) -> NoReturn:
    """Leave with the status of a journal command, or with a sentence where the journal cannot be read."""
    try:
        code = command()
    except JournalError as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    raise typer.Exit(code)

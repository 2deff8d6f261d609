"""`quayflow journal`: what the journal holds, whether it is intact, and its frames as JSON lines."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import msgpack
import typer

from devices.times import format_rfc3339, parse_rfc3339
from quayflow.settings import Settings
from store.journal import DUPLICATE, RETAINED, Damage, Frame, JournalError, SegmentScan, list_segments, read

FAILED: Final = 1
UNREACHABLE: Final = 3

journal_app = typer.Typer(help="Look into the journal of raw frames.", no_args_is_help=True)


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
    frames, first, last = 0, None, None
    topics: set[str] = set()
    epochs: set[int] = set()
    for frame in read(folder):
        frames += 1
        topics.add(frame.topic)
        epochs.add(frame.epoch)
        first = frame.recv_ts if first is None else min(first, frame.recv_ts)
        last = frame.recv_ts if last is None else max(last, frame.recv_ts)
    result = {
        "folder": str(folder),
        "segments": len(segments),
        "bytes": sum(segment.path.stat().st_size for segment in segments),
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


def verify(folder: Path, *, as_json: bool) -> int:
    """Check every record; print each damaged stretch by segment and offset; return 1 if there is any."""
    frames, torn = 0, 0
    damage: list[Damage] = []
    segments = list_segments(folder)
    for segment in segments:
        scan = SegmentScan(segment)
        frames += sum(1 for _ in scan.frames(segment.base))
        damage += scan.damage
        tail = segment.path.stat().st_size - scan.valid_bytes
        # The newest segment may be being written; in a sealed one, missing bytes are damage.
        torn += tail if segment is segments[-1] else 0
        if tail and segment is not segments[-1]:
            damage.append(Damage(segment.path, segment.base + scan.valid_bytes, tail))
    rows = [{"segment": each.path.name, "offset": each.offset, "bytes": each.length} for each in damage]
    if as_json:
        typer.echo(json.dumps({"frames": frames, "bad": len(rows), "damage": rows, "incomplete_tail_bytes": torn}))
    else:
        for row in rows:
            typer.echo(f"bad record in {row['segment']} at offset {row['offset']} ({row['bytes']} bytes)")
        typer.echo(f"{frames:,} records intact, {len(rows)} bad, {torn} bytes of an incomplete tail")
    return FAILED if rows else 0


def lines(folder: Path, start: int, end: int, topic: str | None, limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield frames received in [start, end) ns as plain values, those whose topic contains ``topic``.

    The form is what ``quayflow replay`` reads: ``ts`` in ns, ``topic``, and ``payload`` as binary.
    """
    count = 0
    for frame in read(folder):
        if not start <= frame.recv_ts < end or (topic is not None and topic not in frame.topic):
            continue
        if limit is not None and count >= limit:
            return
        count += 1
        yield line_of(frame)


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


def time_of(text: str) -> int:
    """Parse an RFC 3339 time given on the command line."""
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


From = Annotated[int | None, typer.Option("--from", parser=time_of, metavar="TIME", help="Received at or after this.")]
To = Annotated[int | None, typer.Option("--to", parser=time_of, metavar="TIME", help="Received before this.")]
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

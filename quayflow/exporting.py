"""`quayflow journal export`: the journal as Parquet or JSON lines, decoded or raw, for other tools.

    frames ─► decoded as ingest decodes them ─► one row per sample: device, metric, ts, value, received
           └► raw: one row per frame: offset, received, topic, payload, …

Decoded, a message that came twice gives its samples once; values out of range, which ingest quarantines, are left out
and counted. Rows are written in groups as they are read, so that a journal of any size fits into memory.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from devices.columns import Floats, Ints
from devices.rejects import Reason
from devices.times import format_rfc3339
from devices.vocabulary import MAXIMUM, METRICS, MINIMUM
from ingest.batch import Accepted
from ingest.decoding import Decoder
from ingest.directory import Directory
from ingest.foreign import Foreign
from ingest.sources import Source
from quayflow.failures import FAILED, USAGE
from quayflow.journal import Containing
from quayflow.progress import bytes_progress
from store.journal import DUPLICATE, RETAINED, Damage, Frame, list_segments, read
from store.system_words import of_file

FRAMES_AT_ONCE: Final = 5_000
ROWS_AT_ONCE: Final = 1 << 17
"""Rows of a group in a Parquet file, about."""
UNCAPPED: Final = sys.maxsize
Write = Callable[[pa.Table], None]

STAMP: Final = pa.timestamp("ns", tz="UTC")
SAMPLES: Final = pa.schema(
    [
        pa.field("device", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("metric", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("ts", STAMP, nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("received", STAMP, nullable=False),
    ]
)
FRAMES: Final = pa.schema(
    [
        pa.field("offset", pa.uint64(), nullable=False),
        pa.field("received", STAMP, nullable=False),
        pa.field("epoch", pa.uint32(), nullable=False),
        pa.field("qos", pa.uint8(), nullable=False),
        pa.field("duplicate", pa.bool_(), nullable=False),
        pa.field("retained", pa.bool_(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What to export, where to and how."""

    folder: Path
    """Where the segments lie."""
    out: Path
    """File to write; it appears when it is complete."""
    form: str
    """``parquet`` or ``jsonl``."""
    raw: bool = False
    """Whether to export frames as they are instead of their samples."""
    from_ns: int = 0
    """Received at or after this, ns UTC."""
    to_ns: int = 2**63 - 1
    """Received before this, ns UTC."""
    topic: str | None = None
    """Only topics that contain this."""
    sources: tuple[Source, ...] = ()
    """Where foreign formats come from, as ingest has it."""
    strict: tuple[str, ...] = ()
    """Codecs that refuse what they could read in spite of its faults, as ingest has it."""


@dataclass(slots=True)
class Exported:
    """What became of the frames asked for."""

    frames: int = 0
    rows: int = 0
    duplicates: int = 0
    """Frames that came again."""
    refused: dict[str, int] = field(default_factory=dict)
    """Reason → refusals, of frames or of values, as ingest would have them."""
    damaged: int = 0
    """Stretches of the journal that could not be read."""


def export(config: ExportConfig, advance: Callable[[int], None]) -> Exported:
    """Write the export; ``advance`` is told of bytes of the journal done. OSError where the file cannot be written."""
    done = Exported()

    def damaged(_: Damage) -> None:
        done.damaged += 1

    topics = None if config.topic is None else Containing(config.topic)
    frames = read(config.folder, topics=topics, from_ns=config.from_ns, to_ns=config.to_ns, damaged=damaged)
    schema, rows_of = (FRAMES, _raw) if config.raw else (SAMPLES, _Samples(done, config))
    at = None
    with _writing(config, schema) as write:
        waiting: list[pa.RecordBatch] = []
        for batch in iter(lambda: list(islice(frames, FRAMES_AT_ONCE)), []):
            done.frames += len(batch)
            waiting.append(rows_of(batch))
            if sum(each.num_rows for each in waiting) >= ROWS_AT_ONCE:
                done.rows += _flush(write, waiting)
            advance(batch[-1].offset - (batch[0].offset if at is None else at))
            at = batch[-1].offset
        done.rows += _flush(write, waiting)
    return done


def _flush(write: Write, waiting: list[pa.RecordBatch]) -> int:
    if not waiting:
        return 0
    table = pa.Table.from_batches(waiting).unify_dictionaries()
    waiting.clear()
    write(table)
    return int(table.num_rows)


@contextmanager
def _writing(config: ExportConfig, schema: pa.Schema) -> Iterator[Write]:
    """Yield what writes rows to a file beside the one wanted, which takes its place when all is written."""
    part = config.out.with_name(f"{config.out.name}.part")
    try:
        if config.form == "parquet":
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                yield writer.write_table
        else:
            with part.open("w") as file:
                yield lambda rows: _write_lines(file, rows)
        part.rename(config.out)
    finally:
        part.unlink(missing_ok=True)


def _write_lines(file: IO[str], rows: pa.Table) -> None:
    """Write rows as JSON lines; times are RFC 3339, payloads base64."""
    columns = {}
    for name in rows.schema.names:
        column = rows.column(name)
        if column.type == STAMP:
            columns[name] = [format_rfc3339(ns) for ns in column.cast(pa.int64()).to_pylist()]
        elif pa.types.is_binary(column.type):
            columns[name] = [base64.b64encode(data).decode() for data in column.to_pylist()]
        else:
            columns[name] = column.to_pylist()
    names = list(columns)
    for values in zip(*columns.values(), strict=True):
        file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n")


class _Samples:
    """Decodes frames into rows of samples."""

    def __init__(self, done: Exported, config: ExportConfig) -> None:
        """``done`` counts what gives no row."""
        self._done = done
        self._directory = Directory(UNCAPPED, UNCAPPED)
        self._decoder = Decoder(self._directory, Foreign(self._directory, config.sources, config.strict))

    def __call__(self, frames: list[Frame]) -> pa.RecordBatch:
        """Return the samples of frames: those of messages one by one, then those of packed blocks."""
        batch = self._decoder.decode(frames)
        self._done.duplicates += len(batch.duplicate)
        for refused in batch.refused:
            self._refuse(refused.reject.reason.value, 1)
        accepted = batch.accepted()
        parts = [self._scattered(accepted)]
        for stack in accepted.blocks:
            columns = stack.values.shape[1]
            parts.append(
                (
                    np.repeat(stack.series, stack.rows, axis=0).ravel(),
                    np.repeat(stack.ts, columns),
                    stack.values.astype(np.float64).ravel(),
                    np.repeat(accepted.received[stack.frame], stack.rows * columns),
                )
            )
        series, ts, value, came = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self._rows(series, ts, value, came)

    @staticmethod
    def _scattered(accepted: Accepted) -> tuple[Ints, Ints, Floats, Ints]:
        ts, received = (np.repeat(each, accepted.scattered) for each in (accepted.ts, accepted.received))
        return accepted.series, ts, accepted.value, received

    def _rows(self, series: Ints, ts: Ints, value: Floats, received: Ints) -> pa.RecordBatch:
        metric = self._directory.metric_of[series]
        # NaN compares false with everything, so it is out of range too.
        good = (value >= MINIMUM[metric]) & (value <= MAXIMUM[metric])
        if not good.all():
            self._refuse(Reason.OUT_OF_RANGE.value, int((~good).sum()))
            series, ts, value, received, metric = series[good], ts[good], value[good], received[good], metric[good]
        device = self._directory.device_of[series]
        uids = pa.array([each.uid for each in self._directory.devices], pa.string())
        names = pa.array([each.name for each in METRICS], pa.string())
        return pa.RecordBatch.from_arrays(
            [
                pa.DictionaryArray.from_arrays(pa.array(device, pa.int32()), uids),
                pa.DictionaryArray.from_arrays(pa.array(metric, pa.int32()), names),
                pa.array(ts).cast(STAMP),
                pa.array(value),
                pa.array(received).cast(STAMP),
            ],
            schema=SAMPLES,
        )

    def _refuse(self, reason: str, count: int) -> None:
        self._done.refused[reason] = self._done.refused.get(reason, 0) + count


def _raw(frames: list[Frame]) -> pa.RecordBatch:
    """Return frames as rows."""
    offset, received, epoch, flags, topic, payload = zip(*frames, strict=True)
    columns = (
        pa.array(offset, pa.uint64()),
        pa.array(received, pa.int64()).cast(STAMP),
        pa.array(epoch, pa.uint32()),
        pa.array([each & 3 for each in flags], pa.uint8()),
        pa.array([bool(each & DUPLICATE) for each in flags], pa.bool_()),
        pa.array([bool(each & RETAINED) for each in flags], pa.bool_()),
        pa.array(topic, pa.string()),
        pa.array(payload, pa.binary()),
    )
    return pa.RecordBatch.from_arrays(list(columns), schema=FRAMES)


def run(config: ExportConfig, *, as_json: bool) -> int:
    """Export with progress on standard error, say what was exported; return 1 if part of the journal is damaged."""
    segments = list_segments(config.folder)
    length = segments[-1].base + segments[-1].path.stat().st_size - segments[0].base if segments else 0
    try:
        with bytes_progress("exported", length) as advance:
            done = export(config, advance)
    except OSError as error:
        typer.echo(f"quayflow: {config.out}: cannot be written: {of_file(error, config.out)}", err=True)
        return USAGE
    if as_json:
        typer.echo(json.dumps({"out": str(config.out), **asdict(done)}))
    else:
        typer.echo(f"{done.rows:,} rows of {done.frames:,} frames in {config.out}, {done.duplicates:,} came again")
        for reason, count in sorted(done.refused.items()):
            typer.echo(f"left out: {count:,} {reason}")
        if done.damaged:
            typer.echo(f"{done.damaged} stretches of the journal are damaged: quayflow journal verify names them")
    return FAILED if done.damaged else 0

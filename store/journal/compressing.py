"""Compressing sealed segments in the background, so that no moment shows anything but a whole segment.

    plain file ─► {base}.part: chunks, index, fsync ─► read back, byte for byte ─► rename over the plain file, fsync

A crash leaves the plain segment and perhaps a ``.part``, which the next life deletes.
"""

import contextlib
import errno
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import google_crc32c
import zstandard

from store.journal.chunks import (
    END_MAGIC,
    INDEX_MAGIC,
    TRAILER,
    Chunk,
    Contents,
    Head,
    pack_table,
)
from store.journal.compressed import CompressedSegment
from store.journal.plain import PlainSegment
from store.journal.records import JournalError
from store.journal.scanning import SegmentScan
from store.journal.segments import CHUNK_MAGIC, COMPRESSED, HEADER, SUFFIX, Segment, header, parse_header, sync_folder

log = logging.getLogger(__name__)

LEVEL: Final = 3
CHUNK_BYTES: Final = 256 << 10
PART: Final = ".part"
LOOK_AGAIN_S: Final = 1.0
"""How often the thread looks for sealed segments, s."""
TRY_AGAIN_S: Final = 60.0
"""A segment that could not be compressed, for want of space, is tried again after this time, s."""
BREATH_S: Final = 0.004
"""Pause after each chunk, s: whoever shares the interpreter gets his turn."""
NICE: Final = 10
NEVER: Final = 2**64 - 1


class _StoppedError(Exception):
    """Compression was told to stop."""


class Compressor:
    """The thread that compresses what is sealed; one per folder."""

    def __init__(self, folder: Path, replacing: threading.Lock, chunk_bytes: int = CHUNK_BYTES) -> None:
        """``replacing`` is held while a file is replaced; whoever deletes segments holds it too."""
        self._folder = folder
        self._replacing = replacing
        self._chunk_bytes = chunk_bytes
        self._done: set[str] = set()
        self._failed: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compress", daemon=True)
        self.bytes_before = 0
        """Bytes of the segments compressed in this life, before …"""
        self.bytes_after = 0
        """… and after."""

    def start(self) -> None:
        """Begin, after deleting what a crash left."""
        self.tidy()
        self._thread.start()

    def tidy(self) -> None:
        """Delete what a crash left."""
        for part in self._folder.glob(f"*{PART}"):
            part.unlink()

    def close(self) -> None:
        """End within a chunk, leaving every segment as it was or as it is to be; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def work(self) -> int:
        """Compress what is sealed now; return how many segments were."""
        count = 0
        names = sorted(path.name for path in self._folder.glob(f"*{SUFFIX}"))
        self._done &= set(names)
        for name in names[:-1]:
            if name in self._done or time.monotonic() < self._failed.get(name, 0.0):
                continue
            try:
                count += self._compress(self._folder / name)
            except FileNotFoundError:
                continue  # deleted by retention meanwhile
            except (OSError, JournalError) as error:
                log.warning("%s stays as it is, trying again in %.0f s: %s", name, TRY_AGAIN_S, error)
                self._failed[name] = time.monotonic() + TRY_AGAIN_S
                continue
            self._done.add(name)
        return count

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            # On Linux a thread has a niceness of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        with contextlib.suppress(_StoppedError):
            while not self._stop.wait(LOOK_AGAIN_S):
                self.work()

    def _compress(self, path: Path) -> bool:
        segment = parse_header(path)
        if segment.version == COMPRESSED:
            return False
        part = path.with_suffix(PART)
        before = path.stat()
        try:
            with part.open("wb") as file:
                write_compressed(file, segment, self._chunk_bytes, self._breathe)
                file.flush()
                os.fsync(file.fileno())
            os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
            part.chmod(before.st_mode)
            self._compare(segment, part)
            with self._replacing:
                if not path.exists():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
                part.rename(path)
                sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)
        self.bytes_before += before.st_size
        self.bytes_after += path.stat().st_size
        return True

    def _compare(self, segment: Segment, part: Path) -> None:
        """Read back what is to take a segment's place; JournalError unless it says the same, byte for byte."""
        # Under this name it is not met again: its index would take the place of one that is asked for.
        compressed = CompressedSegment(parse_header(part), remembered=False)
        with segment.path.open("rb") as plain:
            plain.seek(HEADER.size)
            for chunk in compressed.index.chunks if compressed.index is not None else ():
                if compressed.load(chunk) != plain.read(chunk.length):
                    raise JournalError(f"{part}: is not what was written at offset {chunk.offset}")
                self._breathe()
            if plain.read(1) or compressed.repaired:
                raise JournalError(f"{part}: is not what was written")

    def _breathe(self) -> None:
        if self._stop.wait(BREATH_S):
            raise _StoppedError


def write_compressed(
    file: IO[bytes], segment: Segment, chunk_bytes: int = CHUNK_BYTES, breathe: Callable[[], None] = lambda: None
) -> None:
    """Write the compressed form of a plain segment; ``breathe`` is called after each chunk.

    Chunks end where a record ends. Damaged records stay in them as they are: they are found when they are read.
    """
    file.write(header(segment.base, segment.first_frame, segment.created_ns, COMPRESSED))
    compressor = zstandard.ZstdCompressor(LEVEL, write_checksum=True)
    scan = SegmentScan(segment)
    numbers: dict[str, int] = {}
    contents: list[Contents] = []
    records = 0
    plain = PlainSegment(segment.path)
    for piece in _pieces(scan, segment.base, chunk_bytes, numbers):
        chunk = piece.chunk._replace(position=file.tell())
        data = compressor.compress(plain.read(chunk.offset - segment.base, chunk.length))
        _write(file, segment, CHUNK_MAGIC, chunk, data)
        contents.append(piece._replace(chunk=chunk))
        records += chunk.records
        breathe()
    table = pack_table(contents, list(numbers))
    position = file.tell()
    whole = Chunk(position, segment.base + scan.size, len(table), records)
    _write(file, segment, INDEX_MAGIC, whole, compressor.compress(table))
    place = struct.pack("<Q", position)
    file.write(TRAILER.pack(position, google_crc32c.value(place), END_MAGIC))


def _write(file: IO[bytes], segment: Segment, magic: bytes, chunk: Chunk, data: bytes) -> None:
    head = Head(len(data), chunk.length, chunk.records, chunk.offset, google_crc32c.value(data))
    file.write(head.pack(magic, segment.base + chunk.position) + data)


def _pieces(scan: SegmentScan, base: int, chunk_bytes: int, numbers: dict[str, int]) -> Iterator[Contents]:
    """Yield what each chunk is to hold, its position still 0; ``numbers`` numbers the topics as they are met."""
    begin, end = base + HEADER.size, base + scan.size
    records, first, last = 0, NEVER, 0
    topics: set[int] = set()
    for frame in scan.frames(base):
        if frame.offset - begin >= chunk_bytes:
            yield Contents(Chunk(0, begin, frame.offset - begin, records), first, last, sorted(topics))
            begin, records, first, last, topics = frame.offset, 0, NEVER, 0, set()
        records += 1
        first, last = min(first, frame.recv_ts), max(last, frame.recv_ts)
        topics.add(numbers.setdefault(frame.topic, len(numbers)))
    if begin < end:
        yield Contents(Chunk(0, begin, end - begin, records), first, last, sorted(topics))

"""The journal: raw frames in append-only segments, durable before they are acknowledged.

    segment  = header record*            file name: {base offset as 16 hex digits}.qfj
    header   = magic "QFJL" | version u16 | 0 u16 | base offset u64 | first frame number u64 | created ns u64
               | CRC-32C of the 32 bytes before u32 | 0 u32                                          (40 bytes)
    record   = CRC-32C u32 | body length u32 | receive time ns u64 | connection epoch u32 | topic length u16
               | flags u8 (bits 0–1 QoS, 2 duplicate, 3 retained) | 0 u8 | topic | payload            (24 bytes + body)

All numbers are little-endian. An *offset* counts bytes over all segments, headers included: base offset of the segment
plus position in its file. A record's checksum is that of everything of it after the checksum, exclusive-or the low 32
bits of its offset: a record is valid in its own place only, so the bytes of a journal that travel as somebody's payload
are never taken for records. ``docs/journal.md`` specifies the format with test vectors.
"""

import errno
import logging
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

log = logging.getLogger(__name__)

MAGIC: Final = b"QFJL"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sHHQQQII")
RECORD: Final = struct.Struct("<IIQIHBB")
COVERED: Final = struct.Struct("<IQIHBB")
"""The record header after its checksum."""
CRC: Final = struct.Struct("<I")
CRC_BYTES: Final = CRC.size
SUFFIX: Final = ".qfj"
LOW: Final = 0xFFFF_FFFF
MAX_BODY: Final = 268_500_000
"""Largest body, bytes: MQTT's largest packet and a topic."""

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DUPLICATE: Final = 4
RETAINED: Final = 8


class JournalError(Exception):
    """The journal cannot be read or written as it stands; the process must not go on acknowledging."""


class JournalFullError(JournalError):
    """No space: nothing of the batch was kept and the same batch may be tried again."""


class Frame(NamedTuple):
    """One message as it came off the wire; times in ns UTC."""

    offset: int
    """Where its record begins."""
    recv_ts: int
    epoch: int
    flags: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Where the journal lies and how it is cut and kept."""

    folder: Path
    segment_bytes: int = 32 << 20
    """A segment is sealed when it has grown beyond this."""
    keep_bytes: int = 4 << 30
    """Sealed and checkpointed segments are kept up to this many bytes in total …"""
    keep_s: float = 7 * 86_400
    """… and up to this age, s."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot hold a record."""
        if self.segment_bytes < HEADER.size + RECORD.size:
            msg = f"segment_bytes {self.segment_bytes}: must be at least {HEADER.size + RECORD.size}"
            raise ValueError(msg)


class Encoded(NamedTuple):
    """A batch of frames with their places, and the bytes to write there."""

    frames: list[Frame]
    blob: bytes


def encode(start: int, recv_ts: int, epoch: int, messages: Iterable[tuple[str, bytes, int]]) -> Encoded:
    """Lay out messages (topic, payload, flags) as records from offset ``start`` on."""
    frames: list[Frame] = []
    parts: list[bytes] = []
    offset = start
    pack, crc, crc_pack = COVERED.pack, google_crc32c.value, CRC.pack
    for topic, payload, flags in messages:
        name = topic.encode()
        length = len(name) + len(payload)
        covered = pack(length, recv_ts, epoch, len(name), flags, 0) + name + payload
        parts.append(crc_pack(crc(covered) ^ (offset & LOW)))
        parts.append(covered)
        frames.append(Frame(offset, recv_ts, epoch, flags, topic, payload))
        offset += RECORD.size + length
    return Encoded(frames, b"".join(parts))


class JournalWriter:
    """Appends to the newest segment. One per folder; the data folder's lock sees to that."""

    def __init__(self, config: JournalConfig, now: Callable[[], int] = time.time_ns) -> None:
        """Open the folder: create it, or find the end of the newest segment and cut off a torn tail."""
        self._config = config
        self._now = now
        self._fd = -1
        self.torn_bytes = 0
        """Bytes of incomplete records cut off when the folder was opened."""
        config.folder.mkdir(parents=True, exist_ok=True)
        _remove_unborn(config.folder)
        segments = list_segments(config.folder)
        if segments:
            self._reopen(segments[-1])
        else:
            self.end, self.frames = 0, 0
            self._create()

    def begin(self) -> int:
        """Return the offset at which the next record will lie, after sealing a segment that has grown too large."""
        if self.end - self._base > self._config.segment_bytes:
            self._rotate()
        return self.end

    def append(self, blob: bytes, frames: int) -> None:
        """Write records made by :func:`encode` at :meth:`begin` and make them durable.

        Blocks until the disk has them. JournalFullError: nothing was kept, try again later. JournalError: stop and
        start again from disk; a failed fsync must never be repeated, the pages may be gone.
        """
        start = self.end
        try:
            _write_all(self._fd, blob)
        except OSError as error:
            self._roll_back(start, error)
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            msg = f"fdatasync of {self._path} failed: {error}"
            raise JournalError(msg) from error
        self.end = start + len(blob)
        self.frames += frames

    def skip_to(self, offset: int) -> None:
        """Let no later record lie before ``offset``: begin a new segment there if the journal ends before it.

        For a checkpoint beyond the end, which a damaged last record leaves behind: whatever was written below the
        checkpoint would not be read again after a crash.
        """
        if self.end < offset:
            log.error("the journal ends at %d, before the checkpoint at %d; going on there", self.end, offset)
            self.end = offset
            self._rotate()

    def forget(self, checkpoint: int) -> int:
        """Delete sealed segments that are checkpointed and beyond the retention; return how many bytes went."""
        segments = list_segments(self._config.folder)
        ends = [segment.base for segment in segments[1:]]
        total = sum(segment.path.stat().st_size for segment in segments)
        freed = 0
        for segment, end in zip(segments[:-1], ends, strict=True):
            state = segment.path.stat()
            too_old = self._now() / 1e9 - state.st_mtime > self._config.keep_s
            if end > checkpoint or not (too_old or total - freed > self._config.keep_bytes):
                break
            segment.path.unlink()
            freed += state.st_size
        return freed

    def close(self) -> None:
        """Close the newest segment; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _create(self) -> None:
        path = self._config.folder / f"{self.end:016x}{SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
        try:
            _write_all(fd, _header(self.end, self.frames, self._now()))
            os.fdatasync(fd)
            _sync_folder(self._config.folder)
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            if error.errno in NO_SPACE:
                msg = f"no space for a new segment in {self._config.folder}"
                raise JournalFullError(msg) from error
            msg = f"cannot create {path}: {error}"
            raise JournalError(msg) from error
        self._fd, self._path, self._base = fd, path, self.end
        self.end += HEADER.size

    def _rotate(self) -> None:
        """Seal the newest segment and begin the next; the old one stays open until the new one exists."""
        sealed = self._fd
        self._create()
        os.close(sealed)

    def _reopen(self, segment: "Segment") -> None:
        scan = SegmentScan(segment)
        for _ in scan.frames(segment.base):
            pass
        self.torn_bytes = segment.path.stat().st_size - scan.valid_bytes
        if self.torn_bytes:
            log.warning("cut %d bytes of incomplete records off %s", self.torn_bytes, segment.path.name)
            os.truncate(segment.path, scan.valid_bytes)
        self._fd = os.open(segment.path, os.O_WRONLY | os.O_APPEND)
        os.fdatasync(self._fd)
        self._path, self._base = segment.path, segment.base
        self.end = segment.base + scan.valid_bytes
        self.frames = segment.first_frame + scan.count

    def _roll_back(self, start: int, error: OSError) -> None:
        """Take a half-written batch back and say whether it may be tried again."""
        if error.errno not in NO_SPACE:
            msg = f"cannot write {self._path}: {error}"
            raise JournalError(msg) from error
        try:
            os.ftruncate(self._fd, start - self._base)
        except OSError as worse:
            msg = f"cannot take a half-written batch back from {self._path}: {worse}"
            raise JournalError(msg) from worse
        msg = f"no space to append to {self._path}"
        raise JournalFullError(msg) from error


class Segment(NamedTuple):
    """One file of the journal."""

    path: Path
    base: int
    first_frame: int
    created_ns: int


class Damage(NamedTuple):
    """A stretch of a segment that holds no intact record, between records that are."""

    path: Path
    offset: int
    length: int


class SegmentScan:
    """Reads one segment, verifying every record."""

    def __init__(self, segment: Segment) -> None:
        """Read the file; records appended later are not seen."""
        self._segment = segment
        self._data = segment.path.read_bytes()
        self.count = 0
        """Valid records met so far."""
        self.damage: list[Damage] = []
        """Stretches of damaged bytes skipped so far, each holding at least one record."""
        self.valid_bytes = HEADER.size
        """Length of the file up to the end of the last valid record."""

    def frames(self, start: int) -> Iterator[Frame]:
        """Yield the valid frames from offset ``start`` on; damage in between is skipped and counted."""
        data, base = self._data, self._segment.base
        position = max(start - base, HEADER.size)
        unpack, crc = RECORD.unpack_from, google_crc32c.value
        self.valid_bytes = position
        while position + RECORD.size <= len(data):
            checksum, body, recv_ts, epoch, name, flags, _ = unpack(data, position)
            end = position + RECORD.size + body
            place = (base + position) & LOW
            if end > len(data) or name > body or crc(data[position + CRC_BYTES : end]) ^ place != checksum:
                valid = self._next_valid(position)
                if valid < 0:
                    return
                self.damage.append(Damage(self._segment.path, base + position, valid - position))
                position = valid
                continue
            at = position + RECORD.size
            topic = data[at : at + name].decode(errors="replace")
            yield Frame(base + position, recv_ts, epoch, flags, topic, data[at + name : end])
            self.count += 1
            position = self.valid_bytes = end

    def _next_valid(self, position: int) -> int:
        """Return where the next intact record begins after a damaged one, or -1 if there is none."""
        data, base = self._data, self._segment.base
        for candidate in range(position + 1, len(data) - RECORD.size + 1):
            checksum, body, _, _, name, _, zero = RECORD.unpack_from(data, candidate)
            end = candidate + RECORD.size + body
            if zero or not 0 < name <= body or end > len(data):
                continue
            if google_crc32c.value(data[candidate + CRC_BYTES : end]) ^ ((base + candidate) & LOW) == checksum:
                return candidate
        return -1


def read(folder: Path, start: int = 0, *, damaged: Callable[[Damage], None] | None = None) -> Iterator[Frame]:
    """Yield the frames of a journal from offset ``start`` on; ``damaged`` is told of what had to be skipped."""
    segments = list_segments(folder)
    for index, segment in enumerate(segments):
        if index + 1 < len(segments) and segments[index + 1].base <= start:
            continue
        scan = SegmentScan(segment)
        yield from scan.frames(start)
        if damaged is None:
            continue
        for damage in scan.damage:
            damaged(damage)
        if index + 1 < len(segments) and (missing := segments[index + 1].base - segment.base - scan.valid_bytes):
            damaged(Damage(segment.path, segment.base + scan.valid_bytes, missing))


def first_frame(folder: Path) -> int:
    """Return the number of the first frame that a journal still holds; 0 if it is empty."""
    segments = list_segments(folder)
    return segments[0].first_frame if segments else 0


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments of a folder in order; JournalError on one that cannot be read. Changes nothing."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    return [_parse_header(path) for path in paths if path != paths[-1] or not _is_unborn(path)]


def _is_unborn(path: Path) -> bool:
    """Tell whether a newest segment is being created, or a crash came before its header was durable: it is empty."""
    return path.stat().st_size <= HEADER.size and not _is_header(_head(path))


def _remove_unborn(folder: Path) -> None:
    """Delete what a crash left of a segment; for the writer alone: to a reader it may be just coming into being."""
    for path in sorted(folder.glob(f"*{SUFFIX}"))[-1:]:
        if _is_unborn(path):
            path.unlink()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER.size)


def _is_header(head: bytes) -> bool:
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        return False
    checksum: int = HEADER.unpack(head)[-2]
    return bool(google_crc32c.value(head[: HEADER.size - 8]) == checksum)


def _parse_header(path: Path) -> Segment:
    head = _head(path)
    if not _is_header(head):
        msg = f"{path}: not a journal segment, or its header is damaged"
        raise JournalError(msg)
    _, version, _, base, first_frame, created_ns, _, _ = HEADER.unpack(head)
    if version > VERSION:
        msg = f"{path}: format version {version}, this build reads up to {VERSION}; use a newer quayflow"
        raise JournalError(msg)
    return Segment(path, base, first_frame, created_ns)


def _header(base: int, first_frame: int, created_ns: int) -> bytes:
    head = HEADER.pack(MAGIC, VERSION, 0, base, first_frame, created_ns, 0, 0)[: HEADER.size - 8]
    return head + struct.pack("<II", google_crc32c.value(head), 0)


def _write_all(fd: int, blob: bytes) -> None:
    view = memoryview(blob)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

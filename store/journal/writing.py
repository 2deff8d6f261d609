"""Writing: the newest segment grows by whole batches, each durable before anybody is told."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from store.journal.ballast import Ballast
from store.journal.frames import FrameTable
from store.journal.reading import lots_of
from store.journal.records import RECORD, Damage, JournalError, JournalFullError
from store.journal.scanning import SegmentScan
from store.journal.segments import (
    HEADER,
    SUFFIX,
    Segment,
    header,
    list_segments,
    parse_header,
    remove_unborn,
    sync_folder,
)
from store.journal.selection import EVERYTHING, FOREVER

log = logging.getLogger(__name__)

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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
    ballast_bytes: int = 0
    """Space held ready for the end of the work at hand when the disk is full; 0 does without."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot hold a record."""
        if self.segment_bytes < HEADER.size + RECORD.size:
            msg = f"segment_bytes {self.segment_bytes}: must be at least {HEADER.size + RECORD.size}"
            raise ValueError(msg)


class JournalWriter:
    """Appends to the newest segment. One per folder; the data folder's lock sees to that."""

    def __init__(self, config: JournalConfig, now: Callable[[], int] = time.time_ns, *, replayed: bool = False) -> None:
        """Open the folder: create it, or find the end of the newest segment and cut off a torn tail.

        With ``replayed`` that end is left to :meth:`replay`, which must come before anything is appended.
        """
        self._config = config
        self._now = now
        self._fd = -1
        self.replacing = threading.Lock()
        """Held while segments are deleted, and by whoever puts others in their places."""
        self.disk_bytes = 0
        """Bytes of all segments on the disk, as of the last :meth:`expendable`."""
        self.ballast = Ballast(config.folder, config.ballast_bytes)
        self.torn_bytes = 0
        """Bytes of incomplete records cut off when the folder was opened."""
        config.folder.mkdir(parents=True, exist_ok=True)
        remove_unborn(config.folder)
        segments = list_segments(config.folder)
        self._unread = bool(segments)
        if segments:
            self.end, self.frames = segments[-1].base, segments[-1].first_frame
        else:
            self.end, self.frames = 0, 0
            self._create()
        if not replayed:
            for _ in self.replay(FOREVER):
                pass
        self.ballast.restore()

    def replay(self, start: int, damaged: Callable[[Damage], None] | None = None) -> Iterator[FrameTable]:
        """Yield the frames from offset ``start`` on, in tables, and be ready to append when all of them are read.

        One scan of the newest segment serves both, so it is verified from its beginning. Nothing comes a second time.
        ``damaged`` is told of what had to be skipped.
        """
        if not self._unread:
            return
        segments = list_segments(self._config.folder)
        for segment, after in pairwise(segments):
            yield from lots_of(segment, after, start, EVERYTHING, damaged)
        newest = segments[-1]
        scan = SegmentScan(newest)
        for lot in scan.lots(newest.base):
            if rest := lot.take(lot.offset >= start):
                yield rest
        for damage in scan.damage:
            if damaged is not None and damage.offset + damage.length > start:
                damaged(damage)
        self._reopen(newest, scan)
        self._unread = False

    @property
    def is_ready(self) -> bool:
        """Whether the next record will lie at ``end``: :meth:`begin` would touch no disk."""
        return self.ballast.state != "released" and self.end - self._base <= self._config.segment_bytes

    def begin(self) -> int:
        """Return the offset at which the next record will lie, after sealing a segment that has grown too large.

        JournalFullError: nothing more may be begun, for want of space for it or for the ballast.
        """
        if self.ballast.state == "released" and not self.ballast.restore():
            msg = f"no space for more in {self._config.folder}: its ballast is released"
            raise JournalFullError(msg)
        if not self.is_ready:
            try:
                self._rotate()
            except JournalFullError:
                self.ballast.release()
                raise
        return self.end

    def append(self, blob: bytes | bytearray, frames: int) -> None:
        """Write records made by :func:`~store.journal.records.encode` at :meth:`begin` and make them durable.

        Blocks until the disk has them. Where there is no space, the ballast makes room for this batch.
        JournalFullError: nothing was kept, try again later. JournalError: stop and start again from disk; a failed
        fsync must never be repeated, the pages may be gone.
        """
        start = self.end
        try:
            self._write(blob)
        except JournalFullError:
            if not self.ballast.release():
                raise
            self._write(blob)
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

    def expendable(self, checkpoint: int, now: int | None = None) -> list[Path]:
        """Return the sealed segments that are checkpointed and beyond the retention, oldest first.

        Their age is that of their newest frames, which came before the next segment was begun. ``now``, ns UTC, is the
        time to reckon it from; by default that of the journal's clock.

        Whoever has :meth:`forget` delete them first sees to it that the checkpoint outlives a power cut: without them,
        and with an older checkpoint, what they held would be gone.
        """
        paths = sorted(self._config.folder.glob(f"*{SUFFIX}"))
        sizes = [path.stat().st_size for path in paths]
        self.disk_bytes = left = sum(sizes)
        oldest = (self._now() if now is None else now) - round(self._config.keep_s * 1e9)
        found = []
        for path, size, after in zip(paths[:-1], sizes[:-1], paths[1:], strict=True):
            if int(after.stem, 16) > checkpoint:
                break
            # What the file system says of a file's age is by a clock that may have been set meanwhile.
            if left <= self._config.keep_bytes and parse_header(after).created_ns >= oldest:
                break
            found.append(path)
            left -= size
        self.ballast.restore()
        return found

    def forget(self, segments: Sequence[Path]) -> int:
        """Delete segments that are :meth:`expendable`; return how many bytes went."""
        freed = 0
        for path in segments:
            with self.replacing:
                freed += path.stat().st_size
                path.unlink()
        self.disk_bytes -= freed
        self.ballast.restore()
        return freed

    def close(self) -> None:
        """Close the newest segment and give the ballast back; idempotent."""
        self.ballast.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _create(self) -> None:
        path = self._config.folder / f"{self.end:016x}{SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o640)
        try:
            _write_all(fd, header(self.end, self.frames, self._now()))
            os.fdatasync(fd)
            sync_folder(self._config.folder)
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

    def _reopen(self, segment: Segment, scan: SegmentScan) -> None:
        """Go on after the last whole record of a segment that has been scanned, damaged or not."""
        self.torn_bytes = scan.size - scan.valid_bytes
        try:
            if self.torn_bytes:
                log.warning("cut %d bytes of incomplete records off %s", self.torn_bytes, segment.path.name)
                os.truncate(segment.path, scan.valid_bytes)
            self._fd = os.open(segment.path, os.O_WRONLY | os.O_APPEND)
            os.fdatasync(self._fd)
            # Who created the segment may have died before its name was on the disk.
            sync_folder(self._config.folder)
        except OSError as error:
            self.close()
            msg = f"cannot go on in {segment.path}: {error}"
            raise JournalError(msg) from error
        self._path, self._base = segment.path, segment.base
        self.end = segment.base + scan.valid_bytes
        self.frames = segment.first_frame + scan.count

    def _write(self, blob: bytes | bytearray) -> None:
        """Write a batch at the end, all of it or, raising JournalFullError, nothing."""
        try:
            _write_all(self._fd, blob)
        except OSError as error:
            self._roll_back(self.end, error)

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


def _write_all(fd: int, blob: bytes | bytearray) -> None:
    view = memoryview(blob)
    while view:
        view = view[os.write(fd, view) :]

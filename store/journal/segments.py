"""Segments: the files of a journal, and the header that each begins with."""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from store.journal.records import JournalError

MAGIC: Final = b"QFJL"
PLAIN: Final = 1
"""Version of a segment of plain records: every one that is being written."""
COMPRESSED: Final = 2
"""Version of a sealed segment that has been compressed."""
VERSION: Final = COMPRESSED
"""Latest version that can be read."""
ZSTD: Final = 1
"""The codec of compressed segments."""
HEADER: Final = struct.Struct("<4sHHQQQII")
RESERVED: Final = 4
"""Bytes at the end of the header that its checksum does not cover; they are 0."""
CHUNK_MAGIC: Final = b"QFJC"
"""What a compressed segment goes on with after its header."""
SUFFIX: Final = ".qfj"


class HeaderError(JournalError):
    """A segment without an intact header."""


class Segment(NamedTuple):
    """One file of the journal."""

    path: Path
    base: int
    first_frame: int
    created_ns: int
    version: int = PLAIN


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments of a folder in order; JournalError on one that cannot be read. Changes nothing."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    return [parse_header(path) for path in paths if path != paths[-1] or not _is_unborn(path)]


def remove_unborn(folder: Path) -> None:
    """Delete what a crash left of a segment; for the writer alone: to a reader it may be just coming into being."""
    for path in sorted(folder.glob(f"*{SUFFIX}"))[-1:]:
        if _is_unborn(path):
            path.unlink()


def header(base: int, first_frame: int, created_ns: int, version: int = PLAIN) -> bytes:
    """Return the header of a segment."""
    codec = ZSTD if version == COMPRESSED else 0
    head = HEADER.pack(MAGIC, version, codec, base, first_frame, created_ns, 0, 0)[: HEADER.size - 8]
    return head + struct.pack("<II", google_crc32c.value(head), 0)


def parse_header(path: Path) -> Segment:
    """Read the header of a segment; HeaderError where it is damaged, JournalError where this build cannot read it."""
    head = _head(path)
    if not _is_header(head):
        msg = f"{path}: not a journal segment, or its header is damaged"
        raise HeaderError(msg)
    _, version, codec, base, first_frame, created_ns, _, _ = HEADER.unpack(head)
    if version > VERSION or (version == COMPRESSED and codec != ZSTD):
        msg = f"{path}: format version {version}, this build reads up to {VERSION}; use a newer quayflow"
        raise JournalError(msg)
    return Segment(path, base, first_frame, created_ns, version)


def without_header(path: Path) -> Segment:
    """Return what is known of a segment whose header is damaged, from its name and its first bytes after it.

    For verification alone: the number of its first frame is not known and stands as -1.
    """
    with path.open("rb") as file:
        file.seek(HEADER.size)
        version = COMPRESSED if file.read(len(CHUNK_MAGIC)) == CHUNK_MAGIC else PLAIN
    return Segment(path, int(path.stem, 16), -1, 0, version)


def is_header_whole(path: Path) -> bool:
    """Tell whether the header of a segment is what was written, also in its last bytes, which nothing reads."""
    head = _head(path)
    return _is_header(head) and not any(head[HEADER.size - RESERVED :])


def sync_folder(folder: Path) -> None:
    """Make the names of files in a folder durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_unborn(path: Path) -> bool:
    """Tell whether a newest segment is being created, or a crash came before its header was durable: it is empty."""
    return path.stat().st_size <= HEADER.size and not _is_header(_head(path))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER.size)


def _is_header(head: bytes) -> bool:
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        return False
    checksum: int = HEADER.unpack(head)[-2]
    return bool(google_crc32c.value(head[: HEADER.size - 8]) == checksum)

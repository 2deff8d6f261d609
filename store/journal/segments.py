"""Segments: the files of a journal, and the header that each begins with."""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from store.journal.records import JournalError
from store.journal.repair import with_bit_put_right

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
    """Read the header of a segment, also one with a single wrong bit.

    HeaderError where more of it is damaged, JournalError where this build cannot read it.
    """
    found = _head(path)
    head = found if _is_header(found) else _put_right(found, path)
    if head is None:
        msg = (
            f"{path}: not a journal segment, or its header is damaged: move it out of the folder, and ingest goes on "
            "without what it holds; quayflow journal verify tells how much that is"
        )
        raise HeaderError(msg)
    _, version, codec, base, first_frame, created_ns, _, _ = HEADER.unpack(head)
    if version > VERSION or (version == COMPRESSED and codec != ZSTD):
        msg = f"{path}: format version {version}, this build reads up to {VERSION}; use a newer quayflow"
        raise JournalError(msg)
    return Segment(path, base, first_frame, created_ns, version)


def without_header(path: Path) -> Segment:
    """Return what is known of a segment whose header is damaged, from its name and its first bytes after it.

    For verification alone, and of one with more than a bit wrong: the number of its first frame is not known and
    stands as -1.
    """
    with path.open("rb") as file:
        file.seek(HEADER.size)
        version = COMPRESSED if file.read(len(CHUNK_MAGIC)) == CHUNK_MAGIC else PLAIN
    return Segment(path, int(path.stem, 16), -1, 0, version)


def is_header_whole(path: Path) -> bool:
    """Tell whether the header of a segment is what was written, also in its last bytes, which nothing reads."""
    head = _head(path)
    return _is_header(head) and not any(head[HEADER.size - RESERVED :])


def _put_right(head: bytes, path: Path) -> bytes | None:
    """Return a header with its one wrong bit put right; None where that is not what is wrong.

    What results must be a header of the segment that the file's name says.
    """
    if len(head) < HEADER.size:
        return None
    covered, checksum, rest = head[: HEADER.size - 8], HEADER.unpack(head)[-2], head[HEADER.size - RESERVED :]
    right = google_crc32c.value(covered)
    if (right ^ checksum).bit_count() > 1:
        covered = with_bit_put_right(covered, checksum) or b""
        right = checksum
    found = covered + struct.pack("<I", right) + rest
    if not _is_header(found):
        return None
    _, version, codec, base, *_ = HEADER.unpack(found)
    is_of_it = f"{base:016x}{SUFFIX}" == path.name and (version, codec) in {(PLAIN, 0), (COMPRESSED, ZSTD)}
    return found if is_of_it else None


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

"""Reading a compressed segment: its chunks, found by the index or one by one, and their records."""

import logging
import mmap
import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import google_crc32c
import zstandard

from store.journal.chunks import (
    END_MAGIC,
    HEAD,
    INDEX_MAGIC,
    TRAILER,
    Chunk,
    Head,
    Index,
    parse_table,
)
from store.journal.records import MAX_BODY, RECORD
from store.journal.repair import with_bit_put_right
from store.journal.segments import CHUNK_MAGIC, HEADER, Segment

log = logging.getLogger(__name__)

INDICES_KEPT: Final = 64
"""Indices of segments that a process remembers."""
LARGEST: Final = 4 * MAX_BODY + RECORD.size
"""A chunk or a table that claims more bytes than this is damaged."""


class CompressedSegment:
    """A compressed segment, mapped for reading; it stays readable when retention deletes it meanwhile."""

    def __init__(self, segment: Segment, *, remembered: bool = True) -> None:
        """Map the file and read its index, which is ``remembered``, unless the file will not be met again."""
        self._segment = segment
        with segment.path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            state = os.fstat(file.fileno())
        self.repaired: list[Chunk] = []
        """Chunks read so far in which a bit was wrong and could be put right."""
        known = segment, state.st_ino, state.st_mtime_ns, len(self._data)
        self.index = (remembered_index if remembered else _index)(*known)
        """Its index; None where that is damaged."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield every chunk of which a head can be found, for a segment without an intact index."""
        position = HEADER.size
        while position < len(self._data):
            if (head := self._head(position, CHUNK_MAGIC)) is not None:
                yield Chunk(position, head.offset, head.length, head.records)
                position += HEAD.size + head.compressed
            else:
                position = self._next_head(position + 1)

    def load(self, chunk: Chunk) -> bytes | None:
        """Return the records of a chunk, uncompressed; None where they are lost."""
        begin = chunk.position + HEAD.size
        head = self._head(chunk.position, CHUNK_MAGIC)
        if head is None:
            # As far as the next chunk, or the index, begins; what comes out is checked by zstd's own checksum.
            data: bytes | None = self._data[begin : self._next_head(begin)]
        else:
            data = self._data[begin : begin + head.compressed]
            if google_crc32c.value(data) == head.crc:
                return _decompress(data, chunk.length)
            data = with_bit_put_right(data, head.crc)
        found = _decompress(data, chunk.length) if data is not None else None
        if found is not None:
            log.warning("%s: a wrong bit at the chunk of %d was put right", self._segment.path.name, chunk.offset)
            self.repaired.append(chunk)
        return found

    def _head(self, position: int, magic: bytes) -> Head | None:
        return Head.parse(self._data[position : position + HEAD.size], magic, self._segment.base + position)

    def _next_head(self, position: int) -> int:
        """Return where the next intact head begins, of a chunk or the index; the end of the file if there is none."""
        at = self._data.find(CHUNK_MAGIC[:3], position)
        while at >= 0:
            if self._head(at, CHUNK_MAGIC) is not None or self._head(at, INDEX_MAGIC) is not None:
                return at
            at = self._data.find(CHUNK_MAGIC[:3], at + 1)
        return len(self._data)


def _index(segment: Segment, inode: int, changed_ns: int, size: int) -> Index | None:
    """Read the index of a segment; the file's number and time are there to notice another file of the same name."""
    del inode, changed_ns
    with segment.path.open("rb") as file:
        file.seek(max(0, size - TRAILER.size))
        trailer = file.read(TRAILER.size)
        if len(trailer) < TRAILER.size:
            return None
        position, checksum, magic = TRAILER.unpack(trailer)
        if magic != END_MAGIC or google_crc32c.value(trailer[:8]) != checksum:
            return None
        file.seek(position)
        head = Head.parse(file.read(HEAD.size), INDEX_MAGIC, segment.base + position)
        data = file.read(head.compressed) if head is not None else b""
    if head is None or google_crc32c.value(data) != head.crc:
        return None
    table = _decompress(data, head.length)
    try:
        return parse_table(table, head.offset) if table is not None else None
    except ValueError as error:
        log.warning("%s: %s", segment.path.name, error)
        return None


remembered_index: Final = lru_cache(INDICES_KEPT)(_index)
"""Returns the index of a segment, those asked for last without reading them again."""


def _decompress(data: bytes, length: int) -> bytes | None:
    """Return the ``length`` bytes of a zstd frame; None where it does not give exactly these."""
    try:
        # Asked first: a frame that says otherwise would be given the memory that it asks for.
        if length > LARGEST or zstandard.frame_content_size(data) != length:
            return None
        found = zstandard.ZstdDecompressor().decompress(data, max_output_size=length)
    except zstandard.ZstdError:
        return None
    return found if len(found) == length else None

"""Chunks: a sealed segment in compressed form, in pieces that can each be read alone, and an index of them.

    compressed segment = header (version 2, codec 1) | chunk* | index | trailer
    chunk    = head | zstd frame of whole records
    head     = magic "QFJC" | compressed length u32 | length u32 | records u32 | offset u64
               | CRC-32C of the zstd frame u32
               | CRC-32C of the 28 bytes before, exclusive-or the low 32 bits of base offset + position u32   (32 bytes)
    index    = head with magic "QFJI" and the segment's end as offset | zstd frame of the table
    trailer  = position of the index u64 | CRC-32C of these 8 bytes u32 | magic "QFJE"                        (16 bytes)

    table    = chunks n u32 | topics t u32 | entries m u32
               | position u64 × n | offset u64 × n | first received ns u64 × n | last received ns u64 × n
               | length u32 × n | records u32 × n | how many topics u32 × n
               | numbers of the topics in each chunk, one chunk after the other, u32 × m
               | bytes of each topic u16 × t | the topics, UTF-8

The chunks in a row are the plain segment after its header, byte for byte: offsets and records, with their checksums,
are those of the plain form. The index saves reading what is not wanted; without it, the heads alone are enough.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern
from typing import Final, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.journal.records import LOW
from store.journal.selection import Selection

INDEX_MAGIC: Final = b"QFJI"
END_MAGIC: Final = b"QFJE"
HEAD: Final = struct.Struct("<4sIIIQII")
TRAILER: Final = struct.Struct("<QI4s")
COUNTS: Final = struct.Struct("<III")


class Head(NamedTuple):
    """What stands before a chunk, or before the index."""

    compressed: int
    """Bytes of the zstd frame after it."""
    length: int
    """Bytes that the frame gives."""
    records: int
    offset: int
    """Where in the journal these bytes begin."""
    crc: int
    """CRC-32C of the zstd frame."""

    def pack(self, magic: bytes, place: int) -> bytes:
        """Return the head for an offset in the journal of the compressed file's own bytes."""
        words = HEAD.pack(magic, self.compressed, self.length, self.records, self.offset, self.crc, 0)[:-4]
        return words + struct.pack("<I", google_crc32c.value(words) ^ (place & LOW))

    @classmethod
    def parse(cls, data: bytes, magic: bytes, place: int) -> "Head | None":
        """Return the head that :meth:`pack` made for this place; None where there is no intact one."""
        if len(data) < HEAD.size or not data.startswith(magic):
            return None
        _, *numbers, checksum = HEAD.unpack_from(data)
        if google_crc32c.value(data[: HEAD.size - 4]) ^ (place & LOW) != checksum:
            return None
        return cls(*numbers)


class Chunk(NamedTuple):
    """One piece of a compressed segment."""

    position: int
    """Where in the file its head begins."""
    offset: int
    """Where in the journal its records begin."""
    length: int
    """Bytes of its records, uncompressed."""
    records: int


class Contents(NamedTuple):
    """What is in a chunk, as the index keeps it."""

    chunk: Chunk
    first_ns: int
    """Earliest time of receipt, ns UTC; 2**64 − 1 if there is no record."""
    last_ns: int
    """Latest time of receipt, ns UTC; 0 if there is no record."""
    topics: Sequence[int]
    """Numbers of the topics in it."""


@dataclass(frozen=True, slots=True)
class Index:
    """Where in a compressed segment which topics and times are; arrays run over the n chunks."""

    places: NDArray[np.unsignedinteger]
    """What :class:`Chunk` has of each; shape (n, 4)."""
    first_ns: NDArray[np.uint64]
    last_ns: NDArray[np.uint64]
    topics: tuple[str, ...]
    """Texts that all indices of a process share: in every segment they are mostly the same."""
    per_chunk: NDArray[np.unsignedinteger]
    """How many topics each chunk has."""
    entry_topic: NDArray[np.unsignedinteger]
    """Their numbers, one chunk after the other, in the narrowest integers: of a fleet they are most of an index."""
    end: int
    """Offset at which the segment ends."""

    @property
    def chunks(self) -> list[Chunk]:
        """All chunks, in order."""
        return list(map(Chunk._make, self.places.tolist()))

    def select(self, start: int, selection: Selection) -> list[Chunk]:
        """Return the chunks that may hold wanted frames at or after offset ``start``."""
        wanted = (self.last_ns >= selection.from_ns) & (self.first_ns < min(selection.to_ns, 2**64 - 1))
        if selection.topics is not None:
            topics = np.array([selection.wants(topic) for topic in self.topics], np.bool_)
            chunk = np.repeat(np.arange(len(wanted)), self.per_chunk)
            having = np.zeros(len(wanted), np.bool_)
            having[chunk[topics[self.entry_topic]]] = True
            wanted &= having
        found = map(Chunk._make, self.places[wanted].tolist())
        return [chunk for chunk in found if chunk.offset + chunk.length > start]


def pack_table(contents: Sequence[Contents], topics: Sequence[str]) -> bytes:
    """Return the index's table, uncompressed."""
    names = [topic.encode() for topic in topics]
    entries = [number for each in contents for number in each.topics]
    parts = [COUNTS.pack(len(contents), len(names), len(entries))]
    parts += [np.array(each, "<u8").tobytes() for each in _columns(contents, 4)]
    lengths = ([each.chunk.length, each.chunk.records, len(each.topics)] for each in contents)
    parts.append(np.array(list(lengths), "<u4").reshape(-1, 3).T.tobytes())
    parts += [np.array(entries, "<u4").tobytes(), np.array([len(name) for name in names], "<u2").tobytes(), *names]
    return b"".join(parts)


def _columns(contents: Sequence[Contents], count: int) -> list[list[int]]:
    rows = [(each.chunk.position, each.chunk.offset, each.first_ns, each.last_ns) for each in contents]
    return [[row[nth] for row in rows] for nth in range(count)]


def parse_table(table: bytes, end: int) -> Index:
    """Return the index that a table holds; ValueError where it is none. ``end`` is the segment's end offset."""
    if len(table) < COUNTS.size:
        raise ValueError("a table of chunks that is cut short")
    chunks, topics, entries = COUNTS.unpack_from(table)
    at = COUNTS.size
    columns: list[NDArray[np.unsignedinteger]] = []
    for kind, count in ("<u8", chunks * 4), ("<u4", chunks * 3), ("<u4", entries), ("<u2", topics):
        # numpy says itself, by a ValueError, that there are not so many bytes.
        columns.append(np.frombuffer(table, kind, count, at))
        at += columns[-1].nbytes
    wide, narrow, entry_topic, lengths = columns
    position, offset, first_ns, last_ns = wide.reshape(4, chunks)
    length, records, per_chunk = narrow.reshape(3, chunks)
    ends = at + np.cumsum(lengths, dtype=np.int64)
    if per_chunk.sum() != entries or (entries and entry_topic.max() >= topics) or (topics and ends[-1] != len(table)):
        raise ValueError("a table of chunks that contradicts itself")
    begins = ends - lengths
    # Copies: no view is to hold the whole table.
    return Index(
        places=np.stack((position, offset, length, records), axis=1),
        first_ns=first_ns.astype(np.uint64),
        last_ns=last_ns.astype(np.uint64),
        topics=tuple(intern(table[b:e].decode()) for b, e in zip(begins.tolist(), ends.tolist(), strict=True)),
        per_chunk=per_chunk.astype(np.min_scalar_type(topics)),
        entry_topic=entry_topic.astype(np.min_scalar_type(topics)),
        end=end,
    )

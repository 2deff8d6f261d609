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

A sealed segment is compressed in the background, into the form that ``store.journal.chunks`` describes, and replaced
by it at one stroke. Offsets and records stay what they are.

    writing ─────────► records, segments, ballast        append and make durable, seal, forget
    compressing ─────► chunks                            sealed segments become smaller and get an index
    reading ─► scanning ─► compressed, resync, repair,   frames by offset, topic and time; what is damaged,
                           tails                         and what is but torn
"""

from store.journal.ballast import Ballast
from store.journal.compressing import Compressor
from store.journal.frames import Frame, FrameTable
from store.journal.reading import first_frame, read
from store.journal.records import (
    COVERED,
    CRC,
    CRC_BYTES,
    DUPLICATE,
    LOW,
    MAX_BODY,
    RECORD,
    RETAINED,
    Damage,
    Encoded,
    JournalError,
    JournalFullError,
    encode,
    lay_out,
)
from store.journal.scanning import SegmentScan
from store.journal.segments import HEADER, MAGIC, SUFFIX, VERSION, Segment, list_segments
from store.journal.selection import EVERYTHING, Selection
from store.journal.writing import JournalConfig, JournalWriter

__all__ = [
    "COVERED",
    "CRC",
    "CRC_BYTES",
    "DUPLICATE",
    "EVERYTHING",
    "HEADER",
    "LOW",
    "MAGIC",
    "MAX_BODY",
    "RECORD",
    "RETAINED",
    "SUFFIX",
    "VERSION",
    "Ballast",
    "Compressor",
    "Damage",
    "Encoded",
    "Frame",
    "FrameTable",
    "JournalConfig",
    "JournalError",
    "JournalFullError",
    "JournalWriter",
    "Segment",
    "SegmentScan",
    "Selection",
    "encode",
    "first_frame",
    "lay_out",
    "list_segments",
    "read",
]

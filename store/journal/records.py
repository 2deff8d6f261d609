"""Records: one frame each, in the bytes that the journal keeps."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

RECORD: Final = struct.Struct("<IIQIHBB")
COVERED: Final = struct.Struct("<IQIHBB")
"""The record header after its checksum."""
CRC: Final = struct.Struct("<I")
CRC_BYTES: Final = CRC.size
LOW: Final = 0xFFFF_FFFF
MAX_BODY: Final = 268_500_000
"""Largest body, bytes: MQTT's largest packet and a topic."""

DUPLICATE: Final = 4
RETAINED: Final = 8
FLAGS: Final = 3 | DUPLICATE | RETAINED
"""Every flag that a record may carry."""


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


class Damage(NamedTuple):
    """A stretch of a segment that holds no intact record, between records that are."""

    path: Path
    offset: int
    length: int


class Encoded(NamedTuple):
    """A batch of frames with their places, and the bytes to write there."""

    frames: list[Frame]
    blob: bytes


def encode(start: int, recv_ts: int, epoch: int, messages: Iterable[tuple[str, bytes, int]]) -> Encoded:
    """Lay out messages (topic, payload, flags) as records from offset ``start`` on."""
    frames: list[Frame] = []
    parts: list[bytes] = []
    offset, size = start, RECORD.size
    # Written for speed: every message passes here. A named tuple made without its constructor takes a third of it.
    pack, crc, crc_pack = COVERED.pack, google_crc32c.value, CRC.pack
    new, write, add = tuple.__new__, parts.append, frames.append
    for topic, payload, flags in messages:
        name = topic.encode()
        length = len(name) + len(payload)
        covered = pack(length, recv_ts, epoch, len(name), flags, 0) + name + payload
        write(crc_pack(crc(covered) ^ (offset & LOW)))
        write(covered)
        add(new(Frame, (offset, recv_ts, epoch, flags, topic, payload)))
        offset += size + length
    return Encoded(frames, b"".join(parts))

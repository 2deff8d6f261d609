"""Records: one frame each, in the bytes that the journal keeps."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from devices.columns import Ints
from devices.octets import cut
from store.journal.frames import Frame, FrameTable

RECORD: Final = struct.Struct("<IIQIHBB")
COVERED: Final = struct.Struct("<IQIHBB")
"""The record header after its checksum."""
HEAD: Final = np.dtype(
    [
        ("crc", "<u4"),
        ("body", "<u4"),
        ("recv_ts", "<u8"),
        ("epoch", "<u4"),
        ("name_bytes", "<u2"),
        ("flags", "u1"),
        ("", "u1"),
    ]
)
"""``RECORD`` as numpy has it."""
CRC: Final = struct.Struct("<I")
CRC_BYTES: Final = CRC.size
LOW: Final = 0xFFFF_FFFF
LARGE: Final = 4_096
"""Records of so many bytes, on the average, take longer to copy than to be looked at one by one."""
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


class Damage(NamedTuple):
    """A stretch of a segment that holds no intact record, between records that are."""

    path: Path
    offset: int
    length: int


class Encoded(NamedTuple):
    """A batch of frames with their places, and the bytes to write there."""

    frames: list[Frame]
    blob: bytes


class LaidOut(NamedTuple):
    """What :class:`Encoded` holds, the frames as columns."""

    frames: FrameTable
    blob: bytes | bytearray


def encode(start: int, recv_ts: int, epoch: int, messages: Iterable[tuple[str, bytes, int]]) -> Encoded:
    """Lay out messages (topic, payload, flags) as records from offset ``start`` on."""
    topics, payloads, flags = zip(*messages, strict=True)
    frames, blob = lay_out(start, recv_ts, epoch, topics, payloads, np.array(flags, np.int64))
    return Encoded(list(frames), bytes(blob))


def lay_out(
    start: int, recv_ts: int, epoch: int, topics: Sequence[str], payloads: Sequence[bytes], flags: Ints
) -> LaidOut:
    """Lay out n ≥ 1 messages as records from offset ``start`` on, as columns: every message passes here."""
    count = len(topics)
    names = list(map(str.encode, topics))
    name_bytes = np.fromiter(map(len, names), np.int64, count)
    body = name_bytes + np.fromiter(map(len, payloads), np.int64, count)
    end = np.cumsum(body + RECORD.size)
    begin = end - body - RECORD.size
    place = start + begin
    heads = np.zeros(count, HEAD)
    heads["body"], heads["recv_ts"], heads["epoch"] = body, recv_ts, epoch
    heads["name_bytes"], heads["flags"] = name_bytes, flags
    frames = FrameTable(place, np.full(count, recv_ts), np.full(count, epoch), flags, topics, payloads)
    large = end[-1] >= LARGE * count
    if not large and (name_bytes == name_bytes[0]).all() and (body == body[0]).all():
        return LaidOut(frames, _side_by_side(heads, names, payloads, place))
    parts: list[bytes] = [b""] * (3 * count)
    parts[0::3], parts[1::3], parts[2::3] = heads.view(f"V{RECORD.size}").tolist(), names, payloads
    blob: bytes | bytearray
    if large:
        # Copied once only, with its checksum in it.
        heads["crc"] = _checksums_of_parts(parts) ^ (place & LOW)
        parts[0::3] = heads.view(f"V{RECORD.size}").tolist()
        blob = b"".join(parts)
    else:
        blob = _with_checksums(b"".join(parts), begin, end, place)
    return LaidOut(frames, blob)


def _side_by_side(heads: NDArray[np.void], names: Sequence[bytes], payloads: Sequence[bytes], place: Ints) -> bytearray:
    """Return records whose names are of one length, and so are their payloads: each part is one column of a table."""
    count, size = len(heads), RECORD.size + len(names[0]) + len(payloads[0])
    blob, at = bytearray(count * size), 0
    for data in (heads.tobytes(), b"".join(names), b"".join(payloads)):
        if width := len(data) // count:
            np.ndarray((count,), f"V{width}", blob, at, (size,))[:] = np.frombuffer(data, f"V{width}")
            at += width
    covered = np.ndarray((count,), f"V{size - CRC_BYTES}", blob, CRC_BYTES, (size,)).tolist()
    checksums = np.fromiter(map(google_crc32c.value, covered), np.int64, count) ^ (place & LOW)
    np.ndarray((count,), "<u4", blob, 0, (size,))[:] = checksums
    return blob


def _checksums_of_parts(parts: Sequence[bytes]) -> Ints:
    """Return the checksums of records given as head, name and payload each, their places not in them."""
    value, extend = google_crc32c.value, google_crc32c.extend
    heads, names, payloads = parts[0::3], parts[1::3], parts[2::3]
    found = [
        extend(value(head[CRC_BYTES:] + name), payload)
        for head, name, payload in zip(heads, names, payloads, strict=True)
    ]
    return np.array(found, np.int64)


def _with_checksums(bare: bytes, begin: Ints, end: Ints, place: Ints) -> bytearray:
    """Put the checksums into records that lie one behind another from ``begin`` up to ``end``."""
    covered = cut(bare, begin + CRC_BYTES, end)
    checksums = np.fromiter(map(google_crc32c.value, covered), np.int64, len(begin)) ^ (place & LOW)
    blob = bytearray(bare)
    octets = np.frombuffer(blob, np.uint8)
    octets[begin[:, None] + np.arange(CRC_BYTES)] = checksums.astype("<u4").view(np.uint8).reshape(-1, CRC_BYTES)
    return blob

"""Finding the way again: where the next intact record begins after damaged bytes."""

from typing import Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.journal.records import CRC_BYTES, FLAGS, LOW, RECORD

CHUNK: Final = 1 << 20
"""Positions looked at together."""
BODY_AT: Final = 4
NAME_AT: Final = 20
FLAGS_AT: Final = 22
ZERO_AT: Final = 23
TOPIC_HEAD: Final = 8
"""How many bytes of a topic are looked at for many positions at once."""

_MAY_BEGIN_TOPIC: Final[NDArray[np.bool_]] = np.array(
    # UTF-8: neither NUL, which MQTT forbids, nor a byte that continues a character or never occurs.
    [0 < byte < 0x80 or 0xC2 <= byte <= 0xF4 for byte in range(256)]  # noqa: PLR2004 - UTF-8's own limits
)


def next_record(data: bytes, base: int, position: int) -> int:
    """Return where the first intact record with a topic begins at or after ``position``, or -1 if there is none.

    ``base`` is the offset of ``data``'s first byte. What cannot be the head of a record is ruled out for many positions
    at once; only what is left is checked byte by byte, so that megabytes of rubbish cost a fraction of a second.
    """
    crc = google_crc32c.value
    last = len(data) - RECORD.size
    for first in range(position, last + 1, CHUNK):
        for candidate in _candidates(data, first, min(first + CHUNK, last + 1)).tolist():
            checksum, body, _, _, name, _, _ = RECORD.unpack_from(data, candidate)
            at = candidate + RECORD.size
            if not _is_topic(data[at : at + name]):
                continue
            if crc(data[candidate + CRC_BYTES : at + body]) ^ ((base + candidate) & LOW) == checksum:
                return int(candidate)
    return -1


def _candidates(data: bytes, first: int, end: int) -> NDArray[np.intp]:
    """Return the positions in [first, end) at which the head of a record may stand, all of whose bytes are there."""
    count = end - first
    octets = np.frombuffer(data, np.uint8, min(count + RECORD.size, len(data) - first), first)
    near = (octets[ZERO_AT : ZERO_AT + count] == 0) & (octets[FLAGS_AT : FLAGS_AT + count] & ~np.uint8(FLAGS) == 0)
    at = np.flatnonzero(near)
    name = _little_endian(octets, at + NAME_AT, 2)
    body = _little_endian(octets, at + BODY_AT, 4)
    room = len(data) - first - RECORD.size - at
    fits = (name > 0) & (name <= body) & (body <= room)
    found, name = first + at[fits], name[fits]
    every = np.frombuffer(data, np.uint8)
    likely = _MAY_BEGIN_TOPIC[every[found + RECORD.size]]
    for nth in range(1, TOPIC_HEAD):
        found, name = found[likely], name[likely]
        likely = (name <= nth) | (every[np.minimum(found + RECORD.size + nth, len(every) - 1)] != 0)
    return found[likely]


def _little_endian(octets: NDArray[np.uint8], at: NDArray[np.intp], size: int) -> NDArray[np.int64]:
    """Return the unsigned numbers of ``size`` bytes that begin at ``at``, which need not be aligned."""
    number = octets[at].astype(np.int64)
    for nth in range(1, size):
        number |= octets[at + nth].astype(np.int64) << (8 * nth)
    return number


def _is_topic(name: bytes) -> bool:
    """Tell whether bytes may be a topic: UTF-8 without NUL."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return 0 not in name

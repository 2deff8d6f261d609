"""What stands behind the last intact record: a write that a crash cut short, or a record that was whole and is damaged.

Nothing of the first was acknowledged, and it goes. The second may have been: it stays where it is, and is reported. A
process that dies leaves the beginning of a batch; a disk without power may leave zeros for what it did not write any
more. So a record is damaged, not torn, if it ends within the file and not in zeros. Where one bit alone is wrong, the
checksum tells so, whichever it is, even one of the record's length.
"""

from typing import Final

import google_crc32c

from store.journal.records import CRC_BYTES, FLAGS, LOW, MAX_BODY, RECORD
from store.journal.repair import with_bit_put_right

LOOKED_AT: Final = 1 << 18
"""Tails up to this size are looked through for a single wrong bit, bytes: half a second."""


def is_damaged_record(tail: bytes, offset: int) -> bool:
    """Tell whether the end of a segment, which lies at ``offset``, is a record that was written as a whole."""
    if len(tail) < RECORD.size:
        return False
    if len(tail) <= LOOKED_AT and _is_one_bit_wrong(tail, offset):
        return True
    return tail[-1] != 0 and _is_head(tail)


def _is_one_bit_wrong(tail: bytes, offset: int) -> bool:
    """Tell whether the tail is one record but for a single bit."""
    checksum = int.from_bytes(tail[:CRC_BYTES], "little") ^ (offset & LOW)
    if (google_crc32c.value(tail[CRC_BYTES:]) ^ checksum).bit_count() == 1:
        return _is_head(tail)
    right = with_bit_put_right(tail[CRC_BYTES:], checksum)
    return right is not None and _is_head(tail[:CRC_BYTES] + right)


def _is_head(tail: bytes) -> bool:
    """Tell whether the bytes begin with the head of a record that ends within them."""
    _, body, _, _, name, flags, zero = RECORD.unpack_from(tail)
    return 0 < name <= body <= min(MAX_BODY, len(tail) - RECORD.size) and not flags & ~FLAGS and not zero

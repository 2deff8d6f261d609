"""Hashes of the frames that a device sent last, for those that carry no sequence.

Thousands of devices fill theirs: behind each other hashes take a tenth of what a table of them does, and to look
through all of them takes a few microseconds. A checkpoint keeps those that are complete in blocks, so that a frame has
the newest written again and not all.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

MAX_HASHES: Final = 1_024
"""Payload hashes remembered per device that sends no sequence."""
HASH_BYTES: Final = 8
"""Bytes of a hash that are remembered: by chance two of a thousand agree in one frame of 10¹⁶."""
PER_BLOCK: Final = 128
"""Hashes that a checkpoint keeps together."""
SLOTS: Final = MAX_HASHES // PER_BLOCK + 2
"""Places for blocks, taken in turn: as many as are ever needed at the same time."""


class Kept(NamedTuple):
    """Hashes as a checkpoint keeps them; they are numbered from the first that was ever seen."""

    tail: bytes
    """Those that are in no block."""
    first: int
    """Number of the oldest."""
    in_blocks: int
    """How many of the oldest are in blocks."""


class RecentHashes:
    """The hashes seen last, the oldest first."""

    __slots__ = ("_first", "_hashes", "_kept")

    def __init__(self, kept: Kept | None = None, blocks: Mapping[int, bytes] | None = None) -> None:
        """Start empty, or from what :meth:`take` gave: the last of each slot."""
        tail, self._first, in_blocks = kept or Kept(b"", 0, 0)
        self._kept = self._first + in_blocks
        """Number of the first that may differ from what rests in blocks."""
        self._hashes = bytearray()
        for number in range(self._first // PER_BLOCK, self._kept // PER_BLOCK):
            end = (number + 1) * PER_BLOCK
            # The block may hold some before the oldest.
            live = end - max(number * PER_BLOCK, self._first)
            self._hashes += (blocks or {})[number % SLOTS][-live * HASH_BYTES :]
        self._hashes += tail

    def __bytes__(self) -> bytes:
        """Return all hashes behind each other."""
        return bytes(self._hashes)

    def see(self, digest: bytes) -> bool:
        """Note a hash as the newest and tell whether it was there."""
        wanted, hashes = digest[-HASH_BYTES:], self._hashes
        at = place_of(wanted, hashes)
        if at >= 0:
            del hashes[at : at + HASH_BYTES]
            self._kept = min(self._kept, self._first + at // HASH_BYTES)
        hashes += wanted
        if len(hashes) > MAX_HASHES * HASH_BYTES:
            del hashes[:HASH_BYTES]
            self._first += 1
        return at >= 0

    def take(self) -> tuple[Kept, dict[int, bytes]]:
        """Return what a checkpoint keeps, and the blocks that changed since the last call by the slots they go to."""
        first, end = self._first, self._first + len(self._hashes) // HASH_BYTES
        sealed = end - end % PER_BLOCK
        blocks = {
            number % SLOTS: self._between(max(number * PER_BLOCK, first), (number + 1) * PER_BLOCK)
            for number in range(max(self._kept, first) // PER_BLOCK, sealed // PER_BLOCK)
        }
        self._kept = sealed
        return Kept(self._between(max(sealed, first), end), first, max(sealed - first, 0)), blocks

    def _between(self, start: int, end: int) -> bytes:
        return bytes(self._hashes[(start - self._first) * HASH_BYTES : (end - self._first) * HASH_BYTES])


def place_of(wanted: bytes, hashes: bytearray) -> int:
    """Return where one of several of the same length lies among them, -1 if it does not."""
    at = hashes.find(wanted)
    while at % len(wanted) and at >= 0:
        # The end of one and the beginning of the next.
        at = hashes.find(wanted, at + 1)
    return at

"""Hashes of the frames that a device sent last, for those that carry no sequence.

Thousands of devices fill theirs, so they lie behind each other without a table, and those that rest in a checkpoint
are remembered by six of their eight bytes:

    seen ──► tail, whole ──when a checkpoint is taken, 128 at a time──► blocks, whole, in the checkpoint
                                                                  └───► short, in memory

A block never changes, so a frame has the newest hashes written again and not all.

A hash is of what was said and when. So a frame from a later time than all before it is new, and nothing is looked up
for it: most frames of a device that are not sent again are. One from an earlier time is looked for, and by chance one
of 10¹¹ of those that are new agrees in six bytes with one of a thousand others, and is taken for a repetition.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

MAX_HASHES: Final = 1_024
"""Payload hashes remembered per device that sends no sequence."""
HASH_BYTES: Final = 8
"""Bytes of a hash in a checkpoint, and in memory until it is in a block there."""
SHORT_BYTES: Final = 6
"""Bytes of a hash in memory from then on, its last ones."""
PER_BLOCK: Final = 128
"""Hashes that a checkpoint keeps together."""
SLOTS: Final = MAX_HASHES // PER_BLOCK + 2
"""Places for blocks, taken in turn: as many as are ever needed at the same time."""
NEVER: Final = -1
"""Before all times …"""
LATEST: Final = 2**63 - 1
"""… and the last one that a checkpoint has room for, ns UTC."""


class Kept(NamedTuple):
    """Hashes as a checkpoint keeps them; they are numbered from the first that was ever seen."""

    tail: bytes
    """Those that are in no block."""
    first: int
    """Number of the oldest."""
    in_blocks: int
    """How many of the oldest are in blocks."""
    newest: int = NEVER
    """The latest time that a frame had, ns UTC; of a checkpoint of before it was kept, :data:`NEVER` …"""
    since: int = 0
    """… among those from this number on."""


class RecentHashes:
    """The hashes seen last, the oldest first.

    A frame is recognised among the 1,024 that came last. One that comes again when it is among the older half of them
    counts as coming last, so each is recognised while no more than 512 others have come since it was last there.
    """

    __slots__ = ("_first", "_newest", "_short", "_since", "_tail")

    def __init__(self, kept: Kept | None = None, blocks: Mapping[int, bytes] | None = None) -> None:
        """Start empty, or from what :meth:`take` gave: the last of each slot."""
        tail, self._first, in_blocks, self._newest, self._since = kept or Kept(b"", 0, 0)
        sealed = self._first + in_blocks
        some = b"".join((blocks or {})[nth % SLOTS] for nth in range(self._first // PER_BLOCK, sealed // PER_BLOCK))
        # The first block may hold some before the oldest.
        self._short = bytearray(_shortened(some[len(some) - in_blocks * HASH_BYTES :]))
        self._tail = bytearray(tail)
        if self._newest == NEVER:
            self._since = sealed + len(tail) // HASH_BYTES

    def __bytes__(self) -> bytes:
        """Return all hashes behind each other, each by the bytes that are remembered longest."""
        return bytes(self._short) + _shortened(self._tail)

    def see(self, digest: bytes, at: int | None = None) -> bool:
        """Note a hash as the newest and tell whether it was there.

        ``at``: the time that is part of what was hashed, ns UTC, None where there is none.
        """
        wanted = digest[-HASH_BYTES:]
        if at is not None and self._newest < at <= LATEST:
            self._newest = at
            if self._first >= self._since:
                self._note(wanted)
                return False
        behind = self._behind(wanted)
        if behind < 0 or behind > MAX_HASHES // 2:
            self._note(wanted)
        return behind >= 0

    def take(self) -> tuple[Kept, dict[int, bytes]]:
        """Return what a checkpoint keeps, and the blocks that are new since the last call by the slots they go to."""
        begin = self._first + len(self._short) // SHORT_BYTES
        end = begin + len(self._tail) // HASH_BYTES
        sealed = max(end - end % PER_BLOCK, begin)
        blocks = {}
        for nth in range(begin // PER_BLOCK, sealed // PER_BLOCK):
            since, until = max(nth * PER_BLOCK, begin) - begin, (nth + 1) * PER_BLOCK - begin
            blocks[nth % SLOTS] = bytes(self._tail[since * HASH_BYTES : until * HASH_BYTES])
        if blocks:
            # Made anew, each takes no more than it has: what grows in place is given more by the system.
            self._short = bytearray(bytes(self._short) + b"".join(map(_shortened, blocks.values())))
            self._tail = bytearray(bytes(self._tail[(sealed - begin) * HASH_BYTES :]))
        return Kept(bytes(self._tail), self._first, sealed - self._first, self._newest, self._since), blocks

    def _behind(self, wanted: bytes) -> int:
        """Return how many hashes from the end the last one lies that is the same, from 1 on; -1 where none is."""
        at = place_of(wanted, self._tail)
        if at >= 0:
            return (len(self._tail) - at) // HASH_BYTES
        at = place_of(wanted[-SHORT_BYTES:], self._short)
        if at >= 0:
            return len(self._tail) // HASH_BYTES + (len(self._short) - at) // SHORT_BYTES
        return -1

    def _note(self, wanted: bytes) -> None:
        self._tail += wanted
        if len(self._short) // SHORT_BYTES + len(self._tail) // HASH_BYTES > MAX_HASHES:
            if self._short:
                del self._short[:SHORT_BYTES]
            else:
                del self._tail[:HASH_BYTES]
            self._first += 1


def place_of(wanted: bytes, hashes: bytearray) -> int:
    """Return where one of several of the same length lies among them, the last place; -1 if it does not."""
    at = hashes.rfind(wanted)
    while at % len(wanted) and at >= 0:
        # The end of one and the beginning of the next.
        at = hashes.rfind(wanted, 0, at + len(wanted) - 1)
    return at


def _shortened(block: bytes | bytearray) -> bytes:
    """Return of hashes behind each other the bytes by which they are remembered."""
    return np.frombuffer(block, np.uint8).reshape(-1, HASH_BYTES)[:, -SHORT_BYTES:].tobytes()

"""Layouts by length: frames that are as long as each other mostly differ in nothing but numbers.

    frames of a length ─► a layout known ─► those that it reads
                └► the others ─► the next one known ─► …
                        └► none left ─► one more, found in the first of them

What a layout is and which frames it reads is for whoever asks; here is which are tried and in which order, and how many
are remembered.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np

from devices.columns import Bools, Ints

FEW: Final = 8
"""Fewer frames of a length than this are not read: to take them one by one costs less."""
PER_LENGTH: Final = 4
LENGTHS: Final = 256
"""Lengths of which layouts are remembered; with more, all are forgotten."""
LONGEST: Final = 1 << 18
"""Frames longer than this are not read, bytes."""

Layout = TypeVar("Layout")


class Layouts(Generic[Layout]):
    """The layouts that frames have had."""

    def __init__(self, find: Callable[[bytes], Layout | None]) -> None:
        """``find`` gives the layout of a frame, None where it has none."""
        self._find = find
        self._known: dict[int, list[Layout]] = {}

    def forget(self) -> None:
        """Find each layout anew."""
        self._known.clear()

    def read(
        self,
        frames: Sequence[bytes],
        take: Callable[[Layout, Ints, bytes], Bools],
        offered: Bools | None = None,
    ) -> None:
        """Offer frames to their layouts, or those of them under a mask (n,).

        ``take`` is given a layout, the places (k,) of frames that may have it, and these frames behind each other; it
        tells which of them it takes (k,). The others are offered to the next layout.
        """
        lengths = np.fromiter(map(len, frames), np.int64, len(frames))
        if offered is not None:
            lengths[~offered] = LONGEST + 1
        sizes, times = np.unique(lengths, return_counts=True)
        for size in sizes[(times >= FEW) & (sizes <= LONGEST)].tolist():
            self._read_length(frames, np.flatnonzero(lengths == size), take)

    def _read_length(self, frames: Sequence[bytes], at: Ints, take: Callable[[Layout, Ints, bytes], Bools]) -> None:
        """Offer frames of one length, which are at ``at`` (n,)."""
        known = self._of_length(len(frames[at[0]]))
        tried = 0
        while len(at) >= FEW and tried < PER_LENGTH:
            if tried == len(known):
                found = self._find(frames[at[0]])
                if found is None:
                    return
                known.append(found)
            some = frames if len(at) == len(frames) else [frames[nth] for nth in at.tolist()]
            at = at[~take(known[tried], at, b"".join(some))]
            tried += 1
        if len(at) >= FEW:
            # None of those that are remembered: room for others.
            del known[0]

    def _of_length(self, size: int) -> list[Layout]:
        if size not in self._known and len(self._known) >= LENGTHS:
            self._known.clear()
        return self._known.setdefault(size, [])

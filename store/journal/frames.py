"""Frames: what the journal holds, one by one and as columns."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from devices.columns import Bools, Ints
from devices.tables import Table


class Frame(NamedTuple):
    """One message as it came off the wire; times in ns UTC."""

    offset: int
    """Where its record begins."""
    recv_ts: int
    epoch: int
    flags: int
    topic: str
    payload: bytes


class FrameTable(Table[Frame]):
    """Frames as columns, for most are taken together; one is made a :class:`Frame` where it is looked at by itself."""

    def __init__(
        self,
        offset: Ints,
        recv_ts: Ints,
        epoch: Ints,
        flags: Ints,
        topics: Sequence[str],
        payloads: Sequence[bytes],
    ) -> None:
        """Take the columns as they are, all of n frames."""
        self._numbers = offset, recv_ts, epoch, flags
        self.topics = topics
        self.payloads = payloads

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "FrameTable":
        """Return frames as a table, which they may be already."""
        if isinstance(frames, FrameTable):
            return frames
        offset, recv_ts, epoch, flags, topics, payloads = zip(*frames, strict=True) if frames else ((),) * 6
        numbers = np.array((offset, recv_ts, epoch, flags), np.int64)
        return cls(numbers[0], numbers[1], numbers[2], numbers[3], topics, payloads)

    @property
    def offset(self) -> Ints:
        """Where their records begin, (n,)."""
        return self._numbers[0]

    @property
    def recv_ts(self) -> Ints:
        """Times of receipt, ns UTC, (n,)."""
        return self._numbers[1]

    def __len__(self) -> int:
        """Return n."""
        return len(self.topics)

    def __iter__(self) -> Iterator[Frame]:
        """Make all of them, in a fraction of the time that one by one takes."""
        return map(Frame, *(column.tolist() for column in self._numbers), self.topics, self.payloads)

    def item(self, nth: int) -> Frame:
        """Return a frame."""
        offset, recv_ts, epoch, flags = (int(column[nth]) for column in self._numbers)
        return Frame(offset, recv_ts, epoch, flags, self.topics[nth], self.payloads[nth])

    def take(self, which: Bools | Ints) -> "FrameTable":
        """Return the frames under a mask or, in their order, at some places."""
        which = np.flatnonzero(which) if which.dtype == np.bool_ else which
        if len(which) == len(self) and (np.diff(which) == 1).all():
            return self
        places = which.tolist()
        offset, recv_ts, epoch, flags = (column[which] for column in self._numbers)
        topics, payloads = [self.topics[nth] for nth in places], [self.payloads[nth] for nth in places]
        return FrameTable(offset, recv_ts, epoch, flags, topics, payloads)

"""Frames: what the journal holds, one by one and as columns."""

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from devices.columns import Ints


class Frame(NamedTuple):
    """One message as it came off the wire; times in ns UTC."""

    offset: int
    """Where its record begins."""
    recv_ts: int
    epoch: int
    flags: int
    topic: str
    payload: bytes


class FrameTable(Sequence[Frame]):
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
        self._made: dict[int, Frame] = {}
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
    def recv_ts(self) -> Ints:
        """Times of receipt, ns UTC, (n,)."""
        return self._numbers[1]

    def __len__(self) -> int:
        """Return n."""
        return len(self.topics)

    @overload
    def __getitem__(self, at: int) -> Frame: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Frame]: ...
    def __getitem__(self, at: int | slice) -> Frame | Sequence[Frame]:
        """Return a frame, the same object each time, or a list of some."""
        if isinstance(at, slice):
            return [self[nth] for nth in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        frame = self._made.get(at)
        if frame is None:
            offset, recv_ts, epoch, flags = (int(column[at]) for column in self._numbers)
            frame = self._made[at] = Frame(offset, recv_ts, epoch, flags, self.topics[at], self.payloads[at])
        return frame

    def take(self, which: Ints) -> "FrameTable":
        """Return the frames at some places, in the order of these."""
        if len(which) == len(self) and (np.diff(which) == 1).all():
            return self
        places = which.tolist()
        offset, recv_ts, epoch, flags = (column[which] for column in self._numbers)
        topics, payloads = [self.topics[nth] for nth in places], [self.payloads[nth] for nth in places]
        return FrameTable(offset, recv_ts, epoch, flags, topics, payloads)

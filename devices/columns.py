"""Samples as columns: what every codec fills and every window reads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of samples, one array per property, all of shape (n,) and dtype int64.

    ``device``: index of the device in the worker's table. ``metric``: index into ``devices.vocabulary.METRICS``.
    ``ts``: event time, ns UTC. ``seq``: the frame's sequence number, which breaks ties in time.
    ``value``: the scaled value, ``rint(value / resolution)``.
    """

    device: Ints
    metric: Ints
    ts: Ints
    seq: Ints
    value: Ints

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ts)

    def take(self, which: Bools | Ints) -> "Columns":
        """Return the samples selected by a mask or by positions."""
        # Five columns: the mask is turned into positions once.
        which = np.flatnonzero(which) if which.dtype == np.bool_ else which
        return Columns(self.device[which], self.metric[which], self.ts[which], self.seq[which], self.value[which])

    @classmethod
    def empty(cls) -> Self:
        """Return columns without samples."""
        return cls(*(np.empty(0, np.int64) for _ in fields(cls)))

    @classmethod
    def concatenate(cls, parts: "Sequence[Columns]") -> Self:
        """Return the samples of ``parts`` one after another."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

"""Window rows on their way to the store, in the narrowest integers that hold them.

Between a snapshot and the end of its transaction the rows of a whole commit exist at once: those of every tier, for a
hundred thousand series, at 120 bytes a row. Most of their columns are small numbers. They are packed tier by tier as
they become final, a window is told by its number, and a reader gets them back as :class:`WindowRows` in lots.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analytics.histograms import Packed
from analytics.rows import SeriesKey, WindowRows
from devices.columns import Bools, Ints
from devices.times import NS

LOT: Final = 1 << 13
"""Rows that are packed together: enough that numpy's cost per call does not count."""

_WIDTHS: Final = tuple((dtype, np.iinfo(dtype).min, np.iinfo(dtype).max) for dtype in (np.int8, np.int16, np.int32))
_PACKED: Final = tuple(name for name in WindowRows.columns() if name != "tier_s")

Narrow = NDArray[np.signedinteger]
"""Integers of 8, 16, 32 or 64 bits."""


class Unfolded(NamedTuple):
    """Rows of wider tiers that a store has to fold itself, of those of the tier below that have the same epoch."""

    epoch: int
    since: Mapping[int, int]
    """Width of the tier in seconds → start of the first window concerned, ns UTC. Other tiers are complete."""


class PackedRows:
    """Window rows of one worker, by tier. Rows are only added, and reading them changes nothing that can be read."""

    __slots__ = ("_bins", "_loose", "_loose_rows", "_packed", "_rows", "keys", "unfolded", "worker")

    def __init__(self, keys: Sequence[SeriesKey], worker: str) -> None:
        """Begin without rows; ``keys`` is the table that the series of the rows index."""
        self.keys = keys
        self.worker = worker
        self.unfolded: Unfolded | None = None
        """What is missing and follows from the rows of narrower tiers, once all of the worker's changes are here."""
        self._loose: dict[int, list[WindowRows]] = {}
        self._loose_rows: dict[int, int] = {}
        self._packed: dict[int, list[dict[str, Narrow]]] = {}
        self._rows: dict[int, int] = {}
        self._bins: dict[int, list[Packed | None]] = {}
        """By tier: the histograms of each lot that was packed, None where it has none."""

    @classmethod
    def of(cls, rows: WindowRows) -> Self:
        """Pack rows of any tiers."""
        packed = cls(rows.keys, rows.worker)
        for tier_s in np.unique(rows.tier_s).tolist():
            packed.add(tier_s, rows.take(rows.tier_s == tier_s))
        return packed

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(self._rows.values())

    @property
    def tiers(self) -> list[int]:
        """Return the widths in seconds of the tiers that have rows, the narrowest first."""
        return sorted(self._rows)

    def add(self, tier_s: int, rows: WindowRows) -> None:
        """Add rows that are all of one tier and of the same ``keys`` and worker; their arrays may be kept."""
        if not len(rows):
            return
        self._rows[tier_s] = self._rows.get(tier_s, 0) + len(rows)
        self._loose.setdefault(tier_s, []).append(rows)
        self._loose_rows[tier_s] = self._loose_rows.get(tier_s, 0) + len(rows)
        if self._loose_rows[tier_s] >= LOT:
            self._pack(tier_s)

    def narrow(self, tier_s: int, name: str) -> Narrow:
        """Return a column of one tier as it is packed, not to be written to; ``window`` is the window's number."""
        return self._joined(tier_s)[name]

    def set_bins(self, tier_s: int, bins: Packed) -> None:
        """Give all rows of one tier their histograms, in the order in which the rows were added."""
        self._joined(tier_s)
        self._bins[tier_s] = [bins]

    def take(self, tier_s: int, which: Bools | Ints | slice) -> WindowRows:
        """Return the rows of one tier selected by a mask, by positions or by a slice."""
        columns: dict[str, Ints] = {
            name: column[which].astype(np.int64) for name, column in self._joined(tier_s).items()
        }
        columns["window"] *= tier_s * NS
        columns["tier_s"] = np.full(len(columns["window"]), tier_s, np.int64)
        (bins,) = self._bins[tier_s]
        some = None if bins is None else bins[which]
        return WindowRows(self.keys, self.worker, *(columns[name] for name in WindowRows.columns()), bins=some)

    def whole(self) -> WindowRows:
        """Return all rows, tier after tier, in the order in which they were added."""
        if not self._rows:
            return WindowRows.empty(self.keys, self.worker)
        return WindowRows.concatenate([self.take(tier_s, slice(None)) for tier_s in self.tiers])

    def _pack(self, tier_s: int) -> None:
        loose, self._loose_rows[tier_s] = self._loose.pop(tier_s), 0
        rows = WindowRows.concatenate(loose) if len(loose) > 1 else loose[0]
        columns = {name: getattr(rows, name) for name in _PACKED}
        columns["window"] = columns["window"] // (tier_s * NS)
        self._bins.setdefault(tier_s, []).append(rows.bins)
        self._packed.setdefault(tier_s, []).append({name: _narrowed(column) for name, column in columns.items()})

    def _joined(self, tier_s: int) -> dict[str, Narrow]:
        """Return the columns of one tier, joined for good."""
        if tier_s in self._loose:
            self._pack(tier_s)
        parts = self._packed[tier_s]
        if len(parts) > 1:
            bins = list(zip(self._bins[tier_s], [len(part["series"]) for part in parts], strict=True))
            if any(each is not None for each, _ in bins):
                every = [np.full(rows, b"", np.object_) if each is None else each for each, rows in bins]
                self._bins[tier_s] = [np.concatenate(every)]
            else:
                self._bins[tier_s] = [None]
            # Column by column, so that only one exists twice.
            self._packed[tier_s] = [{name: np.concatenate([part.pop(name) for part in parts]) for name in _PACKED}]
        return self._packed[tier_s][0]


def whole(rows: WindowRows | PackedRows) -> WindowRows:
    """Return rows as columns of int64, packed or not."""
    return rows.whole() if isinstance(rows, PackedRows) else rows


def _narrowed(column: Ints) -> Narrow:
    """Return a copy of integers (n ≥ 1,) in the narrowest type that holds them all."""
    least, greatest = int(column.min()), int(column.max())
    for dtype, low, high in _WIDTHS:
        if low <= least and greatest <= high:
            return column.astype(dtype)
    return column.copy()

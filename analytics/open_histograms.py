"""The histograms of windows that may still change, one table per tier, beside the cells of the window kernel.

Only metrics that have percentiles come here. What came since the last commit is kept as it came and joins the tables
when a commit takes its rows, so that samples cost no more than their bins. A histogram lives as long as its window's
cell, and a row gets all of it each time that it is written: the same replacing by key as of the other values.
"""

from collections.abc import Callable, Sequence
from typing import Final

from analytics.histograms import Binned, Histograms, Packed
from devices.columns import Bools, Ints

HELD: Final = 1 << 20
"""Entries since the last commit are summed when there are more of them than this."""
_WINDOW_BITS: Final = 31
"""Bits of a window's number: ten-second windows since 1970 reach 2**31 in the year 2650."""


class _Fresh:
    """Bins that came since the last commit."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._parts: list[Binned] = []
        self._held = 0
        self._most = HELD

    def add(self, binned: Binned) -> None:
        self._parts.append(binned)
        self._held += len(binned.bin)
        if self._held > self._most:
            summed = _binned(_histograms(Binned.concatenate(self._parts), self._width), self._width)
            # What does not sum up stays: it is as many entries, however they are kept. It is gone through again only
            # when as much has been added, so that the time for an entry does not grow with how many there are.
            self._parts, self._held, self._most = [summed], 0, max(HELD, len(summed.bin))

    def take(self) -> Binned | None:
        parts, self._parts, self._held, self._most = self._parts, [], 0, HELD
        return Binned.concatenate(parts) if parts else None


class OpenHistograms:
    """What the rows of cells and the late rows of one worker have as histograms."""

    def __init__(self, widths: Sequence[int]) -> None:
        """``widths`` of the tiers, ns, finest first."""
        self._widths = widths
        self._open = [Histograms.nothing() for _ in widths]
        self._fresh = _Fresh(widths[0])
        self._late = _Fresh(widths[0])

    def add(self, binned: Binned, late: Bools) -> None:
        """Add bins (n,) of windows of the finest tier; ``late`` marks those whose windows have no cell any more."""
        if late.any():
            self._late.add(binned.take(late))
            binned = binned.take(~late)
        if len(binned.bin):
            self._fresh.add(binned)

    def settle(self) -> None:
        """Let what came since the last commit join the tables."""
        fresh = self._fresh.take()
        if fresh is None:
            return
        for level, width in enumerate(self._widths):
            summed = _histograms(fresh, width)
            self._open[level] = self._open[level].plus(summed)
            # The windows of the next tier hold whole windows of this one.
            fresh = _binned(summed, width)

    def of_cells(self, level: int, series: Ints, window: Ints) -> Packed:
        """Return the histograms of cells (n,) of a tier, settled."""
        return self._open[level].packed(_place(series, window, self._widths[level]))

    def take_late(self) -> list[Histograms]:
        """Return the late histograms since the last call, for each tier: none or one for every tier."""
        late = self._late.take()
        return [] if late is None else [_histograms(late, width) for width in self._widths]

    def of_late(self, late: Histograms, level: int, series: Ints, window: Ints) -> Packed:
        """Return the histograms of late rows (n,) of a tier."""
        return late.packed(_place(series, window, self._widths[level]))

    def drop(self, is_open: Callable[[int, Ints, Ints], Bools]) -> None:
        """Forget the windows of which ``is_open`` (level, series, window) says that they have no cell any more."""
        for level, width in enumerate(self._widths):
            held = self._open[level]
            if len(held.key):
                series, window = _parts(held.place, width)
                keep = is_open(level, series, window)
                self._open[level] = Histograms(held.key[keep], held.samples[keep])


def _place(series: Ints, window: Ints, width: int) -> Ints:
    return series << _WINDOW_BITS | window // width


def _parts(place: Ints, width: int) -> tuple[Ints, Ints]:
    return place >> _WINDOW_BITS, (place & (1 << _WINDOW_BITS) - 1) * width


def _histograms(binned: Binned, width: int) -> Histograms:
    return Histograms.of(_place(binned.series, binned.window, width), binned.bin, binned.samples)


def _binned(histograms: Histograms, width: int) -> Binned:
    return Binned(*_parts(histograms.place, width), histograms.bin, histograms.samples)

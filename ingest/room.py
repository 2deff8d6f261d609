"""Room in the window rows: no row may hold more samples than a sum of 64 bits has room for.

That is 134 million samples of one series in an hour, which no device sends but a broken or a hostile one. So nothing is
looked up for a batch as long as a bound says that this is far away: a row holds at most what the fullest one held when
that was last measured, and all samples since.
"""

from typing import Final

import numpy as np

from analytics.partials import MOST
from analytics.rows import TIERS_S, starts_of
from analytics.windows import Windows
from devices.columns import Bools, Ints
from devices.times import NS

WIDEST: Final = TIERS_S[-1] * NS
MEASURED_EVERY: Final = 1 << 22
"""Samples after which the fullest row is looked for again while the bound is reached."""


class Room:
    """What still goes into the rows of one pipeline's windows."""

    def __init__(self, windows: Windows) -> None:
        """Nothing has been put into ``windows`` yet."""
        self._windows = windows
        self._measured = 0
        """Samples of the fullest row when it was last looked for …"""
        self._since = 0
        """… and samples of any series since then."""

    def reserve(self, samples: int) -> bool:
        """Tell whether so many samples more have room whatever they are of; else ask :meth:`admit` about each."""
        if self._measured + self._since + samples > MOST and self._since + samples >= min(MEASURED_EVERY, MOST):
            self._measured, self._since = self._windows.most_held(), 0
        self._since += samples
        return self._measured + self._since <= MOST

    def admit(self, series: Ints, ts: Ints, samples: Ints) -> Bools:
        """Return which of the lots (n,) have room, in this order: ``samples`` of a series within a window at ``ts``."""
        window = ts // WIDEST * WIDEST
        order = np.lexsort((window, series))
        starts = starts_of(series[order], window[order])
        if not len(starts):
            return np.empty(0, np.bool_)
        firsts = order[starts]
        room = MOST - self._windows.held(series[firsts], window[firsts])
        lots = np.diff(starts, append=len(order))
        taken = np.cumsum(samples[order])
        before = taken[starts] - samples[firsts]
        fits = np.empty(len(order), np.bool_)
        fits[order] = taken <= np.repeat(before + room, lots)
        return fits

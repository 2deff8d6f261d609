"""What detectors are shown of the samples, and the place where it waits for the watermarks.

Detectors see every sample that came one by one. Of a packed block, which may hold a thousand instants a second, they
see its first and last instant, one instant in each :data:`PACE`, and each instant at which a state changes; a load is
shown by its peak since the instant shown before. That depends on the block alone, so it is the same in whatever order
blocks arrive.
"""

from typing import Final

import numpy as np

from analytics.detectors.cranes import INPUTS, LOAD
from analytics.detectors.states import IS_TIMED
from analytics.radix import narrowed, order_by
from devices.columns import Bools, Columns, Ints
from devices.vocabulary import METRICS, SCALE, Kind
from ingest.blocks import Stack

PACE: Final = 200_000_000
"""Time between the instants of a block that are shown, ns: finer than the 2 Hz at which cranes report one by one."""
IS_CRANE_INPUT: Final[Bools] = np.isin(np.arange(len(METRICS)), INPUTS)
"""By metric index: whether the detector of moves reads it."""
IS_INPUT: Final[Bools] = IS_CRANE_INPUT | IS_TIMED
"""By metric index: whether some detector reads it."""
SMALL: Final = 4_096
"""Parts of fewer inputs than this are looked at as one: numpy's cost per call is more than theirs."""
IS_STATE: Final[Bools] = np.array([metric.kind is Kind.STATE for metric in METRICS])


def shown(stack: Stack, wanted: Bools, device: Ints, metric: Ints, seq: Ints) -> Columns:
    """Return what detectors are shown of the ``wanted`` columns (blocks, series), none of which has a bad value.

    ``device`` and ``seq`` (blocks,), ``metric`` (blocks, series). Blocks whose names are in one order come in that of
    time and metric.
    """
    columns = np.flatnonzero(wanted.any(axis=0))
    columns = columns[np.argsort(metric[0, columns], kind="stable")]
    wanted, metric = wanted[:, columns], metric[:, columns]
    at = _instants(stack, columns, wanted & IS_STATE[metric], metric)
    block = np.searchsorted(stack.start, at, side="right") - 1
    value = stack.values[at[:, None], columns]
    load = metric == LOAD
    for nth in np.flatnonzero(load.any(axis=0)).tolist():
        # From the instant after the one shown before: the last of each block is shown.
        peak = np.maximum.reduceat(stack.values[:, columns[nth]], np.append(0, at[:-1] + 1))
        value[:, nth] = np.where(load[block, nth], peak, value[:, nth])
    which, column = np.nonzero(wanted[block])
    of, index = block[which], metric[block[which], column]
    ts = stack.t0[of] + stack.dt[of] * (at - stack.start[block])[which]
    picked = np.rint(value[which, column] * SCALE[index]).astype(np.int64)
    return Columns(device[of], index, ts, seq[of], picked)


def _instants(stack: Stack, columns: Ints, is_state: Bools, metric: Ints) -> Ints:
    """Return which rows of a stack's values are shown, in order: ``is_state`` and ``metric`` (blocks, columns)."""
    pace, start = np.maximum(PACE // stack.dt, 1), stack.start
    count = -(-stack.rows // pace) + ((stack.rows - 1) % pace != 0)
    block = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(block)) - (np.cumsum(count) - count)[block]
    at: Ints = start[block] + np.minimum(nth * pace[block], stack.rows[block] - 1)
    some = np.flatnonzero(is_state.any(axis=0))
    if not len(some):
        return at
    # Where a state changes, the instant before as well: a peak that belongs before the change must not be shown as one
    # after it.
    value = np.rint(stack.values[:, columns[some]] * np.repeat(SCALE[metric[:, some]], stack.rows, axis=0))
    counts = np.repeat(is_state[:, some], stack.rows, axis=0)
    changed = ((value[1:] != value[:-1]) & counts[1:]).any(axis=1)
    changed[start[1:] - 1] = False
    after = np.flatnonzero(changed) + 1
    every: Ints = np.unique(np.concatenate([at, after - 1, after]))
    return every


class Waiting:
    """Detector inputs whose time has not come."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[tuple[int, Columns]] = []

    def __len__(self) -> int:
        """Return how many wait; may be asked by another thread."""
        return sum(len(columns) for _, columns in list(self._parts))

    def add(self, columns: Columns) -> None:
        """Take inputs, in any order."""
        if len(columns):
            self._parts.append((int(columns.ts.min()), columns))

    def all(self) -> Columns:
        """Return everything that waits."""
        return Columns.concatenate([columns for _, columns in self._parts])

    def take_all(self) -> Columns:
        """Take out everything, in any order."""
        columns, self._parts = self.all(), []
        return columns

    def take(self, mark: Ints) -> Columns:
        """Take out the inputs up to the marks (devices,), ns UTC, sorted by (device, ts, seq, metric, value)."""
        self._join_small()
        furthest = int(mark.max(initial=-1))
        ready, kept = [], []
        for earliest, columns in self._parts:
            # Mostly a part waits or goes as a whole.
            if earliest > furthest:
                kept.append((earliest, columns))
                continue
            due = columns.ts <= mark[columns.device]
            if due.all():
                ready.append(columns)
                continue
            ready.append(columns.take(due))
            rest = columns.take(~due)
            kept.append((int(rest.ts.min()), rest))
        self._parts = kept
        return in_order(Columns.concatenate(ready))

    def _join_small(self) -> None:
        """Make one of the small parts: each batch of devices that report rarely leaves one."""
        small = [part for part in self._parts if len(part[1]) < SMALL]
        if len(small) > 1:
            large = [part for part in self._parts if len(part[1]) >= SMALL]
            joined = Columns.concatenate([columns for _, columns in small])
            self._parts = [*large, (min(earliest for earliest, _ in small), joined)]


def in_order(columns: Columns) -> Columns:
    """Return samples sorted by (device, ts, seq, metric, value); cheap where each device's are sorted already."""
    by_device = columns.take(order_by(narrowed(columns.device, int(columns.device.max(initial=0)) + 1)))
    same = by_device.device[1:] == by_device.device[:-1]
    back = np.zeros(len(same), np.bool_)
    for key in (by_device.ts, by_device.seq, by_device.metric, by_device.value):
        step = np.diff(key)
        back |= same & (step < 0)
        same &= step == 0
    if not back.any():
        return by_device
    columns = by_device
    return columns.take(np.lexsort((columns.value, columns.metric, columns.seq, columns.ts, columns.device)))

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
from devices.columns import Bools, Columns, Ints
from devices.vocabulary import METRICS, SCALE, Kind
from ingest.blocks import Stack

PACE: Final = 200_000_000
"""Time between the instants of a block that are shown, ns: finer than the 2 Hz at which cranes report one by one."""
IS_CRANE_INPUT: Final[Bools] = np.isin(np.arange(len(METRICS)), INPUTS)
"""By metric index: whether the detector of moves reads it."""
IS_INPUT: Final[Bools] = IS_CRANE_INPUT | IS_TIMED
"""By metric index: whether some detector reads it."""
IS_STATE: Final[Bools] = np.array([metric.kind is Kind.STATE for metric in METRICS])


def shown(stack: Stack, wanted: Bools, device: Ints, metric: Ints, seq: Ints) -> Columns:
    """Return what detectors are shown of the ``wanted`` columns (blocks, series), none of which has a bad value.

    ``device`` and ``seq`` (blocks,), ``metric`` (blocks, series).
    """
    block, column = np.nonzero(wanted)
    rows = stack.values.shape[1]
    index = metric[block, column]
    # Only the wanted columns are made integers; shape (columns, rows).
    value = np.rint(stack.values[block, :, column] * SCALE[index][:, None]).astype(np.int64)
    show = np.arange(rows) % np.maximum(PACE // stack.dt, 1)[:, None] == 0
    show[:, -1] = True
    state = np.flatnonzero(IS_STATE[index])
    changed, at = np.nonzero(np.diff(value[state], axis=1))
    # The instant before as well: a peak that belongs before the change must not be shown as one after it.
    show[block[state][changed], at] = show[block[state][changed], at + 1] = True
    which, row = np.nonzero(show[block])
    picked = value[which, row]
    load = index == LOAD
    if load.any():
        # From the instant after the one shown before, up to this one: the first begins at the block's first row.
        start = which * rows + np.where(row == 0, 0, np.append(0, row[:-1]) + 1)
        peak = np.maximum.reduceat(value.ravel(), start)
        picked = np.where(load[which], peak, picked)
    ts = stack.t0[block[which]] + stack.dt[block[which]] * row
    return Columns(device[block[which]], index[which], ts, seq[block[which]], picked)


class Waiting:
    """Detector inputs whose time has not come."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[tuple[int, Columns]] = []

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


def in_order(columns: Columns) -> Columns:
    """Return samples sorted by (device, ts, seq, metric, value); cheap where each device's are sorted already."""
    by_device = columns.take(np.argsort(columns.device, kind="stable"))
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

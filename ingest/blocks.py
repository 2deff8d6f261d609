"""Packed blocks: many instants of many signals in one message, reduced to partial aggregates without a Python loop.

Blocks of one batch that have the same shape are stacked and reduced together along the instants. A block that reaches
over the end of a window is cut there first.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.partials import Partials
from devices.columns import Bools, Floats, Ints
from devices.vocabulary import MAXIMUM, MINIMUM, SCALE

Float32s = NDArray[np.float32]


class Block(NamedTuple):
    """A block within one window: ``values`` (rows, series), sampled every ``dt`` ns from ``t0`` (ns UTC) on."""

    frame: int
    """Position of its frame among the frames accepted in the batch."""
    series: Ints
    """Series index of each column, shape (series,)."""
    t0: int
    dt: int
    values: Float32s


class Stack(NamedTuple):
    """Blocks of one shape: ``values`` (blocks, rows, series), the others (blocks,) or (blocks, series)."""

    frame: Ints
    series: Ints
    t0: Ints
    dt: Ints
    values: Floats


class Bad(NamedTuple):
    """A column of a block of which some values are not finite or out of range."""

    frame: int
    series: int
    ts: Ints
    value: Floats
    good: Bools


def cut(block: Block, width: int) -> Iterator[Block]:
    """Yield the parts of a block that lie in one window of ``width`` ns each."""
    start, rows = 0, len(block.values)
    while start < rows:
        t0 = block.t0 + start * block.dt
        # Rows whose time lies before the end of the window that holds t0; at least the one at t0 itself.
        inside = (t0 - t0 % width + width - t0 + block.dt - 1) // block.dt
        yield block._replace(t0=t0, values=block.values[start : start + inside])
        start += inside


def stacked(blocks: Iterable[Block], width: int) -> Iterator[Stack]:
    """Cut blocks at the ends of windows of ``width`` ns and stack those of equal shape."""
    shapes: dict[tuple[int, ...], list[Block]] = {}
    for block in blocks:
        for part in cut(block, width):
            shapes.setdefault(part.values.shape, []).append(part)
    for parts in shapes.values():
        yield Stack(
            np.array([part.frame for part in parts], np.int64),
            np.stack([part.series for part in parts]),
            np.array([part.t0 for part in parts], np.int64),
            np.array([part.dt for part in parts], np.int64),
            np.stack([part.values for part in parts]).astype(np.float64),
        )


def check(stack: Stack, metric: Ints) -> tuple[Bools, list[Bad]]:
    """Return which columns are good as a whole, (blocks, series), and the others one by one.

    ``metric`` (blocks, series): metric index of each column.
    """
    # NaN makes both comparisons false.
    good: Bools = (stack.values.min(axis=1) >= MINIMUM[metric]) & (stack.values.max(axis=1) <= MAXIMUM[metric])
    bad = []
    for block, column in np.argwhere(~good).tolist():
        value = stack.values[block, :, column]
        index = metric[block, column]
        ts = stack.t0[block] + stack.dt[block] * np.arange(len(value))
        inside = (value >= MINIMUM[index]) & (value <= MAXIMUM[index])
        bad.append(Bad(int(stack.frame[block]), int(stack.series[block, column]), ts, value, inside))
    return good, bad


def scaled_values(stack: Stack, metric: Ints, good: Bools) -> Ints:
    """Return the stack's values as exact integers (blocks, rows, series); columns that are not good are zero."""
    values = np.where(good[:, None, :], stack.values, 0.0)
    return np.rint(values * SCALE[metric][:, None, :]).astype(np.int64)


def partials_of(stack: Stack, value: Ints, good: Bools, seq: Ints, late: Ints, width: int) -> Partials:
    """Reduce the good columns of a stack along its rows.

    ``value`` (blocks, rows, series) scaled; ``seq`` and ``late`` (0 or 1) (blocks,) of the blocks' frames.
    """
    rows = value.shape[1]
    last = stack.t0 + stack.dt * (rows - 1)

    def spread(of_block: Ints) -> Ints:
        return np.broadcast_to(of_block[:, None], good.shape)[good]

    aggregates = (
        np.full(int(good.sum()), rows, np.int64),
        value.sum(axis=1)[good],
        value.min(axis=1)[good],
        value.max(axis=1)[good],
        spread(stack.t0),
        spread(seq),
        value[:, 0][good],
        spread(last),
        spread(seq),
        value[:, -1][good],
        spread(late * rows),
    )
    return Partials(stack.series[good], spread(stack.t0 - stack.t0 % width), aggregates)

"""Packed blocks: many instants of many signals in one message, reduced to partial aggregates without a Python loop.

Blocks of one batch that have the same shape are stacked and reduced together along the instants. A block that reaches
over the end of a window is cut there first.

Values are scaled as floats, never as integers: rounding is monotone, so the least and the greatest value can be taken
before it, and a sum of at most :data:`MAX_ROWS` whole numbers up to 2**36 is exact in 53 bits whatever its order.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analytics.histograms import Binned
from analytics.partials import Partials
from devices.columns import Bools, Floats, Ints
from devices.vocabulary import MAXIMUM, MINIMUM, SCALE

Float32s = NDArray[np.float32]

MAX_ROWS: Final = 1 << 16
"""Instants reduced at once."""
STACKED: Final = 1 << 16
"""Values of a stack, about: few enough that what is computed on the way stays in the processor's caches."""


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
    values: Float32s
    """In memory by row first, so that reducing along the rows goes through it in one direction."""
    low: Float32s
    high: Float32s
    """Least and greatest value of each column, NaN where one of them is: (blocks, series)."""

    @classmethod
    def of(cls, frame: Ints, series: Ints, t0: Ints, dt: Ints, values: Float32s) -> Self:
        """Stack ``values`` (blocks, rows, series), laid out in memory in any way."""
        by_row = np.ascontiguousarray(values.swapaxes(0, 1), np.float32)
        return cls(frame, series, t0, dt, by_row.swapaxes(0, 1), by_row.min(axis=0), by_row.max(axis=0))


class Bad(NamedTuple):
    """A column of a block of which some values are not finite or out of range."""

    frame: int
    series: int
    ts: Ints
    value: Floats
    good: Bools


def cut(block: Block, width: int) -> Iterator[Block]:
    """Yield the parts of a block that lie in one window of ``width`` ns each and have at most ``MAX_ROWS`` rows."""
    start, rows = 0, len(block.values)
    while start < rows:
        t0 = block.t0 + start * block.dt
        # Rows whose time lies before the end of the window that holds t0; at least the one at t0 itself.
        inside = min((t0 - t0 % width + width - t0 + block.dt - 1) // block.dt, MAX_ROWS)
        yield block._replace(t0=t0, values=block.values[start : start + inside])
        start += inside


def stacked(blocks: Iterable[Block], width: int) -> Iterator[Stack]:
    """Cut blocks at the ends of windows of ``width`` ns and stack those of equal shape."""
    shapes: dict[tuple[int, ...], list[Block]] = {}
    for block in blocks:
        rows = len(block.values)
        whole = block.t0 // width == (block.t0 + (rows - 1) * block.dt) // width and rows <= MAX_ROWS
        for part in (block,) if whole else cut(block, width):
            shapes.setdefault(part.values.shape, []).append(part)
    for (rows, series), parts in shapes.items():
        together = max(STACKED // (rows * series), 1)
        for first in range(0, len(parts), together):
            yield _stack(parts[first : first + together])


def _stack(parts: list[Block]) -> Stack:
    return Stack.of(
        np.array([part.frame for part in parts], np.int64),
        np.stack([part.series for part in parts]),
        np.array([part.t0 for part in parts], np.int64),
        np.array([part.dt for part in parts], np.int64),
        np.concatenate([part.values for part in parts]).reshape(len(parts), *parts[0].values.shape),
    )


def check(stack: Stack, metric: Ints) -> tuple[Bools, list[Bad]]:
    """Return which columns are good as a whole, (blocks, series), and the others one by one.

    ``metric`` (blocks, series): metric index of each column.
    """
    # NaN makes both comparisons false.
    good: Bools = (stack.low >= MINIMUM[metric]) & (stack.high <= MAXIMUM[metric])
    bad = []
    for block, column in np.argwhere(~good).tolist():
        value = stack.values[block, :, column].astype(np.float64)
        index = metric[block, column]
        ts = stack.t0[block] + stack.dt[block] * np.arange(len(value))
        inside = (value >= MINIMUM[index]) & (value <= MAXIMUM[index])
        bad.append(Bad(int(stack.frame[block]), int(stack.series[block, column]), ts, value, inside))
    return good, bad


def partials_of(stack: Stack, metric: Ints, good: Bools, seq: Ints, late: Ints, width: int) -> Partials:
    """Reduce the good columns of a stack along its rows, values scaled.

    ``metric`` and ``good`` (blocks, series); ``seq`` and ``late`` (0 or 1) (blocks,) of the blocks' frames.
    """
    scale, rows = SCALE[metric], stack.values.shape[1]
    values = stack.values if good.all() else np.where(good[:, None, :], stack.values, np.float32(0))
    scaled = np.multiply(values.swapaxes(0, 1), scale, dtype=np.float64)
    np.rint(scaled, out=scaled)
    last = stack.t0 + stack.dt * (rows - 1)

    def spread(of_block: Ints) -> Ints:
        return np.broadcast_to(of_block[:, None], good.shape)[good]

    def whole(of_column: Floats) -> Ints:
        return of_column[good].astype(np.int64)

    aggregates = (
        np.full(int(good.sum()), rows, np.int64),
        whole(scaled.sum(axis=0)),
        whole(np.rint(stack.low * scale)),
        whole(np.rint(stack.high * scale)),
        spread(stack.t0),
        spread(seq),
        whole(scaled[0]),
        spread(last),
        spread(seq),
        whole(scaled[-1]),
        spread(late * rows),
    )
    return Partials(stack.series[good], spread(stack.t0 // width * width), aggregates)


def binned_of(stack: Stack, metric: Ints, wanted: Bools, width: int) -> Binned | None:
    """Return the bins of the wanted columns of a stack, scaled as in :func:`partials_of`; None if none is wanted.

    ``metric`` and ``wanted`` (blocks, series).
    """
    if not wanted.any():
        return None
    values = np.rint(np.multiply(stack.values.swapaxes(1, 2)[wanted], SCALE[metric][wanted][:, None], dtype=np.float64))
    columns, rows = values.shape
    window = np.broadcast_to((stack.t0 // width * width)[:, None], wanted.shape)[wanted]
    return Binned.of_groups(
        stack.series[wanted], window, np.full(columns, rows, np.int64), values.astype(np.int64).ravel()
    )

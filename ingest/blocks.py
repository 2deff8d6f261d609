"""Packed blocks: many instants of many signals in one message, reduced to partial aggregates without a Python loop.

    blocks ──stacked──► of as many signals, one behind another ──cut──► at the ends of windows ──► reduced

Stretches of equal length are laid out by instant and reduced together, side by side; odd ones, such as those that the
end of a window leaves, one behind another.

Values are scaled as floats, never as integers: rounding is monotone, so the least and the greatest value can be taken
before it, and a sum of at most :data:`MAX_ROWS` whole numbers up to 2**36 is exact in 53 bits whatever its order.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analytics.histograms import Binned
from analytics.partials import Partials
from devices.columns import Bools, Floats, Ints
from devices.vocabulary import MAXIMUM, MINIMUM, SCALE

Float32s = NDArray[np.float32]

MAX_ROWS: Final = 1 << 16
"""Instants reduced at once."""
SIDE_BY_SIDE: Final = 1 << 16
"""Values reduced side by side, about: few enough that what is computed on the way stays in the processor's caches."""
FEW: Final = 64
"""Columns of equal length are reduced side by side from so many on; fewer are no quicker so than one by one."""


class Block(NamedTuple):
    """A block as it was received: ``values`` (rows, series), sampled every ``dt`` ns from ``t0`` (ns UTC) on."""

    frame: int
    """Position of its frame among the frames accepted in the batch."""
    series: Ints
    """Series index of each column, shape (series,)."""
    t0: int
    dt: int
    values: Float32s


class Stack(NamedTuple):
    """Blocks of as many signals, or stretches of them, one behind another: arrays (blocks,) or (blocks, series)."""

    frame: Ints
    series: Ints
    t0: Ints
    dt: Ints
    rows: Ints
    """Instants of each, ≥ 1."""
    values: Float32s
    """Shape (instants of all, series), contiguous."""

    @property
    def start(self) -> Ints:
        """Where in ``values`` each begins."""
        start: Ints = np.cumsum(self.rows) - self.rows
        return start

    @property
    def ts(self) -> Ints:
        """The time of each instant, ns UTC."""
        of, nth = _numbered(self.rows)
        ts: Ints = self.t0[of] + self.dt[of] * nth
        return ts


class Extent(NamedTuple):
    """What the columns of a stack reach over: (blocks, series)."""

    low: Float32s
    """Least value, NaN where one of them is."""
    high: Float32s
    sum: Floats
    """Sum of the scaled values, meaningless where they are not all good."""


class Bad(NamedTuple):
    """A column of a block of which some values are not finite or out of range, or for which there is no room."""

    frame: int
    series: int
    ts: Ints
    value: Floats
    good: Bools


def stacked(blocks: Iterable[Block]) -> list[Stack]:
    """Stack blocks of as many signals."""
    alike: dict[int, list[Block]] = {}
    for block in blocks:
        alike.setdefault(len(block.series), []).append(block)
    return [_stack(some) for some in alike.values()]


def _stack(blocks: list[Block]) -> Stack:
    return Stack(
        np.array([block.frame for block in blocks], np.int64),
        np.stack([block.series for block in blocks]),
        np.array([block.t0 for block in blocks], np.int64),
        np.array([block.dt for block in blocks], np.int64),
        np.array([len(block.values) for block in blocks], np.int64),
        np.ascontiguousarray(np.concatenate([block.values for block in blocks]), np.float32),
    )


def cut(stack: Stack, width: int) -> Stack:
    """Cut a stack into stretches that lie in one window of ``width`` ns each and have at most ``MAX_ROWS`` rows."""
    first, last = stack.t0 // width, (stack.t0 + (stack.rows - 1) * stack.dt) // width
    if (first == last).all() and stack.rows.max(initial=0) <= MAX_ROWS:
        return stack
    of, nth = _numbered(last - first + 1)
    # The first row at or after the beginning of each window; that of a window without rows is the next one's.
    before = (first[of] + nth) * width - stack.t0[of]
    begin = np.maximum(-(-before // stack.dt[of]), 0)
    end = np.where(np.append(of[1:] == of[:-1], False), np.append(begin[1:], 0), stack.rows[of])
    some = np.flatnonzero(end > begin)
    piece, nth = _numbered(-(-(end - begin)[some] // MAX_ROWS))
    piece = some[piece]
    begin, end, of = begin[piece] + nth * MAX_ROWS, end[piece], of[piece]
    return Stack(
        stack.frame[of],
        stack.series[of],
        stack.t0[of] + begin * stack.dt[of],
        stack.dt[of],
        np.minimum(end - begin, MAX_ROWS),
        stack.values,
    )


def _numbered(times: Ints) -> tuple[Ints, Ints]:
    """Repeat the places of ``times`` (n,) so often; return them, and for each how often it was there before."""
    of = np.repeat(np.arange(len(times)), times)
    return of, np.arange(len(of)) - (np.cumsum(times) - times)[of]


def extent_of(stack: Stack, metric: Ints) -> Extent:
    """Reduce the columns of a stack; ``metric`` (blocks, series): metric index of each column."""
    low, high = np.empty((2, *stack.series.shape), np.float32)
    extent = Extent(low, high, np.empty(stack.series.shape))
    scale, start = SCALE[metric], stack.start
    lengths, times = np.unique(stack.rows, return_counts=True)
    many = times * stack.series.shape[1] >= FEW
    # Infinities of both signs have no sum, which is nobody's then.
    with np.errstate(invalid="ignore"):
        for rows in lengths[many].tolist():
            alike = np.flatnonzero(stack.rows == rows)
            together = max(SIDE_BY_SIDE // (rows * stack.series.shape[1]), 1)
            for begin in range(0, len(alike), together):
                at = alike[begin : begin + together]
                _reduce_alike(stack.values, start[at], rows, scale[at], at, extent)
        if not many.all():
            odd = np.flatnonzero(~np.isin(stack.rows, lengths[many]))
            _reduce_odd(stack.values, start[odd], stack.rows[odd], scale[odd], odd, extent)
    return extent


def _reduce_alike(values: Float32s, start: Ints, rows: int, scale: Floats, at: Ints, extent: Extent) -> None:
    """Reduce stretches of equal length, side by side, into the places ``at``."""
    # A row is copied as one item, and reducing along the rows then goes through memory in one direction.
    row = np.dtype((np.void, values.shape[1] * values.itemsize))
    lines = values.view(row)[:, 0]
    if start[-1] - start[0] == (len(start) - 1) * rows:
        # Neighbours.
        lines = np.ascontiguousarray(lines[start[0] : start[-1] + rows].reshape(-1, rows).T)
    else:
        lines = np.take(lines, start + np.arange(rows)[:, None], mode="clip")
    beside = lines.view(np.float32).reshape(rows, -1)
    extent.low[at] = beside.min(axis=0).reshape(len(at), -1)
    extent.high[at] = beside.max(axis=0).reshape(len(at), -1)
    scaled = beside.astype(np.float64)
    scaled *= scale.reshape(-1)
    np.rint(scaled, out=scaled)
    extent.sum[at] = scaled.sum(axis=0).reshape(len(at), -1)


def _reduce_odd(values: Float32s, start: Ints, rows: Ints, scale: Floats, at: Ints, extent: Extent) -> None:
    """Reduce stretches of any lengths, one behind another, into the places ``at``."""
    of, nth = _numbered(rows)
    behind = np.ascontiguousarray(values[start[of] + nth].T)
    edges = np.cumsum(rows) - rows
    extent.low[at] = np.minimum.reduceat(behind, edges, axis=1).T
    extent.high[at] = np.maximum.reduceat(behind, edges, axis=1).T
    scaled = np.rint(behind * scale.T[:, of])
    extent.sum[at] = np.add.reduceat(scaled, edges, axis=1).T


def check(stack: Stack, extent: Extent, metric: Ints, fits: Bools | None = None) -> tuple[Bools, list[Bad]]:
    """Return which columns are good as a whole, (blocks, series), and the others one by one.

    ``metric`` (blocks, series): metric index of each column. ``fits``, of the same shape: which may be good; by default
    all.
    """
    # NaN makes both comparisons false.
    good: Bools = (extent.low >= MINIMUM[metric]) & (extent.high <= MAXIMUM[metric])
    if fits is not None:
        good &= fits
    bad = []
    for block, column in np.argwhere(~good).tolist():
        begin, rows = int(stack.start[block]), int(stack.rows[block])
        value = stack.values[begin : begin + rows, column].astype(np.float64)
        index = metric[block, column]
        ts = stack.t0[block] + stack.dt[block] * np.arange(rows)
        inside = (value >= MINIMUM[index]) & (value <= MAXIMUM[index])
        if fits is not None:
            inside &= fits[block, column]
        bad.append(Bad(int(stack.frame[block]), int(stack.series[block, column]), ts, value, inside))
    return good, bad


def partials_of(stack: Stack, extent: Extent, metric: Ints, good: Bools, seq: Ints, late: Ints, width: int) -> Partials:
    """Return the good columns of a stack as partials, values scaled.

    ``metric`` and ``good`` (blocks, series); ``seq`` and ``late`` (0 or 1) (blocks,) of the blocks' frames.
    """
    block = np.nonzero(good)[0]
    scale, start = SCALE[metric[good]], stack.start

    def scaled(of_column: Float32s) -> Ints:
        return np.rint(of_column[good] * scale).astype(np.int64)

    rows, t0, of_frame = stack.rows[block], stack.t0[block], seq[block]
    aggregates = (
        rows,
        extent.sum[good].astype(np.int64),
        scaled(extent.low),
        scaled(extent.high),
        t0,
        of_frame,
        scaled(stack.values[start]),
        (stack.t0 + stack.dt * (stack.rows - 1))[block],
        of_frame,
        scaled(stack.values[start + stack.rows - 1]),
        (late * stack.rows)[block],
    )
    return Partials(stack.series[good], (stack.t0 // width * width)[block], aggregates)


def binned_of(stack: Stack, metric: Ints, wanted: Bools, width: int) -> Binned | None:
    """Return the bins of the wanted columns of a stack, scaled as in :func:`partials_of`; None if none is wanted.

    ``metric`` and ``wanted`` (blocks, series).
    """
    parts = []
    window, start = stack.t0 // width * width, stack.start
    for column in np.flatnonzero(wanted.any(axis=0)).tolist():
        block = np.flatnonzero(wanted[:, column])
        rows, scale = stack.rows[block], SCALE[metric[block, column]]
        if len(block) < len(wanted):
            of, nth = _numbered(rows)
            values = stack.values[start[block][of] + nth, column]
        else:
            values = stack.values[:, column]
        factor = scale[0] if (scale == scale[0]).all() else np.repeat(scale, rows)
        scaled = np.rint(np.multiply(values, factor, dtype=np.float64))
        parts.append(Binned.of_groups(stack.series[block, column], window[block], rows, scaled))
    return Binned.concatenate(parts) if parts else None

"""The window kernel: samples into exact partial aggregates, every tier at once.

Each tier keeps a short ring of cells per series, addressed directly: cell = series * ring + window number % ring. A
batch is first reduced to one partial per (series, window), then merged into the cells of the finest tier. A cell that
falls out of its ring, because its series has moved on, is final: its row goes into the next commit and its content
into the next tier's cell.

    batch ──group──► partials ──merge──► 10 s cells ──evict──► 1 min cells ──► 15 min cells ──► 1 h cells
                        │ older than the ring
                        └──────────────────────────► late partials, for every tier, into the next commit

:meth:`Windows.take_rows` returns the rows that changed since it was last called. The row of a wider tier contains the
cells of the tiers below that have not been evicted into it yet, so that all tiers are complete as of the same commit.

Row epochs: the cells of one life of a worker write with epoch ``2 * life``, the late partials of a commit with
``2 * commit + 1``. Two states that do not contain each other never write the same key (law 6).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold, starts_of
from devices.columns import Bools, Ints

NS: Final = 1_000_000_000
RINGS: Final = (4, 2, 2, 2)
"""Cells per series, by tier: how many windows stay open for data out of order before it becomes a late partial. The
finest ring spans less than one window of the next tier, so two cells there always hold the parents of all four."""

_NEUTRAL: Final = {
    "count": 0,
    "sum": 0,
    "min": np.iinfo(np.int64).max,
    "max": np.iinfo(np.int64).min,
    "first_ts": np.iinfo(np.int64).max,
    "first_seq": np.iinfo(np.int64).max,
    "first": 0,
    "last_ts": np.iinfo(np.int64).min,
    "last_seq": np.iinfo(np.int64).min,
    "last": 0,
    "late": 0,
}
"""Aggregate → its value over no samples; the order is that of :class:`analytics.rows.WindowRows`."""


class Aggregates:
    """One array per aggregate, all of the same shape (n,), int64."""

    __slots__ = tuple(_NEUTRAL)

    count: Ints
    sum: Ints
    min: Ints
    max: Ints
    first_ts: Ints
    first_seq: Ints
    first: Ints
    last_ts: Ints
    last_seq: Ints
    last: Ints
    late: Ints

    def take_values(self, which: Bools | Ints) -> list[Ints]:
        """Return a copy of each aggregate at the positions or under the mask, in their order."""
        return [getattr(self, name)[which] for name in _NEUTRAL]


class Partials(Aggregates):
    """Partial aggregates of distinct (series, window) pairs: arrays of shape (n,), int64."""

    __slots__ = ("series", "window")

    def __init__(self, series: Ints, window: Ints, values: Sequence[Ints]) -> None:
        """Take ``values`` in the order of the aggregates; nothing is copied."""
        self.series = series
        self.window = window
        for name, value in zip(_NEUTRAL, values, strict=True):
            setattr(self, name, value)

    def take(self, which: Bools | Ints) -> "Partials":
        """Return the partials selected by a mask or by positions."""
        return Partials(self.series[which], self.window[which], self.take_values(which))

    def rows(self, keys: Sequence[SeriesKey], worker: str, tier_s: int, epoch: int) -> WindowRows:
        """Return the partials as rows of one tier and epoch."""
        shape = len(self.series)
        labels = np.full(shape, tier_s, np.int64), self.window, self.series, np.full(shape, epoch, np.int64)
        return WindowRows(keys, worker, *labels, *(getattr(self, name) for name in _NEUTRAL))


def group(series: Ints, ts: Ints, seq: Ints, value: Ints, late: Ints, width: int) -> Partials:
    """Reduce samples (n,), n > 0, to one partial per (series, window of ``width`` ns), sorted by (series, window)."""
    number = ts // width
    low = int(number.min())
    key = series * (int(number.max()) - low + 1) + (number - low)
    # Batches mostly arrive in order, so one stable sort on a packed key does; the full sort is for those that do not.
    order = np.argsort(key, kind="stable")
    sorted_key, sorted_ts, sorted_seq = key[order], ts[order], seq[order]
    step = np.diff(sorted_ts)
    backward = (step < 0) | ((step == 0) & (np.diff(sorted_seq) <= 0))
    if (backward & (sorted_key[1:] == sorted_key[:-1])).any():
        order = np.lexsort((value, seq, ts, key))
        sorted_ts, sorted_seq = ts[order], seq[order]
    values = value[order]
    starts = starts_of(sorted_key)
    ends = np.append(starts[1:], len(order)) - 1
    aggregates = (
        ends - starts + 1,
        np.add.reduceat(values, starts),
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
        sorted_ts[starts],
        sorted_seq[starts],
        values[starts],
        sorted_ts[ends],
        sorted_seq[ends],
        values[ends],
        np.add.reduceat(late[order], starts),
    )
    return Partials(series[order][starts], number[order][starts] * width, aggregates)


def merge(into: Aggregates, at: Ints, partials: Aggregates) -> None:
    """Merge partials (n,) into the aggregates at the **distinct** positions ``at`` (n,)."""
    into.count[at] += partials.count
    into.sum[at] += partials.sum
    into.min[at] = np.minimum(into.min[at], partials.min)
    into.max[at] = np.maximum(into.max[at], partials.max)
    into.late[at] += partials.late
    earlier = _before(
        (partials.first_ts, partials.first_seq, partials.first),
        (into.first_ts[at], into.first_seq[at], into.first[at]),
    )
    won = at[earlier]
    into.first_ts[won], into.first_seq[won] = partials.first_ts[earlier], partials.first_seq[earlier]
    into.first[won] = partials.first[earlier]
    later = _before(
        (into.last_ts[at], into.last_seq[at], into.last[at]),
        (partials.last_ts, partials.last_seq, partials.last),
    )
    won = at[later]
    into.last_ts[won], into.last_seq[won] = partials.last_ts[later], partials.last_seq[later]
    into.last[won] = partials.last[later]


def _before(one: tuple[Ints, Ints, Ints], other: tuple[Ints, Ints, Ints]) -> Bools:
    """Return where (time, sequence, value) of ``one`` < ``other``; the value settles what a device left equal."""
    (ts, seq, value), (other_ts, other_seq, other_value) = one, other
    tie = (seq < other_seq) | ((seq == other_seq) & (value < other_value))
    result: Bools = (ts < other_ts) | ((ts == other_ts) & tie)
    return result


class _Tier(Aggregates):
    """The cells of one tier; arrays of shape (series capacity * ring,), int64."""

    __slots__ = ("dirty", "newest", "ring", "width", "width_s", "window")

    def __init__(self, width_s: int, ring: int) -> None:
        self.width_s, self.width, self.ring = width_s, width_s * NS, ring
        self.newest: Ints = np.empty(0, np.int64)
        """Per series: the newest window opened, ns; -1 where none is."""
        self.window: Ints = np.empty(0, np.int64)
        """Per cell: the window it holds, ns; -1 where it is empty."""
        self.dirty: Bools = np.empty(0, np.bool_)
        for name in _NEUTRAL:
            setattr(self, name, np.empty(0, np.int64))

    def grow(self, series: int) -> None:
        """Make room for at least ``series`` series, doubling."""
        have = len(self.newest)
        if series <= have:
            return
        more = max(series, 2 * have, 256) - have
        self.newest = np.append(self.newest, np.full(more, -1, np.int64))
        cells = more * self.ring
        self.window = np.append(self.window, np.full(cells, -1, np.int64))
        self.dirty = np.append(self.dirty, np.zeros(cells, np.bool_))
        for name, neutral in _NEUTRAL.items():
            setattr(self, name, np.append(getattr(self, name), np.full(cells, neutral, np.int64)))

    def start_of(self, ts: Ints) -> Ints:
        """Return the start of the windows that hold ``ts``."""
        return ts - ts % self.width

    def cell_of(self, series: Ints, window: Ints) -> Ints:
        """Return the cell of each (series, window)."""
        return series * self.ring + (window // self.width) % self.ring

    def ring_of(self, series: Ints) -> Ints:
        """Return all cells of each series; shape (n, ring)."""
        return series[:, None] * self.ring + np.arange(self.ring)

    def partials(self, cells: Ints) -> Partials:
        """Return a copy of the cells' content."""
        return Partials(cells // self.ring, self.window[cells], self.take_values(cells))

    def clear(self, cells: Ints) -> None:
        """Empty cells."""
        self.window[cells] = -1
        self.dirty[cells] = False
        for name, neutral in _NEUTRAL.items():
            getattr(self, name)[cells] = neutral


class Windows:
    """Exact windows of every series of one worker, in every tier."""

    def __init__(self, worker: str, life: int, keys: Sequence[SeriesKey]) -> None:
        """``life`` counts the starts of this worker on its data; ``keys`` is the caller's table, which may grow."""
        self._worker = worker
        self._cell_epoch = 2 * life
        self._keys = keys
        self._tiers = [_Tier(width_s, ring) for width_s, ring in zip(TIERS_S, RINGS, strict=True)]
        self._final: list[WindowRows] = []
        self._late: list[Partials] = []

    def add(self, series: Ints, ts: Ints, seq: Ints, value: Ints, late: Bools) -> None:
        """Add samples: arrays (n,); ``series`` index ``keys``, ``ts`` ns ≥ 0, ``value`` scaled.

        ``late`` marks samples that came after their device's watermark had passed their window; they are counted.
        """
        if not len(series):
            return
        for tier in self._tiers:
            tier.grow(len(self._keys))
        self._put(group(series, ts, seq, value, late.astype(np.int64), self._tiers[0].width))

    def add_partials(self, partials: Partials) -> None:
        """Add what has been reduced already: partials of the finest tier, of which several may share their window."""
        if not len(partials.series):
            return
        for tier in self._tiers:
            tier.grow(len(self._keys))
        rows = fold(partials.rows(self._keys, self._worker, self._tiers[0].width_s, 0))
        self._put(Partials(rows.series, rows.window, [getattr(rows, name) for name in _NEUTRAL]))

    def _put(self, partials: Partials) -> None:
        """Merge partials of distinct (series, window), sorted, into the cells of the finest tier."""
        finest = self._tiers[0]
        last_of_series = np.append(np.flatnonzero(np.diff(partials.series)), len(partials.series) - 1)
        self._advance(partials.series[last_of_series], partials.window[last_of_series])
        inside = partials.window > finest.newest[partials.series] - finest.ring * finest.width
        if not inside.all():
            self._late.append(partials.take(~inside))
            partials = partials.take(inside)
        self._open(partials.series, partials.window)
        cells = finest.cell_of(partials.series, partials.window)
        merge(finest, cells, partials)
        finest.dirty[cells] = True

    def take_rows(self, commit: int) -> WindowRows:
        """Return the rows that changed since the last call, one per key, for commit number ``commit`` ≥ 0."""
        parts, self._final = self._final, []
        changed = np.empty(0, np.int64)
        for level, tier in enumerate(self._tiers):
            parents = self._parents(level, changed)
            changed = np.union1d(np.flatnonzero(tier.dirty), parents)
            tier.dirty[changed] = False
            rows = self._effective(level, changed).rows(self._keys, self._worker, tier.width_s, self._cell_epoch)
            parts.append(rows)
        parts.extend(self._late_rows(2 * commit + 1))
        kept = [part for part in parts if len(part)]
        return WindowRows.concatenate(kept) if kept else WindowRows.empty(self._keys, self._worker)

    def _advance(self, series: Ints, window: Ints) -> None:
        """Move each series on to a window of the finest tier, evicting from the finest tier upwards."""
        for level, tier in enumerate(self._tiers):
            window = tier.start_of(window)
            ahead = window > tier.newest[series]
            series, window = series[ahead], window[ahead]
            if not len(series):
                return
            tier.newest[series] = window
            ring = tier.ring_of(series)
            held = tier.window[ring]
            stale = (held >= 0) & (held <= (window - tier.ring * tier.width)[:, None])
            if stale.any():
                self._evict(level, ring[stale])

    def _evict(self, level: int, cells: Ints) -> None:
        """Make cells final: their rows into the next commit if they changed, their content into the next tier."""
        tier = self._tiers[level]
        partials = tier.partials(cells)
        changed = tier.dirty[cells]
        if changed.any():
            rows = partials.take(changed).rows(self._keys, self._worker, tier.width_s, self._cell_epoch)
            self._final.append(rows)
        tier.clear(cells)
        if level + 1 == len(self._tiers):
            return
        # Several cells of one series may share a parent: each step of the ring is merged by itself.
        above = self._tiers[level + 1]
        into = above.cell_of(partials.series, above.start_of(partials.window))
        above.dirty[into[changed]] = True
        for nth in range(tier.ring):
            which = np.flatnonzero(cells % tier.ring == nth)
            merge(above, into[which], partials.take(which))

    def _open(self, series: Ints, window: Ints) -> None:
        """Give each window its cell in every tier."""
        for tier in self._tiers:
            window = tier.start_of(window)
            tier.window[tier.cell_of(series, window)] = window

    def _parents(self, level: int, cells: Ints) -> Ints:
        """Return the cells of ``level`` above the cells of the level below; empty for level 0."""
        if not level:
            return cells
        tier, below = self._tiers[level], self._tiers[level - 1]
        return tier.cell_of(cells // below.ring, tier.start_of(below.window[cells]))

    def _effective(self, level: int, cells: Ints) -> Partials:
        """Return what cells hold together with the open cells below them that they do not contain yet."""
        tier = self._tiers[level]
        total = tier.partials(cells)
        if not level:
            return total
        below = self._tiers[level - 1]
        ring = below.ring_of(total.series)
        held = below.window[ring]
        child = (held >= 0) & (tier.start_of(held) == total.window[:, None])
        for nth in range(below.ring):
            at = np.flatnonzero(child[:, nth])
            if len(at):
                merge(total, at, self._effective(level - 1, ring[at, nth]))
        return total

    def _late_rows(self, epoch: int) -> list[WindowRows]:
        """Return the late partials of this commit, folded, for every tier."""
        late, self._late = self._late, []
        if not late:
            return []
        finest = self._tiers[0].width_s
        loose = WindowRows.concatenate([part.rows(self._keys, self._worker, finest, 0) for part in late])
        folded = [fold(loose, tier.width) for tier in self._tiers]
        return [rows.at_epoch(epoch) for rows in folded]

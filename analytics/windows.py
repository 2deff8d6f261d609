"""The window kernel: samples into exact partial aggregates, every tier at once.

Each tier keeps a short ring of cells per series, addressed directly: cell = window number % ring * capacity + series,
so that the cells of the series that share a window are neighbours. Samples are merged into the cells of the finest
tier. A cell that falls out of its ring, because its series has moved on, is final: its row goes into the next commit
and its content into the next tier's cell.

    samples, blocks ──merge──► 10 s cells ──evict──► 1 min cells ──► 15 min cells ──► 1 h cells
        │ older than the ring
        └──────────────────────────► late partials, for every tier, into the next commit

Samples that do not come in blocks wait first, so that several go to their cell as one: see :mod:`analytics.scattered`.
The histograms of metrics that have percentiles go the same way beside the cells: see
:mod:`analytics.open_histograms`.

A cell's memory is written when its first window opens, so a wide tier that nothing has reached takes none.

:meth:`Windows.take_rows` returns the rows that changed since it was last called. The row of a wider tier contains the
cells of the tiers below that have not been evicted into it yet, so that all tiers are complete as of the same commit.

A sample changes a row in every tier. A store that can fold may be spared those of the wider tiers until their windows
are over: every one of them is the fold of rows of the tier below, and :meth:`Windows.take_packed` says from which
window on.

Row epochs: the cells of one life of a worker write with epoch ``2 * life``, the late partials of a commit with
``2 * commit + 1``. Two states that do not contain each other never write the same key (law 6).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analytics.histograms import Binned
from analytics.open_histograms import OpenHistograms
from analytics.packing import PackedRows, Unfolded
from analytics.partials import NEUTRAL, Aggregates, Partials, join, merge
from analytics.rows import TIERS_S, SeriesKey, WindowRows
from analytics.scattered import Waiting, reduced
from devices.columns import Bools, Ints
from devices.times import NS
from devices.vocabulary import PERCENTILED

RINGS: Final = (4, 2, 2, 2)
"""Cells per series, by tier: how many windows stay open for data out of order before it becomes a late partial. The
finest ring spans less than one window of the next tier, so two cells there always hold the parents of all four."""
LATE_HELD: Final = 1 << 17
"""Late partials are folded when there are more of them than this, so that a flood of old data takes bounded memory."""
DUE: Final = 1 << 13
"""Rows of a wider tier that a commit writes at least, if so many windows are over."""
NUMBER_BITS: Final = 31
"""Bits of a window's number."""
SLICE: Final = 1 << 14
"""Rows gone through at once: so few that what is computed on the way takes little memory and stays in the caches."""


class _Tier(Aggregates):
    """The cells of one tier; arrays of shape (ring * capacity,), int64."""

    __slots__ = ("_seat", "capacity", "dirty", "newest", "ring", "width", "width_s", "window")

    def __init__(self, width_s: int, ring: int) -> None:
        self.width_s, self.width, self.ring = width_s, width_s * NS, ring
        self.capacity = 0
        """How many series there is room for."""
        self.newest: Ints = np.empty(0, np.int64)
        """Per series: the newest window opened, ns; -1 where none is."""
        self.window: Ints = np.empty(0, np.int64)
        """Per cell: the window it holds, ns; -1 where it is empty. Its aggregates mean nothing then, and
        also while its count is 0."""
        self.dirty: Bools = np.empty(0, np.bool_)
        """Per cell: whether its row has changed since the last commit."""
        self._seat: NDArray[np.int32] = np.empty(0, np.int32)
        for name in NEUTRAL:
            setattr(self, name, np.empty(0, np.int64))

    def grow(self, series: int) -> None:
        """Make room for at least ``series`` series, by half as much again."""
        had = self.capacity
        if series <= had:
            return
        self.capacity = max(series, had + had // 2, 256)
        self._seat = np.empty(self.capacity, np.int32)
        self.newest = np.append(self.newest, np.full(self.capacity - had, -1, np.int64))
        reached = np.flatnonzero((self.window.reshape(self.ring, had) >= 0).any(axis=1))

        def widened(cells: Ints) -> Ints:
            # Pages that are not written take no memory, so what no window has reached is not copied.
            wide = np.empty((self.ring, self.capacity), cells.dtype)
            wide[reached, :had] = cells.reshape(self.ring, had)[reached]
            return wide.reshape(-1)

        for name in NEUTRAL:
            setattr(self, name, widened(getattr(self, name)))
        window = np.full((self.ring, self.capacity), -1, np.int64)
        window[:, :had] = self.window.reshape(self.ring, had)
        self.window = window.reshape(-1)
        dirty = np.zeros((self.ring, self.capacity), np.bool_)
        dirty[:, :had] = self.dirty.reshape(self.ring, had)
        self.dirty = dirty.reshape(-1)

    def start_of(self, ts: Ints) -> Ints:
        """Return the start of the windows that hold ``ts``."""
        return ts // self.width * self.width

    def cell_of(self, series: Ints, window: Ints) -> Ints:
        """Return the cell of each (series, window)."""
        return (window // self.width & self.ring - 1) * self.capacity + series

    def ring_of(self, series: Ints) -> Ints:
        """Return all cells of each series; shape (n, ring)."""
        return series[:, None] + np.arange(self.ring) * self.capacity

    def series_of(self, cells: Ints) -> Ints:
        """Return the series of each cell."""
        return cells % self.capacity

    def distinct(self, series: Ints) -> Ints:
        """Return where each of the series (n,) occurs once."""
        nth = np.arange(len(series), dtype=np.int32)
        # Of several that write to one seat the last one stays.
        self._seat[series] = nth
        return np.flatnonzero(self._seat[series] == nth)

    def partials(self, cells: Ints) -> Partials:
        """Return a copy of the cells' content."""
        partials = Partials(self.series_of(cells), self.window[cells], self.take_values(cells))
        partials.begin(np.arange(len(cells)))
        return partials

    def open(self, cells: Ints, window: Ints) -> None:
        """Let cells begin their windows, without samples; both (n,), repeated or not."""
        self.window[cells] = window
        self.count[cells] = 0


class Windows:
    """Exact windows of every series of one worker, in every tier."""

    def __init__(self, worker: str, life: int, keys: Sequence[SeriesKey]) -> None:
        """``life`` counts the starts of this worker on its data; ``keys`` is the caller's table, which may grow."""
        self._worker = worker
        self._cell_epoch = 2 * life
        self._keys = keys
        self._tiers = [_Tier(width_s, ring) for width_s, ring in zip(TIERS_S, RINGS, strict=True)]
        self._final = PackedRows(keys, worker)
        self._late: list[Partials] = []
        self._late_held = 0
        self._waiting = Waiting()
        self._histograms = OpenHistograms([tier.width for tier in self._tiers])
        self._binned: Bools = np.empty(0, np.bool_)
        """Per series: whether its metric has percentiles."""

    def add(self, series: Ints, ts: Ints, seq: Ints, value: Ints, late: Bools) -> None:
        """Add samples: arrays (n,); ``series`` index ``keys``, ``ts`` ns ≥ 0, ``value`` scaled.

        ``late`` marks samples that came after their device's watermark had passed their window; they are counted.
        """
        for samples in self._waiting.add(series, ts, seq, value, late):
            self._merge_samples(samples)

    def add_partials(self, partials: Partials, binned: Binned | None = None) -> None:
        """Add what has been reduced already: partials of the finest tier, of which several may share their window.

        ``binned``: the bins of all samples in ``partials`` whose metric has percentiles.
        """
        if not len(partials):
            return
        self._merge(partials, merge)
        if binned is not None:
            self._add_binned(binned)

    def take_rows(self, commit: int) -> WindowRows:
        """Return the rows that changed since the last call, one per key, for commit number ``commit`` ≥ 0."""
        return self.take_packed(commit).whole()

    def take_packed(self, commit: int, over: int | None = None) -> PackedRows:
        """Return what :meth:`take_rows` would, packed.

        With ``over``, without the rows of wider tiers whose windows are not over by this time, ns UTC, or have to wait
        their turn: ``unfolded`` of the answer tells from which windows on the rows of the tier below stand for them.
        """
        self.settle()
        rows, self._final = self._final, PackedRows(self._keys, self._worker)
        changed = np.empty(0, np.int64)
        since: dict[int, int] = {}
        for level, tier in enumerate(self._tiers):
            tier.dirty[self._parents(level, changed)] = True
            changed = np.flatnonzero(tier.dirty)
            if level and over is not None:
                changed, waits = self._due(tier, changed, over)
                # What waits below is missing here as well, in windows that nothing has marked yet.
                inherited = tier.start_of(np.array(list(since.values())[-1:], np.int64))
                starts = np.append(inherited, tier.window[waits])
                if len(starts):
                    since[tier.width_s] = int(starts.min())
            tier.dirty[changed] = False
            for some in _slices(len(changed)):
                effective = self._effective(level, changed[some])
                rows.add(tier.width_s, self._rows_of(tier, effective, self._cell_epoch))
        self._add_late(rows, 2 * commit + 1)
        self._add_bins(rows)
        rows.unfolded = Unfolded(self._cell_epoch, since)
        return rows

    @staticmethod
    def _due(tier: _Tier, dirty: Ints, over: int) -> tuple[Ints, Ints]:
        """Return which of the changed cells are to be written now, and those that wait.

        The windows of all series end at the same time: they are written over several commits.
        """
        ended = tier.window[dirty] + tier.width <= over
        due = dirty[ended]
        most = max(DUE, len(due) // 8)
        return due[:most], np.append(due[most:], dirty[~ended])

    def settle(self) -> None:
        """Merge what waits to be merged together with more."""
        for samples in self._waiting.take():
            self._merge_samples(samples)

    def most_held(self) -> int:
        """Return a number that no row holds more samples than of those that may still be written."""
        self.settle()
        held = np.zeros(self._tiers[0].capacity, np.int64)
        for tier in self._tiers:
            reached = np.flatnonzero(tier.window >= 0)
            np.add.at(held, tier.series_of(reached), tier.count[reached])
        return int(held.max(initial=0)) + sum(int(late.count.sum()) for late in self._late)

    def held(self, series: Ints, window: Ints) -> Ints:
        """Return how many samples each series holds in a window of the widest tier, in rows that may still be written.

        ``series`` and ``window`` (n,): pairs that all differ.
        """
        self.settle()
        widest = self._tiers[-1]
        total = np.zeros(len(series), np.int64)
        for tier in self._tiers:
            tier.grow(len(self._keys))
            cells = tier.ring_of(series)
            within = widest.start_of(tier.window[cells]) == window[:, None]
            total += np.where(within, tier.count[cells], 0).sum(axis=1)
        if self._late:
            late = Partials.concatenate(self._late).folded(widest.width)
            known, wanted = (
                each << NUMBER_BITS | at // widest.width for each, at in ((late.series, late.window), (series, window))
            )
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            total += np.where(known[place] == wanted, late.count[place], 0)
        return total

    def _add_bins(self, rows: PackedRows) -> None:
        """Give the rows of a commit the histograms of their metrics that have percentiles."""
        self._histograms.settle()
        late = self._histograms.take_late()
        for level, tier in enumerate(self._tiers):
            if tier.width_s not in rows.tiers:
                continue
            series = rows.narrow(tier.width_s, "series").astype(np.int64)
            wanted = self._wanted(series)
            if not wanted.any():
                continue
            window = rows.narrow(tier.width_s, "window").astype(np.int64) * tier.width
            of_cells = rows.narrow(tier.width_s, "epoch") == self._cell_epoch
            bins = np.full(len(series), b"", np.object_)
            at = np.flatnonzero(wanted & of_cells)
            bins[at] = self._histograms.of_cells(level, series[at], window[at])
            if late:
                at = np.flatnonzero(wanted & ~of_cells)
                bins[at] = self._histograms.of_late(late[level], level, series[at], window[at])
            rows.set_bins(tier.width_s, bins)
        self._histograms.drop(self._is_open)

    def _is_open(self, level: int, series: Ints, window: Ints) -> Bools:
        tier = self._tiers[level]
        still: Bools = tier.window[tier.cell_of(series, window)] == window
        return still

    def _wanted(self, series: Ints) -> Bools:
        """Return which of the series (n,) have percentiles."""
        known = len(self._binned)
        if known < len(self._keys):
            more = [key.metric in PERCENTILED for key in self._keys[known:]]
            self._binned = np.append(self._binned, np.array(more, np.bool_))
        return self._binned[series]

    def _merge_samples(self, samples: Ints) -> None:
        """Merge waiting samples; shape (4, n ≥ 1)."""
        every, value = reduced(samples, self._tiers[0].width)
        self._merge(every, join)
        wanted = self._wanted(every.series)
        if wanted.any():
            some = every.take(wanted)
            of_each = value[np.repeat(wanted, every.count)]
            self._add_binned(Binned.of_groups(some.series, some.window, some.count, of_each))

    def _merge(self, partials: Partials, how: Callable[[Aggregates, Ints, Partials], None]) -> None:
        """Merge or join partials of the finest tier."""
        if int(partials.series.max()) >= self._tiers[0].capacity:
            # Not before: what detectors find has series too, which never come here.
            for tier in self._tiers:
                tier.grow(len(self._keys))
        fitting = self._fit(partials)
        finest = self._tiers[0]
        for some in _slices(len(fitting)):
            partials = fitting.take(some)
            cells = finest.cell_of(partials.series, partials.window)
            if how is merge:
                finest.begin(cells)
            how(finest, cells, partials)
            finest.dirty[cells] = True

    def _add_binned(self, binned: Binned) -> None:
        finest = self._tiers[0]
        oldest = finest.newest[binned.series] - finest.ring * finest.width
        self._histograms.add(binned, binned.window <= oldest)

    def _fit(self, partials: Partials) -> Partials:
        """Give partials (n,) their cells; return those that have one, the others are late."""
        finest = self._tiers[0]
        newest = finest.newest[partials.series]
        if (partials.window == newest).all():
            return partials
        ahead = np.flatnonzero(partials.window > newest)
        if len(ahead):
            self._advance(partials.series[ahead], partials.window[ahead])
        inside = partials.window > finest.newest[partials.series] - finest.ring * finest.width
        if not inside.all():
            self._keep_late(partials.take(np.flatnonzero(~inside)))
            partials = partials.take(np.flatnonzero(inside))
        self._open(partials.series, partials.window)
        return partials

    def _advance(self, series: Ints, window: Ints) -> None:
        """Move series on to windows of the finest tier, evicting from the finest tier upwards; both (n,), repeated."""
        for level, tier in enumerate(self._tiers):
            window = tier.start_of(window)
            ahead = np.flatnonzero(window > tier.newest[series])
            if not len(ahead):
                return
            series, window = series[ahead], window[ahead]
            before = tier.newest[series]
            np.maximum.at(tier.newest, series, window)
            if not level:
                distinct = tier.distinct(series)
                series, before = series[distinct], before[distinct]
            window = tier.newest[series]
            # Every step turns the ring by one cell; what a cell still holds then has become final.
            for step in range(tier.ring):
                turned = np.flatnonzero(window - step * tier.width > before)
                if not len(turned):
                    break
                of = series[turned]
                cells = tier.cell_of(of, window[turned] - step * tier.width)
                held = np.flatnonzero(tier.window[cells] >= 0)
                for some in _slices(len(held)):
                    self._evict(level, of[held[some]], cells[held[some]])

    def _evict(self, level: int, series: Ints, cells: Ints) -> None:
        """Make cells final, one of each of the series (n,).

        Their rows go into the next commit if they changed, their content into the next tier.
        """
        tier = self._tiers[level]
        partials = Partials(series, tier.window[cells], tier.take_values(cells))
        changed = tier.dirty[cells]
        if changed.any():
            self._final.add(tier.width_s, self._rows_of(tier, partials.take(changed), self._cell_epoch))
        tier.window[cells] = -1
        tier.dirty[cells] = False
        if level + 1 < len(self._tiers):
            above = self._tiers[level + 1]
            into = above.cell_of(partials.series, above.start_of(partials.window))
            above.dirty[into[changed]] = True
            join(above, into, partials)

    def _open(self, series: Ints, window: Ints) -> None:
        """Give each window its cell in every tier; both (n,), repeated."""
        for tier in self._tiers:
            window = tier.start_of(window)
            cells = tier.cell_of(series, window)
            fresh = np.flatnonzero(tier.window[cells] != window)
            if not len(fresh):
                return
            # The windows above one that is open are open.
            series, window = series[fresh], window[fresh]
            tier.open(cells[fresh], window)

    def _parents(self, level: int, cells: Ints) -> Ints:
        """Return the cells of ``level`` above the cells of the level below; empty for level 0."""
        if not level:
            return cells
        tier, below = self._tiers[level], self._tiers[level - 1]
        return tier.cell_of(below.series_of(cells), tier.start_of(below.window[cells]))

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
        merge(total, np.nonzero(child)[0], self._effective(level - 1, ring[child]))
        return total

    def _keep_late(self, partials: Partials) -> None:
        """Keep what is older than its ring for the next commit."""
        self._late.append(partials)
        self._late_held += len(partials)
        if self._late_held > LATE_HELD:
            folded = Partials.concatenate(self._late).folded(self._tiers[0].width)
            # What does not fold stays: it is as many rows, however they are kept.
            self._late, self._late_held = [folded], 0

    def _add_late(self, rows: PackedRows, epoch: int) -> None:
        """Add the late partials of this commit, folded, for every tier."""
        late, self._late, self._late_held = self._late, [], 0
        if not late:
            return
        folded = Partials.concatenate(late)
        for tier in self._tiers:
            folded = folded.folded(tier.width)
            rows.add(tier.width_s, self._rows_of(tier, folded, epoch))

    def _rows_of(self, tier: _Tier, partials: Partials, epoch: int) -> WindowRows:
        return partials.rows(self._keys, self._worker, tier.width_s, epoch)


def _slices(length: int) -> Iterator[slice]:
    """Yield what together is all of so many rows."""
    for begin in range(0, length, SLICE):
        yield slice(begin, begin + SLICE)

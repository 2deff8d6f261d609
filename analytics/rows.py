"""Window rows: mergeable partial aggregates, the only form in which figures rest and travel.

A row is keyed by (tier, window, series, worker, epoch). Writing a key again replaces it; readers fold every row of a
window, whatever worker and epoch it came from. All values are exact integers (see ``devices.vocabulary``), so folding
is associative and commutative to the bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, NamedTuple, Self

import numpy as np

from analytics.histograms import Packed, folded
from devices.columns import Bools, Ints
from devices.times import NS
from devices.topics import DeviceKey

TIERS_S: Final = (10, 60, 900, 3600)
"""Widths of the window tiers in seconds, each folded from the one before."""

FULL: Final = 2**63
"""What 64 bits with a sign do not hold any more."""


class SeriesKey(NamedTuple):
    """One metric of one device."""

    site: str
    device_class: str
    device: str
    metric: str

    @property
    def device_key(self) -> DeviceKey:
        """The device part of the key."""
        return DeviceKey(self.site, self.device_class, self.device)


@dataclass(frozen=True, slots=True)
class WindowRows:
    """Window rows as columns, all arrays of shape (n,) and dtype int64.

    ``keys``: table of series; ``series`` indexes into it. ``worker``: who wrote them. ``tier_s``: width of the window
    in seconds. ``window``: start of the window, ns UTC. ``epoch``: 0 ≤ epoch < 1e9, tells the partials of one window
    apart. ``count``, ``sum``, ``min``, ``max``, ``first``, ``last``: in resolutions of the metric. ``first_ts``,
    ``first_seq``, ``last_ts``, ``last_seq``: event time (ns) and sequence number that won. ``late``: how many of
    ``count`` arrived after the device's watermark had passed the window. ``bins``: the histograms of metrics that have
    percentiles (see :mod:`analytics.histograms`), None where no row has one.
    """

    keys: Sequence[SeriesKey]
    worker: str
    tier_s: Ints
    window: Ints
    series: Ints
    epoch: Ints
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
    bins: Packed | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.window)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of the integer columns, in order."""
        return tuple(each.name for each in fields(cls))[2:-1]

    @property
    def packed(self) -> Packed:
        """The histogram of every row as bytes, ``b""`` where it has none; shape (n,)."""
        return np.full(len(self), b"", np.object_) if self.bins is None else self.bins

    def take(self, which: Bools | Ints) -> "WindowRows":
        """Return the rows selected by a mask or by positions."""
        bins = None if self.bins is None else self.bins[which]
        return WindowRows(self.keys, self.worker, *(getattr(self, name)[which] for name in self.columns()), bins=bins)

    def at_epoch(self, epoch: int) -> "WindowRows":
        """Return the same rows under one epoch."""
        return replace(self, epoch=np.full(len(self), epoch, np.int64))

    @classmethod
    def empty(cls, keys: Sequence[SeriesKey] = (), worker: str = "") -> Self:
        """Return no rows."""
        return cls(keys, worker, *(np.empty(0, np.int64) for _ in cls.columns()))

    @classmethod
    def concatenate(cls, parts: "Sequence[WindowRows]") -> "WindowRows":
        """Return the rows of ``parts``, which must share ``keys`` and ``worker``, one after another."""
        if not parts:
            return cls.empty()
        arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in cls.columns())
        binned = any(part.bins is not None for part in parts)
        bins = np.concatenate([part.packed for part in parts]) if binned else None
        return cls(parts[0].keys, parts[0].worker, *arrays, bins=bins)


@dataclass(frozen=True, slots=True)
class WindowSums:
    """What of window rows adds up, as columns, all arrays of shape (n,) and dtype int64.

    ``window``, ``series``, ``count``, ``sum`` and ``late`` are those of :class:`WindowRows`. A series may have several
    of one window, for partials of other workers and epochs are kept apart.
    """

    window: Ints
    series: Ints
    count: Ints
    sum: Ints
    late: Ints

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.window)

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return tuple(each.name for each in fields(cls))

    @classmethod
    def of(cls, rows: "WindowRows | WindowSums") -> "WindowSums":
        """Return what of the rows adds up; nothing is copied."""
        return cls(*(getattr(rows, name) for name in cls.columns()))

    def take(self, which: Bools | Ints) -> "WindowSums":
        """Return the rows selected by a mask or by positions."""
        return WindowSums(*(getattr(self, name)[which] for name in self.columns()))

    @classmethod
    def concatenate(cls, parts: "Sequence[WindowSums]") -> "WindowSums":
        """Return the rows of ``parts`` one after another."""
        if not parts:
            return cls(*(np.empty(0, np.int64) for _ in cls.columns()))
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.columns()))


def heard(rows: WindowRows | WindowSums, series: int, windows: range) -> Bools:
    """Return in which windows rows have samples; shape (series, windows).

    ``series`` is how many the rows index, ``windows`` the starts of adjacent windows of their tier, ns UTC. Rows of
    other windows are left out, and those without samples.
    """
    result = np.zeros((series, len(windows)), np.bool_)
    column = (rows.window - windows.start) // windows.step
    inside = (column >= 0) & (column < len(windows)) & (rows.count > 0)
    result[rows.series[inside], column[inside]] = True
    return result


def starts_of(*keys: Ints) -> Ints:
    """Return where a new group begins in key arrays (n,) that are sorted together; shape (groups,)."""
    if not len(keys[0]):
        return np.empty(0, np.int64)
    change = np.zeros(len(keys[0]), np.bool_)
    change[0] = True
    for key in keys:
        change[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(change)


def fold(rows: WindowRows, step_ns: int | None = None) -> WindowRows:
    """Merge all rows of each (series, window) into one; with ``step_ns``, of each (series, step bucket).

    Rows of different tiers must not overlap in time. Rows with a count of 0 say that a window holds nothing any more,
    and are left out. The result has epoch 0, is sorted by (series, window) and keeps
    ``keys``; ``window`` is the bucket's start and ``tier_s`` its width. Its sums are exact: where one does not fit into
    64 bits, as over a year of large values, they are Python's integers in an array of objects.
    """
    if not rows.count.all():
        rows = rows.take(rows.count > 0)
    if not len(rows):
        return rows
    bucket = window_of(rows, step_ns)
    # The value settles what a device without sequence left equal, as it does in the windows.
    order: Ints = np.lexsort((rows.first, rows.first_seq, rows.first_ts, bucket, rows.series))
    window, series = bucket[order], rows.series[order]
    starts = starts_of(series, window)
    lasts = np.append(starts[1:], len(order)) - 1

    # The last of a group is the one with the greatest (last_ts, last_seq, last); the first comes from `order` itself.
    by_last: Ints = np.lexsort((rows.last, rows.last_seq, rows.last_ts, bucket, rows.series))
    width = rows.tier_s[order][starts] if step_ns is None else np.full(len(starts), step_ns // NS)

    def first_of(array: Ints) -> Ints:
        taken: Ints = np.take(array, order[starts])
        return taken

    def last_of(array: Ints) -> Ints:
        taken: Ints = np.take(array, by_last[lasts])
        return taken

    return WindowRows(
        rows.keys,
        rows.worker,
        tier_s=width.astype(np.int64),
        window=window[starts],
        series=series[starts],
        epoch=np.zeros(len(starts), np.int64),
        count=np.add.reduceat(rows.count[order], starts),
        sum=_sums(rows.sum[order], starts),
        min=np.minimum.reduceat(rows.min[order], starts),
        max=np.maximum.reduceat(rows.max[order], starts),
        first_ts=first_of(rows.first_ts),
        first_seq=first_of(rows.first_seq),
        first=first_of(rows.first),
        last_ts=last_of(rows.last_ts),
        last_seq=last_of(rows.last_seq),
        last=last_of(rows.last),
        late=np.add.reduceat(rows.late[order], starts),
        bins=_folded_bins(rows, order, starts),
    )


def _sums(of: Ints, starts: Ints) -> Ints:
    """Sum groups that begin at ``starts``; Python's integers where 64 bits may not hold the result."""
    longest = int(np.diff(starts, append=len(of)).max())
    if max(int(of.max()), -int(of.min())) * longest < FULL:
        sums: Ints = np.add.reduceat(of, starts)
        return sums
    exact = np.add.reduceat(of.astype(np.object_), starts)
    return exact.astype(np.int64) if all(-FULL <= each < FULL for each in exact.tolist()) else exact


def _folded_bins(rows: WindowRows, order: Ints, starts: Ints) -> Packed | None:
    """Merge the histograms of groups of rows, which begin at ``starts`` of ``order``."""
    if rows.bins is None:
        return None
    group = np.empty(len(order), np.int64)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    return folded(rows.bins, group, len(starts))


def window_of(rows: WindowRows, step_ns: int | None) -> Ints:
    """Return the start of each row's window, or of the step bucket that holds it; shape (n,)."""
    return rows.window if step_ns is None else rows.window - rows.window % step_ns

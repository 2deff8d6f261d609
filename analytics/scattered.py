"""Scattered samples on their way into the windows: brought together by series, then reduced to distinct partials.

A sample that goes alone to the cell of its window touches memory that is in no cache as soon as there are many series.
So samples wait until several of a series can go together, and those of neighbouring series go at the same time:

    samples ──► loose, 65,536 ──by series──► buckets of 8,192 series ──when full──► sorted, reduced ──► cells

Sorting is numpy's radix sort of 16 bits, an order of magnitude faster than its sorting by comparison. Up to 16,384
series, samples are reduced as they come.
"""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from analytics.partials import Partials
from analytics.radix import narrowed, order_by
from devices.columns import Bools, Ints

RUN: Final = 1 << 16
"""Samples that are gathered before anything is done to them: enough that numpy's cost per call does not count."""
NEAR: Final = 1 << 14
"""Up to so many series their cells stay in the caches, and samples are reduced as they come."""
SPAN_BITS: Final = 13
"""Neighbouring series that share a bucket, as a power of two."""
FULL: Final = 1 << 16
"""Samples in a bucket when it is full: about eight of each series, which then go to their cell as one."""
CROWDED: Final = 6
"""From so many samples of a group on, ``reduceat`` is faster than ``at``."""
KEPT: Final = 1 << 24
"""Arrays up to this size, in bytes, are made of memory that the process has used before."""


@cache
def _keep_what_is_freed() -> None:
    """Let the C library keep memory that is freed, in place of giving it back to the system and asking for it again.

    The arrays of a run are larger than what it keeps at first, and the system takes longer to hand out empty pages than
    numpy to fill them. glibc moves its limit up to the largest block that it has seen freed; others do not mind. Once:
    a second block would already come from the heap, and numpy asks for large pages for it, which would stay there.
    """
    np.empty(KEPT, np.uint8)


class Waiting:
    """Samples that wait: twice the series and one more if late, ts, seq, value.

    Those that are used up as they come are columns; those that go to buckets are rows of 32 bytes, which move as one.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        _keep_what_is_freed()
        self._loose: Ints = np.empty((4, RUN), np.int64)
        self._filled = 0
        self._buckets: list[Ints] | Ints = []
        """Pieces of their own at first, then one piece, shape (n, :data:`FULL`, 4)."""
        self._held: list[int] = []
        """By bucket: how many samples wait in it."""

    def add(self, series: Ints, ts: Ints, seq: Ints, value: Ints, late: Bools) -> Iterator[Ints]:
        """Take samples (n,) and yield what has waited long enough (4, m), to be used up before more is asked for."""
        begin = 0
        while begin < len(series):
            end = begin + min(len(series) - begin, self._loose.shape[1] - self._filled)
            into = self._loose[:, self._filled : self._filled + end - begin]
            np.multiply(series[begin:end], 2, out=into[0])
            if late[begin:end].any():
                into[0] += late[begin:end]
            into[1] = ts[begin:end]
            into[2] = seq[begin:end]
            into[3] = value[begin:end]
            self._filled += end - begin
            begin = end
            if self._filled == self._loose.shape[1]:
                yield from self._distribute()

    def take(self) -> Iterator[Ints]:
        """Yield all that waits, in the same way."""
        if self._filled:
            yield from self._distribute() if any(self._held) else (self._taken(),)
        for nth, held in enumerate(self._held):
            if held:
                yield self._emptied(nth)

    def _taken(self) -> Ints:
        filled, self._filled = self._filled, 0
        return self._loose[:, :filled]

    def _distribute(self) -> Iterator[Ints]:
        """Let the loose samples join their buckets, and yield those that are full."""
        loose = self._taken()
        series = int(loose[0].max() >> 1) + 1
        if series <= NEAR and not self._held:
            yield loose
            return
        buckets = (series - 1 >> SPAN_BITS) + 1
        self._make_room(buckets)
        if self._loose.flags.c_contiguous:
            # From now on they are rows from the beginning.
            self._loose = np.empty(self._loose.shape[::-1], np.int64).T
        bucket = narrowed(loose[0] >> SPAN_BITS + 1, buckets)
        order = order_by(bucket)
        begins = np.searchsorted(bucket, np.arange(buckets, dtype=bucket.dtype), sorter=order).tolist()
        rows = np.ascontiguousarray(loose.T)
        for nth, (begin, end) in enumerate(pairwise([*begins, len(order)])):
            which = order[begin:end]
            while len(which):
                free = len(self._buckets[nth]) - self._held[nth]
                self._put(nth, rows, which[:free])
                if len(which) >= free:
                    if isinstance(self._buckets, list):
                        self._buckets = self._in_one_piece()
                    yield self._emptied(nth)
                which = which[free:]

    def _make_room(self, buckets: int) -> None:
        had = len(self._held)
        if buckets <= had:
            return
        if isinstance(self._buckets, list):
            self._held += [0] * (buckets - had)
            self._buckets += [np.empty((FULL, 4), np.int64) for _ in range(buckets - had)]
        else:
            self._held += [0] * (max(buckets, had + had // 2) - had)
            self._buckets = self._in_one_piece()

    def _in_one_piece(self) -> Ints:
        """Return the buckets with what they hold in one piece, that the system may give it large pages.

        It is faster where they fill. Where samples come so slowly that a bucket is never full before all are taken, the
        pages that no sample reaches take no memory if they are small ones: three quarters, of some thousand devices.
        """
        one = np.empty((len(self._held), FULL, 4), np.int64)
        for nth, (bucket, held) in enumerate(zip(self._buckets, self._held, strict=False)):
            one[nth, :held] = bucket[:held]
        return one

    def _put(self, nth: int, rows: Ints, which: Ints) -> None:
        """Let some of the rows join a bucket that has room for them."""
        held = self._held[nth]
        self._held[nth] = end = held + len(which)
        # Without looking for positions out of bounds: half the time.
        rows.take(which, 0, self._buckets[nth][held:end], "clip")

    def _emptied(self, nth: int) -> Ints:
        held, self._held[nth] = self._held[nth], 0
        return self._buckets[nth][:held].T


class Reduced(NamedTuple):
    """Samples as partials of which no two share series and window, and their values in the partials' order."""

    partials: Partials
    value: Ints
    """Of each sample: those of the first partial, then those of the second …"""


def reduced(samples: Ints, width: int) -> Reduced:
    """Reduce waiting samples (4, n ≥ 1) by series and window of ``width`` ns."""
    # What came as rows becomes columns, as they are gone through in another order.
    coded, ts, seq, value = np.ascontiguousarray(samples)
    lowest, highest = int(coded.min()) >> 1, int(coded.max()) >> 1
    place = narrowed((coded >> 1) - lowest, highest - lowest + 1)
    order = order_by(place)
    at, time = place[order], ts[order]
    alike = at[1:] == at[:-1]
    # Mostly the samples of a series come in the order of their times: the first is the first, the last the last.
    rising = bool(((time[1:] > time[:-1]) >= alike).all())
    if int(time.min()) // width != int(time.max()) // width:
        if not rising:
            number = ts // width
            order = order_by(place, narrowed(number - number.min(), int(number.max() - number.min()) + 1))
            at, time = place[order], ts[order]
            alike = at[1:] == at[:-1]
        number = time // width
        alike &= number[1:] == number[:-1]
    starts = np.append(0, np.flatnonzero(~alike) + 1)
    lasts = np.append(starts[1:], len(order)) - 1
    value = value[order]
    if rising:
        first, last = starts, lasts
    else:
        rank = time, seq[order], value
        first, last = _foremost(rank, starts, lasts), _foremost(rank, starts, lasts, last=True)
    begins = time[starts]
    total = np.cumsum(value)
    least, greatest = _extremes(value, starts, alike)
    aggregates = (
        lasts - starts + 1,
        total[lasts] - total[starts] + value[starts],
        least,
        greatest,
        time[first],
        seq[order[first]],
        value[first],
        time[last],
        seq[order[last]],
        value[last],
        _late(coded, order, starts),
    )
    return Reduced(Partials(at[starts] + np.int64(lowest), begins // width * width, aggregates), value)


def _late(coded: Ints, order: Ints, starts: Ints) -> Ints:
    """Return how many of each group came late; shape (groups,)."""
    late = coded & 1
    return np.add.reduceat(late[order], starts) if late.any() else np.zeros(len(starts), np.int64)


def _extremes(value: Ints, starts: Ints, alike: Bools) -> tuple[Ints, Ints]:
    """Return the least and the greatest value of each group of neighbours that are ``alike``; shape (groups,)."""
    if len(value) >= CROWDED * len(starts):
        return np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts)
    least, greatest = value[starts], value[starts]
    group = np.cumsum(~alike)
    np.minimum.at(least, group, value[1:])
    np.maximum.at(greatest, group, value[1:])
    return least, greatest


def _foremost(rank: tuple[Ints, Ints, Ints], starts: Ints, lasts: Ints, *, last: bool = False) -> Ints:
    """Return where the least (time, sequence, value) of each group is, or the greatest; shape (groups,)."""
    time, seq, value = rank
    best = (np.maximum if last else np.minimum).reduceat(time, starts)
    at = np.flatnonzero(time == np.repeat(best, lasts - starts + 1))
    if len(at) > len(starts):
        group = np.searchsorted(starts, at, side="right")
        order = np.lexsort((value[at], seq[at], group))
        change = group[order][1:] != group[order][:-1]
        chosen = np.concatenate((change, [True])) if last else np.concatenate(([True], change))
        at = at[order[chosen]]
    return at

"""Partial aggregates: what is known of the samples of one series in one window, and how such knowledge is merged.

Merging is exact, associative and commutative to the bit, and a sample is the partial aggregate of itself. So samples,
blocks reduced beforehand and the cells of a narrower tier all go the same way: :func:`merge`, which takes any number of
them for one position. It sorts nothing: numpy's ``ufunc.at`` goes once over the samples for each aggregate, at one or
two nanoseconds a sample. :func:`join` does the same where there is one for each position.
"""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np

from analytics.rows import SeriesKey, WindowRows
from devices.columns import Bools, Ints
from devices.vocabulary import MAX_SCALED

LEAST: Final = np.iinfo(np.int64).min
GREATEST: Final = np.iinfo(np.int64).max

MOST: Final = 2**63 // MAX_SCALED - 1
"""Samples of one partial aggregate at most: so many of the largest values have a sum that 64 bits hold."""

NEUTRAL: Final = {
    "count": 0,
    "sum": 0,
    "min": GREATEST,
    "max": LEAST,
    "first_ts": GREATEST,
    "first_seq": GREATEST,
    "first": GREATEST,
    "last_ts": LEAST,
    "last_seq": LEAST,
    "last": LEAST,
    "late": 0,
}
"""Aggregate → its value over no samples; the order is that of :class:`analytics.rows.WindowRows`."""


class Aggregates:
    """One array per aggregate, all of the same shape (n,), int64."""

    __slots__ = tuple(NEUTRAL)

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

    def take_values(self, which: Bools | Ints | slice) -> list[Ints]:
        """Return each aggregate, in their order: a copy of what is at the positions or under the mask, or a slice."""
        return [getattr(self, name)[which] for name in NEUTRAL]

    def put_values(self, at: Ints, what: "Aggregates") -> None:
        """Replace what is at the positions."""
        for name in NEUTRAL:
            getattr(self, name)[at] = getattr(what, name)

    def begin(self, at: Ints) -> None:
        """Let those of the positions whose count is 0 be over no samples in every other aggregate as well."""
        fresh = at[self.count[at] == 0]
        if len(fresh):
            for name, neutral in NEUTRAL.items():
                getattr(self, name)[fresh] = neutral


class Values(Aggregates):
    """Aggregates of which only the order tells what they belong to: arrays of shape (n,), int64."""

    __slots__ = ()

    def __init__(self, values: Sequence[Ints]) -> None:
        """Take ``values`` in the order of the aggregates; nothing is copied."""
        for name, value in zip(NEUTRAL, values, strict=True):
            setattr(self, name, value)


class Partials(Aggregates):
    """Partial aggregates of series and windows: arrays of shape (n,), int64. A pair may occur several times."""

    __slots__ = ("series", "window")

    def __init__(self, series: Ints, window: Ints, values: Sequence[Ints]) -> None:
        """Take ``values`` in the order of the aggregates; nothing is copied."""
        self.series = series
        self.window = window
        for name, value in zip(NEUTRAL, values, strict=True):
            setattr(self, name, value)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.series)

    @classmethod
    def of_samples(cls, series: Ints, ts: Ints, seq: Ints, value: Ints, late: Ints, width: int) -> Self:
        """Take samples (n,) as the partials that they are, in windows of ``width`` ns; ``late`` is 0 or 1."""
        ones = np.ones(len(series), np.int64)
        return cls(series, ts // width * width, (ones, value, value, value, ts, seq, value, ts, seq, value, late))

    @classmethod
    def neutral(cls, series: Ints, window: Ints) -> Self:
        """Return partials over no samples."""
        return cls(series, window, [np.full(len(series), neutral, np.int64) for neutral in NEUTRAL.values()])

    @classmethod
    def concatenate(cls, parts: "Sequence[Partials]") -> "Partials":
        """Return the partials of ``parts``, at least one, one after another."""
        if len(parts) == 1:
            return parts[0]
        series, window, *values = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("series", "window", *NEUTRAL)
        )
        return cls(series, window, values)

    def take(self, which: Bools | Ints | slice) -> "Partials":
        """Return the partials selected by a mask, by positions or, without a copy, by a slice."""
        return Partials(self.series[which], self.window[which], self.take_values(which))

    def folded(self, width: int) -> "Partials":
        """Merge what shares a series and a window of ``width`` ns; sorted by (series, window)."""
        if not len(self):
            return self
        number = self.window // width
        low = int(number.min())
        span = int(number.max()) - low + 1
        key, at = np.unique(self.series * span + (number - low), return_inverse=True)
        total = Partials.neutral(key // span, (key % span + low) * width)
        merge(total, at, self)
        return total

    def rows(self, keys: Sequence[SeriesKey], worker: str, tier_s: int, epoch: int) -> WindowRows:
        """Return the partials as rows of one tier and epoch."""
        shape = len(self.series)
        labels = np.full(shape, tier_s, np.int64), self.window, self.series, np.full(shape, epoch, np.int64)
        return WindowRows(keys, worker, *labels, *(getattr(self, name) for name in NEUTRAL))


def merge(into: Aggregates, at: Ints, what: Aggregates) -> None:
    """Merge aggregates (n,) into those at the positions ``at`` (n,), of which any may occur any number of times."""
    np.add.at(into.count, at, what.count)
    np.add.at(into.sum, at, what.sum)
    np.minimum.at(into.min, at, what.min)
    np.maximum.at(into.max, at, what.max)
    if what.late.any():
        np.add.at(into.late, at, what.late)
    _settle((into.first_ts, into.first_seq, into.first), at, (what.first_ts, what.first_seq, what.first), earliest=True)
    _settle((into.last_ts, into.last_seq, into.last), at, (what.last_ts, what.last_seq, what.last), earliest=False)


def join(into: Aggregates, at: Ints, what: Aggregates) -> None:
    """Merge aggregates (n,), of one sample at least each, into those at the positions ``at``, which all differ.

    Positions whose count is 0 hold nothing yet, whatever stands in their other aggregates.
    """
    held = into.count[at]
    if not held.any():
        # Where a window has just ended or begun.
        into.put_values(at, what)
        return
    if not held.all():
        fresh = np.flatnonzero(held == 0)
        into.put_values(at[fresh], Values(what.take_values(fresh)))
        known = np.flatnonzero(held)
        at, what, held = at[known], Values(what.take_values(known)), held[known]
    into.count[at] = held + what.count
    np.add.at(into.sum, at, what.sum)
    np.minimum.at(into.min, at, what.min)
    np.maximum.at(into.max, at, what.max)
    if what.late.any():
        np.add.at(into.late, at, what.late)
    _prefer((into.first_ts, into.first_seq, into.first), at, (what.first_ts, what.first_seq, what.first), np.less)
    _prefer((into.last_ts, into.last_seq, into.last), at, (what.last_ts, what.last_seq, what.last), np.greater)


def _prefer(held: tuple[Ints, Ints, Ints], at: Ints, offered: tuple[Ints, Ints, Ints], better: np.ufunc) -> None:
    """Keep at each position, which all differ, the better (time, sequence, value) of those held and offered."""
    before = held[0][at]
    wins = better(offered[0], before)
    alike = np.flatnonzero(offered[0] == before)
    if len(alike):
        ours, theirs = ([column[which] for column in of[1:]] for of, which in ((held, at[alike]), (offered, alike)))
        wins[alike] = better(theirs[0], ours[0]) | (theirs[0] == ours[0]) & better(theirs[1], ours[1])
    if wins.all():
        for column, value in zip(held, offered, strict=True):
            column[at] = value
        return
    which = np.flatnonzero(wins)
    if len(which):
        for column, value in zip(held, offered, strict=True):
            column[at[which]] = value[which]


def _settle(held: tuple[Ints, Ints, Ints], at: Ints, offered: tuple[Ints, Ints, Ints], *, earliest: bool) -> None:
    """Keep at each position the least (``earliest``) or the greatest (time, sequence, value) of those held and offered.

    Digit by digit: only who has the best time goes on to its sequence, and only who has that one too to its value. The
    value settles what a device left equal.
    """
    best, at_least = (np.minimum, np.less_equal) if earliest else (np.maximum, np.greater_equal)
    time, seq, value = held
    before = time[at]
    if not at_least(offered[0], before).any():
        return
    best.at(time, at, offered[0])
    which = np.flatnonzero(offered[0] == time[at])
    place, ahead = at[which], offered[0][which] != before[which]
    # Where the time has become better, what was held no longer counts, and mostly one alone has the best time.
    if ahead.all():
        seq[place] = offered[1][which]
        value[place] = offered[2][which]
        if (seq[place] == offered[1][which]).all() and (value[place] == offered[2][which]).all():
            return
    worst = GREATEST if earliest else LEAST
    seq[place[ahead]] = worst
    value[place[ahead]] = worst
    before = seq[place]
    best.at(seq, place, offered[1][which])
    won = offered[1][which] == seq[place]
    value[place[won & (before != offered[1][which])]] = worst
    best.at(value, place[won], offered[2][which[won]])

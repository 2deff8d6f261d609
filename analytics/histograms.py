"""Mergeable histograms in logarithmic bins: percentiles within 1 % of the sample of that rank, whatever the order.

Values are the scaled integers of the vocabulary, so the edges of the bins are integers too, made by integer arithmetic:
a bin that begins at ``low`` ends at ``low * 101 // 99``. Its representative, the harmonic mean of both, lies within 1 %
of every value in it; below 50 resolutions each integer has a bin of its own and is exact. Negative values mirror the
positive ones, zero has the bin 0: at most ``2 * BINS + 1`` bins. The idea is that of DDSketch (Masson, Rim and Lee,
PVLDB 12, 2019), without its logarithms of floats and without its collapsing of bins.

A histogram rests as bytes: one little-endian int64 for each bin that holds something, sorted, with the bin in the upper
16 bits and the count in the lower 48. Equal histograms are equal bytes.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from analytics.radix import narrowed, order_by
from devices.columns import Bools, Floats, Ints
from devices.vocabulary import MAX_SCALED

Packed = NDArray[np.object_]
"""Histograms as bytes, ``b""`` where there is none; shape (n,)."""


def _edges() -> tuple[Ints, Ints]:
    """Return the least and the greatest magnitude of each bin from 1 on."""
    low, lows, highs = 1, list[int](), list[int]()
    while low <= MAX_SCALED:
        lows.append(low)
        highs.append(low * 101 // 99)
        low = highs[-1] + 1
    return np.array(lows, np.int64), np.array(highs, np.int64)


_LOW, _HIGH = _edges()
BINS: Final = len(_HIGH)
"""Bins of one sign."""
PERCENTS: Final = (50, 95, 99)
"""Percentiles that are answered."""

_FINE: Final = 52 - 7
"""A float's bits above these tell 128 steps in each octave, of which none is as wide as a bin of several integers."""
_ONE: Final = 1023 << 7
_STEPS: Final = np.ldexp(1 + np.arange(37 * 128) % 128 / 128, np.arange(37 * 128) // 128)
_FIRST: Final = np.searchsorted(_HIGH, np.ceil(_STEPS)).astype(np.int16)
"""Step → place of the bin that holds the least integer of the step; the greatest is in that bin or in the next."""
_GREATEST: Final[Floats] = _HIGH.astype(np.float64)

LARGE: Final = 16
"""Groups with so many values each, on the average, are counted together."""
ROOMY: Final = 4
"""A table of bins may have so many places for each value that is counted."""

_ITEM: Final = "<i8"
_COUNT_BITS: Final = 48
_BIN_BITS: Final = 12
_ZERO: Final = 1 << _BIN_BITS - 1


def objects(histograms: Sequence[bytes]) -> Packed:
    """Return histograms as bytes as an array."""
    result = np.empty(len(histograms), np.object_)
    result[:] = histograms
    return result


def bins_of(value: Ints | Floats) -> Ints:
    """Return the bin of each scaled value, −BINS to BINS; shape (n,). Floats must be whole."""
    magnitude = np.abs(value).astype(np.float64, copy=False)
    # Below 1 there is only 0, for which the first step is as good as any.
    at = _FIRST.take((magnitude.view(np.int64) >> _FINE) - _ONE, mode="clip")
    at += magnitude > _GREATEST[at]
    at += magnitude > 0
    return np.negative(at, out=at, where=value < 0).astype(np.int64)


def representatives(of_bin: Ints) -> Floats:
    """Return the value that stands for each bin, in resolutions; shape (n,)."""
    at = np.abs(of_bin) - 1
    low, high = _LOW[at].astype(np.float64), _HIGH[at].astype(np.float64)
    return np.asarray(np.sign(of_bin) * (2 * low * high / (low + high)), np.float64)


class Binned(NamedTuple):
    """Samples as bins: arrays (n,), int64; a (series, window, bin) may occur several times."""

    series: Ints
    window: Ints
    bin: Ints
    samples: Ints

    @classmethod
    def of_groups(cls, series: Ints, window: Ints, size: Ints, value: Ints | Floats) -> Self:
        """Count the bins of scaled values: the first ``size[0]`` are of ``series[0]`` in ``window[0]``, and so on.

        ``series``, ``window`` and ``size``: (groups ≥ 1,). A (series, window, bin) is there once for each group with
        it, or once for all of them.
        """
        of_bin = bins_of(value)
        if len(value) >= LARGE * len(size):
            return cls._of_large_groups(series, window, size, of_bin)
        group = np.repeat(np.arange(len(size)), size)
        order = order_by(narrowed(group, len(size)), narrowed(of_bin + _ZERO, 2 * _ZERO))
        # By group the values are in order already.
        of_bin = of_bin[order]
        starts = _starts(group << _BIN_BITS | of_bin + _ZERO)
        group = group[starts]
        return cls(series[group], window[group], of_bin[starts], np.diff(starts, append=len(value)))

    @classmethod
    def _of_large_groups(cls, series: Ints, window: Ints, size: Ints, of_bin: Ints) -> Self:
        """Count bins of groups with many values each: by a table where it is small, which is several times faster."""
        # Groups of the same series and window count as one.
        windows, nth = np.unique(window, return_inverse=True)
        place, group = np.unique(series * len(windows) + nth, return_inverse=True)
        low = int(of_bin.min())
        span = int(of_bin.max()) - low + 1
        key = np.repeat(group * span - low, size) + of_bin
        if len(place) * span <= ROOMY * len(key):
            table = np.bincount(key)
            key = np.flatnonzero(table)
            samples = table[key]
        else:
            key, samples = np.unique(key, return_counts=True)
        group, of_bin = np.divmod(key, span)
        return cls(place[group] // len(windows), windows[place[group] % len(windows)], of_bin + low, samples)

    def take(self, which: Bools | Ints) -> "Binned":
        """Return those selected by a mask or by positions."""
        return Binned(*(column[which] for column in self))

    @classmethod
    def concatenate(cls, parts: "Sequence[Binned]") -> "Binned":
        """Return the samples of ``parts``, at least one, one after another."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Histograms(NamedTuple):
    """The histograms of many places, a place being any whole number from 0 to 2**51 − 1."""

    key: Ints
    """Place and bin, sorted, each once; shape (n,)."""
    samples: Ints

    @classmethod
    def of(cls, place: Ints, of_bin: Ints, samples: Ints) -> "Histograms":
        """Sum the samples of bins at places: arrays (n,), in any order, repeated or not."""
        return _summed(place << _BIN_BITS | of_bin + _ZERO, samples)

    @classmethod
    def nothing(cls) -> Self:
        """Return no histograms."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def plus(self, other: "Histograms") -> "Histograms":
        """Merge with others: exact, associative and commutative."""
        return _summed(np.append(self.key, other.key), np.append(self.samples, other.samples))

    @property
    def place(self) -> Ints:
        """The place of each entry; shape (n,)."""
        return self.key >> _BIN_BITS

    @property
    def bin(self) -> Ints:
        """The bin of each entry; shape (n,)."""
        return (self.key & (1 << _BIN_BITS) - 1) - _ZERO

    def packed(self, place: Ints) -> Packed:
        """Return the histograms at the places (n,), as bytes."""
        data = (self.bin << _COUNT_BITS | self.samples).astype(_ITEM).tobytes()
        size = np.dtype(_ITEM).itemsize
        begin = np.searchsorted(self.key, place << _BIN_BITS) * size
        end = np.searchsorted(self.key, place + 1 << _BIN_BITS) * size
        return objects([data[first:last] for first, last in zip(begin.tolist(), end.tolist(), strict=True)])


def _summed(key: Ints, samples: Ints) -> Histograms:
    """Sort and sum what has the same key."""
    if not len(key):
        return Histograms.nothing()
    # Stable sorting finds the runs that are sorted already, of which a merge has two.
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = _starts(key)
    return Histograms(key[starts], np.add.reduceat(samples[order], starts))


def _starts(key: Ints) -> Ints:
    return np.flatnonzero(np.append(True, key[1:] != key[:-1]))


def unpacked(packed: Packed) -> tuple[Ints, Ints, Ints]:
    """Return place in ``packed``, bin and count of every entry, by place and bin. ValueError for bytes cut short."""
    items = np.frombuffer(b"".join(packed.tolist()), _ITEM).astype(np.int64)
    size = np.dtype(_ITEM).itemsize
    place = np.repeat(np.arange(len(packed)), [len(each) // size for each in packed.tolist()])
    return place, items >> _COUNT_BITS, items & (1 << _COUNT_BITS) - 1


def folded(packed: Packed, group: Ints, groups: int) -> Packed:
    """Merge histograms (n,) into those of their groups, 0 ≤ group < groups; shape (groups,)."""
    place, of_bin, count = unpacked(packed)
    return Histograms.of(group[place], of_bin, count).packed(np.arange(groups))


def percentile(packed: Packed, count: Ints, percent: int) -> Floats:
    """Return a percentile of each histogram, in resolutions, by nearest rank; shape (n,).

    ``count``: how many samples each should hold; NaN where it holds another number of them, or none.
    """
    place, of_bin, held = unpacked(packed)
    total = np.zeros(len(packed), np.int64)
    np.add.at(total, place, held)
    before = np.cumsum(total) - total
    rank = -(-total * percent // 100)
    result = np.full(len(packed), np.nan)
    whole = np.flatnonzero((total == count) & (total > 0))
    at = np.searchsorted(np.cumsum(held), before[whole] + rank[whole])
    result[whole] = representatives(of_bin[at])
    return result

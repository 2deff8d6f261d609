"""For how long states were held in an hour of a device: stretches of time, packed.

A vehicle that is laden and unladen every other minute has dozens in an hour, and thousands of vehicles have them all at
the same time: as findings of their own they would take some 700 bytes each, and packed they take 18.
"""

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final, NamedTuple, Self

_RECORD: Final = Struct("<Hqq")
"""A stretch as it is packed: index of the metric that counts its time, start and end in ns UTC."""
_KEY: Final = Struct("<Hq")
_METRIC: Final = Struct(f"<H{_RECORD.size - 2}x")
_UNTIL: Final = Struct("<q")


class HeldTime(NamedTuple):
    """One stretch."""

    metric: int
    """Index of the metric that counts its time."""
    start: int
    until: int
    """Start and end, ns UTC."""


class HeldTimes:  # noqa: PLW1641 - they change
    """The stretches of one hour, each known by its metric and its start."""

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes = b"") -> None:
        """Begin with what :meth:`__bytes__` gave, by default without any."""
        self._packed = bytearray(packed)

    @classmethod
    def of(cls, times: Iterable[HeldTime]) -> Self:
        """Return those of some stretches, each of which has a start of its own."""
        return cls(b"".join([_RECORD.pack(*each) for each in times]))

    def __bytes__(self) -> bytes:
        """Return them packed, behind each other."""
        return bytes(self._packed)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._packed) // _RECORD.size

    def __iter__(self) -> Iterator[HeldTime]:
        """Yield them in the order in which they began to be noted."""
        return map(HeldTime._make, _RECORD.iter_unpack(bytes(self._packed)))

    def __eq__(self, other: object) -> bool:
        """Tell whether others are the same, in whatever order."""
        if not isinstance(other, HeldTimes):
            return NotImplemented
        return self._packed == other._packed or sorted(self) == sorted(other)

    def note(self, metric: int, start: int, until: int) -> None:
        """Note a stretch in the place of any that has the same metric and start, which may be up to 2**16 and 2**63."""
        at = self._place(metric, start)
        if at < 0:
            self._packed += _RECORD.pack(metric, start, until)
        else:
            _UNTIL.pack_into(self._packed, at + _KEY.size, until)

    def until(self, metric: int, start: int) -> int:
        """Return the end of the stretch of a metric that began at ``start``, ns UTC; -1 where there is none."""
        at = self._place(metric, start)
        return -1 if at < 0 else int(_UNTIL.unpack_from(self._packed, at + _KEY.size)[0])

    def metrics(self) -> set[int]:
        """Return the metrics of which there are stretches."""
        return {metric for (metric,) in _METRIC.iter_unpack(bytes(self._packed))}

    def _place(self, metric: int, start: int) -> int:
        """Return where a stretch begins in what is packed, -1 where it is not there."""
        key, end = _KEY.pack(metric, start), len(self._packed)
        # Mostly it is among the last. Elsewhere than at the beginning of a stretch the same bytes say something else.
        while (at := self._packed.rfind(key, 0, end)) >= 0 and at % _RECORD.size:
            end = at + len(key) - 1
        return at

"""Tables: many items kept in another form, such as columns, each made where it is looked at by itself."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

Item = TypeVar("Item", covariant=True)  # noqa: PLC0105 - that of a sequence


class Table(Sequence[Item]):
    """A sequence of items that are made when they are asked for; of a slice, a list of them is."""

    @abstractmethod
    def item(self, nth: int) -> Item:
        """Return the item at 0 ≤ ``nth`` < the length."""

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Item]: ...
    def __getitem__(self, at: int | slice) -> Item | Sequence[Item]:
        """Return an item, or a list of some."""
        length = len(self)
        if isinstance(at, slice):
            return [self.item(nth) for nth in range(*at.indices(length))]
        if not -length <= at < length:
            raise IndexError(at)
        return self.item(at % length)

"""Byte strings that are kept until they are written, compressed by the lot.

Between a snapshot and the end of its transaction the records and the state of every device that has spoken are there at
once: 1.5 KB for each of thousands, most of it the same words with other numbers. Small commits fill no lot.
"""

from bisect import bisect_right
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from typing import Final, overload

import msgspec
import zstandard

LOT_BYTES: Final = 1 << 17
"""Bytes that are compressed together: enough to have much in common, and all that is read to get one back."""
LEVEL: Final = 1
"""Of zstd: the fastest of those that find the words again."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


class Lots(Sequence[bytes]):
    """Byte strings in the order in which they were added, each made anew whenever it is asked for."""

    __slots__ = ("_ends", "_loose", "_loose_bytes", "_lots")

    def __init__(self) -> None:
        """Begin without any."""
        self._lots: list[bytes] = []
        self._ends: list[int] = []
        """By lot: how many there are up to its end."""
        self._loose: list[bytes] = []
        self._loose_bytes = 0

    def add(self, each: bytes) -> None:
        """Add one more."""
        self._loose.append(each)
        self._loose_bytes += len(each)
        if self._loose_bytes >= LOT_BYTES:
            self._ends.append(len(self))
            # A copy: what zstd gives keeps all the memory that it might have needed.
            self._lots.append(bytes(memoryview(zstandard.compress(_encode(self._loose), LEVEL))))
            self._loose, self._loose_bytes = [], 0

    def __len__(self) -> int:
        """Return how many there are."""
        return (self._ends[-1] if self._ends else 0) + len(self._loose)

    def __iter__(self) -> Iterator[bytes]:
        """Yield all of them, a lot at a time."""
        for lot in self._lots:
            yield from _decode(zstandard.decompress(lot))
        yield from self._loose

    @overload
    def __getitem__(self, at: int) -> bytes: ...

    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...

    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        """Return one, or some."""
        if isinstance(at, slice):
            return list(self)[at]
        at = range(len(self))[at]
        nth = bisect_right(self._ends, at)
        some = _decode(zstandard.decompress(self._lots[nth])) if nth < len(self._lots) else self._loose
        return some[at - (self._ends[nth - 1] if nth else 0)]


class Blobs(Mapping[str, bytes]):
    """Blobs by key, in the order in which they were added; no key is to be added twice."""

    __slots__ = ("_blobs", "_keys")

    def __init__(self) -> None:
        """Begin without any."""
        self._keys: list[str] = []
        self._blobs = Lots()

    def add(self, key: str, blob: bytes) -> None:
        """Add a blob under a key that there is not yet."""
        self._keys.append(key)
        self._blobs.add(blob)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""
        return iter(self._keys)

    def __getitem__(self, key: str) -> bytes:
        """Return a blob; its key is looked for among all of them."""
        try:
            return self._blobs[self._keys.index(key)]
        except ValueError:
            raise KeyError(key) from None

    def items(self) -> ItemsView[str, bytes]:
        """Return keys and blobs, which are gone through a lot at a time."""
        return _Items(self)

    def pairs(self) -> Iterator[tuple[str, bytes]]:
        """Yield keys and blobs."""
        return zip(self._keys, self._blobs, strict=True)


class _Items(ItemsView[str, bytes]):
    """Keys and blobs, in order."""

    __slots__ = ()

    _mapping: Blobs

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping.pairs()

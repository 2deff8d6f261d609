"""A file of any size as if it were in memory: the system holds the pages of it that are being looked at."""

import contextlib
import mmap
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

FORGET_BYTES: Final = 1 << 23
"""Bytes gone through after which the system may have their memory back."""


class Mapped(mmap.mmap):
    """A file of which what has been gone through, from its beginning to its end, takes no memory.

    It is read by slices, :meth:`find` and regular expressions, as ``bytes`` are.
    """

    _done = 0
    _advance: Callable[[int], None] | None = None

    def begin(self, advance: Callable[[int], None]) -> None:
        """Go through it from the beginning; ``advance`` is told how many bytes more are done."""
        self._done, self._advance = 0, advance

    def look_from(self, at: int) -> None:
        """Give back what stands before ``at``, of which nothing is looked at soon, and tell how far that is."""
        done = at - at % mmap.PAGESIZE
        if done - self._done < FORGET_BYTES:
            return
        self.madvise(mmap.MADV_DONTNEED, self._done, done - self._done)
        if self._advance is not None:
            self._advance(done - self._done)
        self._done = done


Content = bytes | Mapped
"""What a file holds."""


class FromHere:
    """A file from one place on, for who reads it in pieces."""

    def __init__(self, content: Content, at: int) -> None:
        """``at``: where to begin."""
        self._content = content
        self._at = at

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        found = self._content[self._at : self._at + size]
        self._at += len(found)
        return found


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Yield what a file holds. A pipe or a device is written to a temporary file first. OSError if it is unreadable."""
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if not path.is_file():
            kept = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(file, kept)
            kept.flush()
            file = kept
        size = file.seek(0, 2)
        if not size:
            yield b""
            return
        yield stack.enter_context(Mapped(file.fileno(), size, access=mmap.ACCESS_READ))


def lines_of(content: Content, most: int) -> Iterator[tuple[int, bytes]]:
    """Yield where each line begins, and the first ``most`` bytes of it, with its end."""
    at = 0
    while at < len(content):
        found = content.find(b"\n", at)
        end = len(content) if found < 0 else found + 1
        yield at, content[at : min(end, at + most)]
        at = end

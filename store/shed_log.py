"""What was shed and is in no commit yet: counts by topic, durable at once, for a worker that is killed.

    {number}.jsonl      a line for each batch of which something was shed: {"ts": ns UTC, "topics": {topic: frames}}

A commit begins a new file and keeps its number: all that earlier ones hold is in that commit. They are deleted once a
power cut cannot take the commit back. A file's number is never given twice, whatever a store goes back to.
"""

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from store.journal.segments import sync_folder

log = logging.getLogger(__name__)

SUFFIX: Final = ".jsonl"


class Shed(msgspec.Struct, frozen=True):
    """Frames shed of one batch."""

    ts: int
    """When, ns UTC."""
    topics: dict[str, int]
    """Topic → frames."""


class ShedLog:
    """The files of one worker in ``folder``, which is made when something is shed."""

    def __init__(self, folder: Path) -> None:
        """See what an earlier process has left there."""
        self._folder = folder
        self._held = set(_numbers(folder))
        self._number = max(self._held, default=0) + 1
        self._used = False

    @property
    def number(self) -> int:
        """The file into which what is shed now belongs."""
        self._used = True
        return self._number

    def cut(self) -> int:
        """Return a number that all from now on will have, or a greater one, and none so far has."""
        if self._used:
            self._number += 1
            self._used = False
        return self._number

    def skip_to(self, number: int) -> None:
        """Give no number below ``number``, which a checkpoint has kept."""
        self._number = max(self._number, number)

    def append(self, number: int, shed: Shed) -> None:
        """Write a line and make it durable; OSError where that fails. Blocking."""
        path = self._folder / f"{number:012d}{SUFFIX}"
        new = number not in self._held
        if new:
            self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._held.add(number)
        try:
            # The line's end stands before it, so that one for which there was no room does not spoil the next.
            line = b"\n" + msgspec.json.encode(shed)
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_folder(self._folder)

    def since(self, number: int) -> Iterator[Shed]:
        """Yield what lies in no commit that has kept ``number``; a line that a crash has cut off is none."""
        for each in sorted(held for held in self._held if held >= number):
            path = self._folder / f"{each:012d}{SUFFIX}"
            for line in filter(None, path.read_bytes().splitlines()):
                try:
                    yield msgspec.json.decode(line, type=Shed)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    log.warning("%s: a line of %d bytes is passed over: %s", path, len(line), error)

    def holds(self, before: int) -> bool:
        """Tell whether there is anything for :meth:`forget` to delete."""
        return any(each < before for each in tuple(self._held))

    def forget(self, before: int) -> None:
        """Delete the files whose number is less than ``before``. Blocking."""
        for each in sorted(held for held in self._held if held < before):
            (self._folder / f"{each:012d}{SUFFIX}").unlink(missing_ok=True)
            self._held.discard(each)


def _numbers(folder: Path) -> Iterator[int]:
    for path in folder.glob(f"*{SUFFIX}"):
        if path.stem.isascii() and path.stem.isdigit():
            yield int(path.stem)

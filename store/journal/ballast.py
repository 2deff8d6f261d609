"""The ballast: space that is held ready, so that a full disk still has room for the end of the work at hand."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

NAME: Final = "ballast"


class Ballast:
    """A file that takes up space and can be let go of.

        none ──restore──► ready ──release──► released ──restore──► ready

    While it is released, the space is for finishing what has begun: the batch at hand, a checkpoint, an orderly end.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """``size`` in bytes; 0 does without. Nothing is taken up before :meth:`restore`."""
        self._path = folder / NAME
        self._size = size
        self.state: str = "none"
        """``none``, ``ready`` or ``released``."""
        self._said = False

    def restore(self) -> bool:
        """Take up the space if there is plenty; return False only while it is released and cannot be had back.

        Plenty is twice the size: whoever needs the space that is left must not find it taken up again.
        """
        if not self._size or self.state == "ready":
            return True
        try:
            if self._is_taken_up() or self._is_plenty():
                self._take_up()
                self.state = "ready"
                self._said = False
        except OSError as error:
            self._remove()
            if not self._said:
                log.warning("no ballast of %d bytes: %s", self._size, error)
            self._said = True
        return self.state != "released"

    def release(self) -> bool:
        """Let go of the space; return whether there was any to let go of."""
        if self.state != "ready":
            return False
        self._remove()
        self.state = "released"
        log.error("the ballast of %d bytes is released to finish what has begun", self._size)
        return True

    def close(self) -> None:
        """Give the space back; idempotent."""
        if self._size:
            self._remove()
        self.state = "none"

    def _is_taken_up(self) -> bool:
        """Tell whether an earlier life has left the file."""
        return self._path.exists() and self._path.stat().st_blocks * 512 >= self._size

    def _is_plenty(self) -> bool:
        about = os.statvfs(self._path.parent)
        return about.f_bavail * about.f_frsize >= 2 * self._size

    def _take_up(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            os.posix_fallocate(fd, 0, self._size)
            os.ftruncate(fd, self._size)
        finally:
            os.close(fd)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()

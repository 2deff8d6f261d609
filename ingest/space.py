"""Space on the disk: what is done when it becomes short, and when there is none."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from ingest.waiting import pause
from store.journal import JournalFullError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Space:
    """Knows whether space is short, and has the journal written as soon as there is any."""

    def __init__(self, free_bytes: Callable[[], int], short_below: int, disk: Executor) -> None:
        """``free_bytes`` tells how many are free; space is short below ``short_below``; ``disk`` runs the journal."""
        self._free_bytes = free_bytes
        self._short_below = short_below
        self._disk = disk
        self.is_short = False
        """Whether messages at QoS 0 are shed, as of the last :meth:`look`."""
        self.journal_state = "ok"
        """``ok``, or why the journal cannot be written."""

    def look(self) -> None:
        """Find out whether space is short, and say so when it begins and when it ends."""
        free = self._free_bytes()
        short = free < self._short_below
        if short and not self.is_short:
            log.error("%d bytes are free: messages at QoS 0 are shed, and counted, until there is more space", free)
        if self.is_short and not short:
            log.info("%d bytes are free: messages at QoS 0 are taken again", free)
        self.is_short = short

    async def wait_for(self, write: Callable[[], T], stop: asyncio.Event) -> T:
        """Run a journal operation in the disk's thread, again and again while there is no space.

        Meanwhile nothing is read or acknowledged, so the broker keeps what it has. Raises JournalFullError when told to
        stop before there is space.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = await loop.run_in_executor(self._disk, write)
            except JournalFullError as error:
                if stop.is_set():
                    raise
                await self.there_is_none(error, stop)
                continue
            self.journal_state = "ok"
            return result

    async def there_is_none(self, error: JournalFullError, stop: asyncio.Event) -> None:
        """Say so, once, and give the disk time to be cleared."""
        if self.journal_state == "ok":
            log.error("%s: nothing is acknowledged until there is space", error)
        self.journal_state = str(error)
        await pause(stop, 1)

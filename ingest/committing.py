"""Committing: a snapshot into the store, however long that takes it, and how soon the next may follow."""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final

from analytics.rows import TIERS_S
from devices.times import NS
from ingest.waiting import pause
from store.interface import Commit, EventRecord, Sink, StoreUnreachableError

log = logging.getLogger(__name__)

RARELY_SHARE: Final = 0.03
"""Commits that take more than this share of the time are made further apart …"""
RARELY_S: Final = 4.0
"""… and such as would have to be as far apart as this, s, only behind the end of a window of the finest tier."""
WINDOW_NS: Final = TIERS_S[0] * NS
SETTLING_NS: Final = NS // 2
"""How long behind that end: what was measured in a window takes a moment to come."""
FIRST_DELAY_S: Final = 0.5
"""How long to wait before the first further try, s; it doubles with every one."""
MOST_DELAY_S: Final = 2.0
"""The longest of them, s: the store that has to take commits at once is on this machine, such as a file that somebody
has locked. Who waits for a lock is in line for it anyway, for ten seconds of each try."""
LAST_S: Final = 1.0
"""For how long a commit is tried again once the worker has been told to stop, s; a try may wait for a lock besides."""
LAST_DELAY_S: Final = 0.2


class Committer:
    """Hands commits to a sink, in a thread of its own, one after the other."""

    def __init__(self, sink: Sink, thread: Executor) -> None:
        """Nothing has been committed."""
        self._sink = sink
        self._thread = thread
        self.seconds = self._cost = 0.0
        """``seconds``: how long the last commit took."""

    def pause_s(self, interval_s: float, share: float, now_ns: int) -> float:
        """Return how long to wait for the next, s: ``interval_s`` at least, and commits take no more than ``share``.

        Large ones are made less often: to write the same less often costs less. The largest are made once in a window,
        behind its end, so that its rows are written whole and not in parts: all devices' windows end together.
        """
        least = max(interval_s, self._cost * (1 - share) / share)
        apart = self._cost / RARELY_SHARE
        if apart < RARELY_S:
            # From beginning to beginning: what the store lags behind is no more than this.
            return max(least, apart - self.seconds)
        earliest = now_ns + round(least * NS)
        return (earliest - now_ns + (SETTLING_NS - earliest) % WINDOW_NS) / NS

    async def commit(self, commit: Commit, stop: asyncio.Event) -> list[EventRecord]:
        """Make a commit durable in the store; return the events that are new there.

        Raises StoreUnreachableError when told to stop before the store takes it.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        events = await self._store(commit, stop)
        seconds = clock() - began
        # The lesser of two, so that one stall, such as of a suspended machine, does not put off the next for long.
        self._cost, self.seconds = min(self.seconds, seconds), seconds
        return events

    async def _store(self, commit: Commit, stop: asyncio.Event) -> list[EventRecord]:
        """Hand a commit to the sink, again and again while the store cannot take it.

        Until told to stop: the journal holds what the commit would have held.
        """
        delay, loop = FIRST_DELAY_S, asyncio.get_running_loop()
        last: float | None = None
        while True:
            began = loop.time()
            try:
                return await loop.run_in_executor(self._thread, self._sink.commit, commit)
            except StoreUnreachableError as error:
                if stop.is_set():
                    # In seconds and not in tries: one that waits for a lock may take ten of them.
                    last = began + LAST_S if last is None else last
                    if loop.time() >= last:
                        raise
                    await asyncio.sleep(LAST_DELAY_S)
                    continue
                log.error("%s; the journal goes on, committing again in %.1f s", error, delay)  # noqa: TRY400
                await pause(stop, delay)
                delay = min(delay * 2, MOST_DELAY_S)

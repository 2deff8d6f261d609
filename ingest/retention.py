"""What is kept no longer, and when: rows and hours of findings in the store, segments of the journal."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

from analytics.findings import PERIOD
from ingest.catching_up import held_from
from ingest.config import IngestConfig
from store.interface import Sink, StoreUnreachableError
from store.journal import JournalWriter
from store.shed_log import ShedLog

log = logging.getLogger(__name__)

EXPIRE_PERIOD_NS: Final = 60_000_000_000


class Retention:
    """Deletes after a commit what has outlived its retention."""

    def __init__(
        self, config: IngestConfig, journal: JournalWriter, sink: Sink, now: Callable[[], int], committer: Executor
    ) -> None:
        """``now`` gives ns UTC, by a clock that is believed; ``committer`` is the thread in which the sink is used."""
        self._config = config
        self._journal = journal
        self._sink = sink
        self._now = now
        self._committer = committer
        self._expire_at = 0
        self._can_sync = True

    async def expire(self) -> None:
        """Once in a while, have the store forget what has outlived its retention."""
        now = self._now()
        if now < self._expire_at:
            return
        self._expire_at = now + EXPIRE_PERIOD_NS
        before = {tier_s: now - round(keep_s * 1e9) for tier_s, keep_s in self._config.keep_s.items()}
        try:
            gone = await asyncio.get_running_loop().run_in_executor(self._committer, self._forget, before)
        except StoreUnreachableError as error:
            log.warning("%s; rows beyond their retention go later", error)
            return
        if gone:
            log.info("%d window rows had outlived their retention and were deleted", gone)

    def _forget(self, before_ns: Mapping[int, int]) -> int:
        """Have the sink forget rows, and hours of findings over which the journal cannot run again; return the rows."""
        # Passages of an hour may have begun in the one before.
        useless = held_from(self._config.data / "journal") - 2 * PERIOD
        if useless > 0:
            self._sink.forget_history(self._config.worker, useless)
        return self._sink.expire(before_ns) if before_ns else 0

    async def trim_journal(self, checkpoint: int, disk: Executor) -> None:
        """Have the journal forget what is beyond its retention, once a power cut cannot take the checkpoint back.

        ``disk`` is the thread in which the journal is used.
        """
        loop = asyncio.get_running_loop()
        segments = await loop.run_in_executor(disk, self._journal.expendable, checkpoint, self._now())
        if segments and await self._synced():
            await loop.run_in_executor(disk, self._journal.forget, segments)

    async def forget_shed(self, shed: ShedLog, before: int, disk: Executor) -> None:
        """Delete the counts of what was shed that a commit contains, once a power cut cannot take it back."""
        if shed.holds(before) and await self._synced():
            await asyncio.get_running_loop().run_in_executor(disk, shed.forget, before)

    async def _synced(self) -> bool:
        """Make the commits so far outlive a power cut; False where that has failed, now or before."""
        if not self._can_sync:
            return False
        try:
            await asyncio.get_running_loop().run_in_executor(self._committer, self._sink.sync)
        except StoreUnreachableError as error:
            # Never again: the pages may be gone, and a second sync would know nothing of it.
            self._can_sync = False
            log.error("%s; the journal is kept whole until ingest is started again", error)  # noqa: TRY400
            return False
        return True

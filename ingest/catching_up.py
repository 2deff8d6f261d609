"""Late data: now and then, in a thread, the detectors of the devices concerned run again over the journal."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from ingest.detection import DEVICES_AT_ONCE, Outcome, Plan
from ingest.pipeline import Pipeline
from ingest.rerunning import BATCH, OfDevices, run_again
from ingest.waiting import pause
from store.interface import StoreUnreachableError
from store.journal import Frame, JournalError, first_frame, list_segments, read

log = logging.getLogger(__name__)

SHORTEST_WAIT_S: Final = 2.0
"""Shortest time between two passes over the journal, s."""
SHARE: Final = 0.2
"""Largest share of the time in which a pass is under way, 0 to 1."""


MOST_HELD: Final = 250_000
"""Inputs that may come for the detectors held meanwhile, in memory and in every checkpoint; beyond, a pass ends."""


class History(Protocol):
    """Where the hours of findings that are over are kept, such as a :class:`store.interface.Sink`."""

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        """Return start in ns UTC → blob."""

    def forget_history(self, worker: str, before_ns: int) -> int:
        """Delete the hours that began before a time, ns UTC."""


class _StoppedError(Exception):
    """The worker ends: the pass under way is given up."""


class _TooLongError(Exception):
    """So much has come for the detectors that are held that they are let go."""


class CatchUp:
    """Runs a pipeline's detectors again where data came too late for them."""

    def __init__(
        self, pipeline: Pipeline, worker: str, journal: Path, history: History, settled: Callable[[], bool]
    ) -> None:
        """``settled`` tells whether everything processed is in the journal, durable."""
        self._pipeline = pipeline
        self._worker = worker
        self._journal = journal
        self._history = history
        self._settled = settled
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="again")
        self._stopping = threading.Event()
        self._at_once = DEVICES_AT_ONCE
        """Devices per pass: fewer where more comes for those that are held than may wait."""
        self._waiting = 0
        """Inputs that waited before the pass."""
        self._holds = False
        """Whether it holds detectors."""

    async def run(self, stop: asyncio.Event, undurable: asyncio.Lock, end: Callable[[], int]) -> None:
        """Make passes until ``stop``; ``undurable`` is held meanwhile frames are not in the journal yet.

        ``end`` gives the offset at which the journal ends.
        """
        cost, clock = 0.0, asyncio.get_running_loop().time
        while not stop.is_set():
            await pause(stop, max(SHORTEST_WAIT_S, cost * (1 - SHARE) / SHARE))
            if stop.is_set():
                break
            async with undurable:
                plans = self._pipeline.detection.plan(self._at_once) if self._settled() else []
                offset, codecs = end(), self._pipeline.foreign.feeds.states()
            if not plans:
                continue
            began, self._waiting = clock(), len(self._pipeline.detection.waiting)
            self._holds = any(not plan.boundary for plan in plans)
            passing = asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, plans, offset, codecs)
            ending = asyncio.ensure_future(self._end_with(stop))
            try:
                await self._take(passing, plans, offset)
            finally:
                ending.cancel()
            cost = clock() - began

    def close(self) -> None:
        """End a pass that is under way, and the thread."""
        self._stopping.set()
        self._thread.shutdown()

    async def _end_with(self, stop: asyncio.Event) -> None:
        """Give up the pass under way when the worker is told to stop."""
        await stop.wait()
        self._stopping.set()

    async def _take(self, passing: Awaitable[list[Outcome]], plans: list[Plan], offset: int) -> None:
        """Put what a pass has come to into the pipeline, or let its devices wait for the next."""
        detection = self._pipeline.detection
        try:
            outcomes = await passing
        except (StoreUnreachableError, JournalError) as error:
            log.warning("%s; detectors run again later", error)
            detection.give_up()
            return
        except _StoppedError:
            detection.give_up()
            return
        except _TooLongError:
            if len(plans) > 1:
                detection.give_up()
                self._at_once = len(plans) // 2
                return
            outcomes = [Outcome.impossible(plan) for plan in plans]
        if self._held < MOST_HELD // 4:
            self._at_once = min(2 * self._at_once, DEVICES_AT_ONCE)
        for outcome in outcomes:
            detection.splice(outcome, f"{offset}")
            if not outcome.possible:
                plan = outcome.plan
                log.warning("%s: the detectors cannot run again over %d late inputs", plan.uid, plan.need.inputs)

    @property
    def _held(self) -> int:
        """How many inputs have come, if the pass under way holds any detectors: for these, and for all others."""
        return len(self._pipeline.detection.waiting) - self._waiting if self._holds else 0

    def _outcomes(self, plans: list[Plan], end: int, codecs: dict[str, bytes]) -> list[Outcome]:
        histories = {plan.uid: self._history.history(self._worker, plan.uid) for plan in plans}
        config = self._pipeline.current_config
        topics = OfDevices((plan.uid for plan in plans), config.admission.aliases)

        def frames(received_from: int) -> Iterator[Frame]:
            return self._unhurried(read(self._journal, topics=topics, from_ns=received_from), end)

        return list(run_again(plans, histories, frames, lambda: held_from(self._journal), config, codecs))

    def _unhurried(self, frames: Iterable[Frame], end: int) -> Iterator[Frame]:
        """Yield the frames before ``end``, resting as long as they take: ingest shares the interpreter with this."""
        began = time.monotonic()
        for number, frame in enumerate(frames):
            if frame.offset >= end:
                return
            if number % BATCH == 0:
                if self._stopping.wait(time.monotonic() - began):
                    raise _StoppedError
                if self._held > MOST_HELD:
                    raise _TooLongError
                began = time.monotonic()
            yield frame


def held_from(journal: Path) -> int:
    """Return since when a journal holds everything received, ns UTC; 0 if nothing of it has been forgotten."""
    segments = list_segments(journal)
    return segments[0].created_ns if segments and first_frame(journal) else 0

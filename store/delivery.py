"""The outbox's other end: a thread that brings entries to the remote stores, in order, until each has taken them.

    oldest entry ──► window store ──► records ──► entry deleted ──► next
                        │ unreachable: wait (backoff, full jitter, Retry-After) and again, for ever
                        │ rows beyond its retention are not sent, but go to quarantine
                        │ points refused: halve until the bad rows stand alone: to quarantine; the rest is stored

Everything is written by keys made from content, so an entry that is delivered twice, because the process was killed
before it could delete it, changes nothing.
"""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection, Engine, delete, func, select

from analytics.packing import whole
from devices.scalars import Scalar
from devices.times import NS
from store.entries import decode
from store.interface import (
    Commit,
    EventRecord,
    StoreUnreachableError,
    WindowStore,
)
from store.refusals import quarantined, store_rows
from store.tables import ENTRIES

logger = logging.getLogger(__name__)

JOIN_S: Final = 5.0
"""How long closing waits for a write under way; what it does not see finish is delivered again at the next start."""

LONGEST_RETRY_AFTER_S: Final = 600.0
"""A store that asks to be left alone for longer is tried again after this, seconds."""


class RecordsWriter(Protocol):
    """The writing side of the records, such as :class:`store.records.SqlRecords`."""

    def write(self, commit: Commit, *, refused: Sequence[int] = (), now_ns: int = 0) -> list[EventRecord]:
        """Write a commit's records in one transaction.

        ``refused``: numbers of its rows that the window store lacks as of ``now_ns``, ns UTC.
        """

    def workers(self) -> Mapping[str, Mapping[str, Scalar]]:
        """Return worker → its last status."""

    def last_cursor(self) -> int:
        """Return the greatest event cursor given so far."""

    def close(self) -> None:
        """Release what is held."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before trying again."""

    base_s: float = 0.2
    """Upper bound of the first wait, seconds; it doubles with every failure in a row."""

    cap_s: float = 5.0
    """Upper bound of every wait that the store did not ask for itself, seconds.

    A store that is back is found within it. For the store it is one request in 2.5 s from each worker, on the average,
    which is less than it is asked while all is well: the whole backlog follows only behind one that it has taken.
    """

    def __post_init__(self) -> None:
        """Refuse waits that are none."""
        if not 0 < self.base_s <= self.cap_s:
            raise ValueError(f"base_s: {self.base_s}: expected 0 < base_s ≤ cap_s ({self.cap_s})")

    def wait_s(self, failures: int, retry_after_s: float | None, jitter: random.Random) -> float:
        """Return a random wait up to the bound, on top of what the store asked for; ``failures`` ≥ 1."""
        bound = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32))
        return min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S) + jitter.uniform(0.0, bound)


class Delivery:
    """Delivers what lies in the outbox; start with :meth:`start`, add entries inside :meth:`adding`."""

    def __init__(
        self,
        outbox: Engine,
        windows: WindowStore,
        records: RecordsWriter,
        *,
        clock: Callable[[], int],
        backoff: Backoff,
        jitter: random.Random,
    ) -> None:
        """Count what lies there. ``clock`` returns ns UTC and dates quarantine records."""
        self._outbox = outbox
        self._windows = windows
        self._records = records
        self._clock = clock
        self._backoff = backoff
        self._jitter = jitter
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._trouble = ""
        self._failing_since = 0
        with outbox.begin() as connection:
            self._waiting = _count(connection)
        self._thread = threading.Thread(target=self._run, name="outbox-delivery", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Hold the count while the caller commits one entry, then count it and wake the thread."""
        with self._changed:
            yield
            self._waiting += 1
            self._changed.notify_all()

    def waiting(self) -> int:
        """Return how many entries are not delivered yet."""
        return self._waiting

    def trouble(self) -> tuple[str, float]:
        """Return why the last attempt failed and for how long none has succeeded, s; "" and 0 after one that did."""
        words = self._trouble
        return words, max(0.0, (self._clock() - self._failing_since) / NS) if words else 0.0

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing waits; False if time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._waiting == 0, timeout_s)

    def close(self) -> None:
        """Stop after the write under way; idempotent."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        self._look()
        failures = 0
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._waiting > 0 or self._stopping.is_set())
            try:
                while not self._stopping.is_set() and self._deliver_oldest():
                    failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the entry stays and is tried again
                failures += 1
                self._stopping.wait(self._after(error, failures))

    def _look(self) -> None:
        """Tell of a window store that will not take anything before there is anything to be taken."""
        if self._waiting:
            return
        try:
            self._windows.check()
        except Exception as error:
            # Whatever it is, what comes is tried all the same.
            self._note(error)
            known = isinstance(error, StoreUnreachableError)
            logger.warning("the window store takes no commits: %s", self._trouble, exc_info=None if known else error)

    def _note(self, error: Exception) -> None:
        if not self._trouble:
            self._failing_since = self._clock()
        self._trouble = str(error) or type(error).__name__

    def _after(self, error: Exception, failures: int) -> float:
        """Report a failure and return how long to wait, seconds."""
        asked_s = error.retry_after_s if isinstance(error, StoreUnreachableError) else None
        wait_s = self._backoff.wait_s(failures, asked_s, self._jitter)
        self._note(error)
        # Once, then rarely: an outage of hours is one message and not thousands.
        if failures & (failures - 1) == 0:
            logger.warning(
                "%d commits wait for the remote stores, attempt %d failed, next in %.1f s: %s",
                *(self._waiting, failures, wait_s, self._trouble),
                exc_info=None if isinstance(error, StoreUnreachableError) else error,
            )
        return wait_s

    def _deliver_oldest(self) -> bool:
        """Deliver the oldest entry and delete it; False if there is none."""
        with self._outbox.begin() as connection:
            oldest = connection.execute(select(ENTRIES).order_by(ENTRIES.c.id).limit(1)).one_or_none()
        if oldest is not None:
            self._apply(decode(oldest.entry))
            if self._trouble:
                logger.info("the remote stores take commits again, %d wait", self._waiting - 1)
            self._trouble = ""
        with self._changed:
            with self._outbox.begin() as connection:
                if oldest is not None:
                    connection.execute(delete(ENTRIES).where(ENTRIES.c.id == oldest.id))
                self._waiting = _count(connection)
            self._changed.notify_all()
        return oldest is not None

    def _apply(self, commit: Commit) -> None:
        rows = whole(commit.rows)
        now = self._clock()
        refusals = list(store_rows(self._windows, rows, now))
        if refusals:
            logger.error("the window store refused %d rows, now in quarantine: %s", len(refusals), refusals[0].words)
            records = [quarantined(rows, refusal, now) for refusal in refusals]
            commit = msgspec.structs.replace(commit, quarantine=[*commit.quarantine, *records])
        self._records.write(commit, refused=[refusal.row for refusal in refusals], now_ns=now)


def _count(connection: Connection) -> int:
    return connection.scalars(select(func.count()).select_from(ENTRIES)).one()

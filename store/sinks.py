"""Where a worker's commits go: into one SQLite file, or through a local outbox to remote stores.

    commit ──► one transaction: rows │ records │ checkpoint │ state          (EmbeddedSink)
    commit ──► one transaction: outbox entry │ checkpoint │ state ──► later: remote rows, remote records  (OutboxSink)

Either way the checkpoint moves with the content, so a process killed at any point finds exactly what it committed.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, select

from store.delivery import Backoff, Delivery, RecordsWriter
from store.entries import encode
from store.hearers import Hearers
from store.interface import Checkpoint, Commit, EventRecord, StoreUnreachableError, WindowStore
from store.record_counters import counter, set_counter
from store.record_writing import QUARANTINE_BYTES, number_events, retract, write_records
from store.sqlite_files import raw, reaching, sync_wal, writer_engine
from store.tables import (
    CHECKPOINTS,
    ENTRIES,
    EVENT_CURSORS,
    HISTORY,
    OUTBOX,
    OUTBOX_COUNTERS,
    PROGRESS,
    RECORDS,
    STATE,
    WINDOWS,
)
from store.windows_sqlite import RowWriter, expire_rows

logger = logging.getLogger(__name__)

_KEEP_STATE = 'INSERT OR REPLACE INTO state (worker, "key", value) VALUES (?, ?, ?)'
_KEEP_HOUR = "INSERT OR REPLACE INTO history (worker, uid, start_ns, value) VALUES (?, ?, ?, ?)"
_KEEP_OFFSET = "INSERT OR REPLACE INTO checkpoints (worker, journal_offset) VALUES (?, ?)"


def keep_progress(connection: Connection, commit: Commit) -> None:
    """Write a commit's checkpoint, changed state and history."""
    driver = raw(connection)
    driver.execute(_KEEP_OFFSET, (commit.worker, commit.offset))
    driver.executemany(_KEEP_STATE, ((commit.worker, key, blob) for key, blob in commit.state.items()))
    driver.executemany(_KEEP_HOUR, ((commit.worker, hour.uid, hour.start_ns, hour.blob) for hour in commit.history))


def load_progress(connection: Connection, worker: str) -> Checkpoint | None:
    """Return a worker's checkpoint and state, None if it never committed."""
    offset = connection.scalars(
        select(CHECKPOINTS.c.journal_offset).where(CHECKPOINTS.c.worker == worker)
    ).one_or_none()
    if offset is None:
        return None
    state = connection.execute(select(STATE.c.key, STATE.c.value).where(STATE.c.worker == worker))
    return Checkpoint(offset=offset, state={row.key: row.value for row in state})


def load_history(engine: Engine, worker: str, uid: str) -> dict[int, bytes]:
    """Return start in ns UTC → blob, of the hours of a device's findings that are kept."""
    query = select(HISTORY.c.start_ns, HISTORY.c.value).where(HISTORY.c.worker == worker, HISTORY.c.uid == uid)
    with engine.connect() as connection:
        return {row.start_ns: row.value for row in connection.execute(query)}


def trim_history(engine: Engine, worker: str, before_ns: int) -> int:
    """Delete a worker's hours of findings that began before a time, ns UTC; return how many went."""
    with engine.begin() as connection:
        old = delete(HISTORY).where(HISTORY.c.worker == worker, HISTORY.c.start_ns < before_ns)
        return connection.execute(old).rowcount


class EmbeddedSink:
    """A :class:`store.interface.Sink` in one SQLite file, from which other processes may read at the same time.

    After a power cut the file may be some commits behind but never between two; the journal, which is synced before
    anything is acknowledged, holds what those commits held, and keeps it until :meth:`sync` has been called.
    """

    folds = True

    def __init__(self, path: Path, *, quarantine_bytes: int = QUARANTINE_BYTES) -> None:
        """Open or create ``path``. Raises :class:`StoreUnreachableError`, also for a file of a newer format."""
        self._name = str(path)
        self._path = path
        self._engine = writer_engine(path, [WINDOWS, RECORDS, PROGRESS], synced=False)
        self._quarantine_bytes = quarantine_bytes
        self._rows = RowWriter()
        self._hearers = Hearers()
        self._one_at_a_time = threading.Lock()

    def load(self, worker: str) -> Checkpoint | None:
        """Return the last committed checkpoint and state of a worker, None if it never committed."""
        with self._one_at_a_time, reaching(self._name), self._engine.begin() as connection:
            self._rows.complete(raw(connection))
            return load_progress(connection, worker)

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Write rows, records, checkpoint and state in one transaction; return the new events with their cursors."""
        try:
            with self._one_at_a_time, reaching(self._name), self._engine.begin() as connection:
                self._rows.write(raw(connection), commit.rows)
                new = write_records(connection, commit, self._hearers, self._quarantine_bytes)
                keep_progress(connection, commit)
        except BaseException:
            self._rows.forget()
            raise
        return new

    def sync(self) -> None:
        """Make every commit so far outlive a power cut."""
        sync_wal(self._path)

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        """Return the hours of a device's findings that are kept: start in ns UTC → blob."""
        with self._one_at_a_time, reaching(self._name):
            return load_history(self._engine, worker, uid)

    def forget_history(self, worker: str, before_ns: int) -> int:
        """Delete the hours of findings that began before a time, ns UTC; return how many went."""
        with self._one_at_a_time, reaching(self._name):
            return trim_history(self._engine, worker, before_ns)

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Delete window rows of each tier whose whole period lies before the time given; return how many went."""
        with self._one_at_a_time, reaching(self._name), self._engine.begin() as connection:
            return expire_rows(raw(connection), before_ns)

    def backlog(self) -> int:
        """Return 0: what is committed is already where it is read."""
        return 0

    def trouble(self) -> tuple[str, float]:
        """Return "" and 0: there is no other store."""
        return "", 0.0

    def drain(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """Return True: there is no backlog."""
        return True

    def close(self) -> None:
        """Close the file; idempotent."""
        self._engine.dispose()


class OutboxSink:
    """A :class:`store.interface.Sink` whose rows and records lie in remote stores.

    A commit is durable in ``local_path`` as soon as :meth:`commit` returns; a thread delivers it from there (see
    ``store.delivery``). Each is synced before it is delivered: were it lost after that, its rows would come a second
    time, in another commit and under other keys.
    """

    folds = False

    def __init__(
        self,
        local_path: Path,
        windows: WindowStore,
        records: RecordsWriter,
        *,
        clock: Callable[[], int] = time.time_ns,
        backoff: Backoff | None = None,
        jitter: random.Random | None = None,
        delivery: Callable[..., Delivery] = Delivery,
    ) -> None:
        """Open or create ``local_path`` and begin to deliver what lies there. The stores are closed with the sink.

        Raises :class:`StoreUnreachableError` for the local file only; remote stores may be down.
        """
        self._name = str(local_path)
        self._engine = writer_engine(local_path, [PROGRESS, OUTBOX])
        self._windows = windows
        self._records = records
        self._closed = False
        self._follow_cursors()
        self._delivery = delivery(
            self._engine,
            windows,
            records,
            clock=clock,
            backoff=backoff or Backoff(),
            jitter=jitter or random.Random(),  # noqa: S311 - spreads retries, keeps no secret
        )
        self._delivery.start()

    def _follow_cursors(self) -> None:
        """Let a new outbox go on where the records' cursors ended, so that both give an event the same one."""
        with reaching(self._name), self._engine.begin() as connection:
            if counter(connection, "events", OUTBOX_COUNTERS):
                return
            try:
                set_counter(connection, "events", self._records.last_cursor(), OUTBOX_COUNTERS)
            except StoreUnreachableError as error:
                logger.warning("event cursors begin at 1, the records may give them others: %s", error)

    def load(self, worker: str) -> Checkpoint | None:
        """Return the last committed checkpoint and state of a worker, None if it never committed."""
        with reaching(self._name), self._engine.connect() as connection:
            found = load_progress(connection, worker)
        if found is None:
            self._tell_of_lost_checkpoint(worker)
        return found

    def _tell_of_lost_checkpoint(self, worker: str) -> None:
        """Say so where the records have heard of a worker that has no checkpoint: what it does again counts twice."""
        try:
            known = worker in self._records.workers()
        except StoreUnreachableError as error:
            logger.warning("it is not known whether %s has written to these stores before: %s", worker, error)
            return
        if known:
            logger.error(
                "%s has no checkpoint of %s, which has written to these stores: what the journal still holds counts "
                "twice there until it is read and quayflow journal rebuild --worker %s has run",
                *(self._name, worker, worker),
            )

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Put a commit into the outbox with checkpoint and state; return its new events with their cursors."""
        with self._delivery.adding(), reaching(self._name), self._engine.begin() as connection:
            retract(connection, commit, EVENT_CURSORS)
            numbered, new = number_events(connection, commit.events, EVENT_CURSORS, OUTBOX_COUNTERS)
            if new:
                connection.execute(insert(EVENT_CURSORS), [{"id": event.id, "cursor": event.cursor} for event in new])
            entry = encode(msgspec.structs.replace(commit, events=numbered))
            connection.execute(insert(ENTRIES), {"entry": entry})
            keep_progress(connection, commit)
        return new

    def sync(self) -> None:
        """Do nothing: every commit is synced before it is done."""

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        """Return the hours of a device's findings that are kept: start in ns UTC → blob."""
        with reaching(self._name):
            return load_history(self._engine, worker, uid)

    def forget_history(self, worker: str, before_ns: int) -> int:
        """Delete the hours of findings that began before a time, ns UTC; return how many went."""
        with reaching(self._name):
            return trim_history(self._engine, worker, before_ns)

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Delete window rows beyond their retention from a store that does not do so by itself."""
        return self._windows.expire(before_ns)

    def backlog(self) -> int:
        """Return how many commits are not in the remote stores yet."""
        return self._delivery.waiting()

    def trouble(self) -> tuple[str, float]:
        """Return why the last delivery failed and for how long none has succeeded, s; "" and 0 after one that did."""
        return self._delivery.trouble()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is in the remote stores; False if time ran out."""
        return self._delivery.drain(timeout_s)

    def close(self) -> None:
        """Stop delivering and close file and stores; what waits is delivered at the next start. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._delivery.close()
        self._engine.dispose()
        self._windows.close()
        self._records.close()

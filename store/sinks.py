"""Where a worker's commits go: into one SQLite file, or through a local outbox to remote stores.

    commit ──► one transaction: rows │ records │ checkpoint │ state          (EmbeddedSink)
    commit ──► one transaction: outbox entry │ checkpoint │ state ──► later: remote rows, remote records  (OutboxSink)

Either way the checkpoint moves with the content, so a process killed at any point finds exactly what it committed.
"""

import threading
from pathlib import Path

from sqlalchemy import Connection, select

from store.interface import Checkpoint, Commit, EventRecord
from store.record_writing import QUARANTINE_BYTES, write_records
from store.sqlite_files import raw, reaching, writer_engine
from store.tables import CHECKPOINTS, PROGRESS, RECORDS, STATE, WINDOWS
from store.windows_sqlite import RowWriter

_KEEP_STATE = 'INSERT OR REPLACE INTO state (worker, "key", value) VALUES (?, ?, ?)'
_KEEP_OFFSET = "INSERT OR REPLACE INTO checkpoints (worker, journal_offset) VALUES (?, ?)"


def keep_progress(connection: Connection, commit: Commit) -> None:
    """Write a commit's checkpoint and changed state."""
    driver = raw(connection)
    driver.execute(_KEEP_OFFSET, (commit.worker, commit.offset))
    driver.executemany(_KEEP_STATE, ((commit.worker, key, blob) for key, blob in commit.state.items()))


def load_progress(connection: Connection, worker: str) -> Checkpoint | None:
    """Return a worker's checkpoint and state, None if it never committed."""
    offset = connection.scalars(
        select(CHECKPOINTS.c.journal_offset).where(CHECKPOINTS.c.worker == worker)
    ).one_or_none()
    if offset is None:
        return None
    state = connection.execute(select(STATE.c.key, STATE.c.value).where(STATE.c.worker == worker))
    return Checkpoint(offset=offset, state={row.key: row.value for row in state})


class EmbeddedSink:
    """A :class:`store.interface.Sink` in one SQLite file, from which other processes may read at the same time.

    ``synchronous=NORMAL``: after a power cut the file may be some commits behind but never between two; the journal,
    which is synced before anything is acknowledged, holds what those commits held.
    """

    def __init__(self, path: Path, *, quarantine_bytes: int = QUARANTINE_BYTES) -> None:
        """Open or create ``path``. Raises :class:`StoreUnreachableError`, also for a file of a newer format."""
        self._name = str(path)
        self._engine = writer_engine(path, [WINDOWS, RECORDS, PROGRESS])
        self._quarantine_bytes = quarantine_bytes
        self._rows = RowWriter()
        self._one_at_a_time = threading.Lock()

    def load(self, worker: str) -> Checkpoint | None:
        """Return the last committed checkpoint and state of a worker, None if it never committed."""
        with self._one_at_a_time, reaching(self._name), self._engine.connect() as connection:
            return load_progress(connection, worker)

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Write rows, records, checkpoint and state in one transaction; return the new events with their cursors."""
        try:
            with self._one_at_a_time, reaching(self._name), self._engine.begin() as connection:
                self._rows.write(raw(connection), commit.rows)
                new = write_records(connection, commit, self._quarantine_bytes)
                keep_progress(connection, commit)
        except BaseException:
            self._rows.forget()
            raise
        return new

    def backlog(self) -> int:
        """Return 0: what is committed is already where it is read."""
        return 0

    def drain(self, timeout_s: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """Return True: there is no backlog."""
        return True

    def close(self) -> None:
        """Close the file; idempotent."""
        self._engine.dispose()

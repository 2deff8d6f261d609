"""Messages on the device's own disk until ingest has them: an SQLite file that holds a bounded number of bytes.

Safe against a process that is killed at any point. With ``power_safe`` also against a power cut, at a sync per message.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from devices.acks import BootMark

FILE: Final = "ring.db"
MAX_BOOT: Final = 2**63 - 1
"""Boots are drawn below this: SQLite's integers are signed."""
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS ring (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (boot, seq)
);
CREATE TABLE IF NOT EXISTS dropped (one INTEGER PRIMARY KEY CHECK (one = 1), messages INTEGER NOT NULL);
INSERT OR IGNORE INTO dropped VALUES (1, 0);
"""


class RingError(Exception):
    """The ring's file cannot be used; the message says why."""


class Entry(NamedTuple):
    """A message that waits for its acknowledgement."""

    id: int
    """Position in the order of publishing."""
    topic: str
    payload: bytes


class Ring:
    """The messages of one device, oldest first. May be used from several threads."""

    def __init__(self, folder: Path, max_bytes: int, *, power_safe: bool = False) -> None:
        """Open or make ``folder``/ring.db. Raises :class:`RingError`."""
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(folder / FILE, isolation_level=None, check_same_thread=False, timeout=1)
            # Held from now on: a second client would publish under the same identity.
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
            self._file.executescript(_TABLES)
            self._bytes = self._count = 0
            self._count_again()
        except (OSError, sqlite3.Error) as error:
            busy = "locked" in str(error)
            raise RingError(f"{folder / FILE}: {'another client is using it' if busy else error}") from error

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._count

    @property
    def kept_bytes(self) -> int:
        """Bytes of the payloads that wait."""
        return self._bytes

    @property
    def dropped(self) -> int:
        """Messages dropped for want of room, over all starts; ingest sees them as missing numbers."""
        with self._lock:
            return self._one("SELECT messages FROM dropped")

    def append(self, boot: int, seq: int, topic: str, payload: bytes) -> None:
        """Keep a message, dropping the oldest where there is no room. Raises :class:`RingError`."""
        if len(payload) > self._max_bytes:
            raise RingError(f"a message of {len(payload)} bytes does not fit into a ring of {self._max_bytes}")
        with self._lock, self._transaction():
            while self._bytes + len(payload) > self._max_bytes:
                self._drop_oldest()
            self._file.execute(
                "INSERT INTO ring (boot, seq, topic, payload) VALUES (?, ?, ?, ?)", (boot, seq, topic, payload)
            )
            self._bytes += len(payload)
            self._count += 1

    def after(self, position: int, limit: int) -> list[Entry]:
        """Return up to ``limit`` messages published after ``position``, oldest first."""
        with self._lock:
            found = self._file.execute(
                "SELECT id, topic, payload FROM ring WHERE id > ? ORDER BY id LIMIT ?", (position, limit)
            )
            return [Entry(*row) for row in found]

    def waiting(self, position: int) -> int:
        """Return how many messages up to ``position`` wait for their acknowledgement."""
        with self._lock:
            return self._one("SELECT count(*) FROM ring WHERE id <= ?", position)

    def oldest(self) -> int | None:
        """Return the position of the oldest message that waits, None where none does."""
        with self._lock:
            found: int | None = self._file.execute("SELECT min(id) FROM ring").fetchone()[0]
            return found

    def acknowledge(self, marks: Iterable[BootMark]) -> int:
        """Drop what ingest has on its disk; return how many messages that were."""
        with self._lock, self._transaction():
            before = self._count
            for mark in marks:
                if mark.boot > MAX_BOOT:
                    continue
                for first, last in mark.durable():
                    gone = self._file.execute(
                        "DELETE FROM ring WHERE boot = ? AND seq BETWEEN ? AND ? RETURNING length(payload)",
                        (mark.boot, first, min(last, MAX_BOOT)),
                    ).fetchall()
                    self._bytes -= sum(size for (size,) in gone)
                    self._count -= len(gone)
            return before - self._count

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self._file.close()

    def _drop_oldest(self) -> None:
        (size,) = self._file.execute(
            "DELETE FROM ring WHERE id = (SELECT min(id) FROM ring) RETURNING length(payload)"
        ).fetchone()
        self._file.execute("UPDATE dropped SET messages = messages + 1")
        self._bytes -= size
        self._count -= 1

    def _one(self, query: str, *parameters: int) -> int:
        found: int = self._file.execute(query, parameters).fetchone()[0]
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, also in what is counted, and an error of the disk in our own words."""
        try:
            self._file.execute("BEGIN IMMEDIATE")
            yield
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            self._count_again()
            raise RingError(f"the ring cannot be written: {error}") from error

    def _count_again(self) -> None:
        self._bytes = self._one("SELECT coalesce(sum(length(payload)), 0) FROM ring")
        self._count = self._one("SELECT count(*) FROM ring")

"""Which commands a device has begun, on its own disk: so that none is done twice, whatever is restarted in between."""

import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from devices.client.ring import RingError

FILE: Final = "commands.db"
REMEMBERED: Final = 256
"""Commands remembered: the newest ones, and of the others those that could still be begun."""
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS commands (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    asked BLOB NOT NULL,
    expires INTEGER NOT NULL,
    answer BLOB
);
"""


class Begun(NamedTuple):
    """A command that was begun."""

    asked: bytes
    answer: bytes | None
    """None where the device was stopped before it could say what became of it."""


class CommandLog:
    """The commands of one device. Not for several threads at once."""

    def __init__(self, folder: Path | None) -> None:
        """Open or make ``folder``/commands.db, without a folder in memory. Raises :class:`RingError`."""
        self._name = ":memory:" if folder is None else str(folder / FILE)
        try:
            self._file = sqlite3.connect(self._name, isolation_level=None, check_same_thread=False, timeout=1)
            self._file.execute("PRAGMA journal_mode=WAL")
            # A command is rare, and doing one twice may hurt somebody: each is synced, also against a power cut.
            self._file.execute("PRAGMA synchronous=FULL")
            self._file.executescript(_TABLE)
        except sqlite3.Error as error:
            raise RingError(f"{self._name}: {error}") from error

    def find(self, command: str) -> Begun | None:
        """Return what is known of the command of an id, None where it was never begun."""
        try:
            row = self._file.execute("SELECT asked, answer FROM commands WHERE id = ?", (command,)).fetchone()
        except sqlite3.Error as error:
            raise RingError(f"{self._name}: {error}") from error
        return None if row is None else Begun(*row)

    def begin(self, command: str, asked: bytes, expires_ns: int | None, now_ns: int) -> None:
        """Note that a command is about to be done; when this returns, that is on the disk."""
        try:
            self._file.execute(
                "INSERT INTO commands (id, asked, expires) VALUES (?, ?, ?)", (command, asked, expires_ns or 0)
            )
            self._file.execute(
                "DELETE FROM commands WHERE number <= (SELECT max(number) FROM commands) - ? AND expires <= ?",
                (REMEMBERED, now_ns),
            )
        except (sqlite3.Error, OverflowError) as error:
            raise RingError(f"{self._name}: {error}") from error

    def end(self, command: str, answer: bytes) -> None:
        """Note what became of it."""
        try:
            self._file.execute("UPDATE commands SET answer = ? WHERE id = ?", (answer, command))
        except sqlite3.Error as error:
            raise RingError(f"{self._name}: {error}") from error

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

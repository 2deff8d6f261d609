"""The data folder of one instance: who holds it, of which format it is, and the instance's lasting identity.

    lock        held with flock while an instance runs; its text is the process id, for the message
    format      version of the folder's layout
    identity    32 random hexadecimal digits, made once; the MQTT client id is derived from it

The journal, the SQLite files and the outbox lie beside them and carry their own versions. Counts of what was shed too.
"""

import errno
import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

from store.system_words import of_file

FORMAT: Final = 1
"""Version of the folder's layout."""

_NEVER_WRITTEN: Final = "unknown"


class DataFolderError(Exception):
    """A data folder that cannot be used; the message names it and says what to do."""


class DataFolder:
    """A data folder held by this process until :meth:`close`; also a context manager."""

    def __init__(self, path: Path, lock: int, identity: str) -> None:
        """Keep what :meth:`open` found; call that instead."""
        self.path = path
        self.identity = identity
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path) -> Self:
        """Create ``path`` where it is missing, hold it and check its format.

        Raises :class:`DataFolderError`: in use by another instance, not writable, or of a newer format.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            _hold(path, lock)
            _check_format(path)
            return cls(path, lock, _identity(path))
        except OSError as error:
            os.close(lock)
            raise _unwritable(path, error) from error
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let the folder go; idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the folder go."""
        self.close()


def _hold(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or _NEVER_WRITTEN
        raise DataFolderError(
            f"data folder {path} is in use by process {holder}: stop that one, or choose another folder with --data"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _check_format(path: Path) -> None:
    file = path / "format"
    if not file.exists():
        _write_whole(file, f"{FORMAT}\n")
        return
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isascii() or not text.isdigit():
        raise DataFolderError(
            f"data folder {path}: {file} says {text[:40]!r}, expected a number up to {FORMAT}: "
            f"this is not a quayflow data folder; choose another with --data"
        )
    if int(text) > FORMAT:
        raise DataFolderError(
            f"data folder {path} has format {text}; this quayflow knows formats up to {FORMAT}: "
            f"use the newer quayflow that wrote it, or choose another folder with --data"
        )


def _identity(path: Path) -> str:
    file = path / "identity"
    if not file.exists():
        _write_whole(file, f"{secrets.token_hex(16)}\n")
    identity = file.read_text(encoding="utf-8", errors="replace").strip()
    if not (identity.isascii() and identity.isalnum()):
        found = "damaged" if identity else "empty"
        raise DataFolderError(
            f"data folder {path}: {file} is {found}: restore it, or remove it to begin a new identity"
        )
    return identity


def _write_whole(file: Path, text: str) -> None:
    """Write a file that is there either completely or not at all, also after a power cut."""
    part = file.with_name(f"{file.name}.part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> DataFolderError:
    reason = error.strerror if error.errno == errno.ENOENT else of_file(error)
    return DataFolderError(
        f"data folder {path} cannot be written: {reason}: correct its permissions, or choose another with --data"
    )

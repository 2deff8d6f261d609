"""SQLite files: how the one writer and the many readers open them, and what they say when they cannot.

WAL mode: readers in other processes see the last commit and never wait for the writer. A commit is synced before it
returns (``synchronous=FULL``), but for the embedded store's, of which a power cut may take the last ones (``NORMAL``):
the journal is its durable log. The checkpoint lies in the same transaction as the rows, so what is lost is read from
the journal again, of which nothing is deleted before :func:`sync_wal`.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, insert, inspect, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from store.interface import StoreUnreachableError
from store.tables import COUNTERS, SCHEMA_VERSION
from store.upgrading import add_missing_columns

BUSY_S: Final = 10.0
"""How long a connection waits for another's lock, seconds."""

DAMAGED_HINT: Final = "what to do is in docs/deploy.md, A damaged store"

_WRITER_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA cache_size=-4096",  # 4 MiB; what falls out of it is in the page cache of the system
    "PRAGMA wal_autocheckpoint=4000",  # pages of 4 KiB: one commit of 40,000 rows is not checkpointed in its middle
    "PRAGMA journal_size_limit=67108864",  # a WAL that a long reader let grow shrinks to 64 MiB again
)


class StoreVersionError(StoreUnreachableError):
    """A store written by a newer quayflow."""


class NotYetError(Exception):
    """A store that no writer has prepared yet: readers answer that nothing is there."""


def check_version(version: int, name: str) -> None:
    """Raise :class:`StoreVersionError` if ``version`` is newer than this program knows."""
    if version > SCHEMA_VERSION:
        raise StoreVersionError(
            f"{name} has schema version {version}; this quayflow knows versions up to {SCHEMA_VERSION}: "
            f"use the newer quayflow that wrote it, or another file"
        )


@contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turn what a driver raises when a store cannot be reached into :class:`StoreUnreachableError` naming it."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StoreUnreachableError(f"{name}: {_reason(error.orig or error)}") from error
    except DBAPIError as error:
        if type(error.orig) is not sqlite3.DatabaseError:
            raise
        raise StoreUnreachableError(f"{name}: {error.orig}; {DAMAGED_HINT}") from error
    except PoolTimeoutError as error:
        raise StoreUnreachableError(f"{name}: no connection became free: {error}") from error
    except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
        # "file is not a database" and "disk image is malformed" are plain DatabaseErrors; its subclasses are mistakes.
        if not isinstance(error, sqlite3.OperationalError) and type(error) is not sqlite3.DatabaseError:
            raise
        raise StoreUnreachableError(f"{name}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if type(error) is sqlite3.DatabaseError:
        return f"{error}; {DAMAGED_HINT}"
    # PostgreSQL asks on a second line whether it runs, and has the number of a name that cannot be found.
    text = re.sub(r"\[Errno -?\d+\] ", "", " ".join(str(error).split())).partition(" Is the server running")[0]
    if "locked" in text:
        return f"{text}: another process is writing to it for longer than {BUSY_S:g} s"
    if "readonly" in text or "unable to open" in text:
        return f"{text}: check that the folder exists and that this user may write to it"
    return text or type(error).__name__


def writer_engine(path: Path, tables: Sequence[MetaData], *, synced: bool = True) -> Engine:
    """Open ``path`` for writing, creating it and ``tables`` where they are missing.

    ``synced``: a commit outlives a power cut as soon as it is done; else only once :func:`sync_wal` has been called.
    One connection, ``BEGIN IMMEDIATE`` for every transaction. Raises :class:`StoreUnreachableError` or
    :class:`StoreVersionError`.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        for pragma in _WRITER_PRAGMAS:
            connection.execute(pragma)
        connection.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1, max_overflow=0)
    event.listen(engine, "begin", _begin_immediate)
    with reaching(str(path)):
        try:
            with engine.begin() as connection:
                _prepare(connection, path, tables)
        except BaseException:
            engine.dispose()
            raise
    return engine


def sync_wal(path: Path) -> None:
    """Have every commit to the file at ``path`` outlive a power cut.

    They lie in its write-ahead log, or in the file itself, which SQLite syncs before it lets go of the log. Raises
    :class:`StoreUnreachableError` where the disk fails.
    """
    wal = path.with_name(f"{path.name}-wal")
    try:
        for place in (wal, path.parent):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise StoreUnreachableError(f"{wal}: cannot be synced: {error.strerror}") from error


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: Connection, path: Path, tables: Sequence[MetaData]) -> None:
    check_version(connection.exec_driver_sql("PRAGMA user_version").scalar_one(), str(path))
    for metadata in tables:
        add_missing_columns(connection, metadata)
        metadata.create_all(connection)
    if inspect(connection).has_table(COUNTERS.name):
        prepare_counters(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


COUNTER_NAMES: Final = (
    "events",
    "quarantine",
    "quarantine_bytes",
    "quarantine_dropped",
    "refused_rows_settled",
    "registry",
    "audit",
)


def prepare_counters(connection: Connection) -> None:
    """Create the counters that are missing, at 0."""
    there = set(connection.scalars(select(COUNTERS.c.name)))
    missing = [{"name": name, "value": 0} for name in COUNTER_NAMES if name not in there]
    if missing:
        connection.execute(insert(COUNTERS), missing)


def reader_engine(path: Path) -> Engine:
    """Open ``path`` for reading: a pool that lends every thread its own read-only connection.

    Connections are made when one is asked for; then :class:`NotYetError` tells that the file or its tables do not
    exist yet, :class:`StoreUnreachableError` that the folder does not, :class:`StoreVersionError` that it is too new.
    """
    return create_engine(
        "sqlite://", creator=lambda: _connect_reader(path), poolclass=QueuePool, pool_size=4, max_overflow=-1
    )


def _connect_reader(path: Path) -> sqlite3.Connection:
    if not path.exists():
        if path.parent.is_dir():
            raise NotYetError
        raise StoreUnreachableError(
            f"{path}: there is no folder {path.parent}; start quayflow there first or correct the path"
        )
    # Not mode=ro: a reader of a WAL file takes part in its shared memory, which query_only allows.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with reaching(str(path)):
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only=ON")
            _check_prepared(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _check_prepared(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    check_version(version, str(path))
    if version == 0:
        raise NotYetError


def raw(connection: Connection) -> sqlite3.Connection:
    """Return the sqlite3 connection under ``connection``, inside the same transaction."""
    driver: object = connection.connection.dbapi_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError(f"expected an SQLite connection, not {type(driver).__name__}")
    return driver

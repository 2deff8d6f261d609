"""What every relational store stands on: the engine, tables that exist before they are read, errors in our words."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, RowMapping, Select, create_engine, inspect, select, text

from store.sqlite_files import NotYetError, check_version, prepare_counters, reaching
from store.tables import RECORDS, SCHEMA, SCHEMA_VERSION
from store.upgrading import add_missing_columns

CONNECT_TIMEOUT_S: Final = 5
"""How long to wait for PostgreSQL to answer a connection, seconds."""
UNANSWERED_MS: Final = 15_000
"""For how long what was sent to PostgreSQL may go without the other machine's receipt, ms: by itself, Linux would wait
for a quarter of an hour for a machine that was cut off."""

_SCHEMA_LOCK: Final = 0x71756179
"""Advisory lock that two workers take before they create tables ("quay" in ASCII)."""


def postgres_engine(url: URL) -> Engine:
    """Return a pool of connections to PostgreSQL; nothing is connected before it is needed."""
    return create_engine(
        url,
        pool_size=4,
        max_overflow=16,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": UNANSWERED_MS,
            "application_name": "quayflow",
        },
    )


class SqlStore:
    """The tables of the records in SQLite or PostgreSQL.

    ``name`` appears in messages: a path or an address without its password. ``create``: this process writes, so missing
    tables are created (PostgreSQL; on SQLite the writer's engine has done it).
    """

    def __init__(self, engine: Engine, name: str, *, create: bool) -> None:
        """Take the engine over; it is disposed of by :meth:`close`."""
        self._engine = engine
        self._name = name
        self._create = create
        self._ready = engine.dialect.name == "sqlite"
        self._preparing = threading.Lock()

    def close(self) -> None:
        """Close every connection; idempotent."""
        self._engine.dispose()

    # --- connections ------------------------------------------------------------------------------------------------

    def _rows(self, query: Select[Any]) -> list[RowMapping]:
        with self._connection() as connection:
            return [] if connection is None else list(connection.execute(query).mappings())

    @contextmanager
    def _connection(self) -> Iterator[Connection | None]:
        """Lend a connection to tables that exist, or None while no writer has made them."""
        with reaching(self._name):
            try:
                self._prepare()
                connection = self._engine.connect()
            except NotYetError:
                yield None
                return
            with connection:
                yield connection

    def _prepare(self) -> None:
        """Check the version of the tables in PostgreSQL and, when writing, create them."""
        if self._ready:
            return
        with self._preparing, self._engine.begin() as connection:
            if self._create:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
                SCHEMA.create(connection, checkfirst=True)
            elif not inspect(connection).has_table(SCHEMA.name):
                raise NotYetError
            version = connection.scalars(select(SCHEMA.c.version)).one_or_none()
            check_version(version or 0, self._name)
            if self._create:
                add_missing_columns(connection, RECORDS)
                RECORDS.create_all(connection)
                prepare_counters(connection)
                if version is None:
                    connection.execute(SCHEMA.insert(), {"version": SCHEMA_VERSION})
            elif version is None:
                raise NotYetError
        self._ready = True

"""From URLs to stores: ``sqlite:///path``, ``influxdb://…`` for window rows, ``postgresql+psycopg://…`` for records."""

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from store.interface import Sink, StoreUnreachableError, WindowStore
from store.record_writing import QUARANTINE_BYTES
from store.records import SqlRecords
from store.registry import SqlRegistry
from store.settling import ROWS_KEPT
from store.sinks import EmbeddedSink, OutboxSink
from store.sql_store import postgres_engine
from store.sqlite_files import reader_engine, writer_engine
from store.tables import RECORDS
from store.windows_sqlite import SqliteWindowStore

INFLUX: Final = ("influxdb", "influxdbs")
POSTGRES: Final = ("postgresql", "postgresql+psycopg")
OUTBOX_FILE: Final = "outbox.db"


class StoreUrlError(ValueError):
    """A store URL that cannot be used; the message says what is allowed."""


def open_windows(url: str, *, read_only: bool) -> WindowStore:
    """Open the window store at ``url``.

    Raises :class:`StoreUrlError` or :class:`store.interface.StoreUnreachableError`.
    """
    parsed = _parse("windows_url", url)
    if parsed.drivername == "sqlite":
        return SqliteWindowStore(_path("windows_url", parsed), read_only=read_only)
    if parsed.drivername in INFLUX:
        return _open_influx(url, read_only=read_only)
    raise StoreUrlError(
        f"windows_url: {parsed.drivername!r} is not known; use sqlite:///path or influxdb://token@host:port/bucket"
    )


def open_records(
    url: str, *, read_only: bool = True, quarantine_bytes: int = QUARANTINE_BYTES, refused_rows: int = ROWS_KEPT
) -> SqlRecords:
    """Open the records at ``url``; PostgreSQL is not connected before the first question.

    Raises :class:`StoreUrlError` or :class:`store.interface.StoreUnreachableError`.
    """
    engine, name = _records_engine(url, read_only=read_only)
    create = not read_only
    return SqlRecords(engine, name, create=create, quarantine_bytes=quarantine_bytes, refused_rows=refused_rows)


def open_registry(url: str, *, read_only: bool = True) -> SqlRegistry:
    """Open the registry, which lies with the records; as :func:`open_records`."""
    engine, name = _records_engine(url, read_only=read_only)
    return SqlRegistry(engine, name, create=not read_only)


def _records_engine(url: str, *, read_only: bool) -> tuple[Engine, str]:
    parsed = _parse("records_url", url)
    if parsed.drivername == "sqlite":
        path = _path("records_url", parsed)
        return (reader_engine(path) if read_only else writer_engine(path, [RECORDS])), str(path)
    if parsed.drivername in POSTGRES:
        engine = postgres_engine(parsed.set(drivername="postgresql+psycopg"))
        return engine, parsed.render_as_string(hide_password=True)
    raise StoreUrlError(
        f"records_url: {parsed.drivername!r} is not known; use sqlite:///path or postgresql+psycopg://user@host/name"
    )


def open_sink(windows_url: str, records_url: str, data_dir: Path) -> Sink:
    """Open the sink of an ingest worker.

    One SQLite file for both is written directly; anything else goes through an outbox in ``data_dir``. Raises
    :class:`StoreUrlError` or :class:`store.interface.StoreUnreachableError`; servers may be down.
    """
    windows, records = _parse("windows_url", windows_url), _parse("records_url", records_url)
    if windows.drivername == records.drivername == "sqlite":
        path = _path("windows_url", windows)
        if path.absolute() == _path("records_url", records).absolute():
            return EmbeddedSink(path)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnreachableError(f"{data_dir}: cannot be made: {error.strerror}") from error
    with ExitStack() as opened:
        windows_store = opened.enter_context(closing(open_windows(windows_url, read_only=False)))
        records_store = opened.enter_context(closing(open_records(records_url, read_only=False)))
        sink = OutboxSink(data_dir / OUTBOX_FILE, windows_store, records_store)
        # From now on they are closed with it.
        opened.pop_all()
    return sink


def _open_influx(url: str, *, read_only: bool) -> WindowStore:
    # Imported where it is used: the client takes a third of a second, which an embedded port need not spend.
    from store.windows_influx import InfluxTarget, InfluxWindowStore  # noqa: PLC0415

    try:
        return InfluxWindowStore(InfluxTarget.parse(url), read_only=read_only)
    except ValueError as error:
        raise StoreUrlError(str(error)) from error


def _parse(name: str, url: str) -> URL:
    no_port = f"{name}: the port must be a number from 1 to 65535"
    try:
        parsed = make_url(url)
    except ValueError as error:
        raise StoreUrlError(no_port) from error
    except ArgumentError as error:
        raise StoreUrlError(f"{name}: not a URL; use for example sqlite:///quayflow-data/quayflow.db") from error
    if parsed.port is not None and not 0 < parsed.port < 65_536:  # noqa: PLR2004 - TCP
        raise StoreUrlError(no_port)
    return parsed


def _path(name: str, url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise StoreUrlError(f"{name}: sqlite needs a path, such as sqlite:///quayflow-data/quayflow.db")
    return Path(url.database)

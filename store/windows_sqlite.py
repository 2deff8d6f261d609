"""Window rows in SQLite: one writer, readers in any number of processes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Final

import numpy as np
from sqlalchemy.engine import Engine

from analytics.packing import Narrow, PackedRows
from analytics.rows import SeriesKey, WindowRows, WindowSums
from devices.columns import Bools, Ints
from devices.times import NS
from store.interface import EARLIEST_NS, StoreUnreachableError
from store.sqlite_files import NotYetError, raw, reaching, reader_engine, writer_engine
from store.tables import WINDOW_ROWS, WINDOWS, WINDOWS_PER_PERIOD
from store.window_reading import (
    ID_OF_SERIES,
    first_needed,
    keep_unfolded,
    missing_rows,
    read_heard,
    read_rows,
    read_sums,
)

ROWS_PER_INSERT: Final = 2_000
"""Rows that are Python's integers at one time: of all rows of a large commit they would take hundreds of megabytes."""

_STORED: Final = tuple(column.name for column in WINDOW_ROWS.columns)
_REPLACE: Final = "INSERT OR REPLACE INTO window_rows ({}) VALUES ({})".format(  # noqa: S608 - our own column names
    ", ".join(f'"{name}"' for name in _STORED), ", ".join("?" * len(_STORED))
)
_REMOVE: Final = (
    "DELETE FROM window_rows WHERE tier_s = ? AND period = ? AND series = ? AND window = ? AND worker = ? AND epoch = ?"
)
_NEW_SERIES: Final = 'INSERT INTO series (id, site, "class", device, metric) VALUES (?, ?, ?, ?, ?)'


class RowWriter:
    """Puts rows into ``window_rows`` inside a transaction of its caller.

    It remembers the ids of series and workers; :meth:`forget` them when a transaction that used it is rolled back.
    """

    def __init__(self) -> None:
        """Start without remembered ids."""
        self._workers: dict[str, int] = {}
        self._table: Sequence[SeriesKey] = ()
        """The table of the rows last written: a worker's is always the same, and grows …"""
        self._ids: Ints = np.empty(0, np.int64)
        """… and the stored ids of its series, 0 where it is not known yet."""
        self._last_id = 0
        self._others = False
        """The greatest id in the file, and whether it holds series besides those that were made here."""

    def forget(self) -> None:
        """Drop the remembered ids, which a rollback may have made wrong."""
        self._workers.clear()
        self._table, self._ids = (), np.empty(0, np.int64)
        self._others = True

    def write(self, connection: SqliteConnection, rows: WindowRows | PackedRows) -> None:
        """Write rows; a key that exists is replaced."""
        packed = PackedRows.of(rows) if isinstance(rows, WindowRows) else rows
        for tier_s in packed.tiers:
            self._write_tier(connection, packed, tier_s)
        if packed.unfolded is not None:
            keep_unfolded(connection, self._worker_id(connection, packed.worker), packed.unfolded)

    def complete(self, connection: SqliteConnection) -> None:
        """Write the rows that workers which were killed have left out."""
        for rows in missing_rows(connection):
            self.write(connection, rows)

    def _write_tier(self, connection: SqliteConnection, rows: PackedRows, tier_s: int) -> None:
        number = rows.narrow(tier_s, "window")
        period = number.astype(np.int64) // WINDOWS_PER_PERIOD
        series = self._series_ids(connection, rows.keys, rows.narrow(tier_s, "series"))
        # In the order of the key, neighbours in the tree follow each other and a page is written once.
        order = np.lexsort((rows.narrow(tier_s, "epoch"), number, series, period))
        worker = self._worker_id(connection, rows.worker)
        for first in range(0, len(order), ROWS_PER_INSERT):
            some = order[first : first + ROWS_PER_INSERT]
            lot = rows.take(tier_s, some)
            columns = {name: getattr(lot, name).tolist() for name in lot.columns()}
            columns["series"] = series[some].tolist()
            columns["period"] = period[some].tolist()
            columns["worker"] = [worker] * len(some)
            columns["bins"] = [None] * len(some) if lot.bins is None else [each or None for each in lot.bins]
            connection.executemany(_REPLACE, zip(*(columns[name] for name in _STORED), strict=True))

    def remove(self, connection: SqliteConnection, rows: WindowRows) -> None:
        """Delete the rows of these keys."""
        if not len(rows):
            return
        series = self._series_ids(connection, rows.keys, rows.series)
        worker = self._worker_id(connection, rows.worker)
        period = rows.window // (rows.tier_s * (NS * WINDOWS_PER_PERIOD))
        keys = (rows.tier_s, period, series, rows.window, np.full(len(rows), worker, np.int64), rows.epoch)
        connection.executemany(_REMOVE, zip(*(each.tolist() for each in keys), strict=True))

    def _worker_id(self, connection: SqliteConnection, worker: str) -> int:
        if worker not in self._workers:
            connection.execute("INSERT OR IGNORE INTO writers (worker) VALUES (?)", (worker,))
            found = connection.execute("SELECT id FROM writers WHERE worker = ?", (worker,)).fetchone()
            self._workers[worker] = found[0]
        return self._workers[worker]

    def _series_ids(self, connection: SqliteConnection, table: Sequence[SeriesKey], series: Narrow) -> Ints:
        """Return the stored id of the series (n,), which index ``table``, making those that are new; shape (n,)."""
        if table is not self._table:
            self._others |= len(self._ids) > 0
            self._table, self._ids = table, np.empty(0, np.int64)
        if len(table) > len(self._ids):
            self._ids = np.append(self._ids, np.zeros(len(table) + len(table) // 4 - len(self._ids), np.int64))
        found = self._ids[series]
        if not found.all():
            missing = np.unique(series[found == 0])
            # Not all at once: keys exist only while they are looked at.
            for lot in np.split(missing, list(range(ROWS_PER_INSERT, len(missing), ROWS_PER_INSERT))):
                self._ids[lot] = self._made(connection, [table[index] for index in lot.tolist()])
            found = self._ids[series]
        return found

    def _made(self, connection: SqliteConnection, keys: Sequence[SeriesKey]) -> list[int]:
        """Return the stored ids of series, making those that are new."""
        last = connection.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0]
        self._others |= last != self._last_id
        known: dict[SeriesKey, int] = {}
        if self._others:
            found = ((key, connection.execute(ID_OF_SERIES, key).fetchone()) for key in keys)
            known = {key: row[0] for key, row in found if row is not None}
        new = dict(zip((key for key in dict.fromkeys(keys) if key not in known), count(last + 1), strict=False))
        connection.executemany(_NEW_SERIES, ((number, *key) for key, number in new.items()))
        self._last_id = last + len(new)
        known |= new
        return [known[key] for key in keys]


def expire_rows(connection: SqliteConnection, before_ns: Mapping[int, int]) -> int:
    """Delete the rows of each tier (width in s → time in ns) whose period ended before the time; return how many."""
    gone = 0
    for tier_s, before in before_ns.items():
        period = min(before, first_needed(connection, tier_s)) // (tier_s * NS * WINDOWS_PER_PERIOD)
        # The key begins with tier and period, so this walks over what it deletes and nothing else.
        gone += connection.execute("DELETE FROM window_rows WHERE tier_s = ? AND period < ?", (tier_s, period)).rowcount
    return gone


class SqliteWindowStore:
    """A :class:`store.interface.WindowStore` in one SQLite file.

    ``read_only``: for processes that never write; a file that does not exist yet then answers that nothing is there.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open ``path``; as a writer, create it. Raises :class:`StoreUnreachableError`."""
        self._name = str(path)
        self._readers = reader_engine(path)
        self._writer: Engine | None = None if read_only else writer_engine(path, [WINDOWS])
        self._rows = RowWriter()

    def write(self, rows: WindowRows) -> None:
        """Write rows in one transaction; a key that exists is replaced."""
        self._change(self._rows.write, rows)

    def remove(self, rows: WindowRows) -> None:
        """Delete the rows of these keys in one transaction."""
        self._change(self._rows.remove, rows)

    def _change(self, change: Callable[[SqliteConnection, WindowRows], None], rows: WindowRows) -> None:
        if self._writer is None:
            raise StoreUnreachableError(f"{self._name} is open for reading only")
        try:
            with reaching(self._name), self._writer.begin() as connection:
                change(raw(connection), rows)
        except BaseException:
            self._rows.forget()
            raise

    def check(self) -> None:
        """Ask whether the file can be read; one that is not there yet is none that fails."""
        try:
            with reaching(self._name), self._readers.connect():
                pass
        except NotYetError:
            pass

    def kept_from(self, now_ns: int) -> int:  # noqa: ARG002 - it takes rows of any age
        """Return a time before every window."""
        return EARLIEST_NS

    def read(
        self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey], worker: str | None = None
    ) -> WindowRows:
        """Return every row of ``series`` in one tier with ``start_ns`` ≤ window < ``end_ns``, not folded."""
        try:
            with self._reading() as connection:
                return read_rows(connection, tier_s, (start_ns, end_ns), series, worker)
        except NotYetError:
            return WindowRows.empty(series)

    def read_sums(self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey]) -> WindowSums:
        """Return what adds up of the rows that :meth:`read` returns."""
        try:
            with self._reading() as connection:
                return read_sums(connection, tier_s, (start_ns, end_ns), series)
        except NotYetError:
            return WindowSums.concatenate([])

    def heard(self, tier_s: int, windows: range, series: Sequence[SeriesKey]) -> Bools:
        """Return in which windows there are samples of a series; shape (series, windows)."""
        try:
            with self._reading() as connection:
                return read_heard(connection, tier_s, windows, series)
        except NotYetError:
            return np.zeros((len(series), len(windows)), np.bool_)

    @contextmanager
    def _reading(self) -> Iterator[SqliteConnection]:
        """Lend a connection inside one transaction, so that what is missing and what it follows from belong together.

        Raises :class:`NotYetError`, or :class:`StoreUnreachableError`.
        """
        with reaching(self._name), self._readers.connect() as connection:
            raw(connection).execute("BEGIN")
            yield raw(connection)

    def find(
        self,
        *,
        site: str | None = None,
        device_class: str | None = None,
        device: str | None = None,
        metrics: Iterable[str] | None = None,
    ) -> list[SeriesKey]:
        """Return the series known, filtered, sorted."""
        wanted = [("site", site), ('"class"', device_class), ("device", device)]
        given = [(name, value) for name, value in wanted if value is not None]
        where = " AND ".join(["1", *(f"{name} = ?" for name, _ in given)])
        query = f'SELECT site, "class", device, metric FROM series WHERE {where}'  # noqa: S608 - names are ours
        try:
            with reaching(self._name), self._readers.connect() as connection:
                found = raw(connection).execute(query, [value for _, value in given]).fetchall()
        except NotYetError:
            return []
        names = None if metrics is None else frozenset(metrics)
        return sorted(key for key in map(SeriesKey._make, found) if names is None or key.metric in names)

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Delete rows of each tier whose whole period lies before the time given; return how many went."""
        if self._writer is None:
            raise StoreUnreachableError(f"{self._name} is open for reading only")
        with reaching(self._name), self._writer.begin() as connection:
            return expire_rows(raw(connection), before_ns)

    def close(self) -> None:
        """Close every connection; idempotent."""
        self._readers.dispose()
        if self._writer is not None:
            self._writer.dispose()

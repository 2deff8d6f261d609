"""Reading window rows out of SQLite, and making those that have not been written.

A worker does not rewrite the rows of wide windows with every sample (see :mod:`analytics.windows`); the table
``unfolded`` says which are missing, in the same transaction as the rows that they follow from. Whoever reads them here
is given them as if they were there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from sqlite3 import Connection as SqliteConnection
from typing import Any, Final, NamedTuple

import numpy as np

from analytics.histograms import objects
from analytics.packing import Unfolded
from analytics.rows import TIERS_S, SeriesKey, WindowRows, WindowSums, fold, heard
from devices.columns import Bools, Ints
from devices.times import NS
from devices.vocabulary import PERCENTILED
from store.tables import UNFOLDED, WINDOWS_PER_PERIOD

SERIES_PER_QUERY: Final = 400
"""Series and periods named in one query; SQLite's own bound is 32,766 parameters."""
ALWAYS: Final = 1 << 62
"""Later than every window, ns UTC."""
SERIES_PER_FOLD: Final = 2_000
"""Series whose missing rows are made at one time: of a hundred thousand they would take hundreds of megabytes."""

ID_OF_SERIES: Final = 'SELECT id FROM series WHERE site = ? AND "class" = ? AND device = ? AND metric = ?'
_READ: Final = tuple(name for name in WindowRows.columns() if name != "tier_s")
# What is read is asked of a cross join, which fixes the order of the loops; left to itself SQLite may walk over every
# series of a period.
_SPAN_OF_SERIES: Final = (
    "WITH RECURSIVE span(number) AS (SELECT ? UNION ALL SELECT number + 1 FROM span WHERE number < ?),"
    " wanted(id) AS (VALUES {wanted})"
)
_OF_SERIES: Final = (
    "window_rows WHERE tier_s = ? AND period = number AND series = id AND window >= ? AND window < ?{condition}"
)
_JOINED: Final = f"FROM span CROSS JOIN wanted CROSS JOIN {_OF_SERIES}"
_HAS_BINS: Final = "SELECT count(*) FROM pragma_table_info('window_rows') WHERE name = 'bins'"
_HAS_UNFOLDED: Final = f"SELECT count(*) FROM sqlite_master WHERE name = '{UNFOLDED.name}'"  # noqa: S608 - our own name
_GAPS: Final = (
    "SELECT writers.worker, writers.id, epoch, since FROM unfolded JOIN writers ON writers.id = unfolded.worker"
    " WHERE tier_s = ? AND since < ?"
)


class _Gap(NamedTuple):
    """Rows of one worker, tier and epoch that are not written: those of the windows from ``since`` on, ns UTC."""

    worker: str
    number: int
    epoch: int
    since: int


def keep_unfolded(connection: SqliteConnection, worker: int, unfolded: Unfolded) -> None:
    """Note which rows of a worker, given by its stored id, are missing from now on."""
    connection.execute("DELETE FROM unfolded WHERE worker = ?", (worker,))
    lines = ((worker, tier_s, unfolded.epoch, since) for tier_s, since in unfolded.since.items())
    connection.executemany("INSERT INTO unfolded (worker, tier_s, epoch, since) VALUES (?, ?, ?, ?)", lines)


def first_needed(connection: SqliteConnection, tier_s: int) -> int:
    """Return the start of the first window of a tier from which missing rows are made, ns UTC."""
    found = connection.execute("SELECT min(since) FROM unfolded WHERE tier_s > ?", (tier_s,)).fetchone()[0]
    return ALWAYS if found is None else int(found)


def missing_rows(connection: SqliteConnection) -> Iterator[WindowRows]:
    """Yield what is missing, of every worker, to be written before the next is asked for; then nothing is any more.

    One that still runs says with its next commit what it goes on to leave out.
    """
    if not connection.execute("SELECT count(*) FROM unfolded").fetchone()[0]:
        return
    series = known_series(connection)
    for tier_s in TIERS_S[1:]:
        for gap in _gaps(connection, tier_s, ALWAYS, None):
            for first in range(0, len(series), SERIES_PER_FOLD):
                rows = _made(connection, tier_s, (gap.since, ALWAYS), series[first : first + SERIES_PER_FOLD], gap)
                yield replace(rows, worker=gap.worker)
            connection.execute("DELETE FROM unfolded WHERE worker = ? AND tier_s = ?", (gap.number, tier_s))


def known_series(connection: SqliteConnection) -> list[SeriesKey]:
    """Return all series that have rows."""
    return list(map(SeriesKey._make, connection.execute('SELECT site, "class", device, metric FROM series')))


def read_rows(
    connection: SqliteConnection,
    tier_s: int,
    span_ns: tuple[int, int],
    series: Sequence[SeriesKey],
    worker: str | None = None,
) -> WindowRows:
    """Return what :meth:`store.interface.WindowStore.read` does, from the file as it is in one transaction."""
    gaps = _gaps(connection, tier_s, span_ns[1], worker)
    asked = _asked(connection, tier_s, span_ns, series, gaps, worker)
    written = WindowRows.empty(series) if asked is None else _written(connection, asked, series)
    parts = [written, *(_made(connection, tier_s, span_ns, series, gap) for gap in gaps)]
    return WindowRows.concatenate(parts) if len(parts) > 1 else written


def read_sums(
    connection: SqliteConnection, tier_s: int, span_ns: tuple[int, int], series: Sequence[SeriesKey]
) -> WindowSums:
    """Return what :meth:`store.interface.WindowStore.read_sums` does, from the file as it is in one transaction.

    Rows have four times as many values, and each of them would become one of Python's integers.
    """
    gaps = _gaps(connection, tier_s, span_ns[1], None)
    parts = [WindowSums.of(_made(connection, tier_s, span_ns, series, gap)) for gap in gaps]
    asked = _asked(connection, tier_s, span_ns, series, gaps)
    if asked is not None:
        names = WindowSums.columns()
        query = f"{_SPAN_OF_SERIES} SELECT {_quoted(names)} {_JOINED}"
        table = _table(_found(connection, asked, query), len(names))
        columns = dict(zip(names, table, strict=True))
        columns["series"] = asked.position[columns["series"]]
        parts.append(WindowSums(**columns))
    return WindowSums.concatenate(parts)


def read_heard(connection: SqliteConnection, tier_s: int, windows: range, series: Sequence[SeriesKey]) -> Bools:
    """Return what :meth:`store.interface.WindowStore.heard` does, from the file as it is in one transaction.

    Of each series and period comes one number, with a bit for each window: a tenth of what the windows would be.
    """
    result = np.zeros((len(series), len(windows)), np.bool_)
    span_ns = windows.start, windows.stop
    gaps = _gaps(connection, tier_s, windows.stop, None)
    for gap in gaps:
        result |= heard(_made(connection, tier_s, span_ns, series, gap), len(series), windows)
    asked = _asked(connection, tier_s, span_ns, series, gaps)
    if asked is not None:
        # What is distinct comes in the order of the key, so that nothing is sorted. Text and numbers are our own.
        bit = f"1 << (window / {tier_s * NS} & {WINDOWS_PER_PERIOD - 1})"
        bits = f"SELECT sum({bit}) FROM (SELECT DISTINCT window FROM {_OF_SERIES} AND count > 0)"  # noqa: S608
        query = f"{_SPAN_OF_SERIES} SELECT id, number, ifnull(({bits}), 0) FROM span CROSS JOIN wanted"  # noqa: S608
        number, period, held = _table(_found(connection, asked, query), 3)
        row, bit_number = np.nonzero(held[:, None] >> np.arange(WINDOWS_PER_PERIOD) & 1)
        window = (period[row] * WINDOWS_PER_PERIOD + bit_number) * (tier_s * NS)
        result[asked.position[number[row]], (window - windows.start) // windows.step] = True
    return result


def _gaps(connection: SqliteConnection, tier_s: int, end_ns: int, worker: str | None) -> list[_Gap]:
    # A store that no writer of this release has opened yet has no such table.
    if tier_s == TIERS_S[0] or not connection.execute(_HAS_UNFOLDED).fetchone()[0]:
        return []
    found = map(_Gap._make, connection.execute(_GAPS, (tier_s, end_ns)))
    return [gap for gap in found if worker in {None, gap.worker}]


def _made(
    connection: SqliteConnection, tier_s: int, span_ns: tuple[int, int], series: Sequence[SeriesKey], gap: _Gap
) -> WindowRows:
    """Return the rows of a gap that start in a span, folded of those of the tier below."""
    width = tier_s * NS
    first, end = (-(-time // width) * width for time in (max(span_ns[0], gap.since), span_ns[1]))
    below = TIERS_S[TIERS_S.index(tier_s) - 1]
    rows = read_rows(connection, below, (first, end), series, gap.worker)
    return fold(rows.take(rows.epoch == gap.epoch), width).at_epoch(gap.epoch)


class _Asked(NamedTuple):
    """Which rows are read, in the terms of the file."""

    tier_s: int
    span_ns: tuple[int, int]
    periods: range
    numbers: list[int]
    """Stored ids of the series."""
    position: Ints
    """Stored id → position in the list of series that was asked for."""
    condition: str
    """SQL that leaves out rows which gaps replace, and those of other workers …"""
    values: tuple[object, ...]
    """… and its parameters."""


def _asked(
    connection: SqliteConnection,
    tier_s: int,
    span_ns: tuple[int, int],
    series: Sequence[SeriesKey],
    gaps: Sequence[_Gap],
    worker: str | None = None,
) -> _Asked | None:
    """Return which rows to read, without those that gaps replace; None where there are none."""
    start_ns, end_ns = span_ns
    ids = _ids_of(connection, series)
    span = tier_s * NS * WINDOWS_PER_PERIOD
    bounds = connection.execute(
        "SELECT min(period), max(period) FROM (SELECT min(period) AS period FROM window_rows WHERE tier_s = ?"
        " UNION ALL SELECT max(period) FROM window_rows WHERE tier_s = ?)",
        (tier_s, tier_s),
    ).fetchone()
    if not ids or bounds[0] is None or end_ns <= start_ns:
        return None
    periods = range(max(start_ns // span, bounds[0]), min((end_ns - 1) // span, bounds[1]) + 1)
    if not periods:
        return None
    numbers = sorted(ids)
    position = np.zeros(numbers[-1] + 1, np.int64)
    position[numbers] = [ids[number] for number in numbers]
    return _Asked(tier_s, span_ns, periods, numbers, position, *_condition(gaps, worker))


def _written(connection: SqliteConnection, asked: _Asked, series: Sequence[SeriesKey]) -> WindowRows:
    """Return the rows that are there."""
    # A store that no writer of this release has opened yet has no histograms, nor a column for them.
    binned = any(key.metric in PERCENTILED for key in series) and bool(connection.execute(_HAS_BINS).fetchone()[0])
    wanted = f"{_quoted(_READ)}{', bins' if binned else ''}"
    query = f"{_SPAN_OF_SERIES} SELECT {wanted} {_JOINED}"
    found = list(_found(connection, asked, query))
    bins = objects([row[-1] or b"" for row in found]) if binned else None
    table = np.array([row[:-1] for row in found] if binned else found, np.int64).reshape(len(found), len(_READ))
    columns = dict(zip(_READ, np.ascontiguousarray(table.T), strict=True))
    columns["series"] = asked.position[columns["series"]]
    columns["tier_s"] = np.full(len(found), asked.tier_s, np.int64)
    return WindowRows(series, "", *(columns[name] for name in WindowRows.columns()), bins=bins)


def _found(connection: SqliteConnection, asked: _Asked, query: str) -> Iterator[tuple[Any, ...]]:
    """Yield what a query finds of some series after others: one seek for every period and series."""
    for first in range(0, len(asked.numbers), SERIES_PER_QUERY):
        some = asked.numbers[first : first + SERIES_PER_QUERY]
        text = query.format(wanted=", ".join(["(?)"] * len(some)), condition=asked.condition)
        periods = asked.periods[0], asked.periods[-1]
        yield from connection.execute(text, (*periods, *some, asked.tier_s, *asked.span_ns, *asked.values))


def _table(found: Iterable[tuple[int, ...]], columns: int) -> Ints:
    """Return rows of integers by column; shape (columns, n)."""
    # Not a list of them first: so many tuples at once would have the garbage collector go through all that there is.
    return np.ascontiguousarray(np.fromiter(chain.from_iterable(found), np.int64).reshape(-1, columns).T)


def _condition(gaps: Sequence[_Gap], worker: str | None) -> tuple[str, tuple[object, ...]]:
    """Return SQL and its parameters for rows that no gap replaces, of one worker if one is given."""
    # The time comes first: it alone decides for all but the newest rows.
    query = " AND (window < ? OR worker <> ? OR epoch <> ?)" * len(gaps)
    parameters: tuple[object, ...] = tuple(value for gap in gaps for value in (gap.since, gap.number, gap.epoch))
    if worker is not None:
        query += " AND worker = (SELECT id FROM writers WHERE writers.worker = ?)"
        parameters += (worker,)
    return query, parameters


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _ids_of(connection: SqliteConnection, series: Sequence[SeriesKey]) -> dict[int, int]:
    """Return stored id → position in ``series`` of those that are known."""
    position = {key: index for index, key in enumerate(series)}
    if len(series) > SERIES_PER_QUERY:
        known = connection.execute('SELECT id, site, "class", device, metric FROM series')
        return {number: position[key] for number, *of in known if (key := SeriesKey._make(of)) in position}
    found = ((connection.execute(ID_OF_SERIES, key).fetchone(), index) for key, index in position.items())
    return {row[0]: index for row, index in found if row is not None}

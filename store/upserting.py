"""Writing many rows by their keys: the same statements on SQLite and PostgreSQL."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

KEYS_PER_QUERY: Final = 500

ROWS_PER_UPSERT: Final = 500
"""Records that are dictionaries of columns at one time: those of ten thousand devices would take tens of megabytes."""


def in_parts(keys: Iterable[str], size: int = KEYS_PER_QUERY) -> list[list[str]]:
    """Return ``keys`` in lists of at most ``size``, as many as a query may name."""
    every = list(keys)
    return [every[start : start + size] for start in range(0, len(every), size)]


def upsert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]], key: tuple[str, ...] = ()) -> None:
    """Insert rows; where the key (the primary key if none is given) exists, replace the other columns."""
    statement, names = _upserting(table, key, connection.dialect)
    waiting = iter(rows)
    while some := list(islice(waiting, ROWS_PER_UPSERT)):
        # Straight to the driver: to have SQLAlchemy look at each value of a row takes as long as to write it.
        connection.exec_driver_sql(statement, [tuple(map(row.__getitem__, names)) for row in some] if names else some)


def upsert_tuples(
    connection: Connection,
    table: Table,
    names: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
    lasting: tuple[str, ...] = (),
) -> None:
    """Do the same with rows that have all columns of the table in the order of ``names``: thousands in each commit.

    ``lasting``: columns that follow from the key, so that an index on them need not be touched.
    """
    statement, order = _upserting(table, (), connection.dialect, lasting)
    in_order = itemgetter(*map(names.index, order)) if order and tuple(order) != names else None
    waiting = iter(rows)
    while some := list(islice(waiting, ROWS_PER_UPSERT)):
        if not order:
            connection.exec_driver_sql(statement, [dict(zip(names, row, strict=True)) for row in some])
        else:
            connection.exec_driver_sql(statement, some if in_order is None else list(map(in_order, some)))


@lru_cache(maxsize=16)
def _upserting(
    table: Table, key: tuple[str, ...], dialect: Dialect, lasting: tuple[str, ...] = ()
) -> tuple[str, list[str]]:
    """Return an upsert in SQL, and the order of its columns where the driver takes them in order."""
    keys = key or tuple(column.name for column in table.primary_key)
    insert = sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    changing = [name for name in table.columns.keys() if name not in keys + lasting]  # noqa: SIM118
    others = {name: insert.excluded[name] for name in changing}
    statement = insert.on_conflict_do_update(index_elements=keys, set_=others).compile(dialect=dialect)
    return str(statement), list(statement.positiontup or ())

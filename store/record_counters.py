"""Counters and texts that every writer of records shares."""

from sqlalchemy import Connection, Table, bindparam, select, update

from store.tables import COUNTERS


def counter(connection: Connection, name: str, table: Table = COUNTERS) -> int:
    """Return a counter and, where the engine can, hold it against other workers until the transaction ends."""
    return int(connection.scalars(select(table.c.value).where(table.c.name == name).with_for_update()).one())


def set_counter(connection: Connection, name: str, value: int, table: Table = COUNTERS) -> None:
    """Set a counter."""
    connection.execute(update(table).where(table.c.name == bindparam("which")), {"which": name, "value": value})


def storable(text: str) -> str:
    """Return what every engine can store: PostgreSQL refuses NUL, UTF-8 refuses lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

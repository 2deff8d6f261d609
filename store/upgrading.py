"""What an older release has left in a store is given the columns that it did not know.

Only columns that may be empty are ever added to a table, so an older release goes on reading and writing a store that a
newer one has opened: it does not see them.
"""

from sqlalchemy import Connection, MetaData, inspect
from sqlalchemy.schema import CreateColumn


def add_missing_columns(connection: Connection, tables: MetaData) -> list[str]:
    """Add the columns that tables which exist do not have; return ``table.column`` of each."""
    there = inspect(connection)
    added = []
    for table in tables.sorted_tables:
        if not there.has_table(table.name):
            continue
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
                added.append(f"{table.name}.{column.name}")
    return added

"""A store that an older release has left: it gets what it lacks, and the older release goes on with it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Float, Integer, MetaData, Table, Text, create_engine, insert, inspect, select

from store.sinks import EmbeddedSink
from store.upgrading import add_missing_columns


def tables(*columns: Column[object]) -> MetaData:
    metadata = MetaData()
    Table("things", metadata, Column("id", Integer, primary_key=True), *columns)
    return metadata


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


def test_missing_columns_are_added_once_and_rows_stay(engine: Engine) -> None:
    old, new = tables(), tables(Column("weight", Float), Column("name", Text))
    with engine.begin() as connection:
        old.create_all(connection)
        connection.execute(insert(old.tables["things"]), {"id": 7})
        assert add_missing_columns(connection, new) == ["things.weight", "things.name"]
        assert add_missing_columns(connection, new) == []
        assert connection.execute(select(new.tables["things"])).one() == (7, None, None)
        # The older release neither sees nor fills them.
        connection.execute(insert(old.tables["things"]), {"id": 8})
        assert connection.execute(select(old.tables["things"])).all() == [(7,), (8,)]


def test_a_table_that_is_not_there_is_left_to_its_maker(engine: Engine) -> None:
    with engine.begin() as connection:
        assert add_missing_columns(connection, tables()) == []
        assert not inspect(connection).has_table("things")


def test_an_embedded_store_without_the_newer_columns_is_opened_and_completed(tmp_path: Path) -> None:
    path = tmp_path / "quayflow.db"
    EmbeddedSink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE devices DROP COLUMN clock_offset_s")
        connection.execute(
            "INSERT INTO devices (uid, site, device_class, device, first_seen_ns, last_seen_ns, last_event_ns, "
            "watermark_ns, online, frames, latest, info) VALUES ('a/b/c', 'a', 'b', 'c', 1, 2, 3, 4, 1, 5, '{}', '{}')"
        )
        connection.commit()
    EmbeddedSink(path).close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT uid, frames, clock_offset_s FROM devices").fetchall()
    assert rows == [("a/b/c", 5, None)]

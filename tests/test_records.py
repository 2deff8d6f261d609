"""One suite for the records on every engine: SQLite in a folder, PostgreSQL on a real server."""

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import commit, device, event, refusal
from made_rows import BEGIN, SITE
from sqlalchemy import create_engine, make_url, text

from devices.scalars import LEAST, MOST, Scalar
from devices.times import NS
from devices.unknown_names import refusal_of
from engines.postgres import Postgres, running_postgres
from store.interface import LedgerRow, QuarantineRecord, StoreUnreachableError, UnknownName
from store.open import StoreUrlError, open_records
from store.record_writing import RECORD_OVERHEAD_BYTES
from store.records import SqlRecords
from store.sql_store import postgres_engine
from store.sqlite_files import StoreVersionError

NUMBER = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for records."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/quayflow.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.create(f"records_{next(NUMBER)}")


@pytest.fixture
def writer(url: str) -> Iterator[SqlRecords]:
    records = open_records(url, read_only=False)
    yield records
    records.close()


@pytest.fixture
def records(url: str) -> Iterator[SqlRecords]:
    reader = open_records(url)
    yield reader
    reader.close()


def test_reader_answers_nothing_until_the_writer_has_come(url: str, records: SqlRecords) -> None:
    assert records.devices() == []
    assert records.device("a/b/c") is None
    assert records.devices_named("c") == []
    assert records.events() == []
    assert records.quarantine() == []
    assert records.ledger() == []
    assert records.ledger(uids=["a/b/c"]) == []
    assert records.workers() == {}
    assert records.overlaps() == []
    assert records.last_cursor() == 0
    assert records.quarantine_figures() == (0, 0, 0, 0)
    writer = open_records(url, read_only=False)
    writer.write(commit(devices=[device()]))
    writer.close()
    assert records.devices() == [device()]


def test_device_comes_back_as_it_was_and_is_replaced(writer: SqlRecords, records: SqlRecords) -> None:
    writer.write(commit(devices=[device(frames=1)]))
    newer = msgspec.structs.replace(device(frames=2**32), online=False, latest={}, info={})
    writer.write(commit(devices=[newer]))
    assert records.device(newer.uid) == newer
    assert records.devices() == [newer]


def test_devices_are_paged_by_uid(writer: SqlRecords, records: SqlRecords) -> None:
    names = ["a", "B", "b", "A-1", "A.1", "A_1", "Z", "10", "9"]
    every = [device(name) for name in names] + [device("QC01", device_class="yard-crane"), device(site="CNSHA-X")]
    writer.write(commit(devices=every))
    expected = sorted(every, key=lambda one: one.uid)
    paged = []
    after = ""
    while page := records.devices(after=after, limit=4):
        assert len(page) <= 4
        paged += page
        after = page[-1].uid
    assert paged == expected
    assert records.devices(site="CNSHA-X") == [every[-1]]
    assert records.devices(device_class="yard-crane") == [every[-2]]
    assert records.devices(site="CNSHA-X", device_class="yard-crane") == []
    assert records.devices_named("QC01") == [every[-2], every[-1]]


def test_events_get_cursors_in_the_order_of_storing(writer: SqlRecords, records: SqlRecords) -> None:
    first = writer.write(commit(events=[event(2), event(1)]))
    second = writer.write(commit(events=[event(3)]))
    assert [(one.id, one.cursor) for one in first + second] == [
        (event(2).id, 1),
        (event(1).id, 2),
        (event(3).id, 3),
    ]
    assert records.events() == [*first, *second]
    assert records.last_cursor() == 3


def test_event_again_keeps_its_cursor_and_is_not_new(writer: SqlRecords, records: SqlRecords) -> None:
    [stored] = writer.write(commit(events=[event(1)]))
    assert stored.data["unlock_ns"] == BEGIN + 123_456_789
    assert writer.write(commit(events=[event(1), event(1)])) == []
    [_, new] = [None, *writer.write(commit(events=[event(1, data={"teu": 1.0}), event(2)]))]
    assert new is not None
    assert (new.id, new.cursor) == (event(2).id, 2)
    assert records.events()[0] == msgspec.structs.replace(event(1, data={"teu": 1.0}), cursor=1)
    assert len(records.events()) == 2


def test_event_that_carries_a_cursor_keeps_it_unless_it_was_passed(writer: SqlRecords, records: SqlRecords) -> None:
    carried = [
        msgspec.structs.replace(event(n), cursor=cursor) for n, cursor in ((1, 5), (2, 9), (3, 9), (4, 2), (5, 0))
    ]
    assert [one.cursor for one in writer.write(commit(events=carried))] == [5, 9, 10, 11, 12]
    assert writer.write(commit(events=carried)) == []
    assert [one.cursor for one in records.events()] == [5, 9, 10, 11, 12]


def test_events_are_paged_and_filtered(writer: SqlRecords, records: SqlRecords) -> None:
    every = [event(n, ("crane_move", "gate_passage")[n % 2], ("QC01", "QC02", "QC03")[n % 3]) for n in range(30)]
    every += [event(n, site="CNSHA-X") for n in range(30, 33)]
    stored = writer.write(commit(events=every))
    assert records.events(after=10, limit=5) == stored[10:15]
    assert records.events(newest_first=True, limit=5) == stored[:-6:-1]
    assert records.events(before=10, newest_first=True, limit=3) == stored[8:5:-1]
    assert records.events(after=5, before=10) == stored[5:9]
    assert records.events(types=["gate_passage"], device="QC02") == [
        one for one in stored if one.type == "gate_passage" and one.device == "QC02"
    ]
    assert records.events(types=["gate_passage", "crane_move"], limit=50) == stored
    assert records.events(types=[]) == []
    assert records.events(site="CNSHA-X") == stored[30:]
    assert records.events(start_ns=every[4].ts_ns, end_ns=every[8].ts_ns) == stored[4:8]


def test_more_events_than_a_query_may_name(writer: SqlRecords, records: SqlRecords) -> None:
    every = [event(n) for n in range(1300)]
    assert len(writer.write(commit(events=every[:1000]))) == 1000
    assert [one.cursor for one in writer.write(commit(events=every))] == list(range(1001, 1301))
    assert len(records.events(limit=5000)) == 1300


def test_refusals_come_newest_first_and_once(writer: SqlRecords, records: SqlRecords) -> None:
    every = [
        refusal(n, b"\x00\xff" * n, reason=("undecodable", "wrong_type")[n % 2], uid=f"u{n % 3}") for n in range(20)
    ]
    writer.write(commit(quarantine=every[:12]))
    writer.write(commit(quarantine=every))
    writer.write(commit(quarantine=every[:3], worker="w2"))
    found = records.quarantine(before=21)
    assert [msgspec.structs.replace(one, cursor=0) for one in found] == every[::-1]
    assert [one.cursor for one in found] == list(range(20, 0, -1))
    assert len(records.quarantine()) == 23  # another worker's journal has offsets of its own
    assert records.quarantine(before=found[4].cursor, limit=3) == found[5:8]
    assert records.quarantine(reason="wrong_type", before=21) == found[::2]
    assert records.quarantine(uid="u1", before=21) == [one for one in found if one.uid == "u1"]


def test_unknown_names_are_gathered_by_device_the_newest_first(writer: SqlRecords, records: SqlRecords) -> None:
    uid = f"{SITE}/quay-crane/QC01"

    def unknown(number: int, name: str, *value: float, of: str = uid) -> QuarantineRecord:
        base = refusal(number, reason="unknown_metric", uid=of)
        return msgspec.structs.replace(base, detail=refusal_of(of, name, *value))

    assert records.unknown_names(uid) == []
    names = [unknown(1, "a b", 1.5), unknown(2, "高度", 7), unknown(3, "a b", 2.5), unknown(4, "x" * 300)]
    others = [refusal(5, uid=uid), unknown(6, "of another", of=f"{SITE}/quay-crane/QC02")]
    writer.write(commit(quarantine=names + others))
    assert records.unknown_names(uid) == [
        UnknownName(name="a b", value="2.5", refused=2, first_ns=BEGIN + 1, last_ns=BEGIN + 3),
        UnknownName(name="高度", value="7", refused=1, first_ns=BEGIN + 2, last_ns=BEGIN + 2),
    ]


def test_text_that_no_engine_can_hold_is_replaced(writer: SqlRecords, records: SqlRecords) -> None:
    odd = msgspec.structs.replace(refusal(1, b"\0"), detail="a\0b\ud800", topic="t\0", pointer="/\0")
    named = msgspec.structs.replace(event(1, data={"x\0": "y\0"}), type="a\0b")
    writer.write(commit(quarantine=[odd], events=[named]))
    [found] = records.quarantine()
    assert (found.detail, found.topic, found.pointer, found.payload) == ("a\ufffdb?", "t\ufffd", "/\ufffd", b"\0")
    [happened] = records.events()
    assert records.events(types=["a\0b"], site=SITE) == [happened]
    assert not records.events(device="\0")
    assert not records.devices(site="\0", after="\0")
    assert not records.devices_named("\0")
    assert not records.quarantine(uid="\0")
    assert not records.ledger(uids=["\0"])
    assert records.device("\0") is None
    assert (happened.type, happened.data) == ("a\ufffdb", {"x\0": "y\0"})


def test_quarantine_stays_within_its_bytes_and_counts_what_it_drops(url: str, records: SqlRecords) -> None:
    bound = 20 * (1000 + 2 * RECORD_OVERHEAD_BYTES)
    writer = open_records(url, read_only=False, quarantine_bytes=bound)
    figures = records.quarantine_figures()
    for first in range(0, 200, 10):
        writer.write(commit(quarantine=[refusal(n, b"x" * 1000) for n in range(first, first + 10)]))
        kept = records.quarantine(limit=1000)
        figures = records.quarantine_figures()
        assert figures.records == len(kept)
        assert figures.records + figures.dropped == first + 10
        assert sum(len(one.payload) for one in kept) < figures.kept_bytes <= bound
        assert kept[0].id == refusal(first + 9).id
    assert figures.records >= 20
    writer.write(commit(quarantine=[refusal(999, b"x" * (bound + 1))]))
    assert records.quarantine_figures() == (0, 0, 201, 0)
    writer.close()


def test_ledger_rows_are_replaced_and_workers_add_up(writer: SqlRecords, records: SqlRecords) -> None:
    def row(frames: int, uid: str = "s/c/d", account: str = "received", reason: str = "") -> LedgerRow:
        return LedgerRow(uid=uid, account=account, reason=reason, frames=frames, samples=frames * 10)

    writer.write(commit(ledger=[row(1), row(2, account="quarantined", reason="wrong_type"), row(5, "e")]))
    writer.write(commit(ledger=[row(3)]))
    assert records.ledger() == [row(5, "e"), row(2, account="quarantined", reason="wrong_type"), row(3)]
    writer.write(commit(ledger=[row(2**40)], worker="w2"))
    assert records.ledger(uids=["s/c/d"]) == [row(2, account="quarantined", reason="wrong_type"), row(2**40 + 3)]
    assert records.ledger(uids=["e", *(f"none{n}" for n in range(1200))]) == [row(5, "e")]
    assert records.ledger(uids=[]) == []


def test_worker_status_is_the_last_one(writer: SqlRecords, records: SqlRecords) -> None:
    status: dict[str, Scalar] = {
        "updated_ns": BEGIN + 1,
        "broker": "connected",
        "store_lag_s": 0.25,
        "balanced": True,
        "x": None,
    }
    writer.write(commit(status={"updated_ns": 1}))
    writer.write(commit(status=status))
    writer.write(commit())
    writer.write(commit(status={"updated_ns": 3}, worker="w2"))
    assert records.workers() == {"w1": status, "w2": {"updated_ns": 3}}


def test_commit_is_all_or_nothing(writer: SqlRecords, records: SqlRecords) -> None:
    wrong = msgspec.structs.replace(event(1), ts_ns=2**70)
    with pytest.raises(Exception, match=r"."):
        writer.write(commit(devices=[device()], events=[wrong]))
    assert records.devices() == []
    assert records.last_cursor() == 0
    assert [one.cursor for one in writer.write(commit(events=[event(1)]))] == [1]


def test_two_writers_at_once_give_every_event_a_cursor_of_its_own(url: str, records: SqlRecords) -> None:
    writers = [open_records(url, read_only=False) for _ in range(2)]
    failures: list[Exception] = []

    def write(writer: SqlRecords, name: str) -> None:
        try:
            for n in range(20):
                writer.write(commit(events=[event(2 * n, name=name), event(2 * n + 1, name=name)], worker=name))
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer, f"QC{n}")) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [one.cursor for one in records.events(limit=100)] == list(range(1, 81))
    for writer in writers:
        writer.close()


SCALAR = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(LEAST, MOST),
    st.booleans(),
    st.none(),
)


@given(data=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), SCALAR, max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_data_comes_back_as_it_was(writer: SqlRecords, records: SqlRecords, data: dict[str, Scalar]) -> None:
    [stored] = writer.write(commit(events=[event(next(NUMBER), data=data)]))
    assert records.events(after=stored.cursor - 1) == [stored]
    read = records.events(after=stored.cursor - 1)[0].data
    # Their types too, which Python does not look at when it compares.
    assert {name: (type(value), value) for name, value in read.items()} == {
        name: (type(value), value) for name, value in data.items()
    }


# --- one engine alone ------------------------------------------------------------------------------------------------


def test_postgres_of_a_newer_schema_is_refused_without_its_password(postgres: Postgres) -> None:
    url = postgres.create("newer")
    with closing(open_records(url, read_only=False)) as writer:
        writer.write(commit())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE quayflow_schema SET version = 99"))
    engine.dispose()
    for read_only in (True, False):
        records = open_records(url.replace("postgres@", "postgres:secret@"), read_only=read_only)
        with pytest.raises(StoreVersionError, match="schema version 99") as refused:
            records.last_cursor()
        assert "secret" not in str(refused.value)
        records.close()


def test_sqlite_of_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "quayflow.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreVersionError, match=r"quayflow\.db has schema version 99"):
        open_records(f"sqlite:///{tmp_path}/quayflow.db").workers()
    with pytest.raises(StoreVersionError, match=r"quayflow\.db has schema version 99"):
        open_records(f"sqlite:///{tmp_path}/quayflow.db", read_only=False)


def test_records_that_cannot_be_reached_say_so_without_their_password(tmp_path: Path) -> None:
    records = open_records(f"postgresql+psycopg://someone:secret@/nothing?host={tmp_path}")
    with pytest.raises(StoreUnreachableError, match="nothing") as unreachable:
        records.events()
    assert "secret" not in str(unreachable.value)
    with pytest.raises(StoreUnreachableError, match="there is no folder"):
        open_records(f"sqlite:///{tmp_path}/nowhere/quayflow.db").events()


@pytest.mark.parametrize("url", ["mysql://h/b", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_record_url_that_means_nothing_is_refused_by_name(url: str) -> None:
    with pytest.raises(StoreUrlError, match="records_url"):
        open_records(url)


def test_postgres_that_comes_back_is_used_again() -> None:
    with running_postgres() as postgres:  # its own, for it is stopped
        url = postgres.create("records")
        records = open_records(url, read_only=False)
        records.write(commit(devices=[device()]))
        postgres.stop()
        with pytest.raises(StoreUnreachableError):
            records.devices()
        postgres.start()
        assert [one.device for one in records.devices(site=SITE)] == ["QC01"]
        assert records.devices()[0].last_seen_ns == BEGIN + NS + 1
        records.close()


def test_machine_of_postgres_that_was_cut_off_is_given_up_within_seconds(postgres: Postgres) -> None:
    engine = postgres_engine(make_url(postgres.create("cut")))
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        given = driver.info.get_parameters()
    engine.dispose()
    assert int(given["tcp_user_timeout"]) <= 15_000
    assert int(given["connect_timeout"]) <= 5

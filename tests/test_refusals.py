"""What the window store refuses is quarantined in the ledger too, until the store takes it."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from made_frames import T0, frame, topic, values
from made_instance import LONG, Instance
from made_records import commit
from made_rows import BEGIN, key, rows_of
from sqlalchemy import func, select
from test_rebuilding import rebuild

from analytics.rows import WindowRows
from devices.times import NS
from engines.influx import Influx
from engines.postgres import Postgres
from store.accounts import accounts_of, is_balanced
from store.influxql import duration_ns
from store.interface import LedgerRow
from store.line_protocol import measurement
from store.open import open_records, open_sink, open_windows
from store.records import SqlRecords
from store.settling import AGE_KEPT_NS
from store.tables import REFUSED_ROWS
from store.windows_influx import InfluxWindowStore

FRAMES = [frame(topic("vehicle", "T1"), values(n, T0 + n * 4 * NS, odometer_m=n, x_m=1), recv_ts=T0) for n in range(9)]
SAMPLES = 2 * len(FRAMES)


def poison(influx: Influx, database: str) -> None:
    """Let the store refuse every row of 10 s of the week: a field has another type there."""
    influx.ask(f'DROP MEASUREMENT "{measurement(10)}"', database)
    tags = "class=vehicle,device=OTHER,metric=x_m,site=CNNGB-DEMO,worker=other"
    influx.write(database, f'{measurement(10)},{tags} count="text" {T0}')


def accounts(instance: Instance) -> tuple[dict[str, int], dict[str, int]]:
    """Return the samples by account, and what is quarantined by reason, of a ledger that must balance."""
    with closing(open_records(instance.urls[1])) as records:
        rows = records.ledger()
    assert is_balanced(rows)
    found = accounts_of(rows)
    return found["samples"], found["quarantined_by_reason"]


def refused_in(instance: Instance) -> set[str]:
    with closing(open_records(instance.urls[1])) as records:
        return {one.id for one in records.quarantine(reason="rejected_by_store", limit=1_000)}


def test_samples_of_refused_rows_are_quarantined_until_a_rebuild_finds_the_store_corrected(
    influx: Influx, postgres: Postgres, tmp_path: Path
) -> None:
    urls = influx.create("refusing"), postgres.create("refusing")
    poison(influx, "refusing")
    instance, sound = Instance(tmp_path / "there", urls=urls), Instance(tmp_path / "here")
    for one in (instance, sound):
        for begin in range(0, len(FRAMES), 2):  # the same window several times
            one.take(FRAMES[begin : begin + 2])
            one.commit()
        one.settle(T0 + LONG)
    samples, reasons = accounts(instance)
    assert samples["received"] == samples["quarantined"] == SAMPLES
    assert samples["windowed"] == samples["merged_late"] == 0
    assert reasons == {"rejected_by_store": SAMPLES}
    assert instance.hash().hexdigest() != sound.hash().hexdigest()

    influx.ask(f'DROP MEASUREMENT "{measurement(10)}"', "refusing")
    assert rebuild(instance)["rows_refused"] == 0
    samples, reasons = accounts(instance)
    assert (samples["windowed"], samples["quarantined"], reasons) == (SAMPLES, 0, {})
    assert instance.hash().hexdigest() == sound.hash().hexdigest()


def test_rows_that_a_rebuild_cannot_put_back_are_quarantined(
    influx: Influx, postgres: Postgres, tmp_path: Path
) -> None:
    instance = Instance(tmp_path, urls=(influx.create("refusing"), postgres.create("refusing")))
    instance.take(FRAMES)
    instance.settle(T0 + LONG)
    assert accounts(instance)[0]["windowed"] == SAMPLES
    poison(influx, "refusing")
    for _ in range(2):
        account = rebuild(instance)
        assert account["rows_refused"] == account["rows_missing"] == len(refused_in(instance)) > 0
        samples, reasons = accounts(instance)
        assert (samples["windowed"], samples["quarantined"]) == (0, SAMPLES)
        assert reasons == {"rejected_by_store": SAMPLES}


def test_rows_beyond_the_stores_retention_are_quarantined_and_not_sent(
    influx: Influx, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = influx.create("retaining"), postgres.create("retaining")
    influx.keep("retaining", 48)
    sent: list[int] = []
    really = InfluxWindowStore.write

    def write(store: InfluxWindowStore, some: WindowRows) -> None:
        sent.append(len(some))
        really(store, some)

    monkeypatch.setattr(InfluxWindowStore, "write", write)
    today = time.time_ns() // (10 * NS) * 10 * NS
    times = [today - age * 3600 * NS for age in (0, 47, 49, 1_000)]
    rows = rows_of([key()], [{"window": at} for at in times])
    sink = open_sink(*place, tmp_path)
    sink.commit(commit(1, rows=rows, ledger=LEDGER))
    assert sink.drain(30)
    sink.close()
    assert sent == [2]
    with closing(open_windows(place[0], read_only=True)) as windows:
        assert windows.read(10, 0, 2**62, [key()]).window.tolist() == sorted(times[:2])
    with closing(open_records(place[1])) as records:
        refused = records.quarantine(reason="rejected_by_store")
        assert samples_of(records)["quarantined", "rejected_by_store"] == 2 * rows.count[0]
    assert len(refused) == 2
    assert all("older than what the store keeps, which is from 20" in one.detail for one in refused)


@pytest.mark.parametrize(
    ("text", "expected"), [("0s", 0), ("168h0m0s", 7 * 86_400 * NS), ("1h30m0s", 5_400 * NS), ("10ms", 10_000_000)]
)
def test_durations_are_read_as_the_server_writes_them(text: str, expected: int) -> None:
    assert duration_ns(text) == expected


# --- row by row ------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    with closing(open_records(f"sqlite:///{tmp_path}/records.db", read_only=False)) as opened:
        yield opened


UID = key().device_key.uid
LEDGER = [
    LedgerRow(uid=UID, account=account, reason="", frames=frames, samples=samples)
    for account, frames, samples in [("received", 4, 40), ("windowed", 3, 30), ("merged_late", 1, 10)]
]


def ledger_of(samples: int) -> list[LedgerRow]:
    """Return a ledger of frames with a sample each, all windowed."""
    return [
        LedgerRow(uid=UID, account=account, reason="", frames=samples, samples=samples)
        for account in ("received", "windowed")
    ]


def samples_of(records: SqlRecords) -> dict[tuple[str, str], int]:
    rows = records.ledger()
    assert is_balanced(rows)
    return {(row.account, row.reason): row.samples for row in rows}


def test_a_refused_row_takes_its_samples_from_the_accounts_that_they_were_in(records: SqlRecords) -> None:
    rows = rows_of([key()], [{"count": 5, "late": 2}, {"window": BEGIN + 10 * NS, "count": 4}])
    records.write(commit(1, rows=rows, ledger=LEDGER), refused=[0])
    expected = {("received", ""): 40, ("windowed", ""): 27, ("merged_late", ""): 8}
    assert samples_of(records) == expected | {("quarantined", "rejected_by_store"): 5}
    # Written again, refused again: it counts as it is now, and once.
    records.write(commit(2, rows=rows_of([key()], [{"count": 6, "late": 2}])), refused=[0])
    assert samples_of(records)["quarantined", "rejected_by_store"] == 6
    # Another worker's row of the same window is another row.
    records.write(commit(1, worker="w2", rows=rows_of([key()], [{"count": 3}])), refused=[0])
    records.write(commit(3, rows=rows_of([key()], [{"count": 7, "late": 2}])))
    assert samples_of(records)["quarantined", "rejected_by_store"] == 3
    records.write(commit(2, worker="w2", rows=rows_of([key()], [{"count": 3}])))
    assert samples_of(records) == {(row.account, row.reason): row.samples for row in LEDGER}


def test_wider_windows_and_what_detectors_found_are_in_no_account(records: SqlRecords) -> None:
    rows = rows_of([key(), key(metric="moves")], [{"tier_s": 60}, {"series": 1}])
    records.write(commit(1, rows=rows, ledger=LEDGER), refused=[0, 1])
    assert samples_of(records) == {(row.account, row.reason): row.samples for row in LEDGER}


def refused_rows(records: SqlRecords) -> int:
    with records._engine.connect() as connection:  # noqa: SLF001 - what the table holds
        return connection.scalars(select(func.count()).select_from(REFUSED_ROWS)).one()


def windows(first: int, number: int, count: int = 1) -> WindowRows:
    return rows_of([key()], [{"window": BEGIN + n * 10 * NS, "count": count} for n in range(first, first + number)])


def test_a_store_that_refuses_everything_for_ever_does_not_fill_the_records(tmp_path: Path) -> None:
    bound, each = 50, 20
    where = f"sqlite:///{tmp_path}/records.db"
    with closing(open_records(where, read_only=False, refused_rows=bound)) as records:
        records.write(commit(1, ledger=ledger_of(10 * each)))
        for n in range(10):
            records.write(commit(2 + n, rows=windows(n * each, each)), refused=range(each), now_ns=BEGIN + n)
            assert samples_of(records)["quarantined", "rejected_by_store"] == (n + 1) * each
            assert refused_rows(records) <= bound + 1
        assert records.quarantine_figures().settled == 10 * each - bound
        # What is still kept one by one leaves the account when the store takes it; what is settled stays.
        records.write(commit(20, rows=windows(0, 10 * each)))
        assert samples_of(records)["quarantined", "rejected_by_store"] == 10 * each - bound
        assert refused_rows(records) == 1


def test_refused_rows_wait_for_thirty_days(records: SqlRecords) -> None:
    records.write(commit(1, ledger=ledger_of(40)))
    records.write(commit(2, rows=windows(0, 10)), refused=range(10), now_ns=BEGIN)
    records.write(commit(3, rows=windows(10, 10)), refused=range(10), now_ns=BEGIN + AGE_KEPT_NS)
    assert records.quarantine_figures().settled == 0
    records.write(commit(4, rows=windows(20, 10)), refused=range(10), now_ns=BEGIN + AGE_KEPT_NS + 1)
    assert records.quarantine_figures().settled == 10
    assert samples_of(records)["quarantined", "rejected_by_store"] == 30


def test_no_more_is_refused_than_there_is_when_settled_rows_are_refused_again(tmp_path: Path) -> None:
    with closing(open_records(f"sqlite:///{tmp_path}/records.db", read_only=False, refused_rows=0)) as records:
        records.write(commit(1, ledger=ledger_of(12)))
        for n in range(2):
            records.write(commit(2 + n, rows=windows(0, 10)), refused=range(10), now_ns=BEGIN)
        samples = samples_of(records)
        assert samples["quarantined", "rejected_by_store"] == 12
        assert samples["windowed", ""] == 0


def test_rows_that_an_older_release_has_noted_are_settled_first(records: SqlRecords, tmp_path: Path) -> None:
    records.write(commit(1, rows=windows(0, 10), ledger=ledger_of(40)), refused=range(10), now_ns=BEGIN)
    with records._engine.begin() as connection:  # noqa: SLF001 - as an older release left it
        connection.execute(REFUSED_ROWS.update().values(noted_ns=None))
    with closing(open_records(f"sqlite:///{tmp_path}/records.db", read_only=False, refused_rows=10)) as newer:
        newer.write(commit(2, rows=windows(10, 10)), refused=range(10), now_ns=BEGIN)
        newer.write(commit(3, rows=windows(10, 10)))
        assert samples_of(newer)["quarantined", "rejected_by_store"] == 10


def test_records_of_before_there_were_refusals_are_read(records: SqlRecords, tmp_path: Path) -> None:
    records.write(commit(1, ledger=LEDGER))
    with records._engine.begin() as connection:  # noqa: SLF001 - as an older release left it
        REFUSED_ROWS.drop(connection)
    with closing(open_records(f"sqlite:///{tmp_path}/records.db")) as reading:
        assert len(reading.ledger()) == len(LEDGER)

"""One suite for every window store: SQLite in a folder, InfluxDB on a real server."""

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import BEGIN, BIG, METRIC_NAMES, PLAIN, any_rows, as_set, key, rows_of

from analytics.histograms import Histograms, bins_of
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold
from devices.times import NS
from devices.vocabulary import BY_NAME, MAX_SCALED, METRICS
from engines.influx import Influx
from store.influxql import InfluxqlClient, InfluxqlError, Series
from store.interface import StoreRefusedError, StoreUnreachableError, WindowStore
from store.line_protocol import escaped, lines, measurement, scale_of, tags_of
from store.open import StoreUrlError, open_windows
from store.sqlite_files import StoreVersionError
from store.window_reading import read_heard, read_sums
from store.windows_influx import InfluxTarget

NUMBER = itertools.count(1)
HOUR = 3600 * NS
ALWAYS = (0, 2**62)


@pytest.fixture(scope="module", params=["sqlite", "influx"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def url(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty store that the tests of this file share; each has devices of its own."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('windows')}/quayflow.db"
    influx: Influx = request.getfixturevalue("influx")
    return influx.create("windows")


@pytest.fixture(scope="module")
def store(url: str) -> Iterator[WindowStore]:
    opened = open_windows(url, read_only=False)
    yield opened
    opened.close()


@pytest.fixture
def device() -> str:
    return f"D{next(NUMBER):05d}"


def all_of(store: WindowStore, keys: list[SeriesKey], tier_s: int = 10) -> WindowRows:
    return store.read(tier_s, *ALWAYS, keys)


def test_unknown_series_is_an_empty_answer(store: WindowStore, device: str) -> None:
    found = all_of(store, [key(device)])
    assert len(found) == 0
    assert found.keys == [key(device)]
    assert len(store.read(10, *ALWAYS, [])) == 0
    assert store.find(device=device) == []


def test_store_that_would_serve_us_is_found_to_do_so_and_nothing_is_written(store: WindowStore, url: str) -> None:
    before = store.find()
    store.check()
    reader = open_windows(url, read_only=True)
    reader.check()
    reader.close()
    assert store.find() == before


def test_writing_no_rows_is_harmless(store: WindowStore) -> None:
    store.write(WindowRows.empty())


def test_row_comes_back_as_it_was(store: WindowStore, device: str) -> None:
    rows = rows_of([key(device)], [{"late": 2, "epoch": 7}])
    store.write(rows)
    assert as_set(all_of(store, [key(device)])) == as_set(rows)


def test_writing_again_replaces_and_never_adds(store: WindowStore, device: str) -> None:
    store.write(rows_of([key(device)], [{"count": 3, "sum": 600}]))
    again = rows_of([key(device)], [{"count": 4, "sum": 10, "min": -5, "late": 1}])
    store.write(again)
    store.write(again)
    assert as_set(all_of(store, [key(device)])) == as_set(again)


def test_last_of_a_key_within_one_write_wins(store: WindowStore, device: str) -> None:
    store.write(rows_of([key(device)], [{"sum": 1}, {"sum": 2}]))
    assert all_of(store, [key(device)]).sum.tolist() == [2]


def test_epochs_are_kept_apart_and_fold(store: WindowStore, device: str) -> None:
    epochs = [0, 1, 2, NS - 1]
    store.write(rows_of([key(device)], [{"epoch": epoch, "sum": 10} for epoch in epochs]))
    found = all_of(store, [key(device)])
    assert sorted(found.epoch.tolist()) == epochs
    assert set(found.window.tolist()) == {BEGIN}
    assert fold(found).sum.tolist() == [40]


def test_workers_are_kept_apart_and_fold(store: WindowStore, device: str) -> None:
    for worker in ("w1", "w2", "w 3,=ü"):
        store.write(rows_of([key(device)], [{"sum": 10}], worker))
        store.write(rows_of([key(device)], [{"sum": 11}], worker))
    assert all_of(store, [key(device)]).sum.tolist() == [11] * 3
    assert fold(all_of(store, [key(device)])).sum.tolist() == [33]


def test_rows_of_one_worker_alone_are_read(store: WindowStore, device: str) -> None:
    for number, worker in enumerate(("w1", "w 3,=ü")):
        store.write(rows_of([key(device)], [{"sum": number}, {"epoch": 5, "sum": 10 + number}], worker))
    for number, worker in enumerate(("w1", "w 3,=ü")):
        assert sorted(store.read(10, *ALWAYS, [key(device)], worker).sum.tolist()) == [number, 10 + number]
    assert len(store.read(10, *ALWAYS, [key(device)], "nobody")) == 0


def test_removed_rows_answer_nothing_and_no_other_is_touched(store: WindowStore, device: str) -> None:
    stay = [{"window": BEGIN + 10 * NS}, {"epoch": 1}, {"tier_s": 60}, {"series": 1}]
    rows = rows_of([key(device), key(device, "power_kw")], [{}, *stay])
    store.write(rows)
    store.write(rows_of([key(device)], [{}], "w2"))
    gone = rows.take(np.array([0]))
    for _ in range(2):
        store.remove(gone)
        store.remove(WindowRows.empty())
        left = fold(all_of(store, list(rows.keys)))
        expected = fold(WindowRows.concatenate([rows.take(np.array([1, 2, 4])), rows_of(rows.keys, [{}])]))
        assert as_set(left) == as_set(expected)
        assert len(all_of(store, [key(device)], 60)) == 1
    store.write(gone)
    assert fold(all_of(store, [key(device)])).count.sum() == 12


def test_tiers_are_kept_apart(store: WindowStore, device: str) -> None:
    store.write(rows_of([key(device)], [{"tier_s": tier_s, "sum": tier_s} for tier_s in TIERS_S]))
    for tier_s in TIERS_S:
        found = all_of(store, [key(device)], tier_s)
        assert (found.tier_s.tolist(), found.sum.tolist()) == ([tier_s], [tier_s])


@pytest.mark.parametrize("tier_s", TIERS_S)
def test_range_is_half_open(store: WindowStore, device: str, tier_s: int) -> None:
    width = tier_s * NS
    windows = [BEGIN + n * width for n in range(40)]
    rows = [{"tier_s": tier_s, "window": window, "epoch": epoch} for window in windows for epoch in (0, NS - 1)]
    store.write(rows_of([key(device)], rows))

    def within(start: int, end: int) -> list[int]:
        return sorted(set(store.read(tier_s, start, end, [key(device)]).window.tolist()))

    assert within(windows[3], windows[17]) == windows[3:17]
    assert within(windows[3] + 1, windows[17] + 1) == windows[4:18]
    assert within(windows[3] - 1, windows[17] - 1) == windows[3:17]
    assert within(windows[3], windows[3]) == []
    assert within(windows[17], windows[3]) == []
    assert within(windows[-1] + 1, BIG) == []
    assert within(0, windows[0]) == []


def test_big_sums_and_negative_values_are_exact(store: WindowStore, device: str) -> None:
    rows = rows_of(
        [key(device)],
        [
            {"epoch": 0, "sum": BIG - 1, "count": 2**40, "min": -MAX_SCALED, "max": MAX_SCALED},
            {"epoch": 1, "sum": -BIG + 1, "first": -MAX_SCALED + 1, "last": MAX_SCALED - 1},
            {"epoch": 2, "sum": 2**53 + 1, "first_seq": BIG, "last_seq": BIG - 1, "min": -1, "max": 0},
        ],
    )
    store.write(rows)
    assert as_set(all_of(store, [key(device)])) == as_set(rows)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_every_metric_keeps_its_resolution(store: WindowStore, device: str, metric: str) -> None:
    top = round(BY_NAME[metric].maximum / BY_NAME[metric].resolution)
    values = [top, top - 1, top // 3, 1, 0, -1, MAX_SCALED - 1, -MAX_SCALED]
    rows = [{"epoch": n, "min": v, "max": v, "first": v, "last": v, "sum": v} for n, v in enumerate(values)]
    store.write(rows_of([key(device, metric)], rows))
    assert as_set(all_of(store, [key(device, metric)])) == as_set(rows_of([key(device, metric)], rows))


@pytest.mark.parametrize("name", ["a.b_c:d-e", "0", "x" * 64, "A::..--__", "1763856000", "true", "t"])
def test_any_device_name_that_topics_allow(store: WindowStore, device: str, name: str) -> None:
    odd = key(name, site=f"CNNGB-{device}")
    store.write(rows_of([odd], [{}]))
    assert len(all_of(store, [odd])) == 1
    assert store.find(site=odd.site) == [odd]
    assert store.find(device=name, site=odd.site) == [odd]


def test_only_what_is_asked_comes_back(store: WindowStore, device: str) -> None:
    names = [f"{device}-{n}" for n in range(3)]
    every = [key(name, metric) for name in names for metric in ("load_t", "hoist_height_m")]
    store.write(rows_of(every, [{"series": n, "sum": n} for n in range(len(every))]))
    some = [every[4], every[1], every[0], key("nobody")]
    found = all_of(store, some)
    assert {some[index]: total for index, total in zip(found.series.tolist(), found.sum.tolist(), strict=True)} == {
        every[4]: 4,
        every[1]: 1,
        every[0]: 0,
    }
    assert found.keys == some


def test_find_filters_by_each_part(store: WindowStore) -> None:
    site = f"CNNGB-F{next(NUMBER)}"
    crane = [key(name, metric, site=site) for name in ("QC01", "QC02") for metric in ("load_t", "moves")]
    gate = [key("G1", "reads", "rfid-gate", site), key("QC01", "reads", "rfid-gate", site)]
    every = crane + gate
    store.write(rows_of(every, [{"series": n} for n in range(len(every))]))
    store.write(rows_of(every, [{"series": n, "tier_s": 3600} for n in range(len(every))], "w2"))
    assert store.find(site=site) == sorted(every)
    assert store.find(site=site, device_class="rfid-gate") == sorted(gate)
    assert store.find(site=site, device="QC01") == sorted([crane[0], crane[1], gate[1]])
    assert store.find(site=site, metrics=["moves", "reads"]) == sorted([crane[1], crane[3], *gate])
    assert store.find(site=site, device_class="quay-crane", device="QC02", metrics=["load_t"]) == [crane[2]]
    assert store.find(site=site, metrics=[]) == []
    assert store.find(site="CNNGB-NONE") == []
    assert set(every) <= set(store.find())


def test_many_series_and_rows_in_one_write_and_one_read(store: WindowStore) -> None:
    site, devices, windows = f"CNNGB-M{next(NUMBER)}", 1500, 8
    keys = [key(f"T{n}", "speed_mps", "vehicle", site) for n in range(devices)]
    total = devices * windows
    columns = {name: np.arange(total) for name in WindowRows.columns()}
    columns |= {"tier_s": np.full(total, 10), "series": np.arange(total) % devices, "epoch": np.zeros(total, np.int64)}
    columns["window"] = BEGIN + np.arange(total) // devices * 10 * NS
    rows = WindowRows(keys, "w1", *(columns[name] for name in WindowRows.columns()))
    store.write(rows)
    assert as_set(store.read(10, BEGIN, BEGIN + HOUR, keys)) == as_set(rows)
    assert store.find(site=site) == sorted(keys)


@pytest.mark.parametrize("metric", ["load_t", "moves"])
def test_histograms_come_back_with_their_rows_and_are_replaced_with_them(
    store: WindowStore, device: str, metric: str
) -> None:
    keys = [key(device), key(device, metric)] if metric != "load_t" else [key(device)]
    rows = rows_of(keys, [{"epoch": nth} for nth in range(3)])
    every = np.array([5, 700, 700_000, -3, 0], np.int64)
    place = np.array([0, 0, 1, 1, 1])
    packed = Histograms.of(place, bins_of(every), np.ones(5, np.int64)).packed(np.arange(3))
    assert [len(each) for each in packed] == [16, 24, 0]
    if metric != "load_t":
        rows = WindowRows.concatenate([rows, rows_of(keys, [{"series": 1}])])
        packed = np.append(packed, [b""])
    store.write(replace(rows, bins=packed))

    def read() -> dict[tuple[str, int], bytes]:
        found = all_of(store, keys)
        names = [keys[series].metric for series in found.series.tolist()]
        return dict(zip(zip(names, found.epoch.tolist(), strict=True), found.packed.tolist(), strict=True))

    told = read()
    assert [told["load_t", epoch] for epoch in range(3)] == packed.tolist()[:3]
    assert len(told) == len(rows)
    store.write(replace(rows.take(np.arange(1)), bins=packed[1:2]))
    assert read() == told | {("load_t", 0): packed[1]}


def test_reader_of_its_own_sees_what_is_written(store: WindowStore, url: str, device: str) -> None:
    reader = open_windows(url, read_only=True)
    assert len(all_of(reader, [key(device)])) == 0
    store.write(rows_of([key(device)], [{}]))
    assert len(all_of(reader, [key(device)])) == 1
    reader.close()
    reader.close()


def test_threads_may_read_at_the_same_time_as_one_writes(store: WindowStore, url: str, device: str) -> None:
    reader = open_windows(url, read_only=True)
    counts: list[int] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            counts.extend(len(all_of(reader, [key(device)])) for _ in range(10))
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(10):
        store.write(rows_of([key(device)], [{"window": BEGIN + n * 10 * NS}]))
    for thread in threads:
        thread.join()
    assert failures == []
    assert max(counts) <= 10
    assert len(all_of(reader, [key(device)])) == 10
    reader.close()


@given(data=st.data(), tier_s=st.sampled_from(TIERS_S))
@settings(max_examples=60)
def test_folding_what_was_read_is_folding_what_was_written(
    store: WindowStore, data: st.DataObject, tier_s: int
) -> None:
    device = f"H{next(NUMBER)}"
    keys = [key(device, METRICS[0].name), key(f"{device}.2", METRICS[0].name), key(device, METRICS[12].name)]
    written = [rows_of(keys, data.draw(any_rows(keys, tier_s)), worker) for worker in ("w1", "w2")]
    for rows in written:
        store.write(rows)
    both = WindowRows.concatenate(written)
    found = store.read(tier_s, *ALWAYS, keys)
    assert as_set(fold(found)) == as_set(fold(both))
    assert as_set(fold(found, tier_s * NS * 4)) == as_set(fold(both, tier_s * NS * 4))
    assert len(found) == len(both)
    holds_sums(store, found, tier_s, keys)


def holds_sums(store: WindowStore, rows: WindowRows, tier_s: int, keys: list[SeriesKey]) -> None:
    """Assert that what adds up of rows that were read, and in which windows there are samples, can be asked for too."""
    width = tier_s * NS
    sums = store.read_sums(tier_s, *ALWAYS, keys)
    expected, found = (
        sorted(zip(*(getattr(each, name).tolist() for name in sums.columns()), strict=True)) for each in (rows, sums)
    )
    assert found == expected
    windows = range(BEGIN - 3 * width, BEGIN + 37 * width, width)
    heard = store.heard(tier_s, windows, keys)
    pairs = zip(rows.series.tolist(), rows.window.tolist(), rows.count.tolist(), strict=True)
    there = {(series, window) for series, window, count in pairs if count}
    assert heard.tolist() == [[(series, window) in there for window in windows] for series in range(len(keys))]


def test_what_was_removed_is_not_heard_and_adds_nothing(store: WindowStore, device: str) -> None:
    rows = rows_of([key(device)], [{}, {"window": BEGIN + 10 * NS}, {"window": BEGIN + 10 * NS, "epoch": 1}])
    store.write(rows)
    store.remove(rows.take(np.array([0, 1])))
    windows = range(BEGIN, BEGIN + 30 * NS, 10 * NS)
    keys = [key(device, "power_kw"), key(device)]
    assert store.heard(10, windows, keys).tolist() == [[False] * 3, [False, True, False]]
    assert store.read_sums(10, *ALWAYS, keys).sum.sum() == PLAIN["sum"]
    assert store.read_sums(10, *ALWAYS, []).count.tolist() == []
    assert store.heard(10, windows, []).shape == (0, 3)


# --- SQLite alone ----------------------------------------------------------------------------------------------------


def test_sqlite_reader_answers_nothing_until_the_writer_has_come(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quayflow.db"
    reader = open_windows(url, read_only=True)
    assert reader.find() == []
    assert len(all_of(reader, [key()])) == 0
    assert not (tmp_path / "quayflow.db").exists()
    writer = open_windows(url, read_only=False)
    assert reader.find() == []
    writer.write(rows_of([key()], [{}]))
    assert reader.find() == [key()]
    writer.close()
    assert len(all_of(reader, [key()])) == 1
    reader.close()


def test_sqlite_reader_of_a_missing_folder_says_so(tmp_path: Path) -> None:
    reader = open_windows(f"sqlite:///{tmp_path}/nowhere/quayflow.db", read_only=True)
    with pytest.raises(StoreUnreachableError, match="there is no folder"):
        reader.find()


@pytest.mark.parametrize("read_only", [True, False])
def test_sqlite_file_of_a_newer_schema_is_refused_by_name(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "quayflow.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreVersionError, match=r"quayflow\.db has schema version 99"):
        open_windows(f"sqlite:///{path}", read_only=read_only).find()


@pytest.mark.parametrize("read_only", [True, False])
def test_file_that_is_no_database_is_refused_by_name(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "quayflow.db"
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(StoreUnreachableError, match=r"quayflow\.db: file is not a database"):
        open_windows(f"sqlite:///{path}", read_only=read_only).find()


def test_sqlite_reader_does_not_write(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quayflow.db"
    open_windows(url, read_only=False).close()
    with pytest.raises(StoreUnreachableError, match="reading only"):
        open_windows(url, read_only=True).write(rows_of([key()], [{}]))


# --- InfluxDB alone --------------------------------------------------------------------------------------------------


def test_sqlite_finds_a_month_by_its_key_and_does_no_more_where_others_are_stored_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "quayflow.db"
    store = open_windows(f"sqlite:///{path}", read_only=False)
    cranes = [key(f"QC{nth:02d}", "moves") for nth in range(4)]
    begin, month = BEGIN // (24 * HOUR) * 24 * HOUR, 720
    windows = range(begin, begin + month * HOUR, HOUR)

    def month_of(keys: list[SeriesKey]) -> WindowRows:
        every = [{"tier_s": 3600, "window": window, "series": nth} for nth in range(len(keys)) for window in windows]
        return rows_of(keys, every)

    def work() -> tuple[int, list[str]]:
        """Return how many thousand steps SQLite takes for the month, and what it plans for its questions."""
        connection = sqlite3.connect(path)
        asked: list[str] = []
        steps = itertools.count()
        connection.set_trace_callback(asked.append)
        connection.set_progress_handler(lambda: next(steps) < 0, 1_000)
        sums = read_sums(connection, 3600, (windows.start, windows.stop), cranes)
        heard = read_heard(connection, 3600, windows, cranes)
        connection.set_progress_handler(None, 0)
        connection.set_trace_callback(None)
        assert len(sums) == heard.sum() == len(cranes) * month
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in asked if "wanted" in each]
        connection.close()
        return next(steps), [line for plan in plans for *_, line in plan if "window_rows" in line or "TEMP" in line]

    store.write(month_of(cranes))
    alone, plans = work()
    by_key = "SEARCH window_rows USING PRIMARY KEY (tier_s=? AND period=? AND series=? AND window>? AND window<?)"
    assert plans == [by_key] * 2
    # Less than thirty steps a row and question.
    assert alone < len(cranes) * month * 30 * 2 / 1_000
    store.write(month_of([key(f"QC{nth:02d}", metric) for nth in range(4) for metric in ("teu", "load_t", "power_kw")]))
    assert work() == (alone, plans)
    store.close()


def test_sqlite_forgets_what_has_outlived_its_tier_and_nothing_else(tmp_path: Path) -> None:
    store = open_windows(f"sqlite:///{tmp_path}/quayflow.db", read_only=False)
    series = [key("QC01")]
    day = 24 * HOUR
    old, new = BEGIN, BEGIN + 9 * day
    rows = rows_of(series, [{"tier_s": tier, "window": window} for tier in TIERS_S for window in (old, new)])
    store.write(rows)
    assert store.expire({10: BEGIN + 8 * day, 60: BEGIN + 8 * day}) == 2
    assert store.expire({10: BEGIN + 8 * day, 60: BEGIN + 8 * day}) == 0
    left = {tier: store.read(tier, *ALWAYS, series).window.tolist() for tier in TIERS_S}
    assert left == {10: [new], 60: [new], 900: [old, new], 3600: [old, new]}
    store.close()


def test_influx_points_are_written_for_dashboards_too(influx: Influx) -> None:
    url = influx.create("dashboards")
    store = open_windows(url, read_only=False)
    store.write(rows_of([key()], [{"count": 3, "sum": 600, "epoch": 5}]))
    fields = influx.ask("SELECT mean, min, max, first, last, sum, count FROM window_10s", "dashboards").decode()
    assert f'"values":[[{BEGIN + 5},0.2,0.1,0.3,0.1,0.3,600,3]]' in fields
    tags = influx.ask("SHOW TAG KEYS", "dashboards").decode()
    assert '"values":[["class"],["device"],["metric"],["site"],["worker"]]' in tags
    store.close()


def test_influx_point_that_is_being_written_is_not_there_before_it_is_whole(influx: Influx) -> None:
    url = influx.create("torn")
    store = open_windows(url, read_only=False)
    rows = rows_of([key("T")], [{}, {"window": BEGIN + 10 * NS}])
    store.write(rows.take(np.arange(1)))
    # What a query meets while the server adds a point: some of its fields.
    (whole,) = lines(rows.take(np.arange(1, 2)))
    series, _, rest = whole.partition(" ")
    fields, _, time = rest.rpartition(" ")
    influx.write("torn", f"{series} {fields.split(',')[0]} {time}")
    assert all_of(store, [key("T")]).window.tolist() == [BEGIN]
    store.write(rows.take(np.arange(1, 2)))
    assert all_of(store, [key("T")]).window.tolist() == [BEGIN, BEGIN + 10 * NS]
    store.close()


def test_influx_that_cannot_be_reached_says_so() -> None:
    store = open_windows("influxdb://127.0.0.1:9/none/autogen", read_only=False)
    with pytest.raises(StoreUnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        store.write(rows_of([key()], [{}]))
    with pytest.raises(StoreUnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        store.read(10, *ALWAYS, [key()])
    with pytest.raises(StoreUnreachableError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        store.find()
    store.close()


def test_influx_without_its_database_says_so(influx: Influx) -> None:
    store = open_windows(influx.url("absent"), read_only=False)
    reader = open_windows(influx.url("absent"), read_only=True)
    for refused in (store.check, lambda: store.write(rows_of([key()], [{}]))):
        with pytest.raises(StoreRefusedError, match=r"404.*absent.*create the bucket or database.*windows_url"):
            refused()
    with pytest.raises(StoreRefusedError, match="database not found: absent"):
        reader.check()
    reader.close()
    with pytest.raises(StoreRefusedError, match="database not found: absent"):
        store.read(10, *ALWAYS, [key()])
    with pytest.raises(StoreUnreachableError, match="database not found: absent"):
        store.find()
    store.close()


def test_influx_without_show_series_and_with_short_ranges_answers_the_same(
    influx: Influx, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is documented of 3.x, played on the real 1.x: the statements that then take their place are run for real.
    store = open_windows(influx.create("three"), read_only=False)
    keys = [key(f"QC0{n}", metric) for n in range(3) for metric in ("load_t", "hoist_height_m")]
    hours = [{"series": n % 6, "tier_s": 3600, "window": BEGIN + n * HOUR} for n in range(300)]
    rows = rows_of(keys, hours)
    store.write(rows)
    expected = store.find(device="QC01", metrics=["load_t"])
    real, asked = InfluxqlClient.ask, []

    def ask(self: InfluxqlClient, statement: str) -> Iterator[Series]:
        asked.append(statement)
        if statement.startswith("SHOW SERIES"):
            raise InfluxqlError("SHOW SERIES is not implemented")
        return real(self, statement)

    monkeypatch.setattr(InfluxqlClient, "ask", ask)
    monkeypatch.setattr(InfluxqlClient, "version", lambda _: "3.9.0")
    again = open_windows(influx.url("three"), read_only=True)
    assert again.find() == sorted(keys)
    assert again.find(device="QC01", metrics=["load_t"]) == expected == [key("QC01")]
    asked.clear()
    assert as_set(again.read(3600, BEGIN, BEGIN + 300 * HOUR, keys)) == as_set(rows)
    assert len(asked) == 5  # 300 h in ranges of at most 72 h
    store.close()
    again.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("influxdb://:tok@h:8087/b?org=o", InfluxTarget("http://h:8087", "b", "o", "tok")),
        ("influxdb://any:tok@h/b?org=o", InfluxTarget("http://h:8086", "b", "o", "tok")),
        ("influxdb://tok@h/b", InfluxTarget("http://h:8086", "b", "-", "tok")),
        ("influxdb://u:p%40ss@h/db/rp", InfluxTarget("http://h:8086", "db/rp", "-", "u:p@ss")),
        ("influxdbs://h/my%20bucket?org=a%20b", InfluxTarget("https://h:8086", "my bucket", "a b", "")),
        ("influxdb://[::1]:1/b", InfluxTarget("http://[::1]:1", "b", "-", "")),
    ],
)
def test_influx_url_is_read(url: str, expected: InfluxTarget) -> None:
    assert InfluxTarget.parse(url) == expected


NO_URLS = "influxdb://h:8086 influxdb:///bucket mysql://h/b nonsense influxdb://h:99999/b influxdb://h:x/b"


@pytest.mark.parametrize("url", [*NO_URLS.split(), "influxdb://%E4%BB%A4@h/b"])
def test_window_url_that_means_nothing_is_refused_by_name(url: str) -> None:
    with pytest.raises(StoreUrlError, match=r"windows_url|bucket"):
        open_windows(url, read_only=True)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\\"), min_size=1))
def test_tags_come_back_from_a_series_key(tag: str) -> None:
    assert tags_of(f"window_10s,device={escaped(tag)},site=x") == {"device": tag, "site": "x"}


@pytest.mark.parametrize("tag", ["ends\\", "a\\b", "a\nb", "a\0b"])
def test_tag_that_line_protocol_cannot_say_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        escaped(tag)


def test_tier_names_its_measurement() -> None:
    assert [measurement(tier_s) for tier_s in (*TIERS_S, 86_400)] == [
        "window_10s",
        "window_1m",
        "window_15m",
        "window_1h",
        "window_1d",
    ]


def test_line_protocol_refuses_what_it_cannot_keep() -> None:
    with pytest.raises(ValueError, match="epoch"):
        lines(rows_of([key()], [{"epoch": NS}]))
    with pytest.raises(ValueError, match="'altitude_ft': not in the vocabulary"):
        scale_of("altitude_ft")

"""A commit is whole or absent, whatever dies; what a sink holds reaches the remote stores once in effect."""

import gzip
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import committing_child as child
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import commit, device, event, refusal
from made_rows import BEGIN, any_rows, as_set, key, rows_of

from analytics.histograms import objects
from analytics.packing import whole as unpacked
from analytics.rows import WindowRows
from devices.times import NS
from engines.answers import serving
from engines.influx import Influx, running_influx
from engines.ports import wait_until
from engines.postgres import Postgres
from store.delivery import Backoff
from store.entries import decode, encode
from store.influxql import retry_after_s
from store.interface import Commit, EventRecord, HistoryRecord, PointsRejectedError, StoreUnreachableError
from store.line_protocol import lines
from store.open import StoreUrlError, open_records, open_sink, open_windows
from store.packed_devices import PackedDevices
from store.refusals import store_rows
from store.sinks import EmbeddedSink, OutboxSink
from store.sqlite_files import StoreVersionError

ROOT = Path(__file__).resolve().parent.parent
EVER = (0, 2**62)
WEEK_S = 7 * 86_400
QUICK = Backoff(base_s=0.02, cap_s=0.1)


@dataclass(frozen=True)
class Place:
    """Where a sink's content rests."""

    windows: str
    records: str
    data: Path


def embedded(folder: Path) -> Place:
    url = f"sqlite:///{folder}/quayflow.db"
    return Place(url, url, folder)


@pytest.fixture(params=["embedded", "two files", "servers"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "embedded":
        return embedded(tmp_path)
    if request.param == "two files":
        return Place(f"sqlite:///{tmp_path}/windows.db", f"sqlite:///{tmp_path}/records.db", tmp_path)
    influx: Influx = request.getfixturevalue("influx")
    postgres: Postgres = request.getfixturevalue("postgres")
    return Place(influx.create("sinks"), postgres.create("sinks"), tmp_path)


@pytest.fixture
def servers(influx: Influx, postgres: Postgres, tmp_path: Path) -> Place:
    return Place(influx.create("outbox"), postgres.create("outbox"), tmp_path)


def outbox(place: Place, windows: str | None = None) -> OutboxSink:
    """Open an outbox that tries again quickly, with the windows of ``place`` or somewhere else."""
    return OutboxSink(
        place.data / "outbox.db",
        open_windows(windows or place.windows, read_only=False),
        open_records(place.records, read_only=False),
        backoff=QUICK,
        jitter=random.Random(1),
    )


NOWHERE = "influxdb://127.0.0.1:9/none/autogen"


@dataclass
class Content:
    """What the stores hold."""

    rows: set[tuple[object, ...]]
    events: list[EventRecord]
    frames: dict[str, int]
    refused: list[str]
    ledger: int
    statuses: dict[str, object] = field(default_factory=dict)


def content(place: Place) -> Content:
    windows, records = open_windows(place.windows, read_only=True), open_records(place.records)
    try:
        return Content(
            as_set(windows.read(10, *EVER, windows.find())),
            records.events(limit=100_000),
            {one.uid: one.frames for one in records.devices(limit=1000)},
            [one.id for one in records.quarantine(limit=100_000)],
            sum(row.frames for row in records.ledger()),
            dict(records.workers()),
        )
    finally:
        windows.close()
        records.close()


# --- every sink ------------------------------------------------------------------------------------------------------


def test_what_is_committed_is_loaded_and_read(place: Place) -> None:
    sink = open_sink(place.windows, place.records, place.data)
    assert sink.load("w1") is None
    [new] = sink.commit(child.commit_number(1))
    assert new == msgspec.structs.replace(event(1), cursor=1)
    assert sink.commit(child.commit_number(1)) == []
    [new] = sink.commit(child.commit_number(2))
    assert new.cursor == 2
    assert sink.drain(30)
    assert sink.backlog() == 0
    sink.close()
    sink.close()

    assert_content_is_of_commits(place, 2)
    again = open_sink(place.windows, place.records, place.data)
    checkpoint = again.load("w1")
    assert checkpoint is not None
    assert checkpoint.offset == 2
    assert checkpoint.state == {"worker": b"2", "device:1": b"1", "device:2": b"2"}
    assert again.load("w2") is None
    again.close()


def test_event_retracted_is_gone_and_comes_again_as_a_new_one(place: Place) -> None:
    sink = open_sink(place.windows, place.records, place.data)
    sink.commit(commit(1, events=[event(1), event(2), event(3)]))
    changed = event(2, data={"teu": 1.0})
    assert [one.cursor for one in sink.commit(commit(2, retracted=[event(1).id, event(2).id], events=[changed]))] == [4]
    assert sink.commit(commit(3, retracted=["never heard of"])) == []
    assert sink.drain(30)
    sink.close()
    left = [msgspec.structs.replace(event(3), cursor=3), msgspec.structs.replace(changed, cursor=4)]
    assert content(place).events == left


def test_hours_are_kept_beside_the_checkpoint_replaced_and_forgotten(place: Place) -> None:
    def hour(uid: str, start_ns: int, blob: bytes) -> HistoryRecord:
        return HistoryRecord(uid=uid, start_ns=start_ns, blob=blob)

    sink = open_sink(place.windows, place.records, place.data)
    sink.commit(commit(1, history=[hour("a", 10, b"1"), hour("a", 20, b"2"), hour("b", 10, b"3")]))
    sink.commit(commit(2, history=[hour("a", 20, b"4")]))
    sink.commit(commit(1, worker="w2", history=[hour("a", 10, b"5")]))
    assert sink.history("w1", "a") == {10: b"1", 20: b"4"}
    assert sink.history("w1", "c") == {}
    assert sink.forget_history("w1", 20) == 2
    assert sink.history("w1", "a") == {20: b"4"}
    assert sink.history("w2", "a") == {10: b"5"}
    checkpoint = sink.load("w1")
    assert checkpoint is not None
    assert checkpoint.state == {}
    sink.close()


def test_commit_that_fails_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    place = embedded(tmp_path)
    sink = EmbeddedSink(tmp_path / "quayflow.db")
    wrong = commit(1, rows=rows_of([key("NEW")], [{}]), events=[msgspec.structs.replace(event(1), ts_ns=2**70)])
    with pytest.raises(OverflowError):
        sink.commit(wrong)
    assert sink.load("w1") is None
    assert content(place).rows == set()
    # The series of the failed commit was rolled back: its id must not be used as if it were there.
    sink.commit(commit(1, rows=rows_of([key("OTHER")], [{}])))
    sink.commit(commit(2, rows=rows_of([key("NEW")], [{}])))
    assert content(place).rows == as_set(rows_of([key("NEW")], [{}])) | as_set(rows_of([key("OTHER")], [{}]))
    sink.close()


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def assert_content_is_of_commits(place: Place, last: int) -> None:
    """Check that the stores hold the commits 1 to ``last`` of the committing child and nothing else."""
    found = content(place)
    numbers = range(1, last + 1)
    expected = {row for n in numbers for row in as_set(child.rows_of_commit(n)) if BEGIN not in row[:2]}
    expected |= {row for row in as_set(child.rows_of_commit(last)) if BEGIN in row[:2]}
    assert found.rows == expected
    assert [(one.id, one.cursor) for one in found.events] == [(event(n).id, n) for n in numbers]
    assert found.frames == {device().uid: last}
    assert found.refused == [refusal(n).id for n in reversed(numbers)]
    assert found.ledger == last
    assert found.statuses == {"w1": {"updated_ns": last}}


@contextmanager
def committing(place: Place) -> Iterator[subprocess.Popen[str]]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, str(ROOT / "tests" / "committing_child.py")]
    with subprocess.Popen(
        [*command, place.windows, place.records, str(place.data)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_killed_worker_left_whole_commits_only(place: Place) -> None:
    said = 0
    pauses = random.Random(7)
    for _ in range(4):
        with committing(place) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said, cursor, _ = (int(part) for part in line.split())
                assert cursor == said
                if said % 6 == 0:
                    break
            time.sleep(pauses.uniform(0, 0.03))  # so that it dies anywhere: in a commit, between two, in a delivery
            process.send_signal(signal.SIGKILL)
            said = max([said, *(int(line.split()[0]) for line in process.stdout.read().splitlines(keepends=True)[:-1])])
    sink = open_sink(place.windows, place.records, place.data)
    checkpoint = sink.load("w1")
    assert checkpoint is not None
    assert checkpoint.offset >= said
    assert checkpoint.state["worker"] == b"%d" % checkpoint.offset
    assert sink.drain(60)
    sink.close()
    assert_content_is_of_commits(place, checkpoint.offset)


# --- the outbox ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_server_that_was_down_gets_everything_when_it_is_back(postgres: Postgres, tmp_path: Path) -> None:
    with running_influx() as influx:
        place = Place(influx.create("down"), postgres.create("down"), tmp_path)
        influx.stop()
        sink = outbox(place)
        assert [sink.commit(child.commit_number(n))[0].cursor for n in (1, 2)] == [1, 2]
        wait_until(lambda: sink.trouble()[0] != "", "the delivery has failed")
        assert sink.backlog() == 2
        assert not sink.drain(0.05)
        sink.close()
        sink = outbox(place)
        assert sink.backlog() == 2
        influx.start()
        assert sink.drain(30)
        assert sink.trouble() == ("", 0.0)
        influx.stop(kill=True)
        for n in range(3, 6):
            sink.commit(child.commit_number(n))
        wait_until(lambda: sink.trouble()[0] != "", "the delivery has failed")
        influx.start()
        assert sink.drain(30)
        sink.close()
        assert_content_is_of_commits(place, 5)


def test_entry_delivered_twice_changes_nothing(servers: Place) -> None:
    sink = outbox(servers, NOWHERE)
    for n in range(1, 4):
        sink.commit(child.commit_number(n))
    sink.close()
    shutil.copy(servers.data / "outbox.db", servers.data / "before.db")
    for _ in range(2):
        sink = outbox(servers)
        assert sink.drain(30)
        sink.close()
        assert_content_is_of_commits(servers, 3)
        shutil.copy(servers.data / "before.db", servers.data / "outbox.db")


def test_retraction_delivered_twice_leaves_what_came_again(servers: Place) -> None:
    sink = outbox(servers, NOWHERE)
    sink.commit(commit(1, events=[event(1), event(2)]))
    changed = event(2, data={"teu": 1.0})
    sink.commit(commit(2, retracted=[event(1).id, event(2).id], events=[changed]))
    sink.commit(commit(3, events=[event(3)]))
    sink.close()
    shutil.copy(servers.data / "outbox.db", servers.data / "before.db")
    for _ in range(2):
        sink = outbox(servers)
        assert sink.drain(30)
        sink.close()
        assert [(one.id, one.cursor, one.data) for one in content(servers).events] == [
            (changed.id, 3, changed.data),
            (event(3).id, 4, event(3).data),
        ]
        shutil.copy(servers.data / "before.db", servers.data / "outbox.db")


def test_new_outbox_goes_on_where_the_records_cursors_ended(servers: Place) -> None:
    first = outbox(servers)
    first.commit(commit(events=[event(1), event(2)]))
    assert first.drain(30)
    first.close()
    (servers.data / "outbox.db").unlink()
    second = outbox(servers)
    assert [one.cursor for one in second.commit(commit(events=[event(3)]))] == [3]
    assert second.drain(30)
    second.close()
    assert [one.cursor for one in content(servers).events] == [1, 2, 3]


def test_bad_point_stands_alone_in_quarantine(servers: Place, influx: Influx) -> None:
    # A field that is a float in one week's shard makes that week refuse our integer, and no other.
    keys = [key(f"T{n}", "speed_mps", "vehicle") for n in range(600)]
    bad = BEGIN - 5 * WEEK_S * NS
    windows = open_windows(servers.windows, read_only=False)
    poison = lines(rows_of([key("POISON")], [{"window": bad}]))[0].replace("late=0i", "late=0.5")
    influx.write("outbox", poison)
    rows = rows_of(keys, [{"series": n, "window": bad if n in {17, 400} else BEGIN} for n in range(len(keys))])
    with pytest.raises(PointsRejectedError, match="field type conflict"):
        windows.write(rows.take(np.array([17])))
    windows.close()

    sink = outbox(servers)
    for offset in (1, 2):  # the second time it is the same refusal, not another
        sink.commit(commit(offset, rows=rows, quarantine=[refusal(5)]))
        assert sink.drain(30)
    sink.close()

    records, windows = open_records(servers.records), open_windows(servers.windows, read_only=True)
    good = np.array([n for n in range(len(keys)) if n not in {17, 400}])
    assert as_set(windows.read(10, *EVER, keys)) == as_set(rows.take(good))
    refused = [one for one in records.quarantine() if one.reason == "rejected_by_store"]
    assert sorted(one.uid for one in refused) == sorted(keys[n].device_key.uid for n in (17, 400))
    assert {one.payload.decode() for one in refused} == {lines(rows)[n] for n in (17, 400)}
    assert all("field type conflict" in one.detail for one in refused)
    assert len(records.quarantine()) == 3
    records.close()
    windows.close()


class Answering(BaseHTTPRequestHandler):
    """Answers writes as it is told, keeping when each came."""

    told: list[tuple[int, dict[str, str]]]
    came: list[float]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith("/query") and not gzip.decompress(body).strip():
            self.send_response(204)  # a question whether anything would be taken
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/query"):
            self.send_error(404)  # as a server that only takes writes
            return
        self.came.append(time.monotonic())
        status, headers = self.told.pop(0) if self.told else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def answering(told: list[tuple[int, dict[str, str]]]) -> Iterator[tuple[str, list[float]]]:
    """Serve a window store that fails as told and takes everything afterwards; yields its URL and when it was asked."""
    came: list[float] = []
    with serving(Answering, told=told, came=came) as address:
        yield f"influxdb://{address}/db/rp", came


def test_store_that_is_busy_is_left_alone_for_as_long_as_it_asks(tmp_path: Path) -> None:
    told: list[tuple[int, dict[str, str]]] = [(429, {"Retry-After": "1"}), (503, {}), (500, {})]
    with answering(told) as (url, came):
        sink = outbox(Place(url, f"sqlite:///{tmp_path}/records.db", tmp_path))
        sink.commit(child.commit_number(1))
        assert sink.drain(30)
        sink.close()
    waited = np.diff(came)
    assert len(came) == 4
    assert waited[0] >= 1.0
    assert max(waited[1:]) < 1.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str] | None, expected: float | None) -> None:
    assert retry_after_s(headers) == expected


def test_waits_grow_to_a_bound_and_are_spread() -> None:
    backoff, jitter = Backoff(base_s=0.2, cap_s=30), random.Random(3)
    for failures, bound in ((1, 0.2), (2, 0.4), (5, 3.2), (9, 30), (10**6, 30)):
        waits = [backoff.wait_s(failures, None, jitter) for _ in range(500)]
        assert max(waits) <= bound
        assert max(waits) > 0.9 * bound
        assert min(waits) < 0.1 * bound
    assert 60 <= backoff.wait_s(1, 60.0, jitter) <= 60.2
    assert backoff.wait_s(1, 1e9, jitter) < 601
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s=0)


def test_store_that_is_back_is_found_within_seconds_and_never_hammered() -> None:
    backoff, jitter = Backoff(), random.Random(3)
    waits = [backoff.wait_s(failures, None, jitter) for failures in range(1, 1000)]
    assert max(waits) <= 5
    assert np.mean(waits) > 2
    assert backoff.wait_s(1000, 60.0, jitter) >= 60


@pytest.mark.parametrize("bad", [set(), {0}, {99}, {3, 4, 50}, set(range(100))])
def test_halving_finds_exactly_the_bad_rows(bad: set[int]) -> None:
    rows = rows_of([key()], [{"window": BEGIN + n * 10 * NS, "sum": n} for n in range(100)])

    class Picky:
        def __init__(self) -> None:
            self.stored: set[int] = set()
            self.writes = 0

        def write(self, some: WindowRows) -> None:
            self.writes += 1
            if bad.intersection(some.sum.tolist()):
                raise PointsRejectedError("bad")
            self.stored.update(some.sum.tolist())

        def kept_from(self, now_ns: int) -> int:
            return now_ns - NS

        def read(self, *asked: object) -> WindowRows:
            raise AssertionError(asked)

        def find(self, **asked: object) -> list[object]:
            raise AssertionError(asked)

        def close(self) -> None:
            raise AssertionError("left open by whoever is handed it")

    picky = Picky()
    assert {refusal.row for refusal in store_rows(picky, rows, BEGIN)} == bad  # type: ignore[arg-type] # writes only
    assert picky.stored == set(range(100)) - bad
    assert picky.writes <= 1 + 2 * 7 * len(bad)


def test_halving_lets_an_outage_through() -> None:
    store = open_windows(NOWHERE, read_only=False)
    with pytest.raises(StoreUnreachableError):
        list(store_rows(store, rows_of([key()], [{}]), BEGIN))
    store.close()


@given(drawn=any_rows([key("A"), key("B"), key("C")], 60), frames=st.integers(0, 2**62))
@settings(max_examples=50)
def test_entry_holds_a_commit_as_it_was(drawn: list[dict[str, int]], frames: int) -> None:
    whole = commit(
        frames,
        rows=rows_of([key("C"), key("B"), key("A")], drawn),
        devices=[msgspec.structs.replace(device(), frames=frames)],
        events=[event(1)],
        quarantine=[refusal(1, b"\0\xff")],
        ledger=[],
        status={"updated_ns": BEGIN + 1, "broker": "connected", "lag": 0.5, "ok": True, "x": None},
        retracted=(event(2).id,),
    )
    found = decode(encode(whole))
    packed = PackedDevices(whole.devices)
    assert list(packed) == packed[:] == list(whole.devices)
    assert decode(encode(msgspec.structs.replace(whole, devices=packed))).devices == whole.devices
    assert as_set(unpacked(found.rows)) == as_set(unpacked(whole.rows))
    assert unpacked(found.rows).bins is None
    binned = replace(unpacked(whole.rows), bins=objects([bytes(8 * (nth % 3)) for nth in range(len(whole.rows))]))
    again = decode(encode(msgspec.structs.replace(whole, rows=binned)))
    assert unpacked(again.rows).packed.tolist() == binned.packed.tolist()
    assert found.rows.worker == whole.rows.worker
    for name in Commit.__struct_fields__:
        if name != "rows":
            assert getattr(found, name) == getattr(whole, name)
    assert isinstance(found.events[0].data["unlock_ns"], int)


def test_entry_of_a_newer_version_stays_and_is_named(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path}/windows.db", f"sqlite:///{tmp_path}/records.db", tmp_path)
    outbox(place).close()
    connection = sqlite3.connect(tmp_path / "outbox.db")
    connection.execute("INSERT INTO outbox (entry) VALUES (?)", (b"\x63later",))
    connection.commit()
    connection.close()
    sink = outbox(place)
    wait_until(lambda: "version 99" in sink.trouble()[0], "the delivery has failed")
    assert sink.backlog() == 1
    sink.close()


# --- opening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quayflow.db", "outbox.db"])
def test_file_of_a_newer_format_is_refused_by_name(tmp_path: Path, name: str) -> None:
    connection = sqlite3.connect(tmp_path / name)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    records = f"sqlite:///{tmp_path}/quayflow.db" if name == "quayflow.db" else f"sqlite:///{tmp_path}/records.db"
    with pytest.raises(StoreVersionError, match=f"{name} has schema version 99"):
        open_sink(f"sqlite:///{tmp_path}/quayflow.db", records, tmp_path)


def test_place_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nowhere/quayflow.db"
    with pytest.raises(StoreUnreachableError, match=r"nowhere/quayflow\.db: unable to open.*check that the folder"):
        open_sink(url, url, tmp_path)
    with pytest.raises(StoreUnreachableError, match="/proc/nowhere: cannot be made"):
        open_sink(url, f"sqlite:///{tmp_path}/records.db", Path("/proc/nowhere"))
    with pytest.raises(StoreUrlError, match="windows_url"):
        open_sink("mysql://h/b", url, tmp_path)


def test_sink_of_one_file_is_embedded_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sink = open_sink("sqlite:///quayflow.db", f"sqlite:///{tmp_path}/quayflow.db", tmp_path)
    assert isinstance(sink, EmbeddedSink)
    sink.close()


def test_writer_is_not_kept_waiting_by_a_reader(tmp_path: Path) -> None:
    place = embedded(tmp_path)
    sink = open_sink(place.windows, place.records, place.data)
    sink.commit(child.commit_number(1))
    reading = sqlite3.connect(tmp_path / "quayflow.db")
    cursor = reading.execute("SELECT * FROM window_rows")
    cursor.fetchone()
    for n in range(2, 6):
        sink.commit(child.commit_number(n))
    assert len(cursor.fetchall()) == 2 * len(child.SERIES) - 1  # the reader's own moment
    reading.close()
    sink.close()
    assert_content_is_of_commits(place, 5)

"""What a store forgot, made up or left in pieces is put right from the journal; nothing else is touched."""

import json
import random
import shlex
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_frames import T0, frame, topic, values
from made_instance import LONG, Instance
from test_running_again import HOUR, event_time, lift, received, shift
from typer.testing import CliRunner

from analytics.findings import PERIOD
from devices.times import NS, format_rfc3339, parse_rfc3339
from engines.influx import Influx
from engines.postgres import Postgres
from ingest.recomputing import REBUILT
from quayflow import rebuilding
from quayflow.main import app
from quayflow.rebuilding import Rebuild
from store.admission import admission_of
from store.data_folder import DataFolder
from store.journal import DUPLICATE, Frame
from store.line_protocol import measurement
from store.open import open_registry
from store.registry_entries import Policy, RegisteredDevice, Site

NOTHING_CHANGED = {
    "rows_missing": 0,
    "rows_differing": 0,
    "rows_superfluous": 0,
    "rows_refused": 0,
    "events_added": 0,
    "events_changed": 0,
    "events_removed": 0,
    "devices_left_alone": 0,
}


def port(chance: random.Random, *, late: float = 0.1) -> list[Frame]:
    """Four hours of lifts and passages, some of it late by up to two hours, and events that devices report."""
    frames = shift()
    for nth in range(6):
        body = {
            "v": 1,
            "boot": 5,
            "seq": 900 + nth,
            "ts": T0 + nth * 1_800 * NS,
            "type": "fault",
            "data": {"code": nth},
        }
        frames.append(frame(topic("quay-crane", "QC01", "event"), body))
    times = [event_time(each) + (chance.randrange(2 * HOUR) * NS if chance.random() < late else NS) for each in frames]
    return received(frames, times)


def filled(folder: Path, urls: tuple[str, str] | None = None, *, lives: int = 3) -> Instance:
    """An instance that has taken the port's messages through some lives and many commits."""
    chance = random.Random(11)
    instance = Instance(folder, urls=urls)
    frames = port(chance)
    for begin in range(0, len(frames), 25):
        instance.take(frames[begin : begin + 25])
        instance.commit()
        if chance.random() < lives / 10:
            instance.stop()
            instance.start()
    instance.settle(T0 + LONG)
    return instance


def rebuild(instance: Instance, *arguments: str) -> dict[str, Any]:
    env = {"QUAYFLOW_WINDOWS_URL": instance.urls[0], "QUAYFLOW_RECORDS_URL": instance.urls[1]}
    done = CliRunner().invoke(
        app, ["journal", "rebuild", "--data", str(instance.folder), "--json", *arguments], env=env
    )
    assert done.exit_code == 0, done.output
    account: dict[str, Any] = json.loads(done.stdout)
    return account


@contextmanager
def opened(instance: Instance) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(instance.folder / "quayflow.db", isolation_level=None)) as connection:
        yield connection


def rows_in(instance: Instance) -> set[tuple[Any, ...]]:
    with opened(instance) as connection:
        return {row[:-1] for row in connection.execute("SELECT * FROM window_rows WHERE count > 0")}


DAMAGES = {
    "rows forgotten": "DELETE FROM window_rows WHERE window % 7 < 3",
    "everything forgotten": "DELETE FROM window_rows; DELETE FROM events",
    "sums made up": "UPDATE window_rows SET sum = sum + 1 WHERE window % 3 = 0",
    "rows made up": "UPDATE window_rows SET epoch = epoch + 9000, sum = 5 WHERE tier_s = 60",
    "rows doubled": (
        "INSERT INTO window_rows SELECT tier_s, period, series, window, worker, epoch + 9001, count, sum, min, max,"
        " first_ts, first_seq, first, last_ts, last_seq, last, late, bins FROM window_rows WHERE tier_s = 900"
    ),
    "histograms forgotten": "UPDATE window_rows SET bins = NULL",
    "histograms made up": "UPDATE window_rows SET bins = x'0100000000000100' WHERE tier_s = 60",
    "events forgotten": "DELETE FROM events WHERE cursor % 2 = 0",
    "events made up": "UPDATE events SET id = 'x' || id, data = '{}' WHERE type = 'crane_move'",
    "events changed": "UPDATE events SET data = '{}' WHERE cursor % 3 = 0",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_forgot_or_lied_is_as_it_was(damage: str, tmp_path: Path) -> None:
    instance = filled(tmp_path)
    before = instance.hash().hexdigest()
    with opened(instance) as connection:
        connection.executescript(DAMAGES[damage])
    assert instance.hash().hexdigest() != before
    account = rebuild(instance)
    assert instance.hash().hexdigest() == before
    assert sum(account[name] for name in NOTHING_CHANGED) > 0
    assert account["devices_left_alone"] == 0
    again = rebuild(instance)
    assert again | NOTHING_CHANGED == again
    assert again["rows_written"] == again["rows_removed"] == again["rows_in_pieces"] == 0


def test_partials_become_one_row_per_window_and_what_was_late_stays_said(tmp_path: Path) -> None:
    instance = filled(tmp_path)
    before, late = instance.hash(), sum(row[-1] for row in rows_in(instance))
    in_pieces = len(rows_in(instance))
    account = rebuild(instance)
    assert account | NOTHING_CHANGED == account
    assert instance.hash().hexdigest() == before.hexdigest()
    rows = rows_in(instance)
    assert len(rows) == account["rows"] == before.rows < in_pieces
    assert len({row[:4] for row in rows}) == len(rows)
    assert account["rows_in_pieces"] > 0
    assert sum(row[-1] for row in rows) == late > 0
    assert REBUILT in {row[5] for row in rows}


def test_nothing_outside_the_range_is_touched(tmp_path: Path) -> None:
    instance = filled(tmp_path)
    with opened(instance) as connection:
        connection.execute("UPDATE window_rows SET sum = sum + 1")
        connection.execute("DELETE FROM events WHERE type = 'crane_move'")
    spoilt = rows_in(instance)
    start, end = T0 + HOUR * NS, T0 + 2 * HOUR * NS
    account = rebuild(instance, "--from", format_rfc3339(start + 5 * NS), "--to", format_rfc3339(end - 5 * NS))
    assert (account["start"], account["end"]) == (format_rfc3339(start), format_rfc3339(end))

    def outside(rows: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        return {row for row in rows if not start <= row[3] < end}

    assert outside(rows_in(instance)) == outside(spoilt)
    assert rows_in(instance) != spoilt
    with opened(instance) as connection:
        times = [ts for (ts,) in connection.execute("SELECT ts_ns FROM events WHERE type = 'crane_move'")]
    assert len(times) == account["events_added"] > 0
    assert all(start <= ts < end for ts in times)


def test_a_device_that_may_not_speak_any_more_is_left_alone(tmp_path: Path) -> None:
    instance = filled(tmp_path)
    before = instance.hash().hexdigest()
    with closing(open_registry(instance.urls[1], read_only=False)) as registry:
        registry.put(RegisteredDevice(uid="CNNGB-DEMO/quay-crane/QC01", enabled=False), actor="test", now_ns=1)
    account = rebuild(instance)
    assert {name: account[name] for name in NOTHING_CHANGED} == NOTHING_CHANGED | {"devices_left_alone": 1}
    assert instance.hash().hexdigest() == before
    with opened(instance) as connection:
        connection.executescript(DAMAGES["rows forgotten"])
    forgotten = rows_in(instance)
    assert rebuild(instance)["rows_written"] > 0
    assert forgotten < rows_in(instance)


def test_who_found_a_place_keeps_it_and_who_found_none_gets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a site that is full, strangers are the first to speak in the hours that are rebuilt."""
    for name, number in {"max_site_devices": 2, "max_site_series": 3}.items():
        monkeypatch.setenv(f"QUAYFLOW_{name.upper()}", str(number))

    def says(truck: str, seq: int, second: int, **metrics: float) -> Frame:
        at = T0 + second * NS
        return frame(topic("vehicle", truck), values(seq, at, 5, **metrics), recv_ts=at + NS)

    instance = Instance(tmp_path, max_site_devices=2, max_site_series=3)
    first = [says("A", 0, 10, speed_mps=3, odometer_km=7), says("B", 0, 11, speed_mps=3)]
    strangers = [says(truck, 0, 3 * HOUR + nth, speed_mps=5) for nth, truck in enumerate("CDE")]
    full = [says("B", 1, 3 * HOUR + 20, odometer_km=8, speed_mps=4), says("A", 1, 3 * HOUR + 21, odometer_km=9)]
    instance.take([*first, *strangers, *full])
    instance.settle(T0 + LONG)
    before = instance.hash().hexdigest()
    account = rebuild(instance, "--from", "2026-11-23T11:00:00Z")
    assert account["rows"] > 0
    assert {name: account[name] for name in NOTHING_CHANGED} == NOTHING_CHANGED
    assert instance.hash().hexdigest() == before


def test_what_a_device_said_before_it_was_registered_stays_refused(tmp_path: Path) -> None:
    """Also where detectors run again in the hour in which it was."""
    site = Site(site="CNNGB-DEMO", policy=Policy.CLOSED)
    crane = RegisteredDevice(uid="CNNGB-DEMO/quay-crane/QC01")
    instance = Instance(tmp_path, admission=admission_of([site]))
    told = [each._replace(recv_ts=event_time(each) + NS) for each in (*lift("QC01", 100, 0), *lift("QC01", 400, 10))]
    missing = told[-2]
    instance.take(told[:5])
    assert instance.pipeline.directory.devices[1:] == []
    instance.pipeline.admit(admission_of([site, crane]))
    instance.take(each for each in told[5:] if each != missing)
    instance.commit()
    instance.take(received([missing], [T0 + 2 * HOUR * NS]))
    with closing(open_registry(instance.urls[1], read_only=False)) as registry:
        for entry in (site, crane):
            registry.put(entry, actor="test", now_ns=T0)
    instance.settle(T0 + LONG)
    assert instance.pipeline.detection.runs_again == 1
    before = instance.hash().hexdigest()
    with opened(instance) as connection:
        assert connection.execute("SELECT start_ns FROM events WHERE type = 'crane_move'").fetchall() == [
            (T0 + 410 * NS,)
        ]
    account = rebuild(instance)
    assert account["registry_changes"] == 2
    assert {name: account[name] for name in NOTHING_CHANGED} == NOTHING_CHANGED
    assert instance.hash().hexdigest() == before


def test_a_lost_outbox_is_told_of_and_what_was_done_twice_for_it_is_put_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    instance = filled(tmp_path, (f"sqlite:///{tmp_path}/windows.db", f"sqlite:///{tmp_path}/records.db"))
    before = instance.hash().hexdigest()
    assert "no checkpoint" not in caplog.text
    for file in tmp_path.glob("outbox.db*"):
        file.unlink()
    instance.start()
    assert "has no checkpoint of ingest-1, which has written to these stores" in caplog.text
    assert "quayflow journal rebuild --worker ingest-1" in caplog.text
    instance.settle(T0 + LONG)
    assert instance.hash().hexdigest() != before
    rebuild(instance)
    assert instance.hash().hexdigest() == before


def test_ingest_goes_on_after_a_rebuild_as_if_there_had_been_none(tmp_path: Path) -> None:
    chance, frames = random.Random(3), port(random.Random(5), late=0.3)
    never, once = Instance(tmp_path / "never"), Instance(tmp_path / "once")
    for instance in (never, once):
        instance.take(frames[:150])
        instance.commit()
        instance.stop()
        if instance is once:
            rebuild(once)
        instance.start()
        instance.take(frames[150:])
        instance.commit()
        instance.settle(T0 + LONG)
    assert never.hash().hexdigest() == once.hash().hexdigest()
    rebuild(once)
    assert never.hash().hexdigest() == once.hash().hexdigest()
    assert chance.random() > 0


def test_on_servers_as_in_a_file(influx: Influx, postgres: Postgres, tmp_path: Path) -> None:
    there = filled(tmp_path / "there", (influx.create("rebuilding"), postgres.create("rebuilding")))
    here = filled(tmp_path / "here")
    assert there.hash().hexdigest() == here.hash().hexdigest()
    account = rebuild(there)
    assert account | NOTHING_CHANGED == account
    assert account["rows_removed"] > 0
    assert there.hash().hexdigest() == here.hash().hexdigest()
    again = rebuild(there)
    assert again["rows_written"] == again["rows_removed"] == again["rows_in_pieces"] == 0


def test_what_servers_forgot_is_as_it_was(influx: Influx, postgres: Postgres, tmp_path: Path) -> None:
    instance = filled(tmp_path, (influx.create("forgetting"), postgres.create("forgetting")), lives=1)
    before, rows = instance.hash().hexdigest(), instance.hash().rows
    influx.ask(f'DROP MEASUREMENT "{measurement(10)}"', "forgetting")
    influx.ask("DELETE FROM window_1m WHERE device = 'QC01'", "forgetting")
    assert instance.hash().hexdigest() != before
    account = rebuild(instance)
    assert account["rows_missing"] == account["rows_written"] - account["rows_in_pieces"] > 0
    assert (account["rows"], account["rows_refused"], account["rows_differing"]) == (rows, 0, 0)
    assert instance.hash().hexdigest() == before


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[None]:
    """Press Ctrl-C so often while the first of several stretches is put right, between its rows and its events."""
    events_right = Rebuild._put_events_right  # noqa: SLF001 - no public name parts rows from events

    def press(self: Rebuild, *arguments: Any) -> None:
        patch.setattr(Rebuild, "_put_events_right", events_right)
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        events_right(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "ROWS_AT_ONCE", 1)
        patch.setattr(Rebuild, "_put_events_right", press)
        yield


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_says_how_to_go_on_and_what_it_says_is_enough(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    instance = filled(tmp_path)
    before = instance.hash().hexdigest()
    with opened(instance) as connection:
        connection.executescript(DAMAGES["everything forgotten"])
    with interrupted(monkeypatch, times):
        done = CliRunner().invoke(app, ["journal", "rebuild", "--data", str(tmp_path), "--json"])
    assert done.exit_code == 130, done.output
    assert "Ctrl-C again ends at once" in capfd.readouterr().err
    command = done.stderr.splitlines()[-1].partition(": quayflow ")[2]
    if times == 1:
        account = json.loads(done.stdout)
        stopped = parse_rfc3339(account["stopped_at"])
        assert stopped == parse_rfc3339(account["start"]) + PERIOD
        assert command.startswith(f"journal rebuild --from {account['stopped_at']} --data ")
        with opened(instance) as connection:
            rows = connection.execute("SELECT max(window) FROM window_rows WHERE tier_s = 10 AND count > 0")
            assert 0 < rows.fetchone()[0] < stopped
    else:
        assert done.stdout == ""
    rest = CliRunner().invoke(app, shlex.split(command))
    assert rest.exit_code == 0, rest.output
    assert instance.hash().hexdigest() == before


def test_while_ingest_runs_it_is_refused_with_its_process(tmp_path: Path) -> None:
    filled(tmp_path, lives=0)
    with DataFolder.open(tmp_path):
        done = CliRunner().invoke(app, ["journal", "rebuild", "--data", str(tmp_path)])
    assert done.exit_code == 3
    assert "is in use by process" in done.output


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--worker", "another"], "no checkpoint of worker another", 3),
        (["--data", "/nowhere/at/all"], "no journal in /nowhere/at/all", 3),
        (["--from", "yesterday"], "yesterday", 2),
    ],
)
def test_what_cannot_be_rebuilt_is_said(arguments: list[str], words: str, code: int, tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.take([each._replace(recv_ts=T0) for each in lift("QC01", 0, 0)][:1])
    instance.commit()
    instance.stop()
    done = CliRunner().invoke(app, ["journal", "rebuild", "--data", str(tmp_path), *arguments])
    assert done.exit_code == code
    assert words in done.output


def test_a_range_that_the_journal_has_forgotten_is_refused(tmp_path: Path) -> None:
    instance = filled(tmp_path, lives=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quayflow.rebuilding.held_from", lambda _: T0 + HOUR * NS)
        done = CliRunner().invoke(
            app, ["journal", "rebuild", "--data", str(tmp_path), "--from", format_rfc3339(T0 + HOUR * NS)]
        )
        assert done.exit_code == 1
        assert "the journal holds everything only from" in done.output
        account = rebuild(instance)
    assert account["start"] == format_rfc3339(T0 + 2 * HOUR * NS)


def test_a_folder_of_nothing_has_nothing_to_rebuild(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.commit()
    instance.stop()
    account = rebuild(instance)
    assert account | NOTHING_CHANGED == account
    assert account["rows"] == 0
    instance.start()
    instance.take([frame(topic("vehicle", "T1"), values(0, T0, x_m=1), recv_ts=T0)])
    instance.settle(T0 + LONG)
    assert rebuild(instance)["rows"] == 4


def undated(nth: int, at: int, flags: int = 1) -> Frame:
    """A message that is dated by its receipt."""
    body = {"v": 1, "boot": 5, "seq": nth, "m": {"load_t": nth}}
    return frame(topic("quay-crane", "QC01"), body, recv_ts=at, flags=flags)


def test_what_is_dated_by_its_receipt_counts_once_however_late_it_comes_again(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.take([undated(nth, T0 + nth * NS) for nth in range(10)])
    instance.commit()
    # Seventy minutes later the broker delivers them again, between what is new, and one a third time.
    later = T0 + 4_200 * NS
    again = [undated(nth, later + nth * NS, flags=1 | DUPLICATE) for nth in range(10)]
    instance.take([again[0], undated(10, later), *again[1:], undated(11, later), again[3]])
    instance.settle(T0 + LONG)
    before = instance.hash().hexdigest()
    hour = [format_rfc3339(T0 + nth * HOUR * NS) for nth in range(3)]
    for span in ((hour[1], hour[2]), (hour[0], hour[1])):
        account = rebuild(instance, "--from", span[0], "--to", span[1])
        assert account | NOTHING_CHANGED == account
        assert account["rows"] > 0
    assert instance.hash().hexdigest() == before

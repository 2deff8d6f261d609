"""Rows of wide windows that are not written before these are over: whoever reads them is given them all the same."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import T0

import analytics.windows
from analytics.packing import PackedRows
from analytics.rows import TIERS_S, SeriesKey, WindowRows, fold, heard
from analytics.windows import Windows
from devices.columns import Ints
from devices.times import NS
from store.interface import Commit
from store.sinks import EmbeddedSink
from store.windows_sqlite import SqliteWindowStore

KEYS = [SeriesKey("CNNGB-DEMO", "quay-crane", f"QC{nth}", metric) for nth in range(2) for metric in ("load_t", "moves")]
HOUR = 3_600 * NS
Table = dict[tuple[int, int, SeriesKey], tuple[object, ...]]


class Made:
    """A worker's windows and the store that it commits to; beside them, windows that always give every row."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "quayflow.db"
        self.sink = EmbeddedSink(self.path)
        self.store = SqliteWindowStore(self.path, read_only=True)
        self.life = 1
        self.commits = 0
        self.windows, self.whole = Windows("w", 1, KEYS), Windows("w", 1, KEYS)
        self.written: list[WindowRows] = []

    def add(self, samples: list[tuple[int, int]]) -> None:
        """Take samples: (series, seconds after T0)."""
        series, second = np.array(samples, np.int64).reshape(-1, 2).T
        value, zero = 3 * second + series, np.zeros(len(series), np.int64)
        for windows in (self.windows, self.whole):
            windows.add(series, T0 + second * NS, zero, value, np.zeros(len(series), np.bool_))

    def commit(self, over: int | None) -> PackedRows:
        """Commit; ``over``: without the rows of wide windows that are not over by then, s after T0."""
        self.commits += 1
        rows = self.windows.take_packed(self.commits, None if over is None else T0 + over * NS)
        self.sink.commit(
            Commit(
                worker="w",
                offset=self.commits,
                rows=rows,
                devices=[],
                events=[],
                quarantine=[],
                ledger=[],
                state={},
                status={},
            )
        )
        self.written.append(self.whole.take_rows(self.commits))
        return rows

    def restart(self) -> None:
        """Be killed after a commit, and begin again."""
        self.life += 1
        self.sink.close()
        self.sink = EmbeddedSink(self.path)
        self.sink.load("w")
        self.windows, self.whole = Windows("w", self.life, KEYS), Windows("w", self.life, KEYS)

    def read(self, start: int = 0, end: int = 2**62) -> Table:
        """Return what readers see."""
        found: Table = {}
        for tier_s in TIERS_S:
            rows = self.store.read(tier_s, start, end, KEYS)
            found |= table(rows)
            if not start:
                self._holds_sums(rows, tier_s)
        return found

    def _holds_sums(self, rows: WindowRows, tier_s: int) -> None:
        """Assert that what adds up of rows, and where there are samples, is what readers see of the rows."""
        sums = self.store.read_sums(tier_s, 0, 2**62, KEYS)
        made, seen = (
            sorted(zip(*(getattr(each, name).tolist() for name in sums.columns()), strict=True))
            for each in (rows, sums)
        )
        assert seen == made
        windows = range(T0 // HOUR * HOUR, T0 + 4 * HOUR, tier_s * NS)
        assert (self.store.heard(tier_s, windows, KEYS) == heard(rows, len(KEYS), windows)).all()

    def expected(self) -> Table:
        """Return what they have to see."""
        rows: dict[tuple[int, ...], WindowRows] = {}
        for part in self.written:
            for nth in range(len(part)):
                one = part.take(np.array([nth]))
                rows[int(one.tier_s[0]), int(one.window[0]), int(one.series[0]), int(one.epoch[0])] = one
        found: Table = {}
        for tier_s in TIERS_S:
            found |= table(WindowRows.concatenate([one for key, one in rows.items() if key[0] == tier_s]))
        return found

    def close(self) -> None:
        self.sink.close()
        self.store.close()


def table(rows: WindowRows) -> Table:
    folded = fold(rows)
    columns = [getattr(folded, name).tolist() for name in folded.columns()[4:]]
    places = zip(folded.tier_s.tolist(), folded.window.tolist(), folded.series.tolist(), strict=True)
    values = zip(*columns, folded.packed.tolist(), strict=True)
    return {
        (tier, window, folded.keys[series]): value for (tier, window, series), value in zip(places, values, strict=True)
    }


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    with contextlib.closing(Made(tmp_path)) as made:
        yield made


seconds = st.one_of(st.integers(0, 90), st.integers(3_500, 3_700), st.integers(0, 3 * 3_600))
Step = list[tuple[int, int]] | tuple[str, int | None]
steps_of: st.SearchStrategy[list[Step]] = st.lists(
    st.lists(st.tuples(st.integers(0, len(KEYS) - 1), seconds), max_size=6)
    | st.tuples(st.just("commit"), st.none() | seconds)
    | st.just(("restart", None)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps_of, st.integers(1, 3))
def test_readers_see_every_tier_whatever_has_been_written(steps: list[Step], due: int) -> None:
    with (
        pytest.MonkeyPatch.context() as changed,
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Made(Path(folder))) as made,
    ):
        changed.setattr(analytics.windows, "DUE", due)
        for step in steps:
            if isinstance(step, list):
                made.add(step)
                continue
            what, over = step
            made.commit(over)
            if what == "restart":
                made.restart()
            assert made.read() == made.expected()
        made.commit(None)
        assert made.read() == made.expected()


def test_wide_rows_are_written_when_their_windows_are_over(made: Made) -> None:
    made.add([(0, 5)])
    assert made.commit(8).tiers == [10]
    assert len(made.commit(9)) == 0
    assert made.read() == made.expected()
    made.add([(0, 50)])
    assert made.commit(60).tiers == [10, 60]
    assert made.commit(900).tiers == [900]
    assert made.commit(3_600).tiers == [3_600]
    assert made.windows.take_packed(9, T0 + 2 * HOUR).unfolded == (2, {})
    assert made.read() == made.expected()


def test_the_last_commit_leaves_nothing_out(made: Made) -> None:
    made.add([(0, 5), (1, 15)])
    made.commit(20)
    assert made.commit(None).tiers == [60, 900, 3_600]
    with contextlib.closing(sqlite3.connect(made.path)) as connection:
        assert connection.execute("SELECT * FROM unfolded").fetchall() == []


def test_what_a_killed_worker_left_out_is_written_at_the_next_start(made: Made) -> None:
    made.add([(0, 5), (1, 15), (2, 70)])
    made.commit(20)
    made.restart()
    with contextlib.closing(sqlite3.connect(made.path)) as connection:
        assert connection.execute("SELECT * FROM unfolded").fetchall() == []
        tiers = connection.execute("SELECT tier_s, count(*) FROM window_rows GROUP BY 1 ORDER BY 1").fetchall()
    assert tiers == [(10, 3), (60, 3), (900, 3), (3_600, 3)]
    assert made.read() == made.expected()


def test_a_part_of_a_range_is_made_of_its_own_windows_only(made: Made) -> None:
    made.add([(0, second) for second in range(0, 900, 30)])
    made.commit(905)
    made.add([(0, second) for second in range(900, 1_200, 30)])
    made.commit(1_210)
    start, end = T0 + 61 * NS, T0 + 1_150 * NS
    part = {key: row for key, row in made.expected().items() if start <= key[1] < end}
    assert made.read(start, end) == part
    assert made.read(end, start) == {}


def test_only_the_worker_asked_for_is_read(made: Made) -> None:
    made.add([(0, 5)])
    made.commit(8)
    assert len(made.store.read(60, 0, 2**62, KEYS, "w")) == 1
    assert len(made.store.read(60, 0, 2**62, KEYS, "other")) == 0


def test_rows_that_others_follow_from_do_not_expire(made: Made) -> None:
    made.add([(0, 5)])
    made.commit(8)
    assert made.sink.expire({10: T0 + HOUR}) == 0
    assert made.read() == made.expected()
    made.commit(None)
    assert made.sink.expire({10: T0 + HOUR}) == 1


def test_many_windows_that_end_together_are_written_over_several_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics.windows, "DUE", 10)
    count = 100
    keys = [SeriesKey("CNNGB-DEMO", "vehicle", f"T{nth:03}", "x_m") for nth in range(count)]
    windows, series = Windows("w", 1, keys), np.arange(count)
    zero: Ints = np.zeros(count, np.int64)
    windows.add(series, T0 + zero, zero, zero, zero.astype(np.bool_))
    written = []
    for nth in range(1, 40):
        rows = windows.take_packed(nth, T0 + 60 * NS)
        written.append(len(rows.take(60, slice(None))) if 60 in rows.tiers else 0)
    # An eighth of what is due, and no fewer than there are to be written at least.
    assert written[:3] == [12, 11, 10]
    assert sum(written) == count

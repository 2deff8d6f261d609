"""The store hash: equal for equal answers, different for any other."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import seeds
from made_records import commit, event
from made_rows import any_rows, key, rows_of
from typer.testing import CliRunner

from analytics.rows import WindowRows
from ingest.detection import RETRACTED
from quayflow.hashing import HASHED, StoreHash, hash_of
from quayflow.main import app
from store.open import open_records, open_windows
from store.sinks import EmbeddedSink

KEYS = [key("A"), key("B"), key("C")]


def hash_of_rows(*parts: WindowRows) -> str:
    result = StoreHash()
    for part in parts:
        for tier_s in np.unique(part.tier_s):
            result.add_rows(part.take(part.tier_s == tier_s))
    return result.hexdigest()


@settings(max_examples=50)
@given(any_rows(KEYS, 40), seeds)
def test_the_hash_does_not_depend_on_order_epoch_worker_or_lateness(
    drawn: list[dict[str, int]], chance: random.Random
) -> None:
    rows = rows_of(KEYS, drawn)
    order = np.array(chance.sample(range(len(rows)), len(rows)), np.int64)
    other = come_otherwise(rows.take(order), worker="another", late=rows.late[order] + 1)
    assert hash_of_rows(rows) == hash_of_rows(other)


def come_otherwise(rows: WindowRows, *, worker: str, late: Any) -> WindowRows:
    columns = {name: getattr(rows, name) for name in WindowRows.columns()} | {"late": late}
    return WindowRows(rows.keys, worker, *(columns[name] for name in WindowRows.columns()))


@pytest.mark.parametrize("name", [name for name in HASHED if name != "tier_s"])
def test_the_hash_tells_any_other_value(name: str) -> None:
    row = rows_of(KEYS, [{}])
    columns = {each: getattr(row, each) for each in WindowRows.columns()}
    columns[name] = columns[name] + 10_000_000_000
    other = WindowRows(KEYS, row.worker, *(columns[each] for each in WindowRows.columns()))
    assert hash_of_rows(row) != hash_of_rows(other)
    assert hash_of_rows(row) != hash_of_rows(rows_of(KEYS, [{"series": 1}]))
    assert hash_of_rows() != hash_of_rows(row)


def test_rows_that_say_that_nothing_is_left_are_as_if_they_were_not() -> None:
    row, nothing = rows_of(KEYS, [{}]), rows_of(KEYS, [{"series": 1, "count": 0}])
    both = WindowRows.concatenate([row, nothing])
    assert hash_of_rows(both) == hash_of_rows(row)


@given(st.permutations(range(1, 6)))
def test_events_count_by_what_they_say_and_notices_not_at_all(order: list[int]) -> None:
    def of(*events: Any) -> str:
        result = StoreHash()
        result.add_events(events)
        return result.hexdigest()

    events = [msgspec.structs.replace(event(n), cursor=100 + place) for place, n in enumerate(order)]
    notice = event(9, RETRACTED)
    assert of(*events, notice) == of(*(event(n) for n in range(1, 6)))
    assert of(*events[1:]) != of(*events)
    turned = msgspec.structs.replace(events[0], data=dict(reversed(list(events[0].data.items()))))
    assert of(turned) == of(events[0])
    assert of(msgspec.structs.replace(events[0], data={"teu": 2.5})) != of(events[0])


def test_the_hash_of_a_store_is_that_of_what_was_written(tmp_path: Path) -> None:
    drawn = [{"series": n % 3, "window": 1_800_000_000 * 10**9 + n * 10**10, "sum": n} for n in range(200)]
    rows = rows_of(KEYS, drawn)
    path = tmp_path / "quayflow.db"
    sink = EmbeddedSink(path)
    sink.commit(commit(1, rows=rows, events=[event(1), event(2)], status={"waiting_to_run_again": 3}))
    sink.close()
    windows, records = open_windows(f"sqlite:///{path}", read_only=True), open_records(f"sqlite:///{path}")
    found = hash_of(windows, records)
    windows.close()
    records.close()
    expected = StoreHash()
    expected.add_rows(rows)
    expected.add_events([event(2), event(1)])
    assert found.hexdigest() == expected.hexdigest()
    answer = CliRunner().invoke(app, ["verify", "--data", str(tmp_path), "--json"])
    assert answer.exit_code == 0
    said = json.loads(answer.stdout)
    assert said == {
        "store_hash": expected.hexdigest(),
        "rows": 200,
        "events": 2,
        "waiting_to_run_again": 3,
    }


def test_a_folder_without_a_store_is_said_to_be_none(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["verify", "--data", str(tmp_path / "nowhere")])
    assert answer.exit_code == 3
    assert "no store in" in answer.output

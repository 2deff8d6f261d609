"""A day's and a month's throughput over HTTP, beside the plain SQL that adds up the same moves."""

import contextlib
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from analytics.rows import SeriesKey, WindowRows
from analytics.windows import Windows
from bench.payloads import SITE
from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import wait_listening
from devices.columns import Ints
from devices.scalars import Scalar
from devices.times import NS, format_rfc3339
from devices.topics import DeviceKey
from devices.vocabulary import INDEX, DeviceClass, scaled
from quayflow import broker
from quayflow.supervisor import start_tied
from store.interface import Commit, DeviceRecord
from store.open import open_sink

HOUR_NS: Final = 3_600 * NS
DAY_NS: Final = 24 * HOUR_NS
QUARTER_NS: Final = HOUR_NS // 4
MOVES_PER_HOUR: Final = 30
SIGNAL_EVERY_NS: Final = 5 * NS
SLICE_NS: Final = 30 * NS
SIGNALS: Final = ("hoist_height_m", "trolley_position_m", "load_t", "wind_speed_mps")
WIDE_S: Final = 900
DAY_RATIO: Final = 3.5
MONTH_RATIO: Final = 1.5
"""How much longer an answer may take than plain SQL: of a month most is read, of a day the coverage by the minute."""
READY_S: Final = 60.0
WORKER: Final = "bench"
Scalars = Mapping[str, Scalar]
PLAIN_SQL: Final = """
    SELECT series.device, series.metric, "window" / ? AS bucket, SUM("sum")
    FROM window_rows JOIN series ON series.id = window_rows.series
    WHERE tier_s = ? AND "window" >= ? AND "window" < ? AND metric IN ('moves', 'teu')
    GROUP BY series.device, series.metric, bucket
"""


class _Asked(NamedTuple):
    """What is asked for: so much time, in steps, which are read from windows of a width."""

    row: str
    span_ns: int
    step: str
    step_ns: int
    tier_s: int


DAY: Final = _Asked("api_throughput_day", DAY_NS, "30m", HOUR_NS // 2, 900)
MONTH: Final = _Asked("api_throughput_month", 30 * DAY_NS, "1h", HOUR_NS, 3_600)


@group(Row(DAY.row, "ms", "plain_sql", "throughput of a day by crane, over HTTP", goal=DAY_RATIO, less_is_better=True))
def day(scale: Scale) -> Iterator[Round]:
    """Ask for a day of a terminal's quay cranes; each time for another, so that no cache answers."""
    cranes, questions = scale.of(24, 2), scale.of(20, 3)
    # The API's clock is the real one: the days end on quarters of an hour that are over.
    end = time.time_ns() // QUARTER_NS * QUARTER_NS
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as name:
        rows = _fill(Path(name), cranes, end - DAY_NS - questions * QUARTER_NS, end)
        ends = range(end, end - questions * QUARTER_NS, -QUARTER_NS)
        yield from _rounds(Path(name), DAY, ends, {"cranes": float(cranes), "rows": float(rows)})


@group(
    Row(
        MONTH.row,
        "ms",
        "plain_sql",
        "throughput of a month by crane in hours, over HTTP",
        goal=MONTH_RATIO,
        less_is_better=True,
    )
)
def month(scale: Scale) -> Iterator[Round]:
    """Ask for a month of a terminal's quay cranes, by the hour."""
    cranes, questions = scale.of(24, 2), scale.of(20, 3)
    end = time.time_ns() // HOUR_NS * HOUR_NS
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as name:
        rows = _fill(Path(name), cranes, end - DAY_NS, end, copies=31)
        ends = range(end, end - questions * QUARTER_NS, -QUARTER_NS)
        yield from _rounds(Path(name), MONTH, ends, {"cranes": float(cranes), "rows": float(rows)})


def _rounds(folder: Path, asked: _Asked, ends: range, details: Mapping[str, float]) -> Iterator[Round]:
    """Ask the API and plain SQL in turn about ranges that end at ``ends``, ns UTC, and hold them to one sum."""
    with _serving(folder) as page, contextlib.closing(sqlite3.connect(folder / "quayflow.db")) as store:
        while True:
            waits_ms, sql_ms = [], []
            for until in ends:
                # From a whole step on, so that plain SQL has nothing to read from narrower windows.
                start = (until - asked.span_ns) // asked.step_ns * asked.step_ns
                end = until // asked.step_ns * asked.step_ns if asked is MONTH else until
                began = time.perf_counter()
                answer = _ask(page, start, end, asked.step)
                waits_ms.append(1_000 * (time.perf_counter() - began))
                began = time.perf_counter()
                summed = store.execute(PLAIN_SQL, (asked.step_ns, asked.tier_s, start, end)).fetchall()
                sql_ms.append(1_000 * (time.perf_counter() - began))
                moves = sum(moves for _, metric, _, moves in summed if metric == "moves")
                assert sum(each["moves"] for each in answer["groups"]) == moves > 0
            found = {"p95_ms": float(np.percentile(waits_ms, 95)), **details}
            yield {asked.row: Pair(statistics.median(waits_ms), statistics.median(sql_ms), found)}


def _fill(folder: Path, cranes: int, start: int, end: int, copies: int = 0) -> int:
    """Commit what cranes sent from ``start`` to ``end``, ns UTC, an hour at a time; return the number of rows.

    ``copies``: how many days before have the same wide windows; narrow ones are kept for less long.
    """
    url = f"sqlite:///{folder / 'quayflow.db'}"
    names = [DeviceKey(SITE, DeviceClass.QUAY_CRANE, f"QC{nth:02d}") for nth in range(1, cranes + 1)]
    keys = [SeriesKey(*name, metric) for name in names for metric in (*SIGNALS, "moves", "teu")]
    windows = Windows(WORKER, 1, keys)
    now = time.time_ns()
    devices = [_device(name, start - copies * DAY_NS, now, end) for name in names]
    sink = open_sink(url, url, folder)
    dice, total = np.random.default_rng(7), 0
    for number, hour in enumerate(range(start, end, HOUR_NS)):
        _add_hour(windows, keys, dice, hour, min(hour + HOUR_NS, end))
        rows = windows.take_rows(number)
        wide = rows.take(rows.tier_s >= WIDE_S)
        for lot in (rows, *(_days_before(wide, days) for days in range(1, copies + 1))):
            total += len(lot)
            sink.commit(_commit(total, lot, devices, now))
    sink.close()
    return total


def _days_before(rows: WindowRows, days: int) -> WindowRows:
    """Return rows as if all had happened so many days before."""
    times = {name: getattr(rows, name) - days * DAY_NS for name in ("window", "first_ts", "last_ts")}
    return replace(rows, **times)


def _commit(offset: int, rows: WindowRows, devices: Sequence[DeviceRecord], now: int) -> Commit:
    status: Scalars = {"worker": WORKER, "updated_ns": now, "broker": "connected", "journal": "ok", "balanced": True}
    return Commit(
        worker=WORKER,
        offset=offset,
        rows=rows,
        devices=devices,
        events=[],
        quarantine=[],
        ledger=[],
        state={},
        status=status,
    )


def _add_hour(windows: Windows, keys: Sequence[SeriesKey], dice: np.random.Generator, start: int, end: int) -> None:
    """Add signals at a steady pace, and moves at any time, all in the order of their times."""
    parts: list[tuple[Ints, Ints, Ints]] = []
    for series, key in enumerate(keys):
        if key.metric in SIGNALS:
            times = np.arange(start, end, SIGNAL_EVERY_NS, dtype=np.int64)
            values = dice.uniform(0.0, 20.0, len(times))
        else:
            times = dice.integers(start, end, MOVES_PER_HOUR)
            values = np.ones(len(times)) if key.metric == "moves" else dice.choice([1.0, 2.0], len(times))
        metric = np.full(len(times), INDEX[key.metric])
        parts.append((np.full(len(times), series, np.int64), times, scaled(metric, values)))
    series_of, at, value = (np.concatenate([part[column] for part in parts]) for column in range(3))
    order = np.argsort(at, kind="stable")
    # As they come in life. At once, all but the newest would be late, and each window have a second row for them.
    for some in np.split(order, np.searchsorted(at[order], np.arange(start, end, SLICE_NS))):
        never = np.zeros(len(some), np.bool_)
        windows.add(series_of[some], at[some], np.arange(len(some), dtype=np.int64), value[some], never)
        windows.settle()


def _device(key: DeviceKey, first_seen: int, now: int, watermark: int) -> DeviceRecord:
    """Return a crane that speaks."""
    return DeviceRecord(
        uid=key.uid,
        site=key.site,
        device_class=key.device_class,
        device=key.device,
        first_seen_ns=first_seen,
        last_seen_ns=now,
        last_event_ns=watermark,
        watermark_ns=watermark,
        online=True,
        frames=1,
        latest={},
        info={},
    )


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Serve the API as it is run, without a broker, which figures do not need; yields its address."""
    port = broker.free_port()
    environment = {**os.environ, "QUAYFLOW_DATA": str(folder), "QUAYFLOW_BROKER_PORT": str(broker.free_port())}
    environment |= {"QUAYFLOW_PORT": str(port), "QUAYFLOW_LOG_LEVEL": "error"}
    process = start_tied([sys.executable, "-m", "quayflow", "api"], env=environment, cwd=folder)
    try:
        wait_listening(port, READY_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _ask(page: str, start: int, end: int, step: str) -> dict[str, Any]:
    """Return the throughput by crane."""
    asked = {"group_by": "crane", "start": format_rfc3339(start), "end": format_rfc3339(end), "step": step}
    with urllib.request.urlopen(f"{page}/v1/throughput?{urllib.parse.urlencode(asked)}", timeout=READY_S) as answer:  # noqa: S310 - own
        document: dict[str, Any] = json.loads(answer.read())
        return document

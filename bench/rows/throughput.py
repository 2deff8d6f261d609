"""A day's throughput over HTTP, beside the plain SQL that adds up the same moves."""

import contextlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from analytics.rows import SeriesKey
from analytics.windows import Windows
from bench.payloads import SITE
from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import wait_listening
from devices.times import NS, format_rfc3339
from devices.topics import DeviceKey
from devices.vocabulary import INDEX, DeviceClass, scaled
from quayflow import broker
from store.interface import Commit, DeviceRecord
from store.open import open_sink

HOUR_NS: Final = 3_600 * NS
DAY_NS: Final = 24 * HOUR_NS
QUARTER_NS: Final = HOUR_NS // 4
MOVES_PER_HOUR: Final = 30
SIGNAL_EVERY_NS: Final = 5 * NS
SIGNALS: Final = ("hoist_height_m", "trolley_position_m", "load_t", "wind_speed_mps")
READY_S: Final = 60.0
WORKER: Final = "bench"
Scalars = Mapping[str, str | float | bool | None]
PLAIN_SQL: Final = """
    SELECT series.device, series.metric, "window" / 1800000000000 AS bucket, SUM("sum")
    FROM window_rows JOIN series ON series.id = window_rows.series
    WHERE tier_s = 900 AND "window" >= ? AND "window" < ? AND metric IN ('moves', 'teu')
    GROUP BY series.device, series.metric, bucket
"""


@group(Row("api_throughput_day", "ms", "plain_sql", "throughput of a day by crane, over HTTP", less_is_better=True))
def throughput(scale: Scale) -> Iterator[Round]:
    """Ask for a day of a terminal's quay cranes; each time for another, so that no cache answers."""
    cranes, days = scale.of(24, 2), scale.of(20, 3)
    # The API's clock is the real one: the days end on quarters of an hour that are over.
    end = time.time_ns() // QUARTER_NS * QUARTER_NS
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as name:
        folder = Path(name)
        rows = _fill(folder, cranes, end - DAY_NS - days * QUARTER_NS, end)
        with _serving(folder) as page, contextlib.closing(sqlite3.connect(folder / "quayflow.db")) as store:
            while True:
                waits_ms, sql_ms = [], []
                for until in range(end, end - days * QUARTER_NS, -QUARTER_NS):
                    began = time.perf_counter()
                    answer = _ask(page, until - DAY_NS, until)
                    waits_ms.append(1_000 * (time.perf_counter() - began))
                    began = time.perf_counter()
                    summed = store.execute(PLAIN_SQL, (until - DAY_NS, until)).fetchall()
                    sql_ms.append(1_000 * (time.perf_counter() - began))
                    assert sum(each["moves"] for each in answer["groups"]) == sum(
                        moves for _, metric, _, moves in summed if metric == "moves"
                    )
                details = {"p95_ms": float(np.percentile(waits_ms, 95)), "cranes": float(cranes), "rows": float(rows)}
                yield {"api_throughput_day": Pair(statistics.median(waits_ms), statistics.median(sql_ms), details)}


def _fill(folder: Path, cranes: int, start: int, end: int) -> int:
    """Commit what cranes sent from ``start`` to ``end``, ns UTC, an hour at a time; return the number of rows."""
    url = f"sqlite:///{folder / 'quayflow.db'}"
    names = [DeviceKey(SITE, DeviceClass.QUAY_CRANE, f"QC{nth:02d}") for nth in range(1, cranes + 1)]
    keys = [SeriesKey(*name, metric) for name in names for metric in (*SIGNALS, "moves", "teu")]
    windows = Windows(WORKER, 1, keys)
    now = time.time_ns()
    devices = [_device(name, start, now, end) for name in names]
    status: Scalars = {"worker": WORKER, "updated_ns": now, "broker": "connected", "journal": "ok", "balanced": True}
    sink = open_sink(url, url, folder)
    dice, total = np.random.default_rng(7), 0
    for number, hour in enumerate(range(start, end, HOUR_NS)):
        _add_hour(windows, keys, dice, hour, min(hour + HOUR_NS, end))
        rows = windows.take_rows(number)
        total += len(rows)
        commit = Commit(
            worker=WORKER,
            offset=number + 1,
            rows=rows,
            devices=devices,
            events=[],
            quarantine=[],
            ledger=[],
            state={},
            status=status,
        )
        sink.commit(commit)
    sink.close()
    return total


def _add_hour(windows: Windows, keys: Sequence[SeriesKey], dice: np.random.Generator, start: int, end: int) -> None:
    """Add signals at a steady pace, and moves at any time."""
    for series, key in enumerate(keys):
        if key.metric in SIGNALS:
            times = np.arange(start, end, SIGNAL_EVERY_NS, dtype=np.int64)
            values = dice.uniform(0.0, 20.0, len(times))
        else:
            times = np.sort(dice.integers(start, end, MOVES_PER_HOUR))
            values = np.ones(len(times)) if key.metric == "moves" else dice.choice([1.0, 2.0], len(times))
        metric = np.full(len(times), INDEX[key.metric])
        numbers = np.arange(len(times), dtype=np.int64)
        alike = np.full(len(times), series, np.int64)
        windows.add(alike, times, numbers, scaled(metric, values), np.zeros(len(times), np.bool_))


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
    process = subprocess.Popen([sys.executable, "-m", "quayflow", "api"], env=environment, cwd=folder)
    try:
        wait_listening(port, READY_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _ask(page: str, start: int, end: int) -> dict[str, Any]:
    """Return the throughput by crane in half hours."""
    asked = {"group_by": "crane", "start": format_rfc3339(start), "end": format_rfc3339(end), "step": "30m"}
    with urllib.request.urlopen(f"{page}/v1/throughput?{urllib.parse.urlencode(asked)}", timeout=READY_S) as answer:  # noqa: S310 - own
        document: dict[str, Any] = json.loads(answer.read())
        return document

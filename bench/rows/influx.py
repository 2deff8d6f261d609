"""The InfluxDB sink beside a raw loop that posts ready-made line protocol to the same server."""

import http.client
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

import numpy as np

import faults
from analytics.rows import SeriesKey, WindowRows
from bench.payloads import SITE
from bench.registry import Pair, Round, Row, Scale, group
from devices.vocabulary import DeviceClass
from engines.influx import Influx, running_influx
from store.line_protocol import lines
from store.open import open_windows

# Importing the faults puts the folder of the real servers' modules on the path.
assert faults.ROOT.is_dir()
METRICS: Final = ("hoist_height_m", "trolley_position_m", "load_t", "wind_speed_mps")
BATCHES: Final = 10
TIER_S: Final = 10
NS: Final = 1_000_000_000
START_NS: Final = 1_767_225_600 * NS


@group(Row("influx_sink", "rows/s", "raw_post", "window rows into InfluxDB", goal=0.9))
def sink(scale: Scale) -> Iterator[Round]:
    """Write the same rows through the driver, and as bytes made beforehand."""
    devices = scale.of(500, 20)
    keys = [SeriesKey(SITE, DeviceClass.QUAY_CRANE, f"QC{n:04d}", metric) for n in range(devices) for metric in METRICS]
    with running_influx() as influx:
        # The first database of a server is made more slowly than any after it.
        _raw(influx, "warm", ["\n".join(lines(_rows(keys, START_NS))).encode()])
        for nth in count():
            batches = [_rows(keys, START_NS + (nth * BATCHES + batch) * TIER_S * NS) for batch in range(BATCHES)]
            bodies = ["\n".join(lines(rows)).encode() for rows in batches]
            total = sum(map(len, batches))
            # In turn, for the second of the two finds the server busy with what the first has left.
            if nth % 2:
                raw = total / _raw(influx, f"raw{nth}", bodies)
                through_driver = total / _through_driver(influx, f"driver{nth}", batches)
            else:
                through_driver = total / _through_driver(influx, f"driver{nth}", batches)
                raw = total / _raw(influx, f"raw{nth}", bodies)
            yield {"influx_sink": Pair(through_driver, raw, {"bytes_per_row": sum(map(len, bodies)) / total})}


def _rows(keys: list[SeriesKey], window: int) -> WindowRows:
    """Return one row per series of one window."""
    n = len(keys)
    generator = np.random.default_rng(window // NS)
    given = {
        "tier_s": np.full(n, TIER_S),
        "window": np.full(n, window),
        "series": np.arange(n),
        "epoch": np.ones(n, np.int64),
        "count": np.full(n, 20),
    }
    return WindowRows(
        keys, "bench", *(given.get(name, generator.integers(0, 1_000, n)) for name in WindowRows.columns())
    )


def _through_driver(influx: Influx, database: str, batches: list[WindowRows]) -> float:
    """Return the seconds that the driver takes."""
    store = open_windows(influx.create(database), read_only=False)
    try:
        began = time.perf_counter()
        for rows in batches:
            store.write(rows)
        return time.perf_counter() - began
    finally:
        store.close()


def _raw(influx: Influx, database: str, bodies: list[bytes]) -> float:
    """Return the seconds that posting takes, on one connection."""
    influx.create(database)
    path, headers = influx.write_request(database)
    connection = http.client.HTTPConnection(influx.address.removeprefix("http://"), timeout=60)
    try:
        began = time.perf_counter()
        for body in bodies:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 204, said  # noqa: PLR2004 - taken
        return time.perf_counter() - began
    finally:
        connection.close()

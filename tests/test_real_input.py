"""Recorded field data, from the files through a broker, ingest, store and API, against figures computed from the files.

Nothing of the product takes part in computing what is expected: the files are read as text and added up as decimals.
"""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from simulators.broker import Broker
from simulators.replay import ReplayConfig, ReplayResult, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NS = 1_000_000_000
WINDOW_NS = 10 * NS
TRACKS = 24
READERS = ("d1p01M", "d1p02M", "d1p03M", "d1p04M")
READS_EACH = 25
RESOLUTION = {
    "x_m": "0.001",
    "y_m": "0.001",
    "rssi_dbm": "0.01",
    "phase_rad": "0.00001",
    "antenna": "1",
    "frequency_mhz": "0.001",
}

Series = list[tuple[int, Decimal]]
"""(ns UTC, value) in the order of the file."""


@dataclass(frozen=True)
class Figures:
    """A series added up by hand: of all values, or of one window."""

    count: int
    mean: Decimal
    least: Decimal
    greatest: Decimal
    first: tuple[int, Decimal]
    last: tuple[int, Decimal]

    @classmethod
    def of(cls, series: Series) -> "Figures":
        values = [value for _, value in series]
        # Where two points share a time the file's order decides; sorted() and max() keep it.
        ordered = sorted(series, key=lambda point: point[0])
        return cls(
            len(values), sum(values, Decimal(0)) / len(values), min(values), max(values), ordered[0], ordered[-1]
        )


def decimal_of(text: str, metric: str, offset: str = "0") -> Decimal:
    """The value as an instrument of the published resolution shows it."""
    return (Decimal(text) + Decimal(offset)).quantize(Decimal(RESOLUTION[metric]), ROUND_HALF_EVEN)


def nanoseconds(text: str) -> int:
    """``1964-01-12 00:00:04.980000257`` in ns since 1970."""
    whole, _, fraction = text.partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return int(seconds) * NS + int((fraction or "0").ljust(9, "0"))


def rfc3339_ns(text: str) -> int:
    assert text.endswith("Z")
    return nanoseconds(text.removesuffix("Z").replace("T", " "))


def by_window(series: Series) -> dict[int, Series]:
    windows: dict[int, Series] = {}
    for ts, value in series:
        windows.setdefault(ts - ts % WINDOW_NS, []).append((ts, value))
    return windows


@dataclass(frozen=True)
class Running:
    """A running installation without devices."""

    api: str
    broker_port: int

    def get(self, path: str, **parameters: object) -> dict[str, Any]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = httpx.get(f"{self.api}{path}{query}", timeout=20)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def wait_for_frames(self, expected: int) -> None:
        """Wait until so many frames have been committed; more or fewer are found out by who compares."""
        deadline = time.monotonic() + 60
        while self.frames() < expected and time.monotonic() < deadline:
            time.sleep(0.1)

    def frames(self) -> int:
        received: int = self.get("/v1/ledger", limit=1)["total"]["frames"]["received"]
        return received

    def replay(self, **settings: Any) -> ReplayResult:
        config = ReplayConfig(broker=Broker(port=self.broker_port), speed=math.inf, thresholds=("lost==0",), **settings)
        before = self.frames()
        result = asyncio.run(run(config))
        assert result.passed, result
        self.wait_for_frames(before + result.messages)
        return result


@pytest.fixture(scope="module")
def quayflow(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("real-input")
    command = [sys.executable, "-m", "quayflow", "up", "--data", str(folder / "data"), "--port", "0"]
    command += ["--broker-port", "0", "--json", "--no-open"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=log, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            ready = json.loads(line)
            yield Running(ready["api"], ready["broker_port"])
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def telemetry_of(quayflow: Running, device: str, metric: str, expected: int, span: tuple[int, int]) -> dict[str, Any]:
    """The API's answer in windows of 10 s, as soon as it holds as many values as expected."""
    begin, end = (datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for second in span)
    deadline = time.monotonic() + 60
    while True:
        found = quayflow.get(f"/v1/devices/{device}/telemetry", metric=metric, start=begin, end=end, step="10s")
        if found["summary"]["count"] >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def check(found: Mapping[str, Any], expected: Figures) -> None:
    """An answer's summary, or one of its points, holds exactly the figures computed from the file."""
    assert found["count"] == expected.count
    assert abs(Decimal(repr(found["mean"])) - expected.mean) < Decimal("1e-9")
    assert Decimal(repr(found["min"])) == expected.least
    assert Decimal(repr(found["max"])) == expected.greatest


def check_series(quayflow: Running, device: str, metric: str, series: Series) -> None:
    span = min(ts for ts, _ in series) // WINDOW_NS * 10, max(ts for ts, _ in series) // WINDOW_NS * 10 + 10
    answer = telemetry_of(quayflow, device, metric, len(series), span)
    whole = Figures.of(series)
    summary = answer["summary"]
    check(summary, whole)
    for end in ("first", "last"):
        at, value = getattr(whole, end)
        assert rfc3339_ns(summary[end]["time"]) == at, (device, metric, end)
        assert Decimal(repr(summary[end]["value"])) == value, (device, metric, end)
    windows = by_window(series)
    points = {rfc3339_ns(point["time"]): point for point in answer["points"] if point["count"]}
    assert points.keys() == windows.keys()
    for start, inside in windows.items():
        check(points[start], Figures.of(inside))
    assert answer["observations"] == len(series)


def test_real_vans_are_read_back_exactly(quayflow: Running, recorded: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(recorded / "trackers" / "delivery_van_trajectories.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".csv"))[:TRACKS]
        tracks = {name: archive.read(name).decode().splitlines() for name in names}
    folder = tmp_path / "vans"
    folder.mkdir()
    for name, lines in tracks.items():
        (folder / name).write_text("\n".join(lines) + "\n")

    result = quayflow.replay(path=folder)

    points = sum(len(lines) - 1 for lines in tracks.values())
    assert len(tracks) >= 20
    assert result.messages == result.acked == points
    assert result.bad_rows == 0
    for name, lines in tracks.items():
        device = name.removesuffix(".csv")
        account = result.devices[f"CNNGB-DEMO/vehicle/{device}"]
        assert account["acked"] == len(lines) - 1
        assert lines[0].startswith("timestamp,x,y")
        rows = [line.split(",") for line in lines[1:]]
        for column, metric, offset in ((1, "x_m", account["offset_x_m"]), (2, "y_m", account["offset_y_m"])):
            series = [
                (nanoseconds(row[0]) + result.shift_ns, decimal_of(row[column], metric, repr(offset))) for row in rows
            ]
            check_series(quayflow, device, metric, series)
        known = quayflow.get(f"/v1/devices/{device}")
        assert known["frames"] == len(rows)
        latest = known["latest"]["x_m"]
        assert Decimal(repr(latest["value"])) == decimal_of(rows[-1][1], "x_m", repr(account["offset_x_m"]))
        assert rfc3339_ns(latest["time"]) == nanoseconds(rows[-1][0]) + result.shift_ns


def test_real_tag_reads_are_read_back_exactly(quayflow: Running, recorded: Path, tmp_path: Path) -> None:
    begin = (int(time.time()) - 3_000) * NS
    columns = {"antenna": 4, "rssi_dbm": 5, "phase_rad": 6, "frequency_mhz": 7}
    rows: dict[str, list[list[str]]] = {}
    lines = []
    for name in READERS:
        text = (recorded / "rfid" / "r420_reads" / "S1_Dataset" / name).read_text()
        rows[name] = [line.split(",") for line in text.splitlines()[:READS_EACH]]
        for seq, row in enumerate(rows[name]):
            ts = begin + int(Decimal(row[0]) * NS)
            values = {metric: float(row[column]) for metric, column in columns.items()}
            payload = {"v": 1, "boot": 42, "seq": seq, "ts": ts, "m": values}
            lines.append({"topic": f"port/CNNGB-DEMO/rfid-gate/{name}/telemetry", "payload": payload, "ts": ts})
    assert len(lines) == 100
    recording = tmp_path / "reads.jsonl"
    recording.write_text("\n".join(json.dumps(line) for line in lines))

    result = quayflow.replay(path=recording, shift="none")

    assert result.messages == result.acked == 100
    for name, reads in rows.items():
        for metric, column in columns.items():
            series = [(begin + int(Decimal(row[0]) * NS), decimal_of(row[column], metric)) for row in reads]
            check_series(quayflow, name, metric, series)


def test_every_frame_of_the_recordings_is_accounted_for(quayflow: Running) -> None:
    ledger = quayflow.get("/v1/ledger", limit=1000)
    assert ledger["balanced"]
    frames = ledger["total"]["frames"]
    assert frames["received"] == frames["windowed"] + frames["merged_late"] > 100
    assert frames["quarantined"] == frames["shed"] == frames["duplicate"] == 0
    assert not quayflow.get("/v1/quarantine")["items"]

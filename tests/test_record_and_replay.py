"""Traffic taken down and made again: recorded beside a running port, replayed into a fresh installation, read back."""

import asyncio
import json
import math
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from devices.times import NS
from devices.vocabulary import METRICS
from engines.answers import serving
from engines.demo import Demo, running_demo
from engines.mosquitto import running_mosquitto
from engines.ports import free_port
from simulators.broker import Broker
from simulators.readback import ReadBackError
from simulators.replay import ReplayConfig, run
from store.journal import DUPLICATE, RETAINED, read

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DERIVED = frozenset(metric.name for metric in METRICS if metric.derived)
RECORDED_S = 4


def quayflow(*arguments: str | Path, timeout_s: float = 90) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, "-m", "quayflow", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The recording made beside a demo, the demo's data folder, and what the recorder said."""
    folder = tmp_path_factory.mktemp("taken")
    with running_demo(folder, "--seed", "7") as demo:
        out = folder / "recording"
        broker = f"127.0.0.1:{demo.broker_port}"
        code, said, _ = quayflow("record", "--out", out, "--broker", broker, "--for", f"{RECORDED_S}s")
        assert code == 0
    return out, demo.data, said


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Demo]:
    """An installation that nobody has published to."""
    with running_demo(tmp_path, verb="up") as running:
        yield running


def by_topic(folder: Path) -> dict[str, list[bytes]]:
    """What was published on each topic while somebody listened, in order."""
    found: dict[str, list[bytes]] = {}
    for frame in read(folder):
        if not frame.flags & (DUPLICATE | RETAINED):
            found.setdefault(frame.topic, []).append(frame.payload)
    return found


def folded(data: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(device, metric, window) → count, sum, least and greatest of what devices said themselves, in windows of 10 s."""
    query = """SELECT s.device, s.metric, w.window, sum(w.count), sum(w.sum), min(w.min), max(w.max)
               FROM window_rows w JOIN series s ON s.id = w.series WHERE w.tier_s = 10 GROUP BY 1, 2, 3"""
    with closing(sqlite3.connect(f"file:{data}/quayflow.db?mode=ro", uri=True)) as database:
        return {row[:3]: row[3:] for row in database.execute(query) if row[1] not in DERIVED}


def test_a_recording_made_beside_a_port_is_what_its_journal_holds(taken: tuple[Path, Path, dict[str, Any]]) -> None:
    out, data, said = taken
    assert said["messages"] == sum(1 for _ in read(out)) > 100
    recorded, own = by_topic(out), by_topic(data / "journal")
    assert said["topics"] >= len(recorded) > 5
    for topic, payloads in recorded.items():
        # A stretch of what ingest got, without a gap.
        begin = own[topic].index(payloads[0])
        assert payloads == own[topic][begin : begin + len(payloads)]


def test_a_replay_is_stored_whole_and_read_back(
    taken: tuple[Path, Path, dict[str, Any]], fresh: Demo, tmp_path: Path
) -> None:
    report = tmp_path / "r.html"
    code, said, _ = quayflow(
        *("replay", taken[0], "--speed", "max", "--broker", f"127.0.0.1:{fresh.broker_port}", "--verify", fresh.url),
        *("--threshold", "lost==0", "--threshold", "mismatches==0", "--html", report, "--limit-devices", "15"),
    )
    assert code == 0, said
    assert said["messages"] == said["acked"] == said["stored"] > 20
    assert said["read_back"]["series"] > 20
    assert said["read_back"]["mismatches"] == 0
    assert said["watched"] > 0
    assert said["undelivered"] == 0
    assert 0 < said["e2e_ms"]["p50"] <= said["e2e_ms"]["p99"]
    page = report.read_text()
    # All was sent at once: there is nothing to draw, and no empty plot.
    assert page.count("<svg") == 0
    assert "too short for a plot" in page
    assert "http" not in page.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    )
    assert "lost==0" in page
    # What cannot hold is said by the exit status, and what cannot be kept in time by its figure.
    code, said, _ = quayflow(
        *("replay", taken[0], "--speed", "4", "--broker", f"127.0.0.1:{fresh.broker_port}", "--html", report),
        *("--threshold", "lost==0", "--threshold", "e2e_p99<0.001ms"),
    )
    assert (code, [each["ok"] for each in said["thresholds"]]) == (99, [True, False])
    page = report.read_text()
    assert page.count("<svg") == 2
    assert "missed" in page


def test_an_unmoved_replay_of_a_journal_gives_the_same_windows(
    taken: tuple[Path, Path, dict[str, Any]], fresh: Demo
) -> None:
    data = taken[1]
    broker = f"127.0.0.1:{fresh.broker_port}"
    code, said, _ = quayflow("replay", data, "--speed", "max", "--shift", "none", "--broker", broker)
    assert (code, said["lost"]) == (0, 0)
    live = folded(data)
    deadline = time.monotonic() + 20
    while (replayed := folded(fresh.data)) != live and time.monotonic() < deadline:
        time.sleep(0.5)
    assert len(live) > 100
    assert replayed == live


class Forgetful(BaseHTTPRequestHandler):
    """An API over a store that has taken every message but shows no sample of it."""

    taken = 0

    def do_GET(self) -> None:
        if not self.path.startswith("/v1/ledger"):
            self.answer(404, {"status": 404})
            return
        frames = {"windowed": Forgetful.taken, "merged_late": 0, "duplicate": 0, "quarantined": 0, "shed": 0}
        self.answer(200, {"items": [{"uid": "CNNGB-DEMO/vehicle/T-001", "frames": frames}], "next": None})
        Forgetful.taken = 12

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_what_the_store_lacks_is_found_by_reading_back(tmp_path: Path) -> None:
    Forgetful.taken = 0
    lines = [
        {"topic": "port/CNNGB-DEMO/vehicle/T-001/telemetry", "ts": NS * nth, "payload": {"v": 1, "boot": 1, "seq": nth}}
        for nth in range(20)
    ]
    for line in lines:
        line["payload"] |= {"ts": line["ts"], "m": {"x_m": 1.0}}  # type: ignore[operator]
    path = tmp_path / "van.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with running_mosquitto() as broker, serving(Forgetful) as address:
        config = ReplayConfig(
            path,
            Broker(port=broker.port),
            speed=math.inf,
            verify_url=f"http://{address}",
            patience_s=0.5,
            thresholds=("lost==8", "mismatches==1"),
        )
        result = asyncio.run(run(config))
    assert result.passed, result.thresholds
    assert (result.acked, result.stored, result.lost) == (20, 12, 8)
    assert result.read_back is not None
    assert not result.read_back.good
    assert result.read_back.notes == (
        "CNNGB-DEMO/vehicle/T-001 x_m: 20 samples with the sum 20000 were sent, 0 with 0 are there",
    )


def test_an_api_that_is_not_there_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "van.csv"
    path.write_text("timestamp,x,y\n2020-01-01T00:00:00Z,1,2\n")
    with running_mosquitto() as broker, pytest.raises(ReadBackError, match=r"127\.0\.0\.1"):
        asyncio.run(run(ReplayConfig(path, Broker(port=broker.port), verify_url=f"http://127.0.0.1:{free_port()}")))

"""From a device to an eye: how long until a value is on the live stream, at half the maximum rate."""

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.payloads import SITE
from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import expect_ready, receive, running_broker, start
from bench.wire import connect, publish_packet
from devices.topics import DeviceKey, Stream, topic_of
from devices.vocabulary import DeviceClass
from quayflow import broker
from quayflow.supervisor import start_tied

PROBE: Final = DeviceKey(SITE, DeviceClass.VEHICLE, "PROBE")
PERIOD_S: Final = 0.04
READY_S: Final = 30.0


@group(
    Row("latency_half_load", "ms", "stated limit", "publish → live stream at half load, p50", 1, less_is_better=True),
    Row("latency_half_load_p99", "ms", "stated limit", "the same, p99", 1, less_is_better=True),
)
def latency(scale: Scale) -> Iterator[Round]:
    """Publish at half of what ingest takes, and a probe whose value grows; watch it grow on the stream."""
    with running_broker() as port, tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
        most = receive(port, "full_ingest", scale.of(60_000, 5_000), 1)["rate"]
        with _running(port, Path(folder)) as page:
            for boot in count(2):
                seconds = scale.of(10, 2)
                with _load(port, most / 2, seconds, boot):
                    waits_ms = sorted(1_000 * each for each in _watched(port, page, seconds * 0.8, boot))
                details = {"rate": most / 2, "probes": float(len(waits_ms))}
                yield {
                    "latency_half_load": Pair(statistics.median(waits_ms), 30.0, details),
                    "latency_half_load_p99": Pair(waits_ms[int(len(waits_ms) * 0.99)], 150.0),
                }


@contextlib.contextmanager
def _running(port: int, folder: Path) -> Iterator[str]:
    """Run ingest and API as they are run; yields the API's address."""
    page = f"http://127.0.0.1:{broker.free_port()}"
    environment = {**os.environ, "QUAYFLOW_DATA": str(folder), "QUAYFLOW_BROKER_PORT": str(port)}
    environment |= {"QUAYFLOW_PORT": page.rpartition(":")[2], "QUAYFLOW_LOG_LEVEL": "error"}
    command = [sys.executable, "-m", "quayflow"]
    parts = [start_tied([*command, name], env=environment, cwd=folder) for name in ("ingest", "api")]
    try:
        deadline = time.monotonic() + READY_S
        while not _is_ready(page):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {READY_S:.0f} s")
            time.sleep(0.1)
        yield page
    finally:
        for part in parts:
            part.terminate()
        for part in parts:
            part.wait()


def _is_ready(page: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{page}/readyz", timeout=2) as answer:  # noqa: S310 - own
        return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's good
    return False


@contextlib.contextmanager
def _load(port: int, rate: float, seconds: float, boot: int) -> Iterator[None]:
    process = start("bench.pacer", str(port), str(rate), str(seconds), str(boot))
    expect_ready(process, "pacer")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _watched(port: int, page: str, seconds: float, boot: int) -> list[float]:
    """Publish probes and return the seconds until each, or a later one, was on the stream."""
    seen: list[tuple[float, float]] = []
    watching = threading.Event()
    watcher = threading.Thread(target=_watch, args=(page, seen, watching), daemon=True)
    watcher.start()
    assert watching.wait(READY_S)
    dice = random.Random(boot)
    connection = connect(port, f"bench-probe-{boot}")
    sent: list[tuple[float, float]] = []
    began = time.perf_counter()
    for number in count(1):
        value = boot * 100_000.0 + number
        body = {"v": 1, "boot": boot, "seq": number, "ts": time.time_ns(), "m": {"odometer_m": value}}
        packet = publish_packet(topic_of(PROBE, Stream.TELEMETRY), json.dumps(body).encode(), number)
        sent.append((time.perf_counter(), value))
        connection.sendall(packet)
        if time.perf_counter() - began > seconds:
            break
        # Not in step with anything that the product does in steps.
        time.sleep(dice.uniform(0.5, 1.5) * PERIOD_S)
    deadline = time.monotonic() + READY_S
    while not (seen and seen[-1][1] >= sent[-1][1]) and time.monotonic() < deadline:
        time.sleep(0.01)
    connection.close()
    waits, at = [], 0
    for when, value in sent:
        while seen[at][1] < value:
            at += 1
        waits.append(seen[at][0] - when)
    return waits


def _watch(page: str, seen: list[tuple[float, float]], watching: threading.Event) -> None:
    """Follow the stream and note when which value of the probe was there."""
    with urllib.request.urlopen(f"{page}/v1/stream?site={SITE}", timeout=READY_S) as answer:  # noqa: S310 - own
        watching.set()
        with contextlib.suppress(OSError):
            for line in answer:
                value = _probe_in(line)
                if value is not None and (not seen or value > seen[-1][1]):
                    seen.append((time.perf_counter(), value))


def _probe_in(line: bytes) -> float | None:
    if not line.startswith(b"data:") or b'"PROBE"' not in line:
        return None
    document: dict[str, Any] = json.loads(line[5:])
    value = document.get("values", {}).get(PROBE.device, {}).get("odometer_m")
    return None if value is None else float(value)

"""The gateway under its stated load: terminals that report every 5 s, with journal, windows and store behind it."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import TIMEOUT_S, expect_ready, running_broker, start, wait_listening
from faults.resident import now_mb, peak_mb
from quayflow import broker
from quayflow.supervisor import start_tied

CPU_PERCENT: Final = 15.0
RSS_MB: Final = 200.0
MINUTES: Final = 10
LOOK_S: Final = 0.25
"""How often memory is looked at, s."""
TICKS: Final = os.sysconf("SC_CLK_TCK")


@group(
    Row(
        "gateway_5000",
        "% of a core",
        "stated limit",
        "5,000 JT/T 808 terminals at 1 message/5 s: CPU of ingest",
        goal_value=CPU_PERCENT,
        less_is_better=True,
    ),
    Row(
        "gateway_5000_rss",
        "MB",
        "stated limit",
        "5,000 JT/T 808 terminals: peak memory of ingest",
        goal_value=RSS_MB,
        less_is_better=True,
    ),
)
def gateway(scale: Scale) -> Iterator[Round]:
    """Run ingest with a gateway, and terminals in another process; every report must be answered."""
    terminals, seconds = scale.of(5_000, 50), scale.of(30, 6)
    with running_broker() as broker_port:
        while True:
            seen = _under_load(broker_port, terminals, seconds)
            details = {"messages_per_second": seen.sent / seconds, "terminals": float(terminals)}
            yield {
                "gateway_5000": Pair(seen.cpu_percent, CPU_PERCENT, details),
                "gateway_5000_rss": Pair(seen.peak_mb, RSS_MB),
            }


@group(
    Row(
        "gateway_5000_sustained",
        "% of a core",
        "stated limit",
        f"5,000 JT/T 808 terminals for {MINUTES} minutes: CPU of ingest",
        goal_value=CPU_PERCENT,
        less_is_better=True,
    ),
    Row(
        "gateway_5000_sustained_rss",
        "MB",
        "stated limit",
        f"5,000 JT/T 808 terminals for {MINUTES} minutes: peak memory of ingest",
        goal_value=RSS_MB,
        less_is_better=True,
    ),
    long=True,
)
def sustained(scale: Scale) -> Iterator[Round]:
    """Do the same for so long that minutes end and what is kept for an hour adds up; the peak is that of all of it."""
    terminals, minute_s = scale.of(5_000, 50), scale.of(60_000, 600) / 1_000
    with running_broker() as broker_port:
        while True:
            seen = _under_load(broker_port, terminals, MINUTES * minute_s)
            first, last = (
                statistics.median(mb for at, mb in seen.resident if begin <= at / minute_s < begin + 1)
                for begin in (0, MINUTES - 1)
            )
            details = {"first_minute_mb": first, "last_minute_mb": last, "terminals": float(terminals)}
            yield {
                "gateway_5000_sustained": Pair(seen.cpu_percent, CPU_PERCENT),
                "gateway_5000_sustained_rss": Pair(seen.peak_mb, RSS_MB, details),
            }


class _Seen(NamedTuple):
    """What was seen of ingest under load."""

    sent: int
    cpu_percent: float
    """Of one core."""
    peak_mb: float
    resident: list[tuple[float, float]]
    """Seconds since the beginning and what was resident then, MB."""


def _under_load(broker_port: int, terminals: int, seconds: float) -> _Seen:
    """Let terminals report to an ingest that knows nothing yet; RuntimeError where not every report is answered."""
    with _ingesting(broker_port) as (process, port):
        client = start("bench.terminals", str(port), str(terminals), str(seconds))
        try:
            expect_ready(client, "terminals")
            before, began, resident = _cpu_s(process.pid), time.monotonic(), list[tuple[float, float]]()
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
            while client.poll() is None and time.monotonic() - began < seconds + TIMEOUT_S:
                resident.append((time.monotonic() - began, now_mb(process.pid)))
                time.sleep(LOOK_S)
            used, took = _cpu_s(process.pid) - before, time.monotonic() - began
            said, _ = client.communicate(timeout=TIMEOUT_S)
        finally:
            if client.poll() is None:
                client.kill()
                client.wait()
        counts = json.loads(said.splitlines()[-1])
        if counts["replied"] < counts["sent"]:
            raise RuntimeError(f"of {counts['sent']} reports {counts['replied']} were answered")
        return _Seen(counts["sent"], 100 * used / took, peak_mb(process.pid), resident)


@contextlib.contextmanager
def _ingesting(broker_port: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``quayflow ingest`` with a gateway on a free port; yields the process and the port."""
    port = broker.free_port()
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
        environment |= {"QUAYFLOW_JT808_PORT": str(port), "QUAYFLOW_JT808_ANYONE": "true"}
        environment |= {"QUAYFLOW_BROKER_PORT": str(broker_port), "QUAYFLOW_DATA": str(Path(folder) / "data")}
        command = [sys.executable, "-m", "quayflow", "ingest"]
        process = start_tied(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_listening(port)
            yield process, port
        finally:
            process.terminate()
            process.wait(30)


def _cpu_s(pid: int) -> float:
    """Return the time that a process has used, user and system, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS

"""The gateway under its stated load: terminals that report every 5 s, with journal, windows and store behind it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import TIMEOUT_S, expect_ready, running_broker, start, wait_listening
from faults.resident import peak_mb
from quayflow import broker

CPU_PERCENT: Final = 15.0
RSS_MB: Final = 200.0
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
            with _ingesting(broker_port) as (process, port):
                client = start("bench.terminals", str(port), str(terminals), str(seconds))
                try:
                    expect_ready(client, "terminals")
                    before, began = _cpu_s(process.pid), time.monotonic()
                    said, _ = client.communicate("go\n", timeout=TIMEOUT_S)
                    used, took = _cpu_s(process.pid) - before, time.monotonic() - began
                finally:
                    if client.poll() is None:
                        client.kill()
                        client.wait()
                counts = json.loads(said.splitlines()[-1])
                if counts["replied"] < counts["sent"]:
                    raise RuntimeError(f"of {counts['sent']} reports {counts['replied']} were answered")
                rss = peak_mb(process.pid)
            details = {"messages_per_second": counts["sent"] / seconds, "terminals": terminals}
            yield {
                "gateway_5000": Pair(100 * used / took, CPU_PERCENT, details),
                "gateway_5000_rss": Pair(rss, RSS_MB),
            }


@contextlib.contextmanager
def _ingesting(broker_port: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``quayflow ingest`` with a gateway on a free port; yields the process and the port."""
    port = broker.free_port()
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
        environment |= {"QUAYFLOW_JT808_PORT": str(port), "QUAYFLOW_JT808_ANYONE": "true"}
        environment |= {"QUAYFLOW_BROKER_PORT": str(broker_port), "QUAYFLOW_DATA": str(Path(folder) / "data")}
        command = [sys.executable, "-m", "quayflow", "ingest"]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
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

"""The whole installation as a person starts it: ``quayflow demo`` in a child process, on free ports."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from quayflow.supervisor import start_tied

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
STOP_S = 60.0


@dataclass(slots=True)
class Demo:
    """A running demo."""

    url: str
    """Where page and API are, without a slash at the end."""
    broker_port: int
    data: Path
    pids: dict[str, int]
    """Process ids of the children, by name, as of the start."""
    process: subprocess.Popen[str]
    log: Path
    result: dict[str, Any] | None = None
    """What the demo printed at its end."""


@contextmanager
def running_demo(
    folder: Path, *arguments: str, verb: str = "demo", settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Demo]:
    """Start a demo with its data below ``folder`` and stop it as Ctrl-C would, leaving its account in ``result``.

    ``verb`` ``up`` does without a simulated port. ``settings``: environment variables beside those that every demo has.
    """
    log = folder / "demo.log"
    data = folder / "data"
    command = [sys.executable, "-m", "quayflow", verb, "--json", "--no-open", "--port", "0", "--data", str(data)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
    with log.open("w") as errors:
        process = start_tied(
            [*command, *arguments],
            cwd=ROOT,
            env={**environment, "QUAYFLOW_BROKER_PORT": "0", **settings},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Not the test run's own process group: Ctrl-C is for pytest, which then stops the demo in order.
            start_new_session=True,
        )
    lines = _lines_of(process)
    demo: Demo | None = None
    try:
        demo = _ready(process, lines, data, log)
        yield demo
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    rest = [line for line in iter(lambda: lines.get(timeout=STOP_S), None) if line.strip()]
    demo.result = json.loads(rest[-1]) if rest else None


def _lines_of(process: subprocess.Popen[str]) -> "queue.Queue[str | None]":
    """Return the lines of standard output as they come, None at its end; a pipe that is not read would fill up."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read(output: IO[str]) -> None:
        with output:
            for line in output:
                lines.put(line)
        lines.put(None)

    assert process.stdout is not None
    threading.Thread(target=read, args=(process.stdout,), name="demo-output", daemon=True).start()
    return lines


def _ready(process: subprocess.Popen[str], lines: "queue.Queue[str | None]", data: Path, log: Path) -> Demo:
    try:
        line = lines.get(timeout=READY_S)
    except queue.Empty:
        line = None
    if line is None:
        raise RuntimeError(f"the demo did not come up: {log.read_text()}")
    said = json.loads(line)
    return Demo(said["api"], said["broker_port"], data, said["pids"], process, log)

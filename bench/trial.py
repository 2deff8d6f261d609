"""One measurement: a broker of its own, a subscriber and a publisher, each in its own process."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from quayflow import broker
from quayflow.supervisor import start_tied

TIMEOUT_S: Final = 180.0


@contextlib.contextmanager
def running_broker() -> Iterator[int]:
    """Start Mosquitto as the product starts it; yields its port."""
    port = broker.free_port()
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
        command = broker.configure(Path(folder), port)
        process = start_tied(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_listening(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def receive(port: int, subscriber: str, messages: int, boot: int, samples: int = 0, series: int = 0) -> dict[str, Any]:
    """Have ``bench.subscribers.<subscriber>`` receive ``messages`` messages; return its figures.

    ``samples``: 0 for small messages, else packed blocks of so many samples each. ``series``: not 0 for single
    instants of so many series.
    """
    with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
        publisher = start("bench.publisher", str(port), str(messages), str(boot), str(samples), str(series))
        expect_ready(publisher, "publisher")
        receiver = start(f"bench.subscribers.{subscriber}", str(port), str(messages), folder)
        try:
            expect_ready(receiver, subscriber)
            _, _ = publisher.communicate("go\n", timeout=TIMEOUT_S)
            said, _ = receiver.communicate(timeout=TIMEOUT_S)
        finally:
            for process in (publisher, receiver):
                if process.poll() is None:
                    process.kill()
                    process.wait()
    if receiver.returncode:
        raise RuntimeError(f"{subscriber} ended with status {receiver.returncode}: {said}")
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    if figures["messages"] < messages:
        raise RuntimeError(f"{subscriber} received {figures['messages']} of {messages} messages")
    return figures


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a module as a process that is spoken to on its standard input and output, and ends with this one."""
    command = [sys.executable, "-m", module, *arguments]
    return start_tied(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def expect_ready(process: subprocess.Popen[str], name: str) -> None:
    """Wait for the line that says that a process is ready; RuntimeError where another comes."""
    line = process.stdout.readline() if process.stdout else ""
    if line.strip() != "READY":
        raise RuntimeError(f"{name} did not start: {line!r}, status {process.poll()}")


def wait_listening(port: int, timeout_s: float = 10.0) -> None:
    """Wait until somebody listens on a port; RuntimeError when time has run out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port}")

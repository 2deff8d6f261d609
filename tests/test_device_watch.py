"""`quayflow device watch` on a real broker: green for what is accepted, red for what is refused."""

import os
import pty
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines.mosquitto import running_mosquitto
from engines.ports import wait_until
from faults.ingest_process import IngestProcess
from faults.publisher import Outgoing, Publisher

UID = "CNNGB-DEMO/quay-crane/QC09"
GREEN, RED = b"\x1b[32m\xe2\x9c\x94", b"\x1b[31m\xe2\x9c\x98"
"""A tick and a cross as a terminal shows them."""


class Watching:
    """The command on a terminal of its own."""

    def __init__(self, root: Path, data: Path, broker_port: int, seconds: float) -> None:
        self.said = b""
        self._terminal, ours = pty.openpty()
        command = [sys.executable, "-m", "quayflow", "device", "watch", UID, "--for", str(seconds), "--data", str(data)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
        environment |= {"QUAYFLOW_BROKER_PORT": str(broker_port), "TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(command, cwd=root, env=environment, stdout=ours, stderr=ours)
        os.close(ours)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: b"try: " in self.said, "the command to try is there", 30)

    def _read(self) -> None:
        try:
            while found := os.read(self._terminal, 4_096):
                self.said += found
        except OSError:  # the other end is closed
            pass

    def ended(self) -> int:
        """Wait until it ends, and return its exit status."""
        status = self.process.wait(40)
        self._reader.join(10)
        return status

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._terminal)


@contextmanager
def watching(root: Path, data: Path, port: int, seconds: float) -> Iterator[Watching]:
    found = Watching(root, data, port, seconds)
    try:
        yield found
    finally:
        found.close()


def publish(port: int, payload: bytes) -> None:
    with Publisher(port, iter([Outgoing(f"port/{UID}/telemetry", payload, None)]), None) as sender:
        sender.finish()


@pytest.mark.slow
def test_a_tick_turns_green_when_a_message_is_accepted_and_only_then(root: Path, tmp_path: Path) -> None:
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port) as ingest:
        ingest.start()
        with watching(root, ingest.folder, broker.port, 4) as refused:
            publish(broker.port, b'{"v":1,"m":{"load_t":"heavy"}}')
            assert refused.ended() == 1
        assert GREEN not in refused.said
        assert RED + b" wrong_type" in refused.said
        assert b"nothing accepted within 4 s" in refused.said
        with watching(root, ingest.folder, broker.port, 30) as accepted:
            tried = re.search(rb"try: (mosquitto_pub .*)\r\n", accepted.said)
            assert tried is not None
            command = tried[1].decode()
            assert f"-p {broker.port} -q 1 -t port/{UID}/telemetry" in command
            subprocess.run(shlex.split(command), check=True, timeout=20)
            assert accepted.ended() == 0
        assert GREEN + b" 1 messages" in accepted.said
        assert RED not in accepted.said

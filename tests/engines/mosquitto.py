"""A real Mosquitto for tests: hardened, on a free port, in a temporary folder, with nothing left behind."""

import getpass
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.ports import free_port
from engines.programs import program
from quayflow.supervisor import start_tied

READY_S = 10.0
BASE = {
    "allow_anonymous": "true",
    # The defaults (20 in flight, 1,000 queued) silently drop what a slow subscriber has not acknowledged.
    "max_inflight_messages": "1000",
    "max_queued_messages": "2000000",
    "max_queued_bytes": "1073741824",
    "set_tcp_nodelay": "true",
    "sys_interval": "0",
    "connection_messages": "false",
    "log_dest": "stderr",
    "log_type": "warning",
}
CONNECT = bytes([0x10, 0x0D, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 5, 0, 1]) + b"?"
"""An MQTT 3.1.1 CONNECT with a clean session and the client identifier "?"."""


class Mosquitto:
    """A running broker: ``host``, ``port``, ``folder`` (configuration, log, and persistence where it is on)."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.folder = folder
        self.config = folder / "mosquitto.conf"
        self.log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._options = {**BASE, **options}
        self._write()

    def configure(self, **options: object) -> None:
        """Set lines of mosquitto.conf for the next start."""
        self._options |= as_lines(options)
        self._write()

    @property
    def url(self) -> str:
        """The broker's address as a URL."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start and wait until an MQTT client gets an answer."""
        with self.log.open("ab") as log:
            # Not the test run's own process group: Ctrl-C is for pytest, which then stops the broker in order.
            self._process = start_tied(
                [program("mosquitto"), "-c", str(self.config)], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"mosquitto did not come up: {self.log.read_text()}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the broker answers a CONNECT, be it with a refusal."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(CONNECT)
                return connection.recv(1) == b"\x20"
        except OSError:
            return False

    def stop(self) -> None:
        """Stop in order (SIGTERM): persistence is written."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End without warning (SIGKILL)."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or ``kill``) and start on the same port with the same folder."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(with_signal)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _write(self) -> None:
        settings = [f"listener {self.port} {self.host}"]
        if os.geteuid() == 0:
            # Started as root it would drop to the user mosquitto, who may not write here; it would then persist
            # nothing and say so only in its log.
            settings.append(f"user {getpass.getuser()}")
        if self._options.get("persistence") == "true":
            settings.append(f"persistence_location {self.folder}/")
        settings += [f"{name} {value}" for name, value in self._options.items()]
        self.config.write_text("\n".join(settings) + "\n", encoding="utf-8")


def as_lines(options: dict[str, object]) -> dict[str, str]:
    """Return options as mosquitto.conf spells them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


@contextmanager
def running_mosquitto(**options: object) -> Iterator[Mosquitto]:
    """Run a broker; ``options`` are lines of mosquitto.conf, such as ``persistence=True``."""
    with tempfile.TemporaryDirectory(prefix="mosquitto-") as folder:
        broker = Mosquitto(Path(folder), as_lines(options))
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()

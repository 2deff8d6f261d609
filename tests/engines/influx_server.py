"""What every version of InfluxDB for tests has in common."""

import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path

from engines.ports import free_port
from quayflow.supervisor import start_tied


class InfluxServer(ABC):
    """A server in a temporary folder, reached under ``http://127.0.0.1:{port}``."""

    def __init__(self) -> None:
        """Take a free port and a folder; nothing runs before :meth:`start`."""
        self.folder = Path(tempfile.mkdtemp(prefix="quayflow-influx-"))
        self.port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where ``/api/v2/write`` and ``/query`` are."""
        return f"http://127.0.0.1:{self.port}"

    @abstractmethod
    def url(self, database: str) -> str:
        """Return the window store's URL of a database."""

    @abstractmethod
    def create(self, database: str) -> str:
        """Create an empty database and return its window store's URL."""

    @abstractmethod
    def keep(self, database: str, hours: int) -> None:
        """Let the server refuse, and forget, what is older."""

    @abstractmethod
    def write_request(self, database: str) -> tuple[str, dict[str, str]]:
        """Return path and headers with which lines are posted."""

    @abstractmethod
    def start(self) -> None:
        """Start the server on the folder as it is."""

    def ask(self, statement: str, database: str = "") -> bytes:
        """Run a statement past everything of ours and return the answer's text."""
        form = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "ns"}).encode()
        return self.send("POST", "/query", form, {"Content-Type": "application/x-www-form-urlencoded"})

    def write(self, database: str, line: str) -> None:
        """Write a line past everything of ours."""
        path, headers = self.write_request(database)
        self.send("POST", path, line.encode(), headers)

    def send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        """Send a request past everything of ours and return the answer's text."""
        request = urllib.request.Request(self.address + path, body, headers | self.identity(), method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            said: bytes = answer.read()
            return said

    def identity(self) -> dict[str, str]:
        """Return the headers with which who may do everything asks."""
        return {}

    def stop(self, *, kill: bool = False) -> None:
        """Stop influxd."""
        self._end("influxd", kill=kill)

    def close(self) -> None:
        """Stop everything and leave nothing behind."""
        for name in list(self._processes):
            self._end(name, kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = start_tied(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def _end(self, name: str, *, kill: bool) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        process.wait(30)

    def _answers(self, port: int) -> bool:
        """Tell whether influxd answers; RuntimeError with its words if it has ended."""
        code = self._processes["influxd"].poll()
        if code is not None:
            words = (self.folder / "influxd.out").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"influxd ended with {code}: {words}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
                return bool(answer.status == 204)
        except OSError:
            return False

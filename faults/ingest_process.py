"""An ingest worker as a process of its own, to be killed, stopped and starved."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

from engines.ports import wait_until
from faults import ROOT
from faults.resident import peak_mb
from quayflow.supervisor import start_tied

CONNECT_S: Final = 40.0


class IngestProcess:
    """``quayflow ingest`` on one data folder, through any number of lives."""

    def __init__(self, folder: Path, port: int, *, launcher: str = "quayflow", **settings: object) -> None:
        """``launcher`` is the module run in place of the product's; ``settings`` as in docs/settings.md."""
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        self.peak_rss_mb = 0.0
        """Largest resident memory of any life, MB."""
        self.lives = 0
        self._command = [sys.executable, "-m", launcher, "ingest"]
        values: dict[str, object] = {"broker_port": port, "data": folder, **settings}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
        self._environment |= {f"QUAYFLOW_{name.upper()}": str(value) for name, value in values.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError while it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"ingest does not run: {self.words()}")
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has been started and runs no more."""
        return self._process is not None and self._process.poll() is not None

    def start(self, *, connected: bool = True) -> Self:
        """Start it; with ``connected``, wait until it has subscribed.

        It ends at the latest with the thread that calls this, also where that is killed.
        """
        before = self.said("connected to")
        self.lives += 1
        with self.log.open("ab") as log:
            # Not the caller's process group: Ctrl-C is for the caller, who then stops it in order.
            # So whoever ends the caller does not reach it, and the kernel has to.
            self._process = start_tied(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        if connected:
            wait_until(lambda: self.said("connected to") > before, f"ingest connects: {self.log}", CONNECT_S)
        return self

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL)

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Ask it to end and return its exit status."""
        return self._end(signal.SIGTERM, timeout_s)

    def ask(self, *arguments: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """Run another command of the product with the same settings, and return what it prints as JSON."""
        command = [*self._command[:-1], *arguments, "--json"]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr[-300:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its own end and return its exit status."""
        assert self._process is not None  # noqa: S101 - it has been started
        return self._process.wait(timeout_s)

    def pause(self) -> None:
        """Stop it without ending it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def limit_file_size(self, size: int | None) -> None:
        """Let no file of it grow beyond ``size`` bytes, as if the disk were full; None lifts the limit."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def said(self, words: str) -> int:
        """Return how often its log says something."""
        try:
            return self.log.read_text(errors="replace").count(words)
        except FileNotFoundError:
            return 0

    def words(self, lines: int = 12) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def note_memory(self) -> None:
        """Keep the greatest memory seen so far."""
        self.peak_rss_mb = max(self.peak_rss_mb, peak_mb(self.pid))

    def __enter__(self) -> Self:
        """Return itself; start it with :meth:`start`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _end(self, number: signal.Signals, timeout_s: float = 30.0) -> int:
        assert self._process is not None  # noqa: S101 - it has been started
        if self._process.poll() is None:
            self.note_memory()
            self._process.send_signal(number)
        return self._process.wait(timeout_s)


def seconds_since(began: float) -> float:
    """Return the seconds since a reading of the monotonic clock, rounded for a table."""
    return round(time.monotonic() - began, 2)

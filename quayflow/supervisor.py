"""Keeps a handful of child processes running: starts, watches, restarts, stops them in order.

    supervisor ─┬─ mosquitto          stop: last
                ├─ quayflow ingest    stop: when everything published has been taken
                ├─ quayflow api
                └─ quayflow simulate  stop: first

Each child has its own session, so that Ctrl-C reaches the supervisor alone, and dies with it whatever happens to it.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG: Final = 1
QUICK_DEATH_S: Final = 5.0
MAX_QUICK_DEATHS: Final = 5
STOP_TIMEOUT_S: Final = 20.0
_libc: Final = ctypes.CDLL(None)


class ChildFailedError(Exception):
    """A child cannot be kept running; the message holds the end of what it said."""


@dataclass(slots=True)
class Child:
    """One process that is to keep running."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str] | None = None
    one_shot: bool = False
    """Whether an exit with status 0 is its proper end."""
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None
    _stopping: bool = False
    _quick_deaths: int = 0
    _started: float = field(default=0.0)

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, on_restart: Callable[["Child", int], None]) -> None:
        """Start it and keep it running; ``on_restart(child, exit status)`` is told of every death."""
        await self._spawn()
        self._watch = asyncio.create_task(self._keep(on_restart), name=f"watch {self.name}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def failed(self) -> None:
        """Wait until it cannot be kept running, and raise why; return if it ends as it should."""
        if self._watch is not None:
            await asyncio.shield(self._watch)

    async def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask it to end, and kill it if it does not within ``timeout_s``; idempotent."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                log.warning("%s did not end within %.0f s and was killed", self.name, timeout_s)
                process.kill()
                await process.wait()
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError, ChildFailedError):
                await self._watch

    def last_words(self, lines: int = 8) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def _spawn(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.environment) if self.environment is not None else None,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._started = time.monotonic()

    async def _keep(self, on_restart: Callable[["Child", int], None]) -> None:
        while self._process is not None:
            status = await self._process.wait()
            if self._stopping or (self.one_shot and status == 0):
                return
            lived = time.monotonic() - self._started
            self._quick_deaths = self._quick_deaths + 1 if lived < QUICK_DEATH_S else 0
            if self._quick_deaths >= MAX_QUICK_DEATHS or (
                status in {2, 3} and self._quick_deaths == 1 and not self.restarts
            ):
                raise ChildFailedError(f"{self.name} ended with status {status}:\n{self.last_words()}")
            self.restarts += 1
            on_restart(self, status)
            await asyncio.sleep(min(0.2 * 2**self._quick_deaths, 5.0))
            await self._spawn()


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when whoever started it is gone (Linux; elsewhere nothing happens).

    Called in a child between fork and exec. Gone is a parent also when the thread has ended that started the child.
    """
    with contextlib.suppress(OSError, AttributeError):
        _libc.prctl(PR_SET_PDEATHSIG, number)


_starter: Final = ThreadPoolExecutor(1, thread_name_prefix="starter")
"""The thread that starts what is tied to this process: one that lasts as long as the process does."""


def start_tied(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:  # noqa: ANN401 - those of Popen
    """Start a process that is killed when this one is gone: one that may be stopped, or puts nothing in order.

    It does not matter how long the thread lasts that asks for it. ``options`` are those of :class:`subprocess.Popen`.
    """

    def start() -> subprocess.Popen[Any]:
        return subprocess.Popen(
            command,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - it takes no lock
            **options,
        )

    return _starter.submit(start).result()

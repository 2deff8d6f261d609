"""The ingest process: it stays for months, so it holds nothing that only its start needs.

The libraries of command line and settings take as much memory as the state of two thousand devices. They are loaded by
a child, which ends when it has said what the worker is to be:

    quayflow ingest ──fork──► flags, environment, quayflow.toml ──► IngestConfig ─┐
          │                   (or help, or what is wrong with them)               │ pipe
          └──► loads the worker meanwhile ──► runs it ◄───────────────────────────┘

What the child prints and the status with which it ends, where nothing is to be run, are those of the command.
"""

import asyncio
import os
import pickle
import signal
from typing import TYPE_CHECKING

from quayflow import __version__
from quayflow.failures import INTERRUPTED
from quayflow.running import finish, log_from

if TYPE_CHECKING:
    from ingest.config import IngestConfig


class _Waiting:
    """Who waits for the worker's configuration: the writing end of a pipe, in a child that was made to find it."""

    pipe: int | None = None


def settle_in_child() -> None:
    """Have a child find out what is to be run, and run it in this process; this returns in the child alone."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _Waiting.pipe = writing
        return
    os.close(writing)
    try:
        said, status = _heard_from(child, reading)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    if status or not said:
        raise SystemExit(status)
    config, log_level = pickle.loads(said)  # noqa: S301 - from a process of our own
    log_from(log_level)
    finish(_run(config))


async def ingest(config: "IngestConfig", log_level: str) -> None:
    """Run an ingest worker until SIGTERM or SIGINT, or hand this to the process that waits for it."""
    if _Waiting.pipe is None:
        await _run(config)
        return
    with os.fdopen(_Waiting.pipe, "wb") as pipe:
        pickle.dump((config, log_level), pipe)


async def _run(config: "IngestConfig") -> None:
    from ingest.worker import Worker  # noqa: PLC0415 - not before there is a child that reads the settings beside it

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Worker(config, __version__).run(stop)


def _heard_from(child: int, pipe: int) -> tuple[bytes, int]:
    """Return what a child says, and its exit status once it has ended, as shells show it."""
    import ingest.worker  # noqa: F401, PLC0415 - while the child reads the settings

    with os.fdopen(pipe, "rb") as heard:
        said = heard.read()
    _, ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    return said, status if status >= 0 else 128 - status

"""`quayflow record` on the terminal: what has come while it runs, the account at the end."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from quayflow.failures import FAILED, UNREACHABLE
from simulators.recorder import RecordConfig, Recorded, run

PLAIN_PERIOD_S: Final = 1.0


async def record(config: RecordConfig, *, as_json: bool) -> int:
    """Record, show what comes on standard error, print the account.

    Returns 0, 1 if messages may be missing, 3 if there was no broker.
    """
    with _shown(config) as show:
        done = await run(config, show)
    if as_json:
        typer.echo(json.dumps({"out": str(config.out), **done.as_dict()}))
    else:
        typer.echo(
            f"{done.messages:,} messages on {done.topics:,} topics in {done.seconds:.1f} s: "
            f"{done.bytes / 1e6:,.1f} MB, on the disk {done.disk_bytes / 1e6:,.1f} MB "
            f"in {done.segments} segments of {config.out}"
        )
        if done.connects > 1:
            typer.echo(f"connected {done.connects} times, {done.resent:,} messages came marked as sent before")
    if done.session_losses:
        typer.echo(f"the broker lost the session {done.session_losses} times: messages may be missing", err=True)
        return FAILED
    if not done.connects:
        broker = f"{config.broker.host}:{config.broker.port}"
        typer.echo(
            f"quayflow: broker {broker} was not reached, so nothing was recorded; name it with --broker", err=True
        )
        return UNREACHABLE
    return 0


@contextmanager
def _shown(config: RecordConfig) -> Iterator[Callable[[Recorded], None]]:
    """Yield a callback that shows progress: a bar on a terminal, one line a second elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("recording", total=config.limit or config.duration_s, said="")

        def show(done: Recorded) -> None:
            completed = done.messages if config.limit else done.seconds
            bar.update(task, completed=completed, said=f"{done.messages:,} messages, {done.bytes / 1e6:,.1f} MB")

        yield show


def _plain() -> Callable[[Recorded], None]:
    last = 0.0

    def show(done: Recorded) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_PERIOD_S:
            last = time.monotonic()
            sys.stderr.write(
                f"{done.seconds:6.1f} s  {done.messages:,} messages on {done.topics:,} topics  "
                f"{done.bytes / 1e6:,.1f} MB\n"
            )

    return show

"""`quayflow replay` on the terminal: progress while it runs, the result and its thresholds at the end."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simulators.replay import ReplayConfig, ReplayProgress, ReplayResult, run

MISSED: Final = 99
PLAIN_PERIOD_S: Final = 1.0


async def replay(config: ReplayConfig, *, as_json: bool) -> int:
    """Replay, show the progress on standard error, print the result; return 0, 1 if messages are lost, or 99."""
    with _shown() as show:
        result = await run(config, show)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print(result)
    if not result.passed:
        return MISSED
    return 1 if result.lost and not config.thresholds else 0


@contextmanager
def _shown() -> Iterator[Callable[[ReplayProgress], None]]:
    """Yield a callback that shows progress: a bar on a terminal, one line a second elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("behind {task.fields[behind]:.3f} s"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("acknowledged", total=None, behind=0.0)

        def show(progress: ReplayProgress) -> None:
            bar.update(task, total=progress.messages, completed=progress.acked, behind=progress.behind_s)

        yield show


def _plain() -> Callable[[ReplayProgress], None]:
    last = 0.0

    def show(progress: ReplayProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_PERIOD_S:
            last = time.monotonic()
            share = 100 * progress.acked / max(progress.messages, 1)
            sys.stderr.write(
                f"{share:5.1f} %  sent {progress.sent:,}  acknowledged {progress.acked:,} of {progress.messages:,}  "
                f"behind {progress.behind_s:.3f} s\n"
            )

    return show


def _print(result: ReplayResult) -> None:
    typer.echo(
        f"{result.acked:,} of {result.messages:,} messages acknowledged in {result.elapsed_s:.1f} s "
        f"({result.rate:,.0f}/s), lost {result.lost}, behind p99 {result.behind_ms['p99']:.1f} ms, "
        f"times {result.first_time} to {result.last_time}"
    )
    for note in result.bad_row_notes:
        typer.echo(f"skipped: {note}")
    for threshold in result.thresholds:
        mark = "✔" if threshold["ok"] else "✘"
        typer.echo(f"{mark} {threshold['threshold']}  ({threshold['value']:g})")

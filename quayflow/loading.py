"""`quayflow load` on the terminal: how each stage goes while it runs, what was kept and what limits at the end."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from quayflow.failures import FAILED, UNREACHABLE
from simulators.load import HEADS, LoadConfig, LoadResult, Stage, run
from store.system_words import of_address

MISSED: Final = 99


async def load(config: LoadConfig, html: Path | None, *, as_json: bool) -> int:
    """Run, show how it goes on standard error, print the result; return 0, 1 if nothing was kept, 3, or 99."""
    try:
        with _shown(config) as show:
            result = await run(config, show)
    except OSError as error:
        typer.echo(f"quayflow: broker {config.broker.host}:{config.broker.port}: {of_address(error)}", err=True)
        return UNREACHABLE
    if html is not None:
        await asyncio.to_thread(_write_report, html, config, result)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print(config, result)
    if not all(each["ok"] for each in result.thresholds):
        return MISSED
    kept = result.kept if config.shape.kind == "step" else not result.limit
    return 0 if kept else FAILED


def _write_report(path: Path, config: LoadConfig, result: LoadResult) -> None:
    from simulators.reporting import load_report  # noqa: PLC0415 - matplotlib takes its time

    path.write_text(load_report(config, result))


@contextmanager
def _shown(config: LoadConfig) -> Iterator[Callable[[Stage], None]]:
    """Yield a callback that shows how it goes: a table that grows on a terminal, one line a second elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain
        return
    stages: list[Stage] = []
    bar = Progress(
        TextColumn(config.rate), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s at most")
    )
    task = bar.add_task("", total=config.duration_s)
    with Live(bar, console=console, refresh_per_second=5) as live:

        def show(stage: Stage) -> None:
            if not any(each is stage for each in stages):
                stages.append(stage)
            table = Table(*HEADS)
            for each in stages:
                table.add_row(*each.cells())
            bar.update(task, completed=sum(each.seconds for each in stages))
            live.update(Group(bar, table))

        yield show


def _plain(stage: Stage) -> None:
    words = "  ".join(f"{head} {cell}" for head, cell in zip(HEADS[:-1], stage.cells(), strict=False) if cell)
    sys.stderr.write(f"{stage.seconds:6.1f} s  {words}\n")


def _print(config: LoadConfig, result: LoadResult) -> None:
    for row in (HEADS, *(stage.cells() for stage in result.stages)):
        typer.echo("".join(f"{cell:>21}" if nth == len(HEADS) - 1 else f"{cell:>20}" for nth, cell in enumerate(row)))
    typer.echo(
        f"{result.sent:,} of {result.messages:,} messages sent, {result.acked:,} acknowledged, lost {result.lost:,}, "
        f"{result.bytes_per_message:.0f} bytes each, refused {result.refused:,}, reconnects {result.reconnects}"
    )
    if result.stored is not None:
        typer.echo(f"ingest took {result.stored:,}")
    if config.shape.kind == "step":
        beyond = f"; beyond it, the {result.limit} is the limit" if result.limit else ", without finding a limit"
        typer.echo(f"knee: {result.knee:,.0f} messages/s{beyond}")
    elif result.limit:
        typer.echo(f"the rate was not kept: the {result.limit} is the limit")
    for condition, threshold in zip(config.conditions, result.thresholds, strict=True):
        mark = "✔" if threshold["ok"] else "✘"
        typer.echo(f"{mark} {threshold['threshold']}  (is {condition.shown(threshold['value'])})")

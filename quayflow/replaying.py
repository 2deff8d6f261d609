"""`quayflow replay` on the terminal: progress while it runs, the result and its thresholds at the end."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from quayflow.failures import FAILED, UNREACHABLE
from simulators.replay import ReplayConfig, ReplayProgress, ReplayResult, run

MISSED: Final = 99
PLAIN_PERIOD_S: Final = 1.0
TAILS: Final = ("p50", "p95", "p99", "max")


async def replay(config: ReplayConfig, html: Path | None, *, as_json: bool) -> int:
    """Replay, show the progress on standard error, print the result.

    Return 0, 1 if messages are lost, 3 if there was no broker to send them to, or 99 if a threshold is missed.
    """
    with _shown() as show:
        result = await run(config, show)
    if html is not None:
        await asyncio.to_thread(_write_report, html, config, result)
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print(config, result)
    if not result.sent:
        broker = f"{config.broker.host}:{config.broker.port}"
        typer.echo(f"quayflow: broker {broker} was not reached, so nothing was sent; name it with --broker", err=True)
        return UNREACHABLE
    if not result.passed:
        return MISSED
    wrong = result.read_back is not None and not result.read_back.good
    return FAILED if (result.lost and not config.thresholds) or wrong else 0


def _write_report(path: Path, config: ReplayConfig, result: ReplayResult) -> None:
    from simulators.reporting import replay_report  # noqa: PLC0415 - matplotlib takes its time

    path.write_text(replay_report(config, result))


@contextmanager
def _shown() -> Iterator[Callable[[ReplayProgress], None]]:
    """Yield a callback that shows progress: a bar and a table on a terminal, one line a second elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    bar = Progress(TextColumn("acknowledged"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    task = bar.add_task("", total=None)
    with Live(bar, console=console, refresh_per_second=5) as live:

        def show(progress: ReplayProgress) -> None:
            bar.update(task, total=progress.messages, completed=progress.acked)
            live.update(Group(bar, _table(progress)))

        yield show


def _table(progress: ReplayProgress) -> Table:
    table = Table("sent", "acknowledged", "msg/s", "behind", "connections", "ms", *TAILS)
    table.add_row(
        f"{progress.sent:,}",
        f"{progress.acked:,}",
        f"{progress.rate:,.0f}",
        f"{progress.behind_s:.3f} s",
        str(progress.connected),
        "until acknowledged",
        *(f"{progress.acked_ms[tail]:,.1f}" for tail in TAILS),
    )
    table.add_row("", "", "", "", "", "until delivered", *(f"{progress.e2e_ms[tail]:,.1f}" for tail in TAILS))
    return table


def _plain() -> Callable[[ReplayProgress], None]:
    last = 0.0

    def show(progress: ReplayProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_PERIOD_S:
            last = time.monotonic()
            share = 100 * progress.acked / max(progress.messages, 1)
            sys.stderr.write(
                f"{share:5.1f} %  sent {progress.sent:,}  acknowledged {progress.acked:,} of {progress.messages:,}  "
                f"{progress.rate:,.0f}/s  behind {progress.behind_s:.3f} s  "
                f"acknowledged after p99 {progress.acked_ms['p99']:.1f} ms\n"
            )

    return show


def _print(config: ReplayConfig, result: ReplayResult) -> None:
    typer.echo(
        f"{result.acked:,} of {result.messages:,} messages acknowledged in {result.elapsed_s:.1f} s "
        f"({result.rate:,.0f}/s), lost {result.lost}, behind p99 {result.behind_ms['p99']:.1f} ms, "
        f"times {result.first_time} to {result.last_time}"
    )
    for name, tails in (("acknowledged", result.acked_ms), ("delivered", result.e2e_ms)):
        if any(tails.values()):
            words = ", ".join(f"{tail} {tails[tail]:,.1f}" for tail in TAILS)
            typer.echo(f"{name} after {words} ms" + (f" ({result.watched:,} watched)" if name == "delivered" else ""))
    for name in ("resent", "refused", "reconnects", "oversize", "verbatim"):
        if count := getattr(result, name):
            typer.echo(f"{name}: {count:,}")
    if result.read_back is not None:
        back = result.read_back
        typer.echo(
            f"stored {result.stored:,}, {back.series - back.mismatches:,} of {back.series:,} checksums agree, "
            f"{back.seconds:.1f} s after the last acknowledgement"
            + (f"; {back.unchecked:,} messages have none" if back.unchecked else "")
        )
        for note in back.notes:
            typer.echo(f"differs: {note}")
    for note in result.bad_row_notes:
        typer.echo(f"skipped: {note}")
    for condition, threshold in zip(config.conditions, result.thresholds, strict=True):
        mark = "✔" if threshold["ok"] else "✘"
        typer.echo(f"{mark} {threshold['threshold']}  (is {condition.shown(threshold['value'])})")

"""How far a long command is: a bar on a terminal, one plain line a second elsewhere; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

PLAIN_PERIOD_S: Final = 1.0

Advance = Callable[[int], None]


@contextmanager
def bytes_progress(what: str, total: int) -> Iterator[Advance]:
    """Yield a callback that is told how many bytes of ``total`` are done since it was last called."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(what, total, lambda done: f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def count_progress(what: str, total: int) -> Iterator[Advance]:
    """Yield a callback that is told how many things of ``total`` are done since it was last called."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(what, total, lambda done: f"{done:,} of {total:,}")
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _plain(what: str, total: int, spelt: Callable[[int], str]) -> Advance:
    done, said = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said >= PLAIN_PERIOD_S:
            said = time.monotonic()
            sys.stderr.write(f"{what}: {spelt(done)}, {100 * done / max(total, 1):.0f} %\n")

    return advance

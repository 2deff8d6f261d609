"""How far a long command is: a bar on a terminal, one plain line a second elsewhere; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

PLAIN_PERIOD_S: Final = 1.0

Advance = Callable[[int], None]


@contextmanager
def bytes_progress(what: str, total: int) -> Iterator[Advance]:
    """Yield a callback that is told how many bytes of ``total`` are done since it was last called."""
    if not sys.stderr.isatty():
        yield _plain(what, total, lambda done: f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
        return
    # Loaded where a bar is drawn: a worker that stays for months draws none.
    from rich.progress import DownloadColumn, TransferSpeedColumn  # noqa: PLC0415

    with _bar(what, total, DownloadColumn(), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def count_progress(what: str, total: int) -> Iterator[Advance]:
    """Yield a callback that is told how many things of ``total`` are done since it was last called."""
    if not sys.stderr.isatty():
        yield _plain(what, total, lambda done: f"{done:,} of {total:,}")
        return
    from rich.progress import MofNCompleteColumn  # noqa: PLC0415 - as above

    with _bar(what, total, MofNCompleteColumn()) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int, *columns: "ProgressColumn") -> Iterator[Advance]:
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - as above

    shown = (TextColumn(what), BarColumn(), *columns, TimeRemainingColumn())
    with Progress(*shown, console=Console(stderr=True), transient=True) as bar:
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

"""``python -m bench [--only NAME,…] [--pairs N] [--quick]``: measure, print the table, keep it.

The rows go to ``bench/results/latest.json``; those not measured again stay. Exit status 1 if a group of rows cannot be
measured, 2 for a name that is none, and with ``--strict`` 99 if a goal is missed.
"""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import Final

from rich.console import Console

from bench.registry import Group, Pair, Scale, chosen, every_group
from bench.report import figure, keep, result_of, show

MISSED: Final = 99
TOLD_TO_END: Final = 128 + signal.SIGTERM
"""Exit status of a program that a signal has ended, as shells give it."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="names of rows, separated by commas; NAME* for all that begin so")
    parser.add_argument(
        "--pairs", type=int, default=5, help="rounds, in each of which value and reference are measured"
    )
    parser.add_argument("--quick", action="store_true", help="a fraction of the work: shows that all rows can be taken")
    parser.add_argument("--list", action="store_true", help="print the rows and measure nothing")
    parser.add_argument("--strict", action="store_true", help=f"exit with {MISSED} if a goal is missed")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error(f"--pairs {options.pairs}: must be at least 1")
    try:
        groups = chosen(options.only)
    except ValueError as error:
        parser.error(f"--only {error}")
    if options.list:
        for row in (row for group in every_group() if group in groups or not options.only for row in group.rows):
            print(f"{row.name:<36} {row.title}")
        return 0
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    measured, failed = [], 0
    for group in groups:
        try:
            pairs = take(group, 1 if group.long else options.pairs, Scale(quick=options.quick), console)
        except Exception:  # noqa: BLE001 - one broken group must not take the others' figures along
            traceback.print_exc()
            failed += 1
            continue
        measured += [(row, result_of(row, pairs[row.name])) for row in group.rows]
    rows, results = [row for row, _ in measured], [result for _, result in measured]
    keep(results)
    show(rows, results)
    missed = [result["name"] for result in results if result.get("met") is False]
    return 1 if failed else MISSED if missed and options.strict else 0


def take(group: Group, rounds: int, scale: Scale, console: Console) -> dict[str, list[Pair]]:
    """Measure the rows of a group, round by round; return row name → pairs."""
    pairs: dict[str, list[Pair]] = {row.name: [] for row in group.rows}
    # A generator's clean-up, such as of its broker, comes with its closing.
    with closing(group.rounds(scale)) as generator:  # type: ignore[type-var]
        for nth, measured in enumerate(islice(generator, rounds), 1):
            for row in group.rows:
                pair = measured[row.name]
                pairs[row.name].append(pair)
                beside = f"{row.reference} {figure(round(pair.reference, 3))}"
                console.print(
                    f"{nth}/{rounds}  {row.name:<32} {figure(round(pair.value, 3)):>12} {row.unit:<10} {beside}",
                    markup=False,
                )
    return pairs


if __name__ == "__main__":
    # By default the folders of a run would stay, and a journal of ten minutes is some gigabytes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TOLD_TO_END))
    sys.exit(main(sys.argv[1:]))

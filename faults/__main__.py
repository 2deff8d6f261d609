"""``python -m faults [--only NAME,…] [--quick] [--list]``: play the catalogue and give account.

Exit status 1 if any row fails, 2 for a name that is not in the catalogue.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from faults import ROOT
from faults.registry import Fault, chosen
from faults.rig import Outcome, Rig

RESULTS: Final = ROOT / "faults" / "results" / "latest.json"
COLUMNS: Final = ("acked", "stored", "lost", "duplicates_stored", "quarantined", "recovery_s", "rss_mb")
HEADS: Final = ("acked", "stored", "lost", "twice", "quarant.", "recov. s", "RSS MB")


def main() -> int:
    """Play what was asked for and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="names or numbers, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a slice of each fault")
    parser.add_argument("--list", action="store_true", help="print the catalogue and play nothing")
    arguments = parser.parse_args()
    try:
        faults = chosen(arguments.only)
    except ValueError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        for fault in faults:
            print(f"{fault.number:<5} {fault.name:<22} {fault.injected}")
        return 0
    console = Console()
    rows = []
    for nth, fault in enumerate(faults, 1):
        _say(console, f"{nth}/{len(faults)}  {fault.number} {fault.name}: {fault.injected} …")
        row = play(fault, quick=arguments.quick, alone=bool(arguments.only))
        rows.append(row)
        _say(console, f"      {_plain(row)}")
    _write(rows, quick=arguments.quick)
    if console.is_terminal:
        console.print(_table(rows))
    failed = [row["name"] for row in rows if not row["pass"]]
    print(
        f"{len(rows) - len(failed)} of {len(rows)} as they must be"
        + (f"; FAILED: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def play(fault: Fault, *, quick: bool, alone: bool = False) -> dict[str, Any]:
    """Play one fault and return its row; a fault that cannot be played fails."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quayflow-fault-") as folder:
        try:
            result = fault.play(Rig(Path(folder), quick, alone=alone))
            good = result.passed if fault.shows is None else _found_out(fault, result, Path(folder) / "unbroken")
        except Exception as error:  # noqa: BLE001 - one broken row must not end the run
            traceback.print_exc()
            result, good = _unplayed(error), False
    return {
        "name": fault.name,
        "fault": fault.injected,
        **{column: getattr(result, column) for column in COLUMNS},
        "pass": good,
        "number": fault.number,
        "expected": fault.expected,
        "measured": result.measured,
        "seconds": round(time.monotonic() - began, 1),
    }


def _found_out(fault: Fault, broken: Outcome, folder: Path) -> bool:
    """Tell whether the broken product failed in the way that fits, and passes unbroken."""
    if fault.shows is None or broken.passed or not broken.acked or not fault.shows(broken):
        return False
    if fault.unbroken is None:
        return True
    folder.mkdir()
    return fault.unbroken(Rig(folder, quick=True)).passed


def _unplayed(error: Exception) -> Outcome:
    words = f"{type(error).__name__}: {error}"
    return Outcome(
        acked=0,
        stored=0,
        lost=0,
        duplicates_stored=0,
        quarantined=0,
        recovery_s=0.0,
        rss_mb=0.0,
        passed=False,
        measured=words[:300],
    )


def _write(rows: list[dict[str, Any]], *, quick: bool) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    document = {"machine": machine, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": quick}
    RESULTS.write_text(json.dumps({**document, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _plain(row: dict[str, Any]) -> str:
    figures = "  ".join(f"{head} {row[column]:,}" for head, column in zip(HEADS, COLUMNS, strict=True))
    return f"{'pass' if row['pass'] else 'FAIL'}  {figures}  ({row['measured']})"


def _say(console: Console, text: str) -> None:
    if console.is_terminal:
        console.print(text, style="dim", highlight=False, markup=False)
    else:
        print(text, flush=True)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Faults", show_lines=False)
    table.add_column("")
    table.add_column("fault", no_wrap=True)
    for head in HEADS:
        table.add_column(head, justify="right")
    table.add_column("measured", overflow="fold")
    for row in rows:
        verdict = "[green]pass[/]" if row["pass"] else "[bold red]FAIL[/]"
        figures = (f"{row[column]:,}" for column in COLUMNS)
        table.add_row(verdict, f"{row['number']} {row['name']}", *figures, row["measured"])
    return table


if __name__ == "__main__":
    sys.exit(main())

"""What becomes of measured rounds: medians, the results file, the table."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.registry import Pair, Row

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"


def result_of(row: Row, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the result of a row: medians, and the median of the ratios taken pair by pair."""
    ratio = statistics.median(pair.value / pair.reference for pair in pairs)
    result = {
        "name": row.name,
        "value": rounded(statistics.median(pair.value for pair in pairs)),
        "unit": row.unit,
        "reference": row.reference,
        "reference_value": rounded(statistics.median(pair.reference for pair in pairs)),
        "ratio": round(ratio, 4),
        "pairs": len(pairs),
    }
    for name in pairs[0].details:
        result[name] = rounded(statistics.median(pair.details[name] for pair in pairs))
    met = row.met(statistics.median(pair.value for pair in pairs), ratio)
    if met is not None:
        result |= {"goal": row.goal, "goal_value": row.goal_value, "met": met}
    return result


def rounded(value: float) -> float:
    """Return a figure without digits that say nothing: four significant ones below 1,000, whole numbers above."""
    return round(value) if abs(value) >= 1_000 else float(f"{value:.4g}")  # noqa: PLR2004 - as said


def keep(results: Sequence[dict[str, Any]], path: Path = RESULTS) -> None:
    """Write results and the machine they were taken on; rows of earlier runs that were not measured again stay."""
    names = {each["name"] for each in results}
    earlier = [each for each in _earlier(path) if each["name"] not in names]
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "rows": [*earlier, *results]}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Say what a figure was measured on."""
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def show(rows: Sequence[Row], results: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title="medians of pairs: each value beside its reference, in one run")
    table.add_column("measured", min_width=38)
    for heading in ("value", "unit", "reference", "ratio", "goal", "pairs"):
        table.add_column(heading, justify="left" if heading in {"unit", "reference"} else "right")
    for row, result in zip(rows, results, strict=True):
        table.add_row(
            row.title,
            figure(result["value"]),
            row.unit,
            f"{row.reference} {figure(result['reference_value'])}",
            f"{result['ratio']:.2f}",
            _goal(row, result),
            str(result["pairs"]),
        )
    # Not on a terminal, the table would be cut to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(f"kept in {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def figure(value: float) -> str:
    """Return a figure for people."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,g}"  # noqa: PLR2004 - whole numbers from here on


def _goal(row: Row, result: dict[str, Any]) -> str:
    sign = "≤" if row.less_is_better else "≥"
    asked = [f"{goal:g}×" for goal in (row.goal,) if goal is not None]
    asked += [figure(goal) for goal in (row.goal_value,) if goal is not None]
    return ("" if result.get("met", True) else "missed: ") + ", ".join(f"{sign} {goal}" for goal in asked)


def _earlier(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return rows


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")

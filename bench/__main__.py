"""``make bench``: the table of figures, and ``bench/results/latest.json``."""

import argparse
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

from bench.trial import receive, running_broker

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
SUBSCRIBERS: Final = {
    "only_acks": "only acknowledges",
    "paho_manual": "paho-mqtt, manual acks, no work",
    "aiomqtt_auto": "aiomqtt, automatic acks, no work",
    "full_ingest": "quayflow: journalled, windowed, stored",
}
REFERENCE: Final = "only_acks"
FULL: Final = "full_ingest"
PACKED: Final = {300: 20_000, 1_500: 6_000}
"""Samples per packed block → messages per round."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, keep; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="rounds, in each of which every subject runs once")
    parser.add_argument("--messages", type=int, default=60_000, help="messages a subject receives per round")
    options = parser.parse_args(arguments)
    console = Console(stderr=True, soft_wrap=True)
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in SUBSCRIBERS}
    packed: dict[int, list[tuple[dict[str, Any], dict[str, Any]]]] = {samples: [] for samples in PACKED}
    with running_broker() as port:
        for round_number in range(options.pairs):
            for name, title in SUBSCRIBERS.items():
                figures[name].append(receive(port, name, options.messages, boot=round_number + 1))
                latest = figures[name][-1]
                console.print(
                    f"round {round_number + 1}/{options.pairs}  {title:<42} "
                    f"{latest['rate']:>9,.0f} msg/s  {latest['cpu_us']:>6.2f} µs CPU/msg"
                )
            for samples, messages in PACKED.items():
                reference, full = (
                    receive(port, name, messages, round_number + 1, samples) for name in (REFERENCE, FULL)
                )
                packed[samples].append((full, reference))
                console.print(
                    f"round {round_number + 1}/{options.pairs}  packed blocks of {samples:>5} samples"
                    f"{'':<16} {full['rate'] * samples / 1e6:>9.2f} M samples/s  {full['cpu_us']:>6.1f} µs CPU/msg"
                )
    rows = ingest_rows(figures) + [packed_row(samples, pairs) for samples, pairs in packed.items()]
    keep(rows, options.pairs)
    show(figures, rows)
    return 0


def ingest_rows(figures: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the result rows: medians, and medians of the ratios taken round by round."""
    rows = []
    for name in SUBSCRIBERS:
        rates = [each["rate"] for each in figures[name]]
        references = [each["rate"] for each in figures[REFERENCE]]
        rows.append(
            {
                "name": "ingest_qos1_small" if name == FULL else f"receive_qos1_small_{name}",
                "value": round(statistics.median(rates), 1),
                "unit": "messages/s",
                "cpu_us_per_message": round(statistics.median(each["cpu_us"] for each in figures[name]), 2),
                "rss_mb": round(statistics.median(each["rss_mb"] for each in figures[name]), 1),
                "reference": REFERENCE,
                "reference_value": round(statistics.median(references), 1),
                "ratio": round(statistics.median(a / b for a, b in zip(rates, references, strict=True)), 3),
                "pairs": len(rates),
            }
        )
    return rows


def packed_row(samples: int, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Return the result row of packed blocks: samples per second into stored windows."""
    full = [pair[0]["rate"] * samples for pair in pairs]
    reference = [pair[1]["rate"] * samples for pair in pairs]
    return {
        "name": f"ingest_packed_{samples}",
        "value": round(statistics.median(full)),
        "unit": "samples/s",
        "cpu_us_per_message": round(statistics.median(pair[0]["cpu_us"] for pair in pairs), 2),
        "rss_mb": round(statistics.median(pair[0]["rss_mb"] for pair in pairs), 1),
        "reference": REFERENCE,
        "reference_value": round(statistics.median(reference)),
        "ratio": round(statistics.median(a / b for a, b in zip(full, reference, strict=True)), 3),
        "pairs": len(pairs),
    }


def keep(rows: list[dict[str, Any]], pairs: int) -> None:
    """Write the rows and the machine they were taken on."""
    machine = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "pairs": pairs,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def show(figures: dict[str, list[dict[str, Any]]], rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title=f"QoS 1, small messages, one broker, median of {len(figures[REFERENCE])} rounds")
    table.add_column("subscriber", min_width=40)
    for heading in ("messages/s", "of the limit", "CPU µs/message", "peak MB"):
        table.add_column(heading, justify="right")
    titles = [*SUBSCRIBERS.values(), *(f"quayflow: packed blocks of {samples}, samples" for samples in PACKED)]
    for title, row in zip(titles, rows, strict=True):
        cpu, rss = row["cpu_us_per_message"], row["rss_mb"]
        table.add_row(title, f"{row['value']:,.0f}", f"{row['ratio']:.2f}", f"{cpu:.2f}", f"{rss:.0f}")
    # Not on a terminal, the table would be cut to 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    console.print(f"kept in {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


sys.exit(main(sys.argv[1:]))

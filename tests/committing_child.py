"""A worker that commits as fast as it can until it is killed; run by test_sinks.py in a process of its own.

Commit n holds rows of window n and of window 0 (whose values are n), event n, and n in the device, the ledger, the
state and the offset. So what is there afterwards tells which commits it contains, and whether it contains them whole.
"""

import sys
from pathlib import Path

from made_records import commit, device, event, refusal
from made_rows import BEGIN, key, rows_of

from analytics.rows import WindowRows
from devices.times import NS
from store.interface import Commit, LedgerRow
from store.open import open_sink

SERIES = [key(f"T{n}", "speed_mps", "vehicle") for n in range(50)]
WORKER = "w1"


def rows_of_commit(n: int) -> WindowRows:
    rows = [{"series": index, "window": BEGIN + n * 10 * NS, "sum": n} for index in range(len(SERIES))]
    return rows_of(SERIES, [*rows, *({"series": index, "sum": n} for index in range(len(SERIES)))], WORKER)


def commit_number(n: int) -> Commit:
    return commit(
        n,
        worker=WORKER,
        rows=rows_of_commit(n),
        devices=[device(frames=n)],
        events=[event(n)],
        quarantine=[refusal(n)],
        ledger=[LedgerRow(uid="CNNGB-DEMO/quay-crane/QC01", account="received", reason="", frames=n, samples=n)],
        state={"worker": b"%d" % n, f"device:{n % 7}": b"%d" % n},
        status={"updated_ns": n},
    )


def main(windows_url: str, records_url: str, data_dir: str) -> None:
    """Go on after the last commit and print each that is durable."""
    sink = open_sink(windows_url, records_url, Path(data_dir))
    checkpoint = sink.load(WORKER)
    n = 0 if checkpoint is None else checkpoint.offset
    while True:
        n += 1
        [new] = sink.commit(commit_number(n))
        sys.stdout.write(f"{n} {new.cursor} {sink.backlog()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Start a worker on a journal that nobody has processed: ``python -m bench.recovering FOLDER``; prints figures."""

import asyncio
import json
import sys
import time
from pathlib import Path

from faults.resident import peak_mb
from ingest.worker import IngestConfig, Worker


async def main(folder: Path) -> None:
    """Recover, commit and end; the broker is never asked."""
    store = f"sqlite:///{folder / 'quayflow.db'}"
    worker = Worker(IngestConfig(data=folder, windows_url=store, records_url=store), "bench")
    stop = asyncio.Event()
    stop.set()
    began, cpu = time.perf_counter(), time.process_time()
    await worker.run(stop)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert worker.status()["balanced"]
    print(json.dumps({"frames": worker.received, "seconds": seconds, "cpu_s": cpu, "rss_mb": peak_mb()}))


asyncio.run(main(Path(sys.argv[1])))

"""Start a worker on a journal that nobody has processed: ``python -m bench.recovering FOLDER``; prints figures."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from ingest.worker import IngestConfig, Worker


async def main(folder: Path) -> None:
    """Recover, commit and end; the broker is never asked."""
    store = f"sqlite:///{folder / 'quayflow.db'}"
    worker = Worker(IngestConfig(data=folder, windows_url=store, records_url=store), "bench")
    stop = asyncio.Event()
    stop.set()
    began = time.perf_counter()
    await worker.run(stop)
    seconds = time.perf_counter() - began
    assert worker.status()["balanced"]
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames": worker.received, "seconds": seconds, "rss_mb": rss_mb}))


asyncio.run(main(Path(sys.argv[1])))

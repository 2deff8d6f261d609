"""quayflow's whole ingest: journalled with fdatasync, decoded, windowed, stored, acknowledged."""

import asyncio
import logging
import sys
from pathlib import Path

from bench.subscribers import Meter
from ingest.session import SessionConfig
from ingest.worker import IngestConfig, Worker

POLL_S = 0.01


async def main(port: int, count: int, folder: Path) -> None:
    """Ingest until every message is committed to the store."""
    store = f"sqlite:///{folder / 'quayflow.db'}"
    config = IngestConfig(data=folder, windows_url=store, records_url=store, session=SessionConfig(port=port))
    worker = Worker(config, "bench")
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    while not worker.connected and not running.done():  # noqa: ASYNC110 - polled from outside, as any caller would
        await asyncio.sleep(POLL_S)
    print("READY", flush=True)
    meter = Meter()
    while worker.received < count and not running.done():
        await asyncio.sleep(POLL_S)
        if worker.received and not meter.started:
            meter.start()
    stop.set()
    await running
    meter.report(worker.received)
    if not worker.status()["balanced"]:
        raise SystemExit("the ledger does not balance")


logging.basicConfig(level=logging.WARNING)
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))

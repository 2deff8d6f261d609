"""The least that an honest sink does: split, journal with checksums and fdatasync, acknowledge; nothing is decoded."""

import asyncio
import sys
import time
from pathlib import Path

from bench.subscribers import Meter
from ingest.packets import MessageTable
from ingest.session import Session, SessionConfig
from store.journal import JournalConfig, JournalWriter, lay_out


async def main(port: int, count: int, folder: Path) -> None:
    """Take messages until all have come, with the product's own session and journal."""
    journal, received, meter = JournalWriter(JournalConfig(folder / "journal")), 0, Meter()
    session = await Session.open(SessionConfig(port=port, client_id="bench-journalled", clean_start=True))
    print("READY", flush=True)
    while received < count:
        messages = MessageTable.of(await session.read(asyncio.Event()))
        if not meter.started:
            meter.start()
        topics, payloads, flags = messages.topics, messages.payloads, messages.flags
        records = lay_out(journal.begin(), time.time_ns(), 1, topics, payloads, flags)
        journal.append(records.blob, len(messages))
        session.acknowledge(messages)
        received += len(messages)
    meter.report(received)
    await session.close()
    journal.close()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))

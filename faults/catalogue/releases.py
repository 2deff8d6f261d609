"""Faults between releases: what the previous one left behind, and the way back to it."""

import sqlite3
import struct
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import google_crc32c

from devices.times import NS
from engines.mosquitto import Mosquitto
from engines.ports import wait_until
from faults import previous_release
from faults.publisher import Outgoing, Publisher, reading, truck
from faults.registry import fault
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import folded, until_received, verify

DEVICES: Final = 5
SPAN_NS: Final = 60 * NS
BOOT: Final = 28


@fault(
    "F28",
    "upgrade",
    "a data folder of release 0.1.0, killed with a third of its messages not committed, and all of them sent once more",
    "nothing lost, nothing counted twice, the store of a run without the old release; the way back is open until a "
    "segment is compressed, and what is newer than a release is refused by name",
)
def upgrade(rig: Rig) -> Outcome:
    """Read what the previous release left, then look at the folder with its eyes, then play the previous one."""
    messages = _messages(int(rig.scaled(30_000, 3_000)))
    folder = rig.folder / "data"
    previous_release.write(folder, messages, committed=2 * len(messages) // 3, sealed=len(messages) // 2)
    with rig.broker() as broker:
        found, recovery_s, rss_mb = _upgraded(rig, broker, messages)
        equal = folded(folder) == _alone(rig, broker, messages)
        back = previous_release.refused(folder)
        read_back = previous_release.frames_in_checkpoint(folder)
        _compress(rig, broker)
        closed = previous_release.refused(folder)
        refusals = _refusals(rig, broker)
    sealed = min(path.name for path in (folder / "journal").glob("*.qfj"))
    open_until_then = not back and read_back == 2 * len(messages) and closed == [sealed]
    holds = equal and found.passed and open_until_then and all(refusals.values())
    words = (
        f"{recovery_s} s to read it; stores {'equal' if equal else 'differ'}; way back: {back or 'open'}, "
        f"compressed: {len(closed)} segment refused; {sum(refusals.values())} of {len(refusals)} newer refused by name"
    )
    return replace(found, passed=holds, recovery_s=recovery_s, rss_mb=rss_mb, measured=words)


def _messages(count: int) -> list[Outgoing]:
    """Return the readings of a minute that ended just now."""
    start = time.time_ns() - SPAN_NS
    step = SPAN_NS // count
    return [reading(truck(nth % DEVICES), BOOT, nth // DEVICES, start + nth * step) for nth in range(count)]


def _upgraded(rig: Rig, broker: Mosquitto, messages: list[Outgoing]) -> tuple[Outcome, float, float]:
    """Run this release on the old folder, send everything once more, and compare."""
    with rig.ingest(broker.port, journal_compress=False) as ingest:
        since = now()
        ingest.start()
        recovery_s, late = rig.recovered(ingest, len(messages), since)
        with Publisher(broker.port, iter(messages), 5_000.0) as publisher:
            publisher.finish()
            until_received(ingest.folder, 2 * len(messages))
        ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
    result = outcome(found, recovery_s, ingest.peak_rss_mb, holds=found.repeated == len(messages), late=late)
    return result, recovery_s, round(ingest.peak_rss_mb, 1)


def _alone(rig: Rig, broker: Mosquitto, messages: list[Outgoing]) -> list[tuple[object, ...]]:
    """Return the folded store that this release makes of the same messages by itself."""
    with rig.ingest(broker.port, "alone") as ingest:
        ingest.start()
        with Publisher(broker.port, iter(messages), 5_000.0, name="alone") as publisher:
            publisher.finish()
            until_received(ingest.folder, len(messages))
        ingest.terminate()
        return folded(ingest.folder)


def _compress(rig: Rig, broker: Mosquitto) -> None:
    """Let this release run with its defaults until it has compressed what is sealed."""
    with rig.ingest(broker.port) as ingest:
        ingest.start()
        wait_until(lambda: bool(previous_release.refused(ingest.folder)), "a segment is compressed", 30.0)
        ingest.terminate()


def _refusals(rig: Rig, broker: Mosquitto) -> dict[str, bool]:
    """Put this release in the place of the older one: return for each version that is too new whether it said so."""
    folder = rig.folder / "data"
    database, stamp = folder / "quayflow.db", folder / "format"
    newest = max((folder / "journal").glob("*.qfj"))
    with closing(sqlite3.connect(database)) as connection:
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
    found = {}
    stamp.write_text("2\n")
    found["format"] = _refuses(rig, broker, f"{folder} has format 2")
    stamp.write_text("1\n")
    _set_schema(database, schema + 1)
    found["schema"] = _refuses(rig, broker, f"{database} has schema version {schema + 1}")
    _set_schema(database, schema)
    intact = newest.read_bytes()
    head = intact[:4] + struct.pack("<H", 99) + intact[6:32]
    newest.write_bytes(head + struct.pack("<I", google_crc32c.value(head)) + intact[36:])
    found["journal"] = _refuses(rig, broker, f"{newest}: format version 99")
    newest.write_bytes(intact)
    return found


def _set_schema(database: Path, version: int) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


def _refuses(rig: Rig, broker: Mosquitto, words: str) -> bool:
    """Tell whether ingest ends by itself, with a status that says so, those words and no traceback."""
    with rig.ingest(broker.port) as ingest:
        said, tracebacks = ingest.said(words), ingest.said("Traceback")
        ingest.start(connected=False)
        status = ingest.wait()
        return status != 0 and ingest.said(words) > said and ingest.said("Traceback") == tracebacks

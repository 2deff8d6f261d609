"""Faults of the window store: a real InfluxDB that goes, errs, refuses and forgets; records stay in the folder."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from devices.times import NS
from engines.influx import Influx, running_influx
from engines.ports import wait_until
from faults.http_proxy import FaultProxy, Trouble, fault_proxy
from faults.ingest_process import IngestProcess
from faults.publisher import SITE, Publisher, reading, readings
from faults.registry import fault
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import METRIC, Stored, status, verify
from store.accounts import accounts_of, is_balanced
from store.line_protocol import measurement
from store.open import OUTBOX_FILE, open_records
from store.tables import ENTRIES

DATABASE: Final = "faults"
RATE: Final = 500.0
CONFLICTING: Final = 10
"""Messages of the device whose rows are refused."""
SAMPLES_PER_READING: Final = 2


@contextmanager
def _store() -> Iterator[tuple[Influx, FaultProxy, str]]:
    """Run an InfluxDB behind the fault proxy; yield both and the URL for ingest."""
    with running_influx() as influx, fault_proxy(influx.port) as proxy:
        url = influx.create(DATABASE).replace(f":{influx.port}/", f":{proxy.port}/")
        yield influx, proxy, url


def _reader(influx: Influx) -> Callable[[int], Stored]:
    """Return what reads counts and sums of a tier past everything of the product."""

    def stored_in(tier_s: int) -> Stored:
        query = f"""SELECT sum("count"), sum("sum") FROM "{measurement(tier_s)}"
                    WHERE metric = '{METRIC}' AND site = '{SITE}' GROUP BY device"""  # noqa: S608 - our own names
        said = json.loads(influx.ask(query, DATABASE))
        series = said["results"][0].get("series", [])
        return {each["tags"]["device"]: (int(each["values"][0][1]), int(each["values"][0][2])) for each in series}

    return stored_in


def _waiting(folder: Path) -> int:
    """Return how many commits lie in the outbox."""
    with closing(sqlite3.connect(f"file:{folder / OUTBOX_FILE}?mode=ro", uri=True, timeout=10)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {ENTRIES.name}").fetchone()[0])  # noqa: S608 - our own name


def _judged(
    rig: Rig, ingest: IngestProcess, publisher: Publisher, influx: Influx, since: float, measured: str
) -> Outcome:
    """Wait until the outbox is empty, and compare what InfluxDB holds with the ledger."""
    publisher.stop()
    _, late = rig.recovered(ingest, len(publisher.acked), since)
    deadline = now() + 30
    while status(ingest.folder).get("sink_backlog", 1) and now() < deadline:
        time.sleep(0.2)
    recovery_s = round(now() - since, 2)
    ingest.terminate()
    found = verify(ingest.folder, publisher.acked, _reader(influx))
    return outcome(found, recovery_s, ingest.peak_rss_mb, measured=measured, late=late)


@fault(
    "F10",
    "sink-down",
    "InfluxDB is killed and stays away, under 500 msg/s; ingest is killed meanwhile",
    "messages are acknowledged all the same, the outbox delivers them when the store is back",
)
def sink_down(rig: Rig) -> Outcome:
    """Take the store away."""
    away = rig.scaled(20.0, 3.0)
    with _store() as (influx, _, url), rig.broker() as broker, rig.ingest(broker.port, windows_url=url) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), RATE) as publisher:
            time.sleep(1.5)
            influx.stop(kill=True)
            time.sleep(away / 2)
            ingest.kill()
            ingest.start()
            time.sleep(away / 2)
            acked, waiting = len(publisher.acked), _waiting(ingest.folder)
            mb = sum(path.stat().st_size for path in (ingest.folder / "journal").glob("*.qfj")) / 1e6
            influx.start()
            words = f"{acked} acknowledged by its return, {waiting} commits waiting, {mb:.1f} MB of journal"
            result = _judged(rig, ingest, publisher, influx, now(), words)
    return replace(result, measured=f"{result.measured}; caught up at {result.acked / result.recovery_s:,.0f} msg/s")


@fault(
    "F11",
    "sink-trouble",
    "the store answers 429 with Retry-After, 500, nothing, half an answer, and resets after writing",
    "every write is tried again until it is taken; what was written twice counts once",
)
def sink_trouble(rig: Rig) -> Outcome:
    """Go through every trouble that a busy server gives."""
    kinds = (Trouble.BUSY, Trouble.BROKEN, Trouble.HALF, Trouble.RESET, Trouble.HANG)
    with _store() as (influx, proxy, url), rig.broker() as broker, rig.ingest(broker.port, windows_url=url) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), RATE) as publisher:
            for kind in kinds:
                proxy.trouble = kind
                wait_until(lambda kind=kind: proxy.done[kind] > 0, f"a write meets {kind.value}")  # type: ignore[misc]
                time.sleep(rig.scaled(3.0, 0.5))
                proxy.trouble = Trouble.NONE
                proxy.ended.set()
                time.sleep(1.5)
                proxy.ended.clear()
            words = ", ".join(f"{proxy.done[kind]}× {kind.value}" for kind in kinds)
            result = _judged(rig, ingest, publisher, influx, now(), words)
    return replace(result, passed=result.passed and all(proxy.done[kind] for kind in kinds))


@fault(
    "F12",
    "sink-rejects",
    "the store holds a field of another type, so that it refuses the rows of one device among twenty",
    "the others' rows are stored; the refused ones are in quarantine, their samples too in the ledger, and no others",
)
def sink_rejects(rig: Rig) -> Outcome:
    """Prepare a type conflict in an old shard, into which one device's clock writes."""
    old = time.time_ns() - 40 * 86_400 * NS
    with _store() as (influx, _, url), rig.broker() as broker, rig.ingest(broker.port, windows_url=url) as ingest:
        for tier_s in (10, 60, 900, 3600):
            influx.write(DATABASE, f'{measurement(tier_s)},device=other count="text" {old}')
        ingest.start()
        bad = [reading("conflict", 1, seq, old)._replace(key=None) for seq in range(CONFLICTING)]
        with Publisher(broker.port, iter(bad), None, name="conflict") as conflict:
            conflict.finish()
        with Publisher(broker.port, readings(count=int(rig.scaled(4_000, 1_000))), RATE) as publisher:
            publisher.finish()
            result = _judged(rig, ingest, publisher, influx, now(), "")
        stored = _reader(influx)(10).get("conflict", (0, 0))[0]
        refused, samples = _refused(ingest)
    missing = CONFLICTING * SAMPLES_PER_READING
    told = samples == {"received": missing, "quarantined": missing}
    words = f"{len(refused)} rows refused, {missing} samples sent, {dict(samples)}: {(refused or [''])[0]}"[:200]
    passed = result.passed and bool(refused) and told and not stored
    return replace(result, quarantined=samples["quarantined"], passed=passed, measured=words)


def _refused(ingest: IngestProcess) -> tuple[list[str], Counter[str]]:
    """Return the store's words for each row refused, and the samples of the device by account, where there are any."""
    with closing(sqlite3.connect(f"file:{ingest.folder / 'quayflow.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT detail FROM quarantine WHERE reason = 'rejected_by_store' AND uid LIKE '%/conflict'"
        words = [row[0] for row in connection.execute(query)]
    with closing(open_records(f"sqlite:///{ingest.folder}/quayflow.db")) as records:
        rows = [row for row in records.ledger() if row.uid.endswith("/conflict")]
    samples = accounts_of(rows)["samples"] if is_balanced(rows) else {}
    return words, Counter({account: number for account, number in samples.items() if number})


@fault(
    "F13",
    "sink-lies",
    "the store answers 204 to every write and forgets them all; later it forgets a tier, and half of another",
    "`quayflow journal rebuild` restores all of it, to the last bit",
)
def sink_lies(rig: Rig) -> Outcome:
    """Believe a store that keeps nothing, rebuild it from the journal, have it forget again, and rebuild again."""
    with _store() as (influx, proxy, url), rig.broker() as broker, rig.ingest(broker.port, windows_url=url) as ingest:
        proxy.trouble = Trouble.FORGET
        ingest.start()
        with Publisher(broker.port, readings(), 1_000.0) as publisher:
            time.sleep(rig.scaled(8.0, 2.0))
            publisher.stop()
        _, late = rig.recovered(ingest, len(publisher.acked), now())
        ingest.terminate()
        forgotten = not _reader(influx)(10)
        proxy.trouble = Trouble.NONE
        since = now()
        restored = [_rebuilt(ingest)]
        recovery_s = round(now() - since, 2)
        found = verify(ingest.folder, publisher.acked, _reader(influx))
        whole = ingest.ask("verify", "--data", str(ingest.folder))["store_hash"]
        influx.ask(f'DROP MEASUREMENT "{measurement(10)}"', DATABASE)
        influx.ask("DELETE FROM window_1m WHERE device =~ /[02468]$/", DATABASE)
        damaged = ingest.ask("verify", "--data", str(ingest.folder))["store_hash"]
        restored.append(_rebuilt(ingest))
        again = ingest.ask("verify", "--data", str(ingest.folder))["store_hash"]
    words = f"{'nothing' if forgotten else 'SOMETHING'} was stored before; {' and '.join(restored)}; "
    words += "hash as before" if whole == again else "ANOTHER HASH"
    holds = forgotten and damaged != whole == again
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words, late=late)


def _rebuilt(ingest: IngestProcess) -> str:
    """Rebuild, and say how much of what was missing came back."""
    account = ingest.ask("journal", "rebuild")
    missing, written = account["rows_missing"], account["rows_written"]
    return f"{100 * written / missing if missing else 100:.0f} % of {missing} missing rows restored"

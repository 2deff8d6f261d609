"""Faults of the broker: restarted, killed, without memory of the session, left with a long queue."""

import asyncio
import contextlib
import json
import time
from dataclasses import replace
from typing import Final

import mqtt5

from engines.ports import wait_until
from faults.ingest_process import IngestProcess
from faults.publisher import SITE, Key, Outgoing, Publisher, reading, readings, telemetry_topic, truck
from faults.registry import fault
from faults.rig import Outcome, Rig, now, outcome
from faults.scripted_broker import Wire, publish, scripted_broker, take_results
from faults.verifier import journalled, status, verify

BATCH: Final = 50
SYNC_S: Final = 1.0


@fault(
    "F5",
    "broker-restart",
    "the broker is restarted in order, twice, under 2,000 msg/s",
    "nothing lost, nothing counted twice; the session is found again",
)
def broker_restart(rig: Rig) -> Outcome:
    """Restart a broker that keeps its queue and its sessions."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 2_000.0) as publisher:
            for _ in range(2):
                time.sleep(1.0)
                broker.restart()
            time.sleep(1.5)
            result = rig.verdict(ingest, publisher, since=now())
        said = status(ingest.folder)
    holds = said.get("session_losses") == 0 and said.get("reconnects") == 2  # noqa: PLR2004 - restarts
    return replace(result, passed=result.passed and holds, measured=f"{said.get('reconnects')} reconnects")


@fault(
    "F5k",
    "broker-killed",
    "SIGKILL of the broker while it holds messages that ingest has not read",
    "what the broker loses is counted from the devices' sequences, to the message; nothing else is lost",
)
def broker_killed(rig: Rig) -> Outcome:
    """Let the broker collect messages for a frozen ingest, and kill it before it has saved them."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 1_000.0) as publisher:
            time.sleep(1.0)
            ingest.kill()
            time.sleep(rig.scaled(4.0, 1.0))
            broker.restart(kill=True)
            # What is published before ingest subscribes anew is acknowledged by the broker and kept for nobody.
            ingest.start()
            time.sleep(1.5)
            publisher.stop()
        row = _with_gap(rig, broker.port, ingest, publisher.acked)
        alarmed = status(ingest.folder).get("session_losses") == 1
    return replace(row, passed=row.passed and alarmed)


def _with_gap(rig: Rig, port: int, ingest: IngestProcess, acked: set[Key]) -> Outcome:
    """Close every gap, so that it lies between two messages that arrived, and compare it with what is reported."""
    last: dict[tuple[str, int], int] = {}
    for device, boot, seq in acked:
        last[device, boot] = max(seq, last.get((device, boot), 0))
    time.sleep(1.0)
    closing = [reading(device, boot, seq + 1) for (device, boot), seq in sorted(last.items())]
    with Publisher(port, iter(closing), None, name="closing") as closer:
        closer.finish()
    since = now()
    wait_until(lambda: closer.acked <= journalled(ingest.folder)[0], "the last messages arrive")
    arrived = journalled(ingest.folder)[0]
    recovery_s, _ = rig.recovered(ingest, len(arrived), since)
    ingest.terminate()
    acked = acked | closer.acked
    found = verify(ingest.folder, acked)
    gap = len(acked - arrived)
    words = f"{gap} lost by the broker, {found.lost_before_journal} reported"
    row = outcome(found, recovery_s, ingest.peak_rss_mb, measured=words)
    true = found.lost == gap == found.lost_before_journal and gap > 0
    return replace(row, passed=true and found.balanced and not found.duplicates_stored and not found.notes)


@fault(
    "F6",
    "stale-ack",
    "the broker loses the session while a batch is not durable, and gives its packet ids to other messages",
    "no acknowledgement of the old connection goes out on the new one; the loss of the session is an alarm",
)
def stale_ack(rig: Rig) -> Outcome:
    """Play a broker that begins anew, and check each PUBACK against the journal at the moment it arrives."""
    return asyncio.run(_stale_ack(rig))


async def _stale_ack(rig: Rig) -> Outcome:
    stale: list[int] = []
    acked: set[Key] = set()
    finished = asyncio.Event()
    deliveries = 0
    journal = rig.folder / "data"

    async def script(wire: Wire) -> None:
        nonlocal deliveries
        connect = await wire.connected()
        if connect.client_id.endswith("-results"):
            await take_results(wire)
            return
        await wire.subscribed()
        deliveries += 1
        batch = [reading(truck(nth), 1, deliveries - 1) for nth in range(BATCH)]
        wire.send(b"".join(publish(each.topic, each.payload, nth + 1) for nth, each in enumerate(batch)))
        await wire.drain()
        sent = now()
        if deliveries == 1:
            # Read, but on a disk so slow that it cannot be durable yet.
            await asyncio.sleep(0.5)
            acked.update(each.key for each in batch if each.key)
            wire.reset()
            return
        for _ in batch:
            packet = await wire.packet()
            while not isinstance(packet, mqtt5.PubAckPacket):
                packet = await wire.packet()
            key = batch[packet.packet_id - 1].key
            assert key is not None  # noqa: S101 - every reading has one
            # On this disk nothing can be durable sooner.
            if now() - sent < SYNC_S or key not in journalled(journal)[0]:
                stale.append(packet.packet_id)
            acked.add(key)
        finished.set()

    launcher = "faults.launchers.slow_disk" if rig.launcher == "quayflow" else rig.launcher
    async with scripted_broker(script) as broker:
        with rig.ingest(broker.port, launcher=launcher, fault_fdatasync_s=SYNC_S) as ingest:
            await asyncio.to_thread(ingest.start)
            since = now()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), 20)
            recovery_s, late = await asyncio.to_thread(rig.recovered, ingest, len(acked), since)
            await asyncio.to_thread(ingest.terminate)
    found = verify(ingest.folder, acked)
    losses = status(ingest.folder).get("session_losses")
    words = f"{len(stale)} stale acknowledgements, {losses} session lost"
    judged = outcome(found, recovery_s, ingest.peak_rss_mb, holds=not stale and losses == 1, measured=words, late=late)
    return replace(judged, stale=len(stale))


@fault(
    "F7",
    "broker-queue",
    "ingest is stopped while messages keep coming, and the broker queues them",
    "the hardened broker keeps all; they are taken in one go without growing the memory",
)
def broker_queue(rig: Rig) -> Outcome:
    """Keep ingest away for a while."""
    away = rig.scaled(20.0, 3.0)
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 3_000.0) as publisher:
            time.sleep(0.5)
            ingest.terminate()
            before = len(publisher.acked)
            time.sleep(away)
            queued = len(publisher.acked) - before
            since = now()
            ingest.start()
            result = rig.verdict(ingest, publisher, since=since)
    bounded = ingest.peak_rss_mb < 300  # noqa: PLR2004 - MB
    return replace(result, passed=result.passed and bounded, measured=f"{queued} queued in {away:.0f} s")


@fault(
    "F7d",
    "broker-queue-default",
    "the same with a broker that queues 1,000 messages and drops the rest after acknowledging them",
    "the loss is the broker's, and the ledger reports it to the message",
)
def broker_queue_default(rig: Rig) -> Outcome:
    """Use a broker as its distributor configures it."""
    with rig.broker(max_queued_messages=1_000, max_inflight_messages=20) as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 2_000.0) as publisher:
            time.sleep(0.5)
            ingest.terminate()
            time.sleep(rig.scaled(5.0, 2.0))
            ingest.start()
            publisher.stop()
        return _with_gap(rig, broker.port, ingest, publisher.acked)


@fault(
    "F20p",
    "identity",
    "payloads that claim another device, class or site than their topic",
    "each is refused under its reason; the device that they claim is not touched",
)
def identity(rig: Rig) -> Outcome:
    """Publish in another's name, in the payload."""
    claims = [{"device": "T-001"}, {"class": "quay-crane"}, {"site": "CNSHA-OTHER"}]
    body = {"v": 1, "m": {"odometer_m": 1}}
    bad = [Outgoing(telemetry_topic("T-666"), json.dumps({**body, **claim}).encode(), None) for claim in claims * 10]
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, iter(bad), None, name="spoof") as spoof:
            spoof.finish()
        with Publisher(broker.port, readings(count=200), None) as publisher:
            publisher.finish()
            rig.recovered(ingest, 200 + len(bad), now())
            ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
    holds = found.quarantined == len(bad)
    return outcome(found, 0.0, ingest.peak_rss_mb, holds=holds, measured=f"{SITE}: {len(bad)} refused")

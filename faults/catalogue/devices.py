"""Faults of devices: repeated, shuffled, wrong clocks, reboots, one that shouts, thousands at once."""

import asyncio
import contextlib
import json
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import mqtt5

from devices.times import NS
from faults.publisher import Key, Outgoing, Publisher, reading, readings, telemetry_topic, truck
from faults.registry import fault
from faults.resident import now_mb
from faults.rig import Outcome, Rig, now, outcome
from faults.scripted_broker import Wire, publish, scripted_broker, take_results
from faults.verifier import RESOLUTION, folded, quarantined, status, until_received, verify, windows
from store.journal import read

DEVICES: Final = 20
STORM_MB: Final = 32.0
"""By how much ingest may be larger after all has come again than before, MB."""
TIMELESS: Final = "H-000"
"""A device that has neither a number nor a clock."""
CALM_SITE: Final = "CNSHA-CALM"
ADMITTED: Final = 10
"""Invented devices for which there is room."""
UNFAIR: Final = 3.0
"""How many times as old the others' messages may become beside a noisy device …"""
AS_GOOD_AS_S: Final = 0.02
"""… where below this, a few ticks of reading, no difference is made, s."""


@fault(
    "F14",
    "duplicate-storm",
    "every message five times, with DUP and without, under its packet id and another; four times more after a restart",
    "each counts once, known by its sequence or else by its hash; the others are recognised and counted",
)
def duplicate_storm(rig: Rig) -> Outcome:
    """Send everything again and again."""
    count = int(rig.scaled(10_000, 2_000))
    once = [_unnumbered(each) if nth % 2 else each for nth, each in enumerate(readings(DEVICES, boot=1, count=count))]
    storm = [Sending(1, duplicate=False), *SENDINGS]
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        for sending in storm:
            with _again(broker.port, once, sending) as publisher:
                publisher.finish()
        until_received(ingest.folder, len(storm) * count)
        before = now_mb(ingest.pid)
        ingest.kill()
        ingest.start()
        acked: set[Key] = set()
        for sending in SENDINGS:
            with _again(broker.port, once, sending) as publisher:
                publisher.finish()
                acked |= publisher.acked
        since = now()
        recovery_s, late = rig.recovered(ingest, count, since)
        until_received(ingest.folder, (len(storm) + len(SENDINGS)) * count)
        grown = now_mb(ingest.pid) - before
        ingest.terminate()
        found = verify(ingest.folder, acked)
    words = f"{found.repeated} of {found.received} recognised, memory {grown:+.0f} MB from the first life to the second"
    holds = found.repeated == found.received - count and grown < STORM_MB
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words, late=late)


class Sending(NamedTuple):
    """How all messages are sent once more."""

    first_id: int
    """Packet id of the first; the others' go up from it, so that the same ids come with the same first one."""
    duplicate: bool
    """Whether they say that they are sent again."""


SENDINGS: Final = [Sending(first_id, marked) for first_id in (1, 40_000) for marked in (True, False)]


def _again(port: int, messages: list[Outgoing], sending: Sending) -> Publisher:
    name = f"again-{sending.first_id}-{sending.duplicate:d}"
    return Publisher(port, iter(messages), None, name=name, first_id=sending.first_id, duplicate=sending.duplicate)


def _unnumbered(message: Outgoing) -> Outgoing:
    """Return a message as of a device that counts neither its starts nor its messages."""
    body = json.loads(message.payload)
    return message._replace(payload=json.dumps({name: body[name] for name in ("v", "ts", "m")}).encode())


@fault(
    "F14w",
    "duplicate-wire",
    "a broker delivers every message five times, with DUP and without, under its packet id and another",
    "every delivery is acknowledged, each message counts once; one that has neither number nor time counts as often as "
    "the broker does not say that it comes again",
)
def duplicate_wire(rig: Rig) -> Outcome:
    """Deliver by a script what no good broker delivers."""
    return asyncio.run(_duplicate_wire(rig, int(rig.scaled(1_000, 200))))


async def _duplicate_wire(rig: Rig, count: int) -> Outcome:
    once = [_unnumbered(each) if nth % 2 else each for nth, each in enumerate(readings(DEVICES, boot=1, count=count))]
    timeless = [
        Outgoing(telemetry_topic(TIMELESS), json.dumps({"v": 1, "m": {"odometer_m": nth}}).encode(), None)
        for nth in range(count // 10)
    ]
    sent = [*once, *timeless]
    acknowledged: list[int] = []
    finished = asyncio.Event()

    async def script(wire: Wire) -> None:
        connect = await wire.connected()
        if connect.client_id.endswith("-results"):
            await take_results(wire)
            return
        await wire.subscribed()
        for first_id, duplicate in (Sending(1, duplicate=False), *SENDINGS):
            ids = range(first_id, first_id + len(sent))
            for packet_id, each in zip(ids, sent, strict=True):
                wire.send(publish(each.topic, each.payload, packet_id, duplicate=duplicate))
            await wire.drain()
            expected = len(acknowledged) + len(sent)
            while len(acknowledged) < expected:
                packet = await wire.packet()
                if isinstance(packet, mqtt5.PubAckPacket):
                    acknowledged.append(packet.packet_id)
            if acknowledged[-len(sent) :] != list(ids):
                break
        else:
            finished.set()

    async with scripted_broker(script) as broker:
        with rig.ingest(broker.port) as ingest:
            await asyncio.to_thread(ingest.start)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(finished.wait(), rig.patience_s)
            since = now()
            recovery_s, late = await asyncio.to_thread(rig.recovered, ingest, count, since)
            await asyncio.to_thread(ingest.terminate)
    found = verify(ingest.folder, {each.key for each in once if each.key})
    often = windows(ingest.folder).get(TIMELESS, (0, 0))[0]
    unmarked = 1 + sum(not each.duplicate for each in SENDINGS)
    deliveries = len(sent) * (1 + len(SENDINGS))
    words = (
        f"{len(acknowledged)} of {deliveries} deliveries acknowledged, {found.repeated} recognised, "
        f"of {len(timeless)} without number and time {often} counted"
    )
    recognised = len(SENDINGS) * count + (1 + len(SENDINGS) - unmarked) * len(timeless)
    holds = finished.is_set() and found.repeated == recognised and often == unmarked * len(timeless)
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words, late=late)


@fault(
    "F15",
    "reorder",
    "the same messages of an hour in order, and shuffled within 5,000 and across windows",
    "the folded store is the same to the last bit",
)
def reorder(rig: Rig) -> Outcome:
    """Fill two installations with the same messages in two orders."""
    count = int(rig.scaled(30_000, 3_000))
    start = time.time_ns() - 3_600 * NS
    ordered = [reading(truck(n % DEVICES), 1, n // DEVICES, start + n * 3_600 * NS // count) for n in range(count)]
    shuffled = list(ordered)
    dice = random.Random(15)
    for at in range(0, count, 5_000):
        part = shuffled[at : at + 5_000]
        dice.shuffle(part)
        shuffled[at : at + 5_000] = part
    results = []
    stores = []
    for name, messages in (("ordered", ordered), ("shuffled", shuffled)):
        with rig.broker() as broker, rig.ingest(broker.port, name) as ingest:
            ingest.start()
            with Publisher(broker.port, iter(messages), None) as publisher:
                publisher.finish()
                results.append(rig.verdict(ingest, publisher, since=now()))
            stores.append(folded(ingest.folder))
    equal = stores[0] == stores[1]
    words = f"{len(stores[0])} windows, {'equal' if equal else 'NOT equal'}"
    return replace(results[1], passed=all(each.passed for each in results) and equal, measured=words)


@fault(
    "F16",
    "clock-chaos",
    "devices a year ahead, in 1970, an hour behind, 1 % fast, and jumping, among those with a good clock",
    "what cannot be is refused by name, what has no clock counts when it comes; no other device's windows change",
)
def clock_chaos(rig: Rig) -> Outcome:
    """Mix good clocks with bad ones and compare the good devices' windows with figures added up here."""
    count = int(rig.scaled(600, 150))
    start = time.time_ns() - 60 * NS
    good, wrong, refusals = _chaos(count, start)
    messages = good + wrong
    random.Random(16).shuffle(messages)
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, iter(messages), None) as publisher:
            publisher.finish()
            recovery_s, late = rig.recovered(ingest, len(messages), now())
            ingest.terminate()
        keys = publisher.acked - {message.key for message in wrong if "refused" in message.topic}
        found = verify(ingest.folder, keys)
        stored = [row for row in folded(ingest.folder) if row[1] == "odometer_m" and row[2] == 10]  # noqa: PLR2004
        reasons = quarantined(ingest.folder)
    expected: dict[tuple[str, int], list[int]] = {}
    for message in good:
        body = json.loads(message.payload)
        window = body["ts"] - body["ts"] % (10 * NS)
        expected.setdefault((message.topic.split("/")[3], window), []).append(body["seq"] * RESOLUTION)
    sums = {key: (len(values), sum(values)) for key, values in expected.items()}
    found_sums = {(row[0], row[3]): (row[4], row[5]) for row in stored if (row[0], row[3]) in sums}
    wrong_windows = sum(found_sums.get(key) != value for key, value in sums.items())
    holds = not wrong_windows and reasons == refusals
    words = f"{wrong_windows} of {len(sums)} windows wrong, refused {dict(reasons)}"
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words, late=late)


def _chaos(count: int, start: int) -> tuple[list[Outgoing], list[Outgoing], Counter[str]]:
    """Return messages of good clocks, of bad ones, and how often each reason for refusal must come."""
    step = 60 * NS // count
    good = [reading(truck(n), 1, seq, start + seq * step) for n in range(5) for seq in range(count)]
    year, hour = 365 * 86_400 * NS, 3_600 * NS
    wrong = []
    for seq in range(count):
        ts = start + seq * step
        wrong.append(reading("refused-ahead", 1, seq, ts + year))
        wrong.append(reading("unset-1970", 1, seq, seq * step))
        wrong.append(reading("behind", 1, seq, ts - hour))
        wrong.append(reading("fast", 1, seq, start + seq * step * 101 // 100))
        wrong.append(reading("jumping", 1, seq, ts - hour * (seq % 2)))
    return good, wrong, Counter({"clock_future": count})


@fault(
    "F17",
    "device-reboot",
    "devices begin again at sequence 0, with a new boot id and with the old one",
    "a new boot is new; the same boot again is a repetition",
)
def device_reboot(rig: Rig) -> Outcome:
    """Restart devices, rightly and wrongly."""
    count = 2_000
    boots = [list(readings(DEVICES, boot=boot, count=count)) for boot in (1, 2, 1)]
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, (message for boot in boots for message in boot), None) as publisher:
            publisher.finish()
            recovery_s, late = rig.recovered(ingest, 2 * count, now())
            until_received(ingest.folder, 3 * count)
            ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
    words = f"{found.repeated} repetitions of {count}"
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=found.repeated == count, measured=words, late=late)


@fault(
    "F23",
    "noisy-device",
    "one device publishes at 50 times the rate of each other",
    "fair: the age that 99 % of the others' messages stay below is at most 3 times that before (20 ms at least)",
)
def noisy_device(rig: Rig) -> Outcome:
    """Let one shout for half of the time, and measure how late the others are received."""
    seconds = rig.scaled(10.0, 3.0)
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(DEVICES), 400.0, name="quiet") as quiet:
            time.sleep(seconds)
            shouted = time.time_ns()
            with Publisher(broker.port, _shouting(), 1_000.0, name="noisy") as noisy:
                time.sleep(seconds)
                noisy.stop()
            quiet.stop()
            since = now()
            acked: set[Key] = quiet.acked | noisy.acked
            recovery_s, late = rig.recovered(ingest, len(acked), since)
            ingest.terminate()
        found = verify(ingest.folder, acked)
    before, meanwhile = _ages(ingest.folder, shouted)
    ratio = max(meanwhile, AS_GOOD_AS_S) / max(before, AS_GOOD_AS_S)
    words = (
        f"the others' age, 99 %: {before * 1e3:.0f} ms before, {meanwhile * 1e3:.0f} ms meanwhile; ratio {ratio:.2f}"
    )
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=ratio < UNFAIR, measured=words, late=late)


def _ages(folder: Path, shouted: int) -> tuple[float, float]:
    """Return the age at receipt that 99 % of the others' messages stay below, s: before the noise, and meanwhile."""
    ages: tuple[list[float], list[float]] = ([], [])
    for frame in read(folder / "journal"):
        if "/noisy/" not in frame.topic:
            sent = json.loads(frame.payload)["ts"]
            ages[sent >= shouted].append((frame.recv_ts - sent) / NS)
    before, meanwhile = (sorted(each)[len(each) * 99 // 100] for each in ages)
    return before, meanwhile


def _shouting() -> Iterator[Outgoing]:
    seq = 0
    while True:
        yield reading("noisy", 1, seq)
        seq += 1


@fault(
    "F24",
    "connect-storm",
    "2,000 devices connect at once, publish one message each and leave",
    "every message that was acknowledged is stored",
)
def connect_storm(rig: Rig) -> Outcome:
    """Open a connection per device, from a few threads."""
    storm = int(rig.scaled(2_000, 200))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        began = now()
        publishers = [
            Publisher(broker.port, iter([reading(truck(n), 1, 0)]), None, name=f"storm-{n}") for n in range(storm)
        ]
        for publisher in publishers:
            publisher.start()
        for publisher in publishers:
            publisher.finish()
        took = now() - began
        acked = {key for publisher in publishers for key in publisher.acked}
        recovery_s, late = rig.recovered(ingest, len(acked), now())
        ingest.terminate()
        found = verify(ingest.folder, acked)
    assert threading.active_count() < storm  # noqa: S101 - every publisher has ended
    words = f"{len(acked)} devices in {took:.1f} s"
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=len(acked) == storm, measured=words, late=late)


@fault(
    "F30",
    "cardinality",
    "500 devices and 30 metric names at a site that may have 30 devices and 48 series, at a worker that admits 50 and "
    "88; then the devices of another site come, and a third site",
    "what is beyond is refused as cardinality and counted; those that were known go on, the other site finds its room",
)
def cardinality(rig: Rig) -> Outcome:
    """Invent devices and metric names at one site, and let others come afterwards."""
    known = list(readings(DEVICES, boot=1, count=400))
    later = [reading(truck(n % DEVICES), 1, 20 + n // DEVICES) for n in range(400)]
    invented = [reading(f"X-{n:04d}", 1, 0)._replace(key=None) for n in range(500)]
    names = [
        Outgoing(telemetry_topic(truck(n % DEVICES)), json.dumps({"v": 1, "m": {f"invented_{n}": 1}}).encode(), None)
        for n in range(30)
    ]
    calm = [_at(each, CALM_SITE, "C") for each in readings(DEVICES, boot=1, count=400)]
    third = [_at(reading(truck(0), 1, 0), "CNSHA-THIRD", "D")._replace(key=None)]
    caps: dict[str, Any] = {"max_devices": 50, "max_series": 88, "max_site_devices": 30, "max_site_series": 48}
    with rig.broker() as broker, rig.ingest(broker.port, **caps) as ingest:
        ingest.start()
        parts = (known, invented, names, calm, invented, third, later)
        acked: set[Key] = set()
        for nth, part in enumerate(parts):
            with Publisher(broker.port, iter(part), None, name=f"part-{nth}") as publisher:
                publisher.finish()
                acked |= publisher.acked
        recovery_s, late = rig.recovered(ingest, sum(map(len, parts)) - ADMITTED, now())
        ingest.terminate()
        of_calm = {key for key in acked if key[0].startswith("C-")}
        found = verify(ingest.folder, acked - of_calm)
        others = verify(ingest.folder, of_calm, partial(windows, ingest.folder, site=CALM_SITE))
        reasons = quarantined(ingest.folder)
        said = status(ingest.folder)
    # Of the invented devices 10 find room the first time, and 4 of those their two series; they are repeated later.
    refused = 2 * (len(invented) - ADMITTED) + (ADMITTED - 4) + len(third)
    holds = reasons == {"unknown_metric": len(names), "cardinality": refused}
    holds = holds and (said["devices"], said["series"]) == (50, 88)
    holds = holds and others.good and others.stored == len(calm)
    words = (
        f"refused {dict(reasons)}; {said['devices']} devices and {said['series']} series in the end; "
        f"{others.stored} of {len(calm)} of the site that came later"
    )
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words, late=late)


def _at(message: Outgoing, site: str, letter: str) -> Outgoing:
    """Return a message as of a device of another site, whose name begins with another letter."""
    assert message.key is not None  # noqa: S101 - every reading has one
    device = letter + message.key[0][1:]
    return Outgoing(telemetry_topic(device, site), message.payload, (device, *message.key[1:]))

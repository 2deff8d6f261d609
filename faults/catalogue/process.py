"""Faults of the ingest process itself: killed, ended, started twice."""

import contextlib
import random
import subprocess
import time
from dataclasses import replace
from statistics import median
from typing import Final

from engines.ports import wait_until
from faults.publisher import Publisher, readings
from faults.registry import fault
from faults.resident import now_mb
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import Findings, journalled, verify

SOAKED_MB: Final = 8.0
"""By how much the memory may differ between the thirds of a soak, MB."""


@fault(
    "F1",
    "kill9-loop",
    "SIGKILL of ingest at random moments, 50 times, under 2,000 msg/s",
    "nothing lost, nothing counted twice, the ledger balances",
)
def kill9_loop(rig: Rig) -> Outcome:
    """Kill ingest 0.2 to 2 s after each start, whatever it is doing then."""
    dice = random.Random(1)
    kills = int(rig.scaled(50, 6))
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 2_000.0) as publisher:
            for _ in range(kills):
                time.sleep(dice.uniform(0.2, rig.scaled(2.0, 1.2)))
                ingest.kill()
                ingest.start(connected=False)
            since = now()
            result = rig.verdict(ingest, publisher, since=since, measured=f"{kills} kills")
    return result


@fault(
    "F2",
    "kill9-every-call",
    "ingest exits at the Nth call that writes, syncs or renames, before or after it, for N = 1, 2, 3 …",
    "whatever the moment, the next life stores every message once",
)
def kill9_every_call(rig: Rig) -> Outcome:
    """Walk through a short life, dying one step later each time."""
    points = int(rig.scaled(24, 4))
    results: list[Findings] = []
    died = 0
    peak = 0.0
    with rig.broker() as broker:
        for nth in range(1, points + 1):
            name, after = f"data-{nth}", nth % 2
            dying = rig.ingest(
                broker.port, name, launcher="faults.launchers.dies_at_call", fault_dies_at=nth, fault_dies_after=after
            )
            with dying, rig.ingest(broker.port, name) as healthy:
                dying.start(connected=False)
                wait_until(lambda each=dying: each.ended or each.said("connected to") > 0, "it dies or connects")  # type: ignore[misc]
                if dying.ended:
                    healthy.start()
                with Publisher(broker.port, readings(count=200), 400.0, name=name) as publisher:
                    publisher.finish()
                    if not healthy.lives:
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            dying.wait(2.0)
                        died += dying.ended
                        dying.kill()
                        healthy.start()
                    else:
                        died += 1
                    rig.recovered(healthy, len(publisher.acked), now())
                    healthy.terminate()
                    peak = max(peak, healthy.peak_rss_mb)
                results.append(verify(healthy.folder, publisher.acked))
    found = results[0]
    for each in results[1:]:
        found = found + each
    return outcome(found, 0.0, peak, holds=died >= points // 2, measured=f"{points} moments, {died} deaths")


@fault(
    "F27",
    "clean-shutdown",
    "SIGTERM under 2,000 msg/s, five times",
    "everything read is stored, exit status 0, no message is taken twice",
)
def clean_shutdown(rig: Rig) -> Outcome:
    """End ingest in order while messages keep coming."""
    statuses = []
    slowest = 0.0
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 2_000.0) as publisher:
            for _ in range(int(rig.scaled(5, 2))):
                time.sleep(1.0)
                asked = now()
                statuses.append(ingest.terminate())
                slowest = max(slowest, now() - asked)
                ingest.start()
            publisher.stop()
            recovery_s, _ = rig.recovered(ingest, len(publisher.acked), now())
            statuses.append(ingest.terminate())
            found = verify(ingest.folder, publisher.acked)
    holds = not any(statuses) and found.repeated == 0
    words = f"{found.repeated} taken twice, slowest end {slowest:.1f} s"
    return outcome(found, recovery_s, ingest.peak_rss_mb, holds=holds, measured=words)


@fault(
    "F29",
    "two-instances",
    "a second ingest on the same data folder",
    "it refuses with exit status 3 and names the first; the first goes on",
)
def two_instances(rig: Rig) -> Outcome:
    """Start a second worker where one runs."""
    with rig.broker() as broker, rig.ingest(broker.port) as first, rig.ingest(broker.port) as second:
        second.log = rig.folder / "second.log"
        first.start()
        with Publisher(broker.port, readings(), 1_000.0) as publisher:
            second.start(connected=False)
            status = second.wait()
            named = f"in use by process {first.pid}" in second.words()
            since = now()
            publisher.stop()
            recovery_s, _ = rig.recovered(first, len(publisher.acked), since)
            first.terminate()
            found = verify(first.folder, publisher.acked)
    words = f"second ended with status {status}"
    return outcome(found, recovery_s, first.peak_rss_mb, holds=status == 3 and named, measured=words)  # noqa: PLR2004


@fault(
    "F7p",
    "paused",
    "SIGSTOP of ingest for longer than the keep-alive allows, under 1,000 msg/s",
    "the broker throws it out and keeps the messages; it comes back by itself",
)
def paused(rig: Rig) -> Outcome:
    """Freeze ingest until the broker has given it up."""
    away = rig.scaled(50.0, 3.0)
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 1_000.0) as publisher:
            time.sleep(1.0)
            ingest.pause()
            time.sleep(away)
            ingest.resume()
            result = rig.verdict(ingest, publisher, since=now(), measured=f"frozen for {away:.0f} s")
            assert len(journalled(ingest.folder)[0]) == len(publisher.acked)  # noqa: S101 - else the verdict is wrong
    return result


@fault(
    "F32",
    "soak",
    "a minute and a half at 1,000 msg/s with a kill, a freeze and a cut in its first third: a slice of a day",
    "nothing lost; once nothing strikes any more, memory does not grow",
)
def soak(rig: Rig) -> Outcome:
    """Go on, and look at the memory: at the beginning and at the end of the time without faults."""
    length = rig.scaled(60.0, 6.0)
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(devices=200), 1_000.0) as publisher:
            time.sleep(length / 10)
            ingest.kill()
            ingest.start()
            time.sleep(length / 10)
            ingest.pause()
            time.sleep(2)
            ingest.resume()
            time.sleep(length / 10)
            broker.restart()
            time.sleep(length / 5)
            sizes = []
            since = now()
            while now() < since + length:
                sizes.append(now_mb(ingest.pid))
                time.sleep(length / 60)
            result = rig.verdict(ingest, publisher, since=now())
    third = len(sizes) // 3
    grown = median(sizes[-third:]) - median(sizes[:third])
    words = f"{grown:+.1f} MB from the first to the last third of {length:.0f} s without a fault"
    return replace(result, passed=result.passed and grown < SOAKED_MB, measured=words)

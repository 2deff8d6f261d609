"""Faults of the disk: torn and flipped journals, slow and failing syncs, no space."""

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

from faults.publisher import Publisher, readings
from faults.registry import fault
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import Findings, distinct, journalled, status, verify
from store.journal import RECORD, Damage, Frame, list_segments, read


@fault(
    "F4",
    "torn-journal",
    "cut the journal at every byte of its last record; flip one bit in every record",
    "what lies before is recovered, every flip is found at its place, no wrong frame is ever returned",
)
def torn_journal(rig: Rig) -> Outcome:
    """Damage copies of a real journal; a cut one must also start again."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(count=int(rig.scaled(400, 60))), None) as publisher:
            publisher.finish()
            rig.recovered(ingest, len(publisher.acked), now())
            ingest.terminate()
        good = list(read(ingest.folder / "journal"))
        cuts, wrong = _cut_everywhere(rig, ingest.folder, good)
        flips, found, wrong_after_flip = _flip_everywhere(rig, ingest.folder, good)

        # A worker on a torn journal: it cuts the tail off, says so, and goes on.
        segment = list_segments(ingest.folder / "journal")[-1].path
        with segment.open("ab") as file:
            file.write(segment.read_bytes()[-RECORD.size - 7 : -3])
        ingest.start()
        cut_off = ingest.said("incomplete records") == 1
        ingest.terminate()
        verdict = verify(ingest.folder, publisher.acked)
    holds = not wrong and not wrong_after_flip and found == flips and cut_off
    words = f"{cuts} cuts, {found} of {flips} flips found, {wrong + wrong_after_flip} wrong frames"
    return outcome(verdict, 0.0, ingest.peak_rss_mb, holds=holds, measured=words)


def _cut_everywhere(rig: Rig, data: Path, good: list[Frame]) -> tuple[int, int]:
    """Cut at every byte of the last record; return how many cuts, and how many gave anything but the frames before."""
    copy = rig.folder / "cut"
    shutil.copytree(data / "journal", copy)
    segment = list_segments(copy)[-1]
    whole = segment.path.read_bytes()
    cuts = range(good[-1].offset - segment.base, len(whole))
    wrong = 0
    for cut in cuts:
        segment.path.write_bytes(whole[:cut])
        wrong += list(read(copy)) != good[:-1]
    return len(cuts), wrong


def _flip_everywhere(rig: Rig, data: Path, good: list[Frame]) -> tuple[int, int, int]:
    """Flip one bit in each record in turn; return the flips, those found at their place, and wrong frames."""
    dice = random.Random(4)
    copy = rig.folder / "flipped"
    shutil.copytree(data / "journal", copy)
    segment = list_segments(copy)[-1]
    whole = segment.path.read_bytes()
    flips = found = wrong = 0
    ends = [frame.offset - segment.base for frame in good[1:]] + [len(whole)]
    for nth, (frame, end) in enumerate(zip(good, ends, strict=True)):
        start = frame.offset - segment.base
        damaged = bytearray(whole)
        damaged[dice.randrange(start, end)] ^= 1 << dice.randrange(8)
        segment.path.write_bytes(damaged)
        damage: list[Damage] = []
        frames = list(read(copy, damaged=damage.append))
        flips += 1
        found += [(each.offset, each.length) for each in damage] == [(frame.offset, end - start)]
        wrong += frames != good[:nth] + good[nth + 1 :]
    return flips, found, wrong


@fault(
    "F8",
    "slow-fsync",
    "every fdatasync takes 500 ms more, under 2,000 msg/s",
    "acknowledgements wait, memory stays bounded, the connection stands, nothing is lost",
)
def slow_fsync(rig: Rig) -> Outcome:
    """Put a slow disk under the journal."""
    with rig.broker() as broker:
        launcher = "faults.launchers.slow_disk"
        with rig.ingest(broker.port, launcher=launcher, fault_fdatasync_s=0.5) as ingest:
            ingest.start()
            with Publisher(broker.port, readings(), 2_000.0) as publisher:
                time.sleep(rig.scaled(15.0, 3.0))
                result = rig.verdict(ingest, publisher, since=now())
            said = status(ingest.folder)
    steady = said.get("reconnects") == 0 and ingest.peak_rss_mb < 300  # noqa: PLR2004 - MB
    return _with(result, holds=steady, words=f"{said.get('reconnects')} reconnects")


@fault(
    "F8b",
    "failed-fsync",
    "an fdatasync of the journal fails with EIO",
    "the process ends at once, never repeats the sync, and its next life starts from what the disk has",
)
def failed_fsync(rig: Rig) -> Outcome:
    """Fail the 20th sync of every life."""
    statuses = []
    with rig.broker() as broker:
        launcher = "faults.launchers.failing_disk"
        with rig.ingest(broker.port, launcher=launcher, fault_fails_at=20, commit_interval_s=0.05) as ingest:
            ingest.start()
            with Publisher(broker.port, readings(), 1_000.0) as publisher:
                for _ in range(int(rig.scaled(5, 2))):
                    statuses.append(ingest.wait())
                    ingest.start(connected=False)
                ingest.kill()
                with rig.ingest(broker.port) as healthy:
                    healthy.start()
                    result = rig.verdict(healthy, publisher, since=now())
            tracebacks = ingest.said("Traceback")
    ended = all(each == 1 for each in statuses) and not tracebacks
    return _with(result, holds=ended, words=f"ended {len(statuses)} times with status 1, {tracebacks} tracebacks")


@fault(
    "F9",
    "disk-full",
    "no file of ingest may grow any more, under 500 msg/s; then there is space again",
    "it stops acknowledging, does not end, says so once, and goes on without a restart",
)
def disk_full(rig: Rig) -> Outcome:
    """Bound the size of files from outside, as a quota does, and lift the bound."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 500.0) as publisher:
            rig.recovered(ingest, 500, now())
            size = list_segments(ingest.folder / "journal")[-1].path.stat().st_size
            ingest.limit_file_size(size + 1_000)
            began = now()
            time.sleep(rig.scaled(10.0, 3.0))
            held = len(publisher.acked) - len(journalled(ingest.folder)[0])
            ingest.limit_file_size(None)
            downtime = now() - began
            result = rig.verdict(ingest, publisher, since=now())
        said = ingest.said("nothing is acknowledged until there is space")
    holds = held > 0 and said >= 1 and ingest.lives == 1
    return _with(result, holds=holds, words=f"full for {downtime:.0f} s, {held} messages held by the broker meanwhile")


@fault(
    "F13b",
    "store-lost",
    "the embedded store is deleted while ingest is stopped",
    "the journal restores it to the last bit",
)
def store_lost(rig: Rig) -> Outcome:
    """Forget everything but the journal."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(count=int(rig.scaled(40_000, 4_000))), None) as publisher:
            publisher.finish()
            rig.recovered(ingest, len(publisher.acked), now())
            ingest.terminate()
        for file in ingest.folder.glob("quayflow.db*"):
            file.unlink()
        assert distinct(ingest.folder) == 0  # noqa: S101 - else nothing was forgotten
        broker.stop()
        since = now()
        ingest.start(connected=False)
        recovery_s, late = rig.recovered(ingest, len(publisher.acked), since)
        ingest.terminate()
        found: Findings = verify(ingest.folder, publisher.acked)
    words = f"{len(publisher.acked) / max(recovery_s, 0.01):,.0f} msg/s from the journal"
    return outcome(found, recovery_s, ingest.peak_rss_mb, measured=words, late=late)


def _with(result: Outcome, *, holds: bool, words: str) -> Outcome:
    """Add a condition and what was measured for it."""
    measured = "; ".join(filter(None, (words, result.measured)))
    return replace(result, passed=result.passed and holds, measured=measured)

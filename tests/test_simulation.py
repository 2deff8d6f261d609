"""The seeded simulation: 300 seeds hold, broken products do not, and the made disk forgets what a disk forgets."""

import asyncio
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from faults.simulation.clock import START_NS, DeadlockError, VirtualLoop
from faults.simulation.disk import Crash, Disk
from faults.simulation.mutations import MUTATIONS, mutated
from faults.simulation.plan import MUCH, Kind, plan_of, power_cut
from faults.simulation.store import folded
from faults.simulation.verdict import findings, tally
from faults.simulation.world import played
from store.interface import StoreUnreachableError
from store.sqlite_files import sync_wal

FOUND_OUT_BY = {
    "early-ack": 6,
    "no-epoch": 20,
    "no-sync": 21,
    "no-store-sync": 17,
    "commit-ahead": 5,
    "no-part-sync": 34,
    "no-second-delivery": 5,
}
"""The first seed that finds a mutation, with which looking begins. Should it find it no more, another will do."""
SEEDS = 300
AT_ONCE = 25


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_strikes_nothing_is_lost_and_everything_counts_once(first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        with played(plan_of(seed)) as world:
            assert findings(world) == [], f"again with: python -m faults.simulation --seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_product_broken_on_purpose_is_found_out_by_some_seed(name: str) -> None:
    """Such as it is broken, and not otherwise; beside it, the product as it is passes."""
    for seed in sorted(range(40), key=lambda seed: seed != FOUND_OUT_BY.get(name, 0)):
        with mutated(name), played(plan_of(seed)) as world:
            found = findings(world)
        if any(MUTATIONS[name].shows in each for each in found):
            break
    else:
        pytest.fail(f"{name}: 40 seeds have not found it")
    with played(plan_of(seed)) as world:
        assert findings(world) == []


@pytest.mark.parametrize("call", [1, 2, 3, 5, 8, 40])
def test_a_power_cut_at_any_call_of_the_disk_takes_nothing_that_was_acknowledged(call: int) -> None:
    with played(power_cut(5, call)) as world:
        assert findings(world) == []
        assert world.lives == 2


def test_a_power_cut_that_never_comes_takes_nothing_from_a_store_that_forgets() -> None:
    """The last worker ends in order before the call at which the power was to go."""
    plan = replace(power_cut(10, 100_000), store=Kind.SQLITE)
    assert plan.forgetful
    with played(plan) as world:
        assert world.spared
        assert findings(world) == []


def test_a_seed_is_one_schedule() -> None:
    def play() -> tuple[object, ...]:
        with played(plan_of(7)) as world:
            rows = folded(world.store.rows)
            return world.loop.time(), world.disk.calls, world.lives, rows, [c.offset for c in world.store.commits]

    assert play() == play()


def test_the_seeds_of_the_tests_strike_with_everything_there_is() -> None:
    plans = [plan_of(seed) for seed in range(SEEDS)]
    assert {strike.what for plan in plans for strike in plan.strikes} == set(MUCH)
    assert {plan.store for plan in plans} == set(Kind)
    for chosen in ("forgetful", "compress", "whole"):
        assert {getattr(plan, chosen) for plan in plans} == {True, False}


def test_a_world_is_about_something() -> None:
    with played(plan_of(3)) as world:
        counted = tally(world)
    assert counted.acknowledged > 20
    assert (counted.lost, counted.twice) == (0, 0)


def test_a_failing_seed_is_printed_and_ends_with_status_1() -> None:
    command = [sys.executable, "-m", "faults.simulation", "--seeds", "2", "--mutation", "no-dedup"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "python -m faults.simulation --seed 0" in done.stdout


# --- virtual time ----------------------------------------------------------------------------------------------------


def test_time_passes_only_when_everybody_waits() -> None:
    loop = VirtualLoop(random.Random(1))
    try:
        assert loop.now_ns() == START_NS
        loop.run_until_complete(asyncio.sleep(3_600))
        assert round(loop.time()) == 3_600
        with pytest.raises(DeadlockError):
            loop.run_until_complete(loop.create_future())
    finally:
        loop.close()


def test_work_for_an_executor_is_done_one_piece_after_another() -> None:
    loop = VirtualLoop(random.Random(1))
    done: list[int] = []

    async def scenario() -> None:
        executor = object()
        await asyncio.gather(*(loop.run_in_executor(executor, done.append, number) for number in range(50)))

    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
    assert done == list(range(50))


# --- the made disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_what_was_synced_outlives_a_power_cut_and_the_rest_is_a_beginning_of_it(folder: Path) -> None:
    lengths = set()
    for seed in range(40):
        path = folder / str(seed)
        disk = Disk(folder, random.Random(seed))
        with disk.mounted():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
            view = memoryview(b"safe")
            while view:
                view = view[os.write(descriptor, view) :]
            os.fdatasync(descriptor)
            sync_names(folder)
            written = os.write(descriptor, b"maybe")
            os.close(descriptor)
        disk.lose_power()
        found = path.read_bytes()
        assert found.startswith(b"safe")
        rest = found[4:]
        assert rest == (b"maybe"[: len(rest.rstrip(b"\0"))]).ljust(len(rest), b"\0")
        assert len(rest) <= written
        lengths.add(len(found))
        _empty(folder.parent / "graves")
    assert {4, 9} <= lengths


def _empty(graves: Path) -> None:
    for grave in graves.iterdir():
        grave.unlink()
    graves.rmdir()


def test_names_that_were_not_synced_may_be_as_before(folder: Path) -> None:
    outcomes = set()
    for seed in range(30):
        old, new = folder / "old", folder / "new"
        old.write_bytes(b"old")
        disk = Disk(folder, random.Random(seed))
        with disk.mounted():
            os.close(os.open(new, os.O_WRONLY | os.O_CREAT))
            old.unlink()
        disk.lose_power()
        outcomes.add((old.exists(), new.exists()))
        new.unlink(missing_ok=True)
        _empty(folder.parent / "graves")
    # In the order in which they were made: the file gone and the new one not there cannot be.
    assert outcomes == {(True, False), (True, True), (False, True)}


@pytest.mark.parametrize("chance", range(10))
def test_a_sync_of_the_store_that_fails_takes_nothing_from_the_living(folder: Path, chance: int) -> None:
    log = folder / "quayflow.db-wal"
    log.write_bytes(bytes(range(256)) * 64)
    disk = Disk(folder, random.Random(chance))
    with disk.mounted():
        disk.failing.add("fdatasync")
        with pytest.raises(StoreUnreachableError, match="cannot be synced"):
            sync_wal(folder / "quayflow.db")
    assert log.read_bytes() == bytes(range(256)) * 64


def test_synced_names_stay(folder: Path) -> None:
    disk = Disk(folder, random.Random(1))
    with disk.mounted():
        os.close(os.open(folder / "new", os.O_WRONLY | os.O_CREAT))
        sync_names(folder)
    disk.lose_power()
    assert (folder / "new").exists()


def test_a_full_disk_takes_some_or_nothing_and_a_dead_process_calls_nothing(folder: Path) -> None:
    disk = Disk(folder, random.Random(1))
    with disk.mounted():
        descriptor = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
        disk.full = True
        taken: list[int] = []
        with pytest.raises(OSError, match="No space"):
            taken.extend(os.write(descriptor, b"0123456789") for _ in range(100))
        assert set(taken) <= {5}
        disk.full, disk.dies_in = False, 2
        os.write(descriptor, b"1")
        with pytest.raises(Crash):
            os.write(descriptor, b"2")
        with pytest.raises(Crash):
            os.unlink(folder / "file")  # noqa: PTH108 - the call is what is tested
        os.close(descriptor)
    assert (folder / "file").exists()


def test_other_folders_are_left_alone(folder: Path, tmp_path: Path) -> None:
    disk = Disk(folder, random.Random(1))
    with disk.mounted():
        disk.full = True
        (tmp_path / "elsewhere").write_bytes(b"x")
        descriptor = os.open(tmp_path / "elsewhere", os.O_WRONLY)
        assert os.write(descriptor, b"12") == 2
        os.close(descriptor)
    assert disk.calls == 0

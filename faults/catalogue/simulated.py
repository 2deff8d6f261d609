"""Faults played in a made world, where the power can be cut: see ``faults.simulation``."""

import time
from collections.abc import Callable, Iterable
from itertools import count, islice

from faults.registry import fault
from faults.resident import peak_mb
from faults.rig import Outcome, Rig
from faults.simulation.mutations import mutated
from faults.simulation.plan import Plan, death, plan_of, power_cut
from faults.simulation.verdict import Tally, findings, tally
from faults.simulation.world import World, played


def simulated(plans: Iterable[Plan], more: Callable[[World], bool] = lambda _: True) -> Outcome:
    """Play plans, until ``more`` says that it is enough, and give account of all together."""
    total, worlds, lives, struck, wrong = Tally(0, 0, 0, 0), 0, 0, 0, []
    for plan in plans:
        with played(plan) as world:
            found = findings(world)
            total = total.plus(tally(world))
        worlds, lives, struck = worlds + 1, lives + world.lives, struck + world.struck
        if found:
            wrong.append(f"seed {plan.seed}: {found[0]}")
        if not more(world):
            break
    return Outcome(
        acked=total.acknowledged,
        stored=total.stored,
        lost=total.lost,
        duplicates_stored=total.twice,
        quarantined=0,
        recovery_s=0.0,
        rss_mb=round(peak_mb(), 1),
        passed=not wrong,
        measured="; ".join([f"{worlds} worlds, {struck} faults, {lives} lives", *wrong[:3]]),
    )


def _a_call_later_each_time(rig: Rig, struck: Callable[[int, int], Plan]) -> Outcome:
    """Play worlds of a seed that are struck at one call of the disk each, until one ends before it is."""
    every = int(rig.scaled(1, 12))
    return simulated((struck(31, call) for call in count(1, every)), more=lambda world: not world.spared)


@fault(
    "F3",
    "power-loss",
    "the power is cut at the Nth call that changes the disk, for N = 1, 2, 3 …: what was not synced is torn or gone",
    "nothing acknowledged is lost, and the folded store is that of a run without a cut",
)
def power_loss(rig: Rig) -> Outcome:
    """Cut the power once per world, a call later each time, until a world ends before its cut."""
    return _a_call_later_each_time(rig, power_cut)


@fault(
    "F2a",
    "killed-every-call",
    "in a made world, ingest dies at the Nth call that changes the disk, for every N of its life",
    "nothing acknowledged is lost, and the folded store and the events are those of a run without a death",
)
def killed_every_call(rig: Rig) -> Outcome:
    """Die once per world, a call later each time, until a world ends before its death."""
    return _a_call_later_each_time(rig, death)


@fault(
    "F31",
    "simulation",
    "up to six faults of broker, disk, store and process at once, in virtual time, as a seed says",
    "nothing acknowledged is lost, effect once, the ledger balances, store and events as of a run without faults",
)
def simulation(rig: Rig) -> Outcome:
    """Play seeds that the tests do not play."""
    seeds = count(int(time.time()) * 1_000)
    return simulated(plan_of(seed) for seed in islice(seeds, int(rig.scaled(1_000, 40))))


@fault(
    "M31",
    "no-sync",
    "the product acknowledges what the kernel has and the disk has not; then as simulation",
    "a power cut takes acknowledged messages, and the simulation finds it",
    shows=lambda broken: broken.lost > 0,
    unbroken=lambda _: simulated(map(plan_of, range(30))),
)
def no_sync(rig: Rig) -> Outcome:
    """Play seeds with a journal that never syncs."""
    with mutated("no-sync"):
        return simulated(plan_of(seed) for seed in range(int(rig.scaled(200, 30))))

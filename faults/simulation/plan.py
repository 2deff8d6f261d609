"""What a seed stands for: the devices' messages, the faults and when they strike."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from faults.simulation.broker import Publication
from faults.simulation.devices import DURATION_S, machines, vehicles

QUIET_S: Final = 1.0
"""No fault strikes before this, so that there is something to lose."""


class Kind(StrEnum):
    """Where a world's commits go."""

    MEMORY = "memory"
    """Into a store that keeps them as they came."""
    SQLITE = "sqlite"
    """Into the real store in SQLite."""
    OUTBOX = "outbox"
    """Into the real outbox, and from there to a window store and records that are elsewhere."""


class Strike(NamedTuple):
    """One fault: when it strikes, what it is, and how much of it."""

    at_s: float
    what: str
    much: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One seed's world."""

    seed: int
    messages: list[tuple[float, Publication]]
    """When each is published, virtual s; a message may come more than once."""
    strikes: list[Strike]
    store: Kind
    forgetful: bool
    """Whether a power cut also takes the store's last commits, but for those that were synced."""
    segment_bytes: int
    commit_interval_s: float
    compress: bool = False
    """Whether sealed segments of the journal are compressed."""
    whole: bool = False
    """Whether the journal forgets nothing, so that detectors can run again over all that comes late."""

    @property
    def payloads(self) -> set[bytes]:
        """Return everything that was published."""
        return {publication.payload for _, publication in self.messages}

    @property
    def keeps_journal(self) -> bool:
        """Whether the journal is kept whole, also where only the verdict needs it."""
        return self.whole or any(strike.what == "session-loss" for strike in self.strikes)


MUCH: Final[dict[str, Callable[[random.Random], float]]] = {
    "kill": lambda _: 0.0,
    "kill-at-call": lambda dice: dice.randint(1, 40),
    "power": lambda _: 0.0,
    "power-at-call": lambda dice: dice.randint(1, 40),
    "restart": lambda _: 0.0,
    "cut": lambda _: 0.0,
    "broker-down": lambda dice: dice.uniform(0.1, 4.0),
    "session-loss": lambda dice: dice.uniform(0.05, 1.0),
    "disk-full": lambda dice: dice.uniform(0.5, 4.0),
    "disk-slow": lambda dice: dice.uniform(0.5, 3.0),
    "sync-fails": lambda _: 0.0,
    "write-fails": lambda _: 0.0,
    "store-away": lambda dice: dice.uniform(0.5, 5.0),
    "store-slow": lambda dice: dice.uniform(0.5, 4.0),
    "store-lies": lambda dice: dice.randint(1, 3),
    "delivery-dies": lambda dice: dice.randint(1, 6),
}
"""Every fault, and how much of it: seconds, or calls."""
ANYWHERE: Final = sorted(MUCH.keys() - {"delivery-dies"})
"""The faults of worlds of every kind."""
STORES: Final = {0: Kind.SQLITE, 5: Kind.OUTBOX}
"""Last digit of the seed → where commits go."""
MORE: Final = 0x0DD5


def power_cut(seed: int, call: int) -> Plan:
    """Return the world of a seed in which nothing happens but a power cut at the ``call``-th call of the disk, ≥ 1."""
    return replace(plan_of(seed), strikes=[Strike(0.0, "power-at-call", call)], store=Kind.MEMORY, forgetful=True)


def death(seed: int, call: int) -> Plan:
    """Return the world of a seed in which nothing happens but a death at the ``call``-th call of the disk, ≥ 1."""
    return replace(plan_of(seed), strikes=[Strike(0.0, "kill-at-call", call)], store=Kind.MEMORY, compress=True)


def plan_of(seed: int) -> Plan:
    """Return the world of a seed."""
    # What was added later has dice of its own: a seed strikes as it always did.
    dice, more = random.Random(seed), random.Random(seed ^ MORE)
    strikes = sorted(_strikes(dice))
    return Plan(
        seed=seed,
        messages=sorted([*vehicles(dice), *machines(more)], key=lambda each: each[0]),
        strikes=sorted([*strikes, *_of_delivery(more, seed)]),
        store=STORES.get(seed % 10, Kind.MEMORY),
        forgetful=dice.random() < 0.5,  # noqa: PLR2004 - as likely as not
        segment_bytes=dice.choice([2_000, 8_000, 1 << 20]),
        commit_interval_s=dice.choice([0.7, 1.5, 4.0]),
        compress=more.random() < 0.5,  # noqa: PLR2004 - as likely as not
        whole=more.random() < 0.5,  # noqa: PLR2004 - as likely as not
    )


def _of_delivery(dice: random.Random, seed: int) -> Iterator[Strike]:
    """Yield a death in the middle of a delivery, in half of the worlds that have any."""
    if STORES.get(seed % 10) is Kind.OUTBOX and dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
        what = "delivery-dies"
        yield Strike(dice.uniform(QUIET_S, DURATION_S), what, MUCH[what](dice))


def _strikes(dice: random.Random) -> Iterator[Strike]:
    for _ in range(dice.randint(1, 6)):
        what = dice.choice(ANYWHERE)
        yield Strike(dice.uniform(QUIET_S, DURATION_S), what, MUCH[what](dice))

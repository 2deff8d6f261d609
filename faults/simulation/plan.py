"""What a seed stands for: the devices' messages, the faults and when they strike."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from faults.simulation.broker import Publication
from faults.simulation.clock import NS, START_NS

SITE: Final = "CNNGB-SEEDS"
DURATION_S: Final = 18.0
"""How long devices publish, virtual s."""
QUIET_S: Final = 1.0
"""No fault strikes before this, so that there is something to lose."""


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
    sqlite: bool
    """Whether the store is the real one in SQLite instead of one in memory."""
    forgetful: bool
    """Whether a power cut also takes the store's last commits, but for those that were synced."""
    segment_bytes: int
    commit_interval_s: float

    @property
    def payloads(self) -> set[bytes]:
        """Return everything that was published."""
        return {publication.payload for _, publication in self.messages}

    @property
    def keeps_journal(self) -> bool:
        """Whether the journal must be kept whole, for the verdict needs it."""
        return any(strike.what == "session-loss" for strike in self.strikes)


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
}
"""Every fault, and how much of it: seconds, or calls."""


def power_cut(seed: int, call: int) -> Plan:
    """Return the world of a seed in which nothing happens but a power cut at the ``call``-th call of the disk, ≥ 1."""
    return replace(plan_of(seed), strikes=[Strike(0.0, "power-at-call", call)], sqlite=False, forgetful=True)


def plan_of(seed: int) -> Plan:
    """Return the world of a seed."""
    dice = random.Random(seed)
    strikes = sorted(_strikes(dice))
    return Plan(
        seed=seed,
        messages=sorted(_messages(dice), key=lambda each: each[0]),
        strikes=strikes,
        sqlite=seed % 10 == 0,
        forgetful=dice.random() < 0.5,  # noqa: PLR2004 - as likely as not
        segment_bytes=dice.choice([2_000, 8_000, 1 << 20]),
        commit_interval_s=dice.choice([0.7, 1.5, 4.0]),
    )


def _strikes(dice: random.Random) -> Iterator[Strike]:
    for _ in range(dice.randint(1, 6)):
        what = dice.choice(sorted(MUCH))
        yield Strike(dice.uniform(QUIET_S, DURATION_S), what, MUCH[what](dice))


def _messages(dice: random.Random) -> Iterator[tuple[float, Publication]]:
    """Yield the messages of a few vehicles, some sent again, some with bad values, some of a device without numbers."""
    for number in range(dice.randint(2, 5)):
        device = f"T-{number:02d}"
        topic = f"port/{SITE}/vehicle/{device}/telemetry"
        numbered = dice.random() < 0.8  # noqa: PLR2004 - most are
        boot, seq, at = dice.getrandbits(32), 0, dice.uniform(0, 1)
        while at < DURATION_S:
            # A device that reboots begins again.
            if dice.random() < 0.01:  # noqa: PLR2004 - now and then
                boot, seq = dice.getrandbits(32), 0
            payload = _payload(dice, at, boot if numbered else None, seq)
            publication = Publication(device, topic, payload, seq if numbered else -1)
            yield at, publication
            while dice.random() < 0.05:  # noqa: PLR2004 - its PUBACK was lost
                yield at + dice.uniform(0, 8), publication
            # A device may be off for longer than a window.
            at += dice.expovariate(2.0) + (dice.uniform(5, 15) if dice.random() < 0.01 else 0)  # noqa: PLR2004 - rarely
            seq += 1


def _payload(dice: random.Random, at: float, boot: int | None, seq: int) -> bytes:
    ts = START_NS + round((at - dice.uniform(0, 0.5)) * NS)
    speed = 4.0 + dice.random() if dice.random() < 0.97 else 1e6  # noqa: PLR2004 - beyond the range now and then
    body: dict[str, object] = {"v": 1, "ts": ts, "m": {"odometer_m": float(seq), "speed_mps": speed}}
    if boot is not None:
        body |= {"boot": boot, "seq": seq}
    return json.dumps(body).encode()

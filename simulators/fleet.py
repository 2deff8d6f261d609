"""The fleet: a simulated port on a real broker, in real time or faster.

Messages are sent when they are due, whatever became of the ones before (no coordinated omission); how late they left is
measured. Nothing is skipped: while the broker is away, messages wait in memory up to a bound, and beyond it the port's
clock stands still until there is room again, which is counted as ``paused_s``.
"""

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from devices.times import format_rfc3339
from devices.topics import SITE
from simulators import profiles, scenarios, truth
from simulators.accounts import devices_of
from simulators.broker import LONGEST_BACKOFF_S, Broker
from simulators.fault_chain import Chain
from simulators.faults import AnyFault
from simulators.messages import NS, PAYLOADS, Message, PortMessages
from simulators.noise import LEVELS
from simulators.obeying import Obeying, command_filters
from simulators.profiles import Profile
from simulators.publisher import Listening, Publisher, drain
from simulators.schedule import stopped_by_signal, wait_until
from simulators.terminals import Terminals, Vehicle
from simulators.truth import Fact, Move, Passage, Relock, YardMove

log = logging.getLogger(__name__)

CHUNK_S: Final = 0.5
"""The port is advanced by this much real time at once, s."""
MAX_OUTSTANDING: Final = 20_000
"""Messages that may wait for the broker before the clock stands still: a few MB."""
DRAIN_S: Final = 15.0
"""How long the end waits for outstanding acknowledgements, s: a broker that restarts is there again by then."""
NEVER_REACHED_S: Final = LONGEST_BACKOFF_S + 1.0
"""The same of a broker that nobody has reached in all the run, s: every connection tries once more."""
SUMMARY_EVERY_S: Final = 1.0
FOREVER_NS: Final = 2**62
JT808: Final = "jt808"
TERMINALS: Final = {"external": JT808, "external_hz": 0.2, "external_parked_s": 30.0}
"""What road trucks with terminals speak, and how often."""


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """How to run a simulated port."""

    broker: Broker = field(default_factory=Broker)
    """Where to publish."""
    site: str = "CNNGB-DEMO"
    """Site level of the topics: UN/LOCODE and facility."""
    profile: str = "small"
    """Name of a built-in profile, or path of a TOML file."""
    seed: int = 7
    """Seed of all randomness, ≥ 0; the same seed is the same port."""
    speed: float = 1.0
    """Port seconds per real second, > 0."""
    duration_s: float | None = None
    """Real time to run, s > 0, or None for ever."""
    connections: int = 4
    """MQTT connections, 1 to 1000; devices are spread over them."""
    summary_path: Path | None = None
    """Where to keep the publisher's ledger as JSON, or None."""
    truth_path: Path | None = None
    """Where to append the truth log as JSON lines, or None."""
    payload: str = "msgpack"
    """``msgpack``, ``json``, or ``mixed``: half of the devices each."""
    noise: str = "none"
    """Noise of the instruments: ``none``, ``default`` or ``heavy``."""
    scenario: str | None = None
    """Name or path of a scenario, or None: its profile, seed, noise and faults take the place of those above."""
    jt808: str | None = None
    """HOST:PORT of a gateway to which road trucks report as JT/T 808 terminals, or None: they report by MQTT.

    In a profile of which road trucks do not speak JT/T 808 they then do, every 5 s, and every 30 s while they stand.
    """
    start_ns: int | None = None
    """Port time of the first message, ns UTC; None is now, or for speed > 1 so far back that the run ends now."""

    def __post_init__(self) -> None:
        """Check every value."""
        _ = self.gateway
        if not SITE.fullmatch(self.site):
            raise ValueError(f"site = {self.site!r}: allowed is a UN/LOCODE and a facility, such as CNNGB-DEMO")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed}: allowed is 0 or more")
        if not 0 < self.speed <= 10_000:  # noqa: PLR2004 - beyond what one process can publish
            raise ValueError(f"speed = {self.speed}: allowed is above 0, up to 10000")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise ValueError(f"duration_s = {self.duration_s}: allowed is above 0, or None for ever")
        if not 1 <= self.connections <= 1_000:  # noqa: PLR2004 - a client, not a storm
            raise ValueError(f"connections = {self.connections}: allowed is 1 to 1000")
        for name, allowed in (("payload", PAYLOADS), ("noise", tuple(LEVELS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}: allowed are {', '.join(allowed)}")

    @property
    def gateway(self) -> tuple[str, int] | None:
        """Host and port of the gateway, None where there is none."""
        if self.jt808 is None:
            return None
        host, _, port = self.jt808.rpartition(":")
        if not host or not port.isdigit() or not 1 <= int(port) <= 65_535:  # noqa: PLR2004 - TCP
            raise ValueError(f"jt808 = {self.jt808!r}: expected HOST:PORT, such as 127.0.0.1:6808")
        return host, int(port)

    def port_start_ns(self, now_ns: int) -> int:
        """Return the port time of the first message, ns UTC.

        Devices whose clocks run ahead of the receiver's are refused, so a port faster than real time begins in the
        past: as far as it gains during the run, or a day where the run has no end.
        """
        if self.start_ns is not None:
            return self.start_ns
        gained_s = (self.speed - 1) * self.duration_s if self.duration_s is not None else 86_400.0
        return now_ns - round(max(0.0, gained_s) * NS) if self.speed > 1 else now_ns


async def run(
    config: FleetConfig, clock: Callable[[], int] = time.time_ns, stop: asyncio.Event | None = None
) -> dict[str, Any]:
    """Run the port until ``duration_s`` has passed or ``stop`` is set; returns the summary.

    Without ``stop``, SIGTERM and SIGINT end the run. At the end nothing more is generated, outstanding messages are
    acknowledged, every device says that it goes offline, and the connections are closed.

    Raises:
        simulators.profiles.ProfileError: the profile, or the scenario, cannot be used.
        simulators.broker.BrokerRefusesError: the broker has never let anybody in with these credentials.
    """
    profile, seed, noise, faults = port_of(config)
    started = clock()
    start_ns = config.port_start_ns(started)
    source = PortMessages(profile, seed, config.site, start_ns, config.payload, noise)
    # The publisher hears the commands, and is given the answers to them.
    obeying = Obeying(source, clock, lambda message: publisher.offer(message))  # noqa: PLW0108 - it is made below
    listening = Listening(command_filters(source, config.site), obeying.heard)
    name = f"quayflow-sim-{os.getpid()}"
    publisher = Publisher(config.broker, len(source.devices), config.connections, clock, name, listening)
    with stopped_by_signal(stop) as ending, contextlib.closing(obeying):
        publisher.attempts.on_refusal = ending.set
        async with (
            publisher,
            _terminals(config, source, publisher, clock) as terminals,
        ):
            fleet = _Fleet(config, source, publisher, terminals, clock, started)
            fleet.chain = Chain(faults, seed, start_ns)
            reporter = asyncio.create_task(fleet.report_regularly())
            try:
                await fleet.play(ending)
                publisher.attempts.check()
                fleet.send_what_is_under_way()
                for message in source.goodbye():
                    publisher.offer(message._replace(due_ns=clock()))
                patience_s = DRAIN_S if publisher.attempts.was_let_in else NEVER_REACHED_S
                if not publisher.connected:
                    log.warning("no broker: waiting %g s more for %d acknowledgements", patience_s, fleet.outstanding)
                complete = await drain(publisher, patience_s) and await terminals.drain(DRAIN_S)
            finally:
                reporter.cancel()
            if not complete:
                log.error("%d messages were not acknowledged within %g s", fleet.outstanding, patience_s)
            return fleet.report(finished=True)


def port_of(config: FleetConfig) -> tuple[Profile, int, str, tuple[AnyFault, ...]]:
    """Return profile, seed, noise and faults: those of the scenario, if there is one."""
    if config.scenario is None:
        return _with_terminals(profiles.load(config.profile), config), config.seed, config.noise, ()
    scenario = scenarios.load(config.scenario)
    declared = scenario.declared
    return _with_terminals(scenario.profile, config), declared.seed, declared.noise, declared.faults


def _with_terminals(profile: Profile, config: FleetConfig) -> Profile:
    """Return the profile with road trucks that speak JT/T 808, where there is a gateway to speak to."""
    if config.jt808 is None or profile.wire.external == JT808:
        return profile
    return scenarios.changed(profile, {"wire": TERMINALS})


def _terminals(config: FleetConfig, source: PortMessages, publisher: Publisher, clock: Callable[[], int]) -> Terminals:
    """Return the terminals that report over TCP: none without a gateway."""
    vehicles = {}
    if config.gateway is not None:
        for index, device in enumerate(source.devices):
            if device.speaker is not None and device.speaker.codec == JT808:
                vehicles[index] = Vehicle(device.key.device, str(device.info.get("plate", "")))
    return Terminals(config.gateway or ("", 0), vehicles, publisher.accounts, publisher.lag, clock)


class _Fleet:
    """One run: the schedule, the pauses, the truth so far and the summary."""

    def __init__(
        self,
        config: FleetConfig,
        source: PortMessages,
        publisher: Publisher,
        terminals: Terminals,
        clock: Callable[[], int],
        started: int,
    ) -> None:
        self.chain = Chain((), 0, 0)
        """What goes wrong on the way to the broker."""
        self._config = config
        self._source = source
        self._publisher = publisher
        self._terminals = terminals
        self._clock = clock
        self._started = started
        self._start_ns = source.origin_ns + round(source.opening_s * NS)
        self._paused_ns = 0
        self._virtual_ns = 0
        self._truth = {"moves": 0, "teu": 0.0, "relocks": 0, "yard_moves": 0, "passages_in": 0, "passages_out": 0}

    async def play(self, ending: asyncio.Event) -> None:
        """Offer every message when it is due, until the end."""
        for message in self._source.hello():
            self._offer(message, self._started)
        last_ns = round(self._config.duration_s * self._config.speed * NS) if self._config.duration_s else None
        chunk_ns = max(1, round(CHUNK_S * self._config.speed * NS))
        while not ending.is_set() and (last_ns is None or self._virtual_ns < last_ns):
            step = chunk_ns if last_ns is None else min(chunk_ns, last_ns - self._virtual_ns)
            self.chain.send(self._source.advance(step))
            for arrival_ns, message, _ in self.chain.arrived(self._start_ns + self._virtual_ns + step):
                if not await self._until(self._wall_ns(arrival_ns), ending):
                    # What the port has already counted must still be sent: a sequence has no holes.
                    self._offer(message, self._clock())
                    continue
                await self._room(ending)
                self._offer(message, self._wall_ns(arrival_ns))
            self._virtual_ns += step
            self._tell_truth()
            await self._until(self._wall_ns(self._start_ns + self._virtual_ns), ending)

    def send_what_is_under_way(self) -> None:
        """Offer what faults still hold back, earlier than they would let it arrive: nothing is lost by the end."""
        for _, message, _ in self.chain.arrived(FOREVER_NS):
            self._offer(message, self._clock())

    @property
    def outstanding(self) -> int:
        """How many messages wait for the broker or the gateway."""
        return self._publisher.outstanding + self._terminals.outstanding

    def _offer(self, message: Message, due_ns: int) -> None:
        """Give a message to whom it goes to, the broker or the gateway."""
        way = self._terminals if self._terminals.take(message) else self._publisher
        way.offer(message._replace(due_ns=due_ns))

    def _wall_ns(self, port_ns: int) -> int:
        """Return when a moment of the port's time comes in real time, ns UTC."""
        return self._started + self._paused_ns + round((port_ns - self._start_ns) / self._config.speed)

    async def _until(self, wall_ns: int, ending: asyncio.Event) -> bool:
        return await wait_until(wall_ns, self._clock, ending)

    async def _room(self, ending: asyncio.Event) -> None:
        """Stand still while too many messages wait for the broker."""
        if self.outstanding < MAX_OUTSTANDING:
            return
        since = self._clock()
        log.warning("%d messages wait for the broker: the port's clock stands still", self.outstanding)
        while self.outstanding >= MAX_OUTSTANDING and not ending.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ending.wait()
        self._paused_ns += self._clock() - since

    def _tell_truth(self) -> None:
        facts = self._source.truth()
        for fact in facts:
            self._count(fact)
        if facts and self._config.truth_path:
            truth.append(self._config.truth_path, facts, self._source.origin_ns)

    def _count(self, fact: Fact) -> None:
        counts = self._truth
        match fact:
            case Move(kind="shift"):
                pass
            case Move():
                counts["moves"] += 1
                counts["teu"] += fact.teu
            case Relock():
                counts["relocks"] += 1
            case YardMove():
                counts["yard_moves"] += 1
            case Passage():
                counts[f"passages_{fact.direction}"] += 1

    async def report_regularly(self) -> None:
        """Write the summary every second, until cancelled."""
        while True:
            self.report(finished=False)
            await asyncio.sleep(SUMMARY_EVERY_S)

    def report(self, *, finished: bool) -> dict[str, Any]:
        """Return the summary, and write it where the configuration says."""
        summary = self._summary(finished=finished)
        if self._config.summary_path:
            write_atomically(self._config.summary_path, msgspec.json.encode(summary))
        return summary

    def _summary(self, *, finished: bool) -> dict[str, Any]:
        config, publisher, source = self._config, self._publisher, self._source
        now = self._clock()
        return {
            "finished": finished,
            "site": config.site,
            "profile": config.profile,
            "seed": config.seed,
            "speed": config.speed,
            "started": format_rfc3339(self._started),
            "updated": format_rfc3339(now),
            "port_start": format_rfc3339(self._start_ns),
            "elapsed_s": round((now - self._started) / NS, 3),
            "port_s": round(self._virtual_ns / NS, 3),
            "paused_s": round(self._paused_ns / NS, 3),
            "sent": publisher.sent,
            "acked": publisher.acked,
            "outstanding": self.outstanding,
            "resent": publisher.resent,
            "refused": publisher.refused,
            "reconnects": publisher.reconnects,
            "connected": publisher.connected,
            "faults": dict(self.chain.counts),
            "terminals": self._terminals.summary(),
            "births": sum(device.node.births for device in source.devices if device.node is not None),
            "lag_ms": publisher.lag.summary(),
            "truth": {name: round(value, 2) for name, value in self._truth.items()},
            "devices": devices_of(
                publisher,
                [device.key.uid for device in source.devices],
                [device.boot for device in source.devices],
            ),
        }


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` so that a reader sees the old or the new content, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)

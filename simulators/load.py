"""Load: made messages at a given rate, whatever becomes of them, until the time is over or something breaks.

The model is open: messages are due by the clock, not by the answers to earlier ones. What could not leave in time
counts as late from when it was due, and a run that could not keep its schedule fails instead of flattering what it
measured.
"""

import asyncio
import math
import os
import random
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from devices.topics import SITE
from simulators import profiles
from simulators.accounts import Lag
from simulators.addresses import check_address
from simulators.broker import Broker
from simulators.ingest_figures import IngestFigures, figures_from
from simulators.load_link import Link
from simulators.rates import Rate, Stretch, due_times
from simulators.schedule import NS, stopped_by_signal
from simulators.templates import forms_of, lanes_of
from simulators.thresholds import Threshold

TICK_S: Final = 0.002
PERIOD_S: Final = 1.0
MOST_AT_ONCE: Final = 20_000
"""Messages made in one turn of the event loop."""
FEW: Final = 100
"""A connection is given so many messages at once, where so many are due: making ten costs as much as making one."""
SETTLE_S: Final = 5.0
"""Acknowledgements are waited for so long after the last message, s."""
LATE_MS: Final = 100.0
"""A schedule is kept if 99 % of the messages left within this of when they were due, ms."""
KEPT: Final = 0.97
"""Share of what was asked that has to be reached."""
BUSY: Final = 0.9
"""Share of a core from which the generator itself is held to be the limit."""
SETTLED_S: Final = 2.5
"""What ingest says is about a second old: so long after a stage has begun, it says what it took in this stage."""
COMPARED_S: Final = 0.5
"""Ingest's rate is known where what it said first and last lie at least so far apart."""
APART_S: Final = 0.2
"""What ingest says may be told by so much earlier or later than it was so, as frames come to it in batches, s."""
LAG_S: Final = 20.0
"""A store that is further behind than this cannot keep up, s. Of many devices ingest commits once in 10 s."""
MOST_STEPS: Final = 30
HEADS: Final = ("asked/s", "sent/s", "behind p99 ms", "acknowledged p99 ms", "ingest/s", "store lag s", "CPU", "limit")
"""What is shown of each stage."""
FIGURES: Final = frozenset(
    {"messages", "sent", "acked", "lost", "rate", "knee", "cpu", "kept", "stored"}
    | {f"{lag}_{tail}" for lag in ("behind", "acked") for tail in ("p50", "p95", "p99", "max")}
)


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """How much to send, of what, where to and for how long."""

    broker: Broker = field(default_factory=Broker)
    """Where to publish."""
    rate: str = "constant:1000"
    """Rate profile, see ``simulators.rates``."""
    duration_s: float = 30.0
    """How long, s > 0; of ``step``, how long at most."""
    step_s: float = 5.0
    """Length of a step, s ≥ 1."""
    profile: str = "small"
    """Profile of the port whose mix of messages is sent."""
    seed: int = 7
    """Seed of that port, ≥ 0."""
    site: str = "CNNGB-LOAD"
    """Site level of the topics."""
    devices: int = 1_000
    """Devices, 1 to 100,000, at least one for each form of message."""
    clients: int = 8
    """MQTT connections, 1 to 1000."""
    qos: int = 1
    """Quality of service, 0 or 1."""
    api_url: str | None = None
    """Address of the API that tells how ingest and store keep up, or None to judge by the broker alone."""
    thresholds: tuple[str, ...] = ()
    """Conditions on the result, such as ``knee>10000``."""

    def __post_init__(self) -> None:
        """Check every value."""
        _ = self.shape, self.conditions
        if not SITE.fullmatch(self.site):
            raise ValueError(f"site = {self.site!r}: allowed is a UN/LOCODE and a facility, such as CNNGB-LOAD")
        if self.api_url is not None:
            check_address("api_url", self.api_url)
        for name, least, most in (("devices", 1, 100_000), ("clients", 1, 1_000), ("qos", 0, 1), ("seed", 0, 2**63)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} = {value}: allowed is {least} to {most}")
        if not 0 < self.duration_s < math.inf:
            raise ValueError(f"duration_s = {self.duration_s}: allowed is above 0")
        if self.shape.kind == "step" and not 1 <= self.step_s <= self.duration_s:
            raise ValueError(f"step_s = {self.step_s}: allowed is 1 to duration_s = {self.duration_s}")

    @property
    def shape(self) -> Rate:
        """The rate profile, parsed."""
        return Rate.parse(self.rate)

    @property
    def conditions(self) -> tuple[Threshold, ...]:
        """The thresholds, parsed."""
        return tuple(Threshold.parse(text, FIGURES) for text in self.thresholds)


@dataclass(slots=True)
class Stage:
    """A stretch of the run, or a step of it, and how it went."""

    asked: float
    """Messages/s, on average."""
    seconds: float = 0.0
    due: int = 0
    sent: int = 0
    acked: int = 0
    behind_ms: dict[str, float] = field(default_factory=dict)
    """How late messages left."""
    acked_ms: dict[str, float] = field(default_factory=dict)
    """From when messages were due until the broker acknowledged them; zeros at QoS 0."""
    held_back: float = 0.0
    """Share of the time in which the broker took nothing more."""
    cpu: float = 0.0
    """Share of a core that the generator used."""
    ingest_rate: float | None = None
    """Messages/s that ingest took, if the API was asked."""
    ingest_seconds: float | None = None
    """How long it was watched for that, s."""
    store_lag_s: float | None = None
    """How far the store was behind in the end, s."""
    limit: str = ""
    """What kept it from being reached: ``broker``, ``ingest``, ``store`` or ``generator``; "" if it was."""

    @property
    def sent_rate(self) -> float:
        """Messages/s that left."""
        return self.sent / self.seconds if self.seconds else 0.0

    def cells(self) -> tuple[str, ...]:
        """Return it as a row under :data:`HEADS`."""
        return (
            f"{self.asked:,.0f}",
            f"{self.sent_rate:,.0f}",
            f"{self.behind_ms['p99']:,.1f}",
            f"{self.acked_ms['p99']:,.1f}",
            "" if self.ingest_rate is None else f"{self.ingest_rate:,.0f}",
            "" if self.store_lag_s is None else f"{self.store_lag_s:.1f}",
            f"{100 * self.cpu:.0f} %",
            self.limit or "kept",
        )


@dataclass(slots=True)
class LoadResult:
    """What came of a load run."""

    stages: list[Stage]
    knee: float
    """The highest rate that was kept, messages/s; 0 if none was."""
    limit: str
    """What limits beyond it, "" if nothing was found to."""
    messages: int
    sent: int
    acked: int
    """At QoS 0 what was handed to the system."""
    lost: int
    """Messages due that were never sent, or not acknowledged in the end."""
    refused: int
    reconnects: int
    stored: int | None
    """Messages that ingest took, if the API was asked."""
    bytes_per_message: float
    forms: list[dict[str, Any]]
    """What was sent: class, kind, metrics and share."""
    behind_ms: dict[str, float]
    acked_ms: dict[str, float]
    thresholds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether the generator kept its schedule; of ``step``, in at least one step, and was not the limit."""
        return self.limit != "generator" and self.knee > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        passed = all(each["ok"] for each in self.thresholds)
        stages = [{**asdict(stage), "sent_rate": round(stage.sent_rate, 1)} for stage in self.stages]
        return {**asdict(self), "stages": stages, "kept": self.kept, "passed": passed}


async def run(
    config: LoadConfig,
    progress: Callable[[Stage], None] | None = None,
    clock: Callable[[], int] = time.time_ns,
    stop: asyncio.Event | None = None,
) -> LoadResult:
    """Send until the time is over, something breaks (``step``), or ``stop`` is set (without it, SIGTERM or SIGINT).

    Raises:
        simulators.profiles.ProfileError: the profile cannot be used.
        OSError: the broker cannot be reached at the start.
    """
    forms = await asyncio.to_thread(forms_of, profiles.load(config.profile), config.seed, config.site)
    boot = random.SystemRandom().getrandbits(61) | 1 << 61
    lanes = lanes_of(forms, config.devices, config.clients, config.site, boot, config.qos)
    links = [Link(config.broker, f"quayflow-load-{os.getpid()}-{n}", own, config.qos) for n, own in enumerate(lanes)]
    with stopped_by_signal(stop) as ending:
        try:
            await asyncio.gather(*(link.open() for link in links))
            result = await _Run(config, links, clock, progress, ending).run()
        finally:
            for link in links:
                link.close()
    result.forms = [
        {
            "class": form.device_class,
            "kind": type(form.message).__name__.lower(),
            "metrics": len(form.message.m if hasattr(form.message, "m") else form.message.names),
            "share": round(form.share, 4),
        }
        for form in forms
    ]
    return result


class _Run:
    """One run."""

    def __init__(
        self,
        config: LoadConfig,
        links: list[Link],
        clock: Callable[[], int],
        progress: Callable[[Stage], None] | None,
        ending: asyncio.Event,
    ) -> None:
        self._config = config
        self._links = links
        self._clock = clock
        self._progress = progress
        self._ending = ending
        self._behind = Lag()
        self._acked = Lag()
        self._next = 0

    async def run(self) -> LoadResult:
        """Run the stages, wait for the last acknowledgements, and judge."""
        config, shape = self._config, self._config.shape
        first = await figures_from(config.api_url)
        stages: list[Stage] = []
        if shape.kind == "step":
            for number in range(min(MOST_STEPS, int(config.duration_s // config.step_s))):
                stages.append(await self._stage(shape.step(number, config.step_s)))
                if stages[-1].limit or self._ending.is_set():
                    break
        else:
            for stretch in shape.stretches(config.duration_s):
                stages.append(await self._stage(stretch))
                if self._ending.is_set():
                    break
        await self._settle()
        last = None if first is None else await self._figures_after(SETTLED_S)
        return self._result(stages, first, last)

    async def _stage(self, stretch: Stretch) -> Stage:
        """Send what is due in one stretch, then judge how it went."""
        stage = Stage((stretch.begin + stretch.end) / 2)
        behind, acked = Lag(), Lag()
        for link in self._links:
            link.answered = acked
        early = asyncio.create_task(self._figures_after(min(SETTLED_S, stretch.seconds / 2)))
        sent, got = self._count("sent"), self._count("acked")
        cpu, began, started = _cpu_s(), time.monotonic(), self._clock()
        shown, held, turns, offered = began, 0, 0, 0
        while (elapsed := (self._clock() - started) / NS) < stretch.seconds and not self._ending.is_set():
            due = int(stretch.due(elapsed))
            count = min(due - offered, MOST_AT_ONCE)
            if count > 0:
                offered += self._send(stretch, started, offered, count, behind)
            turns += 1
            held += any(link.held_back for link in self._links)
            if self._progress is not None and time.monotonic() - shown >= PERIOD_S:
                shown = time.monotonic()
                self._fill(stage, elapsed, due, sent, got, behind, acked)
                stage.cpu = round((_cpu_s() - cpu) / elapsed, 3)
                self._progress(stage)
            await asyncio.sleep(0 if count == MOST_AT_ONCE else TICK_S)
        seconds = (self._clock() - started) / NS
        if 0 < seconds - stretch.seconds <= TICK_S:
            # The loop looks once a tick; what was due within the stretch is not to be divided by more than its length.
            seconds = stretch.seconds
        due = int(stretch.due(seconds))
        offered += self._send(stretch, started, offered, min(due - offered, MOST_AT_ONCE), behind)
        if due > offered:
            # Never sent: late since they were due.
            first, _ = due_times(stretch, started, offered, 1)
            behind.add(self._clock() - first, due - offered)
        stage.held_back, stage.cpu = round(held / max(turns, 1), 3), round((_cpu_s() - cpu) / seconds, 3)
        self._fill(stage, seconds, due, sent, got, behind, acked)
        before, after = await early, await figures_from(self._config.api_url)
        if before is not None and after is not None:
            stage.store_lag_s = after.store_lag_s
            watched = after.at_s - before.at_s
            if watched >= COMPARED_S:
                stage.ingest_rate = round((after.frames - before.frames) / watched, 1)
                stage.ingest_seconds = round(watched, 3)
        stage.limit = judge(stage)
        self._behind.merge(behind)
        self._acked.merge(acked)
        if self._progress is not None:
            self._progress(stage)
        return stage

    async def _figures_after(self, seconds: float) -> IngestFigures | None:
        await asyncio.sleep(seconds)
        return await figures_from(self._config.api_url)

    def _send(self, stretch: Stretch, started: int, already: int, count: int, behind: Lag) -> int:
        """Hand the next messages of a stretch to the connections; return how many they took."""
        if count <= 0:
            return 0
        first, last = due_times(stretch, started, already, count)
        due = np.linspace(first, last, count).astype(np.int64)
        now, taken, links = self._clock(), 0, len(self._links)
        share = max(FEW, -(-count // links))
        for _ in range(links):
            if taken == count:
                break
            taken += self._links[self._next].send(due[taken : taken + share])
            self._next = (self._next + 1) % links
        if taken:
            behind.add(now - (first + last) // 2, taken)
        return taken

    def _fill(self, stage: Stage, seconds: float, due: int, sent: int, got: int, behind: Lag, acked: Lag) -> None:
        stage.seconds, stage.due = round(seconds, 3), due
        stage.sent, stage.acked = self._count("sent") - sent, self._count("acked") - got
        stage.behind_ms, stage.acked_ms = behind.summary(), acked.summary()

    def _count(self, name: str) -> int:
        return sum(getattr(link, name) for link in self._links)

    async def _settle(self) -> None:
        """Wait for the last acknowledgements."""
        for _ in range(round(SETTLE_S / 0.02)):
            if all(not link.unanswered for link in self._links):
                return
            await asyncio.sleep(0.02)

    def _result(self, stages: list[Stage], first: IngestFigures | None, last: IngestFigures | None) -> LoadResult:
        messages, sent, acked = sum(stage.due for stage in stages), self._count("sent"), self._count("acked")
        kept = [stage for stage in stages if not stage.limit]
        knee = max((stage.sent_rate for stage in kept), default=0.0)
        limit = next((stage.limit for stage in stages if stage.limit), "")
        stored = last.frames - first.frames if first is not None and last is not None else None
        result = LoadResult(
            stages=stages,
            knee=round(knee, 1),
            limit=limit,
            messages=messages,
            sent=sent,
            acked=acked,
            lost=messages - acked,
            refused=self._count("refused"),
            reconnects=self._count("reconnects"),
            stored=stored,
            bytes_per_message=round(self._count("bytes") / max(sent, 1), 1),
            forms=[],
            behind_ms=self._behind.summary(),
            acked_ms=self._acked.summary(),
        )
        seconds = sum(stage.seconds for stage in stages)
        figures: dict[str, float] = {
            **{name: getattr(result, name) for name in ("messages", "sent", "acked", "lost", "knee", "kept")},
            "stored": math.nan if stored is None else stored,
            "rate": sent / seconds if seconds else 0.0,
            "cpu": max((stage.cpu for stage in stages), default=0.0),
        }
        for name, tails in (("behind", result.behind_ms), ("acked", result.acked_ms)):
            figures |= {f"{name}_{tail}": value / 1e3 for tail, value in tails.items()}
        result.thresholds = [
            {"threshold": one.text, "value": None if math.isnan(figures[one.figure]) else figures[one.figure]}
            | {"ok": one.holds(figures)}
            for one in self._config.conditions
        ]
        return result


def judge(stage: Stage) -> str:
    """Say what kept a stage from its rate: ``broker``, ``ingest``, ``store`` or ``generator``; "" if it was kept."""
    late = stage.sent < KEPT * stage.due or stage.behind_ms["p99"] > LATE_MS
    if late:
        # What the broker did not take could not be sent. Otherwise it was the generator's own doing.
        waited = stage.held_back > 1 - KEPT and stage.cpu < BUSY
        return "broker" if waited or stage.held_back > 0.5 else "generator"  # noqa: PLR2004 - half of the time
    if stage.ingest_rate is not None and stage.ingest_seconds is not None:
        taken = stage.ingest_rate * stage.ingest_seconds
        if taken < KEPT * stage.sent_rate * (stage.ingest_seconds - APART_S):
            return "ingest"
    if stage.store_lag_s is not None and stage.store_lag_s > LAG_S:
        return "store"
    return ""


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

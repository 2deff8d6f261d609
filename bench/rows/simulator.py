"""The simulated port: how much faster than real time it is on one core, and what ten thousand devices weigh."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Final

import numpy as np

from bench.registry import Pair, Round, Row, Scale, group
from simulators import profiles, signals
from simulators.messages import PortMessages
from simulators.port.world import Port

NS: Final = 1_000_000_000
START_NS: Final = 1_764_000_000 * NS
LARGE: Final = "chuanshan"
STEP_S: Final = 60
EVENTS_STEP_S: Final = 600
LEAST_EVENTS: Final = 2_000.0
LEAST_MESSAGES: Final = 60.0
LEAST_SAMPLES: Final = 3e6
MOST_MB: Final = 500.0
WEIGH: Final = """
import json
from faults.resident import peak_mb
from simulators import profiles
from simulators.messages import PortMessages
source = PortMessages(profiles.load("stress"), 7, "CNNGB-DEMO", {start})
for _ in range({steps}):
    sent = source.advance(10 * {ns})
    source.truth()
print(json.dumps([len(source.devices), peak_mb()]))
"""


@group(
    Row("simulator_events", "× real time", "stated limit", f"{LARGE} in virtual time, events only", goal=1.0),
    Row("simulator_messages", "× real time", "stated limit", f"{LARGE} in virtual time, with every payload", goal=1.0),
    Row("simulator_signals", "samples/s", "stated limit", f"signals of the quay cranes of {LARGE}", goal=1.0),
)
def speed(scale: Scale) -> Iterator[Round]:
    """Let a large terminal run on one core: CPU time per time of the port; each round goes on where the last ended."""
    port = Port(profiles.load(LARGE), 7)
    at = port.open()
    source = PortMessages(profiles.load(LARGE), 7, "CNNGB-DEMO", START_NS)
    for _ in count():
        events_s, messages_s = scale.of(1_800, STEP_S), scale.of(300, STEP_S)
        started = time.process_time()
        at = _run(port, at, events_s)
        events = events_s / (time.process_time() - started)

        started = time.process_time()
        sent = 0
        for _ in range(messages_s // STEP_S):
            sent += len(source.advance(STEP_S * NS))
            source.truth()
        spent = time.process_time() - started

        yield {
            "simulator_events": Pair(events, LEAST_EVENTS),
            "simulator_messages": Pair(messages_s / spent, LEAST_MESSAGES, {"messages_per_s": sent / spent}),
            "simulator_signals": Pair(_samples_per_s(port, at), LEAST_SAMPLES),
        }


@group(
    Row(
        "simulator_rss_10k",
        "MB",
        "stated limit",
        "10,000 simulated devices: peak memory",
        goal=1.0,
        less_is_better=True,
    )
)
def weight(scale: Scale) -> Iterator[Round]:
    """Weigh the profile ``stress`` in a process of its own."""
    program = WEIGH.format(start=START_NS, ns=NS, steps=scale.of(6, 1))
    while True:
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        devices, megabytes = json.loads(done.stdout)
        assert devices >= 10_000, devices  # noqa: PLR2004 - what the row's name says
        yield {"simulator_rss_10k": Pair(megabytes, MOST_MB, {"devices": devices})}


def _run(port: Port, at: float, duration_s: int) -> float:
    """Let the port's events happen; returns the new present."""
    end = at + duration_s
    while at < end:
        at = min(end, at + EVENTS_STEP_S)
        port.advance(at)
        port.forget(at - STEP_S)
        port.truth.take(at)
    return at


def _samples_per_s(port: Port, at: float) -> float:
    """Sample the last minute of every quay crane at 100 Hz."""
    times = np.arange(at - STEP_S, at, 0.01)
    started = time.process_time()
    samples = 0
    for crane in port.quay_cranes:
        table = signals.rounded(signals.quay_crane(crane, times))
        samples += table.size
    return samples / (time.process_time() - started)

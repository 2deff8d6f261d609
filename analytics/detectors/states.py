"""How long states were held: a state holds from one sample until the next, in event time.

A device that goes silent is not taken to stay as it was for ever: after the longest hold its state is unknown until it
speaks again. Stretches are cut at whole minutes, so that figures of a state that lasts for hours come while it lasts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from devices.columns import Bools, Columns, Ints
from devices.times import NS
from devices.vocabulary import METRICS, TIMED

CUT: Final = 60 * NS
"""Stretches are cut at multiples of this, ns."""
NOTHING_DUE: Final = 2**63 - 1
"""A watermark that is never reached, ns UTC."""
IS_TIMED: Final[Bools] = np.array([metric.name in TIMED for metric in METRICS])
"""By metric index: whether it is a state whose durations are kept."""


@dataclass(frozen=True, slots=True)
class HoldRules:
    """How long a state is believed."""

    longest_ns: int = 300 * NS
    """After this long without a sample of it a state is unknown, ns, above 0 and up to an hour."""

    def __post_init__(self) -> None:
        """Refuse holds that would reach over more than the next hour."""
        if not 0 < self.longest_ns <= 3_600 * NS:
            msg = f"longest_ns {self.longest_ns}: expected above 0 and up to an hour"
            raise ValueError(msg)


class Held(msgspec.Struct, array_like=True):
    """A state under way; times ns UTC."""

    since: int
    """Where the stretch that is not told yet begins."""
    last: int
    """Its newest sample."""
    value: int
    began: int = -1
    """When the state began to be held; -1, written by releases that did not note it, for ``since``."""


class Stretch(NamedTuple):
    """Times from ``start`` to ``end``, ns UTC, within one minute, in which a device's state had a value."""

    device: int
    metric: str
    value: int
    start: int
    end: int
    began: int
    """Since when it has had it without a break, ns UTC, up to ``start``."""


class StateTimes:
    """Follows the states of devices."""

    def __init__(self, rules: HoldRules) -> None:
        """Start without knowing anything."""
        self._longest = rules.longest_ns
        self.held: dict[int, dict[str, Held]] = {}

    def push(self, samples: Columns) -> Iterator[Stretch]:
        """Take released samples of timed states, per device in time order, and yield the stretches that they end.

        No sample may lie before one of an earlier call.
        """
        names = [METRICS[index].name for index in samples.metric.tolist()]
        lines = zip(samples.device.tolist(), names, samples.ts.tolist(), samples.value.tolist(), strict=True)
        for device, metric, ts, value in lines:
            states = self.held.setdefault(device, {})
            held = states.get(metric)
            if held is None:
                states[metric] = Held(ts, ts, value, ts)
                continue
            same = held.value == value and ts - held.last <= self._longest
            end = ts - ts % CUT if same else ts
            if same and end <= held.since:
                held.last = ts
                continue
            yield from self._told(device, metric, held, end)
            states[metric] = Held(held.since, ts, value, held.began) if same else Held(ts, ts, value, ts)

    def holds(self, device: int, instant: int) -> bool:
        """Tell whether a state of a device lasts beyond an instant, ns UTC, if nothing more is heard of it."""
        return any(held.last + self._longest > instant for held in self.held.get(device, {}).values())

    def until(self, ts: Ints) -> Ints:
        """Return the watermarks from which states sampled at ``ts`` are unknown, without more samples; arrays (n,)."""
        return ts + (self._longest + 1)

    def due(self, device: int, watermark: int) -> int:
        """Return the next watermark at which :meth:`release` has more to tell if nothing more is heard, ns UTC."""
        over = [held.last + self._longest + 1 for held in self.held.get(device, {}).values()]
        return min(watermark - watermark % CUT + CUT, *over) if over else NOTHING_DUE

    def release(self, device: int, watermark: int) -> Iterator[Stretch]:
        """Yield the stretches of states still held that are over at ``watermark``, ns UTC."""
        states = self.held.get(device, {})
        for metric, held in list(states.items()):
            # A minute that is not over is told when it is.
            yield from self._told(device, metric, held, watermark - watermark % CUT)
            if watermark - held.last > self._longest:
                yield from self._told(device, metric, held, watermark)
                del states[metric]

    def _told(self, device: int, metric: str, held: Held, until: int) -> Iterator[Stretch]:
        """Yield a state's stretches up to ``until`` and note that they have been told."""
        end = min(until, held.last + self._longest)
        if held.began < 0:
            held.began = held.since
        while held.since < end:
            cut = min(end, held.since - held.since % CUT + CUT)
            yield Stretch(device, metric, held.value, held.since, cut, held.began)
            held.since = cut

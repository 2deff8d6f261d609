"""Rate profiles of a load run: how many messages are due by when, whatever becomes of them (an open model).

constant:5000        5,000 messages/s
soak:5000            the same, meant for hours
ramp:1000-20000      growing evenly
spike:2000x5         2,000/s, five times that in the middle fifth
step  step:2000      2,000/s, then half as many more with every step, until something breaks
"""

import math
import re
from dataclasses import dataclass
from typing import Final

from simulators.schedule import NS

STEP_FROM: Final = 2_000.0
STEP_GROWS: Final = 1.5
MOST: Final = 5_000_000.0
KINDS: Final = ("constant", "soak", "ramp", "spike", "step")
NUMBER: Final = r"(\d+(?:\.\d+)?)"
FORMS: Final = {
    "constant": re.compile(NUMBER),
    "soak": re.compile(NUMBER),
    "ramp": re.compile(f"{NUMBER}-{NUMBER}"),
    "spike": re.compile(f"{NUMBER}x{NUMBER}"),
    "step": re.compile(NUMBER),
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which the rate goes evenly from one value to another."""

    seconds: float
    begin: float
    """Messages/s."""
    end: float

    def due(self, at_s: float) -> float:
        """Return how many messages are due in the first ``at_s`` seconds."""
        at_s = min(max(at_s, 0.0), self.seconds)
        return at_s * (self.begin + (self.end - self.begin) * at_s / (2 * self.seconds))


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate profile; ``kind`` is one of ``KINDS``."""

    text: str
    kind: str
    first: float
    second: float

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Parse a profile; ValueError says what is allowed."""
        kind, _, numbers = text.partition(":")
        if kind == "step" and not numbers:
            numbers = f"{STEP_FROM:g}"
        found = FORMS[kind].fullmatch(numbers) if kind in FORMS else None
        if found is None:
            raise ValueError(
                f"rate = {text!r}: allowed are constant:5000, soak:5000, ramp:1000-20000, spike:2000x5, step, step:2000"
            )
        values = [float(each) for each in found.groups()]
        if not all(0 < each <= MOST for each in values):
            raise ValueError(f"rate = {text!r}: allowed are numbers above 0, up to {MOST:g}")
        return cls(text, kind, values[0], values[-1])

    def stretches(self, seconds: float) -> list[Stretch]:
        """Return the profile over so many seconds; a ``step`` has one stretch for each step, see :meth:`step`."""
        match self.kind:
            case "ramp":
                return [Stretch(seconds, self.first, self.second)]
            case "spike":
                calm = Stretch(0.4 * seconds, self.first, self.first)
                high = self.first * self.second
                return [calm, Stretch(0.2 * seconds, high, high), calm]
        return [Stretch(seconds, self.first, self.first)]

    def step(self, number: int, seconds: float) -> Stretch:
        """Return step ``number``, from 0."""
        rate = self.first * STEP_GROWS**number
        return Stretch(seconds, rate, rate)


def due_times(stretch: Stretch, started_ns: int, already: int, count: int) -> tuple[int, int]:
    """Return when messages ``already`` and ``already + count − 1`` of a stretch are due, ns UTC."""

    def at(nth: float) -> int:
        growth = (stretch.end - stretch.begin) / stretch.seconds
        if abs(growth) < 1e-9:  # noqa: PLR2004 - a rate that does not change
            return started_ns + round(nth / stretch.begin * NS)
        root = math.sqrt(max(stretch.begin**2 + 2 * growth * nth, 0.0))
        return started_ns + round((root - stretch.begin) / growth * NS)

    return at(already), at(already + count - 1)

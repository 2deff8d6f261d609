"""Thresholds: conditions on the figures of a run, such as ``lost==0`` or ``behind_p99<500ms``."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
UNITS: Final = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "%": 1e-2}
TIMES: Final = re.compile(r"elapsed_s|(behind|acked|e2e)_(p\d+|max)")
"""Figures that are durations, in s."""
FORM: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(==|!=|<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*(us|ms|s|m|%)?\s*")


class ThresholdError(ValueError):
    """A threshold that cannot be read; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition: ``figure operator value``; durations are compared in seconds."""

    text: str
    figure: str
    comparison: str
    value: float

    @classmethod
    def parse(cls, text: str, figures: frozenset[str]) -> "Threshold":
        """Parse ``text``; :class:`ThresholdError` where its form or its figure is not known."""
        found = FORM.fullmatch(text)
        if found is None:
            raise ThresholdError(
                f"threshold {text!r}: expected a figure, {' '.join(OPERATORS)} and a number, as lost==0"
            )
        figure, comparison, number, unit = found.groups()
        if figure not in figures:
            raise ThresholdError(f"threshold {text!r}: {figure!r} is no figure; allowed: {', '.join(sorted(figures))}")
        return cls(text, figure, comparison, float(number) * UNITS[unit or ""])

    def shown(self, value: float | None) -> str:
        """Return a figure that was met as a text: durations in ms, counts in full."""
        if value is None or math.isnan(value):
            return "not measured"
        if TIMES.match(self.figure):
            return f"{value:,.2f} s" if self.figure == "elapsed_s" else f"{1e3 * value:,.2f} ms"
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}" if abs(value) < 1 else f"{value:,.1f}"

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Whether the figures meet the condition."""
        return OPERATORS[self.comparison](figures[self.figure], self.value)

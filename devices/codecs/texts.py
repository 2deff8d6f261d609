"""What a text says where a number belongs: foreign formats write booleans and numbers as text."""

import math
import re
from typing import Final

from devices.vocabulary import Kind, Metric

JOB_STEPS: Final = (
    "none", "moving to collect", "queuing to collect", "ready to collect",
    "moving to deliver", "queuing to deliver", "ready to deliver",
)  # fmt: skip
"""Steps of a job (TIC 4.0, 2023.007) by their value of the metric ``job_step``."""
TRUE: Final = frozenset({"true", "yes", "on", "1"})
FALSE: Final = frozenset({"false", "no", "off", "0"})


def is_yes_or_no(metric: Metric) -> bool:
    """Return whether the metric is a state of which nothing is asked but whether it holds."""
    return metric.kind is Kind.STATE and metric.maximum == 1


def from_text(said: str, metric: Metric, *, boolean: bool) -> float | bool | None:
    """Return what a text without blanks around it says: nothing, a boolean, a number or a step of a job.

    ``boolean``: whether words such as ``yes`` say something. ValueError where it says nothing that the metric can be.
    """
    word = said.lower()
    if not word:
        return None
    if metric.name == "job_step":
        return _job_step(word)
    if boolean and (word in TRUE or word in FALSE):
        return word in TRUE
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{said[:40]!r}: expected a number or a boolean") from None


def number_of(said: str | float | None, metric: Metric) -> float:
    """Return a value, which may come as text, as a finite number; ValueError where it is none."""
    found = from_text(said.strip(), metric, boolean=is_yes_or_no(metric)) if isinstance(said, str) else said
    if found is None:
        raise ValueError("empty: expected a number or a boolean")
    if isinstance(said, str) and not math.isfinite(found):
        raise ValueError(f"{said[:40]!r} is not a finite number")
    return found


def _job_step(said: str) -> float:
    words = " ".join(re.split(r"[\s_-]+", said))
    if words in JOB_STEPS:
        return float(JOB_STEPS.index(words))
    try:
        return float(words)
    except ValueError:
        raise ValueError(f"{said[:40]!r}: expected one of {', '.join(JOB_STEPS)}") from None

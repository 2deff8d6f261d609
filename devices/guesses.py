"""Which metric a name of a device's own may mean: a guess for a person to confirm, never acted upon by itself."""

import difflib
import re
from functools import cache, lru_cache
from typing import Final, NamedTuple

from devices.codecs.units import FACTORS
from devices.vocabulary import BY_NAME, DeviceClass, Metric, accepted_from

MOST: Final = 3
LEAST: Final = 0.5
"""A guess that is less like the name than this (0 to 1) is none."""
ALIKE: Final = 0.75
"""Two words that are less like each other than this (0 to 1) are taken for different ones."""
LEAST_PREFIX: Final = 3
EMPTY_WORDS: Final = frozenset({"che", "status", "value", "actual", "current", "sensor", "tag", "plc", "total"})
"""Words that many names have and that tell nothing apart."""
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_UNITS: Final = {word: unit for unit, words in FACTORS.items() for word in words}


class Guess(NamedTuple):
    """A metric that a name may mean, and what its values would be multiplied by."""

    metric: str
    scale: float


@lru_cache(4_096)
def guesses(name: str, device_class: DeviceClass) -> tuple[Guess, ...]:
    """Return the metrics of a class that a name may mean, the likeliest first; none where nothing is alike."""
    words = _words(name)
    found = [(_likeness(words, BY_NAME[each]), each) for each in accepted_from(device_class)]
    likely = sorted((-score, each) for score, each in found if score >= LEAST)
    return tuple(Guess(each, _scale(words, BY_NAME[each])) for _, each in likely[:MOST])


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


@cache
def _words_of(metric: Metric) -> frozenset[str]:
    return frozenset(_words(metric.name) + _words(metric.tic)) - EMPTY_WORDS


def _likeness(words: list[str], metric: Metric) -> float:
    """Return how much of a name speaks of a metric, and how much of the metric it speaks of, 0 to 1."""
    telling = [word for word in words if word not in EMPTY_WORDS and word not in _UNITS]
    if not telling:
        return 0.0
    known = _words_of(metric)
    of_name = sum(max((_alike(word, each) for each in known), default=0.0) for word in telling) / len(telling)
    own = [word for word in _words(metric.name) if word not in _UNITS] or _words(metric.name)
    of_metric = sum(max(_alike(word, each) for word in telling) for each in own) / len(own)
    units = {_UNITS[word] for word in words if word in _UNITS}
    fits = not units or metric.unit in units or any(word in FACTORS.get(metric.unit, {}) for word in words)
    return (0.6 * of_name + 0.4 * of_metric) * (1.0 if fits else 0.6)


def _alike(one: str, other: str) -> float:
    if one == other:
        return 1.0
    if min(len(one), len(other)) >= LEAST_PREFIX and (one.startswith(other) or other.startswith(one)):
        return 0.9
    ratio = difflib.SequenceMatcher(None, one, other).ratio()
    return ratio if ratio >= ALIKE else 0.0


def _scale(words: list[str], metric: Metric) -> float:
    factors = FACTORS.get(metric.unit, {})
    return next((factors[word] for word in reversed(words) if word in factors), 1.0)

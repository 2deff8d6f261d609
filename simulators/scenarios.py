"""Scenarios: a port, what goes wrong in it, and what the figures must show; read from TOML.

A scenario changes a profile, declares faults of devices and networks, names spans of time, and states expectations of
figures, such as ``storm_moves == 0``. A missing or unknown key, an impossible number or a missing file is a
:class:`ScenarioError` that names the key, its value and what is allowed.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from simulators import profiles
from simulators.faults import AnyFault
from simulators.noise import LEVELS
from simulators.profiles import Profile, ProfileError, wrong_in
from simulators.thresholds import Threshold, ThresholdError

FOLDER: Final = Path(__file__).parent / "scenarios"
SPAN: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
FIGURES_OF_A_SPAN: Final = (
    "moves",
    "moves_per_hour",
    "teu",
    "cycle_mean_s",
    "cranes_working",
    "yard_moves",
    "passages_in",
    "passages_out",
    "queue_max",
    "queue_mean",
    "wind_max_mps",
    "alarms",
)
"""What is measured in the whole scenario and, as ``{span}_{figure}``, in each of its spans."""
FIGURES_OF_A_RUN: Final = (
    *(f"{kind}_{score}" for kind in ("moves", "yard_moves", "passages") for score in ("recall", "precision")),
    "true_moves",
    "true_passages",
    "lost",
    "duplicates",
    "merged_late",
    "quarantined",
)

Moment = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class ScenarioError(ProfileError):
    """A scenario that cannot be used; the message names the key, its value and what is allowed."""


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario as its file says it."""

    title: str
    what: str
    """What happens, and what the figures must show."""
    expect: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    profile: str = "small"
    seed: Annotated[int, msgspec.Meta(ge=0)] = 7
    hours: Annotated[float, msgspec.Meta(gt=0, le=168)] = 1.0
    noise: str = "none"
    spans: dict[str, tuple[Moment, Moment]] = {}
    """Name → from when to when, in s from the opening."""
    change: dict[str, Any] = {}
    """Sections of the profile with the keys that differ."""
    faults: tuple[AnyFault, ...] = ()


class Scenario(msgspec.Struct, frozen=True):
    """A scenario ready to be run."""

    name: str
    declared: Declared
    profile: Profile
    expectations: tuple[Threshold, ...]


def names() -> list[str]:
    """Return the scenarios that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """Return the scenario ``name`` that comes with the package, or the one in the TOML file of that path.

    Raises:
        ScenarioError: the file is absent or unreadable, or something in it cannot be used.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(names())
        raise ScenarioError(
            f"scenario {name!r}: {path} does not exist; allowed: {known}, or a path to a .toml"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"scenario {name!r}: {path} cannot be read: {error}") from error
    return parse(path.stem, tree)


def parse(name: str, tree: dict[str, Any]) -> Scenario:
    """Check a decoded TOML document; :class:`ScenarioError` names the key, its value and what is allowed."""
    try:
        declared = msgspec.convert(tree, Declared)
    except msgspec.ValidationError as error:
        raise ScenarioError(_sentence(name, tree, str(error))) from None
    if declared.noise not in LEVELS:
        raise ScenarioError(f"scenario {name!r}: noise = {declared.noise!r}: allowed are {', '.join(LEVELS)}")
    for span, (start, end) in declared.spans.items():
        if not SPAN.fullmatch(span) or not start < end <= declared.hours * 3600:
            allowed = f"a name of small letters and digits, and a start before an end within {declared.hours:g} h"
            raise ScenarioError(f"scenario {name!r}: spans.{span} = {[start, end]}: allowed is {allowed}")
    try:
        profile = changed(profiles.load(declared.profile), declared.change)
        expectations = tuple(Threshold.parse(text, figures_of(declared)) for text in declared.expect)
    except (ProfileError, ThresholdError) as error:
        raise ScenarioError(f"scenario {name!r}: {error}") from None
    return Scenario(name, declared, profile, expectations)


def changed(profile: Profile, change: Mapping[str, Any]) -> Profile:
    """Return a profile in which some keys differ; a section that it lacks must be complete."""
    tree: dict[str, Any] = msgspec.to_builtins(profile)
    for section, values in change.items():
        before = tree.get(section)
        tree[section] = before | values if isinstance(before, dict) and isinstance(values, dict) else values
    return profiles.parse(tree)


def figures_of(declared: Declared) -> frozenset[str]:
    """Return the figures about which a scenario may state expectations."""
    spans = [f"{span}_{figure}" for span in declared.spans for figure in FIGURES_OF_A_SPAN]
    return frozenset((*FIGURES_OF_A_SPAN, *FIGURES_OF_A_RUN, *spans))


def _sentence(name: str, tree: Any, message: str) -> str:  # noqa: ANN401 - whatever the file holds
    """Name the key and its value beside what the validator says of it."""
    wrong = wrong_in(tree, message)
    if not wrong.key:
        allowed = ", ".join(field.name for field in msgspec.structs.fields(Declared))
        return f"scenario {name!r}: {wrong.what}; allowed: {allowed}"
    return f"scenario {name!r}: {wrong}"

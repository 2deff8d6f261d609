"""Profiles: how big a simulated port is and how fast its machines are, read from TOML.

A profile file names every key; a missing or unknown key, an impossible number or a missing file is a
:class:`ProfileError` that names the key, its value and what is allowed.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

FOLDER: Final = Path(__file__).parent / "profiles"

Count = Annotated[int, msgspec.Meta(ge=0, le=9_999)]
Some = Annotated[int, msgspec.Meta(ge=1, le=9_999)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Span = tuple[Annotated[float, msgspec.Meta(ge=0, le=100_000)], Annotated[float, msgspec.Meta(ge=0, le=100_000)]]
CountSpan = tuple[Some, Some]


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the key, its value and what is allowed."""


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the local frame lies on the globe (WGS 84)."""

    origin_longitude_deg: Annotated[float, msgspec.Meta(ge=-180, le=180)]
    origin_latitude_deg: Annotated[float, msgspec.Meta(ge=-85, le=85)]
    x_bearing_deg: Annotated[float, msgspec.Meta(ge=0, lt=360)]
    """Compass bearing of +x; +y is 90° to its left."""


class Quay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The quay and its cranes. Speeds in m/s, laden and empty, accelerations in m/s²."""

    length_m: Positive
    cranes: Count
    outreach_m: Annotated[float, msgspec.Meta(ge=20, le=80)]
    lift_above_quay_m: Annotated[float, msgspec.Meta(ge=30, le=60)]
    hoist_laden_mps: Positive
    hoist_empty_mps: Positive
    hoist_acceleration_mps2: Positive
    trolley_mps: Positive
    trolley_acceleration_mps2: Positive
    gantry_mps: Positive
    ramp_s: Annotated[float, msgspec.Meta(ge=0, le=3)]
    """Time in which accelerations build up, s: the jerk is acceleration / ramp."""
    positioning_s: Span
    """Shortest and longest final approach of the spreader, s."""
    moves_per_bay: CountSpan
    twin_share: Share
    shift_share: Share
    relock_share: Share


class Containers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is moved; the three shares add up to 1."""

    share_20ft: Share
    share_40ft: Share
    share_45ft: Share
    gross_t: Span


class Yard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The yard blocks, each with one crane."""

    cranes: Count
    block_columns: Some
    block_length_m: Annotated[float, msgspec.Meta(ge=60, le=1_000)]
    rows: Annotated[int, msgspec.Meta(ge=1, le=12)]
    tiers: Annotated[int, msgspec.Meta(ge=1, le=8)]
    hoist_laden_mps: Positive
    hoist_empty_mps: Positive
    hoist_acceleration_mps2: Positive
    trolley_mps: Positive
    trolley_acceleration_mps2: Positive
    gantry_mps: Positive
    ramp_s: Annotated[float, msgspec.Meta(ge=0, le=3)]
    positioning_s: Span


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate lanes and their tag readers."""

    lanes_in: Some
    lanes_out: Some
    service_s: Span
    reads: CountSpan
    """Fewest and most raw tag reads of one passage."""
    reading_s: Span


class Trucks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Yard tractors and the road trucks that visit."""

    yard: Count
    external: Count
    yard_mps: Positive
    external_mps: Positive
    acceleration_mps2: Positive
    corner_mps: Positive
    away_s: Span
    depot_share: Share
    depot_s: Span


class Park(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sensors of the logistics park."""

    sensors: Count
    wind_mean_mps: Annotated[float, msgspec.Meta(ge=0, le=60)]
    temperature_mean_celsius: Annotated[float, msgspec.Meta(ge=-40, le=50)]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a simulated port is made from, beside the seed."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    site: Site
    quay: Quay
    containers: Containers
    yard: Yard
    gates: Gates
    trucks: Trucks
    park: Park


def load(name: str) -> Profile:
    """Return the profile ``name`` that comes with the package, or the one in the TOML file of that path.

    Raises:
        ProfileError: the file is absent or unreadable, a key is unknown or missing, or a number is impossible.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise ProfileError(f"profile {name!r}: {path} does not exist; allowed: {known}, or a path to a .toml") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"profile {name!r}: {path} cannot be read: {error}") from error
    return parse(tree)


def parse(tree: dict[str, Any]) -> Profile:
    """Check a decoded TOML document; :class:`ProfileError` names the key, its value and what is allowed."""
    try:
        profile = msgspec.convert(tree, Profile)
    except msgspec.ValidationError as error:
        raise ProfileError(_sentence(tree, str(error))) from None
    _check_spans(profile)
    _check_sums(profile)
    return profile


def _check_spans(profile: Profile) -> None:
    for section in ("quay", "containers", "yard", "gates", "trucks"):
        part = getattr(profile, section)
        for key in part.__struct_fields__:
            value = getattr(part, key)
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ProfileError(f"{section}.{key} = {list(value)}: the first must not exceed the second")


def _check_sums(profile: Profile) -> None:
    mix = profile.containers
    total = mix.share_20ft + mix.share_40ft + mix.share_45ft
    if abs(total - 1) > 1e-6:  # noqa: PLR2004 - rounding of decimal shares
        raise ProfileError(f"containers.share_20ft + share_40ft + share_45ft = {total:g}: allowed is 1")
    quay = profile.quay
    others = quay.twin_share + quay.shift_share + quay.relock_share
    if others > 0.9:  # noqa: PLR2004 - single lifts must remain
        raise ProfileError(f"quay.twin_share + shift_share + relock_share = {others:g}: allowed is at most 0.9")
    if quay.twin_share > mix.share_20ft:
        raise ProfileError(f"quay.twin_share = {quay.twin_share:g}: allowed is at most containers.share_20ft")
    if quay.cranes and quay.length_m / quay.cranes < 100:  # noqa: PLR2004 - a crane and its queue of trucks
        raise ProfileError(f"quay.cranes = {quay.cranes}: allowed is one for each 100 m of quay.length_m")
    if (quay.cranes or profile.trucks.external) and not profile.yard.cranes:
        raise ProfileError("yard.cranes = 0: allowed is 1 or more where quay cranes or external trucks work")
    if quay.cranes > profile.trucks.yard:
        raise ProfileError(f"trucks.yard = {profile.trucks.yard}: allowed is at least one for each of quay.cranes")


def _sentence(tree: dict[str, Any], message: str) -> str:
    """Name the key and its value: the validator's message has only the path, as ``… - at `$.quay.cranes```."""
    what, _, where = message.partition(" - at `$.")
    key = where.rstrip("`")
    value: Any = tree
    for part in key.replace("[", ".").replace("]", "").split(".") if key else ():
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{key}: {what}"
    if "unknown field" in what or "missing required field" in what:
        kind = Profile if not key else next(f.type for f in msgspec.structs.fields(Profile) if f.name == key)
        allowed = ", ".join(field.name for field in msgspec.structs.fields(kind))
        return f"[{key}] {what}; allowed: {allowed}" if key else f"{what}; allowed: {allowed}"
    return f"{key} = {value!r}: {what}"

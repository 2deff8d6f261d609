"""Profiles: how big a simulated port is and how fast its machines are, read from TOML.

A profile file names every key; a missing or unknown key, an impossible number or a missing file is a
:class:`ProfileError` that names the key, its value and what is allowed.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec

FOLDER: Final = Path(__file__).parent / "profiles"

Count = Annotated[int, msgspec.Meta(ge=0, le=9_999)]
Some = Annotated[int, msgspec.Meta(ge=1, le=9_999)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=100_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Span = tuple[Annotated[float, msgspec.Meta(ge=0, le=100_000)], Annotated[float, msgspec.Meta(ge=0, le=100_000)]]
CountSpan = tuple[Some, Some]
Moment = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Rate = Annotated[float, msgspec.Meta(ge=0.01, le=50)]


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
    doors: Count = 0
    """Dock doors of warehouses."""
    door_gap_s: Span = (600.0, 3600.0)
    """Shortest and longest time between two trucks at a door, s."""
    reefers: Count = 0
    """Refrigerated containers at their sockets."""


class Calls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Vessel calls; without them each quay crane works an endless sequence of bays."""

    berths: Some
    boxes: CountSpan
    """Fewest and most lifts of one call."""
    discharge_share: Share
    working_share: Share
    """Share of the berths with a ship at work when the port's time begins."""
    lashing_s: Span
    """First line to first lift, and last lift to last line, s."""
    gap_s: Span
    """Last line of a ship to the arrival of the next, s."""


class Stacks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the yard; without it a yard crane finds and sets down containers anywhere."""

    fill: Share
    import_dwell_h: Positive
    import_least_h: Positive
    export_dwell_h: Positive
    export_least_h: Positive
    """Mean and least stay of a container in the yard, h."""


class Arrivals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Road trucks by the hour of the week; without it each truck comes back after ``trucks.away_s``."""

    visits_per_hour: Positive
    """Mean over the week."""
    slots: bool
    """Whether visits are booked."""
    opening_hour: Annotated[float, msgspec.Meta(ge=0, lt=168)]
    """Hour of the week at which the port opens; 0 is Monday 00:00."""
    double_share: Share
    """Share of the visits that bring a container and fetch another."""


class Roads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Roads beyond the gate; without them road trucks wait before it."""

    reach_m: Annotated[float, msgspec.Meta(ge=500, le=100_000)]
    """Distance of the farthest homes, m."""
    rush_slowdown: Annotated[float, msgspec.Meta(ge=0, le=0.9)]
    """Share of the speed that is lost in the busiest hour."""


class Hindrances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What keeps cranes from working."""

    wind_stop_mps: Positive
    """Gust at the boom from which cranes stop, m/s."""
    mtbf_h: Positive
    """Mean time of work between two breakdowns of a crane, h."""
    repair_s: Span
    shift_hours: tuple[Annotated[float, msgspec.Meta(ge=0, lt=24)], ...]
    """Hours of the day at which shifts begin."""
    shift_pause_s: Span


class Tide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tide at the quay."""

    range_m: Annotated[float, msgspec.Meta(ge=0, le=15)]
    berthing_above_m: Annotated[float, msgspec.Meta(ge=-8, le=8)]
    """Level from which ships may berth, m from the mean."""


class Storm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A storm, in s after the warm-up."""

    from_s: Moment
    rise_s: Positive
    lasts_s: Positive
    peak_mps: Annotated[float, msgspec.Meta(gt=0, le=60)]
    """Mean wind at its height, m/s."""


class Planned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine or lane that is out of work for a time, in s after the warm-up."""

    device: str
    from_s: Moment
    lasts_s: Positive


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What devices speak and how often; samples per second."""

    quay_crane: Literal["native", "packed", "tic40", "tic40-flat", "sparkplug"] = "native"
    yard_crane: Literal["native", "packed", "tic40", "tic40-flat", "sparkplug"] = "native"
    gate: Literal["native", "impinj", "zebra"] = "native"
    truck: Literal["native", "tic40", "tic40-flat", "sparkplug"] = "native"
    external: Literal["native", "jt808"] = "native"
    quay_crane_hz: Rate = 5.0
    yard_crane_hz: Rate = 2.0
    truck_hz: Rate = 1.0
    external_hz: Rate = 1.0
    external_parked_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 0.0
    """How seldom a standing road truck reports, s; 0: as often as a moving one."""


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
    calls: Calls | None = None
    stacks: Stacks | None = None
    arrivals: Arrivals | None = None
    roads: Roads | None = None
    hindrances: Hindrances | None = None
    tide: Tide | None = None
    storm: Storm | None = None
    breakdowns: tuple[Planned, ...] = ()
    """Quay and yard cranes that fail at a given time."""
    blocked_lanes: tuple[Planned, ...] = ()
    """Gate lanes that are closed for a time."""
    wire: Wire = Wire()


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
    for section in Profile.__struct_fields__:
        part = getattr(profile, section)
        if not isinstance(part, msgspec.Struct):
            continue
        for key in part.__struct_fields__:
            value = getattr(part, key)
            if isinstance(value, tuple) and key != "shift_hours" and value[0] > value[1]:
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
    if quay.cranes and quay.length_m / quay.cranes < 70:  # noqa: PLR2004 - a crane and its clearance
        raise ProfileError(f"quay.cranes = {quay.cranes}: allowed is one for each 70 m of quay.length_m")
    if (quay.cranes or profile.trucks.external) and not profile.yard.cranes:
        raise ProfileError("yard.cranes = 0: allowed is 1 or more where quay cranes or external trucks work")
    _check_parts(profile)
    if quay.cranes > profile.trucks.yard:
        raise ProfileError(f"trucks.yard = {profile.trucks.yard}: allowed is at least one for each of quay.cranes")


def _check_parts(profile: Profile) -> None:
    """Check what sections ask of each other."""
    quay, calls, stacks = profile.quay, profile.calls, profile.stacks
    if calls and calls.berths > quay.cranes:
        raise ProfileError(f"calls.berths = {calls.berths}: allowed is at most quay.cranes = {quay.cranes}")
    if profile.roads and not profile.arrivals:
        raise ProfileError("roads: allowed only beside a section arrivals, whose trucks drive there")
    for flow in ("import", "export") if stacks else ():
        mean, least = getattr(stacks, f"{flow}_dwell_h"), getattr(stacks, f"{flow}_least_h")
        if mean <= least:
            raise ProfileError(f"stacks.{flow}_dwell_h = {mean:g}: allowed is above stacks.{flow}_least_h = {least:g}")
    yard = profile.yard
    cranes = {f"QC{n + 1:02d}" for n in range(quay.cranes)} | {f"YC{n + 1:02d}" for n in range(yard.cranes)}
    gates = profile.gates
    lanes = {f"GATE-IN-{n + 1}" for n in range(gates.lanes_in)} | {f"GATE-OUT-{n + 1}" for n in range(gates.lanes_out)}
    for key, known, like in (("breakdowns", cranes, "QC01 or YC01"), ("blocked_lanes", lanes, "GATE-IN-1")):
        for nth, planned in enumerate(getattr(profile, key)):
            if planned.device not in known:
                raise ProfileError(
                    f"{key}[{nth}].device = {planned.device!r}: allowed are those of the profile: {like}"
                )


class Wrong(NamedTuple):
    """What a validator has found wrong."""

    what: str
    key: str
    """Where, such as ``quay.cranes`` or ``breakdowns[1].device``; "" for the whole."""
    found: bool
    """Whether there is something."""
    value: Any
    """What is there."""

    def __str__(self) -> str:
        """Name the key, its value and what is wrong with it."""
        return f"{self.key} = {self.value!r}: {self.what}" if self.found else f"{self.key}: {self.what}"


def wrong_in(tree: Any, message: str) -> Wrong:  # noqa: ANN401 - whatever a file holds
    """Return what a validator's message means: it has only the path, as ``… - at `$.quay.cranes```."""
    what, _, where = message.partition(" - at `$.")
    key = where.rstrip("`")
    value = tree
    for part in key.replace("[", ".").replace("]", "").split(".") if key else ():
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return Wrong(what, key, found=False, value=None)
    return Wrong(what, key, found=True, value=value)


def _sentence(tree: dict[str, Any], message: str) -> str:
    wrong = wrong_in(tree, message)
    what, key = wrong.what, wrong.key
    if wrong.found and ("unknown field" in what or "missing required field" in what):
        allowed = ", ".join(field.name for field in msgspec.structs.fields(_kind_of(key)))
        return f"[{key}] {what}; allowed: {allowed}" if key else f"{what}; allowed: {allowed}"
    return str(wrong)


def _kind_of(key: str) -> Any:  # noqa: ANN401 - a type form
    """Return the structure that a section is checked against, such as that of ``quay`` or of ``breakdowns[1]``."""
    name = key.partition("[")[0]
    if not name:
        return Profile
    kind = next(field.type for field in msgspec.structs.fields(Profile) if field.name == name)
    return next((part for part in get_args(kind) if part is not type(None)), kind)

"""The words of TIC 4.0 and what they mean here: paths to metrics, machines to classes, texts to values.

A path names a subject, its parts, a concept and the observed property, such as ``che.spreader.locked.status``. The
vocabulary holds the path of each metric; here are further spellings in use. Names and shapes follow the published data
model (2024.010); what senders get wrong is known from messages that were seen.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from devices.codecs.tag_reads import epoch_ns
from devices.codecs.texts import from_text, is_yes_or_no
from devices.codecs.units import FACTORS, factor_of
from devices.times import parse_rfc3339
from devices.vocabulary import BY_NAME, METRICS, DeviceClass, Metric

QUAY, YARD, VEHICLE = DeviceClass.QUAY_CRANE, DeviceClass.YARD_CRANE, DeviceClass.VEHICLE
CLASSES: Final = {
    "STS": QUAY, "MC": QUAY, "MHC": QUAY, "QC": QUAY,
    "RTG": YARD, "RMG": YARD, "ASC": YARD, "ARMG": YARD, "ARTG": YARD,
    "TT": VEHICLE, "SC": VEHICLE, "RS": VEHICLE, "TH": VEHICLE, "ECH": VEHICLE, "AGV": VEHICLE,
}  # fmt: skip
"""Type of container handling equipment → class of device."""
SUBJECTS: Final = frozenset({"che", "hoist", "trolley", "spreader", "drive", "boom"})
"""Parts that are arrays in JSON and carry an array id in FLAT."""
MISSPELT: Final = {"destinantion": "destination", "lenght": "length"}
MEASURED_POINTS: Final = frozenset({"", "output", "internal_output", "ioutput"})
"""Points of measurement at which a value is what the machine did; at the others it is what it was told."""
MEASURED_TYPES: Final = frozenset({"", "actual", "performed"})
COORDINATE: Final = "che.location.coordinate"
LOGICAL: Final = "che.location.logical."
"""Block, row, bay and tier are names, however they are given."""
IDENTITIES: Final = ("id", "name", "code")
KINDS: Final = ("type", "chetype", "family", "kind")
ATTRIBUTES: Final = frozenset({*IDENTITIES, *KINDS, "reference", "description", "model", "maker", "manufacturer"})
"""Members that describe a subject and are no values."""
WGS84: Final = "wgs84"

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "control_on": ("che.control.on.status",),
    "hoist_height_m": ("che.hoist.hoisting.position", "che.hoist.height"),
    "hoist_speed_mps": ("che.hoist.speed",),
    "trolley_position_m": ("che.trolley.trolleying.distance", "che.trolley.trolleying.position", "che.trolley.reach"),
    "trolley_speed_mps": ("che.trolley.speed",),
    "gantry_position_m": ("che.drive.gantrying.position", "che.drive.gantrying.reach"),
    "load_t": ("che.hoist.weight.load", "che.hoist.load"),
    "boom_angle_deg": ("che.boom.angle", "che.boom.booming.angle"),
    "spreader_size_ft": ("che.spreader.size.length", "che.spreader.length"),
    "spreader_trim_deg": ("che.spreader.trim.value",),
    "spreader_list_deg": ("che.spreader.list.value",),
    "spreader_skew_deg": ("che.spreader.skew.value",),
    "speed_mps": ("che.drive.driving.speed",),
    "odometer_m": ("che.drive.driving.totaldistance", "che.drive.odometer"),
    "heading_deg": ("che.drive.heading",),
    "power_kw": ("che.energy.power.value",),
    "battery_percent": ("che.energy.battery.level", "che.battery.level"),
    "fuel_l": ("che.energy.fuel.level", "che.fuel.level"),
    "job_step": ("che.jobstep.status", "che.job.step.status"),
}
SIZES_FT: Final = {
    "che.spreader.size20foot.status": 20.0,
    "che.spreader.size40foot.status": 40.0,
    "che.spreader.size45foot.status": 45.0,
}
"""States of which one at most is true, and the size that it means, ft."""
UNIT_WORDS: Final = {
    "m": "meters", "m/s": "meters/second", "t": "ton", "deg": "degrees", "ft": "feet", "kW": "kilowatts",
    "s": "seconds", "kWh": "kilowatthours", "%": "percent", "L": "liters",
}  # fmt: skip
"""Unit of the vocabulary → the word that is written."""
WITHOUT_ZONE: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:[.,]\d{1,18})?", re.ASCII)


class Target(NamedTuple):
    """Where the values of a path go."""

    metric: Metric
    factors: Mapping[str, float]
    """Usual spellings of the units in which it comes → what a number is multiplied by."""
    when_true: float | None = None
    """The value that a true state stands for, where the path is one of several states."""

    @property
    def is_yes_or_no(self) -> bool:
        """Whether the metric is a state of which nothing is asked but whether it holds."""
        return is_yes_or_no(self.metric)


def _targets(device_class: DeviceClass) -> dict[str, Target]:
    found: dict[str, Target] = {}
    for metric in METRICS:
        if device_class not in metric.classes or metric.derived:
            continue
        for path in (metric.tic, *ALIASES.get(metric.name, ())):
            if path and path != COORDINATE:
                found.setdefault(path, Target(metric, {"": 1.0, **FACTORS.get(metric.unit, {})}))
    if "spreader_size_ft" in {target.metric.name for target in found.values()}:
        found |= {path: Target(BY_NAME["spreader_size_ft"], {}, size) for path, size in SIZES_FT.items()}
    return found


TARGETS: Final = {each: _targets(each) for each in (QUAY, YARD, VEHICLE)}
"""Class of device → path → metric."""
ANY_TARGETS: Final = {**TARGETS[VEHICLE], **TARGETS[YARD], **TARGETS[QUAY]}
"""The same of a machine that does not say what it is: a word is taken as that of a crane, else as that of a vehicle."""


@lru_cache(8_192)
def folded(name: str) -> str:
    """Return a name of a message as it is spelt in the paths: lower case, right letters."""
    name = name.strip().lower()
    return MISSPELT.get(name, name)


@lru_cache(4_096)
def time_of(stamp: str) -> tuple[int, bool]:
    """Return a time in ns UTC, and whether it names its zone, which else is UTC; ValueError if it is unreadable."""
    stamp = stamp.strip()
    if WITHOUT_ZONE.fullmatch(stamp):
        return parse_rfc3339(stamp + "Z"), False
    return parse_rfc3339(stamp), True


def instant(stamp: object) -> tuple[int, bool] | None:
    """Return what :func:`time_of` does for text and counts since 1970, None for an empty one."""
    if stamp is None or stamp == "":
        return None
    if isinstance(stamp, str):
        return time_of(stamp)
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return epoch_ns(stamp), True
    raise ValueError(f"{stamp!r:.40} is no time")


def value_of(said: object, unit: str, target: Target) -> float | bool | None:
    """Return a value in the metric's unit, None for an empty one; ValueError where it cannot be one."""
    if type(said) is float and target.when_true is None:
        number = said * _factor(unit, target.metric.unit)
        if math.isfinite(number):
            return number
    metric = target.metric
    boolean = target.is_yes_or_no or target.when_true is not None
    plain = from_text(said.strip(), metric, boolean=boolean) if isinstance(said, str) else said
    if plain is None:
        return None
    if not isinstance(plain, int | float):
        raise ValueError(f"{said!r:.40}: expected a number or a boolean")  # noqa: TRY004 - the one error of a value
    if target.when_true is not None:
        return target.when_true if plain else None
    if isinstance(plain, bool):
        if not target.is_yes_or_no:
            raise ValueError(f"{said!r:.40}: expected a number")
        return plain
    try:
        number = plain * _factor(unit, metric.unit)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{said!r:.40} is not a finite number")
    return number


@lru_cache(1_024)
def _factor(foreign: str, unit: str) -> float:
    return factor_of(foreign, unit)

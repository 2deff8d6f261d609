"""The one table of metrics: name, unit, resolution and range, per device class.

A value enters the system as a float in the unit that its name carries and is kept as the integer
``rint(value / resolution)``. Sums of such integers are exact, so they do not depend on the order of the samples.
``resolution`` and the range bound every scaled value to 2**36, and a window of one day at 1,000 samples a second holds
fewer than 2**27 of them: no sum can leave int64. Names follow TIC 4.0 where it has a word, SI units are in the name.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from devices.columns import Bools, Floats, Ints

MAX_SCALED: Final = 2**36
"""Largest magnitude of a scaled value that the vocabulary admits (dimensionless)."""


class DeviceClass(StrEnum):
    """The ``class`` level of a topic."""

    QUAY_CRANE = "quay-crane"
    YARD_CRANE = "yard-crane"
    RFID_GATE = "rfid-gate"
    VEHICLE = "vehicle"
    PARK_SENSOR = "park-sensor"


class Kind(StrEnum):
    """How the values of a metric behave, which decides how they may be reduced."""

    GAUGE = "gauge"
    STATE = "state"
    COUNTER = "counter"
    POSITION = "position"
    TALLY = "tally"


ALL: Final = frozenset(DeviceClass)
CRANES: Final = frozenset({DeviceClass.QUAY_CRANE, DeviceClass.YARD_CRANE})
QUAY: Final = frozenset({DeviceClass.QUAY_CRANE})
YARD: Final = frozenset({DeviceClass.YARD_CRANE})
GATE: Final = frozenset({DeviceClass.RFID_GATE})
VEHICLE: Final = frozenset({DeviceClass.VEHICLE})
SENSOR: Final = frozenset({DeviceClass.PARK_SENSOR})


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured or derived quantity.

    ``minimum`` and ``maximum`` are inclusive and in ``unit``; ``resolution`` is the smallest difference kept, in
    ``unit``. ``derived`` metrics are made by detectors and refused from devices. ``tic`` is the TIC 4.0 path where one
    exists. ``percentiles``: whether windows keep a histogram, which costs time and room for every sample.
    """

    name: str
    unit: str
    resolution: float
    minimum: float
    maximum: float
    kind: Kind
    classes: frozenset[DeviceClass]
    tic: str = ""
    derived: bool = False
    percentiles: bool = False

    def __post_init__(self) -> None:
        """Refuse a metric whose scaled values could overflow a sum."""
        if not self.minimum < self.maximum:
            msg = f"{self.name}: minimum {self.minimum} must be below maximum {self.maximum}"
            raise ValueError(msg)
        if max(abs(self.minimum), abs(self.maximum)) / self.resolution > MAX_SCALED:
            msg = f"{self.name}: range / resolution exceeds {MAX_SCALED}"
            raise ValueError(msg)


def _metrics() -> tuple[Metric, ...]:
    gauge, state, position, counter, tally = Kind.GAUGE, Kind.STATE, Kind.POSITION, Kind.COUNTER, Kind.TALLY
    mobile = VEHICLE | CRANES
    fifty_years_s = 1_600_000_000
    return (
        # Cranes
        Metric("hoist_height_m", "m", 0.001, -50, 100, gauge, CRANES, "che.hoist.hoisting.height"),
        Metric("hoist_speed_mps", "m/s", 0.001, -20, 20, gauge, CRANES, "che.hoist.hoisting.speed"),
        Metric("trolley_position_m", "m", 0.001, -100, 200, gauge, CRANES, "che.trolley.trolleying.reach"),
        Metric("trolley_speed_mps", "m/s", 0.001, -20, 20, gauge, CRANES, "che.trolley.trolleying.speed"),
        Metric("gantry_position_m", "m", 0.001, -100_000, 100_000, gauge, CRANES, "che.drive.gantrying.distance"),
        Metric("gantry_speed_mps", "m/s", 0.001, -20, 20, gauge, CRANES, "che.drive.gantrying.speed"),
        Metric("sway_m", "m", 0.001, -20, 20, gauge, CRANES),
        Metric("boom_angle_deg", "deg", 0.01, -10, 100, gauge, QUAY, "che.boom.luffing.angle"),
        Metric("load_t", "t", 0.001, -20, 500, gauge, CRANES, "che.hoist.weight.net", percentiles=True),
        Metric("gross_load_t", "t", 0.001, -20, 500, gauge, CRANES, "che.hoist.weight.gross"),
        Metric("spreader_locked", "1", 1, 0, 1, state, CRANES, "che.spreader.locked.status"),
        Metric("spreader_unlocked", "1", 1, 0, 1, state, CRANES, "che.spreader.unlocked.status"),
        Metric("spreader_landed", "1", 1, 0, 1, state, CRANES, "che.spreader.landed.status"),
        Metric("spreader_single", "1", 1, 0, 1, state, CRANES, "che.spreader.single.status"),
        Metric("spreader_tandem", "1", 1, 0, 1, state, CRANES, "che.spreader.tandem.status"),
        Metric("spreader_flippers_up", "1", 1, 0, 1, state, CRANES, "che.spreader.allflippersup.status"),
        Metric("spreader_trim_deg", "deg", 0.01, -45, 45, gauge, CRANES, "che.spreader.trim.angle"),
        Metric("spreader_list_deg", "deg", 0.01, -45, 45, gauge, CRANES, "che.spreader.list.angle"),
        Metric("spreader_skew_deg", "deg", 0.01, -45, 45, gauge, CRANES, "che.spreader.skew.angle"),
        Metric("spreader_sideshift_m", "m", 0.001, -5, 5, gauge, CRANES, "che.spreader.sideshift.distance"),
        Metric("spreader_size_ft", "ft", 1, 0, 60, state, CRANES, "che.spreader.size.status"),
        Metric("spreader_twin", "1", 1, 0, 1, state, CRANES, "che.spreader.twin.status"),
        Metric("power_kw", "kW", 0.01, -10_000, 10_000, gauge, CRANES | VEHICLE | SENSOR, "che.energy.power"),
        Metric("energy_kwh", "kWh", 0.01, 0, 100_000_000, counter, CRANES | VEHICLE | SENSOR, "che.energy.total"),
        Metric("hoist_current_a", "A", 0.1, -5_000, 5_000, gauge, CRANES),
        Metric("trolley_current_a", "A", 0.1, -5_000, 5_000, gauge, CRANES),
        Metric("gantry_current_a", "A", 0.1, -5_000, 5_000, gauge, CRANES),
        Metric("motor_temperature_celsius", "°C", 0.01, -100, 300, gauge, CRANES),
        Metric("control_on", "1", 1, 0, 1, state, CRANES, "che.on.status"),
        Metric("working", "1", 1, 0, 1, state, mobile, "che.working.status"),
        Metric("idle", "1", 1, 0, 1, state, mobile, "che.idle.status"),
        Metric("available", "1", 1, 0, 1, state, mobile, "che.available.status"),
        Metric("logged_on", "1", 1, 0, 1, state, mobile, "che.logged.status"),
        Metric("on_time_s", "s", 1, 0, fifty_years_s, counter, mobile, "che.on.totaltimer"),
        Metric("working_time_s", "s", 1, 0, fifty_years_s, counter, mobile, "che.working.totaltimer"),
        Metric("idle_time_s", "s", 1, 0, fifty_years_s, counter, mobile, "che.idle.totaltimer"),
        Metric("available_time_s", "s", 1, 0, fifty_years_s, counter, mobile, "che.available.totaltimer"),
        Metric("logged_time_s", "s", 1, 0, fifty_years_s, counter, mobile, "che.logged.totaltimer"),
        Metric("delivered_boxes", "1", 1, 0, 1_000_000_000, counter, mobile, "che.deliver.totalcounter"),
        Metric("moved_boxes", "1", 1, 0, 1_000_000_000, counter, mobile, "che.move.totalcounter"),
        Metric("wind_speed_mps", "m/s", 0.01, 0, 120, gauge, CRANES | SENSOR, "che.wind.speed", percentiles=True),
        # Anything with a position: local frame of the port (x along the quay, y inland) or WGS 84
        Metric("x_m", "m", 0.001, -1_000_000, 1_000_000, position, mobile),
        Metric("y_m", "m", 0.001, -1_000_000, 1_000_000, position, mobile),
        Metric("longitude_deg", "deg", 1e-7, -180, 180, position, mobile, "che.location.coordinate"),
        Metric("latitude_deg", "deg", 1e-7, -90, 90, position, mobile, "che.location.coordinate"),
        Metric("altitude_m", "m", 0.1, -500, 10_000, gauge, mobile),
        # Vehicles
        Metric("speed_mps", "m/s", 0.001, 0, 120, gauge, VEHICLE, "che.drive.speed", percentiles=True),
        Metric("heading_deg", "deg", 0.01, 0, 360, gauge, VEHICLE, "che.location.heading"),
        Metric("laden", "1", 1, 0, 1, state, VEHICLE),
        Metric("ignition_on", "1", 1, 0, 1, state, VEHICLE, "che.on.status"),
        Metric("odometer_m", "m", 0.1, 0, 5_000_000_000, counter, VEHICLE, "che.drive.totaldistance"),
        Metric("fuel_l", "L", 0.1, 0, 5_000, gauge, VEHICLE),
        Metric("satellites", "1", 1, 0, 64, state, VEHICLE),
        Metric("job_step", "1", 1, 0, 6, state, VEHICLE, "che.job.step"),
        # RFID gates
        Metric("rssi_dbm", "dBm", 0.01, -150, 20, gauge, GATE),
        Metric("phase_rad", "rad", 1e-5, -10, 10, gauge, GATE),
        Metric("frequency_mhz", "MHz", 0.001, 800, 1_000, gauge, GATE),
        Metric("transmit_power_dbm", "dBm", 0.01, -50, 50, gauge, GATE),
        Metric("antenna", "1", 1, 0, 64, state, GATE),
        Metric("queue_length", "1", 1, 0, 1_000, gauge, GATE, percentiles=True),
        Metric("barrier_open", "1", 1, 0, 1, state, GATE),
        # Park sensors
        Metric("temperature_celsius", "°C", 0.01, -100, 200, gauge, SENSOR | CRANES | GATE),
        Metric("humidity_percent", "%", 0.01, 0, 100, gauge, SENSOR),
        Metric("door_open", "1", 1, 0, 1, state, SENSOR),
        Metric("plugged_in", "1", 1, 0, 1, state, SENSOR),
        Metric("set_point_celsius", "°C", 0.01, -60, 60, gauge, SENSOR),
        Metric("supply_air_celsius", "°C", 0.01, -100, 100, gauge, SENSOR),
        Metric("return_air_celsius", "°C", 0.01, -100, 100, gauge, SENSOR),
        # Every device
        Metric("battery_percent", "%", 0.01, 0, 100, gauge, ALL),
        Metric("online", "1", 1, 0, 1, state, ALL, derived=True),
        Metric("commands", "1", 1, 0, 1, tally, ALL, derived=True),
        Metric("device_events", "1", 1, 0, 1, tally, ALL, derived=True),
        # Made by detectors
        Metric("reads", "1", 1, 0, 1, tally, GATE, derived=True),
        Metric("moves", "1", 1, 0, 1, tally, QUAY, derived=True),
        Metric("teu", "TEU", 0.01, 0, 20, tally, QUAY, derived=True),
        Metric("cycle_s", "s", 0.001, 0, 86_400, gauge, QUAY, derived=True, percentiles=True),
        Metric("yard_moves", "1", 1, 0, 1, tally, YARD, derived=True),
        Metric("passages_in", "1", 1, 0, 1, tally, GATE, derived=True),
        Metric("passages_out", "1", 1, 0, 1, tally, GATE, derived=True),
    )


_STATES: Final[dict[str, tuple[int, ...]]] = {"spreader_size_ft": (20, 40, 45), "job_step": (0, 1, 2, 3, 4, 5, 6)}
"""States of more than two values → those whose durations are kept."""


def time_in(state: str, value: int) -> str:
    """Return the name of the metric that says how many seconds a state had a value."""
    return f"{state}_{value}_s"


def _durations(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """Return a metric for each value of each state that devices report."""
    states = [metric for metric in metrics if metric.kind is Kind.STATE and not metric.derived]
    values = {metric.name: _STATES.get(metric.name, (0, 1) if metric.maximum == 1 else ()) for metric in states}
    return tuple(
        Metric(time_in(state.name, value), "s", 0.001, 0, 10, Kind.TALLY, state.classes, derived=True)
        for state in states
        for value in values[state.name]
    )


METRICS: Final[tuple[Metric, ...]] = (*_metrics(), *_durations(_metrics()))
"""Every metric; the position in this tuple is the metric's index in :class:`devices.columns.Columns`."""

TIMED: Final = frozenset(
    metric.name for metric in METRICS if metric.kind is Kind.STATE and (metric.maximum == 1 or metric.name in _STATES)
) - {"online"}
"""States whose durations are kept."""
BY_NAME: Final[dict[str, Metric]] = {metric.name: metric for metric in METRICS}
PERCENTILED: Final = frozenset(metric.name for metric in METRICS if metric.percentiles)
"""Metrics of which percentiles are answered."""
INDEX: Final[dict[str, int]] = {metric.name: index for index, metric in enumerate(METRICS)}

MINIMUM: Final[Floats] = np.array([metric.minimum for metric in METRICS])
MAXIMUM: Final[Floats] = np.array([metric.maximum for metric in METRICS])
RESOLUTION: Final[Floats] = np.array([metric.resolution for metric in METRICS])
SCALE: Final[Floats] = np.array([round(1 / metric.resolution) for metric in METRICS], dtype=np.float64)
"""``1 / resolution``: a whole number, so that scaling back is exact to the last bit of the quotient."""

HAS_PERCENTILES: Final[Bools] = np.array([metric.percentiles for metric in METRICS])


def accepted_from(device_class: str) -> dict[str, int]:
    """Return name → metric index for what a device of ``device_class`` may publish."""
    return {
        metric.name: index
        for index, metric in enumerate(METRICS)
        if not metric.derived and device_class in metric.classes
    }


def scaled(metric: Ints, value: Floats) -> Ints:
    """Turn floats in the metric's unit into exact integers.

    ``metric`` (n,) metric indices, ``value`` (n,) finite values within range; returns (n,) int64 in resolutions.
    """
    return np.rint(value * SCALE[metric]).astype(np.int64)


def unscaled(metric: Ints, value: Ints) -> Floats:
    """Turn scaled integers back into floats in the metric's unit; shapes as in :func:`scaled`."""
    return np.asarray(value / SCALE[metric], dtype=np.float64)

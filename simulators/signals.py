"""What the sensors of each device show: signals sampled from the port's motions, whole arrays at a time.

Every function is handed a machine and sample times (n,) in s of the port's time and returns name → values (n,). The
names are those of ``devices.vocabulary``; values are rounded to the vocabulary's resolution, as instruments do.
"""

import math
from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import Final

import numpy as np

from devices.columns import Floats
from devices.vocabulary import INDEX, SCALE
from simulators.noise import Noise
from simulators.port.cranes import SWAY_S, Crane
from simulators.port.gate import Gate
from simulators.port.layout import Projection
from simulators.port.quay import QuayCrane
from simulators.port.vehicles import Truck
from simulators.port.weather import WIND_AT_BOOM, Weather
from simulators.port.yard import YardCrane

Signals = Mapping[str, Floats]


class Channel(IntEnum):
    """Streams of the noise of one device; north follows east."""

    LOAD = 0
    HOIST = 1
    TROLLEY = 2
    SWAY = 3
    CURRENT = 4
    BOUNCE = 5
    WIND = 6
    MULTIPATH = 7
    DROPOUT = 8
    SATELLITES = 9
    EAST = 10
    NORTH = 11
    EAST_JITTER = 12
    NORTH_JITTER = 13
    EAST_JUMP = 14
    NORTH_JUMP = 15


GRAVITY_MPS2: Final = 9.81
EFFICIENCY: Final = 0.85
"""Of hoist drives, from the electric side to the rope, and back when the load is lowered."""
SPREADER_T: Final = 12.0
"""Weight of a spreader with its head block, t."""
TROLLEY_KW_PER_MPS: Final = 45.0
GANTRY_KW_PER_MPS: Final = 250.0
IDLE_KW: Final = 35.0
STANDING_MPS: Final = 0.05
CREEP_MPS: Final = 0.005
HOIST_A_PER_KN: Final = 0.9
TROLLEY_A_PER_MPS2: Final = 160.0
TROLLEY_A_PER_MPS: Final = 12.0
GANTRY_A_PER_MPS2: Final = 700.0
GANTRY_A_PER_MPS: Final = 260.0
"""Motor currents per force, acceleration and speed, of drives of about 600 A (hoist) and 150 A (trolley)."""
PENDULUM_PER_S: Final = 0.72
"""ω = √(g / rope length) at 19 m of rope: a swing of 8.7 s."""
DAMPING: Final = 0.15
SWAY_LEFT: Final = 0.15
"""What sway control leaves of the free swing."""
HEAT_S: Final = 900.0
"""Time constant of a motor, s."""
HEAT_PER_A2: Final = 1.6e-4
"""Temperature above the air per squared current in the long run, K/A²."""
BOUNCE_S: Final = (0.25, 0.65)
"""From when to when after a transition a bouncing twistlock shows the old state, s."""
WANDER_S: Final = 40.0
MULTIPATH_S: Final = 30.0
DROPOUT_S: Final = 20.0


class Meter:
    """What a crane has used up to now and how warm its hoist motors are; read at one rate, in order of time."""

    def __init__(self, period_s: float, used_kwh: float, temperature_celsius: float) -> None:
        """Begin with ``used_kwh`` on the meter; ``period_s`` is the time between two readings, s."""
        self._period_s = period_s
        self._kwh = used_kwh
        self._warmth = temperature_celsius

    def read(self, power_kw: Floats, current_a: Floats, air_celsius: Floats) -> dict[str, Floats]:
        """Return the meter and the temperature after each of the next readings, all (n,)."""
        share = self._period_s / HEAT_S
        energy, warmth = np.empty(len(power_kw)), np.empty(len(power_kw))
        inputs = zip(power_kw.tolist(), current_a.tolist(), air_celsius.tolist(), strict=True)
        for nth, (power, current, air) in enumerate(inputs):
            self._kwh += max(0.0, power) * self._period_s / 3600
            self._warmth += share * (air + HEAT_PER_A2 * current * current - self._warmth)
            energy[nth], warmth[nth] = self._kwh, self._warmth
        return {"energy_kwh": energy, "motor_temperature_celsius": warmth}


def quay_crane(crane: QuayCrane, times: Floats, noise: Noise | None = None) -> Signals:
    """Sample the fast signals of a quay crane; the trolley is positive over the ship."""
    return _noisy_crane(_crane(crane, times), crane, times, noise)


def quay_crane_slow(
    crane: QuayCrane, weather: Weather, meter: Meter, times: Floats, noise: Noise | None = None
) -> Signals:
    """Sample what changes slowly: where the crane stands, what it has used, and the wind at its boom."""
    gantry = {**_gantry(crane, times), "wind_speed_mps": weather.wind_mps(times, WIND_AT_BOOM)}
    if noise is not None:
        _add(gantry, "wind_speed_mps", noise.level.wind_mps * noise.normal(Channel.WIND, times), least=0.0)
    fast = _crane(crane, times)
    return {**gantry, **meter.read(fast["power_kw"], fast["hoist_current_a"], weather.temperature_celsius(times))}


def yard_crane(crane: YardCrane, times: Floats, noise: Noise | None = None) -> Signals:
    """Sample the signals of a yard crane; the trolley is 0 over the truck lane and positive over the stacks."""
    fast = _noisy_crane(_crane(crane, times), crane, times, noise)
    return {**fast, **_gantry(crane, times), "y_m": np.full(len(times), crane.block.middle_y)}


def truck(vehicle: Truck, projection: Projection, times: Floats, noise: Noise | None = None) -> Signals:
    """Sample position, motion and state of a truck; NaN stands for what its receiver does not know."""
    x, y, speed, heading, odometer = vehicle.track.sample(times)
    values: dict[str, Floats] = {}
    if noise is not None:
        x, y, satellites = _gnss(x, y, times, noise)
        values["satellites"] = satellites
    if vehicle.has_steps:
        values["job_step"] = vehicle.step.sample(times)
    longitude, latitude = projection.degrees(x, y)
    return {
        **values,
        "x_m": x,
        "y_m": y,
        "longitude_deg": longitude,
        "latitude_deg": latitude,
        "speed_mps": np.where(speed < STANDING_MPS, 0.0, speed),
        "heading_deg": projection.compass(heading),
        "laden": vehicle.laden.sample(times),
        "odometer_m": odometer,
    }


def gate_lane(gate: Gate, times: Floats) -> Signals:
    """Sample the line before a gate lane and its barrier."""
    return {"queue_length": gate.line.length.sample(times), "barrier_open": gate.barrier.sample(times)}


def park_sensor(weather: Weather, number: int, times: Floats) -> Signals:
    """Sample weather station ``number`` (from 0); stations stand apart, so each sees the air a little later."""
    delayed = times - 7.0 * number
    return {
        "wind_speed_mps": weather.wind_mps(delayed),
        "temperature_celsius": weather.temperature_celsius(delayed),
        "humidity_percent": weather.humidity_percent(delayed),
    }


def rounded(signals: Signals) -> Floats:
    """Return samples rounded to the vocabulary's resolution as a table, one row per instant; shape (n, names).

    NaN stays.
    """
    names = tuple(signals)
    scale = _scale_of(names)
    return np.asarray(np.rint(np.stack([signals[name] for name in names], axis=1) * scale) / scale)


@cache
def _scale_of(names: tuple[str, ...]) -> Floats:
    return SCALE[[INDEX[name] for name in names]]


def _crane(crane: Crane, times: Floats) -> dict[str, Floats]:
    height, hoisting = crane.hoist.sample(times)
    trolley, trolleying = crane.trolley.sample(times)
    _, travelling = crane.gantry.sample(times)
    load = crane.load.sample(times)
    hanging = load + SPREADER_T
    lift = hanging * GRAVITY_MPS2 * hoisting
    lifting = hanging * (GRAVITY_MPS2 + crane.hoist.acceleration(times))
    landed = crane.landed.sample(times)
    return {
        "hoist_height_m": height,
        "hoist_speed_mps": hoisting,
        "trolley_position_m": trolley,
        "trolley_speed_mps": trolleying,
        "sway_m": np.where(landed > 0, 0.0, _sway(crane, times)),
        "load_t": load,
        "spreader_locked": crane.locked.sample(times),
        "spreader_landed": landed,
        "spreader_size_ft": crane.size_ft.sample(times),
        "spreader_twin": crane.twin.sample(times),
        # A standing hoist hangs in its brakes: its motors carry current only while it moves.
        "hoist_current_a": np.where(np.abs(hoisting) > CREEP_MPS, HOIST_A_PER_KN * lifting, 0.0),
        "trolley_current_a": TROLLEY_A_PER_MPS2 * crane.trolley.acceleration(times) + TROLLEY_A_PER_MPS * trolleying,
        "power_kw": IDLE_KW
        + np.where(lift > 0, lift / EFFICIENCY, lift * EFFICIENCY)
        + TROLLEY_KW_PER_MPS * np.abs(trolleying)
        + GANTRY_KW_PER_MPS * np.abs(travelling),
    }


def _gantry(crane: Crane, times: Floats) -> dict[str, Floats]:
    gantry, travelling = crane.gantry.sample(times)
    current = GANTRY_A_PER_MPS2 * crane.gantry.acceleration(times) + GANTRY_A_PER_MPS * travelling
    return {"gantry_position_m": gantry, "gantry_speed_mps": travelling, "gantry_current_a": current, "x_m": gantry}


def _sway(crane: Crane, times: Floats) -> Floats:
    """Return how far the spreader hangs behind (−) or ahead (+) of the trolley, m.

    A damped pendulum below a trolley of acceleration a: s'' + 2ζω s' + ω² s = −a. The answer to the steps of a is known
    in closed form, and those older than ``SWAY_S`` have died away. Sway control leaves a part of it.
    """
    damped = PENDULUM_PER_S * math.sqrt(1 - DAMPING**2)
    swing = np.zeros(len(times))
    if len(times):
        for at, change in crane.trolley.jolts(float(times[0]) - SWAY_S - 1.0, float(times[-1])):
            since = times - at
            answer = np.exp(-DAMPING * PENDULUM_PER_S * since) * (
                np.cos(damped * since) + DAMPING * PENDULUM_PER_S / damped * np.sin(damped * since)
            )
            # Added one after another, zeros included: the last bit must not depend on the times asked for.
            swing += np.where((since >= 0) & (since < SWAY_S), change * answer, 0.0)
    return np.asarray(SWAY_LEFT * (swing - crane.trolley.pushed(times)) / PENDULUM_PER_S**2)


def _noisy_crane(values: dict[str, Floats], crane: Crane, times: Floats, noise: Noise | None) -> dict[str, Floats]:
    if noise is None:
        return values
    level = noise.level
    _add(values, "load_t", level.load_t * noise.normal(Channel.LOAD, times))
    _add(values, "hoist_height_m", level.position_m * noise.normal(Channel.HOIST, times))
    _add(values, "trolley_position_m", level.position_m * noise.normal(Channel.TROLLEY, times))
    _add(values, "sway_m", level.position_m * noise.normal(Channel.SWAY, times))
    _add(values, "hoist_current_a", level.current_a * noise.normal(Channel.CURRENT, times))
    if level.bounce_share:
        moments = np.array(crane.locked.changes()[0][1:])
        for moment in moments[noise.uniform(Channel.BOUNCE, moments) < level.bounce_share].tolist():
            bouncing = (times >= moment + BOUNCE_S[0]) & (times < moment + BOUNCE_S[1])
            values["spreader_locked"] = np.where(bouncing, 1 - values["spreader_locked"], values["spreader_locked"])
    return values


def _gnss(x: Floats, y: Floats, times: Floats, noise: Noise) -> tuple[Floats, Floats, Floats]:
    """Return x, y (m) as a receiver sees them and the satellites it uses; NaN where it has no fix."""
    level = noise.level
    reflected = noise.spells(Channel.MULTIPATH, times, MULTIPATH_S, level.multipath_share)
    lost = noise.spells(Channel.DROPOUT, times, DROPOUT_S, level.dropout_share)
    seen = []
    for axis, at in enumerate((x, y)):
        wander = level.gnss_m * noise.wander(Channel.EAST + axis, times, WANDER_S)
        jitter = level.gnss_jitter_m * noise.normal(Channel.EAST_JITTER + axis, times)
        jump = level.multipath_m * noise.wander(Channel.EAST_JUMP + axis, times, MULTIPATH_S / 3)
        seen.append(np.where(lost, np.nan, at + wander + jitter + np.where(reflected, jump, 0.0)))
    satellites = np.rint(14 + 2 * noise.wander(Channel.SATELLITES, times, 60.0)) - 6 * reflected
    return seen[0], seen[1], np.where(lost, 0.0, np.clip(satellites, 4, 24))


def _add(values: dict[str, Floats], name: str, error: Floats, least: float = -np.inf) -> None:
    values[name] = np.maximum(values[name] + error, least)

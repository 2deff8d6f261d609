"""What the sensors of each device show: signals sampled from the port's motions, whole arrays at a time.

Every function is handed a machine and sample times (n,) in s of the port's time and returns name → values (n,). The
names are those of ``devices.vocabulary``; values are rounded to the vocabulary's resolution, as instruments do.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from devices.columns import Floats
from devices.vocabulary import INDEX, SCALE
from simulators.port.cranes import Crane
from simulators.port.gate import Gate
from simulators.port.layout import Projection
from simulators.port.quay import QuayCrane
from simulators.port.vehicles import Truck
from simulators.port.weather import Weather
from simulators.port.yard import YardCrane

Signals = Mapping[str, Floats]

GRAVITY_MPS2: Final = 9.81
EFFICIENCY: Final = 0.85
"""Of hoist drives, from the electric side to the rope, and back when the load is lowered."""
SPREADER_T: Final = 12.0
"""Weight of a spreader with its head block, t."""
TROLLEY_KW_PER_MPS: Final = 45.0
GANTRY_KW_PER_MPS: Final = 250.0
IDLE_KW: Final = 35.0
WIND_AT_BOOM: Final = 1.3
"""Wind at the height of a quay crane's boom over wind at 10 m (dimensionless)."""
STANDING_MPS: Final = 0.05


def quay_crane(crane: QuayCrane, times: Floats) -> Signals:
    """Sample the fast signals of a quay crane; the trolley is positive over the ship."""
    return _crane(crane, times)


def quay_crane_slow(crane: QuayCrane, weather: Weather, times: Floats) -> Signals:
    """Sample what changes slowly: where the crane stands and the wind at its boom."""
    gantry = crane.gantry.sample(times)[0]
    return {"gantry_position_m": gantry, "x_m": gantry, "wind_speed_mps": weather.wind_mps(times, WIND_AT_BOOM)}


def yard_crane(crane: YardCrane, times: Floats) -> Signals:
    """Sample the signals of a yard crane; the trolley is 0 over the truck lane and positive over the stacks."""
    gantry = crane.gantry.sample(times)[0]
    return {
        **_crane(crane, times),
        "gantry_position_m": gantry,
        "x_m": gantry,
        "y_m": np.full(len(times), crane.block.middle_y),
    }


def truck(vehicle: Truck, projection: Projection, times: Floats) -> Signals:
    """Sample position, motion and state of a truck."""
    x, y, speed, heading, odometer = vehicle.track.sample(times)
    longitude, latitude = projection.degrees(x, y)
    return {
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


def rounded(signals: Signals) -> dict[str, list[float]]:
    """Round to the vocabulary's resolution and turn into Python numbers."""
    values: dict[str, list[float]] = {}
    for name, samples in signals.items():
        scale = SCALE[INDEX[name]]
        values[name] = (np.rint(samples * scale) / scale).tolist()
    return values


def _crane(crane: Crane, times: Floats) -> dict[str, Floats]:
    height, hoisting = crane.hoist.sample(times)
    trolley, trolleying = crane.trolley.sample(times)
    _, travelling = crane.gantry.sample(times)
    load = crane.load.sample(times)
    lift = (load + SPREADER_T) * GRAVITY_MPS2 * hoisting
    return {
        "hoist_height_m": height,
        "trolley_position_m": trolley,
        "load_t": load,
        "spreader_locked": crane.locked.sample(times),
        "spreader_landed": crane.landed.sample(times),
        "spreader_size_ft": crane.size_ft.sample(times),
        "spreader_twin": crane.twin.sample(times),
        "power_kw": IDLE_KW
        + np.where(lift > 0, lift / EFFICIENCY, lift * EFFICIENCY)
        + TROLLEY_KW_PER_MPS * np.abs(trolleying)
        + GANTRY_KW_PER_MPS * np.abs(travelling),
    }

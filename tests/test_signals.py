"""Signals of the simulated machines: bounded jerk, a spreader that swings, meters that only rise, and their noise."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.columns import Floats
from devices.times import NS
from simulators import profiles, signals
from simulators.messages import PortMessages
from simulators.noise import LEVELS, Noise, noise_of
from simulators.port.gate import Read
from simulators.port.layout import Projection
from simulators.port.motion import Axis
from simulators.port.world import Port
from simulators.readers import reported

SMALL = profiles.load("small")
START_NS = 1_764_000_000 * NS
HEAVY = LEVELS["heavy"] or pytest.fail("heavy is a level")


@pytest.fixture(scope="module")
def port() -> Port:
    made = Port(SMALL, 7)
    made.advance(made.open() + 1800)
    return made


def times_of(port: Port, hertz: float = 10.0) -> Floats:
    return np.asarray(np.arange(port.agenda.now - 1700, port.agenda.now - 100, 1 / hertz))


@given(
    st.lists(st.floats(-40, 40), min_size=1, max_size=6),
    st.floats(0.1, 2.0),
    st.floats(0.3, 4.0),
    st.floats(0.2, 1.5),
)
def test_a_ramp_bounds_the_jerk_and_changes_neither_goals_nor_speeds(
    goals: list[float], ramp: float, speed: float, acceleration: float
) -> None:
    smooth, abrupt = Axis(1.0, ramp), Axis(1.0)
    at, end = 10.0, 10.0
    for goal in goals:
        at = abrupt.move(at, goal, speed, acceleration)
        end = smooth.move(end, goal, speed, acceleration)
    step = 0.02
    times = np.arange(9.0, end + 2, step)
    position, velocity = smooth.sample(times)
    assert position[-1] == pytest.approx(goals[-1], abs=1e-5)
    assert np.abs(velocity).max() <= speed + 1e-6
    assert np.abs(np.diff(position) / step - velocity[1:]).max() <= acceleration * step
    rate = smooth.acceleration(times)
    assert np.abs(rate).max() <= acceleration + 1e-6
    # Two pieces may meet within one ramp, so the acceleration may go from one end to the other.
    assert np.abs(np.diff(rate)).max() / step <= 2 * acceleration / ramp + 1e-6


def test_a_crane_keeps_its_jerk(port: Port) -> None:
    quay = SMALL.quay
    for crane in port.quay_cranes:
        for axis, limit in (
            (crane.hoist, quay.hoist_acceleration_mps2),
            (crane.trolley, quay.trolley_acceleration_mps2),
        ):
            rate = axis.acceleration(times_of(port, 50.0))
            assert np.abs(np.diff(rate)).max() * 50 <= 2 * limit / quay.ramp_s + 1e-6
            assert rate.max() > 0.9 * limit


def test_the_spreader_swings_against_the_trolley_and_comes_to_rest(port: Port) -> None:
    times = times_of(port)
    for crane in port.quay_cranes:
        values = signals.quay_crane(crane, times)
        sway = values["sway_m"]
        assert 0.1 < np.abs(sway).max() < 1.0
        starting = (crane.trolley.acceleration(times) > 0.3) & (np.abs(values["trolley_speed_mps"]) < 1.0)
        if starting.any():
            assert sway[starting].mean() < 0  # hangs behind a trolley that starts
        assert not sway[values["spreader_landed"] > 0].any()
        assert np.abs(sway).mean() < 0.1


def test_sway_does_not_depend_on_how_the_time_is_cut(port: Port) -> None:
    crane = port.quay_cranes[0]
    times = times_of(port)[:600]
    whole = signals.quay_crane(crane, times)
    for name in whole:
        parts = [signals.quay_crane(crane, times[at : at + 7])[name] for at in range(0, len(times), 7)]
        assert np.array_equal(np.concatenate(parts), whole[name]), name


def test_the_current_lifts_the_load(port: Port) -> None:
    times = times_of(port)
    for crane in port.quay_cranes:
        values = signals.quay_crane(crane, times)
        up = (values["hoist_speed_mps"] > 0.5) & (values["load_t"] > 10)
        empty = (values["hoist_speed_mps"] > 0.5) & (values["load_t"] < 1)
        assert values["hoist_current_a"][up].mean() > 1.5 * values["hoist_current_a"][empty].mean() > 0
        standing = np.abs(values["hoist_speed_mps"]) < 1e-6
        assert not values["hoist_current_a"][standing].any()
        assert np.abs(values["hoist_current_a"]).max() < 900


def test_a_meter_only_rises_and_agrees_with_the_power(port: Port) -> None:
    times = times_of(port, 1.0)
    crane = port.quay_cranes[0]
    slow = signals.quay_crane_slow(crane, port.weather, signals.Meter(1.0, 1000.0, 45.0), times)
    used = np.diff(slow["energy_kwh"])
    assert used.min() >= 0
    power = np.maximum(signals.quay_crane(crane, times)["power_kw"], 0.0)
    assert slow["energy_kwh"][-1] - 1000.0 == pytest.approx(power.sum() / 3600)
    assert slow["motor_temperature_celsius"].min() > 20
    assert slow["motor_temperature_celsius"].max() < 110


def test_noise_has_its_deviation_and_no_bias() -> None:
    noise = Noise(3, "QC01", HEAVY)
    times = np.arange(0, 5000, 0.1)
    for drawn in (noise.normal(1, times), noise.wander(2, np.arange(0, 50_000.0), 5.0) * 1.22):
        assert abs(drawn.mean()) < 0.05
        assert drawn.std() == pytest.approx(1.0, abs=0.06)
    share = noise.spells(4, np.arange(0.0, 200_000.0), 20.0, 0.1).mean()
    assert share == pytest.approx(0.1, abs=0.01)
    assert abs(np.corrcoef(noise.normal(1, times), noise.normal(2, times))[0, 1]) < 0.02
    assert abs(np.corrcoef(noise.normal(1, times), Noise(3, "QC02", HEAVY).normal(1, times))[0, 1]) < 0.02


@given(st.integers(0, 2**31), st.integers(1, 50))
def test_noise_is_the_same_however_the_time_is_cut(seed: int, size: int) -> None:
    noise = Noise(seed, "TT01", HEAVY)
    times: Floats = np.asarray(np.arange(100) * 0.2, np.float64)
    cuts = [times[at : at + size] for at in range(0, 100, size)]
    assert np.array_equal(np.concatenate([noise.normal(1, cut) for cut in cuts]), noise.normal(1, times))
    assert np.array_equal(np.concatenate([noise.wander(2, cut, 3.0) for cut in cuts]), noise.wander(2, times, 3.0))


def test_a_receiver_wanders_jumps_and_loses_its_fix(port: Port) -> None:
    truck, projection = port.yard_trucks[0], Projection(SMALL.site)
    times = times_of(port, 1.0)
    exact = signals.truck(truck, projection, times)
    seen = signals.truck(truck, projection, times, Noise(7, truck.name, HEAVY))
    lost = np.isnan(seen["x_m"])
    assert 0 < lost.mean() < 0.3
    assert np.array_equal(lost, np.isnan(seen["latitude_deg"]))
    assert not seen["satellites"][lost].any()
    error = np.hypot(seen["x_m"] - exact["x_m"], seen["y_m"] - exact["y_m"])[~lost]
    assert 2 < np.median(error) < 8
    assert error.max() > 20
    assert np.array_equal(seen["odometer_m"], exact["odometer_m"])


def test_readers_miss_hear_the_neighbour_and_see_ghosts() -> None:
    reads = [Read(10 + n / 50, f"E280{n // 100:020X}", 1, -50.0, 10 + n // 100 * 2) for n in range(20_000)]
    found = list(reported(reads, 1, (0, 2), Noise(1, "GATE-IN-2", HEAVY)))
    tags = {read.tag for read in reads}
    own = [read for lane, read in found if lane == 1 and read.tag in tags]
    beside = [(lane, read) for lane, read in found if lane != 1]
    ghosts = [read for _, read in found if read.tag not in tags]
    assert len(own) / len(reads) == pytest.approx(0.6, abs=0.03)
    assert len(beside) / len(reads) == pytest.approx(0.03, abs=0.01)
    assert {lane for lane, _ in beside} == {0, 2}
    assert max(read.rssi_dbm for _, read in beside) < -60
    assert len(ghosts) / len(reads) == pytest.approx(0.02, abs=0.01)
    assert len({read.tag for read in ghosts}) == len(ghosts)
    assert all(len(bytes.fromhex(read.tag)) == 12 for read in ghosts)
    unread = tags - {read.tag for read in own}
    assert 0 < len(unread) < 10


def test_noise_changes_what_is_sent_and_the_same_noise_is_the_same_bytes() -> None:
    def digest(noise: str) -> str:
        source = PortMessages(SMALL, 7, "CNNGB-DEMO", START_NS, noise=noise)
        sent = [message for _ in range(3) for message in source.advance(5 * NS)]
        return hashlib.sha256(b"".join(message.payload for message in sent)).hexdigest()

    assert len({digest(level) for level in LEVELS}) == len(LEVELS)
    assert digest("heavy") == digest("heavy")


def test_an_unknown_level_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"noise = 'loud': allowed are none, default, heavy"):
        noise_of(1, "QC01", "loud")

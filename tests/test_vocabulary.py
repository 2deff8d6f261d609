"""The table of metrics: what it admits can be summed exactly, scaled back exactly, and is documented."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.rows import TIERS_S
from devices.vocabulary import (
    BY_NAME,
    INDEX,
    MAX_SCALED,
    MAXIMUM,
    METRICS,
    MINIMUM,
    RESOLUTION,
    SCALE,
    DeviceClass,
    Kind,
    Metric,
    accepted_from,
    scaled,
    unscaled,
)
from devices.vocabulary_page import markdown

UNIT_SUFFIXES = {
    "m": "m", "m/s": "mps", "t": "t", "ft": "ft", "kW": "kw", "deg": "deg", "L": "l", "dBm": "dbm", "rad": "rad",
    "MHz": "mhz", "°C": "celsius", "%": "percent", "s": "s", "A": "a", "kWh": "kwh",
}  # fmt: skip

every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
indices = st.integers(0, len(METRICS) - 1)


@every_metric
def test_largest_scaled_value_is_within_the_bound(metric: Metric) -> None:
    index = np.array([INDEX[metric.name]] * 2)
    ends = scaled(index, np.array([metric.minimum, metric.maximum]))
    assert np.abs(ends).max() <= MAX_SCALED


def test_sum_of_a_day_at_a_kilohertz_fits() -> None:
    samples_of_a_day = 86_400 * 1_000
    assert samples_of_a_day * MAX_SCALED < 2**63
    assert max(TIERS_S) <= 86_400
    values = np.full(1_000, MAX_SCALED, np.int64)
    assert int(values.sum()) * (samples_of_a_day // 1_000) < 2**63


def test_a_metric_beyond_the_bound_is_refused() -> None:
    def metric_of(minimum: float, maximum: float, resolution: float) -> Metric:
        return Metric("x_m", "m", resolution, minimum, maximum, Kind.GAUGE, frozenset())

    assert metric_of(0, MAX_SCALED, 1).maximum == MAX_SCALED
    with pytest.raises(ValueError, match=r"x_m: range / resolution exceeds"):
        metric_of(0, MAX_SCALED + 1, 1)
    with pytest.raises(ValueError, match=r"x_m: range / resolution exceeds"):
        metric_of(-MAX_SCALED - 1, 0, 1)
    with pytest.raises(ValueError, match=r"x_m: minimum 3 must be below maximum 3"):
        metric_of(3, 3, 1)


@every_metric
def test_scale_is_a_whole_number_and_the_inverse_of_the_resolution(metric: Metric) -> None:
    scale = SCALE[INDEX[metric.name]]
    assert scale == int(scale) >= 1
    assert math.isclose(scale * metric.resolution, 1, rel_tol=1e-12)


@given(st.lists(st.tuples(indices, st.integers(-MAX_SCALED, MAX_SCALED)), min_size=1))
def test_scaling_back_and_forth_is_exact(samples: list[tuple[int, int]]) -> None:
    metric = np.array([index for index, _ in samples], np.int64)
    value = np.array([number for _, number in samples], np.int64)
    assert np.array_equal(scaled(metric, unscaled(metric, value)), value)


@given(indices, st.floats(0, 1))
def test_scaling_keeps_a_value_to_half_a_resolution(index: int, place: float) -> None:
    value = np.array([MINIMUM[index] + place * (MAXIMUM[index] - MINIMUM[index])])
    metric = np.array([index])
    kept = unscaled(metric, scaled(metric, value))
    assert abs(kept[0] - value[0]) <= RESOLUTION[index] / 2 * (1 + 1e-9) + abs(value[0]) * 1e-15


@given(indices, st.floats(0, 1), st.floats(0, 1))
def test_scaling_keeps_the_order(index: int, one: float, other: float) -> None:
    span = MAXIMUM[index] - MINIMUM[index]
    value = MINIMUM[index] + np.array(sorted((one, other))) * span
    low, high = scaled(np.array([index, index]), value)
    assert low <= high


def test_names_are_unique_and_lead_to_their_index() -> None:
    assert len(BY_NAME) == len(METRICS) == len(INDEX)
    assert [INDEX[metric.name] for metric in METRICS] == list(range(len(METRICS)))


@every_metric
def test_unit_is_in_the_name(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,63}", metric.name)
    suffix = UNIT_SUFFIXES.get(metric.unit)
    if suffix is None:
        assert metric.unit in {"1", "TEU"}
    else:
        assert metric.name.split("_")[-1] == suffix


@every_metric
def test_states_and_tallies_are_whole_numbers_from_zero(metric: Metric) -> None:
    if metric.kind in {Kind.STATE, Kind.TALLY} and metric.unit == "1":
        assert (metric.minimum, metric.resolution) == (0, 1)


@pytest.mark.parametrize("device_class", DeviceClass)
def test_a_device_may_publish_what_is_of_its_class_and_not_derived(device_class: DeviceClass) -> None:
    accepted = accepted_from(device_class)
    assert accepted
    for metric in METRICS:
        allowed = device_class in metric.classes and not metric.derived
        assert (metric.name in accepted) == allowed
    assert all(METRICS[index].name == name for name, index in accepted.items())


def test_the_page_of_the_vocabulary_is_the_table(root: Path) -> None:
    text = (root / "docs" / "vocabulary.md").read_text()
    assert text == markdown(), "python -m devices.vocabulary_page > docs/vocabulary.md"
    for name, metric in BY_NAME.items():
        assert text.count(f"| `{name}` |") == (1 if metric.derived else len(metric.classes))


def test_a_word_of_tic_40_is_of_one_metric_in_each_class() -> None:
    for device_class in DeviceClass:
        words = [BY_NAME[name].tic for name in accepted_from(device_class) if BY_NAME[name].tic]
        # Latitude and longitude are one coordinate.
        assert len(set(words)) == len(words) - ("che.location.coordinate" in words)


def test_every_metric_named_in_the_documents_exists(root: Path) -> None:
    # Fields of messages and answers share some endings with metrics.
    fields = {"device_events", "updated_ns", "started_ns", "frames_per_second", "lock_ns"}
    suffixes = "|".join(sorted({"m", "mps", "t", "kw", "dbm", "celsius", "percent"}))
    for path in (root / "docs" / "wire.md", root / "README.md", root / "README.zh-CN.md"):
        examples = re.findall(rf'"([a-z]+(?:_[a-z]+)*_(?:{suffixes}))":', path.read_text())
        assert set(examples) - fields <= set(BY_NAME), path
    named = re.findall(r'"(\w+)":', " ".join(re.findall(r'"m":\{(.*?)\}', (root / "docs" / "wire.md").read_text())))
    assert named
    assert set(named) <= set(BY_NAME)

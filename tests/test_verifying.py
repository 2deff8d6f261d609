"""The whole pipeline in virtual time, marked against the truth of the simulated port."""

from typing import Any

import pytest

from quayflow.marking import Happening, PassedTag, score, turns_of
from quayflow.verifying import VerifyConfig, verify

HOURS = 0.1
Report = dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed() -> Report:
    return verify(VerifyConfig(hours=HOURS))


def test_every_event_of_a_quiet_port_is_found_and_none_is_invented(undisturbed: Report) -> None:
    for what in ("moves", "yard_moves", "passages"):
        score = undisturbed[what]
        assert score["truth"] > 0
        assert (score["recall"], score["precision"]) == (1.0, 1.0), what
    assert undisturbed["ledger_balanced"]
    assert undisturbed["accounts"]["windowed"] == undisturbed["messages"] == undisturbed["delivered"]


def test_order_and_repetition_change_no_bit_of_the_store(undisturbed: Report) -> None:
    disturbed = verify(VerifyConfig(hours=HOURS, shuffle=True, duplicate=0.2))
    assert disturbed["delivered"] > disturbed["messages"]
    assert disturbed["store_hash"] == undisturbed["store_hash"]
    # Some of it came when its windows were closed and the detectors had gone on.
    assert disturbed["accounts"]["merged_late"] > 0
    assert disturbed["runs_again"] > 0
    assert disturbed["late_for_detectors"] == 0
    assert disturbed["accounts"]["duplicate"] == disturbed["delivered"] - disturbed["messages"]
    assert disturbed["ledger_balanced"]


def test_what_is_dropped_is_counted_as_lost_before_the_journal_and_changes_the_hash(undisturbed: Report) -> None:
    lossy = verify(VerifyConfig(hours=HOURS, drop=0.01))
    lost = lossy["accounts"]["lost_before_journal"]
    # A device's first and last messages leave no gap when they are dropped.
    assert lossy["dropped"] - 2 * 80 <= lost <= lossy["dropped"]
    assert lost > 0
    assert lossy["store_hash"] != undisturbed["store_hash"]
    assert lossy["ledger_balanced"]


def test_another_seed_is_another_port() -> None:
    assert verify(VerifyConfig(hours=0.02, seed=8))["store_hash"] != verify(VerifyConfig(hours=0.02))["store_hash"]


@pytest.mark.parametrize(("setting", "value"), [("hours", 0), ("duplicate", 1.1), ("drop", -0.1)])
def test_impossible_settings_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{setting} = "):
        VerifyConfig(**{setting: value})  # type: ignore[arg-type]


def test_what_ends_at_an_edge_is_matched_on_both_sides_and_counted_on_one() -> None:
    truth = [Happening("C", "move", end_s) for end_s in (9.5, 50.0, 89.5)]
    found = [Happening("C", "move", end_s) for end_s in (10.2, 50.1, 90.4)]
    marks = score(truth, found, "move", (10.0, 90.0))
    assert marks == {"truth": 2, "found": 2, "recall": 1.0, "precision": 1.0, "timing_error_s": 0.9}
    missed = score(truth, found[:1], "move", (10.0, 90.0))
    assert (missed["recall"], missed["precision"], missed["timing_error_s"]) == (0.0, 1.0, None)


def test_a_truck_turn_is_a_tag_that_came_in_and_went_out() -> None:
    passages = [
        PassedTag(100, "in", "A"),
        PassedTag(150, "out", "B"),
        PassedTag(400, "out", "A"),
        PassedTag(9, "in", "C"),
    ]
    turns = list(turns_of([], passages))
    assert turns == [Happening("A", "truck_turn", 400, 100)]
    truth = [Happening("A", "truck_turn", 412.0, 104.0)]
    assert score(truth, turns, "truck_turn", (0.0, 500.0))["recall"] == 1.0
    # It began before anybody listened.
    assert score(truth, turns, "truck_turn", (110.0, 500.0))["truth"] == 0


@pytest.mark.parametrize("hours", [-1.0, 0.0, float("nan"), float("inf"), 1e9])
def test_hours_that_nobody_can_simulate_are_refused(hours: float) -> None:
    with pytest.raises(ValueError, match=r"^hours = "):
        VerifyConfig(hours=hours)

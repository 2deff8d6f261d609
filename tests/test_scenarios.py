"""Scenarios: what goes wrong shows in the figures, and a scenario that cannot be used is refused with key and value."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from quayflow.main import app
from quayflow.verifying import VerifyConfig, show, verify
from simulators import scenarios
from simulators.scenarios import Scenario, ScenarioError

SMALLEST: dict[str, Any] = {"title": "t", "what": "w", "expect": ["lost == 0"], "hours": 0.02}


@pytest.mark.parametrize("name", scenarios.names())
def test_the_figures_show_what_happened(name: str) -> None:
    report = verify(VerifyConfig.of(scenarios.load(name)))
    missed = [one for one in report["expectations"] if not one["ok"]]
    assert not missed
    assert report["ledger_balanced"]
    assert show(report, as_json=True) == 0


def test_the_scenarios_that_were_asked_for_are_there() -> None:
    assert set(scenarios.names()) == {
        "crane-breakdown",
        "morning-gate-rush",
        "network-outage",
        "noisy-reader",
        "typhoon-stop",
        "vessel-bunching",
    }


def made(**keys: Any) -> Scenario:
    return scenarios.parse("made", SMALLEST | keys)


def test_an_expectation_that_is_missed_is_status_99(capsys: pytest.CaptureFixture[str]) -> None:
    report = verify(VerifyConfig.of(made(expect=["lost == 0", "moves > 1000"])))
    assert show(report, as_json=False) == 99
    told = capsys.readouterr().out
    assert "MISSED       moves > 1000" in told
    assert "ok           lost == 0" in told


def test_a_fault_on_the_way_is_what_the_ledger_says() -> None:
    fault = {"kind": "duplicate", "share": 0.5, "after_s": [0.0, 2.0]}
    report = verify(VerifyConfig.of(made(faults=[fault], expect=["duplicates > 100", "lost == 0"])))
    assert all(one["ok"] for one in report["expectations"])
    assert report["accounts"]["duplicate"] == report["delivered"] - report["messages"]


def test_a_stuck_crane_signal_hides_moves_and_the_report_says_so() -> None:
    fault = {"kind": "stuck", "devices": "QC*", "metric": "spreader_locked"}
    report = verify(VerifyConfig.of(made(hours=0.05, faults=[fault])))
    assert report["moves"]["truth"] > 2
    assert report["moves"]["found"] == 0
    assert report["moves"]["recall"] == 0.0
    assert report["ledger_balanced"]


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"expect": ["moves_recal == 1"]}, ["moves_recal", "moves_recall"]),
        ({"expect": ["lost is 0"]}, ["lost is 0", "expected"]),
        ({"expect": []}, ["expect", "length >= 1"]),
        ({"expects": []}, ["expects", "allowed", "expect"]),
        ({"hours": 0}, ["hours = 0", "> 0"]),
        ({"noise": "loud"}, ["noise = 'loud'", "none, default, heavy"]),
        ({"spans": {"late": [10, 5]}}, ["spans.late", "[10.0, 5.0]", "before an end"]),
        ({"spans": {"Late": [1, 5]}}, ["spans.Late", "small letters"]),
        ({"spans": {"late": [1, 5000]}}, ["spans.late", "5000", "0.02 h"]),
        ({"change": {"quay": {"cranes": -1}}}, ["quay.cranes = -1", ">= 0"]),
        ({"change": {"quay": {"crane": 4}}}, ["[quay]", "crane", "cranes"]),
        ({"profile": "huge"}, ["huge", "allowed", "chuanshan"]),
        ({"faults": [{"kind": "gremlins"}]}, ["faults[0]", "gremlins"]),
        ({"faults": [{"kind": "lost", "share": 2.0}]}, ["faults[0].share = 2.0", "<= 1"]),
        ({"faults": [{"kind": "late"}]}, ["faults[0]", "delay_s"]),
    ],
)
def test_an_impossible_scenario_is_refused_with_key_value_and_what_is_allowed(
    keys: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ScenarioError) as refused:
        made(**keys)
    for part in ("'made'", *named):
        assert part in str(refused.value)


def test_a_missing_file_is_named_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"'nowhere'.*allowed: crane-breakdown"):
        scenarios.load("nowhere")
    path = tmp_path / "broken.toml"
    path.write_text("title = ")
    with pytest.raises(ScenarioError, match=r"broken\.toml cannot be read"):
        scenarios.load(str(path))


def test_the_command_runs_a_scenario_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "Mine"\nwhat = "Nothing"\nhours = 0.01\nexpect = ["lost == 0"]\n')
    result = CliRunner().invoke(app, ["verify", "--scenario", str(path), "--json"])
    assert result.exit_code == 0
    report = msgspec.json.decode(result.stdout)
    assert (report["scenario"], report["title"]) == ("mine", "Mine")
    refused = CliRunner().invoke(app, ["verify", "--scenario", "nowhere"])
    assert refused.exit_code == 2
    assert "allowed: crane-breakdown" in refused.stderr

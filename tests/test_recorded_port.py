"""A recording of a simulated port without a broker: the same bytes for the same seed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devices.times import NS
from quayflow.main import app
from simulators.fleet import FleetConfig
from simulators.messages import FIXED_START_NS
from simulators.recorded_port import record_port
from simulators.recording import Choice, open_recording
from store.journal import RETAINED, read


def recorded(out: Path, seed: int = 7, **settings: Any) -> dict[str, Any]:
    return record_port(FleetConfig(seed=seed, duration_s=12.0, **settings), out)


def sha256(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        whole.update(path.name.encode() + path.read_bytes())
    return whole.hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        recorded(tmp_path / name, seed)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b") != sha256(tmp_path / "c")


def test_every_message_is_there_when_it_is_due_and_a_replay_can_read_it(tmp_path: Path) -> None:
    said = recorded(tmp_path / "r")
    frames = list(read(tmp_path / "r"))
    assert said["messages"] == len(frames) > 1_000
    times = [frame.recv_ts for frame in frames]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (FIXED_START_NS, FIXED_START_NS + 12 * NS)
    assert sum(bool(frame.flags & RETAINED) for frame in frames) == 2 * len(
        {frame.topic.split("/")[3] for frame in frames}
    )
    assert open_recording(tmp_path / "r", Choice(), "CNNGB-DEMO").messages == len(frames)


def test_the_faults_of_a_scenario_happen_in_its_recording(tmp_path: Path) -> None:
    path = tmp_path / "twice.toml"
    path.write_text(
        'title = "t"\nwhat = "w"\nhours = 0.01\nexpect = ["lost == 0"]\n'
        '[[faults]]\nkind = "duplicate"\nshare = 0.5\nafter_s = [1, 30]\n'
    )
    said = recorded(tmp_path / "r", scenario=str(path))
    assert said["faults"]["duplicate"] > 300
    frames = list(read(tmp_path / "r"))
    assert len(frames) - len({(frame.topic, frame.payload) for frame in frames}) == said["faults"]["duplicate"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs an end"),
        (("--for", "1s", "--speed", "2"), "speed = 2.0"),
        (("--for", "1s", "--jt808", "127.0.0.1:6808"), "jt808 = "),
        (("--for", "1s", "--profile", "none-such"), "none-such"),
    ],
)
def test_what_means_nothing_without_a_broker_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path / "r"), *arguments])
    assert answer.exit_code == 2
    assert words in answer.output
    assert not (tmp_path / "r").exists()


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path) -> None:
    command = ["simulate", "--out", str(tmp_path / "r"), "--for", "1s", "--json"]
    first = CliRunner().invoke(app, command)
    assert json.loads(first.stdout)["messages"] > 100
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert "choose a new folder" in again.output

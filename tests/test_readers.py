"""Commands whose reader goes away: `| head -1` is no failure, and leaves nothing behind on standard error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_journal import fleet_journal

QUAYFLOW = [sys.executable, "-m", "quayflow"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}


def unread(cwd: Path, *arguments: str, both: bool = False) -> tuple[int, str]:
    """Run a command of whose output nobody reads anything; return exit status and standard error.

    ``both``: standard error leads to the same reader.
    """
    reading, writing = os.pipe()
    os.close(reading)
    errors = writing if both else subprocess.PIPE
    done = subprocess.run(
        [*QUAYFLOW, *arguments], cwd=cwd, env=ENVIRONMENT, stdout=writing, stderr=errors, timeout=60, check=False
    )
    os.close(writing)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["device", "--help"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["decode", "--codec", "epc", "--hex", "3034257BF7194E4000001A85"],
        ["check", "sent.json", "--as", "vehicle"],
        ["journal", "info"],
        ["journal", "cat"],
        ["journal", "cat", "--format", "msgpack"],
    ],
    ids=" ".join,
)
def test_a_command_that_nobody_reads_ends_quietly_as_by_sigpipe(arguments: list[str], tmp_path: Path) -> None:
    fleet_journal(tmp_path / "quayflow-data" / "journal")
    (tmp_path / "sent.json").write_text('{"v":1,"m":{"speed_mps":1}}')
    assert unread(tmp_path, *arguments) == (141, "")


def test_what_nobody_reads_of_standard_error_ends_quietly_too(tmp_path: Path) -> None:
    assert unread(tmp_path, "check", "no-such.json", "--as", "vehicle", both=True)[0] == 141


def test_a_failure_whose_reader_wants_no_output_keeps_its_status(tmp_path: Path) -> None:
    status, errors = unread(tmp_path, "check", "no-such.json", "--as", "vehicle")
    assert (status, "no such file" in errors) == (2, True)


@pytest.mark.slow
def test_a_demo_whose_reader_goes_away_ends_in_order_and_its_ledger_balances(tmp_path: Path) -> None:
    free = ("--port", "0", "--broker-port", "0", "--no-open", "--data", "data")
    running = subprocess.Popen(
        [*QUAYFLOW, "demo", *free, "--for", "60s"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert b"quayflow is up" in running.stdout.readline()
    running.stdout.close()
    _, errors = running.communicate(timeout=50)
    assert (running.returncode, errors) == (141, b"")
    # Had the parts been killed, the last checkpoint would lie behind the journal.
    accounts = subprocess.run(
        [*QUAYFLOW, "ledger", "--data", "data", "--json"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )
    assert accounts.returncode == 0, accounts.stderr
    assert json.loads(accounts.stdout)["balanced"]
    assert "ended" not in (tmp_path / "data" / "logs" / "mosquitto.log").read_text()

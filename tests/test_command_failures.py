"""What people get wrong with commands that start, command, adopt and rebuild: a sentence, its status, nothing left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from made_journal import fleet_journal

from engines.demo import running_demo
from engines.influx import Influx
from engines.mosquitto import running_mosquitto
from engines.ports import free_port
from simulators.broker import Attempts, Broker, BrokerRefusesError, NotLetInError

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
QUAYFLOW = [sys.executable, "-m", "quayflow"]
BACKWARDS = ("--from", "2026-11-24T00:00:00Z", "--to", "2026-11-23T00:00:00Z")


def failing(cwd: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command that fails; return exit status and what it says: no traceback, and no result."""
    done = subprocess.run(
        [*QUAYFLOW, *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["journal", "cat"],
        ["journal", "rebuild"],
        ["journal", "rebuild", "--json"],
        ["journal", "export", "--out", "out.parquet"],
        ["replay", "."],
    ],
    ids=" ".join,
)
def test_a_range_that_ends_before_it_begins_is_refused(arguments: list[str], tmp_path: Path) -> None:
    fleet_journal(tmp_path / "quayflow-data" / "journal")
    status, said = failing(tmp_path, *arguments, *BACKWARDS)
    assert status == 2
    assert "--to: 2026-11-23T00:00:00Z is before --from 2026-11-24T00:00:00Z" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["journal", "rebuild"],
        ["journal", "rebuild", "--json"],
        ["device", "adopt", "QC01", "hoistHeight", "hoist_height_m"],
        ["device", "rotate", "QC01"],
        ["device", "remove", "QC01"],
        ["device", "command", "QC01", "lock"],
    ],
    ids=" ".join,
)
def test_what_needs_a_data_folder_makes_none(arguments: list[str], tmp_path: Path) -> None:
    status, said = failing(tmp_path, *arguments, "--data", "nowhere")
    assert status == 3
    assert len(said.splitlines()) == 1
    assert "nowhere" in said
    assert "--data" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["up", "--listen", "0.0.0.0"], 2, "broker_listen 0.0.0.0"),
        (["up", "--broker", "127.0.0.1:1", "--secure"], 2, "--secure and --tls"),
        (["demo", "--profile", "nowhere"], 2, "profile 'nowhere'"),
        (["up", "--data", "/etc/hostname"], 3, "data folder /etc/hostname cannot be written"),
    ],
)
def test_what_cannot_be_started_leaves_nothing(arguments: list[str], status: int, named: str, tmp_path: Path) -> None:
    found, said = failing(tmp_path, *arguments, "--no-open", "--port", "0")
    assert (found, named in said) == (status, True), said
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format").write_text("99\n")
    (tmp_path / "data" / "journal").mkdir()
    for words in (["up", "--no-open", "--port", "0"], ["demo", "--no-open", "--port", "0"], ["journal", "rebuild"]):
        status, said = failing(tmp_path, *words, "--data", "data")
        assert status == 3
        assert "99" in said
    assert (tmp_path / "data" / "format").read_text() == "99\n"


@pytest.mark.slow
def test_a_broker_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    broker = f"127.0.0.1:{free_port()}"
    status, said = failing(tmp_path, "up", "--no-open", "--port", "0", "--broker", broker, "--json")
    assert status == 3
    (sentence,) = [line for line in said.splitlines() if line.startswith("quayflow: ")]
    assert f"broker {broker} cannot be used" in sentence
    assert "--broker" in sentence


LOCKED_OUT = {
    "up": ["up", "--json", "--no-open", "--port", "0"],
    "simulate": ["simulate", "--json"],
    "record": ["record", "--json", "--out", "recording"],
    "replay": ["replay", "--json", "van.csv"],
    "load": ["load", "--json", "--clients", "2"],
    "check": ["check", "--json", "port/#", "--as", "vehicle"],
}


@pytest.mark.slow
def test_a_broker_that_lets_nobody_in_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "van.csv").write_text("timestamp,x,y\n2020-01-01T00:00:00Z,1,2\n")
    credentials = {"QUAYFLOW_BROKER_USERNAME": "me", "QUAYFLOW_BROKER_PASSWORD": "geheim"}
    with running_mosquitto(allow_anonymous=False) as broker:
        for name, words in LOCKED_OUT.items():
            # Without --for: what cannot get better by waiting is not waited for.
            status, said = failing(tmp_path, *words, "--broker", f"127.0.0.1:{broker.port}", **credentials)
            assert status == 3, (name, said)
            (sentence,) = [line for line in said.splitlines() if line.startswith("quayflow: ")]
            assert f"broker {'at ' if name == 'check' else ''}127.0.0.1:{broker.port}" in sentence
            assert "authori" in sentence.lower()
            assert "trying again" not in said
            assert "geheim" not in said


@pytest.mark.slow
def test_a_broker_that_is_not_reached_is_said_at_the_end_of_a_recording_and_a_replay(tmp_path: Path) -> None:
    (tmp_path / "van.csv").write_text("timestamp,x,y\n2020-01-01T00:00:00Z,1,2\n")
    broker = f"127.0.0.1:{free_port()}"
    for words in (["record", "--for", "300ms", "--out", "recording"], ["replay", "van.csv", "--patience", "300ms"]):
        done = subprocess.run(
            [*QUAYFLOW, *words, "--broker", broker],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert done.stderr.splitlines()[-1].startswith(f"quayflow: broker {broker} was not reached")


def test_attempts_in_vain_are_told_once_and_then_by_their_number(caplog: pytest.LogCaptureFixture) -> None:
    attempts = Attempts(Broker(port=1), 2)
    for _ in range(33):
        attempts.failed(OSError("gone"))
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "broker 127.0.0.1:1: gone; trying again",
        "broker 127.0.0.1:1: gone; 16 attempts in vain, trying again",
        "broker 127.0.0.1:1: gone; 32 attempts in vain, trying again",
    ]


def test_who_was_let_in_once_waits_to_be_let_in_again() -> None:
    attempts, told = Attempts(Broker(username="me"), 1), []
    attempts.on_refusal = lambda: told.append(attempts.refusal)
    attempts.succeeded()
    attempts.failed(NotLetInError(0x87, "not authorised"))
    attempts.check()
    assert told == []
    others = Attempts(Broker(username="me"), 1)
    others.failed(NotLetInError(0x88, "server unavailable"))
    others.check()
    others.failed(NotLetInError(0x87, "not authorised"))
    with pytest.raises(BrokerRefusesError, match="lets nobody in as 'me': refuses the connection: not authorised"):
        others.check()


@pytest.mark.slow
def test_a_window_store_that_would_not_serve_us_is_said_in_one_sentence(influx: Influx, tmp_path: Path) -> None:
    up = ("up", "--json", "--no-open", "--port", "0", "--data", str(tmp_path / "data"))
    status, said = failing(tmp_path, *up, QUAYFLOW_WINDOWS_URL=influx.url("nothing-here"), QUAYFLOW_BROKER_PORT="0")
    assert status == 3, said
    (sentence,) = [line for line in said.splitlines() if line.startswith("quayflow: ")]
    assert "nothing-here" in sentence
    assert "create the bucket or database, or correct windows_url" in sentence
    assert not (tmp_path / "data" / "logs" / "ingest.log").exists()


@pytest.mark.slow
def test_a_window_store_that_is_away_keeps_nothing_from_starting(tmp_path: Path) -> None:
    away = {"QUAYFLOW_WINDOWS_URL": f"influxdb://127.0.0.1:{free_port()}/windows"}
    with running_demo(tmp_path, verb="up", settings=away) as running:
        check = httpx.get(f"{running.url}/readyz").json()["checks"]["store"]
        assert check == {"ok": False, "detail": "the window store cannot be reached; see the log"}
        assert "what is received waits in the outbox" in running.log.read_text()
    assert running.result is not None


@pytest.mark.slow
def test_ctrl_c_while_it_starts_ends_in_order(tmp_path: Path) -> None:
    words = ["demo", "--json", "--no-open", "--port", "0", "--broker-port", "0", "--data", "data"]
    running = subprocess.Popen(
        [*QUAYFLOW, *words], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "data" / "logs" / "ingest.log").exists():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=40)
    assert "Traceback" not in errors
    assert running.returncode == 0, errors
    assert json.loads(said.splitlines()[-1])["ledger_balanced"]


TLS = {"QUAYFLOW_BROKER_TLS": "true", "QUAYFLOW_BROKER_HOST": "127.0.0.1", "QUAYFLOW_BROKER_PORT": "1"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["ingest"],
        ["api", "--port", "0"],
        ["up", "--no-open", "--port", "0", "--broker", "127.0.0.1:1"],
        ["simulate"],
        ["record", "--out", "recording"],
        ["load"],
    ],
    ids=lambda words: words[0],
)
def test_certificates_that_cannot_be_used_end_every_command_with_a_sentence(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("not yet")
    status, said = failing(tmp_path, *arguments, QUAYFLOW_BROKER_CA_FILE="CA.pem", **TLS)
    assert status == 2
    assert "broker_ca_file CA.pem: there is no such file, but ca.pem: capitals count" in said
    status, said = failing(tmp_path, *arguments, QUAYFLOW_BROKER_CA_FILE="ca.pem", **TLS)
    assert status == 2
    assert "broker_ca_file ca.pem: it holds no certificate in PEM" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"port = = 3", "quayflow.toml: it is no TOML: "),
        (b"\x00\xff\xfe", "quayflow.toml: it is no text in UTF-8"),
        (b"prot = 3", "prot: there is no such setting; did you mean port? (got 3)"),
        (b"nonsense = 3", "nonsense: there is no such setting (got 3)"),
        (None, "quayflow.toml: it is a folder, not a file"),
    ],
)
def test_a_file_of_settings_that_cannot_be_read_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "quayflow.toml"
    file.mkdir() if content is None else file.write_bytes(content)
    status, said = failing(tmp_path, "config", "show")
    assert status == 2
    assert words in said


def test_a_list_in_the_environment_that_is_none_is_named(tmp_path: Path) -> None:
    status, said = failing(tmp_path, "config", "show", QUAYFLOW_SOURCES="[{")
    assert (status, "QUAYFLOW_SOURCES: it is no JSON" in said) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "words"),
    [
        (["check", "none", "--as", "vehicle", "--broker", "127.0.0.1:1"], {}, 3, "be asked: nobody listens there"),
        (["load", "--broker", "127.0.0.1:1", "--for", "1s"], {}, 3, "broker 127.0.0.1:1: nobody listens there"),
        (["replay", "van.csv"], {}, 2, "van.csv: cannot be read: there is no such file, but Van.csv: capitals count"),
        (
            ["ledger"],
            {"QUAYFLOW_RECORDS_URL": "postgresql+psycopg://u:p@127.0.0.1:1/x"},
            3,
            'x: connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused\n',
        ),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)  # fmt: skip
def test_what_is_not_there_is_said_without_the_systems_words(
    arguments: list[str], environment: dict[str, str], status: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "Van.csv").touch()
    found, said = failing(tmp_path, *arguments, **environment)
    assert (found, words in said) == (status, True), said
    assert "Errno" not in said
    assert len(said.splitlines()) == 1

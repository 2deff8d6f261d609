"""The command line as a person meets it: help, usage errors, origins of settings, failures without tracebacks."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from engines.ports import free_port
from quayflow import __version__
from quayflow.main import app
from quayflow.on_demand import PLACES
from quayflow.options import duration
from quayflow.usage_examples import EXAMPLES

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}


def quayflow(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own; a traceback is a failure wherever it appears."""
    done = subprocess.run(
        [sys.executable, "-m", "quayflow", *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Traceback" not in done.stdout, done.stdout
    return done


def commands() -> list[tuple[str, ...]]:
    """Return every command and group as the words that call it."""
    found: list[tuple[str, ...]] = [()]
    root = typer.main.get_command(app)
    for name, command in getattr(root, "commands", {}).items():
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", {})]
    return found


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words) or "quayflow")
def test_every_command_explains_itself_and_its_options(words: tuple[str, ...], tmp_path: Path) -> None:
    done = quayflow(*words, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    text = done.stdout
    assert re.match(rf"Usage: .*{' '.join(words)} \[OPTIONS\]", text)
    # What it does, as a sentence, before the options.
    description = text.split("Options:")[0].split("\n\n", 1)[1]
    assert description.strip().rstrip("]").endswith((".", "[required"))
    assert max(map(len, text.splitlines())) <= 100
    # Every option has words beside its name, and no line is cut off.
    assert "..." not in text.replace("[ARGS]...", "")
    block = text.split("Options:\n", 1)[1].split("\n\n")[0]
    entries = re.split(r"\n(?=  -)", block)
    for entry in entries:
        name, _, explanation = re.sub(r"\s*\n\s+", "  ", entry.strip()).partition("  ")
        assert name.startswith("--"), entry
        assert len(explanation.strip()) > 10, entry
    lines = EXAMPLES.get(" ".join(words), ())
    assert not lines or re.search(
        r"\n\n  Examples?:\n" + re.escape("".join(f"    {line}\n" for line in lines)) + "$", text
    )


def test_every_command_has_examples_that_begin_with_its_words() -> None:
    groups = {words[:1] for words in commands() if words[1:]}
    assert {" ".join(words) for words in commands() if words and words not in groups} == EXAMPLES.keys()
    for words, lines in EXAMPLES.items():
        for line in lines:
            assert re.match(rf"([A-Z_]+=\S+ )?quayflow {words}( |$)", line), line
            # They are not broken on a terminal of the usual width.
            assert len(line) <= 76, line


def test_no_command_is_missing_from_the_front_page(tmp_path: Path) -> None:
    said = quayflow("--help", cwd=tmp_path).stdout
    for name in ("demo", "up", "ingest", "api", "simulate", "replay", "verify", "ledger", "journal", "config"):
        assert re.search(rf"^  {name} +[A-Z].*\.$", said, re.MULTILINE), name


def test_what_is_loaded_on_demand_is_found_and_is_what_the_list_says() -> None:
    root = typer.main.get_command(app)
    for name, place in PLACES.items():
        command = getattr(root, "commands", {})[name].loaded
        assert command.name == name
        assert not hasattr(command, "commands") or command.help == place.purpose


def test_help_is_said_before_anything_is_loaded_that_it_does_not_need(tmp_path: Path) -> None:
    script = "import sys; from quayflow.entry import run; sys.argv[1:] = {!r}\ntry: run()\nfinally: print(*sys.modules)"
    heavy = {"numpy", "pydantic_settings", "sqlalchemy", "msgspec", "aiomqtt", "cryptography"}
    for words in ([], ["--version"], ["demo", "--help"], ["ingest", "--help"], ["replay", "--help"], ["nonsense"]):
        command = [sys.executable, "-c", script.format(words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        loaded = set(done.stdout.splitlines()[-1].split())
        assert "quayflow.main" in loaded
        assert loaded & heavy == set(), words


def test_the_version_is_one_line(tmp_path: Path) -> None:
    done = quayflow("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"quayflow {__version__}\n")


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["nonsense"], "'nonsense'", id="unknown command"),
        pytest.param(["demo", "--nonsense"], "--nonsense", id="unknown option"),
        pytest.param(["demo", "extra"], "extra", id="too many arguments"),
        pytest.param(["demo", "--for", "0s"], "60s, 5m or 1h", id="no time at all"),
        pytest.param(["demo", "--for", "soon"], "'soon'", id="no duration"),
        pytest.param(["demo", "--port", "65536"], "--port", id="port too large"),
        pytest.param(["demo", "--port", "eighty"], "--port", id="port no number"),
        pytest.param(["demo", "--seed", "-1"], "--seed", id="negative seed"),
        pytest.param(["up", "--broker", "nowhere"], "expected HOST:PORT", id="broker without port"),
        pytest.param(["ingest", "--broker", "host:port"], "expected HOST:PORT", id="broker port no number"),
        pytest.param(["ingest", "--broker", "host:0"], "expected HOST:PORT", id="broker port 0"),
        pytest.param(["ingest", "--broker", "host:65536"], "expected HOST:PORT", id="broker port too large"),
        pytest.param(["ingest", "--worker", "a b"], "worker", id="worker with a space"),
        pytest.param(["simulate", "--speed", "0", "--for", "1s"], "speed = 0.0", id="speed 0"),
        pytest.param(["simulate", "--payload", "xml"], "msgpack", id="unknown payload"),
        pytest.param(["simulate", "--site", "nowhere", "--for", "1s"], "site", id="site no UN/LOCODE"),
        pytest.param(["simulate", "--profile", "huge", "--for", "1s"], "allowed: chuanshan", id="unknown profile"),
        pytest.param(["simulate", "--summary", "no/such/file", "--for", "1s"], "no/such/file", id="summary nowhere"),
        pytest.param(["simulate", "--truth", "no/such/file", "--for", "1s"], "no/such/file", id="truth nowhere"),
        pytest.param(["simulate", "--out", "/dev/null/x", "--for", "1s"], "out = '/dev/null/x'", id="out nowhere"),
        pytest.param(["record", "--out", "/dev/null/x", "--for", "1s"], "out = '/dev/null/x'", id="record nowhere"),
        pytest.param(["load", "--site", "nowhere"], "site = 'nowhere'", id="load at no site"),
        pytest.param(["load", "--api", "localhost:8080"], "api_url = 'localhost:8080'", id="load with no API"),
        pytest.param(["load", "--html", "/dev/null/x"], "--html", id="load report nowhere"),
        pytest.param(["check", "a/#/b", "--as", "vehicle"], "'a/#/b': + must be", id="check of no filter"),
        pytest.param(["check", "a", "--as", "vehicle", "--html", "/dev/null/x"], "--html", id="check report nowhere"),
        pytest.param(["replay", ".", "--html", "/dev/null/x"], "'/dev/null/x' cannot be", id="replay report nowhere"),
        pytest.param(["replay", ".", "--html", "."], "'.' cannot be written", id="replay report in place of a folder"),
        pytest.param(["replay", ".", "--verify", "8080"], "verify_url = '8080'", id="replay with no API"),
        pytest.param(["replay"], "path", id="replay of nothing"),
        pytest.param(["replay", "no-such-file"], "no-such-file", id="replay of no file"),
        pytest.param(["replay", "."], "holds no recording", id="replay of an empty folder"),
        pytest.param(["replay", ".", "--speed", "fast"], "speed = 'fast': allowed", id="replay speed no number"),
        pytest.param(["replay", ".", "--threshold", "lost"], "lost==0", id="threshold without figure"),
        pytest.param(["journal", "cat", "--from", "yesterday"], "yesterday", id="time no time"),
        pytest.param(["journal", "nonsense"], "nonsense", id="unknown subcommand"),
    ],
)
def test_a_usage_error_ends_with_status_2_and_names_what_is_wrong(
    arguments: list[str], named: str, tmp_path: Path
) -> None:
    done = quayflow(*arguments, cwd=tmp_path)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert named in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("60s", 60), ("1.5s", 1.5), ("5m", 300), ("2h", 7200), ("1d", 86_400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


# --- settings --------------------------------------------------------------------------------------------------------


def shown(cwd: Path, *arguments: str, **environment: str) -> dict[str, tuple[object, str]]:
    """Return name → value and origin."""
    done = quayflow("config", "show", "--json", *arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}


def test_the_environment_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    (tmp_path / "quayflow.toml").write_text('port = 1111\nseed = 5\ntopic_filters = ["a/#", "b/#"]\n')
    found = shown(tmp_path, QUAYFLOW_PORT="2222", QUAYFLOW_DATA="")
    assert found["port"] == (2222, "environment QUAYFLOW_PORT")
    assert found["seed"] == (5, "quayflow.toml")
    assert found["topic_filters"] == (["a/#", "b/#"], "quayflow.toml")
    assert found["profile"] == ("small", "default")
    # An empty variable is none.
    assert found["data"] == ("quayflow-data", "default")


def test_a_flag_goes_before_the_environment(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        (tmp_path / "quayflow.toml").write_text("port = 1111\n")
        done = quayflow("up", "--port", str(number), cwd=tmp_path, QUAYFLOW_PORT="2222")
    assert done.returncode == 3
    assert f"port {number} is taken" in done.stderr


def test_the_plain_form_lists_every_setting_on_its_line(tmp_path: Path) -> None:
    lines = quayflow("config", "show", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shown(tmp_path))
    assert all(line.endswith("default") for line in lines)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    secrets = {
        "QUAYFLOW_BROKER_PASSWORD": "geheim1",
        "QUAYFLOW_ACCESS_SECRET": "geheim-geheim-geheim",
        "QUAYFLOW_RECORDS_URL": "postgresql+psycopg://user:geheim2@host/name",
        "QUAYFLOW_WINDOWS_URL": "influxdb://geheim3@host:8086/bucket?org=port",
    }
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        said = quayflow(*arguments, cwd=tmp_path, **secrets).stdout
        assert "geheim" not in said
        assert "(set)" in said
        assert "host:8086/bucket" in said
    short = quayflow("config", "validate", cwd=tmp_path, QUAYFLOW_ACCESS_SECRET="geheim4")
    assert (short.returncode, "access_secret" in short.stderr) == (2, True)
    assert "geheim" not in short.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param('port = "eighty"', "port", id="wrong type"),
        pytest.param("prot = 8080", "prot", id="unknown name"),
        pytest.param("commit_interval_s = 0", "commit_interval_s", id="out of range"),
        pytest.param('site = "somewhere"', "site", id="wrong form"),
        pytest.param("[[", "line 1", id="no TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(text: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "quayflow.toml").write_text(text + "\n")
    for arguments in (["config", "validate"], ["config", "show"], ["ledger"], ["ingest"]):
        done = quayflow(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert named in done.stderr
        assert done.stdout == ""


def test_good_settings_are_said_to_be_good(tmp_path: Path) -> None:
    done = quayflow("config", "validate", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "settings are good\n")
    done = quayflow("config", "validate", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"valid": True, "faults": []})


def test_settings_that_cannot_be_used_are_listed_as_json_with_the_same_status(tmp_path: Path) -> None:
    wrong = {"QUAYFLOW_PORT": "x", "QUAYFLOW_ACCESS_SECRET": "geheim4"}
    done = quayflow("config", "validate", "--json", cwd=tmp_path, **wrong)
    assert (done.returncode, done.stderr) == (2, "")
    assert "geheim" not in done.stdout
    found = json.loads(done.stdout)
    assert not found["valid"]
    assert {fault["setting"] for fault in found["faults"]} == {"port", "access_secret"}
    (tmp_path / "quayflow.toml").write_text("[[\n")
    (fault,) = json.loads(quayflow("config", "validate", "--json", cwd=tmp_path).stdout)["faults"]
    assert (fault["setting"], "line 1" in fault["detail"]) == ("", True)


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [["ledger"], ["ledger", "--json"], ["journal", "info"], ["journal", "verify"], ["journal", "cat"]]
)
def test_a_folder_without_anything_in_it_is_named_with_the_flag(arguments: list[str], tmp_path: Path) -> None:
    done = quayflow(*arguments, "--data", "nothing", cwd=tmp_path)
    assert done.returncode == 3
    assert "nothing" in done.stderr
    assert "--data" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["windows_url", "records_url"])
@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name"])
def test_a_store_that_is_not_known_is_a_usage_error(name: str, url: str, tmp_path: Path) -> None:
    done = quayflow("ingest", cwd=tmp_path, **{f"QUAYFLOW_{name.upper()}": url})
    assert done.returncode == 2
    assert name in done.stderr
    assert "sqlite:///" in done.stderr


def test_records_that_cannot_be_reached_end_with_status_3_and_keep_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://user:geheim@127.0.0.1:{free_port()}/name"
    done = quayflow("ledger", cwd=tmp_path, QUAYFLOW_RECORDS_URL=url)
    assert done.returncode == 3
    assert "geheim" not in done.stderr
    assert done.stdout == ""


def test_an_address_that_is_taken_ends_the_api_with_status_3(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        done = quayflow("api", "--port", str(number), cwd=tmp_path)
    assert done.returncode == 3
    assert f"port {number} is taken; choose another with --port" in done.stderr


def test_an_address_of_another_machine_ends_the_api_with_status_3(tmp_path: Path) -> None:
    done = quayflow("api", "--host", "192.0.2.1", "--port", "0", cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot listen on 192.0.2.1" in done.stderr


@pytest.mark.slow
def test_a_simulated_port_without_a_broker_ends_with_status_3(tmp_path: Path) -> None:
    broker = f"127.0.0.1:{free_port()}"
    done = quayflow("simulate", "--for", "1s", "--broker", broker, "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert broker in done.stderr
    assert "no broker: waiting 6 s more for" in done.stderr
    result = json.loads(done.stdout)
    assert result["acked"] == 0
    assert result["outstanding"] > 0


def test_a_replay_without_a_broker_ends_with_status_3_whatever_was_asked_of_it(tmp_path: Path) -> None:
    (tmp_path / "van.csv").write_text("timestamp,x,y\n2020-01-01T00:00:00Z,1,2\n")
    broker = f"127.0.0.1:{free_port()}"
    replay = ("replay", "van.csv", "--broker", broker, "--patience", "500ms", "--json")
    for more in ((), ("--threshold", "lost==0")):
        done = quayflow(*replay, *more, cwd=tmp_path)
        assert done.returncode == 3, done.stderr
        assert json.loads(done.stdout)["lost"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "--for", "1s"],
        ["record", "--out", "out"],
        ["load", "--for", "1s"],
        ["check", "port/#", "--as", "vehicle"],
        ["replay", "."],
    ],
    ids=lambda arguments: arguments[0],
)
def test_certificates_that_cannot_be_used_are_named_before_the_work(arguments: list[str], tmp_path: Path) -> None:
    done = quayflow(*arguments, cwd=tmp_path, QUAYFLOW_BROKER_TLS="true", QUAYFLOW_BROKER_CA_FILE="no-such.pem")
    assert done.returncode == 2
    assert "broker_ca_file no-such.pem: there is no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_can_be_none_ends_ingest_with_status_2(tmp_path: Path) -> None:
    done = quayflow("ingest", cwd=tmp_path, QUAYFLOW_BROKER_PORT="0")
    assert done.returncode == 2
    assert "port 0: must be 1 to 65535" in done.stderr


def test_a_folder_that_cannot_be_written_ends_ingest_with_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = quayflow("ingest", "--data", "file/data", cwd=tmp_path)
    assert done.returncode == 3
    assert "cannot be written" in done.stderr


def test_a_store_that_cannot_be_opened_ends_the_api_with_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = quayflow("api", "--data", "file/data", "--port", "0", cwd=tmp_path)
    assert done.returncode == 3
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("quayflow: ")]
    assert "file/data/quayflow.db" in sentence


def test_a_folder_of_a_newer_format_ends_ingest_with_status_3(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "format").write_text("99\n")
    done = quayflow("ingest", "--data", "data", cwd=tmp_path)
    assert done.returncode == 3
    assert "has format 99" in done.stderr

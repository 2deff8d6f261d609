"""Documentation that the build keeps true: what exists is described, and what is described exists."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from api.app import create_app
from api.config import ApiConfig
from api.instruments import Instruments, Snapshot
from devices.rejects import Reason
from quayflow.main import app
from quayflow.settings import Settings
from quayflow.usage_examples import EXAMPLES

LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
FENCE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
CALL = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?quayflow (.*)$", re.MULTILINE)
SPOKEN_OF = re.compile(r"`quayflow ([^`\n]*)`")
FIGURE = re.compile(r"\d[\d,.]*\d|\d")


@pytest.fixture(scope="module")
def english(root: Path) -> str:
    return (root / "README.md").read_text()


@pytest.fixture(scope="module")
def chinese(root: Path) -> str:
    return (root / "README.zh-CN.md").read_text()


def documents(root: Path) -> list[Path]:
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md")]


def headings(text: str) -> list[str]:
    return re.findall(r"^#{2,4} (.+)$", text, re.MULTILINE)


def commands(text: str) -> list[str]:
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines]


def table_figures(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [figures for row in rows if (figures := FIGURE.findall(row))]


def test_every_setting_is_documented_and_no_other(root: Path) -> None:
    described = set(re.findall(r"^\| `(\w+)` \|", (root / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert described == set(Settings.model_fields)


def test_every_reason_for_refusal_is_documented_and_no_other(root: Path) -> None:
    text = (root / "docs" / "quarantine.md").read_text()
    _, reasons = text.split("## Reasons\n")
    assert headings(reasons) == [reason.value for reason in Reason]
    assert reasons.count("**Do:**") == len(Reason)


def test_every_endpoint_is_documented(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "api.md").read_text()
    url = f"sqlite:///{tmp_path}/quayflow.db"
    paths = create_app(ApiConfig(windows_url=url, records_url=url, broker_host="127.0.0.1")).openapi()["paths"]
    assert [path for path in paths if path not in text] == []


def test_every_metric_is_documented_and_no_other(root: Path) -> None:
    exposed = Instruments("0").render(Snapshot()).decode()
    families = {re.sub(r"_(total|created)$", "", name) for name in re.findall(r"^# TYPE (\w+)", exposed, re.MULTILINE)}
    text = (root / "docs" / "metrics.md").read_text()
    described = {re.sub(r"_total$", "", name) for name in re.findall(r"`(quayflow_\w+)", text)}
    assert described == families


def test_every_link_leads_somewhere(root: Path) -> None:
    broken = [
        f"{path.relative_to(root)}: {target}"
        for path in documents(root)
        for target in LINK.findall(path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_every_decision_is_listed_and_complete(root: Path) -> None:
    folder = root / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for path in folder.glob("0*.md"):
        assert f"({path.name})" in index
        assert headings(path.read_text()) == ["Objective", "Decision", "Is", "Is not", "Consequences"], path.name


def test_the_readme_names_the_two_commands_as_the_only_set_up(english: str) -> None:
    assert commands(english)[:2] == ["make demo", "make test"]


def test_both_readmes_say_the_same(english: str, chinese: str) -> None:
    assert len(headings(english)) == len(headings(chinese))
    assert commands(english) == commands(chinese)
    assert table_figures(english) == table_figures(chinese)
    # Each shows the page in its own language.
    assert set(LINK.findall(english)) - {"README.zh-CN.md"} == {
        link.replace(".zh-CN", "") for link in LINK.findall(chinese)
    } - {"README.md"}


def test_no_document_names_the_machine_that_it_was_written_on(root: Path) -> None:
    homes = re.compile(r"(?<![\w.])/(?:work|root|home/\w+)/")
    assert [str(path) for path in documents(root) if homes.search(path.read_text())] == []


def fault_of_call(line: str) -> str:
    """Return what the parser of the command line says against what follows `quayflow`, "" if nothing."""
    try:
        words, command = shlex.split(line, comments=True), typer.main.get_command(app)
        while (inner := getattr(command, "commands", None)) is not None:
            if not words or words[0].startswith("-"):
                return ""
            command = inner[words.pop(0)]
        if "--help" in words:
            return ""
        _, rest, _ = command.make_parser(typer.Context(command)).parse_args(args=words)
    except Exception as error:  # noqa: BLE001 - the parser's own kinds are none of its public names
        return f"{line}: {error!r}"
    return f"{line}: {rest} is too much" if rest else ""


def test_every_command_line_in_a_document_is_one_that_the_program_takes(root: Path) -> None:
    assert fault_of_call("check a b c --as vehicle") != ""
    assert fault_of_call("demo --nonsense") != ""
    assert fault_of_call("nonsense") != ""
    calls = []
    for text in (path.read_text() for path in documents(root) if path.name != "CHANGELOG.md"):
        calls += [call for block in FENCE.findall(text) for call in CALL.findall(block.replace("\\\n", " "))]
        # In running text a command may be named without what it needs, or as a pattern.
        calls += [call for call in SPOKEN_OF.findall(text) if not re.search(r"[…|]|\.\.\.|COMMAND", call)]
    assert len(calls) > 80
    calls += [call for lines in EXAMPLES.values() for line in lines for call in CALL.findall(line)]
    assert list(filter(None, map(fault_of_call, calls))) == []

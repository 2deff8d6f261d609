"""The layout of the repository: what a file may be, and what it may be called."""

from pathlib import Path

import conftest

FOLDERS = ("devices", "analytics", "store", "ingest", "api", "simulators", "quayflow", "bench", "faults", "tests")
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "services", "managers", "manager", "misc", "base"}
MOST_LINES = 600
DEEPEST = 3  # folders of a module: package, part, part


def sources(root: Path) -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))


def test_a_file_is_one_thing(root: Path) -> None:
    long = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in sources(root)}
    assert {path: lines for path, lines in long.items() if lines > MOST_LINES} == {}


def test_names_say_what_is_inside(root: Path) -> None:
    parts = {part for path in sources(root) for part in path.relative_to(root).with_suffix("").parts}
    assert parts & VAGUE == set()


def test_folders_are_at_most_two_deep_in_a_package(root: Path) -> None:
    deep = [path for path in sources(root) if len(path.relative_to(root).parts) > DEEPEST + 1]
    assert deep == []


def test_tests_are_no_package(root: Path) -> None:
    # tests/ingest/__init__.py would be imported as `ingest` and break the whole run at collection.
    assert list((root / "tests").rglob("__init__.py")) == []


def test_the_long_files_that_come_first_are_there(root: Path) -> None:
    assert [name for name in conftest.LONG if not (root / f"tests/test_{name}.py").is_file()] == []

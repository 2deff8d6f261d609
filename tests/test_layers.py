"""The shape of the repository: who imports whom, whose names are ours, and what a file may be."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGES = ("devices", "analytics", "store", "ingest", "api", "simulators", "quayflow")
VAGUE = {"utils", "util", "common", "core", "helpers", "helper", "services", "managers", "manager", "misc", "base"}
MOST_LINES = 600
DEEPEST = 3  # folders of a module: package, part, part


def sources(root: Path) -> list[Path]:
    return sorted(
        path for package in (*PACKAGES, "bench", "faults", "tests") for path in (root / package).rglob("*.py")
    )


def test_imports_point_one_way(root: Path) -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([lint_imports, "--no-cache"], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_name_belongs_to_this_distribution_alone(root: Path, package: str) -> None:
    # An editable installation lists nothing for us; a collision would list the other distribution.
    assert set(packages_distributions().get(package, ())) <= {"quayflow"}
    module = import_module(package)
    assert Path(module.__file__ or "").parent == root / package


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_starts_nothing(root: Path, package: str) -> None:
    script = f"""
import pkgutil, sys, threading, {package}
for found in pkgutil.walk_packages({package}.__path__, "{package}."):
    if not found.name.endswith("__main__"):
        __import__(found.name)
assert threading.active_count() == 1, threading.enumerate()
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""


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

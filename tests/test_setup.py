"""Set-up and what it installs from: lock files, wheel, Makefile."""

import re
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import quayflow

PACKAGES = {"devices", "analytics", "store", "ingest", "api", "simulators", "quayflow"}
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def locked(path: Path) -> dict[str, set[str]]:
    """Package → versions; more than one where the interpreter decides."""
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall(path.read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize(
    ("lock", "group"),
    [("requirements.lock", "build"), ("requirements-dev.lock", "dev"), ("requirements-node.lock", "node")],
)
def test_a_lock_file_holds_what_the_project_asks_for(
    root: Path, project: dict[str, Any], lock: str, group: str
) -> None:
    asked = [text for text in project["dependency-groups"][group] if isinstance(text, str)]
    if group != "node":
        asked += project["project"]["dependencies"]
    versions = locked(root / lock)
    for requirement in map(Requirement, asked):
        found = versions.get(canonicalize_name(requirement.name), set())
        assert found, f"{requirement} is not in {lock}: make lock"
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement}: {found} in {lock}"


def test_the_version_is_the_same_everywhere(root: Path, project: dict[str, Any]) -> None:
    version = project["project"]["version"]
    assert quayflow.__version__ == version
    assert f"quayflow:{version}" in (root / "docker-compose.yml").read_text()


def test_the_development_lock_runs_what_the_other_runs(root: Path) -> None:
    development = locked(root / "requirements-dev.lock")
    assert {name: development.get(name) for name in locked(root / "requirements.lock")} == locked(
        root / "requirements.lock"
    )


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-node.lock"])
def test_every_locked_package_has_hashes_and_no_address(root: Path, lock: str) -> None:
    text = (root / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^--(index|extra-index|find-links|trusted)", text, re.MULTILINE)
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        if PINNED.match(block):
            assert "--hash=sha256:" in block, block


def test_the_page_is_locked_without_addresses(root: Path) -> None:
    assert '"resolved"' not in (root / "web" / "package-lock.json").read_text()


def test_the_wheel_holds_the_packages_and_the_page_and_nothing_else(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES
    assert "api/static/index.html" in names
    assert any(name.startswith("api/static/swagger/") for name in names)


def test_a_second_set_up_finds_nothing_to_do_and_says_so_in_one_line(root: Path) -> None:
    command = [str(root / "deploy" / "setup.sh"), "test"]
    subprocess.run(command, capture_output=True, check=True)
    start = time.monotonic()
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "", "standard output belongs to the program that set-up is for"
    assert re.fullmatch(r"set-up: nothing to do \(\d+\.\d s\)\n", found.stderr), found.stderr
    assert time.monotonic() - start < 3


def test_set_up_refuses_what_it_does_not_know(root: Path) -> None:
    found = subprocess.run([root / "deploy" / "setup.sh", "everything"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "usage" in found.stderr


def test_the_makefile_has_its_targets_and_lists_them(root: Path) -> None:
    text = subprocess.run(["make", "help"], cwd=root, check=True, capture_output=True, text=True).stdout
    listed = {line.split()[1] for line in text.splitlines()}
    assert {"demo", "test", "bench", "faults", "check", "clean", "setup", "setup-test", "lock", "help"} <= listed


def test_continuous_integration_runs_the_developers_command(root: Path) -> None:
    script = root / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("exec make test")

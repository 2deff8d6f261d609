"""The layers of the repository: who imports whom, and whose names are ours."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGES = ("devices", "analytics", "store", "ingest", "api", "simulators", "quayflow")


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

"""The types of the whole repository, as ``make check`` looks at them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_types_hold(root: Path) -> None:
    mypy = Path(sys.executable).with_name("mypy")
    found = subprocess.run([mypy], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr

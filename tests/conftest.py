"""What every test shares: repeatable property tests and the folders of the checkout."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["engines.fixtures"]

ROOT = Path(__file__).resolve().parent.parent

# Property tests draw the same examples every time, and a busy machine is no reason to fail one. Look for new ones with
# HYPOTHESIS_PROFILE=explore.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("explore", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded field data that lies beside the checkout; the test is skipped where it does not."""
    folder = ROOT.parent / "shared" / "fixtures"
    if not folder.is_dir():
        pytest.skip(f"no recorded field data at {folder}")
    return folder

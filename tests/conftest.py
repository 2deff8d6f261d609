"""What every test shares: repeatable property tests and the folders of the checkout."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["engines.fixtures"]

ROOT = Path(__file__).resolve().parent.parent

LONG = (
    *("same_store", "types", "simulation", "worker", "command_line", "demo", "scenarios", "faults", "page"),
    *("command_failures", "page_panel", "bench", "device_watch", "terminal", "api_live", "access", "hearers"),
    *("port_model", "commands"),
    *("record_and_replay", "fleet", "device_client_broker", "gateway", "simulated_terminals", "readers", "load"),
)
"""The files that take longest, those that mostly wait between those that mostly compute."""

# Property tests draw the same examples every time, and a busy machine is no reason to fail one. Look for new ones with
# HYPOTHESIS_PROFILE=explore.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("explore", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files: one that is begun last is waited for by a machine that has nothing else to do.

    Which file is worked on where and when changes no result. With xdist it needs ``--no-loadscope-reorder``, for it
    would otherwise begin with the files of most tests.
    """
    turns = {f"test_{name}.py": turn for turn, name in enumerate(LONG)}
    items.sort(key=lambda item: turns.get(item.path.name, len(turns)))


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

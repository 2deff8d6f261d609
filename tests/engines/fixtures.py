"""Engines that several tests share: each is started when the first test asks for it, once, or once for a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engines.demo import Demo, running_demo
from engines.influx import Influx, running_influx
from engines.postgres import Postgres, running_postgres

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def influx() -> Iterator[Influx]:
    """A real InfluxDB; take a database of your own with ``influx.create(name)`` and do not stop it."""
    with running_influx() as engine:
        yield engine


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; take a database of your own with ``postgres.create(name)`` and do not stop it."""
    with running_postgres() as engine:
        yield engine


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Demo]:
    """A whole installation under way, with its page; its ledger must balance in the end."""
    assert (root / "api/static/index.html").is_file(), "the page is not built: npm --prefix web run build"
    with running_demo(tmp_path_factory.mktemp("demo"), "--seed", "7") as running:
        yield running
    assert running.result is not None
    assert running.result["ledger_balanced"]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A real browser. Not for the whole session: while it runs, no test in this thread can start an event loop."""
    from engines.chromium import running_chromium  # noqa: PLC0415 - hardly any test needs it, and it takes long to load

    with running_chromium() as running:
        yield running

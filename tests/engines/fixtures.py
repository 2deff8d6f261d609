"""Engines that several tests share: each is started once, when the first test asks for it."""

from collections.abc import Iterator

import pytest

from engines.influx import Influx, running_influx
from engines.postgres import Postgres, running_postgres


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

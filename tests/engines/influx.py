"""A real InfluxDB for tests: Debian's 1.6.7, or the 2.x that the environment names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from engines.influx1 import Influx1
from engines.influx2 import Influx2
from engines.influx_server import InfluxServer as Influx

INFLUXD2: Final = "TEST_INFLUXD2"
"""Environment variable with the path of an influxd 2.x, which then takes the place of 1.6.7 everywhere."""

__all__ = ["INFLUXD2", "Influx", "running_influx"]


@contextmanager
def running_influx() -> Iterator[Influx]:
    """Start a server on free ports in a temporary folder; afterwards nothing of it is left."""
    newer = os.environ.get(INFLUXD2)
    influx = Influx2(newer) if newer else Influx1()
    try:
        influx.start()
        yield influx
    finally:
        influx.close()

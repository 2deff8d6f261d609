"""``python -m quayflow``."""

from quayflow.main import run

run()

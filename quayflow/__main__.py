"""``python -m quayflow``."""

from quayflow.entry import run

run()

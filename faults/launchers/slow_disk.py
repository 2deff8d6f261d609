"""The product on a disk whose every sync takes ``QUAYFLOW_FAULT_FDATASYNC_S`` seconds longer."""

import os
import time
from typing import TYPE_CHECKING

from quayflow.entry import run

if TYPE_CHECKING:
    from _typeshed import HasFileno

DELAY_S = float(os.environ["QUAYFLOW_FAULT_FDATASYNC_S"])
_fdatasync = os.fdatasync


def slow(fd: "int | HasFileno") -> None:
    """Sync, late."""
    time.sleep(DELAY_S)
    _fdatasync(fd)


if __name__ == "__main__":
    os.fdatasync = slow
    run()

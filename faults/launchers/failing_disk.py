"""The product on a disk whose sync number ``QUAYFLOW_FAULT_FAILS_AT`` fails, as a bad sector makes it."""

import errno
import os
import time
from typing import TYPE_CHECKING

from quayflow.entry import run

if TYPE_CHECKING:
    from _typeshed import HasFileno

FAILS_AT = int(os.environ["QUAYFLOW_FAULT_FAILS_AT"])
_fdatasync = os.fdatasync
_calls = 0


def failing(fd: "int | HasFileno") -> None:
    """Sync until it is time to fail; what follows a failure succeeds, as the kernel has it."""
    global _calls  # noqa: PLW0603 - counts over the life of the process
    _calls += 1
    if _calls == FAILS_AT:
        # As a failing disk does, it takes its time first, in which a commit comes due.
        time.sleep(0.3)
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _fdatasync(fd)


if __name__ == "__main__":
    os.fdatasync = failing
    run()

"""The product dying at the call number ``QUAYFLOW_FAULT_DIES_AT`` of those that change the disk.

Counted are ``os.write``, ``fdatasync``, ``fsync``, ``ftruncate``, ``replace`` and ``unlink`` of Python; with
``QUAYFLOW_FAULT_DIES_AFTER=1`` the call is made first. SQLite's own calls are not among them.
"""

import itertools
import os
from collections.abc import Callable
from typing import Any

from quayflow.entry import run

DIES_AT = int(os.environ["QUAYFLOW_FAULT_DIES_AT"])
DIES_AFTER = os.environ["QUAYFLOW_FAULT_DIES_AFTER"] == "1"
CALLS = ("write", "fdatasync", "fsync", "ftruncate", "replace", "unlink")
_calls = itertools.count(1)


def counted(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the call, at one of whose turns the process ends without a word."""

    def at_its_turn(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - it takes what the call takes
        if next(_calls) != DIES_AT:
            return call(*arguments, **options)
        if DIES_AFTER:
            call(*arguments, **options)
        os._exit(9)

    return at_its_turn


if __name__ == "__main__":
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    run()

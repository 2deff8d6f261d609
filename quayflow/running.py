"""Running one part of the product to its end: what it logs, and how its failures are told."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

from quayflow.failures import INTERRUPTED, status_of


def log_from(level: str) -> None:
    """Log to standard error from a level on, such as ``info``."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # What fails is said in one sentence; that it is tried again is not worth a line each time.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def finish(work: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run a part to its end and leave with its exit status; expected failures are one sentence, not a traceback."""
    try:
        result = asyncio.run(work)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        print(f"quayflow: {error}", file=sys.stderr)  # noqa: T201 - the command line's own words
        raise SystemExit(status) from None
    raise SystemExit(result or 0)

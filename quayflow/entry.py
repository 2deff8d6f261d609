"""Where the command ``quayflow`` begins."""

import sys

from quayflow.readers import ending_with_its_reader


def run() -> None:
    """Run what the command line asks for."""
    with ending_with_its_reader():
        if sys.argv[1:2] == ["ingest"] and "--help" not in sys.argv:
            from quayflow.ingesting import settle_in_child  # noqa: PLC0415 - each process loads what it runs

            settle_in_child()
        from quayflow.main import app  # noqa: PLC0415 - as above

        app()

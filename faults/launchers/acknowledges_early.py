"""A broken product for the mutation check: it acknowledges before the journal is durable.

Records are kept in memory and written a moment later, as a program does that trusts its buffers; what a kill finds
there is lost.
"""

import threading
import time

from quayflow.main import run
from store.journal import JournalWriter

LATE_S = 0.5
_append = JournalWriter.append


def early(journal: JournalWriter, blob: bytes, frames: int) -> None:
    """Say that it is written, and write it later."""
    start = journal.end
    journal.end = start + len(blob)
    journal.frames += frames

    def late() -> None:
        time.sleep(LATE_S)
        end, count = journal.end, journal.frames
        journal.end = start
        _append(journal, blob, 0)
        journal.end, journal.frames = end, count

    threading.Thread(target=_in_turn, args=(late,), daemon=True).start()


_turn = threading.Lock()


def _in_turn(write: object) -> None:
    with _turn:
        assert callable(write)  # noqa: S101 - made above
        write()


if __name__ == "__main__":
    JournalWriter.append = early  # type: ignore[assignment,method-assign]
    run()

"""A broken product for the mutation check: it acknowledges before the journal is durable.

Records are kept in memory and written a moment later, as a program does that trusts its buffers; what a kill finds
there is lost.
"""

import threading
import time

from quayflow.entry import run
from store.journal import JournalWriter

EVERY_S = 0.5
_append = JournalWriter.append
_turn = threading.Lock()
_waiting: list[bytes] = []


def early(journal: JournalWriter, blob: bytes, frames: int) -> None:
    """Say that it is written, and leave it to a thread that writes now and then."""
    with _turn:
        if not _waiting:
            threading.Thread(target=_write_later, args=(journal,), daemon=True).start()
        _waiting.append(blob)
        journal.end += len(blob)
        journal.frames += frames


def _write_later(journal: JournalWriter) -> None:
    time.sleep(EVERY_S)
    with _turn:
        blob = b"".join(_waiting)
        _waiting.clear()
        end, count = journal.end, journal.frames
        journal.end = end - len(blob)
        _append(journal, blob, 0)
        journal.end, journal.frames = end, count


if __name__ == "__main__":
    JournalWriter.append = early  # type: ignore[assignment,method-assign]
    run()

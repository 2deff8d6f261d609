"""Who reads what a command prints: a command whose reader has gone ends as quietly as `grep` does.

``quayflow config show | head -1`` is no failure. What could not be written is thrown away and the exit status is that
of a program that the system has ended for writing to nobody. Python's own way is a traceback, or 1 as if the work had
failed.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import Final, TextIO

READER_GONE: Final = 128 + signal.SIGPIPE
"""Exit status of a command whose reader has gone, as shells show it."""


@contextlib.contextmanager
def ending_with_its_reader() -> Iterator[None]:
    """Leave with :data:`READER_GONE` where what was printed within could not be written, for want of a reader.

    The work itself ends in its own order first: it only sees that a write fails, much as it sees Ctrl-C.
    """
    failed = False
    try:
        yield
    except SystemExit as end:
        # The command line's own end on a broken pipe. A broken connection to a broker is none of a reader's.
        failed = isinstance(end.__context__, BrokenPipeError)
        raise
    finally:
        # Both are looked at: `2>&1 |` has them lead to the same reader.
        unread = [_is_unread(stream, failed=failed) for stream in (sys.__stdout__, sys.__stderr__)]
        if any(unread):
            raise SystemExit(READER_GONE)


def _is_unread(stream: TextIO | None, *, failed: bool) -> bool:
    """Tell whether something could not be written since nobody reads; what is still to come is thrown away then.

    ``failed``: whether a write has failed already, to this stream or to another.
    """
    if stream is None or stream.closed:
        return False
    try:
        stream.flush()
        if not (failed and _has_no_reader(stream.fileno())):
            return False
    except BrokenPipeError:
        pass
    # The interpreter flushes once more at its end, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return True


def _has_no_reader(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))

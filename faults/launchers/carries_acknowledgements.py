"""A broken product for the mutation check: what a lost connection left unacknowledged, it acknowledges on the next one.

That is what a client does whose acknowledgements name a packet id and not a connection. The product cannot: a batch is
acknowledged through the session that delivered it. The mutation therefore replaces that call.
"""

import os
import time
from collections.abc import Sequence

from ingest.intake import Marks
from ingest.session import Message, Session, SessionConfig, SessionError
from quayflow.entry import run

DELAY_S = float(os.environ["QUAYFLOW_FAULT_FDATASYNC_S"])
_acknowledge, _open = Session.acknowledge, Session.open
_fdatasync = os.fdatasync
_left: list[Message] = []


def carrying(session: Session, messages: Sequence[Message]) -> None:
    """Acknowledge, and remember what could not be."""
    try:
        # A connection that the broker has cut takes a first packet all the same; ask it before.
        if session._intake.receive() == 0:  # noqa: SLF001 - it is the product that is broken here
            _acknowledge(session, messages)
            return
    except SessionError:
        pass
    _left.extend(messages)


async def opening(config: SessionConfig, marks: Marks | None = None) -> Session:
    """Open a session and acknowledge on it what the one before left."""
    session: Session = await _open(config, marks)
    _acknowledge(session, _left)
    _left.clear()
    return session


def slow(fd: int) -> None:
    """Sync, late, so that a batch is under way when the connection is lost."""
    time.sleep(DELAY_S)
    _fdatasync(fd)


if __name__ == "__main__":
    Session.acknowledge = carrying  # type: ignore[assignment,method-assign]
    Session.open = opening  # type: ignore[method-assign]
    os.fdatasync = slow  # type: ignore[assignment]
    run()

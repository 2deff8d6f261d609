"""What nobody has foreseen of a frame: it becomes a counted refusal, never the end of the process.

The frame is in the journal: whoever let it end the process would meet it again at every start.
"""

import logging
from typing import Final

from devices.rejects import Reason, Reject
from store.journal import Frame

log = logging.getLogger(__name__)

FAILED: Final = " failed: "
"""In the detail of such a refusal, between where the error was and what it was."""


class Unforeseen:
    """Makes refusals of errors, and tells of each kind once with its trace."""

    def __init__(self) -> None:
        """Begin without having told of any."""
        self._told: set[tuple[str, type[Exception]]] = set()

    def tell(self, error: Exception, where: str, what: str) -> None:
        """Log an error, once of its kind; ``what`` says on what it was."""
        kind = where, type(error)
        if kind not in self._told:
            self._told.add(kind)
            log.error("%s failed on %s", where, what, exc_info=error)

    def reject(self, error: Exception, frame: Frame, where: str) -> Reject:
        """Return the refusal of what an error has kept from being read; ``where`` says whose error it is."""
        self.tell(error, where, f"a frame at {frame.offset} of {frame.topic}")
        return Reject(Reason.UNDECODABLE, "", f"{where}{FAILED}{error!r:.200}")

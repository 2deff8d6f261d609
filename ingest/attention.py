"""Since when ingest listens without a break: what nobody listens to is not silent.

While the broker is away, the disk is full or the process stands still, every device seems silent, and all that it sends
meanwhile comes afterwards. Were it taken for silent, its watermark would move on, all of that would be late, and the
detectors of every device would have to run again over the journal.
"""

from typing import Final

from devices.times import NS

BREAK: Final = 1 * NS
"""Being away for less counts as listening, ns."""
PATIENCE: Final = 600 * NS
"""Being away for longer counts as listening, ns: what waits for the devices that do not come back is to be known."""


class Attention:
    """Whether ingest listens; times in ns UTC, of a clock that nobody sets."""

    def __init__(self) -> None:
        """It has not begun to listen."""
        self._since = 0
        self._away: int | None = 0
        self._asked = 0

    def leave(self, now: int) -> None:
        """Note that ingest does something else from now on, such as to connect, or to write what it has heard."""
        if self._away is None:
            self._away = now

    def turn_to(self, now: int) -> None:
        """Note that it listens from now on."""
        if self._away is not None and now - self._away > BREAK:
            self._since = now
        self._away = None

    def since(self, now: int) -> int:
        """Return since when it listens, ``now`` if it does not; to be asked several times a second.

        Where nobody has asked for a while, the process stood still.
        """
        if now - self._asked > BREAK:
            self._since = now
        self._asked = now
        away = 0 if self._away is None else now - self._away
        return now if BREAK < away <= PATIENCE else self._since

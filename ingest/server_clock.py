"""The clock of the machine that ingest runs on, which may be set: what time to take it to be meanwhile.

A clock that is set goes by another amount than time does. Whoever set it may have put it right or wrong; so a step of
more than a minute is believed only once it has stood for an hour. Until then the alarm is on, and time goes on from
where it was: nothing is deleted for its age and no silent device is overtaken because somebody mistyped a year.

What is received is stamped with the later of the two times, so that devices whose clocks are right are taken to be
neither before nor after the step in the future: see :data:`ingest.checks.MAX_AHEAD`.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from devices.times import NS, format_rfc3339

log = logging.getLogger(__name__)

STEP: Final = 60 * NS
"""Clocks that are kept by the network are moved by less than this at once, ns."""
SETTLED_AFTER: Final = 3_600 * NS
"""A step that has stood for so long is believed, ns."""


def passed() -> int:
    """Return how much time has passed, ns, also while the machine slept; nobody can set it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class ServerClock:
    """A wall clock beside one that cannot be set; may be asked by several threads."""

    def __init__(self, wall: Callable[[], int] = time.time_ns, elapsed: Callable[[], int] = passed) -> None:
        """``wall`` gives ns UTC; ``elapsed`` ns since any time."""
        self._wall = wall
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._offset = self._said = wall() - elapsed()
        """Wall minus elapsed time: as believed, and as the wall clock said when last asked."""
        self._stepped_at: int | None = None
        self.steps = 0
        """How often the clock has been set, by more than :data:`STEP`."""

    def doubted(self) -> bool:
        """Whether it has been set to what is not believed yet."""
        self._look()
        return self._stepped_at is not None

    def steady(self) -> int:
        """Return the time that is believed, ns UTC."""
        return self._look()[0]

    def received(self) -> int:
        """Return the time to stamp with what is received now, ns UTC."""
        return max(self._look())

    def _look(self) -> tuple[int, int]:
        """Compare the clocks; return the time that is believed, and what the wall clock says."""
        with self._lock:
            wall, elapsed = self._wall(), self._elapsed()
            said, before = wall - elapsed, self._said
            self._said = said
            if abs(said - self._offset) <= STEP:
                self._offset, self._stepped_at = said, None
            elif self._stepped_at is None or abs(said - before) > STEP:
                self.steps += 1
                self._stepped_at = elapsed
                log.error(
                    "THE CLOCK HAS BEEN SET from %s to %s: for an hour, time goes on from where it was",
                    *(format_rfc3339(elapsed + self._offset), format_rfc3339(wall)),
                )
            elif elapsed - self._stepped_at >= SETTLED_AFTER:
                log.warning("the clock has stood for an hour since it was set: it is believed")
                self._offset, self._stepped_at = said, None
            return elapsed + self._offset, wall

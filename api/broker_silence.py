"""For how long the broker has said nothing, not even when asked: to be connected is not to be alive.

    heard something ──► for a second nothing ──► asked ──► answered: heard
                                                  └─ for four seconds in all nothing: silent

A broker that stands still, or a machine that was cut off, leaves the connection as it is until the keep-alive ends it,
which takes up to half a minute. In this time whoever looks at the page would take old values for new ones.
"""

from collections.abc import Callable
from typing import Final

from devices.topics import RESULTS_ROOT

LOOK_S: Final = 0.5
"""Time between two looks, s."""
ASK_S: Final = 1.0
"""Silence after which the broker is asked whether it is there, s: workers report each second, so mostly it is not."""
SILENT_S: Final = 4.0
"""Silence of a broker that was asked, after which it is told of, s.

Mosquitto says nothing while it writes what waits in it to a slow disk, most of all while much waits. That is shorter
as a rule; where it is not, it is true all the same that nothing comes, and it ends by itself.
"""
LATE_S: Final = 1.0
"""A look that comes late by more shows that this process has stood still itself, s: that is no silence of others."""
NOTHING: Final = f"{RESULTS_ROOT}/-/nothing"
"""Nobody is subscribed to this: to give it up changes nothing, and the broker has to answer."""


class BrokerSilence:
    """Times are in s, of a clock that nobody sets."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """It counts from now on."""
        self._clock = clock
        self._heard = self._looked = clock()

    def hear(self) -> None:
        """Note that the broker has said something."""
        self._heard = self._clock()

    def look(self) -> bool:
        """Return whether the broker should be asked; to be called every :data:`LOOK_S`."""
        now = self._clock()
        if now - self._looked > LOOK_S + LATE_S:
            # What has come meanwhile has not been read yet.
            self._heard += now - self._looked
        self._looked = now
        return now - self._heard >= ASK_S

    @property
    def seconds(self) -> float:
        """For how long it has said nothing, s."""
        return max(0.0, self._clock() - self._heard)

    @property
    def is_silent(self) -> bool:
        """Whether that is so long that it is told of."""
        return self.seconds >= SILENT_S

"""A broker that is connected and says nothing: asked soon, told of after four seconds, and never for our own delay."""

import pytest

from api.broker_silence import ASK_S, LOOK_S, SILENT_S, BrokerSilence


class Watched:
    """One that is looked at as the hub does, on a clock set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.silence = BrokerSilence(lambda: self.now)

    def look_for(self, seconds: float, *, late_s: float = 0.0) -> tuple[bool, bool]:
        """Let time pass, the last look coming late; return whether the broker is asked, and whether it is silent."""
        asked = False
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            asked = self.silence.look()
        if late_s:
            self.now += LOOK_S + late_s
            asked = self.silence.look()
        return asked, self.silence.is_silent


def test_a_broker_that_speaks_is_neither_asked_nor_silent() -> None:
    watched = Watched()
    for _ in range(20):
        assert watched.look_for(LOOK_S) == (False, False)
        watched.silence.hear()


def test_a_broker_that_says_nothing_is_asked_and_then_silent_within_five_seconds() -> None:
    watched = Watched()
    assert watched.look_for(ASK_S) == (True, False)
    assert watched.look_for(SILENT_S - ASK_S - LOOK_S) == (True, False)
    assert watched.look_for(LOOK_S) == (True, True)
    assert SILENT_S + LOOK_S < 5
    watched.silence.hear()
    assert not watched.silence.is_silent


@pytest.mark.parametrize("late_s", [1.5, 4.0, 60.0])
def test_time_in_which_we_stood_still_ourselves_is_no_silence(late_s: float) -> None:
    watched = Watched()
    assert watched.look_for(2.0, late_s=late_s) == (True, False)
    assert watched.silence.seconds == pytest.approx(2.0)

"""What keeps cranes from working: wind, breakdowns, and the change of shifts.

A crane looks for a hindrance before each job, finishes what hangs on its ropes, and waits. Times of planned events are
seconds after the warm-up, as all times in a profile.
"""

import math
from typing import Final

import numpy as np
from numpy.random import Generator

from simulators.port.agenda import WARM_UP_S, Agenda, Process
from simulators.port.cranes import AlarmChange, Crane
from simulators.port.weather import WIND_AT_BOOM, Weather
from simulators.profiles import Profile
from simulators.truth import Alarm, TruthLog

HOUR_S: Final = 3600.0
LOOK_S: Final = 30.0
"""Step in which the wind is judged, s."""
CALM_S: Final = 300.0
"""How long the wind must stay below the limit before work goes on, s."""
CALM_BELOW_MPS: Final = 2.0
"""How far below the limit it must stay, m/s."""
LONGEST_STOP_S: Final = 48 * HOUR_S


class Hindrances:
    """Judges, for any crane and moment, whether and why it must wait, and for how long."""

    def __init__(self, agenda: Agenda, random: Generator, profile: Profile, weather: Weather) -> None:
        """Draw when each crane fails; without a section ``hindrances`` only planned breakdowns happen."""
        self._agenda = agenda
        self._random = random
        self._limits = profile.hindrances
        self._planned = profile.breakdowns
        self._opening_hour = profile.arrivals.opening_hour if profile.arrivals else 0.0
        self._weather = weather
        self._fails_at: dict[str, float] = {}
        self._shift: dict[str, float] = {}
        self._windy: dict[int, bool] = {}

    def clear(self, crane: Crane, truth: TruthLog) -> Process:
        """Wait until nothing keeps ``crane`` from its next job."""
        while hindrance := self._hindrance(crane.name):
            code, duration = hindrance
            now = self._agenda.now
            crane.alarms.append(AlarmChange(now, code, active=True))
            crane.alarms.append(AlarmChange(now + duration, code, active=False))
            truth.add(Alarm(crane.name, now, now + duration, code))
            yield duration

    def _hindrance(self, crane: str) -> tuple[str, float] | None:
        """Return why a crane must wait and for how long (s), or None."""
        now = self._agenda.now
        for planned in self._planned:
            begin = WARM_UP_S + planned.from_s
            if planned.device == crane and begin <= now < begin + planned.lasts_s:
                return "breakdown", begin + planned.lasts_s - now
        limits = self._limits
        if limits is None:
            return None
        if self._is_windy(int(now // LOOK_S)):
            return "wind_stop", self._calm_after(now) - now
        shift = self._shift_of(now)
        if self._shift.setdefault(crane, shift) != shift:
            self._shift[crane] = shift
            return "shift_change", float(self._random.uniform(*limits.shift_pause_s))
        due = self._fails_at.get(crane)
        if due is None:
            due = self._fails_at[crane] = now + float(self._random.exponential(limits.mtbf_h * HOUR_S))
        if now >= due:
            repair = float(self._random.uniform(*limits.repair_s))
            self._fails_at[crane] = now + repair + float(self._random.exponential(limits.mtbf_h * HOUR_S))
            return "breakdown", repair
        return None

    def _shift_of(self, now: float) -> float:
        """Return a number that changes when a shift begins."""
        limits = self._limits
        hour = self._opening_hour + (now - WARM_UP_S) / HOUR_S
        starts = sorted(limits.shift_hours) if limits else []
        begun = sum(hour % 24 >= start for start in starts)
        return hour // 24 * len(starts) + begun

    def _is_windy(self, tick: int) -> bool:
        """Whether the strongest gust of the last minute at the boom is above the limit."""
        found = self._windy.get(tick)
        if found is None:
            times = tick * LOOK_S - np.arange(0.0, 60.0, 5.0)
            limit = self._limits.wind_stop_mps if self._limits else math.inf
            found = self._windy[tick] = bool(self._weather.wind_mps(times, WIND_AT_BOOM).max() > limit)
        return found

    def _calm_after(self, now: float) -> float:
        """Return when the wind will have been below the limit for long enough, s."""
        limit = (self._limits.wind_stop_mps if self._limits else math.inf) - CALM_BELOW_MPS
        times = now + np.arange(0.0, LONGEST_STOP_S, LOOK_S)
        strong = np.flatnonzero(self._weather.wind_mps(times, WIND_AT_BOOM) > limit)
        gaps = np.flatnonzero(np.diff(np.append(strong, len(times) + CALM_S)) * LOOK_S > CALM_S)
        return float(now + strong[gaps[0]] * LOOK_S + CALM_S) if len(strong) else now + CALM_S

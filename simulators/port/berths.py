"""Vessel calls: a berth takes one ship after another, and its cranes work the ship's bays.

A call: the ship waits for the tide, makes fast (first line), is unlashed, is worked by the berth's cranes, is lashed
and leaves (last line). Each crane has its own stretch of bays, so cranes never pass each other. In a bay the discharge
goes from the top of the stacks down, the load from the bottom up.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.cranes import Spot
from simulators.port.layout import TIER_M
from simulators.port.quay import CELL_M, FIRST_CELL_M, KEEL_TIER_M, Bay, BayPlan, QuayCrane, Stretch
from simulators.port.weather import Tide
from simulators.profiles import Calls, Profile
from simulators.truth import TruthLog, VesselCall

BAY_STEP_M: Final = 13.0
DECK_TOP_M: Final = (12.0, 22.0)
IMBALANCE: Final = (0.8, 1.2)
"""How unevenly the lifts of a call fall to its cranes."""


class Berth:
    """A stretch of the quay with its own cranes."""

    def __init__(
        self,
        agenda: Agenda,
        number: int,
        random: Generator,
        profile: Profile,
        calls: Calls,
        cranes: Sequence[QuayCrane],
        tide: Tide,
    ) -> None:
        """Share one queue of tractor orders among ``cranes``."""
        self.name = f"BERTH-{number + 1:02d}"
        self.cranes = cranes
        self.calls = 0
        self._lifts = 0
        self._agenda = agenda
        self._random = random
        self._profile = profile
        self._limits = calls
        self._tide = tide
        for crane in cranes:
            crane.orders = cranes[0].orders

    def work(self, truth: TruthLog) -> Process:
        """Take one ship after another for ever."""
        random, limits = self._random, self._limits
        share = 1.0
        if random.random() < limits.working_share:
            share = random.uniform(0.2, 1.0)
        else:
            yield random.uniform(0, limits.gap_s[1])
        while True:
            arrived = self._agenda.now
            if share >= 1:
                yield self._tide.wait(arrived)
            first_line = self._agenda.now
            if share >= 1:
                yield random.uniform(*limits.lashing_s)
            boxes = round(share * random.integers(limits.boxes[0], limits.boxes[1] + 1))
            self.calls += 1
            vessel = f"{self.name}/{self.calls}"
            first_lift = self._agenda.now
            yield from self._exchange(vessel, max(len(self.cranes), boxes))
            last_lift = self._agenda.now
            yield random.uniform(*limits.lashing_s)
            end = self._agenda.now
            truth.add(
                VesselCall(
                    self.name,
                    first_line,
                    end,
                    vessel,
                    arrived,
                    first_lift,
                    last_lift,
                    self._lifts,
                    len(self.cranes),
                    share < 1,
                )
            )
            share = 1.0
            yield random.uniform(*limits.gap_s)

    def _exchange(self, vessel: str, boxes: int) -> Process:
        """Work a ship and count its lifts."""
        done: Store[int] = Store(self._agenda)
        for crane in self.cranes:
            uneven = self._random.uniform(*IMBALANCE)
            lifts = max(1, round(uneven * boxes / len(self.cranes)))
            crane.stretches.put(Stretch(vessel, self._bays(crane, lifts), done))
        self._lifts = 0
        for _ in self.cranes:
            self._lifts += yield done

    def _bays(self, crane: QuayCrane, lifts: int) -> deque[BayPlan]:
        """Plan the bays of one crane from one end of its stretch to the other."""
        random, quay = self._random, self._profile.quay
        low, high = crane.zone
        plan: deque[BayPlan] = deque()
        x = low + float(random.uniform(0, BAY_STEP_M))
        while lifts > 0:
            size = min(lifts, int(random.integers(quay.moves_per_bay[0], quay.moves_per_bay[1] + 1)))
            lifts -= size
            level = self._tide.height_m(self._agenda.now)
            top = float(random.uniform(DECK_TOP_M[0], min(DECK_TOP_M[1], quay.lift_above_quay_m - 10)))
            discharges = int(random.binomial(size, self._limits.discharge_share))
            cells = self._cells(top, level, size)
            kinds = ["discharge"] * discharges + ["load"] * (size - discharges)
            plan.append(BayPlan(Bay(x, top + level), tuple(zip(kinds, cells, strict=True))))
            x = x + BAY_STEP_M if x + BAY_STEP_M <= high else low + float(random.uniform(0, BAY_STEP_M))
        return plan

    def _cells(self, top: float, level: float, count: int) -> list[Spot]:
        """Return the cells of a bay in the order of work: down the stacks that are emptied, then up again."""
        random = self._random
        rows = int((self._profile.quay.outreach_m - FIRST_CELL_M) / CELL_M)
        tiers = int((top - KEEL_TIER_M) / TIER_M)
        depth = sorted(int(tier) for tier in random.integers(tiers + 1, size=count))
        half = count // 2
        tiers_worked = depth[: half + count % 2][::-1] + depth[half + count % 2 :]
        worked = random.integers(rows, size=count)
        return [
            Spot(FIRST_CELL_M + CELL_M * int(row), level + KEEL_TIER_M + TIER_M * tier)
            for row, tier in zip(worked, tiers_worked, strict=True)
        ]

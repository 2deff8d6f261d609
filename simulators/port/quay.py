"""Quay cranes: bays of lifts between the ship and the tractors below.

The trolley position is 0 at the quay edge, positive over the ship (outreach) and negative over land, so the trolley is
at y = −position. A discharge locks over the ship and unlocks over land, a load the other way round.
"""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from numpy.random import Generator

from simulators.port.agenda import Agenda, Process, Store
from simulators.port.containers import Container, make_container
from simulators.port.cranes import FINAL_APPROACH_M, Crane, Spot
from simulators.port.layout import TIER_M, Layout, Point
from simulators.port.vehicles import Line, Truck
from simulators.profiles import Profile
from simulators.truth import Move, Relock, TruthLog

if TYPE_CHECKING:
    from simulators.port.hindrances import Hindrances

CHASSIS_M: Final = 1.5
"""Height of a trailer, m."""
CELL_M: Final = 2.5
"""Width of a ship's row, m."""
FIRST_CELL_M: Final = 9.0
"""Trolley position of the row nearest to the quay, m."""
KEEL_TIER_M: Final = -6.0
"""Lowest container top in the hold, relative to the quay, m."""
JOBS_AHEAD: Final = 8
BAY_STEP_M: Final = 13.0


@dataclass(frozen=True, slots=True)
class Bay:
    """Where a crane works for a while: gantry position, and height of the stacks on the ship's deck, m."""

    x: float
    deck_top: float

    @property
    def clearance(self) -> float:
        """Height at which a hanging container passes over the deck, m."""
        return self.deck_top + TIER_M + 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """One lift in a crane's sequence; ``kind`` is ``discharge``, ``load``, ``shift`` or ``relock``."""

    kind: str
    bay: Bay
    cell: Spot
    containers: tuple[Container, ...]

    @property
    def gross_t(self) -> float:
        """What hangs on the ropes, t."""
        return sum(container.gross_t for container in self.containers)


class BayPlan(NamedTuple):
    """The lifts of one bay in the order of work, each with its kind and its cell on the ship."""

    bay: Bay
    lifts: tuple[tuple[str, Spot], ...]


@dataclass(slots=True)
class Stretch:
    """One crane's part of a ship: its bays in the order of work; ``done`` gets the number of lifts at the end."""

    vessel: str
    bays: deque[BayPlan]
    done: "Store[int]"
    lifts: int = 0


class Order(NamedTuple):
    """A job for which a tractor has to come to a crane."""

    crane: "QuayCrane"
    job: Job


class QuayCrane(Crane):
    """A quay crane with its sequence of jobs, its orders for tractors and the line of tractors below it."""

    def __init__(
        self,
        agenda: Agenda,
        number: int,
        random: Generator,
        profile: Profile,
        layout: Layout,
        truth: TruthLog,
        hindrances: "Hindrances",
    ) -> None:
        """Stand somewhere in the crane's own part of the quay."""
        pitch = profile.quay.length_m / profile.quay.cranes
        # On a crowded quay the line of tractors may reach below the neighbour, but no crane leaves its own part.
        self.zone = (pitch * number + min(35.0, 0.4 * pitch), pitch * (number + 1) - min(15.0, 0.2 * pitch))
        """Between which x the crane works, m."""
        x = random.uniform(*self.zone)
        self.lane_y = layout.portal_lane_y(number)
        lane = Spot(-self.lane_y, CHASSIS_M + TIER_M)
        super().__init__(f"QC{number + 1:02d}", random, profile.quay, x, Spot(lane.trolley, 20.0))
        self.lane = lane
        self.orders: Store[Order] = Store(agenda)
        """Jobs for which a tractor has to come, in the crane's order; the cranes of a berth share them."""
        self.stretches: Store[Stretch] = Store(agenda)
        """Parts of ships to be worked; a crane without vessel calls plans bays for itself."""
        self.ready: dict[str, Store[Truck]] = {"discharge": Store(agenda), "load": Store(agenda)}
        """Tractors that wait below the crane, by what they came for."""
        self.line = Line(agenda, f"QC{number + 1:02d}", (x, self.lane_y), (-1.0, 0.0), truth)
        self._hindrances = hindrances
        self._stretch: Stretch | None = None
        self._agenda = agenda
        self._profile = profile
        self._jobs: deque[Job] = deque()
        self._ordered = 0
        """For how many of the next jobs tractors have been ordered where they need one."""
        self._bay = Bay(x, 18.0)
        self._loading = bool(random.integers(2))

    @property
    def place(self) -> Point:
        """Where tractors are served, m."""
        return self.line.head

    def work(self, truth: TruthLog) -> Process:
        """Do one job after another for ever."""
        while True:
            while len(self._jobs) < JOBS_AHEAD and self._plan():
                pass
            if not self._jobs:
                if self._stretch is not None:
                    self._stretch.done.put(self._stretch.lifts)
                self._stretch = yield self.stretches
                continue
            self._order_ahead()
            yield from self._hindrances.clear(self, truth)
            job = self._jobs.popleft()
            self._ordered -= 1
            if job.bay.x != self.gantry.goal:
                yield from self._change_bay(job.bay)
            if self._stretch is not None and job.kind in self.ready:
                self._stretch.lifts += 1
            if job.kind == "relock":
                yield from self._relock(job, truth)
            elif job.kind == "shift":
                yield from self._shift(job, truth)
            else:
                yield from self._carry(job, truth)

    def _carry(self, job: Job, truth: TruthLog) -> Process:
        now = self._agenda.now
        if job.kind == "discharge":
            self.prepare(now, job.containers)
            free = self.travel(now, job.bay.clearance, job.cell, laden=False)
            lock, free = self.pick(free, job.cell, job.gross_t)
            yield self.travel(free, job.bay.clearance, self.lane, laden=True) - now
            truck = yield self.ready["discharge"]
            yield self.line.call(truck)
            truck.mark_ready()
            unlock, free = self.put(self._agenda.now, self.lane)
            truck.set_cargo(unlock, job.containers)
        else:
            yield self.travel(now, job.bay.clearance, self.lane, laden=False) - now
            truck = yield self.ready["load"]
            yield self.line.call(truck)
            truck.mark_ready()
            self.prepare(self._agenda.now, truck.cargo)
            job = Job(job.kind, job.bay, job.cell, truck.cargo)
            lock, free = self.pick(self._agenda.now, self.lane, job.gross_t)
            truck.set_cargo(lock, ())
            self._release(truck, free)
            free = self.travel(free, job.bay.clearance, job.cell, laden=True)
            unlock, free = self.put(free, job.cell)
        truth.add(_move(self.name, job, lock, unlock, truck.name))
        if job.kind == "discharge":
            self._release(truck, free)
        yield free - self._agenda.now

    def _shift(self, job: Job, truth: TruthLog) -> Process:
        now = self._agenda.now
        self.prepare(now, job.containers)
        free = self.travel(now, job.bay.clearance, job.cell, laden=False)
        lock, free = self.pick(free, job.cell, job.gross_t)
        goal = self._cell(job.bay)
        free = self.travel(free, job.bay.clearance, goal, laden=True)
        unlock, free = self.put(free, goal)
        truth.add(_move(self.name, job, lock, unlock, ""))
        yield free - now

    def _relock(self, job: Job, truth: TruthLog) -> Process:
        """Lock and unlock the empty spreader, as after a failed pick or to take it along from a stack."""
        now = self._agenda.now
        free = self.travel(now, job.bay.clearance, job.cell, laden=False)
        lock, free = self.pick(free, job.cell, 0.0)
        free = self.travel(free, job.cell.height + FINAL_APPROACH_M, job.cell, laden=False)
        unlock, free = self.put(free, job.cell)
        truth.add(Relock(self.name, lock, unlock))
        yield free - now

    def _change_bay(self, bay: Bay) -> Process:
        now = self._agenda.now
        up = self.travel(now, bay.clearance, Spot(self.trolley.goal, bay.clearance), laden=False)
        self.line.relocate((bay.x, self.lane_y))
        self._bay = bay
        yield self.drive(up, bay.x) - now

    def _release(self, truck: Truck, at: float) -> None:
        def let_go() -> Process:
            truck.turn.put(None)
            yield 0.0

        self._agenda.start(let_go(), at - self._agenda.now)

    def _plan(self) -> bool:
        """Plan one more bay; False where nothing is left to be planned."""
        if self._profile.calls is None:
            self._plan_bay()
            return True
        if self._stretch is None or not self._stretch.bays:
            return False
        bay, lifts = self._stretch.bays.popleft()
        for kind, cell in lifts:
            self._jobs.append(self._draw(bay, kind, cell))
        return True

    def _order_ahead(self) -> None:
        """Order tractors for the next jobs only: cranes that share tractors must not take them from each other."""
        while self._ordered < min(JOBS_AHEAD, len(self._jobs)):
            job = self._jobs[self._ordered]
            self._ordered += 1
            if job.kind in self.ready:
                self.orders.put(Order(self, job))

    def _plan_bay(self) -> None:
        """Choose the next bay and its lifts, and order tractors for them."""
        random, quay = self._random, self._profile.quay
        low, high = self.zone
        step = BAY_STEP_M * float(random.choice((-2, -1, 1, 2)))
        last = self._jobs[-1].bay.x if self._jobs else self._bay.x
        x = last + step if low <= last + step <= high else last - step
        bay = Bay(x, float(random.uniform(12.0, min(22.0, quay.lift_above_quay_m - 10))))
        self._loading = not self._loading
        lifts = int(random.integers(quay.moves_per_bay[0], quay.moves_per_bay[1] + 1))
        for _ in range(lifts):
            self._jobs.append(self._draw(bay, "load" if self._loading else "discharge"))

    def _draw(self, bay: Bay, kind: str, cell: Spot | None = None) -> Job:
        random, quay, mix = self._random, self._profile.quay, self._profile.containers
        draw = random.random()
        cell = cell or self._cell(bay)
        if draw < quay.relock_share:
            return Job("relock", bay, cell, ())
        draw -= quay.relock_share
        if draw < quay.shift_share:
            return Job("shift", bay, cell, (make_container(random, mix),))
        if draw - quay.shift_share < quay.twin_share:
            return Job(kind, bay, cell, (make_container(random, mix, 20), make_container(random, mix, 20)))
        return Job(kind, bay, cell, (self._single(),))

    def _single(self) -> Container:
        """Draw a single lift so that twin lifts and single lifts together keep the profile's mix of boxes."""
        mix, twin = self._profile.containers, self._profile.quay.twin_share
        # Of (1 + twin) boxes per lift, 2·twin are 20 ft boxes in pairs; the singles must bring the rest.
        single_20 = max(0.0, mix.share_20ft * (1 + twin) - 2 * twin) / (1 - twin)
        draw = self._random.random()
        longer = mix.share_40ft + mix.share_45ft
        share_40 = (1 - single_20) * (mix.share_40ft / longer if longer else 0.0)
        size = 20 if draw < single_20 or not longer else 40 if draw < single_20 + share_40 else 45
        return make_container(self._random, mix, size)

    def _cell(self, bay: Bay) -> Spot:
        rows = int((self._profile.quay.outreach_m - FIRST_CELL_M) / CELL_M)
        tiers = int((bay.deck_top - KEEL_TIER_M) / TIER_M)
        row, tier = int(self._random.integers(rows)), int(self._random.integers(tiers + 1))
        return Spot(FIRST_CELL_M + CELL_M * row, KEEL_TIER_M + TIER_M * tier)


def _move(device: str, job: Job, lock: float, unlock: float, truck: str) -> Move:
    return Move(
        device,
        lock,
        unlock,
        job.kind,
        sum(container.teu for container in job.containers),
        round(job.gross_t, 2),
        job.containers[0].size_ft,
        tuple(container.number for container in job.containers),
        truck,
    )

"""Where things are, and the ways between them.

Local frame, metres: x along the quay, y inland; the quay edge is y = 0 and water is y < 0. Trucks drive on the right of
roads parallel to the axes. Lanes below the quay cranes and along the blocks are one-way towards +x.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from devices.columns import Floats
from simulators.profiles import Profile, Site

Point = tuple[float, float]

PORTAL_LANE_Y_M: Final = 8.0
PORTAL_LANE_SPACING_M: Final = 5.0
PORTAL_LANES: Final = 5
APRON_ROAD_Y_M: Final = 52.0
FIRST_BLOCK_Y_M: Final = 84.0
BLOCK_ROW_PITCH_M: Final = 50.0
BLOCK_GAP_M: Final = 40.0
STACK_ROW_M: Final = 2.9
"""Width of a row of containers with its clearance, m."""
TIER_M: Final = 2.6
"""Height of a container, m (8 ft 6 in)."""
BAY_M: Final = 6.5
"""Length of a 20 ft bay with its clearance, m."""
KEEP_RIGHT_M: Final = 2.5
QUEUE_PITCH_M: Final = 20.0
"""Distance between trucks that stand in a queue, m."""
LANE_PITCH_M: Final = 8.0
EQUATOR_M: Final = 6_378_137.0
ECCENTRICITY_2: Final = 6.694379990141e-3
"""Semi-major axis (m) and squared eccentricity of WGS 84."""


@dataclass(frozen=True, slots=True)
class Block:
    """A yard block: stacks from ``x0`` to ``x1``, a truck lane at ``lane_y``, rows from there inland; metres."""

    name: str
    x0: float
    x1: float
    lane_y: float
    rows: int

    @property
    def middle_x(self) -> float:
        """The x of the block's middle, m."""
        return (self.x0 + self.x1) / 2

    @property
    def middle_y(self) -> float:
        """The y of the crane's middle, m."""
        return self.lane_y + STACK_ROW_M * (self.rows + 1) / 2


@dataclass(frozen=True, slots=True)
class GateLane:
    """A lane of the gate: where its barrier stands and which way it leads; metres."""

    name: str
    direction: str
    x: float
    y: float

    @property
    def travel(self) -> float:
        """+1 where trucks drive towards +y (out), -1 where they drive towards the quay (in)."""
        return 1.0 if self.direction == "out" else -1.0


class Layout:
    """The places of a profile and the routes between them."""

    def __init__(self, profile: Profile) -> None:
        """Lay the terminal out."""
        quay, yard, gates = profile.quay, profile.yard, profile.gates
        columns = min(yard.block_columns, max(1, yard.cranes))
        rows = max(1, math.ceil(yard.cranes / columns))
        self.length = quay.length_m
        self.blocks = tuple(self._block(index, columns, profile) for index in range(yard.cranes))
        pitch = yard.block_length_m + BLOCK_GAP_M
        width = max(quay.length_m, columns * pitch)
        self.cross_roads = tuple(
            sorted({-BLOCK_GAP_M / 2, width + BLOCK_GAP_M / 2, *(pitch * k - 20 for k in range(1, columns))})
        )
        self.plaza_y = FIRST_BLOCK_Y_M + rows * BLOCK_ROW_PITCH_M + 50
        self.gate_y = self.plaza_y + 105
        # Where trucks come by the hour, lines before the gate grow long in the rush.
        self.outside_y = self.gate_y + (115 if profile.arrivals is None else 400)
        middle = self.length / 2
        self.lanes_in = tuple(
            GateLane(f"GATE-IN-{n + 1}", "in", middle - LANE_PITCH_M * (n + 1), self.gate_y)
            for n in range(gates.lanes_in)
        )
        self.lanes_out = tuple(
            GateLane(f"GATE-OUT-{n + 1}", "out", middle + LANE_PITCH_M * (n + 1), self.gate_y)
            for n in range(gates.lanes_out)
        )
        self.depot: Point = (self.length * 0.85, self.plaza_y - 28)
        """Middle of the empty depot, m."""

    @staticmethod
    def _block(index: int, columns: int, profile: Profile) -> Block:
        row, column = divmod(index, columns)
        x0 = 10 + column * (profile.yard.block_length_m + BLOCK_GAP_M)
        lane_y = FIRST_BLOCK_Y_M + row * BLOCK_ROW_PITCH_M
        return Block(f"B{index + 1:02d}", x0, x0 + profile.yard.block_length_m, lane_y, profile.yard.rows)

    def portal_lane_y(self, crane: int) -> float:
        """Return the y of the lane below quay crane number ``crane`` (from 0), m."""
        return PORTAL_LANE_Y_M + PORTAL_LANE_SPACING_M * (crane % PORTAL_LANES)

    def outside_place(self, truck: int) -> Point:
        """Return where external truck number ``truck`` (from 0) waits outside the gate."""
        column, row = truck % 20, truck // 20
        return self.length / 2 - 190 + column * LANE_PITCH_M * 2.5, self.outside_y + 30 + row * QUEUE_PITCH_M

    def lane_to_lane(self, start: Point, goal: Point) -> list[Point]:
        """Return the corners of the way from one one-way lane into another, by the nearer of the two roads."""
        if start[1] == goal[1] and start[0] < goal[0] < self._road_after(start[0]):
            return [goal]
        ways = (
            keep_right([*self.lane_exit(start, road), *self.lane_entry(goal, road)], road)
            for road in (APRON_ROAD_Y_M, self.plaza_y)
        )
        return min(ways, key=lambda way: length_of([start, *way]))

    def lane_exit(self, start: Point, road_y: float) -> list[Point]:
        """Return the way from ``start`` on a lane to the road at ``road_y``."""
        x = self._road_after(start[0]) + math.copysign(KEEP_RIGHT_M, road_y - start[1])
        return [(x, start[1]), (x, road_y)]

    def lane_entry(self, goal: Point, road_y: float) -> list[Point]:
        """Return the way from the road at ``road_y`` to ``goal`` on a lane."""
        x = self._road_before(goal[0]) + math.copysign(KEEP_RIGHT_M, goal[1] - road_y)
        return [(x, road_y), (x, goal[1]), goal]

    def _road_after(self, x: float) -> float:
        return next((road for road in self.cross_roads if road > x), self.cross_roads[-1])

    def _road_before(self, x: float) -> float:
        return next((road for road in reversed(self.cross_roads) if road < x), self.cross_roads[0])


def keep_right(path: list[Point], road_y: float) -> list[Point]:
    """Move the corners that lie on the road at ``road_y`` to the side on which the path drives along it."""
    on_road = [x for x, y in path if y == road_y]
    if not on_road:
        return path
    y_side = road_y - math.copysign(KEEP_RIGHT_M, on_road[-1] - on_road[0])
    return [(x, y_side if y == road_y else y) for x, y in path]


def length_of(path: list[Point]) -> float:
    """Return the length of a path in m."""
    return sum(math.dist(a, b) for a, b in itertools.pairwise(path))


class Projection:
    """Local metres to WGS 84 degrees near the site's origin: a plane tangent to the ellipsoid, good to 1 m in 10 km."""

    def __init__(self, site: Site) -> None:
        """Take the radii of curvature at the origin: M = a(1−e²)/(1−e² sin²φ)^1.5, N = a/√(1−e² sin²φ)."""
        latitude = math.radians(site.origin_latitude_deg)
        flat = 1 - ECCENTRICITY_2 * math.sin(latitude) ** 2
        self._north = math.degrees(1 / (EQUATOR_M * (1 - ECCENTRICITY_2) / flat**1.5))
        self._east = math.degrees(1 / (EQUATOR_M / math.sqrt(flat) * math.cos(latitude)))
        self._bearing = math.radians(site.x_bearing_deg)
        self._site = site

    def degrees(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees of local ``x``, ``y`` (n,) in metres, both (n,)."""
        east = x * math.sin(self._bearing) - y * math.cos(self._bearing)
        north = x * math.cos(self._bearing) + y * math.sin(self._bearing)
        return self._site.origin_longitude_deg + east * self._east, self._site.origin_latitude_deg + north * self._north

    def compass(self, local: Floats) -> Floats:
        """Return the compass heading in [0, 360) degrees of local directions (rad from +x towards +y), shape (n,)."""
        return np.mod(math.degrees(self._bearing) - np.degrees(local), 360.0)

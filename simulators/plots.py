"""Plots of the simulated port for the documentation: ``python -m simulators.plots [FOLDER]``.

One lift of a quay crane, one visit of a road truck, and the line before a gate lane in the morning: what the signals
look like, made from the same functions that make the payloads.
"""

import itertools
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from devices.columns import Floats
from simulators import profiles, scenarios, signals
from simulators.noise import noise_of
from simulators.port.agenda import WARM_UP_S
from simulators.port.layout import APRON_ROAD_Y_M, Projection
from simulators.port.vehicles import Truck
from simulators.port.world import Port
from simulators.truth import Fact, Move, Passage, Queue, Turn

SEED: Final = 7
BLUE, ORANGE, GREEN, GREY, RED = "#1f5f8b", "#d97a00", "#3c7d3c", "#888888", "#b3261e"
STYLE: Final[Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.2,
    "figure.dpi": 110,
}
UNNAMED: Final = {"Software": None}
"""Left out of the files: they say what they show, not what drew them."""


def main(folder: Path) -> list[Path]:
    """Draw every plot into ``folder`` and return the files."""
    mpl.use("Agg")
    files = []
    with mpl.rc_context(STYLE):
        for name, draw in (("crane-cycle", crane_cycle), ("truck-turn", truck_turn), ("gate-queue", gate_queue)):
            figure = draw()
            files.append(folder / f"simulator-{name}.png")
            figure.savefig(files[-1], metadata=UNNAMED)
            plt.close(figure)
    return files


def crane_cycle() -> Any:  # noqa: ANN401 - a matplotlib figure
    """Draw one cycle of a quay crane: a discharge from lock to lock."""
    port = Port(profiles.load("chuanshan"), SEED)
    begin = port.open()
    port.advance(begin + 1800)
    crane, move, after = _discharges(port, begin + 300)
    times = np.arange(move.start_s - 25, after.start_s + 10, 0.05)
    since = times - move.start_s
    seen = signals.quay_crane(crane, times, noise_of(SEED, crane.name, "default"))
    exact = signals.quay_crane(crane, times)

    figure, panels = plt.subplots(5, 1, figsize=(8, 8.6), sharex=True, height_ratios=[3, 2.2, 1.6, 1.6, 0.9])
    height, load, sway, current, states = panels
    height.plot(since, exact["hoist_height_m"], color=BLUE, label="hoist height")
    height.plot(since, exact["trolley_position_m"], color=ORANGE, label="trolley position")
    height.axhline(0, color=GREY, linewidth=0.8)
    height.set_ylabel("m")
    height.set_title(
        f"One cycle of {crane.name}: {move.gross_t:.1f} t from the ship to a tractor, and back", loc="left"
    )
    load.plot(since, seen["load_t"], color=GREY, linewidth=0.5, label="load cell with noise")
    load.plot(since, exact["load_t"], color=BLUE, label="load")
    load.set_ylabel("t")
    sway.plot(since, exact["sway_m"], color=GREEN, label="sway")
    sway.plot(since, exact["trolley_speed_mps"] / 10, color=ORANGE, linewidth=0.8, label="trolley speed / 10 (m/s)")
    sway.set_ylabel("m")
    current.plot(since, exact["hoist_current_a"], color=RED, label="hoist current")
    current.plot(since, exact["trolley_current_a"], color=ORANGE, label="trolley current")
    current.set_ylabel("A")
    states.step(since, exact["spreader_landed"] * 0.8, where="post", color=GREY, label="landed")
    states.step(since, 1 + exact["spreader_locked"] * 0.8, where="post", color=BLUE, label="locked")
    states.set_yticks([])
    states.set_xlabel("s since the spreader locked")
    for panel in panels:
        panel.legend(loc="upper right", frameon=False, ncols=2, fontsize=8)
        for fact in (move, after):
            panel.axvline(fact.start_s - move.start_s, color=GREY, linewidth=0.6, linestyle=":")
            panel.axvline(fact.end_s - move.start_s, color=GREY, linewidth=0.6, linestyle=":")
    states.set_xlim(since[0], since[-1])
    figure.tight_layout()
    return figure


def truck_turn() -> Any:  # noqa: ANN401 - a matplotlib figure
    """Draw one visit of a road truck: its way over the terminal, and its speed."""
    port = Port(profiles.load("small"), SEED)
    begin = port.open()
    port.advance(begin + 3600)
    facts = port.truth.peek()
    turns = [fact for fact in facts if isinstance(fact, Turn) and fact.moves and fact.start_s > begin + 120]
    turn = min(turns, key=lambda fact: abs(fact.end_s - fact.start_s - 600))
    truck = next(one for one in port.external_trucks if one.name == turn.device)
    projection = Projection(port.profile.site)
    times = np.arange(turn.start_s - 150, turn.end_s + 90, 1.0)
    exact = signals.truck(truck, projection, times)
    seen = signals.truck(truck, projection, times, noise_of(SEED, truck.name, "default"))

    figure, (map_, speed) = plt.subplots(2, 1, figsize=(8, 8), height_ratios=[2.4, 1])
    _draw_terminal(map_, port)
    map_.scatter(seen["x_m"], seen["y_m"], s=5, color=GREY, label="GNSS, noise default")
    way = map_.scatter(exact["x_m"], exact["y_m"], s=6, c=exact["speed_mps"] * 3.6, cmap="viridis", label="true way")
    figure.colorbar(way, ax=map_, label="km/h", shrink=0.7)
    minutes = (turn.end_s - turn.start_s) / 60
    map_.set_title(f"One visit of {truck.name}: {minutes:.1f} min from gate-in to gate-out", loc="left")
    map_.legend(loc="lower left", frameon=False, fontsize=8)
    since = (times - turn.start_s) / 60
    speed.plot(since, exact["speed_mps"] * 3.6, color=BLUE)
    speed.fill_between(since, 0, 32 * exact["laden"], step="post", color=ORANGE, alpha=0.15, label="laden")
    _mark_stops(speed, truck, facts, turn)
    speed.set_ylabel("km/h")
    speed.set_xlabel("min since gate-in")
    speed.set_xlim(since[0], since[-1])
    speed.set_ylim(0, 42)
    speed.legend(loc="center", frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def gate_queue() -> Any:  # noqa: ANN401 - a matplotlib figure
    """Draw the line before the only lane in, in the scenario of the morning rush."""
    scenario = scenarios.load("morning-gate-rush")
    port = Port(scenario.profile, scenario.declared.seed)
    begin = port.open()
    end = begin + 1.6 * 3600
    port.advance(end + 1800)
    lane = port.gates[0]
    times = np.arange(begin, end, 1.0)
    facts = [fact for fact in port.truth.peek() if fact.device == lane.lane.name and fact.end_s >= begin]
    waits = [fact for fact in facts if isinstance(fact, Queue) and fact.start_s < end]
    passed = sorted(fact.end_s for fact in facts if isinstance(fact, Passage) and fact.end_s < end)
    joined = sorted(fact.start_s for fact in waits if fact.start_s >= begin)

    figure, panels = plt.subplots(3, 1, figsize=(8, 7), sharex=True, height_ratios=[1.4, 1.4, 1.2])
    length, counts, wait = panels
    minutes = (times - begin) / 60
    length.step(minutes, signals.gate_lane(lane, times)["queue_length"], where="post", color=BLUE)
    length.set_ylabel("trucks in the line")
    hour = (scenario.profile.arrivals.opening_hour if scenario.profile.arrivals else 0) + (begin - WARM_UP_S) / 3600
    clock = f"{int(hour % 24):02d}:{int(hour * 60 % 60):02d}"
    length.set_title(f"{lane.lane.name} from {clock} on a Tuesday, no slots", loc="left")
    counts.step(_minutes(joined, begin), np.arange(1, len(joined) + 1), where="post", color=ORANGE, label="joined")
    counts.step(_minutes(passed, begin), np.arange(1, len(passed) + 1), where="post", color=GREEN, label="passed")
    counts.set_ylabel("trucks")
    counts.legend(loc="upper left", frameon=False)
    wait.scatter(
        _minutes([fact.end_s for fact in waits], begin),
        [(fact.end_s - fact.start_s) / 60 for fact in waits],
        s=9,
        color=RED,
    )
    wait.set_ylabel("min waited")
    wait.set_xlabel("min")
    wait.set_xlim(0, minutes[-1])
    figure.tight_layout()
    return figure


def _discharges(port: Port, after_s: float) -> tuple[Any, Move, Move]:
    """Return a crane that does two discharges one after the other, and the two."""
    facts = sorted((fact for fact in port.truth.peek() if isinstance(fact, Move)), key=lambda fact: fact.start_s)
    for crane in port.quay_cranes:
        own = [fact for fact in facts if fact.device == crane.name and fact.start_s > after_s]
        for move, after in itertools.pairwise(own):
            quick = after.start_s - move.start_s < 130  # noqa: PLR2004 - a cycle without waiting for a tractor
            if move.kind == after.kind == "discharge" and quick and move.gross_t > 20:  # noqa: PLR2004 - a box worth seeing
                return crane, move, after
    raise LookupError("no two discharges in a row")


def _draw_terminal(panel: Any, port: Port) -> None:  # noqa: ANN401 - matplotlib axes
    layout = port.layout
    panel.axhspan(-40, 0, color="#cfe3f1")
    for block in layout.blocks:
        depth = 2 * (block.middle_y - block.lane_y)
        panel.add_patch(Rectangle((block.x0, block.lane_y + 2), block.x1 - block.x0, depth - 2, color="#e7dcc8"))
    for lane in (*layout.lanes_in, *layout.lanes_out):
        panel.plot([lane.x], [lane.y], marker="s", markersize=4, color=RED)
    panel.axhline(APRON_ROAD_Y_M, color=GREY, linewidth=0.5)
    panel.axhline(layout.plaza_y, color=GREY, linewidth=0.5)
    panel.set_xlim(-40, layout.length + 40)
    panel.set_ylim(-40, layout.outside_y + 60)
    panel.set_aspect("equal")
    panel.set_xlabel("m along the quay")
    panel.set_ylabel("m inland")
    panel.grid(visible=False)


def _mark_stops(panel: Any, truck: Truck, facts: list[Fact], turn: Turn) -> None:  # noqa: ANN401 - matplotlib axes
    """Write what happened beside when it did."""
    for fact in facts:
        if getattr(fact, "truck", "") != truck.name or not turn.start_s - 100 <= fact.end_s <= turn.end_s + 60:
            continue
        at = (fact.end_s - turn.start_s) / 60
        label = {"Passage": f"gate {getattr(fact, 'direction', '')}", "YardMove": getattr(fact, "kind", "")}
        if type(fact).__name__ in label:
            panel.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
            panel.text(at, 38, label[type(fact).__name__], fontsize=8, ha="center")


def _minutes(moments: list[float], begin: float) -> Floats:
    return (np.array(moments) - begin) / 60


if __name__ == "__main__":
    for written in main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(written)  # noqa: T201 - which files were written is the result

"""Crane moves from spreader lock, load and trolley position.

The spreader locks on a container, the crane carries it, the spreader unlocks. Between lock and unlock the load shows
whether anything was carried; where the trolley was at each end shows whether it crossed the quay edge. Locked and
landed are meant as TIC 4.0 defines them. The trolley is positive towards the ship, from the waterside quay edge.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from analytics.events import PortEvent
from analytics.rows import starts_of
from devices.columns import Columns, Ints
from devices.scalars import Scalar
from devices.times import NS
from devices.vocabulary import INDEX, RESOLUTION

LOCKED, TROLLEY, LOAD = INDEX["spreader_locked"], INDEX["trolley_position_m"], INDEX["load_t"]
SIZE, TWIN = INDEX["spreader_size_ft"], INDEX["spreader_twin"]
INPUTS: Final = (LOCKED, TROLLEY, LOAD, SIZE, TWIN)
"""Metric indices that the detector reads."""

TEU_OF_SIZE_FT: Final = {20: 1.0, 40: 2.0, 45: 2.25}
"""Spreader size in feet → TEU of one container; published in docs/kpis.md."""


@dataclass(frozen=True, slots=True)
class MoveRules:
    """What makes a lock-to-unlock a move."""

    laden_above_t: float = 2.0
    """Least peak load between lock and unlock, t: below, the spreader was empty or carried a hatch cover's slack."""
    ship_side_above_m: float = 5.0
    """Trolley position from which a crane is over the ship, m from the waterside quay edge."""
    longest_cycle_s: float = 3600.0
    """Unlock-to-unlock times above this are a pause, not a cycle, s."""


class CraneState(msgspec.Struct, array_like=True):
    """What is remembered of one crane; scaled values as in the vocabulary, times ns UTC, -1 for none."""

    locked: bool | None = None
    """None until the first word on it."""
    locked_ts: int = -1
    locked_trolley: int | None = None
    """None where the crane was already carrying when first heard of."""
    peak_load: int = 0
    trolley: int = 0
    load: int = 0
    size_ft: int = 0
    twin: bool = False
    unlocked_ts: int = -1


class CraneMoves:
    """Detects the moves of quay cranes and of yard cranes."""

    def __init__(self, rules: MoveRules, is_quay: Callable[[int], bool]) -> None:
        """``is_quay`` tells whether a device index is a quay crane (else it is a yard crane)."""
        self._rules = rules
        self._is_quay = is_quay
        self.states: dict[int, CraneState] = {}

    def push(self, samples: Columns) -> Iterator[PortEvent]:
        """Take released samples of ``INPUTS``, sorted by (device, ts, seq), and yield the moves completed.

        All samples of a device's instant come in one call, and none lies before those of an earlier call.
        """
        starts = starts_of(samples.device)
        ends = np.append(starts[1:], len(samples)) if len(samples) else starts
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            device = int(samples.device[start])
            yield from self._push_device(device, samples.take(np.arange(start, end)))

    def _push_device(self, device: int, samples: Columns) -> Iterator[PortEvent]:
        state = self.states.setdefault(device, CraneState())
        is_lock = samples.metric == LOCKED
        locks = np.flatnonzero(is_lock)
        before = np.append(-1 if state.locked is None else int(state.locked), samples.value[locks][:-1])
        begin = 0
        for at in locks[samples.value[locks] != before].tolist():
            # All samples of the transition's own instant belong to it, whatever their order in the message.
            instant = int(samples.ts[at])
            until = int(np.searchsorted(samples.ts, instant, side="right"))
            self._carry(state, samples.take(np.arange(begin, until)))
            begin = until
            was_locked, state.locked = state.locked, bool(samples.value[at])
            if state.locked:
                state.locked_ts, state.peak_load = instant, state.load
                state.locked_trolley = None if was_locked is None else state.trolley
            elif was_locked:
                yield from self._unlocked(device, state, instant, int(samples.seq[at]))
        self._carry(state, samples.take(np.arange(begin, len(samples))))

    @staticmethod
    def _carry(state: CraneState, samples: Columns) -> None:
        """Take over the newest values and the peak load of a stretch without transition."""

        def values_of(metric: int) -> Ints:
            return samples.take(samples.metric == metric).value

        if len(trolley := values_of(TROLLEY)):
            state.trolley = int(trolley[-1])
        if len(load := values_of(LOAD)):
            state.load = int(load[-1])
            state.peak_load = max(state.peak_load, int(load.max()))
        if len(size := values_of(SIZE)):
            state.size_ft = int(size[-1])
        if len(twin := values_of(TWIN)):
            state.twin = bool(twin[-1])

    def _unlocked(self, device: int, state: CraneState, ts: int, seq: int) -> Iterator[PortEvent]:
        peak_t = state.peak_load * float(RESOLUTION[LOAD])
        if peak_t < self._rules.laden_above_t:
            return
        start = state.locked_ts
        cycle_s = (ts - (state.unlocked_ts if state.unlocked_ts >= 0 else start)) / NS
        state.unlocked_ts = ts
        data: dict[str, Scalar] = {"load_t": round(peak_t, 3), "handling_s": round((ts - start) / NS, 3)}
        if not self._is_quay(device):
            yield PortEvent("yard_move", device, ts, start, seq, data, {"yard_moves": 1})
            return
        kind = self._kind(state)
        teu = 2.0 if state.twin else TEU_OF_SIZE_FT.get(state.size_ft, 0.0)
        data |= {"kind": kind, "teu": teu, "size_ft": state.size_ft, "twin": state.twin, "cycle_s": round(cycle_s, 3)}
        samples: dict[str, float] = {}
        if kind != "shift":
            samples = {"moves": 1, "teu": teu}
            if cycle_s <= self._rules.longest_cycle_s:
                samples["cycle_s"] = cycle_s
        yield PortEvent("crane_move", device, ts, start, seq, data, samples)

    def _kind(self, state: CraneState) -> str:
        edge = self._rules.ship_side_above_m / float(RESOLUTION[TROLLEY])
        set_at_ship = state.trolley > edge
        # Where the pick was not seen the move is taken to have crossed the quay edge, as nearly all do.
        picked_at_ship = not set_at_ship if state.locked_trolley is None else state.locked_trolley > edge
        if picked_at_ship == set_at_ship:
            return "shift"
        return "discharge" if picked_at_ship else "load"

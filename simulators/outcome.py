"""What came of a replay, in figures that thresholds may name."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from simulators.readback import ReadBack

LAGS: Final = ("behind", "acked", "e2e")
"""Distributions of times: how late messages left, when they were acknowledged, when a subscriber had them."""
FIGURES: Final = frozenset(
    {"messages", "sent", "acked", "stored", "lost", "bad_rows", "resent", "refused", "reconnects", "oversize"}
    | {"elapsed_s", "rate", "mismatches", "quarantined", "undelivered"}
    | {f"{lag}_{tail}" for lag in LAGS for tail in ("p50", "p95", "p99", "max")}
)
"""Figures that thresholds may name; the distributions and ``elapsed_s`` in s, ``rate`` in messages/s."""


class Moment(NamedTuple):
    """How far a run was at one moment, for the plots."""

    at_s: float
    """Since the start, s."""
    sent: int
    acked: int
    behind_s: float
    """The most that a message left late since the moment before, s."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What came of a replay."""

    messages: int
    """How many were to be sent."""
    sent: int
    acked: int
    stored: int | None
    """How many the API showed as taken; None if it was not asked."""
    lost: int
    """``messages − acked``, or ``messages − stored`` where that is more."""
    read_back: ReadBack | None
    """What reading back through the API gave, if it was asked for."""
    bad_rows: int
    bad_row_notes: tuple[str, ...]
    verbatim: int
    """Recorded messages in a form that cannot be moved in time, sent byte for byte."""
    resent: int
    refused: int
    reconnects: int
    elapsed_s: float
    rate: float
    """Acknowledged messages per second."""
    oversize: int
    """Messages larger than the broker takes: never sent, and lost."""
    behind_ms: dict[str, float]
    """How late messages left: p50, p95, p99, max; zeros at unlimited speed."""
    acked_ms: dict[str, float]
    """From when a message was due (at unlimited speed: offered) until the broker acknowledged it."""
    e2e_ms: dict[str, float]
    """The same until a subscriber had it, of the messages watched; NaN in ``figures`` where none was."""
    watched: int
    """Messages whose delivery was timed."""
    undelivered: int
    """Messages watched that the subscriber has not seen."""
    shift_ns: int
    """What was added to every recorded time, ns; of several passes, in the last."""
    passes: int
    """How often the recording was played, the last time perhaps in part."""
    first_time: str
    last_time: str
    """Event times of the first and the last message as sent."""
    devices: dict[str, dict[str, float]]
    """uid → boot, sent, acked, first_seq, last_seq; for tracks offset_x_m and offset_y_m too."""
    timeline: tuple[Moment, ...]
    thresholds: tuple[dict[str, Any], ...]
    """Each threshold with the figure it met: ``threshold``, ``value``, ``ok``."""

    @property
    def passed(self) -> bool:
        """Whether every threshold held."""
        return all(threshold["ok"] for threshold in self.thresholds)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        whole = {**asdict(self), "passed": self.passed}
        for threshold in whole["thresholds"]:
            if math.isnan(threshold["value"]):
                threshold["value"] = None
        return whole

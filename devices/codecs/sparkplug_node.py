"""Sparkplug B 3.0, the node's side: births with aliases, data under a counter that wraps, and the death.

    NBIRTH (seq 0: bdSeq, Node Control/Rebirth) ► DBIRTH (names, aliases, types) ► DDATA, DDATA, … ► NDEATH (bdSeq)

A node here has one device. Both are born with the first report, and again where a host asks for it; the device alone is
born again where it reports something new, which has no alias yet. Pure, like the codec that reads this,
:class:`devices.codecs.sparkplug.Sparkplug`. Layout and order after the Sparkplug specification 3.0.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from devices.codecs.sparkplug import MS, NAMESPACE, REBIRTH
from devices.codecs.sparkplug_payloads import BOOLEAN, DOUBLE, INT64, Metric, read, write
from devices.rejects import RejectError

BIRTH_DEATH: Final = "bdSeq"
ROUND: Final = 256
"""Sequence numbers and bdSeq count from 0 to one less, and around."""
UNFIT: Final = frozenset("+/#\0")


class Publication(NamedTuple):
    """What a node publishes."""

    topic: str
    payload: bytes


class EdgeNode:
    """One edge node with one device: writes what they publish, and takes the commands of hosts."""

    def __init__(self, group: str, node: str, device: str, life: int = 0) -> None:
        """``life`` counts the node's connections: its bdSeq is the last eight bits.

        ValueError where a name cannot be a level of a topic.
        """
        for name in (group, node, device):
            if not name or UNFIT & set(name):
                msg = f"{name!r}: expected a level of a topic, without +, / and #"
                raise ValueError(msg)
        self.group, self.node, self.device = group, node, device
        self.births = 0
        """How often the node was born."""
        self._life = life % ROUND
        self._seq = 0
        self._aliases: dict[str, int] = {}
        self._types: dict[str, int] = {}
        self._wanted = True

    @property
    def command_topic(self) -> str:
        """The topic on which hosts command the node."""
        return self._topic("NCMD")

    def tell(self, ts: int, values: Mapping[str, float | bool]) -> list[Publication]:
        """Return what the node publishes to report ``values`` of the instant ``ts``, ns UTC, cut to ms.

        That is a DDATA, or the births that are due, which hold the values themselves.
        """
        at = ts // MS
        fresh = [name for name in values if name not in self._aliases]
        for name in fresh:
            self._aliases[name] = len(self._aliases) + 1
            self._types[name] = BOOLEAN if isinstance(values[name], bool) else DOUBLE
        if not self._wanted and not fresh:
            metrics = [Metric("", self._aliases[name], at, 0, _plain(value)) for name, value in values.items()]
            return [self._numbered("DDATA", at, metrics)]
        publications = [self._birth(at)] if self._wanted else []
        return [*publications, self._numbered("DBIRTH", at, [self._named(name, at, values) for name in self._aliases])]

    def death(self, ts: int) -> Publication:
        """Return the death certificate, which has no number of its own; the node is born again with its next report."""
        self._wanted = True
        payload = write(ts // MS, None, [self._birth_death()])
        self._life = (self._life + 1) % ROUND
        return Publication(self._topic("NDEATH"), payload)

    def command(self, payload: bytes) -> bool:
        """Take what came on :attr:`command_topic`; return whether it asks for a rebirth, which then is due."""
        try:
            metrics = read(payload).metrics
        except RejectError:
            return False
        asked = any(metric.name == REBIRTH and metric.value is True for metric in metrics)
        self._wanted = self._wanted or asked
        return asked

    def _birth(self, at: int) -> Publication:
        self._wanted = False
        self._seq = 0
        self.births += 1
        return self._numbered("NBIRTH", at, [self._birth_death(), Metric(REBIRTH, None, at, BOOLEAN, value=False)])

    def _birth_death(self) -> Metric:
        return Metric(BIRTH_DEATH, datatype=INT64, value=self._life)

    def _named(self, name: str, at: int, values: Mapping[str, float | bool]) -> Metric:
        # What is not reported now is said to be null: with its last value, hosts would count that twice.
        value = _plain(values[name]) if name in values else None
        return Metric(name, self._aliases[name], at, self._types[name], value)

    def _numbered(self, kind: str, at: int, metrics: list[Metric]) -> Publication:
        seq, self._seq = self._seq, (self._seq + 1) % ROUND
        return Publication(self._topic(kind), write(at, seq, metrics))

    def _topic(self, kind: str) -> str:
        of_device = f"/{self.device}" if kind.startswith("D") else ""
        return f"{NAMESPACE}/{self.group}/{kind}/{self.node}{of_device}"


def _plain(value: float | bool) -> float | bool:  # noqa: FBT001 - a value, no switch
    """Return a number as a double, so that a whole one is no other type; a boolean as it is."""
    return value if isinstance(value, bool) else float(value)

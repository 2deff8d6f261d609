"""Sparkplug B 3.0, the host's side: births, aliases, sequence, deaths, and when to ask for a rebirth.

Topics are ``spBv1.0/{group}/{NBIRTH|NDATA|NDEATH|NCMD}/{node}`` and
``spBv1.0/{group}/{DBIRTH|DDATA|DDEATH|DCMD}/{node}/{device}``. A node's sequence counts 0 to 255 and around over all of
its messages but NDEATH and commands; it is unwrapped here from one birth to the next. A birth says which names the
aliases of later messages stand for: without it a message cannot be read.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from devices.codecs.readings import Happening, Reading, Request
from devices.codecs.sparkplug_payloads import BOOLEAN, Metric, Payload, Value, read, signed, write
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.times import NS
from devices.topics import device_id
from devices.vocabulary import BY_NAME

NAMESPACE: Final = "spBv1.0"
NODE_TYPES: Final = frozenset({"NBIRTH", "NDATA", "NDEATH", "NCMD"})
DEVICE_TYPES: Final = frozenset({"DBIRTH", "DDATA", "DDEATH", "DCMD"})
MS: Final = 1_000_000
LAST_MS: Final = 9_000_000_000_000
"""Later times than this, ms since 1970, do not fit into int64 ns."""
MAX_NODES: Final = 10_000
MAX_ALIASES: Final = 10_000
MAX_MISSING: Final = 256
"""Missing numbers remembered of a node: once around."""
REORDER_NS: Final = 2 * NS
"""How long a missing message may be on its way before a rebirth is asked for."""
FIRST_PATIENCE_NS: Final = 10 * NS
LONGEST_PATIENCE_NS: Final = 600 * NS
"""How long a rebirth is waited for before it is asked for again: it doubles from the first to the longest."""
MAX_PAST: Final = 16
"""Lives remembered of a node before the one that it leads."""
NO_BOOT: Final = -1
MOST_AT_ONCE: Final = 5
"""Rebirths asked for at one time: a host that starts must not make every node of a plant be born at once."""
REBIRTH: Final = "Node Control/Rebirth"
UNNAMED: Final = "alias "
"""How a metric is called whose alias no birth has named."""
ASIDE: Final = ("Node Control/", "Device Control/", "Properties/", "Node Info/", "bdSeq")
"""How names begin that are no measurements; they are facts about the node or the device."""


class Alias(msgspec.Struct, array_like=True, gc=False):
    """What a birth says of one metric."""

    name: str
    datatype: int
    metric: str
    """Name in the vocabulary, "" if it has none."""


class Node(msgspec.Struct, array_like=True):
    """What is remembered of an edge node."""

    boot: int | None = None
    """Made of the birth's time and bdSeq, a number of its own for each life; None before a birth."""
    born: int = 0
    """Time of the birth, ms since 1970."""
    death: int = 0
    """The birth's bdSeq modulo 256: that of its death certificate."""
    high: int = 0
    """Highest sequence number so far, unwrapped."""
    missing: list[int] = []
    aliases: dict[int, Alias] = {}
    devices: list[str] = []
    wanting: bool = False
    """Whether it is to be born again, for a birth or a message that was missed."""
    since: int = 0
    """Since when it is, ns UTC; 0 before that was noticed."""
    ask_at: int = 0
    patience: int = FIRST_PATIENCE_NS
    said: bytes = b""
    """Hash of the birth."""
    past: list[int] = []
    """Boots of the lives before, the newest at the end."""
    doubted: int = NO_BOOT
    """Boot of a birth that looked like one of a life before."""
    dead: bool = False
    gone: list[str] = []
    """Devices that have died since they were born."""
    asked: bool = False
    """Whether a rebirth has been asked for in this life."""
    recalled: bool = False
    """Whether frames are read that came before all this was learned: it counts until they say otherwise."""


class Address(NamedTuple):
    """A topic, taken apart."""

    group: str
    kind: str
    node: str
    device: str
    edge: str
    """Device id of the node."""
    here: str
    """Device id of whoever the message is about, the node or one of its devices."""


class Sparkplug:
    """Decodes one payload; remembers births and sequences."""

    name: Final = "sparkplug"

    def __init__(self) -> None:
        """Start without knowing any node."""
        self._nodes: dict[tuple[str, str], Node] = {}
        self.learned = False

    def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
        """Return the readings of a message, the node's with its counter first; without a topic, what names itself."""
        if not payload:
            # No node says nothing at all; whoever clears a retained message does.
            raise RejectError(Reason.UNDECODABLE, "", "no bytes")
        found = read(payload)
        if not topic:
            return _readings(found, "", {})
        address = address_of(topic)
        if address.kind in {"NCMD", "DCMD"}:
            said = Happening("cmd", {"message": address.kind})
            return [Reading(device=address.here, ts=_ns(found.ts), happenings=(said,))]
        node = self._node(address)
        self.learned = True
        if address.kind == "NBIRTH":
            return self._born(node, address, found, blake2b(payload, digest_size=8).digest())
        if address.kind == "NDEATH":
            return self._dead(node, address, found)
        return self._told(node, address, found)

    def _told(self, node: Node, address: Address, found: Payload) -> list[Reading]:
        """Read what follows a node's birth: its data, and births, data and deaths of its devices."""
        if node.boot is None or node.dead:
            node.wanting = True
            since = " since its death" if node.dead else ""
            raise RejectError(Reason.NO_BIRTH, "", f"no birth of node {address.node[:64]!r} has been seen{since}")
        counter = self._counter(node, address, found)
        if address.kind == "DDEATH":
            if address.device in node.devices and address.device not in node.gone:
                node.gone = [*node.gone, address.device]
            return [counter, Reading(device=address.here, ts=_ns(found.ts), online=False)]
        alive = address.device in node.devices and address.device not in node.gone
        if address.kind == "DDATA" and not alive and not node.recalled:
            node.wanting = True
            reject = Reject(Reason.NO_BIRTH, "", f"no birth of device {address.device[:64]!r} has been seen")
            return [counter, Reading(device=address.here, ts=_ns(found.ts), refused=(reject,))]
        if address.kind == "DBIRTH":
            _learn(node, found)
            node.gone = [device for device in node.gone if device != address.device]
            if address.device not in node.devices:
                node.devices = [*node.devices, address.device][-MAX_ALIASES:]
        readings = _readings(found, address.here, node.aliases)
        if any(name.startswith(UNNAMED) for reading in readings for name in reading.unknown):
            node.wanting = True
        if address.kind == "NDATA":
            readings[0].boot, readings[0].seq = counter.boot, counter.seq
            readings[0].flags += counter.flags
            return readings
        if address.kind == "DBIRTH":
            readings[0].online = True
        return [counter, *readings]

    def wants(self, now: int) -> list[Request]:
        """Return the rebirths to ask for at ``now``, ns UTC: of few nodes at once, and of each less and less often."""
        requests: list[Request] = []
        for (group, name), node in self._nodes.items():
            if not node.wanting:
                if node.patience > FIRST_PATIENCE_NS and now > node.ask_at + LONGEST_PATIENCE_NS:
                    node.patience, self.learned = FIRST_PATIENCE_NS, True
                continue
            node.since = node.since or now
            if now < max(node.since + REORDER_NS, node.ask_at):
                continue
            if len(requests) == MOST_AT_ONCE:
                break
            node.ask_at = now + node.patience
            node.patience = min(2 * node.patience, LONGEST_PATIENCE_NS)
            node.asked = self.learned = True
            asked = write(now // MS, None, [Metric(REBIRTH, datatype=BOOLEAN, value=True)])
            requests.append(Request(f"{NAMESPACE}/{group}/NCMD/{name}", asked))
        return requests

    def take_state(self) -> bytes:
        """Return what is remembered, and note that it is kept."""
        self.learned = False
        return msgspec.msgpack.encode([(*key, node) for key, node in self._nodes.items()])

    def restore(self, state: bytes, *, earlier: bool = False) -> None:
        """Put back what :meth:`take_state` gave; ``earlier``: the frames to come are from before."""
        kept = msgspec.msgpack.decode(state, type=list[tuple[str, str, Node]])
        self._nodes = {(group, name): node for group, name, node in kept}
        for node in self._nodes.values() if earlier else ():
            node.recalled, node.dead, node.past = True, False, []

    def _node(self, address: Address) -> Node:
        key = address.group, address.node
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                raise RejectError(Reason.CARDINALITY, "", f"{MAX_NODES} nodes are known already")
            node = self._nodes[key] = Node()
        return node

    def _born(self, node: Node, address: Address, found: Payload, said: bytes) -> list[Reading]:
        born, death = min(found.ts or 0, LAST_MS), _death_of(found) & 0xFF
        boot = born << 8 | death
        if _is_repeated(node, boot, said):
            [first, *others] = _readings(found, address.edge, node.aliases)
            first.boot, first.seq, first.online = node.boot, found.seq or 0, True
            return [first, *others]
        if _is_old(node, boot):
            # It speaks of a life that is over.
            [first, *others] = _readings(found, address.edge, {})
            first.boot, first.seq, first.flags = boot, found.seq or 0, (*first.flags, "old_birth")
            return [first, *others]
        past = node.past if node.boot is None or node.recalled else [*node.past, node.boot][-MAX_PAST:]
        while boot in past:
            # Births of a node without a clock all say the same time.
            boot += 1 << 8
        fresh = Node(boot, born, death, found.seq or 0, said=said, past=past)
        # Whoever is born again and again for nothing is not asked more often for it.
        fresh.ask_at, fresh.patience = node.ask_at, node.patience
        self._nodes[address.group, address.node] = fresh
        _learn(fresh, found)
        [first, *others] = _readings(found, address.edge, {})
        first.boot, first.seq, first.online = boot, found.seq or 0, True
        return [first, *others]

    @staticmethod
    def _dead(node: Node, address: Address, found: Payload) -> list[Reading]:
        """Return that a node and its devices are gone, unless the certificate is of a life before this one."""
        here = address.edge
        if node.boot is not None and _is_behind(_death_of(found), node.death):
            return [Reading(device=here, info={"old_death": _death_of(found)}, flags=("old_death",))]
        node.dead, node.wanting, node.since = True, False, 0
        # Its timestamp is that of the connection, not of the end: the time of receipt counts.
        gone = [here, *(device_id(address.group, address.node, device) for device in node.devices)]
        return [Reading(device=device, online=False) for device in gone]

    @staticmethod
    def _counter(node: Node, address: Address, found: Payload) -> Reading:
        """Return the node's counter of a message: its number unwrapped, and whether others are missing."""
        reading = Reading(device=address.edge, ts=_ns(found.ts), boot=node.boot)
        if found.seq is None:
            reading.flags = ("no_seq",)
            return reading
        # The nearest number to the highest that ends in these eight bits: a message is a little late or a little early.
        number = node.high + (found.seq - node.high + 128 & 0xFF) - 128
        number += 256 * (number < 0)
        if number > node.high:
            node.missing = [*node.missing, *range(node.high + 1, number)][-MAX_MISSING:]
            node.high = number
        elif number in node.missing:
            node.missing.remove(number)
            if not node.missing and not node.asked:
                # What was missing has come within the time that it may be under way.
                node.wanting, node.since = False, 0
        node.wanting = node.wanting or bool(node.missing)
        reading.seq = number
        return reading


def _is_behind(death: int, other: int) -> bool:
    """Tell whether a bdSeq, which counts 0 to 255 and around, is of a life before that of another."""
    return death - other & 0xFF >= 128  # noqa: PLR2004 - half a round


def _is_repeated(node: Node, boot: int, said: bytes) -> bool:
    """Tell whether a birth is the node's own once more, and not that of another life without a clock."""
    if node.boot is None or node.recalled or boot < 1 << 8:
        return False
    # Memories of before have no hash of it.
    return said == node.said or (not node.said and boot == node.boot)


def _is_old(node: Node, boot: int) -> bool:
    """Tell whether a birth is of a life before the node's.

    bdSeq says so, not the time, which a wrong clock would set for ever. A node that has lost its bdSeq begins at 0
    again and looks as old; unless its time is later, it is asked for another birth, and believed then.
    """
    death, born = boot & 0xFF, boot >> 8
    if node.boot is None or node.recalled:
        return False
    if born and boot in node.past:
        return True
    if not _is_behind(death, node.death) or born > node.born:
        return False
    if node.doubted != NO_BOOT and node.doubted & 0xFF == death and (node.doubted != boot or not born):
        return False
    node.doubted, node.wanting = boot, True
    return True


@lru_cache(maxsize=65_536)
def address_of(topic: str) -> Address:
    """Take a topic apart; RejectError where it is none of a node or a device."""
    levels = topic.split("/")
    if levels[0] == NAMESPACE and all(levels):
        if len(levels) == 4 and levels[2] in NODE_TYPES:  # noqa: PLR2004 - levels
            edge = device_id(levels[1], levels[3])
            return Address(levels[1], levels[2], levels[3], "", edge, edge)
        if len(levels) == 5 and levels[2] in DEVICE_TYPES:  # noqa: PLR2004 - levels
            edge, here = device_id(levels[1], levels[3]), device_id(levels[1], levels[3], levels[4])
            return Address(levels[1], levels[2], levels[3], levels[4], edge, here)
    detail = f"expected {NAMESPACE}/{{group}}/{{NDATA, DDATA, …}}/{{node}}[/{{device}}]"
    raise RejectError(Reason.UNKNOWN_TOPIC, "", detail)


def _learn(node: Node, found: Payload) -> None:
    """Take over what a birth says of aliases."""
    for metric in found.metrics:
        if metric.alias is not None and metric.name and len(node.aliases) < MAX_ALIASES:
            node.aliases[metric.alias] = Alias(metric.name, metric.datatype, metric_of(metric.name))


def metric_of(name: str) -> str:
    """Return the metric of the vocabulary that a name means, itself or its last level; "" if there is none."""
    last = name.rpartition("/")[2]
    return last if last in BY_NAME and not BY_NAME[last].derived else ""


def _death_of(found: Payload) -> int:
    values = (metric.value for metric in found.metrics if metric.name == "bdSeq")
    return next((value for value in values if isinstance(value, int)), 0)


def _readings(found: Payload, device: str, aliases: dict[int, Alias]) -> list[Reading]:
    """Return one reading for each time and kind (live, historical) among the metrics, at least one."""
    at = _ns(found.ts)
    first = Reading(device=device, ts=at, values={})
    readings = {(at, False): first}
    values = first.values
    for metric in found.metrics:
        alias = aliases.get(metric.alias) if metric.alias is not None and not metric.name else None
        of_now = metric.ts is None or metric.ts == found.ts
        # Most of what comes: a number under a known name at the payload's own time.
        if of_now and alias is not None and alias.metric and type(metric.value) is float and not metric.historical:
            if alias.metric not in values:
                values[alias.metric] = metric.value
            else:
                first.refused = (*first.refused, _twice(alias.metric))
            continue
        key = at if of_now else _ns(metric.ts), metric.historical
        reading = readings.get(key)
        if reading is None:
            flags = ("historical",) if metric.historical else ()
            reading = readings[key] = Reading(device=device, ts=key[0], values={}, flags=flags)
        _take(reading, metric, alias)
    said = [reading for reading in readings.values() if _says(reading)]
    return said or [first]


def _says(reading: Reading) -> bool:
    return bool(reading.values or reading.unknown or reading.info or reading.refused or reading.flags)


def _take(reading: Reading, metric: Metric, alias: Alias | None) -> None:
    """Put one metric into a reading: as a value, a fact, something unknown, or with its reason among the refused."""
    name = metric.name or (alias.name if alias else f"{UNNAMED}{metric.alias}")
    if metric.skipped:
        reading.flags += (metric.skipped,)
        return
    value: Value = signed(metric.value, metric.datatype or (alias.datatype if alias else 0))
    known = alias.metric if alias else metric_of(name)
    if name.startswith(ASIDE):
        reading.info = {**reading.info, name: _plain(value)}
    elif not known and name not in reading.unknown:
        reading.unknown = {**reading.unknown, name: _plain(value)}
    elif not known:
        reading.refused = (*reading.refused, _twice(name))
    elif isinstance(value, str) or value is None:
        reject = Reject(Reason.WRONG_TYPE, f"/metrics/{known}", f"expected a number, got {value!r:.40}")
        reading.refused = (*reading.refused, reject)
    elif known in reading.values:
        reading.refused = (*reading.refused, _twice(known))
    else:
        reading.values[known] = value


def _twice(name: str) -> Reject:
    """Refuse what comes under a name that has a value of the same time already: the first one stands."""
    return Reject(Reason.WRONG_TYPE, f"/metrics/{name}", "twice at one time")


def _plain(value: Value) -> Scalar:
    return value[:1_000] if isinstance(value, str) else value


def _ns(ms: int | None) -> int | None:
    return None if ms is None else min(ms, LAST_MS) * MS

"""Who may publish and read what at the broker: a device its own topics, quayflow's parts what they work on.

One table for every broker: it becomes Mosquitto's access list, and answers the HTTP questions of EMQX and VerneMQ.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from devices.acks import ack_topic
from devices.codecs.registry import CODECS
from devices.filters import matches, plain
from devices.topics import DEVICE, RESULTS_ROOT, ROOT, DeviceKey, Stream, topic_of
from store.registry import Credential
from store.registry_entries import Alias

INGEST: Final = "quayflow-ingest"
API: Final = "quayflow-api"
SIMULATOR: Final = "quayflow-simulator"
NATIVE: Final = "native"
SPARKPLUG: Final = "spBv1.0"
SPARKPLUG_SAID: Final = ("BIRTH", "DATA", "DEATH")
"""What a node says of itself after N, of its devices after D."""
OWNTRACKS_SAID: Final = ("event", "waypoint", "waypoints", "info", "status", "step", "beacon", "lwt")
"""Last levels below a phone's own topic on which it publishes something else than where it is."""
Action = Literal["read", "write"]


class Rule(NamedTuple):
    """A right: topics that match ``pattern`` may be read (subscribed to) or written (published to)."""

    action: Action
    pattern: str


_EVERYTHING: Final = (Rule("read", "#"), Rule("write", "#"))
PARTS: Final[dict[str, tuple[Rule, ...]]] = {
    # Foreign formats have topics of their own, and are answered there. "#" is not $SYS.
    INGEST: _EVERYTHING,
    API: (
        Rule("read", f"{RESULTS_ROOT}/#"),
        Rule("write", f"{ROOT}/+/+/+/{Stream.COMMAND}"),
        Rule("read", f"{ROOT}/+/+/+/{Stream.COMMAND_ACK}"),
        # Who commands a device looks whether it is there.
        Rule("read", f"{ROOT}/+/+/+/{Stream.STATUS}"),
    ),
    SIMULATOR: (Rule("write", f"{ROOT}/#"), Rule("read", f"{ROOT}/+/+/+/{Stream.COMMAND}")),
}
"""User name of a part of quayflow → its rights."""


def username_of(key: DeviceKey) -> str:
    """Return a device's user name: its uid; a colon, which ends a name in Mosquitto's password file, as %3A."""
    return key.uid.replace(":", "%3A")


def rules_of(username: str, uid: str, aliases: Iterable[Alias] = ()) -> tuple[Rule, ...]:
    """Return the rights of a user: those of the device ``uid``, or of a part of quayflow where it is "".

    ``aliases`` are those of the device: under them it may speak where a format has topics of its own.
    """
    if not uid:
        return PARTS.get(username, ())
    key = DeviceKey.from_uid(uid)
    said = (Stream.TELEMETRY, Stream.EVENT, Stream.STATUS, Stream.COMMAND_ACK)
    return (
        *(Rule("write", topic_of(key, stream)) for stream in said),
        *(Rule("write", f"{ROOT}/{key.uid}/{codec}") for codec in CODECS if codec != NATIVE),
        Rule("read", topic_of(key, Stream.COMMAND)),
        Rule("read", ack_topic(key)),
        *(rule for alias in aliases for rule in _rules_of_alias(alias)),
    )


def _rules_of_alias(alias: Alias) -> tuple[Rule, ...]:
    """Return the rights at the usual topics of a format, of who speaks there under an alias."""
    names = alias.foreign.split(":")
    # A level that is no id would be another topic than the one meant, or a wildcard.
    if len(names) != 2 or not all(map(DEVICE.fullmatch, names)):  # noqa: PLR2004 - group and node, user and device
        return ()
    first, second = names
    match alias.scheme:
        case "sparkplug":
            root = f"{SPARKPLUG}/{first}"
            return (
                *(Rule("write", f"{root}/N{kind}/{second}") for kind in SPARKPLUG_SAID),
                *(Rule("write", f"{root}/D{kind}/{second}/+") for kind in SPARKPLUG_SAID),
                Rule("read", f"{root}/NCMD/{second}"),
                Rule("read", f"{root}/DCMD/{second}/+"),
                Rule("read", f"{SPARKPLUG}/STATE/+"),
            )
        case "owntracks":
            root = f"owntracks/{first}/{second}"
            said = (root, *(f"{root}/{kind}" for kind in OWNTRACKS_SAID))
            return (*(Rule("write", topic) for topic in said), Rule("read", f"{root}/cmd"))
        case _:
            return ()


def may(username: str, uid: str, action: Action, topic: str, aliases: Iterable[Alias] = ()) -> bool:
    """Tell whether a user may publish to a topic, or subscribe to a topic filter, which its rights must cover whole."""
    wanted = plain(topic)
    return any(rule.action == action and _covers(rule.pattern, wanted) for rule in rules_of(username, uid, aliases))


def _covers(pattern: str, topic: str) -> bool:
    """Tell whether every topic that matches the filter ``topic`` matches ``pattern``."""
    # A wildcard level is matched by the same or a wider wildcard only, as + is by + and by #, and # by # alone.
    wanted, levels = pattern.split("/"), topic.split("/")
    if "#" in levels and "#" not in wanted:
        return False
    return matches(pattern, topic)


def password_file(credentials: Iterable[Credential]) -> str:
    """Return Mosquitto's password file."""
    return "".join(f"{each.username}:{each.broker_hash}\n" for each in credentials if each.broker_hash)


def access_list(credentials: Iterable[Credential], aliases: Mapping[str, Iterable[Alias]]) -> str:
    """Return Mosquitto's access list; who is not in it may nothing. ``aliases``: uid → those of the device."""
    lines = ["# Written anew whenever the registry changes. Without a user above them, topics are for nobody."]
    for each in credentials:
        lines += ["", f"user {each.username}"]
        lines += [
            f"topic {rule.action} {rule.pattern}"
            for rule in rules_of(each.username, each.uid, aliases.get(each.uid, ()))
        ]
    return "\n".join(lines) + "\n"

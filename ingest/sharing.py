"""Whether a broker's shared subscriptions serve: some grant ``$share/…`` and send nothing, most deal messages in turn.

A device counts its messages over all of its topics, so one worker has to get all of them: else each worker recognises
only what comes again to itself, and takes for lost what another one has.

A canary at start-up, on two connections of its own, which are members of one group: one of them publishes some messages
on each of several topics, and on one more to which it subscribes without a group. Where both members get some of them,
the broker deals what one client says among the members. What comes on the plain topic and not on the shared ones tells
of a broker that serves no groups; where nothing comes, an access list may be the reason, and nothing is known.
"""

import asyncio
import contextlib
from dataclasses import replace
from enum import StrEnum
from typing import Final

from devices.filters import SHARE, is_shared, plain
from devices.topics import RESULTS_ROOT
from ingest.session import Session, SessionConfig, SessionRefusedError

PATIENCE_S: Final = 1.0
MEMBERS: Final = 2
TOPICS: Final = 16
"""Topics that the canary publishes on: a broker that goes by the topic sends them all to one member once in 32,768."""
ROUNDS: Final = 2
"""Messages on each of them."""


class Sharing(StrEnum):
    """How a worker's filters are subscribed to; the words of its status."""

    UNKNOWN = "unknown"
    """Nothing is known yet."""
    PLAIN = "plain"
    """No filter is shared."""
    SHARED = "shared"
    """The broker delivers what it grants, and all that one client publishes to the same member."""
    UNPROVEN = "shared, unproven"
    """The canary heard nothing at all, such as under an access list: the filters are left as they are."""
    FALLBACK = "plain, because shared filters deliver nothing"
    """The filters are subscribed to without their groups."""
    DEALT = "none, because shared filters deal a device's messages among the workers"
    """Nothing is subscribed to: no figure of loss would be right, nor any count of what came twice."""


async def probe(config: SessionConfig, patience_s: float = PATIENCE_S) -> Sharing:
    """Say how the filters of ``config`` are to be subscribed to. SessionError if the broker cannot be reached."""
    if not any(map(is_shared, config.filters)):
        return Sharing.PLAIN
    topic = f"{RESULTS_ROOT}/_probe/{config.client_id}"
    shared = f"{SHARE}_probe/{topic}/shared/+"
    members: list[Session] = []
    try:
        for nth in range(MEMBERS):
            canary = replace(
                config,
                client_id=f"{config.client_id}-probe{nth or ''}",
                filters=(shared,) if nth else (shared, f"{topic}/plain"),
                former_filters=(),
                clean_start=True,
                session_expiry_s=0,
            )
            members.append(await Session.open(canary))
        if not all(member.shares for member in members):
            return Sharing.FALLBACK
        return _judged(await _heard(members, topic, patience_s))
    except SessionRefusedError as error:
        # Who may not subscribe to the canary's topics may still be allowed to subscribe to the devices'.
        return Sharing.FALLBACK if "SHARED_SUBSCRIPTIONS" in str(error) else Sharing.UNPROVEN
    finally:
        for member in members:
            await member.close()


def subscribed(config: SessionConfig, sharing: Sharing) -> SessionConfig:
    """Return the configuration under which messages come: without groups where the broker does not serve them.

    SessionRefusedError where it deals a device's messages among the members of a group.
    """
    if sharing is Sharing.DEALT:
        shared = ", ".join(filter(is_shared, config.filters))
        msg = (
            f"topic_filters: {shared}: the broker deals the messages of one client among the members of a group, so "
            "what a device sends would reach several workers, and neither repetitions nor losses could be told. "
            "Nothing is subscribed to. Give each worker plain filters of its own, such as port/SITE/#, a single one "
            "port/#, or set the broker to dispatch by client (EMQX: hash_clientid)"
        )
        raise SessionRefusedError(msg)
    if sharing is not Sharing.FALLBACK:
        return config
    return replace(config, filters=tuple(dict.fromkeys(map(plain, config.filters))))


def _judged(heard: list[list[str]]) -> Sharing:
    """Say what it means on which topics something came to each of the members."""
    sharing = sum(any(topic != "plain" for topic in topics) for topics in heard)
    if sharing:
        return Sharing.DEALT if sharing > 1 else Sharing.SHARED
    return Sharing.FALLBACK if any(heard) else Sharing.UNPROVEN


async def _heard(members: list[Session], topic: str, patience_s: float) -> list[list[str]]:
    """Publish to all topics and return for each member the last levels of those on which something came."""
    heard: list[list[str]] = [[] for _ in members]
    complete = asyncio.Event()

    async def listen(nth: int) -> None:
        while not complete.is_set():
            heard[nth] += [message.topic.rpartition("/")[2] for message in await members[nth].read(complete)]
            if sum(map(len, heard)) > ROUNDS * TOPICS:
                complete.set()

    for _ in range(ROUNDS):
        for nth in range(TOPICS):
            members[0].publish(f"{topic}/shared/{nth}", b"")
    members[0].publish(f"{topic}/plain", b"")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await asyncio.gather(*(listen(nth) for nth in range(len(members))))
    return heard

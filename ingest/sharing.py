"""Whether a broker's shared subscriptions deliver: some grant ``$share/…`` and send nothing.

A canary at start-up, on a connection of its own: it subscribes to one topic within a group and to one without,
publishes to both and waits. What comes on the plain topic and not on the shared one tells of the broker; where nothing
comes, an access list may be the reason, and nothing is known.
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


class Sharing(StrEnum):
    """How a worker's filters are subscribed to; the words of its status."""

    UNKNOWN = "unknown"
    """Nothing is known yet."""
    PLAIN = "plain"
    """No filter is shared."""
    SHARED = "shared"
    """The broker delivers what it grants."""
    UNPROVEN = "shared, unproven"
    """The canary heard nothing at all, such as under an access list: the filters are left as they are."""
    FALLBACK = "plain, because shared filters deliver nothing"
    """The filters are subscribed to without their groups."""


async def probe(config: SessionConfig, patience_s: float = PATIENCE_S) -> Sharing:
    """Say how the filters of ``config`` are to be subscribed to. SessionError if the broker cannot be reached."""
    if not any(map(is_shared, config.filters)):
        return Sharing.PLAIN
    topic = f"{RESULTS_ROOT}/_probe/{config.client_id}"
    canary = replace(
        config,
        client_id=f"{config.client_id}-probe",
        filters=(f"{SHARE}_probe/{topic}/shared", f"{topic}/plain"),
        former_filters=(),
        clean_start=True,
        session_expiry_s=0,
    )
    try:
        session = await Session.open(canary)
    except SessionRefusedError as error:
        # Who may not subscribe to the canary's topics may still be allowed to subscribe to the devices'.
        return Sharing.FALLBACK if "SHARED_SUBSCRIPTIONS" in str(error) else Sharing.UNPROVEN
    try:
        if not session.shares:
            return Sharing.FALLBACK
        heard = await _heard(session, topic, patience_s)
    finally:
        await session.close()
    if "shared" in heard:
        return Sharing.SHARED
    return Sharing.FALLBACK if "plain" in heard else Sharing.UNPROVEN


def subscribed(config: SessionConfig, sharing: Sharing) -> SessionConfig:
    """Return the configuration under which messages come: without groups where the broker does not serve them."""
    if sharing is not Sharing.FALLBACK:
        return config
    return replace(config, filters=tuple(dict.fromkeys(map(plain, config.filters))))


async def _heard(session: Session, topic: str, patience_s: float) -> set[str]:
    """Publish to both topics and return on which of them something came."""
    heard: set[str] = set()
    session.publish(f"{topic}/shared", b"")
    session.publish(f"{topic}/plain", b"")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while len(heard) < 2:  # noqa: PLR2004 - both
                heard |= {message.topic.rpartition("/")[2] for message in await session.read(asyncio.Event())}
    return heard

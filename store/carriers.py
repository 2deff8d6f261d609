"""What carries the tag that was read: the registry's tags joined to events as they are told, never as they are stored.

An event keeps the tag that its reader reported. Whose it was at that time is looked up each time that the event is
told, so that a tag table that comes later, or is put right, holds for what has passed before as well.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from store.interface import EventRecord
from store.registry import SqlRegistry
from store.registry_entries import Tag

SOURCE: Final = "registry"
TAG: Final = "tag"
"""Field of an event's data that holds the tag read."""


class Carrier(NamedTuple):
    """Which container or vehicle, and from when until when a tag was on it, ns UTC, half-open."""

    start_ns: float
    end_ns: float
    id: str
    type: str


class Carriers:
    """The tags of the registry at one revision."""

    def __init__(self, tags: Iterable[Tag] = ()) -> None:
        """Take entries in any order."""
        self._of: dict[str, list[Carrier]] = {}
        for each in tags:
            self._of.setdefault(each.tag.upper(), []).append(Carrier(*each.span_ns(), each.carrier, each.type))
        for carriers in self._of.values():
            carriers.sort(reverse=True)

    def __len__(self) -> int:
        """Return how many tags are known."""
        return len(self._of)

    def at(self, tag: str, ts_ns: int) -> Carrier | None:
        """Return what carried a tag at a time; of several, that on which it was put last."""
        return next((each for each in self._of.get(tag.upper(), ()) if each.start_ns <= ts_ns < each.end_ns), None)

    def document(self, event: EventRecord) -> dict[str, object]:
        """Return an event as it is published, streamed and listed: with its carrier where one is known."""
        document, tag = event.document(), event.data.get(TAG)
        found = self.at(tag, event.ts_ns) if isinstance(tag, str) else None
        if found is not None:
            document["carrier"] = {"id": found.id, "type": found.type, "source": SOURCE}
        return document


class CarriersFollower:
    """The newest :class:`Carriers`. Blocking: for a thread of its own."""

    def __init__(self, registry: SqlRegistry) -> None:
        """Nothing is read before :meth:`now`."""
        self._registry = registry
        self._revision = -1
        self._known = Carriers()

    def now(self) -> Carriers:
        """Return what the registry says, read again where it has changed; StoreUnreachableError where it is away."""
        revision = self._registry.revision()
        if revision != self._revision:
            self._known = Carriers(entry for entry in self._registry.every(Tag.kind) if isinstance(entry, Tag))
            self._revision = revision
        return self._known

"""Which frames of a journal a reader wants."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Final

FOREVER: Final = 2**64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames are wanted."""

    topics: Container[str] | None = None
    """Their topics, exactly: a set, or anything else that can tell whether a topic is in it; None wants all."""
    from_ns: int = 0
    """Received at or after this, ns UTC."""
    to_ns: int = FOREVER
    """Received before this, ns UTC."""

    def wants(self, topic: str) -> bool:
        """Tell whether frames of a topic are wanted."""
        return self.topics is None or topic in self.topics


EVERYTHING: Final = Selection()

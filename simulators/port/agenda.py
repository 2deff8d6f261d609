"""The event heap: processes are generators that yield how long to wait or what to wait for.

An own heap of a hundred lines instead of simpy: the port needs delays, queues and one-shot signals only, and half of
a simulated hour at fifty times real time is spent here.
"""

import heapq
from collections import deque
from collections.abc import Generator
from typing import Any, Final, Generic, TypeVar

WARM_UP_S: Final = 900.0
"""Time after which cranes, lines and trucks have left their common start behind, s; profiles count from here."""

Item = TypeVar("Item")
Process = Generator["float | Store[Any]", Any, None]
"""Yields a delay in s, or a :class:`Store` to take from; the item taken is what ``yield`` returns."""


class Agenda:
    """Virtual time and what happens next; ties are broken by the order of scheduling, so runs repeat exactly."""

    def __init__(self) -> None:
        """Start at time 0 with nothing to do."""
        self.now = 0.0
        self._heap: list[tuple[float, int, Process, Any]] = []
        self._scheduled = 0

    def start(self, process: Process, delay: float = 0.0) -> None:
        """Run ``process`` from ``delay`` seconds from now."""
        self.resume(process, None, delay)

    def resume(self, process: Process, value: object, delay: float = 0.0) -> None:
        """Send ``value`` into ``process`` after ``delay`` seconds."""
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now + delay, self._scheduled, process, value))

    def advance(self, until: float) -> None:
        """Let everything happen that is due before or at ``until`` (s), which becomes the present."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, process, value = heapq.heappop(heap)
            try:
                wanted = process.send(value)
            except StopIteration:
                continue
            if isinstance(wanted, Store):
                wanted.serve(process)
            else:
                self.resume(process, None, wanted)
        self.now = until


class Store(Generic[Item]):
    """A first-in first-out queue between processes: ``item = yield store`` waits for and takes the oldest item."""

    def __init__(self, agenda: Agenda) -> None:
        """Start empty."""
        self._agenda = agenda
        self._items: deque[Item] = deque()
        self._takers: deque[Process] = deque()

    def put(self, item: Item) -> None:
        """Add an item; the process that has waited longest gets it."""
        if self._takers:
            self._agenda.resume(self._takers.popleft(), item)
        else:
            self._items.append(item)

    def serve(self, taker: Process) -> None:
        """Give the oldest item to ``taker``, now or as soon as there is one."""
        if self._items:
            self._agenda.resume(taker, self._items.popleft())
        else:
            self._takers.append(taker)

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._items)

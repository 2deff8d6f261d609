"""An event loop whose time passes when everybody waits, and never else."""

import asyncio
import random
import selectors
from collections.abc import Callable
from typing import Any, Final, TypeVarTuple

NS: Final = 1_000_000_000
START_NS: Final = 1_767_225_600 * NS
"""2026-01-01T00:00:00Z."""
Ts = TypeVarTuple("Ts")


class DeadlockError(RuntimeError):
    """Everybody waits, and nothing is due."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """The usual loop in virtual time; work for executors is done in the loop, as long after as ``dice`` say."""

    def __init__(self, dice: random.Random) -> None:
        """Begin at 0 s."""
        self._now = 0.0
        self._dice = dice
        self._free_at: dict[int, float] = {}
        self.slowness: Callable[[], float] = lambda: 0.0
        """Seconds that every piece of work for an executor takes longer at the moment."""
        self.life = 0
        """Which process is running: what an earlier one handed to executors is not done."""
        self.alive = True
        """Whether one is running; what a dying one hands to executors is not done either."""
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Return virtual seconds since the beginning."""
        return self._now

    def now_ns(self) -> int:
        """Return virtual ns UTC."""
        return START_NS + round(self._now * NS)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts) -> asyncio.Future[Any]:  # noqa: ANN401 - asyncio's signature
        """Do the work later and in the loop; an executor has one thread and takes one piece after another."""
        begins = max(self._now, self._free_at.get(id(executor), 0.0)) if executor is not None else self._now
        ends = begins + self._dice.expovariate(500) + self.slowness()
        if executor is not None:
            self._free_at[id(executor)] = ends
        future: asyncio.Future[Any] = self.create_future()
        life = self.life if self.alive else -1

        def work() -> None:
            if life != self.life or not self.alive:
                future.cancel()
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                if not future.cancelled():
                    future.set_exception(error)
                return
            if not future.cancelled():
                future.set_result(result)

        self.call_at(ends, work)
        return future


class _Jumping(selectors.SelectSelector):
    """Instead of waiting, moves the loop's clock on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("everybody waits, and nothing is due")
        if timeout > 0:
            self._loop.pass_time(timeout)
        return []

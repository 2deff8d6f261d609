"""Real sinks in a made world: the store in SQLite, and the outbox with its remote ends; and compression beside them.

What these do in threads of their own is done in the loop, one piece after another, so that a seed stays one schedule.
"""

import asyncio
import random
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from analytics.rows import SeriesKey, WindowRows, WindowSums
from devices.columns import Bools
from devices.scalars import Scalar
from faults.simulation.store import Moods, SimulatedSink, Store
from store.delivery import Backoff, Delivery
from store.interface import EARLIEST_NS, Commit, EventRecord, StoreUnreachableError
from store.journal import Compressor
from store.open import open_records
from store.records import SqlRecords
from store.sinks import EmbeddedSink, OutboxSink

CHUNK_BYTES: Final = 900
"""A chunk of a compressed segment, so that even the small segments of a world have several."""


class SqliteSink:
    """The embedded store, behind the same moods; the commits are noted as well, but for what it folds itself.

    A power cut leaves of its files what they were when they were last synced, whatever SQLite has synced itself since.
    """

    FILE: Final = "quayflow.db"
    SAFE: Final = "synced"

    def __init__(self, inner: EmbeddedSink, noted: SimulatedSink, data: Path) -> None:
        """``inner`` is what the worker loads from, a file in ``data``."""
        self._inner = inner
        self._noted = noted
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the embedded store has
        """Return what is not different here."""
        return getattr(self._inner, name)

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Commit to both: what the one denies was done in the other too."""
        try:
            self._noted.commit(commit)
        except StoreUnreachableError as error:
            if "away" not in str(error):
                self._inner.commit(commit)
            raise
        return self._inner.commit(commit)

    def sync(self) -> None:
        """Keep the files as they are now from power cuts."""
        self._inner.sync()
        self._noted.sync()
        self._copy(self._data, self._data.parent / self.SAFE, Path.unlink)

    @classmethod
    def restore(cls, data: Path, remove: Callable[[Path], None]) -> None:
        """Put the files as they were when they were last synced, which they need never have been."""
        cls._copy(data.parent / cls.SAFE, data, remove)

    @classmethod
    def _copy(cls, source: Path, target: Path, remove: Callable[[Path], None]) -> None:
        target.mkdir(exist_ok=True)
        for path in target.glob(f"{cls.FILE}*"):
            remove(path)
        for path in source.glob(f"{cls.FILE}*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, target / path.name)


class Remote:
    """A window store and records on another machine, which outlive the worker and are not always to be reached."""

    def __init__(self, folder: Path, moods: Moods, dice: random.Random, die: Callable[[], None]) -> None:
        """``folder`` is no part of the worker's disk; ``die`` has the worker die, and raises what ends it."""
        self.parts: list[WindowRows] = []
        """The rows that it was given, in order."""
        self.url = f"sqlite:///{folder}/remote.db"
        self.dies_in = 0
        """The worker dies at this call from now on, before or after it is done; 0 never."""
        self._moods = moods
        self._dice = dice
        self._die = die

    def call(self, work: Callable[[], Any], half: Callable[[], object]) -> Any:  # noqa: ANN401 - what the work returns
        """Do work, or half of it, or none, and say so or not."""
        dies = self.dies_in == 1
        self.dies_in = max(0, self.dies_in - 1)
        if dies and self._dice.random() < 0.5:  # noqa: PLR2004 - before or after
            self._die()
        if self._moods.away:
            raise StoreUnreachableError("away", retry_after_s=self._dice.choice([None, 0.3]))
        if self._moods.lies:
            self._moods.lies -= 1
            self._dice.choice([half, work])()
            raise StoreUnreachableError("the answer was lost")
        result = work()
        if dies:
            self._die()
        return result


class RemoteWindows:
    """The window store there; see :class:`store.interface.WindowStore`."""

    def __init__(self, remote: Remote) -> None:
        """One connection to it."""
        self._remote = remote

    def write(self, rows: WindowRows) -> None:
        """Write rows; a write that fails may have written some."""
        parts = self._remote.parts
        half = rows.take(np.arange(len(rows) // 2))
        self._remote.call(lambda: parts.append(rows), lambda: parts.append(half))

    def remove(self, rows: WindowRows) -> None:
        """Nothing is ever removed here."""
        raise AssertionError(rows)

    def check(self) -> None:
        """Let whoever asks believe that all is well."""

    def kept_from(self, now_ns: int) -> int:
        """Return a time before all others."""
        del now_ns
        return EARLIEST_NS

    def read(
        self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey], worker: str | None = None
    ) -> WindowRows:
        """Nobody reads here."""
        raise AssertionError((tier_s, start_ns, end_ns, series, worker))

    def read_sums(self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey]) -> WindowSums:
        """Nobody reads here."""
        raise AssertionError((tier_s, start_ns, end_ns, series))

    def heard(self, tier_s: int, windows: range, series: Sequence[SeriesKey]) -> Bools:
        """Nobody reads here."""
        raise AssertionError((tier_s, windows, series))

    def find(
        self,
        *,
        site: str | None = None,
        device_class: str | None = None,
        device: str | None = None,
        metrics: Iterable[str] | None = None,
    ) -> list[SeriesKey]:
        """Nobody looks here."""
        raise AssertionError((site, device_class, device, metrics))

    def expire(self, before_ns: Mapping[int, int]) -> int:
        """Keep everything."""
        del before_ns
        return 0

    def close(self) -> None:
        """Do nothing."""


class RemoteRecords:
    """The records there: the real ones, in SQLite."""

    def __init__(self, remote: Remote) -> None:
        """One connection to them."""
        self._remote = remote
        self._inner: SqlRecords = open_records(remote.url, read_only=False)

    def write(self, commit: Commit, *, refused: Sequence[int] = (), now_ns: int = 0) -> list[EventRecord]:
        """Write a commit's records in one transaction."""
        found: list[EventRecord] = self._remote.call(
            lambda: self._inner.write(commit, refused=refused, now_ns=now_ns), half=lambda: None
        )
        return found

    def workers(self) -> Mapping[str, Mapping[str, Scalar]]:
        """See the protocol."""
        return self._inner.workers()

    def last_cursor(self) -> int:
        """Return the greatest cursor given so far."""
        return self._inner.last_cursor()

    def close(self) -> None:
        """Release the file."""
        self._inner.close()


class LoopDelivery(Delivery):
    """Delivers in the loop, an entry at a time."""

    def __init__(self, *arguments: Any, loop: asyncio.AbstractEventLoop, **options: Any) -> None:  # noqa: ANN401 - as the real one
        """``loop`` is the world's."""
        super().__init__(*arguments, **options)
        self._loop = loop
        self._failures = 0

    def start(self) -> None:
        """Begin to deliver."""
        self._loop.call_later(0.05, self._begin)

    def drain(self, timeout_s: float) -> bool:
        """Deliver all there is, but do not wait for a store that is away."""
        del timeout_s
        while self._once() == 0:
            pass
        return self.waiting() == 0

    def _begin(self) -> None:
        if not self._stopping.is_set():
            self._loop.run_in_executor(self, self._once).add_done_callback(self._end)  # type: ignore[arg-type]

    def _once(self) -> float:
        """Deliver an entry; return how long to wait for the next, s."""
        try:
            more = self._deliver_oldest()
        except Exception as error:  # noqa: BLE001 - as the real one
            self._failures += 1
            return self._after(error, self._failures)
        self._failures = 0
        return 0 if more else 0.3

    def _end(self, done: "asyncio.Future[float]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._loop.call_later(done.result(), self._begin)


class OutboxedSink:
    """The outbox, whose commits are noted as well."""

    def __init__(self, inner: OutboxSink, store: Store) -> None:
        """``inner`` is what the worker loads from."""
        self._inner = inner
        self._store = store

    @classmethod
    def open(
        cls, data: Path, remote: Remote, store: Store, loop: asyncio.AbstractEventLoop, dice: random.Random
    ) -> Any:  # noqa: ANN401 - a sink
        """Open the outbox in a worker's data folder."""
        inner = OutboxSink(
            data / "outbox.db",
            RemoteWindows(remote),
            RemoteRecords(remote),
            clock=lambda: 0,
            backoff=Backoff(0.2, 2.0),
            jitter=dice,
            delivery=partial(LoopDelivery, loop=loop),
        )
        return cls(inner, store)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the outbox has
        """Return what is not different here."""
        return getattr(self._inner, name)

    def commit(self, commit: Commit) -> list[EventRecord]:
        """Commit, and note it: what the local file has taken, it keeps."""
        new = self._inner.commit(commit)
        self._store.commits.append(commit)
        return new


class LoopCompressor(Compressor):
    """Compresses in the loop, all there is at a time."""

    def __init__(
        self, folder: Path, replacing: threading.Lock, *, loop: asyncio.AbstractEventLoop, dice: random.Random
    ) -> None:
        """``loop`` is the world's; ``dice`` tell when it looks for segments."""
        super().__init__(folder, replacing, CHUNK_BYTES)
        self._loop = loop
        self._dice = dice

    def start(self) -> None:
        """Begin, after deleting what a crash left."""
        self.tidy()
        self._later()

    def _later(self) -> None:
        self._loop.call_later(self._dice.uniform(0.1, 1.5), self._begin)

    def _begin(self) -> None:
        if not self._stop.is_set():
            self._loop.run_in_executor(self, self._look).add_done_callback(self._end)  # type: ignore[arg-type]

    def _look(self) -> None:
        # A disk that was full is tried again at once: nobody waits for a minute here.
        self._failed.clear()
        self.work()

    def _end(self, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and done.exception() is None:
            self._later()

    def _breathe(self) -> None:
        pass

"""The stores as coroutines: threads, a time limit, a bounded queue, and small short-lived caches."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from analytics.rows import SeriesKey
from api.config import ApiConfig
from api.instruments import Instruments
from api.problems import ApiError
from devices.scalars import Scalar
from devices.vocabulary import DeviceClass
from store.carriers import TAG, Carriers, CarriersFollower
from store.interface import DeviceRecord, EventRecord, Records, WindowStore
from store.registry import SqlRegistry

P = ParamSpec("P")
T = TypeVar("T")

PAGE: Final = 1_000
"""Devices read from the records at a time."""


class Stores:
    """Window rows and records, asked off the event loop.

    Questions of requests share ``query_threads`` threads; a little pool of their own serves readiness, metrics and the
    live stream, so that heavy questions do not make the service look dead.
    """

    def __init__(
        self,
        config: ApiConfig,
        windows: WindowStore,
        records: Records,
        registry: SqlRegistry,
        instruments: Instruments,
        audit: SqlRegistry | None = None,
    ) -> None:
        """Take stores that are open; :meth:`close` closes them. ``audit``: the registry again, open for writing."""
        self.windows = windows
        self.records = records
        self.registry = registry
        self._audit = audit
        self._carriers = CarriersFollower(registry)
        self._config = config
        self._instruments = instruments
        self._heavy = ThreadPoolExecutor(config.query_threads, thread_name_prefix="api-query")
        self._light = ThreadPoolExecutor(2, thread_name_prefix="api-light")
        self._waiting = 0
        self._cache: _Cache = _Cache(lifetime_s=1.0, size=256)

    async def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking question of a request; a problem if too many wait or it takes too long."""
        if self._waiting >= self._config.query_threads + self._config.max_waiting_queries:
            self._instruments.store_refusals.labels("busy").inc()
            raise ApiError("busy", "too many questions at once; repeat in a second", headers={"Retry-After": "1"})
        return await self._run(self._heavy, function, *args, **kwargs)

    async def ask_lightly(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking question that is small whatever the data; for readiness, metrics and the live stream."""
        return await self._run(self._light, function, *args, **kwargs)

    async def windows_answer(self) -> None:
        """Ask the window store whether it would answer, once a second at most. StoreUnreachableError or a problem."""
        await self._cache.get(("windows",), lambda: self.ask_lightly(self.windows.check))

    async def devices(
        self, *, site: str | None = None, classes: Sequence[DeviceClass] | None = None
    ) -> list[DeviceRecord]:
        """Return every device of the site and the classes, by uid, at most a second old."""
        found: list[DeviceRecord] = []
        for device_class in classes or (None,):
            fetch = partial(self.ask, _all_devices, self.records, site, device_class)
            found += await self._cache.get(("devices", site, device_class), fetch)
        return found

    async def series(self, *, site: str | None = None, device_class: DeviceClass) -> list[SeriesKey]:
        """Return every series of the site and the class, at most a second old."""

        def find() -> list[SeriesKey]:
            return self.windows.find(site=site, device_class=device_class)

        found: list[SeriesKey] = await self._cache.get(("series", site, device_class), lambda: self.ask(find))
        return found

    async def documents(self, events: Sequence[EventRecord]) -> list[dict[str, object]]:
        """Return events as they are told, with what carried their tags as of at most a second ago."""
        carriers = Carriers()
        if any(TAG in event.data for event in events):
            carriers = await self._cache.get("carriers", lambda: self.ask_lightly(self._carriers.now))
        return [carriers.document(event) for event in events]

    async def workers(self) -> Mapping[str, Mapping[str, Scalar]]:
        """Return worker → its last committed status, at most a second old."""
        fetched = self._cache.get("workers", lambda: self.ask_lightly(self.records.workers))
        found: Mapping[str, Mapping[str, Scalar]] = await fetched
        return found

    def close(self) -> None:
        """Close the stores once running questions have ended; idempotent."""
        self._heavy.shutdown(cancel_futures=True)
        self._light.shutdown(cancel_futures=True)
        self.windows.close()
        self.records.close()
        self.registry.close()
        if self._audit is not None:
            self._audit.close()

    async def _run(self, pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        begun = time.perf_counter()
        self._waiting += pool is self._heavy
        future = asyncio.get_running_loop().run_in_executor(pool, lambda: function(*args, **kwargs))
        if pool is self._heavy:
            # It counts until the thread is free again, also where nobody waits for its answer any more.
            future.add_done_callback(self._freed)
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the answer.
            async with asyncio.timeout(self._config.query_timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            self._instruments.store_refusals.labels("timeout").inc()
            detail = f"no answer within {self._config.query_timeout_s:g} s; take a longer step or a shorter range"
            raise ApiError("query-timeout", detail, headers={"Retry-After": "5"}) from None
        finally:
            self._instruments.store_seconds.observe(time.perf_counter() - begun)

    def _freed(self, future: "asyncio.Future[Any]") -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio does not report what the request was told already


def _all_devices(records: Records, site: str | None, device_class: DeviceClass | None) -> list[DeviceRecord]:
    found: list[DeviceRecord] = []
    after = ""
    while True:
        page = records.devices(site=site, device_class=device_class, after=after, limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found
        after = page[-1].uid


class _Cache:
    """Answers kept for a moment; who asks while one is being fetched waits for that one."""

    def __init__(self, lifetime_s: float, size: int) -> None:
        self._lifetime_s = lifetime_s
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def get(self, key: Hashable, fetch: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - any answer
        found = self._kept.get(key)
        if found is None or time.monotonic() - found[0] > self._lifetime_s or _failed(found[1]):
            task = asyncio.ensure_future(fetch())
            self._kept[key] = found = (time.monotonic(), task)
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        # Shielded: who goes away must not take the answer from the others.
        return await asyncio.shield(found[1])


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)

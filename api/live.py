"""The live hub: follows the broker and the records, and keeps just enough for every connected client.

    quayflow/+/live/#            ──► newest value of every metric, stamped with a version
    quayflow/_workers/+/status   ──► newest status of every worker, stamped with a version
    quayflow/+/events/#, a timer ──► events newer than the cursor, read from the records, in a short ring
    nothing for a while          ──► asked whether it is there; its silence, stamped with a version

A client holds two numbers, the version and the event cursor it has seen, and asks for what is newer. So a client that
reads slowly is given fewer, newer values; one that does not read at all costs nothing; and no event can be missed,
whatever the broker lost, because events come from the records alone.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import aiomqtt
import msgspec

from api.broker_silence import LOOK_S, NOTHING, BrokerSilence
from api.config import ApiConfig
from api.instruments import Instruments
from api.problems import ApiError
from api.stores import Stores
from devices.scalars import Scalar
from devices.topics import RESULTS_ROOT
from store.interface import EventRecord, StoreUnreachableError
from store.system_words import of_address

RING: Final = 2_000
"""Newest events kept here; a client further behind reads them from the records."""
PAGE: Final = 500
"""Events read from the records at a time."""
SUBSCRIPTIONS: Final = (f"{RESULTS_ROOT}/+/live/#", f"{RESULTS_ROOT}/+/events/#", f"{RESULTS_ROOT}/_workers/+/status")
MAX_QUEUED: Final = 10_000
"""Messages of the broker waiting to be taken; more are dropped and counted. Values are conflated, events polled."""
MAX_SHARED: Final = 16
"""Encoded changes kept for clients at the same version, until the next change."""
BACKOFF_S: Final = (0.25, 10.0)
ANSWER_S: Final = 60.0
"""How long the broker may take to say that it is there, s; before that the connection ends."""
LIVE_LEVELS: Final = 4

logger = logging.getLogger(__name__)


class Changes(NamedTuple):
    """Server-sent events, encoded, and how many of each kind they are."""

    body: bytes
    live: int
    statuses: int
    broker: int = 0


class LiveMessage(msgspec.Struct):
    """The values of a class that changed, as ingest publishes them."""

    time: str
    values: dict[str, dict[str, float | bool]]


class _DeviceValues:
    """Metric → (value, version in which it changed)."""

    __slots__ = ("metrics", "version")

    def __init__(self) -> None:
        self.version = 0
        self.metrics: dict[str, tuple[float, int]] = {}


class _ClassValues:
    """The devices of one site and class, the one that changed last at the end."""

    __slots__ = ("devices", "time", "version")

    def __init__(self) -> None:
        self.version = 0
        self.time = ""
        self.devices: dict[str, _DeviceValues] = {}

    def since(self, version: int) -> dict[str, dict[str, float]]:
        """Return device → metric → value for what changed after ``version``."""
        found: dict[str, dict[str, float]] = {}
        for name in reversed(self.devices):
            device = self.devices[name]
            if device.version <= version:
                break
            found[name] = {metric: value for metric, (value, changed) in device.metrics.items() if changed > version}
        return found


_decode_live = msgspec.json.Decoder(LiveMessage).decode
# With int beside float, or times in ns would lose their last digits.
_decode_status = msgspec.json.Decoder(dict[str, Scalar]).decode
_encode = msgspec.json.Encoder().encode


def frame(event: str, data: object, *, cursor: int | None = None) -> bytes:
    """Return a server-sent event; ``data`` is encoded as JSON on one line."""
    head = f"id: {cursor}\nevent: {event}\n" if cursor is not None else f"event: {event}\n"
    return b"%bdata: %b\n\n" % (head.encode(), _encode(data))


class LiveHub:
    """State shared by all live streams of one process."""

    def __init__(self, config: ApiConfig, stores: Stores, instruments: Instruments) -> None:
        """Nothing is contacted before :meth:`start`."""
        self._config = config
        self._stores = stores
        self._instruments = instruments
        self._classes: dict[tuple[str, str], _ClassValues] = {}
        self._workers: dict[str, tuple[int, Mapping[str, Scalar]]] = {}
        self._recent: deque[EventRecord] = deque(maxlen=RING)
        self._ring_after = 0
        self._changes: dict[tuple[int, str | None], Changes] = {}
        self._wakers: set[Callable[[], None]] = set()
        self._announced = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._said: dict[str, str] = {}
        self.version = 0
        """Counts the changes of live values and statuses."""
        self.cursor: int | None = None
        """Cursor of the newest event known; None until the records answered."""
        self.connected = False
        """Whether the broker is being followed."""
        self.closing = False
        """Whether streams must end."""
        self._silence = BrokerSilence(time.monotonic)
        self._broker_told: tuple[int, bool] = 0, False
        """In which version it was last told whether something comes from the broker, and whether it did."""

    def start(self) -> None:
        """Begin to follow the broker and the records."""
        self._tasks = [
            asyncio.create_task(self._follow_broker(), name="live-broker"),
            asyncio.create_task(self._follow_records(), name="live-records"),
        ]

    async def stop(self) -> None:
        """End every stream and stop following; idempotent."""
        self.close_streams()
        while left := [task for task in self._tasks if not task.done()]:
            # More than once, because aiomqtt waits with wait_for, which may swallow a cancellation.
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)

    def close_streams(self) -> None:
        """Let every open stream end; new ones end at once."""
        self.closing = True
        self._wake()

    def statistics(self) -> dict[str, int]:
        """Return how much is held."""
        devices = sum(len(values.devices) for values in self._classes.values())
        return {
            "clients": len(self._wakers),
            "classes": len(self._classes),
            "devices": devices,
            "workers": len(self._workers),
            "recent_events": len(self._recent),
            "shared_changes": len(self._changes),
        }

    # --- what clients ask ---------------------------------------------------------------------------------------------

    def add_waker(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there may be something newer."""
        self._wakers.add(wake)
        self._instruments.stream_clients.set(len(self._wakers))

    def remove_waker(self, wake: Callable[[], None]) -> None:
        """Forget ``wake``."""
        self._wakers.discard(wake)
        self._instruments.stream_clients.set(len(self._wakers))

    def is_full(self) -> bool:
        """Return whether as many clients as allowed are connected."""
        return len(self._wakers) >= self._config.stream_clients

    def values(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """Return (site, class) → device → metric → newest value."""
        return {key: values.since(0) for key, values in self._classes.items()}

    def workers(self) -> dict[str, Mapping[str, Scalar]]:
        """Return worker → newest status heard."""
        return {worker: status for worker, (_, status) in self._workers.items()}

    @property
    def broker_silent_s(self) -> float:
        """For how long the broker has said nothing, though it was asked, s."""
        return self._silence.seconds

    def broker(self) -> dict[str, object]:
        """Return whether anything comes from the broker, and since when not."""
        return {"heard": self._broker_is_heard, "silent_s": round(self._silence.seconds, 3)}

    @property
    def _broker_is_heard(self) -> bool:
        return self.connected and not self._silence.is_silent

    def changes_since(self, version: int, site: str | None) -> "Changes":
        """Return the server-sent events for what changed after ``version``; clients at one version share them."""
        key = version, site
        found = self._changes.get(key)
        if found is None:
            found = self._build_changes(version, site)
            if len(self._changes) < MAX_SHARED:
                self._changes[key] = found
        return found

    def _build_changes(self, version: int, site: str | None) -> "Changes":
        live = []
        for (of_site, device_class), values in self._classes.items():
            if values.version > version and site in {None, of_site}:
                data = {"site": of_site, "class": device_class, "time": values.time, "values": values.since(version)}
                live.append(frame("live", data))
        statuses = [frame("status", status) for changed, status in self._workers.values() if changed > version]
        changed, _ = self._broker_told
        told = [frame("broker", self.broker())] if changed > version else []
        return Changes(b"".join(live + statuses + told), len(live), len(statuses), len(told))

    async def newest_cursor(self) -> int:
        """Return the cursor of the newest event, read from the records."""
        newest = await self._stores.ask_lightly(self._stores.records.events, newest_first=True, limit=1)
        return newest[0].cursor if newest else 0

    async def documents(self, events: Sequence[EventRecord]) -> list[dict[str, object]]:
        """Return events as they are told; without what carried their tags while the registry cannot be asked."""
        try:
            return await self._stores.documents(events)
        except (ApiError, StoreUnreachableError):
            return [event.document() for event in events]

    async def events_after(self, cursor: int) -> list[EventRecord]:
        """Return up to a page of events after ``cursor``, from the ring if it reaches back so far."""
        if cursor >= self._ring_after:
            if self.cursor is None or cursor >= self.cursor:
                return []
            return [event for event in self._recent if event.cursor > cursor][:PAGE]
        return await self._stores.ask_lightly(self._stores.records.events, after=cursor, limit=PAGE)

    # --- the broker ---------------------------------------------------------------------------------------------------

    async def _follow_broker(self) -> None:
        least, most = BACKOFF_S
        wait_s = least
        while True:
            try:
                async with self._client() as client:
                    for topic in SUBSCRIPTIONS:
                        await client.subscribe(topic, qos=0)
                    self._set_connected(connected=True)
                    logger.info("broker: following %s:%s", self._config.broker_host, self._config.broker_port)
                    wait_s = least
                    self._said.pop("broker", None)
                    watching = asyncio.create_task(self._watch_broker(client), name="live-watch")
                    try:
                        async for message in client.messages:
                            self._silence.hear()
                            self.take(str(message.topic), message.payload)
                    finally:
                        watching.cancel()
            except Exception as error:  # noqa: BLE001 - whatever the client raises: say so and try again
                expected = isinstance(error, aiomqtt.MqttError | OSError)
                self._say("broker", error, expected=expected)
            finally:
                self._set_connected(connected=False)
            # Full jitter: the clients of a broker that comes back do not all come at once.
            await asyncio.sleep(wait_s * (0.5 + secrets.randbelow(500) / 1000))
            wait_s = min(most, wait_s * 2)

    async def _watch_broker(self, client: aiomqtt.Client) -> None:
        """Ask a broker that says nothing whether it is there, and tell of it when it does not answer."""
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                if self._silence.look() and (asking is None or asking.done()):
                    asking = asyncio.create_task(self._ask_broker(client), name="live-ask")
                self._tell_of_broker()
        finally:
            if asking is not None:
                asking.cancel()

    async def _ask_broker(self, client: aiomqtt.Client) -> None:
        with suppress(aiomqtt.MqttError):
            await client.unsubscribe(NOTHING, timeout=ANSWER_S)
            self._silence.hear()

    def _tell_of_broker(self) -> None:
        heard = self._broker_is_heard
        if heard != self._broker_told[1]:
            self.version += 1
            self._broker_told = self.version, heard
            self._changed()

    def _say(self, what: str, error: Exception, *, expected: bool) -> None:
        """Log a failure; the same one again and again only for who wants to know."""
        again = self._said.get(what) == str(error)
        self._said[what] = str(error)
        level = logging.DEBUG if again else logging.WARNING
        words = of_address(error) if what == "broker" else error
        logger.log(level, "%s: %s; trying again", what, words, exc_info=None if expected else error)

    def _client(self) -> aiomqtt.Client:
        config = self._config
        return aiomqtt.Client(
            config.broker_host,
            config.broker_port,
            username=config.broker_username,
            password=config.broker_password,
            identifier=f"quayflow-api-{secrets.token_hex(6)}",
            tls_context=config.broker_tls_context(),
            queue_type=self._queue_type(),
            max_queued_incoming_messages=MAX_QUEUED,
            keepalive=15,
            timeout=10,
            logger=logging.getLogger(f"{__name__}.client"),
        )

    def _queue_type(self) -> type[asyncio.Queue[aiomqtt.Message]]:
        overflow = self._instruments.live_overflow

        class CountingQueue(asyncio.Queue[aiomqtt.Message]):
            """Counts what it has no room for, which aiomqtt then drops."""

            def put_nowait(self, item: aiomqtt.Message) -> None:
                if self.full():
                    overflow.inc()
                super().put_nowait(item)

        return CountingQueue

    def _set_connected(self, *, connected: bool) -> None:
        if connected and not self.connected:
            self._instruments.live_connects.inc()
        self.connected = connected
        self._instruments.live_connected.set(connected)
        if connected:
            self._silence.hear()
        self._tell_of_broker()

    def take(self, topic: str, payload: object) -> None:
        """Take one message of the broker."""
        levels = topic.split("/")
        kind = "status" if levels[1:2] == ["_workers"] else (levels[2] if len(levels) == LIVE_LEVELS else "")
        if kind not in {"live", "events", "status"} or not isinstance(payload, bytes):
            self._instruments.live_rejected.labels("other").inc()
            return
        try:
            if kind == "live":
                self._take_live(levels[1], levels[3], _decode_live(payload))
            elif kind == "status":
                self._take_status(levels[2], _decode_status(payload))
            else:
                # The message only says that there is something: what it is, the records tell, in order.
                self._announced.set()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._instruments.live_rejected.labels(kind).inc()
            logger.warning("%s: %s", topic, error)
            return
        self._instruments.live_messages.labels(kind).inc()

    def _take_live(self, site: str, device_class: str, message: LiveMessage) -> None:
        self.version += 1
        values = self._classes.setdefault((site, device_class), _ClassValues())
        values.version, values.time = self.version, message.time
        for name, metrics in message.values.items():
            device = values.devices.pop(name, None) or _DeviceValues()
            device.version = self.version
            device.metrics.update({metric: (value, self.version) for metric, value in metrics.items()})
            values.devices[name] = device
        self._changed()

    def _take_status(self, worker: str, status: Mapping[str, Scalar]) -> None:
        self.version += 1
        self._workers[worker] = self.version, status
        self._changed()

    def _changed(self) -> None:
        self._changes.clear()
        self._wake()

    def _wake(self) -> None:
        for wake in self._wakers:
            wake()

    # --- the records --------------------------------------------------------------------------------------------------

    async def _follow_records(self) -> None:
        while True:
            self._announced.clear()
            try:
                await self._read_records()
                self._said.pop("records", None)
            except Exception as error:  # noqa: BLE001 - whatever the store raises: say so and try again
                self._say("records", error, expected=isinstance(error, StoreUnreachableError))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.records_poll_s):
                    await self._announced.wait()

    async def _read_records(self) -> None:
        for worker, status in (await self._stores.ask_lightly(self._stores.records.workers)).items():
            known = self._workers.get(worker)
            # The broker's word is later by a commit; the records stand in for a broker that is silent.
            if known is None or _updated(status) > _updated(known[1]):
                self._take_status(worker, status)
        if self.cursor is None:
            self.cursor = self._ring_after = await self.newest_cursor()
        while True:
            page = await self._stores.ask_lightly(self._stores.records.events, after=self.cursor, limit=PAGE)
            for event in page:
                if len(self._recent) == RING:
                    self._ring_after = self._recent[0].cursor
                self._recent.append(event)
                self.cursor = event.cursor
            self._instruments.live_event_cursor.set(self.cursor)
            if page:
                self._wake()
            if len(page) < PAGE:
                return


def _updated(status: Mapping[str, Any]) -> float:
    value = status.get("updated_ns")
    return value if isinstance(value, int | float) else 0.0

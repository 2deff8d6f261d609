"""What ingest tells the world through the broker: live values, port events and its own status."""

import asyncio
import logging
import math
import random
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiomqtt
import msgspec

from devices.codecs.readings import Request
from devices.times import format_rfc3339
from devices.topics import event_topic, live_topic, status_topic
from ingest.acknowledging import Told
from ingest.session import SessionConfig
from ingest.waiting import first_of, pause
from store.carriers import Carriers
from store.interface import EventRecord

log = logging.getLogger(__name__)

LIVE_LEAST_S: Final = 0.02
"""Shortest time between two looks at what changed, s: what changes in between is conflated."""
LIVE_SHARE: Final = 0.1
"""Largest share of the time that publishing may take before looks are spread further apart, 0 to 1."""
MESSAGE_S: Final = 0.0002
"""What handing one message to the client costs, s."""
STATUS_PERIOD_S: Final = 1.0
BROKER_S: Final = 5.0
"""How long the broker may take over a message, over all that still waits at the end, or over the goodbye, s."""
MAX_EVENTS_WAITING: Final = 10_000
MAX_ANSWERS_WAITING: Final = 10_000
EVENTS_TOGETHER: Final = 20
"""Events handed to the client at once: to wait for the broker after each costs more than the event, and beyond this
many unacknowledged messages the client holds back the rest anyway."""
AT_ONCE: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
"""Options of the connection. Without, what is published at QoS 0 waits up to 40 ms, until the broker's system has
acknowledged what was published before: it has nothing to answer, and so no reason to hurry."""
_encode = msgspec.json.Encoder().encode

Live = Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]


class Results:
    """Publishes on a connection of its own, so that a slow subscriber of results never holds up ingest."""

    def __init__(
        self,
        config: SessionConfig,
        worker: str,
        *,
        live: Callable[[], Live],
        status: Callable[[], Mapping[str, Any]],
        now: Callable[[], int],
        carriers: Callable[[], Carriers] = Carriers,
        host: str = "",
    ) -> None:
        """``live`` gives the values changed since it was last asked, ``status`` the worker's state.

        ``carriers`` gives what carries which tag, which events are told with.

        ``host``: name under which Sparkplug's nodes are told that their host is there; "" for none.
        """
        self._host = host
        self._config = config
        self._worker = worker
        self._live = live
        self._status = status
        self._now = now
        self._carriers = carriers
        self.changed = asyncio.Event()
        """To be set by whoever has changed what ``live`` gives, or queued something: nobody looks otherwise."""
        self._events: deque[EventRecord] = deque()
        self._told: dict[str, bytes] = {}
        self._requests: dict[str, bytes] = {}
        self._answers: deque[Request] = deque()
        self.answers_dropped = 0
        """Answers to commands not given because the broker was away too long, or they were too many."""
        self.events_dropped = 0
        """Events not announced because the broker was away too long; they are in the records all the same."""

    def announce(self, events: list[EventRecord]) -> None:
        """Queue events that have been committed."""
        self._events.extend(events)
        self._notice(events)
        while len(self._events) > MAX_EVENTS_WAITING:
            self._events.popleft()
            self.events_dropped += 1

    def acknowledge(self, told: list[Told]) -> None:
        """Queue what devices are told of their messages; while the broker is away, the newest word for each is kept."""
        self._told.update(told)
        self._notice(told)

    def request(self, requests: list[Request]) -> None:
        """Queue what codecs ask of those whom they listen to, the newest for each topic."""
        self._requests.update({request.topic: request.payload for request in requests})
        self._notice(requests)

    def answer(self, answers: list[Request]) -> None:
        """Queue answers to commands: each is somebody's, so none stands for another on the same topic."""
        self._answers.extend(answers)
        self._notice(answers)
        dropped = len(self._answers) - MAX_ANSWERS_WAITING
        for _ in range(dropped):
            self._answers.popleft()
            self.answers_dropped += 1
        if dropped > 0:
            log.warning("%d answers to commands wait too long and are not given", dropped)

    def _notice(self, queued: Sequence[object]) -> None:
        if queued:
            self.changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop``; connect again whenever the connection is lost."""
        config = self._config
        delay = 0.2
        while not stop.is_set():
            # The will says the same time as the birth, so that a node can tell which of two it belongs to.
            since = self._now() // 1_000_000
            try:
                async with aiomqtt.Client(
                    config.host,
                    config.port,
                    username=config.username,
                    password=config.password,
                    identifier=f"{config.client_id}-results",
                    protocol=aiomqtt.ProtocolVersion.V5,
                    timeout=BROKER_S,
                    socket_options=AT_ONCE,
                    tls_params=aiomqtt.TLSParameters(
                        ca_certs=config.ca_file, certfile=config.cert_file, keyfile=config.key_file
                    )
                    if config.tls
                    else None,
                    will=aiomqtt.Will(*_host_state(self._host, since, online=False), qos=1, retain=True)
                    if self._host
                    else None,
                ) as client:
                    # Beyond this the client warns, which is for whoever did not mean it.
                    client.pending_calls_threshold = EVENTS_TOGETHER
                    delay = 0.2
                    if self._host:
                        await client.publish(*_host_state(self._host, since, online=True), qos=1, retain=True)
                    await self._publish(client, stop)
                    if self._host:
                        await client.publish(*_host_state(self._host, since, online=False), qos=1, retain=True)
            except aiomqtt.MqttError as error:
                log.debug("results: %s; trying again in %.1f s", error, delay)
                await pause(stop, delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                delay = min(delay * 2, 10)

    async def _publish(self, client: aiomqtt.Client, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        status_due = 0.0
        end_by = math.inf

        def in_time() -> bool:
            """Return False once it is over and the broker has had its time to take what waits."""
            nonlocal end_by
            end_by = min(end_by, clock() + BROKER_S) if stop.is_set() else end_by
            return clock() < end_by

        while not stop.is_set():
            # First, so that whatever comes meanwhile is gone through in the next round.
            self.changed.clear()
            while self._events and in_time():
                await self._tell_events(client)
            while self._told and in_time():
                topic, payload = next(iter(self._told.items()))
                await client.publish(topic, payload, retain=True)
                # Unless there is newer word by now, which then goes next.
                if self._told.get(topic) is payload:
                    del self._told[topic]
            while self._requests and in_time():
                topic, payload = next(iter(self._requests.items()))
                await client.publish(topic, payload)
                if self._requests.get(topic) is payload:
                    del self._requests[topic]
            while self._answers and in_time():
                await client.publish(self._answers[0].topic, self._answers[0].payload)
                self._answers.popleft()
            began, time = clock(), format_rfc3339(self._now())
            looked = [
                (live_topic(site, device_class), _encode({"time": time, "values": values}))
                for (site, device_class), values in self._live().items()
            ]
            # Only what this itself costs: the wait for the client is the time of whatever else the loop has to do, and
            # to rest nine times as long for it would make values late just when there is much to do.
            cost = clock() - began + len(looked) * MESSAGE_S
            await asyncio.gather(*(client.publish(topic, payload) for topic, payload in looked))
            if began >= status_due:
                await client.publish(status_topic(self._worker), _encode(self._status()), retain=True)
                status_due = began + STATUS_PERIOD_S
            await self._rest(stop, max(LIVE_LEAST_S, cost * (1 - LIVE_SHARE) / LIVE_SHARE), status_due)

    async def _rest(self, stop: asyncio.Event, seconds: float, status_due: float) -> None:
        """Wait for a change, or until the status is due, but for so long at least."""
        clock = asyncio.get_running_loop().time
        over = clock() + seconds
        # What changes in steps is looked at right behind them: to look at times of its own would make it late. And by
        # then the rest is mostly over: to sleep through it first would be to wake up for nothing.
        await first_of((stop, self.changed), status_due - clock())
        if (left := over - clock()) > 0:
            await pause(stop, left)

    async def _tell_events(self, client: aiomqtt.Client) -> None:
        """Publish the first of the events that wait; those that the broker has not taken wait on."""
        some = [self._events.popleft() for _ in range(min(len(self._events), EVENTS_TOGETHER))]
        carriers = self._carriers()
        messages = [(event_topic(event.site, event.type), _encode(carriers.document(event))) for event in some]
        told = await asyncio.gather(
            *(client.publish(topic, payload, qos=1) for topic, payload in messages), return_exceptions=True
        )
        failed = [(event, error) for event, error in zip(some, told, strict=True) if error is not None]
        if failed:
            self._events.extendleft(event for event, _ in reversed(failed))
            raise failed[0][1]


def _host_state(host: str, since_ms: int, *, online: bool) -> tuple[str, bytes]:
    """Return topic and payload of Sparkplug's STATE message (Sparkplug 3.0, host applications)."""
    return f"spBv1.0/STATE/{host}", _encode({"online": online, "timestamp": since_ms})

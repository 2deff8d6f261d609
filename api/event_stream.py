"""Server-sent events to one client, with back-pressure: a reader that stands still is closed and counted."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.config import ApiConfig
from api.instruments import Instruments
from api.live import LiveHub, frame

ABORT_KEY: Final = "quayflow.abort"
"""Scope key of a function that drops the connection at once, where the server offers one."""
RETRY_MS: Final = 2_000
"""How long a browser waits before it connects again."""

logger = logging.getLogger(__name__)


class ClientFeed:
    """What one client of the live stream is told: hello, missed events, then whatever is new."""

    def __init__(self, hub: LiveHub, config: ApiConfig, instruments: Instruments, site: str | None) -> None:
        """``site`` None follows every site."""
        self._hub = hub
        self._config = config
        self._instruments = instruments
        self._site = site
        self._fresh = asyncio.Event()

    async def frames(self, hello: dict[str, object], cursor: int, version: int) -> AsyncIterator[bytes]:
        """Yield encoded events after ``cursor`` and values after ``version``, until the hub closes its streams."""
        hub = self._hub
        hub.add_waker(self._fresh.set)
        try:
            self._instruments.stream_frames.labels("hello").inc()
            yield b"retry: %d\n" % RETRY_MS + frame("hello", hello)
            heartbeat_at = time.monotonic() + self._config.stream_heartbeat_s
            while not hub.closing:
                self._fresh.clear()
                events = await hub.events_after(cursor)
                changes = hub.changes_since(version, self._site)
                if events:
                    cursor = events[-1].cursor
                version = hub.version
                concerned = [event for event in events if self._site in {None, event.site}]
                told = zip(await hub.documents(concerned), concerned, strict=True)
                body = b"".join(frame("port-event", document, cursor=event.cursor) for document, event in told)
                body += changes.body
                if time.monotonic() >= heartbeat_at:
                    heartbeat_at = time.monotonic() + self._config.stream_heartbeat_s
                    body += b": heartbeat\n\n"
                if body:
                    self._count(
                        {
                            "port-event": len(concerned),
                            "live": changes.live,
                            "status": changes.statuses,
                            "broker": changes.broker,
                        }
                    )
                    yield body
                elif not events:
                    await self._wait(heartbeat_at - time.monotonic())
        finally:
            hub.remove_waker(self._fresh.set)

    def _count(self, numbers: Mapping[str, int]) -> None:
        for name, number in numbers.items():
            self._instruments.stream_frames.labels(name).inc(number)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._fresh.wait()


class EventStreamResponse(Response):
    """Sends frames as the client takes them."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], stall_s: float, closed: Callable[[str], None]) -> None:
        """``closed`` is told why the stream ended: ``finished``, ``disconnected``, ``stalled``."""
        # Proxies such as nginx would otherwise hold the stream back until a buffer is full.
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._stall_s = stall_s
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until it finishes, the client leaves, or stands still."""
        sending = asyncio.create_task(self._send_all(send), name="stream-send")
        leaving = asyncio.create_task(_until_disconnect(receive), name="stream-leave")
        reason = "disconnected"
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                reason = await sending
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._closed(reason)
        if reason == "stalled":
            await _abort(scope)

    async def _send_all(self, send: Send) -> str:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for body in self._frames:
                async with asyncio.timeout(self._stall_s):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            async with asyncio.timeout(self._stall_s):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return "stalled"
        except OSError:
            return "disconnected"
        return "finished"


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _abort(scope: Scope) -> None:
    abort = scope.get(ABORT_KEY)
    if abort is None:
        logger.info("a stalled stream is left to the server to close")
        return
    # Closing would first wait for the client to read what is buffered, which is what it does not do.
    abort()
    await asyncio.sleep(0)

"""What every request passes: headers, figures, HEAD, limits, a barrier for faults. Plain ASGI, so streams stream."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.config import ApiConfig
from api.instruments import Instruments
from api.problems import ApiError, problem_response

HEAD_KEY: Final = "quayflow.head"
"""Scope key: the request was HEAD and is answered as GET without a body."""
BROKER_QUESTIONS: Final = "/broker/"
"""Where brokers ask who may do what."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

_POLICY: Final = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self'{styles}; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
PAGE_POLICY: Final = _POLICY.format(styles="")
DOCS_POLICY: Final = _POLICY.format(styles=" 'unsafe-inline'")
"""Swagger UI writes style attributes."""
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

LINGER_BYTES: Final = 16 << 20
LINGER_S: Final = 1.0
"""How much of a body, and for how long, is read after its answer, bytes and s: none of it is kept."""

logger = logging.getLogger(__name__)


class SecurityHeaders:
    """Puts the security headers on every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class FaultBarrier:
    """Turns what nobody expected into a 500 problem; the trace goes to the log, its id to the caller."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            trace_id = secrets.token_hex(8)
            logger.exception("%s %s failed, trace_id %s", scope["method"], scope["path"], trace_id)
            if started:
                raise
            error = ApiError("internal-error", "the service failed", members={"trace_id": trace_id})
            await problem_response(error, scope["path"])(scope, receive, send)


class RequestFigures:
    """Counts requests and their duration by route."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        """Wrap ``app``."""
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        streams = False
        begun = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = MutableHeaders(scope=message).get("content-type", "").startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            # Labels must be few, whatever clients send.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._instruments.requests.labels(method, route, str(status)).inc()
            if not streams:
                self._instruments.request_seconds.labels(route).observe(time.perf_counter() - begun)


class HeadAsGet:
    """Answers HEAD like GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def without_body(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not ended and not message.get("more_body", False):
                ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # The same dictionary, so that the route found is seen by who counts it.
        scope["method"] = "GET"
        scope[HEAD_KEY] = True
        try:
            await self._app(scope, receive, without_body)
        finally:
            scope["method"] = "HEAD"


class RequestLimits:
    """Refuses long query strings and large bodies, also those whose length is not announced."""

    def __init__(self, app: ASGIApp, config: ApiConfig) -> None:
        """Wrap ``app``."""
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._refusal(scope)
        if error is not None:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        left = self._most(scope)

        async def receive_within() -> Message:
            nonlocal left
            message = await receive()
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    # Few here read bodies; who sends one without end is treated as gone.
                    return {"type": "http.disconnect"}
            return message

        await self._app(scope, receive_within, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        query = scope.get("query_string", b"")
        if len(query) > self._config.max_query_bytes:
            detail = f"the query string has {len(query)} bytes; allowed: {self._config.max_query_bytes}"
            return ApiError("query-too-long", detail)
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        most = self._most(scope)
        if length.isdigit() and int(length[:20]) > most:
            detail = f"the body has {length[:20].decode()} bytes; allowed: {most}"
            return ApiError("content-too-large", detail, headers={"Connection": "close"})
        return None

    def _most(self, scope: Scope) -> int:
        asks = self._config.access_secret is not None and scope["path"].startswith(BROKER_QUESTIONS)
        return self._config.max_question_bytes if asks else self._config.max_body_bytes


class EndlessBodies:
    """Ends the connection after an answer to a body that has no announced length and has not ended by then.

    The server would go on reading it for nobody, for as long as the client cares to send. What comes while the client
    has not seen the answer yet is read, up to :data:`LINGER_BYTES` and :data:`LINGER_S`: to close at once would reset
    the connection, and the answer could be lost with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or all(name != b"transfer-encoding" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        ended = closing = False
        awaited = 0

        async def watched_receive() -> Message:
            nonlocal ended, awaited
            awaited += 1
            try:
                message = await receive()
            finally:
                awaited -= 1
            ended = ended or not message.get("more_body", False)
            return message

        async def send_and_close(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not ended:
                MutableHeaders(scope=message)["Connection"] = "close"
                closing = True
            elif message["type"] == "http.response.body" and closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                # Where somebody waits for the body, as a stream does to see its reader go, it is for them.
                if not awaited:
                    await _read_on(watched_receive)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, watched_receive, send_and_close)


async def _read_on(receive: Receive) -> None:
    """Read what is left of a body within the bounds, for nobody."""
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def abort_of(send: Send) -> Callable[[], Any] | None:
    """Return what drops the connection behind uvicorn's ``send`` at once, None on another server."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    abort: Callable[[], Any] | None = getattr(transport, "abort", None)
    return abort

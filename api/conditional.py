"""Answers that seldom change carry a tag of their content: who still has one is told so, and not sent it again."""

from hashlib import sha256
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS: Final = frozenset({"/v1/vocabulary", "/openapi.json", "/asyncapi.json"})
BELOW: Final = "/v1/registry/"
"""Lists of the registry, such as its zones: as long as nobody changes it, each page of them is the same."""
CHECK_FIRST: Final = "no-cache"
"""It may be kept, but is to be asked for again each time."""
OK: Final = 200
NOT_MODIFIED: Final = 304
TAG_DIGITS: Final = 32


class ConditionalGet:
    """Answers ``If-None-Match`` with 304 where the answer is the same still (RFC 9110, 13.1.2)."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap ``app``; what compresses answers has to be around this."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path = scope["path"] if scope["type"] == "http" and scope["method"] == "GET" else ""
        if path not in PATHS and not path.startswith(BELOW):
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def hold(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                await _send_unless_known(Headers(scope=scope).getlist("if-none-match"), start, bytes(body), send)

        await self._app(scope, receive, hold)


async def _send_unless_known(known: list[str], start: Message, body: bytes, send: Send) -> None:
    if start["status"] == OK:
        # Weak: compressed it is other bytes and says the same.
        tag = f'W/"{sha256(body).hexdigest()[:TAG_DIGITS]}"'
        headers = MutableHeaders(scope=start)
        headers["ETag"], headers["Cache-Control"] = tag, CHECK_FIRST
        if _is_among(tag, known):
            for name in ("content-length", "content-type"):
                del headers[name]
            start, body = {**start, "status": NOT_MODIFIED}, b""
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _is_among(tag: str, known: list[str]) -> bool:
    """Tell whether a tag is in what ``If-None-Match`` says, weakly compared."""
    given = [each.strip() for line in known for each in line.split(",")]
    return "*" in given or tag.removeprefix("W/") in {each.removeprefix("W/") for each in given}

"""A proxy before the window store that misbehaves as told, and otherwise passes everything on."""

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

HANG_S: Final = 30.0
PASSED_ON: Final = ("content-type", "content-encoding", "authorization", "accept")


class Trouble(Enum):
    """What the proxy does to a write."""

    NONE = "none"
    BUSY = "429 with Retry-After"
    BROKEN = "500"
    HANG = "no answer"
    HALF = "half an answer"
    RESET = "written, but the connection reset before the answer"
    FORGET = "204, and nothing written"


class FaultProxy:
    """Where it listens, what it does now, and how often it did what."""

    def __init__(self, upstream: int) -> None:
        """``upstream`` is the port of the store."""
        self.upstream = upstream
        self.trouble = Trouble.NONE
        self.done: Counter[Trouble] = Counter()
        self.ended = threading.Event()
        self.port = 0


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection as the proxy is told at the moment."""

    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        trouble = self.proxy.trouble if self.path.startswith("/api/v2/write") else Trouble.NONE
        self.proxy.done[trouble] += 1
        if trouble is Trouble.BUSY:
            self._answer(429, b'{"message":"slow down"}', {"Retry-After": "1"})
        elif trouble is Trouble.BROKEN:
            self._answer(500, b'{"message":"it is not you, it is me"}')
        elif trouble is Trouble.FORGET:
            self._answer(204, b"")
        elif trouble is Trouble.HANG:
            self.proxy.ended.wait(HANG_S)
            self._cut()
        elif trouble is Trouble.HALF:
            self.wfile.write(b"HTTP/1.")
            self._cut()
        elif trouble is Trouble.RESET:
            self._ask(body)
            self._cut()
        else:
            self._pass_on(body)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _ask(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() in PASSED_ON}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        said = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return said

    def _pass_on(self, body: bytes) -> None:
        status, said, headers = self._ask(body)
        kept = {name: value for name, value in headers.items() if name.lower() == "content-type"}
        self._answer(status, said, kept)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self) -> None:
        # Closing with this option sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    """One thread per connection; clients that give up are no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that gave up."""


@contextmanager
def fault_proxy(upstream: int) -> Iterator[FaultProxy]:
    """Run a proxy on a free port of loopback."""
    proxy = FaultProxy(upstream)

    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="fault-proxy", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()

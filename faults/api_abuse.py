"""Bodies that no API should read: without end, far too large, blown up, nested; spoken on a socket of its own."""

import contextlib
import gzip
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from engines.ports import wait_until
from faults import ROOT
from quayflow.supervisor import start_tied

PATH: Final = "/v1/devices/T-000/names?name=speed"
"""Where a body is read: what a name of a device's own means."""
MOST: Final = 256 << 20
CHUNK: Final = bytes(1 << 16)
BOMB: Final = gzip.compress(bytes(60 << 20))
"""Sixty megabytes in as many kilobytes, which is within what a body may have."""
HEADS: Final = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Abuse(NamedTuple):
    """What came of one body: bytes that the API took, and how it answered; 0 where it hung up."""

    name: str
    taken: int
    status: int


@contextmanager
def running_api(folder: Path, log: Path) -> Iterator[tuple[int, int]]:
    """Run the API on a data folder; yield its port and its process id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QUAYFLOW_")}
    environment |= {"QUAYFLOW_DATA": str(folder), "QUAYFLOW_LOCAL_CHANGES": "true"}
    command = [sys.executable, "-m", "quayflow", "api", "--port", "0"]
    with log.open("wb") as words:
        api = start_tied(command, cwd=ROOT, env=environment, stdout=words, stderr=words, start_new_session=True)
    try:
        wait_until(lambda: _port(log) > 0, f"the API listens: {log}", 40)
        yield _port(log), api.pid
    finally:
        api.kill()
        api.wait()


def abuses(port: int) -> list[Abuse]:
    """Send every body that is too much, and return what came of each."""
    deep = b"[" * 60_000
    return [
        _sent(port, "chunks without end", "Transfer-Encoding: chunked\r\n", _chunks()),
        _sent(port, "256 MB announced", f"Content-Length: {MOST}\r\n", (CHUNK for _ in range(MOST // len(CHUNK)))),
        _sent(port, "gzip bomb", f"Content-Encoding: gzip\r\nContent-Length: {len(BOMB)}\r\n", iter([BOMB])),
        _sent(port, "nesting", f"Content-Length: {len(deep)}\r\n", iter([deep])),
    ]


def answers(port: int) -> bool:
    """Tell whether the API still answers others."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return _status(connection) == 200  # noqa: PLR2004 - all is well


def _chunks() -> Iterator[bytes]:
    head = f"{len(CHUNK):x}\r\n".encode()
    for _ in range(MOST // len(CHUNK)):
        yield head + CHUNK + b"\r\n"


def _sent(port: int, name: str, heads: str, body: Iterator[bytes]) -> Abuse:
    taken = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"PUT {PATH} HTTP/1.1\r\n{HEADS}{heads}\r\n".encode())
        with contextlib.suppress(OSError):
            for piece in body:
                connection.sendall(piece)
                taken += len(piece)
        return Abuse(name, taken, _status(connection))


def _status(connection: socket.socket) -> int:
    with contextlib.suppress(OSError):
        found = re.match(rb"HTTP/1\.1 (\d{3})", connection.recv(4_096))
        return int(found.group(1)) if found else 0
    return 0


def _port(log: Path) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
    return int(found.group(1)) if found else 0


def told(found: list[Abuse]) -> str:
    """Return how each was answered."""
    return json.dumps({each.name: each.status for each in found})

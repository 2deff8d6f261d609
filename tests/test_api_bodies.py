"""Bodies of requests that nobody asked for: what the server takes of them is bounded; their senders are answered."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from made_port import MadePort, served

from api.app import create_app
from api.middleware import LINGER_BYTES

CHUNK = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
END = b"0\r\n\r\n"
BUFFERS = 16 << 20
"""More than the buffers of two sockets hold, bytes."""
PLENTY = 128 << 20


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = MadePort(tmp_path_factory.mktemp("bodies"))
    with served(create_app(port.config())) as url:
        yield url


def sender(url: str, request: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)), timeout=20)
    opened.sendall(f"{request} HTTP/1.1\r\nHost: port\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    return opened


def head(sending: socket.socket) -> str:
    """Read the head of an answer."""
    read = b""
    while b"\r\n\r\n" not in read:
        some = sending.recv(1)
        assert some, read
        read += some
    return read.decode().lower()


def flood(sending: socket.socket) -> int:
    """Send until the server has gone; return how many bytes that took."""
    for number in range(PLENTY // len(CHUNK)):
        try:
            sending.sendall(CHUNK)
        except ConnectionError:
            return number * len(CHUNK)
    return PLENTY


REQUESTS = ["POST /v1/devices", "GET /healthz", "HEAD /healthz", "GET /nowhere", f"GET /healthz?x={'x' * 5_000}"]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request[:20])
def test_a_body_without_end_is_answered_and_then_ends_the_connection(url: str, request_: str) -> None:
    with closing(sender(url, request_)) as sending:
        sending.sendall(CHUNK)
        # Who has not finished gets the answer all the same.
        answer = head(sending)
        assert answer.startswith("http/1.1 ")
        assert "connection: close" in answer
        assert flood(sending) < LINGER_BYTES + BUFFERS


def test_a_body_that_stands_still_ends_the_connection_soon(url: str) -> None:
    with closing(sender(url, "POST /v1/devices")) as sending:
        sending.sendall(CHUNK[:100])
        assert head(sending).startswith("http/1.1 405 ")
        while sending.recv(1 << 16):
            pass


def test_a_body_that_ends_after_its_answer_is_no_error(url: str) -> None:
    with closing(sender(url, "POST /v1/devices")) as sending:
        sending.sendall(CHUNK)
        answer = head(sending)
        sending.sendall(CHUNK + END)
        length = int(answer.split("content-length: ")[1].split("\r\n")[0])
        read = b""
        while some := sending.recv(1 << 16):
            read += some
        assert len(read) == length


def test_a_body_with_a_length_leaves_the_connection_open(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=20)) as sending:
        for _ in range(2):
            sending.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: port\r\nContent-Length: 3\r\n\r\nabc")
            answer = head(sending)
            assert answer.startswith("http/1.1 200 ")
            assert "connection: close" not in answer

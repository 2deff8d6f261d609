"""Answers of an InfluxDB that are not what they should be."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from engines.answers import serving
from store.influxql import InfluxqlClient, said
from store.interface import StoreUnreachableError

DAMAGED = b'{"results":[{"series":[{"name":"\xff","columns":["time"],"values":[[1]]}]}]}\n'


@contextmanager
def answering(status: int, body: bytes) -> Iterator[InfluxqlClient]:
    """A client of a server that answers every question with the same bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as address, closing(InfluxqlClient(f"http://{address}", "db", "rp", "")) as client:
        yield client


@pytest.mark.parametrize("body", [b"<html>", b'{"results":7}', DAMAGED, DAMAGED[:40]])
def test_an_answer_that_is_damaged_is_that_of_a_store_that_cannot_be_reached(body: bytes) -> None:
    with answering(200, body) as client, pytest.raises(StoreUnreachableError, match="no InfluxQL"):
        list(client.ask("SHOW SERIES"))


def test_a_refusal_in_another_encoding_is_read_as_far_as_it_can_be() -> None:
    with answering(500, b'{"error":"\xff"}') as client, pytest.raises(StoreUnreachableError, match="answered 500"):
        list(client.ask("SHOW SERIES"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"no"}', "no"),
        ('{"message":"no"}', "no"),
        (b"[1]", "[1]"),
        (b" no \n", "no"),
        (b"n\xff", "n�"),
        (b'{"error":"\xff"}', '{"error":"�"}'),
    ],
)
def test_what_a_server_says_of_an_error_is_found(body: bytes | str, words: str) -> None:
    assert said(body) == words

"""What the InfluxDB driver makes of what servers answer, said by a real HTTP server in the words of each version."""

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import pytest
from made_records import commit
from made_rows import BEGIN, key, rows_of

from devices.times import NS
from engines.answers import serving
from engines.ports import wait_until
from store.interface import EARLIEST_NS, StoreRefusedError, StoreUnreachableError
from store.line_protocol import FLOAT_FIELDS, INTEGER_FIELDS
from store.open import StoreUrlError, open_records, open_sink, open_windows
from store.sinks import OutboxSink

PIECE = 4_096
Answer = tuple[int, dict[str, str], object]

UNAUTHORIZED = {"code": "unauthorized", "message": "unauthorized access"}
FORBIDDEN = {"code": "forbidden", "message": "insufficient permissions for write"}
NO_BUCKET = {"code": "not found", "message": 'bucket "quay" not found'}
NO_ORG = {"code": "not found", "message": 'organization name "port" not found'}
VERSION_2 = (204, {"X-Influxdb-Version": "v2.7.12", "X-Influxdb-Build": "OSS"}, None)


class Saying(BaseHTTPRequestHandler):
    """Answers as told: by path, the first that is told and then the last one again."""

    told: ClassVar[dict[str, list[Answer]]]
    asked: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say()

    def _say(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(self.path)
        answers = self.told.get(path, [(204, {}, None)])
        status, headers, document = answers.pop(0) if len(answers) > 1 else answers[0]
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        if status == 204:
            self.end_headers()
            return
        # In pieces, as the servers send what they compress.
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for first in range(0, len(body), PIECE):
            some = body[first : first + PIECE]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(some), some))
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def saying(told: dict[str, list[Answer]]) -> Iterator[tuple[str, list[str]]]:
    """Serve what is told; yields the window store's URL and what was asked."""
    asked: list[str] = []
    with serving(Saying, told=told, asked=asked) as address:
        yield f"influxdb://tok@{address}/quay?org=port", asked


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (401, UNAUTHORIZED, "answered 401: unauthorized access; correct the token in windows_url"),
        (403, FORBIDDEN, "answered 403: insufficient permissions for write; give the token in windows_url the right"),
        (
            404,
            NO_BUCKET,
            'answered 404: bucket "quay" not found; create the bucket or database, or correct windows_url',
        ),
        (
            404,
            NO_ORG,
            'answered 404: organization name "port" not found; name the organisation as org=… in',
        ),
    ],
)
def test_who_is_not_served_is_told_which_setting_to_correct(status: int, document: object, expected: str) -> None:
    with saying({"/api/v2/write": [(status, {}, document)], "/query": [(200, {}, {"results": []})]}) as (url, _):
        with closing(open_windows(url, read_only=False)) as store:
            for refused in (store.check, lambda: store.write(rows_of([key()], [{}]))):
                with pytest.raises(StoreRefusedError, match=expected):
                    refused()
        # Who only reads needs no right to write.
        with closing(open_windows(url, read_only=True)) as reader:
            reader.check()


PLAIN_TO_TLS = b"Client sent an HTTP request to an HTTPS server.\n"
"""What influxd itself answers where TLS is on."""
NGINX = b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n</html>\r\n"


@pytest.mark.parametrize("body", [PLAIN_TO_TLS, NGINX], ids=["influxd", "nginx"])
def test_who_speaks_to_a_server_without_the_tls_that_it_wants_has_no_rows_refused(body: bytes, tmp_path: Path) -> None:
    told: dict[str, list[Answer]] = {"/api/v2/write": [(400, {"Content-Type": "text/plain"}, body)]}
    with saying(told) as (url, _):
        sink = open_sink(url, f"sqlite:///{tmp_path}/records.db", tmp_path)
        wait_until(lambda: "begin windows_url with influxdbs://" in sink.trouble()[0], "it says what to do", 10)
        sink.commit(commit(1, rows=rows_of([key()], [{}])))
        assert not sink.drain(0.5)
        assert sink.backlog() == 1
        told["/api/v2/write"][:] = [(204, {}, None)]
        assert sink.drain(30)
        sink.close()
    with closing(open_records(f"sqlite:///{tmp_path}/records.db")) as records:
        assert not records.quarantine(limit=10)


def test_a_window_store_that_fails_unforeseen_at_first_is_delivered_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = open_windows(f"sqlite:///{tmp_path}/windows.db", read_only=False)

    def fail() -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(windows, "check", fail)
    sink = OutboxSink(
        tmp_path / "outbox.db", windows, open_records(f"sqlite:///{tmp_path}/records.db", read_only=False)
    )
    wait_until(lambda: sink.trouble()[0] == "unforeseen", "it is told of", 10)
    sink.commit(commit(1, rows=rows_of([key()], [{}])))
    assert sink.drain(30)
    assert sink.trouble() == ("", 0.0)
    sink.close()


@pytest.mark.parametrize("port", ["x", "0", "65536"])
def test_a_port_that_is_none_is_refused_by_the_name_of_its_setting(port: str) -> None:
    with pytest.raises(StoreUrlError, match="records_url: the port must be a number from 1 to 65535"):
        open_records(f"postgresql://h:{port}/b")


def test_who_may_not_read_is_told_which_setting_to_correct() -> None:
    with (
        saying({"/query": [(401, {}, UNAUTHORIZED)]}) as (url, _),
        closing(open_windows(url, read_only=True)) as store,
    ):
        for refused in (store.check, store.find, lambda: store.read(10, 0, 10 * NS, [key()])):
            with pytest.raises(StoreRefusedError, match="unauthorized access; correct the token in windows_url"):
                refused()


def test_a_server_in_trouble_is_no_wrong_setting() -> None:
    with (
        saying({"/api/v2/write": [(503, {"Retry-After": "7"}, None)]}) as (url, _),
        closing(open_windows(url, read_only=False)) as store,
        pytest.raises(StoreUnreachableError) as trouble,
    ):
        store.check()
    assert not isinstance(trouble.value, StoreRefusedError)
    assert trouble.value.retry_after_s == 7.0


def test_retention_of_a_bucket_of_version_2_is_asked_where_it_is_told() -> None:
    # In InfluxQL, 2.x says of every bucket that it keeps points for ever.
    forever = {
        "results": [{"series": [{"columns": ["name", "duration", "default"], "values": [["autogen", "0s", True]]}]}]
    }
    now = time.time_ns()
    for seconds, expected in ((172_800, now - 172_860 * NS), (0, EARLIEST_NS)):
        rules = [{"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": 86_400}] if seconds else []
        found = {"links": {}, "buckets": [{"id": "0" * 16, "orgID": "1" * 16, "name": "quay", "retentionRules": rules}]}
        told: dict[str, list[Answer]] = {
            "/ping": [VERSION_2],
            "/query": [(200, {}, forever)],
            "/api/v2/buckets": [(200, {}, found)],
        }
        with saying(told) as (url, asked), closing(open_windows(url, read_only=False)) as store:
            assert store.kept_from(now) == expected
        assert [path for path in asked if "buckets" in path and "name=quay" in path and "org=port" in path]


def test_rows_beyond_the_retention_of_a_bucket_are_quarantined_and_not_sent(tmp_path: Path) -> None:
    rules = [{"type": "expire", "everySeconds": 172_800}]
    found = {"buckets": [{"id": "0" * 16, "orgID": "1" * 16, "name": "quay", "retentionRules": rules}]}
    today = time.time_ns() // (10 * NS) * 10 * NS
    rows = rows_of([key()], [{"window": today - hours * 3600 * NS} for hours in range(0, 4_000, 8)])
    told: dict[str, list[Answer]] = {"/ping": [VERSION_2], "/api/v2/buckets": [(200, {}, found)]}
    with saying(told) as (url, asked):
        sink = open_sink(url, f"sqlite:///{tmp_path}/records.db", tmp_path)
        sink.commit(commit(1, rows=rows))
        assert sink.drain(30)
        sink.close()
    with closing(open_records(f"sqlite:///{tmp_path}/records.db")) as records:
        assert len(records.quarantine(reason="rejected_by_store", limit=1_000)) == len(rows) - 7
    # The first asks whether it would be taken, the second is the commit.
    assert len([path for path in asked if path.startswith("/api/v2/write")]) <= 2


def test_a_proxy_before_a_server_that_is_away_does_not_say_which_version_it_is() -> None:
    three = (200, {"X-Influxdb-Version": "3.9.0"}, None)
    told: dict[str, list[Answer]] = {"/ping": [(502, {}, None), three], "/query": [(200, {}, {"results": []})]}
    with saying(told) as (url, asked), closing(open_windows(url, read_only=True)) as store:
        with pytest.raises(StoreUnreachableError, match="502"):
            store.read(10, 0, 300 * 3600 * NS, [key()])
        store.read(10, 0, 300 * 3600 * NS, [key()])
    assert len([path for path in asked if path == "/query"]) == 5  # 300 h in ranges of at most 72 h


def test_a_store_that_would_take_nothing_is_told_of_before_there_is_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: dict[str, list[Answer]] = {
        "/api/v2/write": [(401, {}, UNAUTHORIZED), (401, {}, UNAUTHORIZED), (204, {}, None)]
    }
    with saying(told) as (url, _):
        sink = open_sink(url, f"sqlite:///{tmp_path}/records.db", tmp_path)
        deadline = time.monotonic() + 10
        while not sink.trouble()[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        words, failing_s = sink.trouble()
        assert "correct the token in windows_url" in words
        assert 0 <= failing_s < 10
        assert "the window store takes no commits" in caplog.text
        sink.commit(commit(1, rows=rows_of([key()], [{}])))
        assert sink.drain(30)
        assert sink.trouble() == ("", 0.0)
        sink.close()


def test_a_long_answer_in_many_pieces_is_read_once_and_not_again_with_every_piece() -> None:
    key_of, rows, text = key(), 6_000, "A" * 2_000
    values = [[BEGIN + nth * 10 * NS, *range(11), text] for nth in range(rows)]
    columns = ["time", *INTEGER_FIELDS, *FLOAT_FIELDS, "bins"]
    tags = {"site": key_of.site, "class": key_of.device_class, "device": key_of.device, "metric": key_of.metric}
    series = {"name": "window_10s", "tags": tags | {"worker": "w"}, "columns": columns, "values": values}
    told: dict[str, list[Answer]] = {"/query": [(200, {}, {"results": [{"series": [series]}]})]}
    with saying(told) as (url, _), closing(open_windows(url, read_only=True)) as store:
        began = time.thread_time()
        found = store.read(10, 0, 2**62, [key_of])
        took_s = time.thread_time() - began
    assert len(found) == rows
    # 12 MB in pieces of 4 KB: tens of seconds where each piece had what came before it copied.
    assert took_s < 5

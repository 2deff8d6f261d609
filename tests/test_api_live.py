"""The live stream over a real uvicorn and a real Mosquitto: nothing missed, nothing piled up, and readiness."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import paho.mqtt.client as mqtt
import pytest
from fastapi import FastAPI
from made_port import NOW, SITE, Clock, MadePort, device, event, served, worker_status
from paho.mqtt.enums import CallbackAPIVersion

from api.app import create_app
from api.live import LiveHub
from devices.times import NS
from devices.topics import event_topic, live_topic, status_topic
from engines.mosquitto import Mosquitto, running_mosquitto
from store.interface import EventRecord

QC01 = f"{SITE}/quay-crane/QC01"
DEADLINE_S = 50.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Message(NamedTuple):
    event: str
    data: Any
    cursor: int | None


class Follower:
    """Reads a live stream message by message."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def next(self) -> Message:
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                cursor = int(fields["id"]) if "id" in fields else None
                return Message(fields["event"], json.loads(fields["data"]), cursor)
        raise EOFError

    def heartbeat(self) -> None:
        while not next(self._lines).startswith(":"):
            pass

    def next_of(self, name: str) -> Message:
        while (message := self.next()).event != name:
            pass
        return message

    def events(self, number: int) -> list[int | None]:
        return [self.next_of("port-event").cursor for _ in range(number)]


@contextmanager
def following(url: str, path: str = "/v1/stream", **headers: str) -> Iterator[Follower]:
    with httpx.stream("GET", url + path, headers=headers, timeout=DEADLINE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        yield Follower(answer.iter_lines())


class Publisher:
    """An ingest worker's voice: publishes results to the broker."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the publisher is connected")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, topic: str, data: Any, *, retain: bool = False) -> None:
        payload = data if isinstance(data, bytes) else json.dumps(data)
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        sent.wait_for_publish(DEADLINE_S)
        assert sent.is_published()

    def live(self, device_class: str, values: dict[str, dict[str, float]]) -> None:
        self.send(live_topic(SITE, device_class), {"time": "2026-11-23T08:00:00Z", "values": values})

    def announce(self, events: list[EventRecord]) -> None:
        for one in events:
            self.send(event_topic(one.site, one.type), {"id": one.id})


class Running(NamedTuple):
    port: MadePort
    broker: Mosquitto
    publisher: Publisher
    app: FastAPI
    url: str
    clock: Clock

    @property
    def hub(self) -> LiveHub:
        hub: LiveHub = self.app.state.wiring.hub
        return hub


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Running]:
    port = MadePort(folder)
    port.commit(devices=[device(QC01, latest={"load_t": (NOW, 1.5)})], events=[event(n) for n in range(3)])
    clock = Clock()
    with running_mosquitto() as broker:
        publisher = Publisher(broker.port)
        app = create_app(port.config(broker_port=broker.port, **settings), clock=clock)
        try:
            with served(app) as url:
                until(lambda: app.state.wiring.hub.connected, "the hub follows the broker")
                until(lambda: app.state.wiring.hub.cursor == 3, "the hub knows the newest event")
                yield Running(port, broker, publisher, app, url, clock)
        finally:
            publisher.close()


def test_a_client_is_told_what_is_and_then_what_changes(tmp_path: Path) -> None:
    with running(tmp_path, records_poll_s=60.0) as run, following(run.url) as follower:
        hello = follower.next()
        assert hello.event == "hello"
        assert hello.data["cursor"] == 3
        assert [(d["id"], d["state"], d["values"]) for d in hello.data["devices"]] == [
            ("QC01", "live", {"load_t": 1.5})
        ]
        assert hello.data["workers"][0]["worker"] == "w1"
        run.publisher.live("quay-crane", {"QC01": {"load_t": 2.5}, "QC02": {"trolley_position_m": 31.2}})
        live = follower.next_of("live")
        assert live.data == {
            "site": SITE,
            "class": "quay-crane",
            "time": "2026-11-23T08:00:00Z",
            "values": {"QC01": {"load_t": 2.5}, "QC02": {"trolley_position_m": 31.2}},
        }
        run.publisher.live("quay-crane", {"QC02": {"trolley_position_m": 31.3}})
        assert follower.next_of("live").data["values"] == {"QC02": {"trolley_position_m": 31.3}}
        run.publisher.send(status_topic("w1"), worker_status(NOW, frames_per_second=12.5))
        assert follower.next_of("status").data["frames_per_second"] == 12.5
        new = run.port.commit(events=[event(3)])
        run.publisher.announce(new)
        told = follower.next_of("port-event")
        assert told.cursor == told.data["cursor"] == 4
        assert told.data == httpx.get(f"{run.url}/v1/events?limit=1").json()["items"][0]
        with following(run.url) as late:
            values = {d["id"]: d["values"] for d in late.next().data["devices"]}
            assert values == {"QC01": {"load_t": 2.5}, "QC02": {"trolley_position_m": 31.3}}


def test_a_client_that_comes_back_misses_no_event_and_sees_none_twice(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        with following(run.url, **{"Last-Event-ID": "0"}) as follower:
            assert follower.events(3) == [1, 2, 3]
        run.publisher.announce(run.port.commit(events=[event(n) for n in range(3, 1_300)]))
        with following(run.url, **{"Last-Event-ID": "3"}) as follower:
            assert follower.events(700) == list(range(4, 704))
        # The header of a browser that reconnects is later than the address it was given at first.
        with following(run.url, "/v1/stream?after=5", **{"Last-Event-ID": "703"}) as follower:
            assert follower.events(597) == list(range(704, 1_301))
            run.publisher.announce(run.port.commit(events=[event(1_300)]))
            assert follower.events(1) == [1_301]


def test_events_beyond_the_ring_come_from_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.PAGE", 40)
    monkeypatch.setattr("api.live.RING", 50)
    with running(tmp_path, records_poll_s=0.05) as run:
        run.port.commit(events=[event(n) for n in range(3, 300)])
        until(lambda: run.hub.cursor == 300, "the hub knows the newest event")
        assert run.hub.statistics()["recent_events"] == 50
        for after in (0, 100, 249, 250, 251, 299):
            with following(run.url, f"/v1/stream?after={after}") as follower:
                assert follower.events(300 - after) == list(range(after + 1, 301))


def test_events_come_without_the_broker_as_well(tmp_path: Path) -> None:
    with running(tmp_path, records_poll_s=0.1) as run, following(run.url) as follower:
        assert follower.next().event == "hello"
        run.broker.stop()
        run.port.commit(events=[event(3)], status=worker_status(NOW + NS, broker="connecting"))
        assert follower.events(1) == [4]
        until(lambda: run.hub.workers()["w1"]["broker"] == "connecting", "the records stand in for the broker")
        until(lambda: not run.hub.connected, "the hub notices that the broker is gone")
        run.broker.start()
        until(lambda: run.hub.connected, "the hub comes back")
        again = Publisher(run.broker.port)
        again.live("vehicle", {"TT01": {"speed_mps": 4.0}})
        assert follower.next_of("live").data["class"] == "vehicle"
        again.close()


def test_a_client_of_one_site_is_told_of_no_other(tmp_path: Path) -> None:
    other = "CNSHA-YS1"
    with running(tmp_path, records_poll_s=0.05) as run, following(run.url, f"/v1/stream?site={other}") as follower:
        assert follower.next().data["devices"] == []
        run.publisher.live("quay-crane", {"QC01": {"load_t": 2.5}})
        run.publisher.send(
            live_topic(other, "vehicle"), {"time": "2026-11-23T08:00:00Z", "values": {"T": {"x_m": 1.0}}}
        )
        assert follower.next_of("live").data["site"] == other
        run.port.commit(events=[event(3), event(4, f"{other}/vehicle/T1")])
        assert follower.next_of("port-event").data["site"] == other


def test_a_cursor_from_another_store_starts_at_the_newest(tmp_path: Path) -> None:
    with running(tmp_path, records_poll_s=0.05) as run, following(run.url, "/v1/stream?after=999") as follower:
        assert follower.next().data["cursor"] == 3
        run.port.commit(events=[event(3)])
        assert follower.events(1) == [4]


def test_a_quiet_stream_beats(tmp_path: Path) -> None:
    with running(tmp_path, stream_heartbeat_s=0.05, records_poll_s=60.0) as run, following(run.url) as follower:
        assert follower.next().event == "hello"
        for _ in range(3):
            follower.heartbeat()
        run.publisher.live("quay-crane", {"QC01": {"load_t": 2.5}})
        assert follower.next_of("live")


def test_what_the_broker_says_wrongly_is_counted_and_harms_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        for topic, payload in (
            (live_topic(SITE, "vehicle"), b"not json"),
            (live_topic(SITE, "vehicle"), b'{"time":"x","values":{"T":{"x_m":"far"}}}'),
            (live_topic(SITE, "vehicle"), b"[" * 100_000),
            (status_topic("w1"), b'{"worker":{}}'),
            (f"quayflow/{SITE}/live/a/b/c", b"{}"),
        ):
            run.publisher.send(topic, payload)
        run.publisher.live("vehicle", {"T": {"x_m": 1.0}})
        until(lambda: run.hub.values().get((SITE, "vehicle")) == {"T": {"x_m": 1.0}}, "the good one is taken")
        text = httpx.get(f"{run.url}/metrics").text
        assert 'quayflow_live_rejected_total{kind="live"} 3.0' in text
        assert 'quayflow_live_rejected_total{kind="status"} 1.0' in text
        assert 'quayflow_live_rejected_total{kind="other"} 1.0' in text


def stalled_reader(url: str, headers: str = "") -> socket.socket:
    """Open a stream and read nothing."""
    host, port = url.removeprefix("http://").split(":")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.connect((host, int(port)))
    reader.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: port\r\n{headers}\r\n".encode())
    return reader


def closed_streams(url: str, reason: str) -> float:
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith(f'quayflow_stream_closed_total{{reason="{reason}"}}'):
            return float(line.split()[-1])
    return 0.0


def test_a_broker_that_stands_still_is_told_of_within_five_seconds_and_so_is_its_return(tmp_path: Path) -> None:
    with running(tmp_path, records_poll_s=0.2, ready_lag_s=6.0) as run, following(run.url) as follower:
        assert follower.next().data["broker"]["heard"] is True
        pid = run.broker.pid
        assert pid is not None
        # Nobody says anything, but the broker is there.
        time.sleep(6.0)
        assert run.hub.broker()["heard"] is True
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            told = follower.next_of("broker")
            # It may have been quiet for a second and a half before, which is when it would have been asked.
            assert 2.0 < time.monotonic() - began < 6.0
            assert told.data["heard"] is False
            assert 4.0 <= told.data["silent_s"] < 6.0
            assert readiness(run)[0] == 200
            until(lambda: readiness(run)[0] == 503, "it is not ready")
            with following(run.url) as late:
                assert late.next().data["broker"]["heard"] is False
        finally:
            os.kill(pid, signal.SIGCONT)
        assert follower.next_of("broker").data["heard"] is True
        assert readiness(run)[0] == 200


def test_a_reader_that_stands_still_is_closed_and_costs_no_memory(tmp_path: Path) -> None:
    fleet = {f"TT{n:04d}": {"x_m": float(n), "y_m": float(n), "speed_mps": 1.0} for n in range(3_000)}
    with running(tmp_path, stream_stall_s=1.0) as run:
        run.publisher.live("vehicle", fleet)
        until(lambda: run.hub.statistics()["devices"] == 3_000, "the fleet is known")
        readers = [stalled_reader(run.url) for _ in range(4)]
        until(lambda: run.hub.statistics()["clients"] == 4, "the readers are connected")
        tracemalloc.start()
        try:
            rounds = early = 0
            while closed_streams(run.url, "stalled") < 4:
                rounds += 1
                assert rounds < 600
                run.publisher.live("vehicle", {name: {**values, "x_m": rounds + 0.5} for name, values in fleet.items()})
                if rounds == 5:
                    early, _ = tracemalloc.get_traced_memory()
            late, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        until(lambda: run.hub.statistics()["clients"] == 0, "the readers are forgotten")
        # What a queue per client would hold: 4 × rounds × 200 kB.
        assert rounds > 5
        assert late - early < 4_000_000
        for reader in readers:
            reader.settimeout(DEADLINE_S)
            # What lay in the socket's own buffers is still read, then it ends in the middle of a chunk.
            with contextlib.suppress(ConnectionResetError):
                ending = b""
                while read := reader.recv(1 << 20):
                    ending = (ending + read)[-7:]
                assert ending != b"\r\n0\r\n\r\n"
            reader.close()


def test_a_body_without_end_ends_the_stream(tmp_path: Path) -> None:
    with running(tmp_path) as run:
        sender = stalled_reader(run.url, "Transfer-Encoding: chunked\r\n")
        sender.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                sender.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            while sender.recv(1 << 20):
                pass
        sender.close()
        until(lambda: closed_streams(run.url, "disconnected") == 1.0, "the stream is closed")


def test_a_slow_reader_gets_the_newest_value_and_every_event(tmp_path: Path) -> None:
    with running(tmp_path, records_poll_s=60.0) as run:
        with following(run.url) as follower:
            assert follower.next().event == "hello"
            for n in range(500):
                run.publisher.live("quay-crane", {"QC01": {"load_t": float(n)}, f"QC{n % 7 + 2:02d}": {"load_t": 0.0}})
            run.publisher.announce(run.port.commit(events=[event(n) for n in range(3, 20)]))
            seen: list[float] = []
            while 499.0 not in seen:
                seen.append(follower.next_of("live").data["values"].get("QC01", {}).get("load_t", -1.0))
            assert seen == sorted(seen)
        with following(run.url, "/v1/stream?after=3") as follower:
            assert follower.events(17) == list(range(4, 21))


def test_more_clients_than_allowed_are_told_to_come_later(tmp_path: Path) -> None:
    with running(tmp_path, stream_clients=1) as run:
        with following(run.url) as follower:
            assert follower.next().event == "hello"
            answer = httpx.get(f"{run.url}/v1/stream")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/too-many-streams")
            assert answer.headers["retry-after"] == "5"
        until(lambda: run.hub.statistics()["clients"] == 0, "the client is forgotten")
        assert closed_streams(run.url, "disconnected") == 1.0
        with following(run.url) as follower:
            assert follower.next().event == "hello"


def readiness(run: Running) -> tuple[int, dict[str, bool]]:
    answer = httpx.get(f"{run.url}/readyz")
    return answer.status_code, {name: check["ok"] for name, check in answer.json()["checks"].items()}


def test_readiness_follows_worker_broker_journal_and_lag(tmp_path: Path) -> None:
    good = {"broker": True, "journal": True, "store": True, "lag": True, "ledger": True}
    with running(tmp_path, records_poll_s=60.0) as run:

        def report(**status: Any) -> None:
            run.publisher.send(status_topic("w1"), worker_status(**status), retain=True)
            until(lambda: run.hub.workers()["w1"] == worker_status(**status), "the report arrives")

        assert readiness(run) == (200, good)
        report(updated_ns=NOW, journal="No space left on device")
        assert readiness(run) == (503, good | {"journal": False})
        assert "No space left" in httpx.get(f"{run.url}/readyz").json()["detail"]
        report(updated_ns=NOW, store_lag_s=11.0)
        assert readiness(run) == (503, good | {"lag": False})
        report(updated_ns=NOW, sink_failing_s=9.0)
        assert readiness(run) == (200, good)
        report(updated_ns=NOW, sink_failing_s=11.0)
        assert readiness(run) == (503, good | {"store": False})
        report(updated_ns=NOW, balanced=False)
        assert readiness(run) == (503, good | {"ledger": False})
        report(updated_ns=NOW, broker="connecting")
        assert readiness(run) == (503, good | {"broker": False})
        report(updated_ns=NOW)
        assert readiness(run) == (200, good)
        run.clock.now_ns = NOW + 11 * NS
        assert readiness(run) == (503, good | {"journal": False, "lag": False})
        report(updated_ns=NOW + 11 * NS)
        assert readiness(run) == (200, good)
        run.broker.stop()
        until(lambda: not run.hub.connected, "the hub notices that the broker is gone")
        assert readiness(run) == (503, good | {"broker": False})
        assert httpx.get(f"{run.url}/readyz").json()["type"] == "/problems/not-ready"
        run.broker.start()
        until(lambda: run.hub.connected, "the hub comes back")
        assert httpx.get(f"{run.url}/healthz").json() == {"status": "ok"}


def test_a_store_that_no_worker_ever_wrote_is_not_ready(tmp_path: Path) -> None:
    with running_mosquitto() as broker:
        port = MadePort(tmp_path)
        with served(create_app(port.config(broker_port=broker.port), clock=Clock())) as url:
            problem = httpx.get(f"{url}/readyz").json()
            assert "no ingest worker has reported yet" in problem["detail"]


SERVER = """
import faulthandler, socket, sys
import uvicorn
from api.app import create_app
from api.config import ApiConfig
faulthandler.dump_traceback_later(15)
app = create_app(ApiConfig(windows_url=sys.argv[1], records_url=sys.argv[1], broker_host="127.0.0.1", broker_port=1))
try:
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([socket.socket(fileno=int(sys.argv[2]))])
except KeyboardInterrupt:
    pass  # uvicorn hands SIGINT on once it has stopped in order
"""


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_server_told_to_stop_ends_its_streams_and_stops(
    tmp_path: Path, root: Path, with_signal: signal.Signals
) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(QC01)])
    said = tmp_path / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as listening, said.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, port.windows_url, str(listening.fileno())],
            env={**os.environ, "PYTHONPATH": str(root)},
            pass_fds=[listening.fileno()],
            stderr=stderr,
        )
        try:
            # Until the server is up the connection waits in the queue of the socket.
            host, number = listening.getsockname()
            with following(f"http://{host}:{number}") as follower:
                assert follower.next().event == "hello"
                process.send_signal(with_signal)
                with contextlib.suppress(EOFError):
                    while follower.next():
                        pass
            process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()
            told = said.read_text()
            assert "Traceback" not in told, told
            assert "Timeout" not in told, told

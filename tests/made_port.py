"""A small port in a real store, written through the real windows and sink, and a client of the API over it."""

import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from analytics.rows import SeriesKey
from analytics.windows import Windows
from api.app import create_app
from api.config import ApiConfig
from devices.scalars import Scalar
from devices.times import NS, parse_rfc3339
from devices.topics import DeviceKey
from devices.vocabulary import INDEX, scaled
from store.interface import Commit, DeviceRecord, EventRecord, LedgerRow, QuarantineRecord, WindowStore
from store.open import open_sink, open_windows

SITE = "CNNGB-DEMO"
NOW = parse_rfc3339("2026-11-23T08:00:07Z")
"""What the clock of the tests says."""


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_ns: int = NOW) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns


class MadePort:
    """Collects samples and records, and commits them as an ingest worker does."""

    def __init__(self, folder: Path, windows_url: str | None = None, records_url: str | None = None) -> None:
        embedded = f"sqlite:///{folder}/quayflow.db"
        self.windows_url, self.records_url = windows_url or embedded, records_url or embedded
        self.static = folder / "static"
        self.sink = open_sink(self.windows_url, self.records_url, folder)
        # Closed when nobody has the port any more, which in tests is the end of whoever made it.
        weakref.finalize(self, self.sink.close)
        self.keys: list[SeriesKey] = []
        self.windows = Windows("w1", 1, self.keys)
        self.commits = 0

    def add(
        self,
        uid: str,
        metric: str,
        times_ns: Sequence[int],
        values: Sequence[float],
        late: Sequence[bool] | None = None,
    ) -> None:
        """Add samples of one metric of one device; their sequence numbers are their positions."""
        key = SeriesKey(*DeviceKey.from_uid(uid), metric)
        if key not in self.keys:
            self.keys.append(key)
        size = len(times_ns)
        self.windows.add(
            np.full(size, self.keys.index(key), np.int64),
            np.array(times_ns, np.int64),
            np.arange(size, dtype=np.int64),
            scaled(np.full(size, INDEX[metric]), np.array(values, np.float64)),
            np.zeros(size, np.bool_) if late is None else np.array(late, np.bool_),
        )

    def commit(
        self,
        *,
        devices: Sequence[DeviceRecord] = (),
        events: Sequence[EventRecord] = (),
        quarantine: Sequence[QuarantineRecord] = (),
        ledger: Sequence[LedgerRow] = (),
        status: Mapping[str, Scalar] | None = None,
    ) -> list[EventRecord]:
        """Commit everything; returns the new events."""
        self.commits += 1
        return self.sink.commit(
            Commit(
                worker="w1",
                offset=self.commits,
                rows=self.windows.take_rows(self.commits),
                devices=devices,
                events=events,
                quarantine=quarantine,
                ledger=ledger,
                state={},
                status=dict(status or worker_status()),
            )
        )

    def reader(self) -> WindowStore:
        """Return the window store as the API opens it."""
        return open_windows(self.windows_url, read_only=True)

    def config(self, **settings: Any) -> ApiConfig:
        """Return a configuration of the API over this store; no broker answers unless one is named."""
        given: dict[str, Any] = {"broker_host": "127.0.0.1", "broker_port": 1, "static_dir": self.static} | settings
        return ApiConfig(windows_url=self.windows_url, records_url=self.records_url, **given)


def worker_status(updated_ns: int = NOW - NS, **others: Any) -> dict[str, Any]:
    return {
        "worker": "w1",
        "updated_ns": updated_ns,
        "broker": "connected",
        "journal": "ok",
        "journal_frames": 60,
        "store_lag_s": 0.2,
        "balanced": True,
        **others,
    }


def device(uid: str, *, last_seen_ns: int = NOW - NS, watermark_ns: int = NOW - 3 * NS, **others: Any) -> DeviceRecord:
    site, device_class, name = uid.split("/")
    given = {
        "first_seen_ns": NOW - 86_400 * NS,
        "last_event_ns": last_seen_ns,
        "online": True,
        "frames": 7,
        "latest": {},
        "info": {},
        **others,
    }
    return DeviceRecord(
        uid=uid,
        site=site,
        device_class=device_class,
        device=name,
        last_seen_ns=last_seen_ns,
        watermark_ns=watermark_ns,
        **given,
    )


def event(number: int, uid: str = f"{SITE}/quay-crane/QC01", kind: str = "crane_move", **others: Any) -> EventRecord:
    site, device_class, name = uid.split("/")
    given: dict[str, Any] = {"ts_ns": NOW - (1_000 - number) * NS, "data": {"teu": 2.0}} | others
    return EventRecord(
        id=f"e{number:06d}",
        type=kind,
        site=site,
        device_class=device_class,
        device=name,
        start_ns=given["ts_ns"] - 60 * NS,
        **given,
    )


class Client:
    """Asks an application that runs in this process, from a test that does not await."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self.app = app
        self._portal = portal
        self._client = client

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self._portal.call(partial(self._client.request, method, path, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def json(self, path: str, **parameters: str | int) -> Any:
        """Return the answer to a question that must succeed."""
        answer = self.get(path, params=parameters or None)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def problem(self, status: int, path: str, **parameters: str | int) -> dict[str, Any]:
        """Return the problem that a question must meet."""
        answer = self.get(path, params=parameters or None)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
        found: dict[str, Any] = answer.json()
        assert found["status"] == status
        assert found["instance"] == path
        return found


@contextmanager
def client_of(port: MadePort, clock: Clock | None = None, **settings: Any) -> Iterator[Client]:
    """Run the API in this process and yield a client of it."""
    app = create_app(port.config(**settings), clock=clock or Clock())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(httpx.AsyncClient(transport=transport, base_url="http://port")) as client,
    ):
        yield Client(app, portal, client)


@contextmanager
def served(app: FastAPI, **settings: Any) -> Iterator[str]:
    """Serve ``app`` with uvicorn on a free port and yield its URL."""
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=2, **settings)
    )
    thread = threading.Thread(target=server.run, name="uvicorn", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "uvicorn ended at start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        host, number = server.servers[0].sockets[0].getsockname()
        yield f"http://{host}:{number}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

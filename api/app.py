"""The application: from a configuration to something that uvicorn can serve."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata
from types import FrameType

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from api import problems
from api.asyncapi import describe_messages
from api.broker_questions import broker_questions
from api.commands import BrokerAddress, Commander
from api.conditional import ConditionalGet
from api.config import ApiConfig
from api.docs_pages import pages
from api.event_stream import ABORT_KEY
from api.instruments import Instruments
from api.live import LiveHub
from api.messages_page import messages_pages
from api.middleware import (
    EndlessBodies,
    FaultBarrier,
    HeadAsGet,
    RequestFigures,
    RequestLimits,
    SecurityHeaders,
    abort_of,
)
from api.openapi import describe, known_parameters
from api.parameters import refuse_unknown
from api.routes import (
    commands,
    devices,
    events,
    ledger,
    names,
    operations,
    quarantine,
    registry,
    stream,
    telemetry,
    throughput,
    vocabulary,
)
from api.stores import Stores
from api.wiring import STATE_KEY, Wiring
from store.gatekeeper import Gatekeeper
from store.open import open_records, open_registry, open_windows

GZIP_FROM_BYTES = 2_048
logger = logging.getLogger(__name__)


class _Application(FastAPI):
    """FastAPI that lets streams drop their connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; here ``send`` is still the server's own."""
        if scope["type"] == "http":
            scope[ABORT_KEY] = abort_of(send)
        await super().__call__(scope, receive, send)


def create_app(config: ApiConfig, *, clock: Callable[[], int] = time.time_ns) -> FastAPI:
    """Return the application; stores and broker are contacted when it starts.

    Starting raises ``StoreUnreachableError`` or ``StoreUrlError`` if a store cannot be opened. A broker that cannot be
    reached is tried again for ever; until then /readyz says so.
    """
    version = _version()
    instruments = Instruments(version)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # By way of the framework's own threads: what they need is loaded now, and not at the first question.
        wiring = await run_in_threadpool(_open, config, clock, instruments, version)
        setattr(app.state, STATE_KEY, wiring)
        wiring.hub.start()
        try:
            with _streams_end_on_signals(wiring.hub):
                yield
        finally:
            await wiring.hub.stop()
            await asyncio.to_thread(wiring.stores.close)

    app = _Application(
        title="Quayflow API",
        version=version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_refuse_unknown_parameters)],
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    for module in (
        devices,
        registry,
        names,
        commands,
        telemetry,
        throughput,
        events,
        stream,
        quarantine,
        ledger,
        vocabulary,
        operations,
    ):
        app.include_router(module.router)
    if config.access_secret is not None:
        app.router.routes.extend(broker_questions(config.access_secret))
    broker = f"{config.broker_host}:{config.broker_port}"
    app.include_router(messages_pages(describe_messages(version, broker, tls=config.broker_tls)))
    app.include_router(pages(config.static_dir))
    describe(app)
    # The last one added is the outermost.
    app.add_middleware(ConditionalGet)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=5)
    app.add_middleware(RequestLimits, config=config)
    app.add_middleware(FaultBarrier)
    app.add_middleware(EndlessBodies)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestFigures, instruments=instruments)
    app.add_middleware(SecurityHeaders)
    app.state.known_parameters = known_parameters(app)
    return app


def try_stores(config: ApiConfig) -> None:
    """Open the stores and close them again: raises what starting would, before a server tells it in its own way.

    Blocking.
    """
    _open(config, time.time_ns, Instruments("0"), "0").stores.close()


def _open(config: ApiConfig, clock: Callable[[], int], instruments: Instruments, version: str) -> Wiring:
    windows = open_windows(config.windows_url, read_only=True)
    try:
        records = open_records(config.records_url, read_only=True)
    except BaseException:
        windows.close()
        raise
    registry = open_registry(config.records_url)
    changing = config.change_secret is not None or config.local_changes
    writes = changing or config.access_secret is not None
    audit = open_registry(config.records_url, read_only=False) if writes else None
    gatekeeper = None if audit is None or config.access_secret is None else Gatekeeper(registry, audit, clock)
    changes = audit if changing else None
    stores = Stores(config, windows, records, registry, instruments, audit)
    return Wiring(
        config,
        stores,
        LiveHub(config, stores, instruments),
        instruments,
        clock,
        version,
        gatekeeper=gatekeeper,
        changes=changes,
        commander=None if changes is None else Commander(_broker(config), changes, clock),
    )


def _broker(config: ApiConfig) -> BrokerAddress:
    return BrokerAddress(
        host=config.broker_host,
        port=config.broker_port,
        username=config.broker_username,
        password=config.broker_password,
        tls=config.broker_tls_context(),
    )


def _version() -> str:
    try:
        return metadata.version("quayflow")
    except metadata.PackageNotFoundError:
        return "0+unknown"


async def _refuse_unknown_parameters(request: Request) -> None:
    """Refuse misspelt parameters on the described paths; pages ignore what follows their question mark."""
    known = request.app.state.known_parameters
    if getattr(request.scope.get("route"), "path", None) in known:
        refuse_unknown(request, known)


@contextmanager
def _streams_end_on_signals(hub: LiveHub) -> Iterator[None]:
    """End the live streams when the server is told to stop: it waits for every connection before the lifespan ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def chained(number: int, stack: FrameType | None) -> None:
        loop.call_soon_threadsafe(hub.close_streams)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, stack)

    for number, previous in before.items():
        if callable(previous):
            signal.signal(number, chained)
    try:
        yield
    finally:
        for number, previous in before.items():
            if callable(previous) and signal.getsignal(number) is chained:
                signal.signal(number, previous)

"""The running installation of `demo` and `up`: broker, ingest, API and, in the demo, the simulated port."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiomqtt
import msgspec

from quayflow import broker
from quayflow.broker_access import USERS, BrokerAccess, part_passwords
from quayflow.certificates import Authority
from quayflow.commanding import tls_context_of
from quayflow.settings import PREFIX, Settings, SettingsError
from quayflow.supervisor import Child, ChildFailedError
from simulators import profiles
from store.data_folder import DataFolder
from store.interface import StoreRefusedError, StoreUnreachableError
from store.open import open_registry, open_windows
from store.system_words import of_address

READY_TIMEOUT_S: Final = 30.0
BROKER_TIMEOUT_S: Final = 5.0
"""How long a broker that is named by --broker is tried."""
BROKER_PAUSE_S: Final = 0.5
DRAIN_TIMEOUT_S: Final = 20.0
ACCESS_PERIOD_S: Final = 1.0
TLS_FOLDER: Final = "tls"

log = logging.getLogger(__name__)


class StackError(Exception):
    """The installation cannot be started as asked; the message says what to do."""

    failed_checks: set[str] | None = None
    """Where the API has answered that it is not ready: the names of the checks that failed."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of a running installation are."""

    api_port: int
    broker_port: int
    own_broker: bool
    device_port: int = 0
    """TCP port for devices that prove themselves by a certificate, 0 for none."""
    tls: bool = False
    broker_host: str = "127.0.0.1"

    @property
    def page(self) -> str:
        """URL of the page, and base of the API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def broker(self) -> str:
        """URL of the broker."""
        return f"mqtt{'s' if self.tls else ''}://{self.broker_host}:{self.broker_port}"


class Stack:
    """The child processes of one installation, and what they have done since it was started."""

    def __init__(
        self,
        settings: Settings,
        *,
        external_broker: bool,
        simulate: bool,
        duration_s: float | None,
        on_restart: Callable[[Child, int], None],
    ) -> None:
        """Check options, profile, folder and ports.

        SettingsError, StackError, BrokerError, DataFolderError or ProfileError say which cannot be used and what to do.
        """
        _refuse_contradictions(settings, external_broker=external_broker)
        if simulate:
            profiles.load(settings.profile)
        # Taken and let go again: ingest will hold it, but a person wants to hear of a conflict at once.
        DataFolder.open(settings.data).close()
        self.settings = settings
        self.addresses = _addresses(settings, external_broker=external_broker)
        self._on_restart = on_restart
        self._logs = settings.data / "logs"
        self._authority = Authority(settings.data / TLS_FOLDER, time.time_ns()) if settings.tls else None
        self._registry = open_registry(settings.store_urls[1], read_only=False) if settings.secure else None
        self._access: BrokerAccess | None = None
        self._passwords: dict[str, str] = {}
        self._following: asyncio.Task[None] | None = None
        if self._registry is not None:
            folder = settings.data / "mosquitto"
            self._passwords = part_passwords(self._registry, folder, time.time_ns())
            self._access = BrokerAccess(self._registry, folder, self._authority)
            self._access.refresh()
        self.summary_path = settings.data / "publisher.json"
        self.broker = self._child_broker() if self.addresses.own_broker else None
        self.ingest = self._child("ingest")
        self.api = self._child("api")
        self.simulator: Child | None = None
        if simulate:
            self.summary_path.unlink(missing_ok=True)
            extra = ["--summary", str(self.summary_path)]
            if duration_s is not None:
                # Its own end is a safety net: the supervisor ends it in time.
                extra += ["--for", f"{duration_s + 60:.0f}s"]
            self.simulator = self._child("simulate", *extra)

    @property
    def children(self) -> list[Child]:
        """Every child, in the order of starting."""
        return [child for child in (self.broker, self.ingest, self.api, self.simulator) if child is not None]

    @property
    def restarts(self) -> int:
        """How often a child had to be started again."""
        return sum(child.restarts for child in self.children)

    async def start(self) -> None:
        """Start everything; returns when the API says that all is ready; a window server may be away."""
        if self.settings.windows_url is not None:
            await asyncio.to_thread(_refuse_wrong_store, self.settings.windows_url)
        if self.broker is not None:
            await self.broker.start(self._on_restart)
            await _until_listening(self.addresses.broker_port, self.broker)
        else:
            await _until_let_in(self.settings)
        if self._access is not None:
            self._following = asyncio.create_task(self._follow_access(self._access))
        await self.ingest.start(self._on_restart)
        await self.api.start(self._on_restart)
        await self._until_ready()
        if self.broker is not None:
            # Mosquitto saves its sessions now and then; saved now, that of ingest outlives a broker that is killed.
            self.broker.send(signal.SIGUSR1)
        # Only now: what is published while nobody has subscribed is acknowledged by the broker and kept for nobody.
        if self.simulator is not None:
            await self.simulator.start(self._on_restart)

    async def failed(self) -> None:
        """Wait until some child cannot be kept running, and raise ChildFailedError."""
        watches = [asyncio.create_task(child.failed()) for child in self.children]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_EXCEPTION)
            for watch in done:
                watch.result()
        finally:
            for watch in watches:
                watch.cancel()

    async def stop(self) -> None:
        """Stop the publishers first and the broker last, giving ingest time to take what was published."""
        if self.simulator is not None:
            await self.simulator.stop()
            await self._until_taken()
        if self._following is not None:
            self._following.cancel()
        for child in (self.ingest, self.api, self.broker):
            if child is not None:
                await child.stop()
        if self._registry is not None:
            self._registry.close()

    def published(self) -> dict[str, Any]:
        """Return the simulated port's own ledger, {} where there is none: one of an earlier run is not this one's."""
        if self.simulator is None:
            return {}
        try:
            return dict(msgspec.json.decode(self.summary_path.read_bytes()))
        except (OSError, msgspec.DecodeError):
            return {}

    async def get(self, path: str) -> dict[str, Any]:
        """Return an answer of the API; StackError if it does not give one."""

        def fetch() -> dict[str, Any]:
            try:
                with urllib.request.urlopen(self.addresses.page + path, timeout=5) as answer:  # noqa: S310 - own API
                    return dict(msgspec.json.decode(answer.read()))
            except (OSError, msgspec.DecodeError) as error:
                words = error if isinstance(error, urllib.error.HTTPError) else of_address(error)
                problem = StackError(f"the API does not answer {path}: {words}")
                if isinstance(error, urllib.error.HTTPError):
                    problem.failed_checks = _failed_checks(error.read())
                raise problem from None

        return await asyncio.to_thread(fetch)

    def _child(self, name: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", "quayflow", name, *arguments]
        environment = self._environment() | self._identity(name)
        return Child(name, command, self._logs / f"{name}.log", environment, one_shot=name == "simulate")

    def _child_broker(self) -> Child:
        address = str(self.settings.broker_listen)
        protection = broker.Protection(
            files=self._access.files if self._access is not None else None,
            certificate=self._authority.serve(time.time_ns(), address) if self._authority is not None else None,
            authority=self._authority.certificate_file if self._authority is not None else None,
            device_port=self.addresses.device_port,
            address=address,
        )
        command = broker.configure(self.settings.data / "mosquitto", self.addresses.broker_port, protection)
        return Child("mosquitto", command, self._logs / "mosquitto.log")

    def _environment(self) -> dict[str, str]:
        """Hand the settings on as environment, which children read before any file of theirs."""
        values = self.settings.model_dump(mode="json", exclude_none=True)
        values |= {"port": self.addresses.api_port, "broker_port": self.addresses.broker_port}
        values |= {"sources": json.dumps(values["sources"])}
        values |= {"data": str(self.settings.data.absolute()), "topic_filters": ",".join(self.settings.topic_filters)}
        return {**os.environ, **{PREFIX + name.upper(): str(value) for name, value in values.items()}}

    def _identity(self, name: str) -> dict[str, str]:
        """Return how a child of ours proves itself at our broker, as environment."""
        found: dict[str, str] = {}
        if self._access is not None:
            username = USERS[name]
            found |= {f"{PREFIX}BROKER_USERNAME": username, f"{PREFIX}BROKER_PASSWORD": self._passwords[username]}
        if self._authority is not None:
            authority = str(self._authority.certificate_file.absolute())
            found |= {f"{PREFIX}BROKER_TLS": "true", f"{PREFIX}BROKER_CA_FILE": authority}
        return found

    async def _follow_access(self, access: BrokerAccess) -> None:
        """Have the broker read its files again whenever the registry has changed."""
        while True:
            await asyncio.sleep(ACCESS_PERIOD_S)
            try:
                changed = await asyncio.to_thread(access.refresh)
            except StoreUnreachableError as error:
                log.warning("the broker keeps to the registry as last known: %s", error)
                continue
            if changed and self.broker is not None:
                self.broker.send(signal.SIGHUP)

    async def _until_ready(self) -> None:
        """Wait until the API says that broker, journal and store are there.

        A server for windows may be away: what is received waits for it in the outbox.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        said = "nothing"
        failed = asyncio.create_task(self.failed())
        try:
            while time.monotonic() < deadline:
                if failed.done():
                    failed.result()
                try:
                    await self.get("/readyz")
                except StackError as error:
                    if self.settings.windows_url is not None and error.failed_checks == {"store"}:
                        return
                    said = str(error)
                else:
                    return
                await asyncio.sleep(0.1)
        finally:
            failed.cancel()
        words = "\n".join(f"{child.name}: {child.last_words(3)}" for child in self.children)
        raise StackError(f"not ready after {READY_TIMEOUT_S:.0f} s ({said})\n{words}")

    async def _until_taken(self) -> None:
        """Wait until ingest has committed everything that the simulated port saw acknowledged."""
        acknowledged = int(self.published().get("acked", 0))
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                ledger = await self.get("/v1/ledger?limit=1")
            except StackError:
                return
            taken = ledger["total"]["frames"]
            if taken["received"] - taken["duplicate"] >= acknowledged:
                return
            await asyncio.sleep(0.2)


def _refuse_contradictions(settings: Settings, *, external_broker: bool) -> None:
    """Raise SettingsError where what was asked cannot be meant."""
    if external_broker and (settings.secure or settings.tls):
        raise SettingsError("--secure and --tls are for the broker that is started here, not for one named by --broker")
    if not settings.broker_listen.is_loopback and not (settings.secure and settings.tls):
        raise SettingsError(
            f"broker_listen {settings.broker_listen}: others on the network could listen and speak; "
            "add --secure and --tls, or --listen 127.0.0.1"
        )


def _addresses(settings: Settings, *, external_broker: bool) -> Addresses:
    try:
        api_port = broker.free_port(settings.port)
    except OSError:
        raise StackError(f"port {settings.port} is taken; choose another with --port, or 0 for a free one") from None
    if external_broker:
        port, tls = settings.broker_port, settings.broker_tls
        return Addresses(api_port, port, own_broker=False, tls=tls, broker_host=settings.broker_host)
    device_port = broker.free_port() if settings.tls and settings.secure else 0
    try:
        port = broker.free_port(settings.broker_port)
        return Addresses(api_port, port, own_broker=True, device_port=device_port, tls=settings.tls)
    except OSError:
        if "broker_port" in settings.model_fields_set:
            message = f"broker port {settings.broker_port} is taken; choose another with --broker-port, or 0"
            raise StackError(message) from None
        return Addresses(api_port, broker.free_port(), own_broker=True, device_port=device_port, tls=settings.tls)


def _failed_checks(problem: bytes) -> set[str] | None:
    """Return the names of the checks of a problem that failed; None of one that has no checks."""
    try:
        return {name for name, check in msgspec.json.decode(problem)["checks"].items() if not check["ok"]}
    except (msgspec.DecodeError, KeyError, TypeError):
        return None


def _refuse_wrong_store(windows_url: str) -> None:
    """Raise StackError where the window store answers but will not serve us, for waiting would not help."""
    try:
        for read_only in (False, True):
            with contextlib.closing(open_windows(windows_url, read_only=read_only)) as windows:
                windows.check()
    except StoreRefusedError as error:
        raise StackError(str(error)) from None
    except StoreUnreachableError as error:
        log.warning("%s; what is received waits in the outbox", error)


async def _until_let_in(settings: Settings) -> None:
    """Wait until the broker that was named takes a connection; StackError says why it does not.

    The parts would go on trying, as they must where a broker is away for a while; who has just typed an address or a
    password wants to hear of it.
    """
    where = f"broker {settings.broker_host}:{settings.broker_port}"
    try:
        context = tls_context_of(settings) if settings.broker_tls else None
    except OSError as error:
        raise SettingsError(str(error)) from None
    deadline = time.monotonic() + BROKER_TIMEOUT_S
    while True:
        client = aiomqtt.Client(
            settings.broker_host,
            settings.broker_port,
            username=settings.broker_username,
            password=settings.broker_password,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=context,
            timeout=BROKER_TIMEOUT_S,
        )
        try:
            async with client:
                return
        except (aiomqtt.MqttError, OSError) as error:
            refused = isinstance(error, aiomqtt.MqttCodeError)
            if refused or time.monotonic() > deadline:
                hint = "correct --broker, or broker_username and broker_password" if refused else "correct --broker"
                raise StackError(f"{where} cannot be used: {of_address(error)}; {hint}") from None
        await asyncio.sleep(BROKER_PAUSE_S)


async def _until_listening(port: int, child: Child) -> None:
    """Wait until the broker accepts connections."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    failed = asyncio.create_task(child.failed())
    try:
        while time.monotonic() < deadline:
            if failed.done():
                failed.result()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    finally:
        failed.cancel()
    raise ChildFailedError(f"the broker does not listen on port {port}:\n{child.last_words()}")

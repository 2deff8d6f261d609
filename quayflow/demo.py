"""`quayflow demo` and `quayflow up`: start the installation, say where it is, watch it, end it, and give account."""

import asyncio
import contextlib
import json
import signal
import sys
import time
import webbrowser
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, TextIO

import typer

from devices.unknown_names import quoted
from quayflow import broker
from quayflow.settings import Settings, SettingsError
from quayflow.stack import TLS_FOLDER, Addresses, Stack, StackError
from quayflow.supervisor import Child, ChildFailedError
from store.accounts import ENDS
from store.interface import Records, StoreUnreachableError
from store.open import open_records
from store.trying_out import TO_FILL_IN

STATUS_PERIOD_S: Final = 1.0
PLAIN_EVERY: Final = 5
EVENT_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for, beyond the settings."""

    duration_s: float | None = None
    """Time to run, s; None runs until Ctrl-C."""
    simulate: bool = True
    """Whether to simulate a port."""
    external_broker: bool = False
    """Whether to use the broker of the settings instead of starting one."""
    open_page: bool = False
    """Whether to open the page in a browser."""
    as_json: bool = False
    """Whether standard output carries JSON lines only: one when ready, one at the end."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the records hold at one moment."""

    accounts: Counter[tuple[str, str]]
    """(uid, account) → frames."""
    events: Counter[str]
    """Event type → how many after the cursor asked for; crane moves that only shift are not among them."""
    last_event: int
    """Greatest cursor."""
    workers_balanced: bool = True
    """Whether every worker found each frame of its journal in exactly one account when it last looked."""

    def frames(self, account: str) -> int:
        """Return the frames of an account, over all devices."""
        return sum(count for (_, name), count in self.accounts.items() if name == account)


def totals(records: Records, after: int = 0) -> Totals:
    """Read the totals; events are counted from cursor ``after`` on."""
    accounts: Counter[tuple[str, str]] = Counter()
    for row in records.ledger():
        accounts[row.uid, row.account] += row.frames
    events: Counter[str] = Counter()
    while page := records.events(after=after, limit=EVENT_PAGE):
        events.update(event.type for event in page if event.data.get("kind") != "shift")
        after = page[-1].cursor
    agreed = all(status.get("balanced", True) for status in records.workers().values())
    return Totals(accounts, events, after, agreed)


def read_totals(settings: Settings, after: int = 0) -> Totals:
    """Read the totals of the installation's records, empty where there are none yet."""
    records = open_records(settings.store_urls[1])
    try:
        return totals(records, after)
    except StoreUnreachableError:
        return Totals(Counter(), Counter(), after)
    finally:
        records.close()


async def run(settings: Settings, options: DemoOptions) -> int:
    """Run the installation until its time is over, a signal comes or a part fails; return the exit status."""
    say = sys.stderr if options.as_json else sys.stdout
    before = read_totals(settings)
    began = time.monotonic()
    stack = Stack(
        settings,
        external_broker=options.external_broker,
        simulate=options.simulate,
        duration_s=options.duration_s,
        on_restart=lambda child, status: _say_restart(say, child, status),
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    failure: Exception | None = None
    try:
        await _start(stack, stop)
        if not stop.is_set():
            _say_ready(stack, options, say, time.monotonic() - began)
            await _watch(stack, options, stop, say)
    except (ChildFailedError, SettingsError, StackError) as error:
        failure = error
    finally:
        # Ctrl-C has ended who reads this, too, where that is a `tee`; it must not keep the parts from ending in order.
        if any(child.pid for child in stack.children):
            with contextlib.suppress(BrokenPipeError):
                words = "stopping: publishers first, then everything that they published is taken …"
                print(words, file=say, flush=True)
        await stack.stop()
    if failure is not None:
        raise failure
    result = account(stack, before, read_totals(settings, before.last_event), time.monotonic() - began)
    _say_result(result, options, settings)
    return 0 if result["ledger_balanced"] and not result["lost"] else 1


def account(stack: Stack, before: Totals, after: Totals, seconds: float) -> dict[str, Any]:
    """Compare what was published with what the ledger holds, for the time of one run."""
    received = after.frames("received")
    accounted = sum(count for (_, name), count in after.accounts.items() if name in ENDS)
    balanced = (
        after.workers_balanced
        and received == accounted
        and all(
            after.accounts[uid, "received"]
            == sum(count for (other, name), count in after.accounts.items() if other == uid and name in ENDS)
            for uid, name in after.accounts
            if name == "received"
        )
    )

    def unique(totals_at: Totals, uid: str) -> int:
        return totals_at.accounts[uid, "received"] - totals_at.accounts[uid, "duplicate"]

    published = stack.published().get("devices", {})
    lost = sum(max(0, device["acked"] - unique(after, uid) + unique(before, uid)) for uid, device in published.items())
    return {
        "messages": received - before.frames("received"),
        "moves": after.events["crane_move"],
        "gate_passages": after.events["gate_passage"],
        "yard_moves": after.events["yard_move"],
        "published": sum(device["acked"] for device in published.values()),
        "lost": lost,
        "duplicates": after.frames("duplicate") - before.frames("duplicate"),
        "quarantined": after.frames("quarantined") - before.frames("quarantined"),
        "ledger_balanced": balanced,
        "restarts": stack.restarts,
        "seconds": round(seconds, 1),
        "data": str(stack.settings.data.absolute()),
    }


async def _start(stack: Stack, stop: asyncio.Event) -> None:
    """Start the stack, or give up on a signal."""
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
    else:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def _watch(stack: Stack, options: DemoOptions, stop: asyncio.Event, say: TextIO) -> None:
    """Show that it lives until time is over, a signal comes, or a child cannot be kept running."""
    end = time.monotonic() + options.duration_s if options.duration_s is not None else None
    failed = asyncio.create_task(stack.failed())
    stopping = asyncio.create_task(stop.wait())
    beat = 0
    try:
        while not stop.is_set() and (end is None or time.monotonic() < end):
            period = STATUS_PERIOD_S if end is None else min(STATUS_PERIOD_S, max(end - time.monotonic(), 0.0))
            await asyncio.wait({failed, stopping}, timeout=period, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            beat += 1
            if not stop.is_set():
                await _say_status(stack, beat, say)
    finally:
        failed.cancel()
        stopping.cancel()
        if say.isatty():
            print(file=say)


async def _say_status(stack: Stack, beat: int, say: TextIO) -> None:
    """Print one line of figures: over and over on a terminal, every few seconds elsewhere."""
    if not say.isatty() and beat % PLAIN_EVERY:
        return
    try:
        ledger = await stack.get("/v1/ledger?limit=1")
    except StackError:
        return
    frames = ledger["total"]["frames"]
    line = (
        f"{time.strftime('%H:%M:%S')}  received {frames['received']:,}  windowed {frames['windowed']:,}  "
        f"duplicate {frames['duplicate']:,}  quarantined {frames['quarantined']:,}  "
        f"ledger {'balanced' if ledger['balanced'] else 'NOT BALANCED'}  restarts {stack.restarts}"
    )
    print(f"\r\x1b[2K{line}" if say.isatty() else line, end="" if say.isatty() else "\n", file=say, flush=True)


def _say_ready(stack: Stack, options: DemoOptions, say: TextIO, seconds: float) -> None:
    addresses, settings = stack.addresses, stack.settings
    register, publish = _first_reading(settings, addresses)
    started = f" ({broker.version()}, started here)" if addresses.own_broker else ""
    lines = [
        f"quayflow is up after {seconds:.1f} s",
        f"  page     {addresses.page}/",
        f"  API docs {addresses.page}/docs",
        f"  broker   {addresses.broker}{started}",
        f"  data     {settings.data.absolute()}   (kept; logs in {settings.data / 'logs'})",
        "  publish your first reading:",
        *([f"    {register}   # prints the PASSWORD"] if register else []),
        f"    {publish}",
        f"    curl -s {addresses.page}/v1/devices/T-001",
        "  stop with Ctrl-C" + (f", or wait {options.duration_s:g} s" if options.duration_s is not None else ""),
    ]
    print("\n".join(lines), file=say, flush=True)
    if options.as_json:
        ready = {
            "event": "ready",
            "api": addresses.page,
            "docs": f"{addresses.page}/docs",
            "broker": addresses.broker,
            "broker_port": addresses.broker_port,
            "data": str(settings.data.absolute()),
            "register": register,
            "publish": publish,
            "seconds": round(seconds, 2),
            "pids": {child.name: child.pid for child in stack.children},
        }
        typer.echo(json.dumps(ready))
    if options.open_page:
        webbrowser.open(addresses.page)


def _first_reading(settings: Settings, addresses: Addresses) -> tuple[str | None, str]:
    """Return what gives a first device a password, None where none is asked for, and what publishes its reading."""
    uid, data = f"{settings.site}/vehicle/T-001", settings.data
    words = ["mosquitto_pub"]
    if not addresses.own_broker or addresses.tls:
        words += ["-h", addresses.broker_host]
    words += ["-p", str(addresses.broker_port)]
    if addresses.tls:
        made = data / TLS_FOLDER / "ca.pem"
        authority = made if addresses.own_broker else settings.broker_ca_file
        words += ["--cafile", str(authority)] if authority is not None else ["--tls-use-os-certs"]
    register = None
    if addresses.own_broker and settings.secure:
        elsewhere = "" if data == Settings.model_fields["data"].default else f" --data {quoted(str(data))}"
        register = f"quayflow device add T-001 --class vehicle --credentials{elsewhere}"
        words += ["-u", uid, "-P", TO_FILL_IN]
    elif settings.broker_username is not None and not addresses.own_broker:
        words += ["-u", settings.broker_username, "-P", TO_FILL_IN]
    words += ["-q", "1", "-t", f"port/{uid}/telemetry", "-m", '{"v":1,"m":{"speed_mps":4.2}}']
    return register, " ".join(map(quoted, words))


def _say_restart(say: TextIO, child: Child, status: int) -> None:
    how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    print(f"\n{child.name} ended {how}; starting it again (restart {child.restarts})", file=say, flush=True)


def _say_result(result: dict[str, Any], options: DemoOptions, settings: Settings) -> None:
    if options.as_json:
        typer.echo(json.dumps(result))
        return
    verdict = "balanced" if result["ledger_balanced"] else "NOT BALANCED"
    typer.echo(
        f"{result['messages']:,} messages, {result['moves']} crane moves, {result['gate_passages']} gate passages, "
        f"{result['quarantined']} quarantined, {result['lost']} lost, ledger {verdict}; data kept in {settings.data}"
    )

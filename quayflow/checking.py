"""`quayflow check`: does a device say what quayflow understands, asked before it is put into service."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import aiomqtt
import msgspec
import typer

from devices.codecs.registry import CODECS, make_codec
from devices.filters import fault_of
from devices.topics import ROOT
from devices.vocabulary import DeviceClass
from ingest.gateway import GatewayError
from ingest.pipeline import PipelineConfig
from ingest.sources import Source
from quayflow.captures import (
    BARE,
    NATIVE,
    Holding,
    Message,
    guess,
    has_topics,
    is_recording,
    read_file,
    read_recording,
    topics_of,
)
from quayflow.conformance import WARNING, Finding, Judging, Report, judge
from quayflow.conformance_page import as_lines, as_page
from quayflow.contents import Content, Mapped, opened
from quayflow.device_verbs import registry_of
from quayflow.failures import FAILED, UNREACHABLE, USAGE
from quayflow.listening import Terminals, listen
from quayflow.options import Broker, duration, written
from quayflow.parts import broker_of, pipeline_config_of
from quayflow.progress import Advance, bytes_progress, count_progress
from quayflow.settings import Settings, SettingsError
from store.admission import read_admission
from store.registry_entries import Policy
from store.system_words import of_address, of_file

DEFAULT_S: Final = 60.0
ASK_EVERY_S: Final = 0.5
COUNT_AT_ONCE: Final = 1_024
SUFFIXES: Final = frozenset(
    {".json", ".jsonl", ".ndjson", ".msgpack", ".bin", ".hex", ".raw", ".txt", ".log", ".csv", ".zip", ".qfj"}
)
"""How names of files end, which a topic filter hardly does."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(  # noqa: PLR0913 - one flag each
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE|TOPIC",
            help="File of messages, recording of quayflow record, or a topic filter to listen on.",
            show_default=False,
        ),
    ] = None,
    *,
    device_class: Annotated[DeviceClass, typer.Option("--as", help="What the device is.")],
    address: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="[HOST:]PORT",
            help="Instead: answer the terminals that connect here over TCP; --codec says what they speak.",
        ),
    ] = None,
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--for",
            parser=duration,
            metavar="TIME",
            help="How long to listen, such as 5m; no matter for a file. [default: 60s]",
        ),
    ] = None,
    broker: Broker = None,
    codec: Annotated[
        str, typer.Option(metavar="NAME", help=f"What a file, TOPIC or terminals say: {', '.join(CODECS)}.")
    ] = NATIVE,
    topic: Annotated[str, typer.Option(metavar="T", help="Topic of a file's messages that come without one.")] = "",
    only: Annotated[str, typer.Option(metavar="FILTER", help="Of a recording, only topics that this matches.")] = "",
    zone: Annotated[str, typer.Option(metavar="Z", help="Offset of times without a zone, such as +08:00.")] = "",
    site: Annotated[str | None, typer.Option(help="Site of payloads without a topic. [default: CNNGB-DEMO]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Judge under the registry of this data folder: adopted names, who may speak.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", callback=written, help="Write the report as a page, too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge what a device sends: identity, clock, rate, sequence, names, units, ranges. Exit status 1 if it fails."""
    from quayflow.main import settings_of  # noqa: PLC0415 - main registers this module

    settings = settings_of(broker, site=site, data=data)
    holding = Holding(device_class, settings.site, codec, zone, topic)
    try:
        config = _config_of(settings, registered=data is not None)
        seconds = duration_s or DEFAULT_S
        report = _report(settings, _asked_for(source, address, holding, only), holding, config, only, seconds)
    except (ValueError, SettingsError) as error:
        text, named = str(error), source or ""
        typer.echo(f"quayflow: {'' if text.startswith(named) else f'{named}: '}{text}", err=True)
        raise typer.Exit(USAGE) from None
    except GatewayError as error:
        typer.echo(f"quayflow: --listen {address}: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    except (aiomqtt.MqttError, OSError) as error:
        where = f"the broker at {settings.broker_host}:{settings.broker_port} cannot be asked"
        there = source is not None and Path(source).exists()
        words = of_address(error) if not there else of_file(error, source) if isinstance(error, OSError) else str(error)
        typer.echo(f"quayflow: {source} {'cannot be read' if there else f'is no file, and {where}'}: {words}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    _show(report, page, as_json=as_json)
    raise typer.Exit(0 if report.conforms else FAILED)


Asked = str | Path | Terminals
"""What is to be judged: a topic filter, a file, or terminals that connect."""


def _asked_for(source: str | None, address: str | None, holding: Holding, only: str) -> Asked:
    """Return what is to be judged; ValueError where it cannot be meant."""
    if (source is None) is (address is None):
        raise ValueError("expected one of FILE, TOPIC and --listen PORT")
    if source is not None:
        _refuse_contradictions(source, holding, only)
        return Path(source) if Path(source).exists() else source
    if holding.topic or only or holding.zone:
        raise ValueError("--topic, --only and --zone are for files and topics, not for --listen")
    return Terminals.at(address or "", holding.codec)


def _report(
    settings: Settings, asked: Asked, holding: Holding, config: PipelineConfig, only: str, seconds: float
) -> Report:
    if isinstance(asked, Path):
        return _report_of_path(asked, holding, config, only)
    if isinstance(asked, Terminals):
        return asyncio.run(listen(asked, settings, seconds, Judging(holding.device_class, config), config.admission))
    judging = Judging(holding.device_class, _with_codec(config, holding, [asked]))
    return asyncio.run(_listen(settings, asked, seconds, judging))


def _refuse_contradictions(source: str, holding: Holding, only: str) -> None:
    """Raise ValueError where what was asked cannot be meant."""
    if holding.codec not in CODECS:
        raise ValueError(f"--codec {holding.codec[:64]!r}: expected one of {', '.join(CODECS)}")
    make_codec(holding.codec, holding.zone)
    path = Path(source)
    if only and (fault := fault_of(only)):
        raise ValueError(f"--only {fault}")
    if path.exists():
        if only and not is_recording(path):
            raise ValueError("--only chooses from a recording, which this is not")
        if set(holding.topic) & set("+#\0"):
            raise ValueError(f"--topic {holding.topic[:64]!r}: expected a topic, without + and #")
        return
    if path.suffix in SUFFIXES:
        raise ValueError("there is no such file")
    if holding.topic or only:
        raise ValueError("--topic and --only are for files, and there is none of this name")
    if fault := fault_of(source):
        raise ValueError(f"is neither a file nor a topic filter: {fault}")
    if holding.codec != NATIVE and source.startswith(f"{ROOT}/"):
        raise ValueError(f"--codec {holding.codec}: topics under {ROOT}/ name their format themselves")


def _config_of(settings: Settings, *, registered: bool) -> PipelineConfig:
    """Return the rules of ingest's pipeline; with those of the registry if ``registered``."""
    config = pipeline_config_of(settings)
    if not registered:
        return config
    with registry_of(settings, read_only=True) as registry:
        return replace(config, admission=read_admission(registry, Policy(settings.registration)))


def _with_codec(config: PipelineConfig, holding: Holding, topics: Iterable[str]) -> PipelineConfig:
    """Return the rules with a source for what ``--codec`` says that topics carry, before those of the settings."""
    if holding.codec == NATIVE:
        return config
    filters = tuple(each for each in topics if not each.startswith(f"{ROOT}/") and not fault_of(each))
    bound = Source(
        holding.codec, holding.site, holding.device_class, (f"{BARE}/{holding.codec}", *filters), holding.zone
    )
    return replace(config, sources=(bound, *config.sources))


def _report_of_path(path: Path, holding: Holding, config: PipelineConfig, only: str) -> Report:
    """Judge a file or a recording, however large."""
    if is_recording(path):
        messages, count, topics, notes = read_recording(path, only, holding.site)
        with count_progress("messages", count) as advance:
            found = _counted(messages, advance)
            report = judge(found, holding.device_class, str(path), _with_codec(config, holding, topics))
        report.findings += [Finding(WARNING, "payload", "", "", f"of the recording: {note}") for note in notes]
        return report
    with opened(path) as content:
        if holding.codec == NATIVE and (guessed := guess(content)):
            raise ValueError(
                f"its first message is none of the native format; it reads as {guessed}: --codec {guessed}"
            )
        if holding.codec == "sparkplug" and not holding.topic and not has_topics(content):
            raise ValueError(
                "messages of sparkplug mean nothing without their topic: --topic spBv1.0/GROUP/NBIRTH/NODE"
            )
        if holding.codec != NATIVE:
            # Before the first is judged it must be known where those of the format come.
            with _going_through(content, "topics"):
                config = _with_codec(config, holding, topics_of(content, holding))
        with _going_through(content, "checked"):
            return judge(read_file(content, holding), holding.device_class, str(path), config)


@contextlib.contextmanager
def _going_through(content: Content, what: str) -> Iterator[None]:
    """Show how far a file has been gone through, from its beginning."""
    with bytes_progress(what, len(content)) as advance:
        if isinstance(content, Mapped):
            content.begin(advance)
        yield


def _counted(messages: Iterable[Message], advance: Advance) -> Iterator[Message]:
    """Yield messages, and tell every so often how many there were."""
    number = 0
    for number, message in enumerate(messages, 1):
        yield message
        if not number % COUNT_AT_ONCE:
            advance(COUNT_AT_ONCE)
    advance(number % COUNT_AT_ONCE)


async def _listen(settings: Settings, topic: str, seconds: float, judging: Judging) -> Report:
    """Judge what comes on a topic filter within some seconds, or until SIGINT. MqttError where there is no broker.

    What ingest would ask of devices, such as a Sparkplug node's birth, is asked.
    """
    broker = broker_of(settings)
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=broker.tls_context(),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    async with client:
        refused = [code for code in await client.subscribe(topic, qos=1) if getattr(code, "is_failure", False)]
        if refused:
            raise aiomqtt.MqttError(f"it refuses to deliver {topic}: {refused[0]}")
        if sys.stderr.isatty():
            typer.echo(f"listening for {seconds:g} s; Ctrl-C ends it earlier", err=True)
        work = [
            asyncio.create_task(each, name=name)
            for name, each in (
                ("hearing", _hear(client, judging)),
                ("asking", _ask(client, judging)),
                ("stopping", stop.wait()),
            )
        ]
        done, _ = await asyncio.wait(work, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for each in done:
            each.result()
    return judging.report(topic)


async def _hear(client: aiomqtt.Client, judging: Judging) -> None:
    async for message in client.messages:
        # What is retained was sent before anybody looked.
        if not message.retain:
            judging.take([Message(str(message.topic), bytes(message.payload), time.time_ns())])


async def _ask(client: aiomqtt.Client, judging: Judging) -> None:
    while True:
        await asyncio.sleep(ASK_EVERY_S)
        for request in judging.wants(time.time_ns()):
            await client.publish(request.topic, request.payload)


def _show(report: Report, page: Path | None, *, as_json: bool) -> None:
    if page is not None:
        page.write_text(as_page(report), encoding="utf-8")
    if as_json:
        document: dict[str, Any] = {**msgspec.to_builtins(report), "conforms": report.conforms}
        typer.echo(json.dumps(document))
    else:
        typer.echo("\n".join(as_lines(report)))

"""From settings to a running part: ingest, API, simulated port."""

import asyncio
import contextlib
import errno
import gc
import json
import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from quayflow.failures import FAILED, UNREACHABLE
from quayflow.ingesting import ingest
from quayflow.settings import Settings, SettingsError
from store.system_words import of_address

if TYPE_CHECKING:
    from ingest.config import IngestConfig
    from ingest.gateway import GatewayConfig
    from ingest.pipeline import PipelineConfig
    from ingest.session import SessionConfig
    from ingest.sources import Source
    from simulators.broker import Broker
    from simulators.fleet import FleetConfig

log = logging.getLogger(__name__)

NS: Final = 1_000_000_000


def sources_of(settings: Settings) -> "tuple[Source, ...]":
    """Return where foreign formats come from; SettingsError where one cannot be."""
    from ingest.sources import Source  # noqa: PLC0415 - each part is loaded by the process that runs it

    try:
        return tuple(
            Source(each.codec, each.site or settings.site, each.device_class, each.filters, each.zone)
            for each in settings.sources
        )
    except ValueError as error:
        raise SettingsError(f"sources: {error}") from None


def pipeline_config_of(settings: Settings) -> "PipelineConfig":
    """Return the rules of the pipeline; SettingsError where one cannot be."""
    from analytics.detectors.states import HoldRules  # noqa: PLC0415 - as above
    from analytics.watermarks import Lateness  # noqa: PLC0415 - as above
    from ingest.pipeline import PipelineConfig  # noqa: PLC0415 - as above

    return PipelineConfig(
        lateness=Lateness(round(settings.lateness_s * NS), round(settings.idle_s * NS)),
        holds=HoldRules(round(settings.state_hold_s * NS)),
        max_devices=settings.max_devices,
        max_series=settings.max_series,
        max_site_devices=settings.max_site_devices,
        max_site_series=settings.max_site_series,
        sources=sources_of(settings),
        strict=strict_codecs_of(settings),
    )


def strict_codecs_of(settings: Settings) -> tuple[str, ...]:
    """Return the names of the codecs that refuse what they could read in spite of its faults."""
    return ("jt808",) if settings.jt808_strict else ()


def registered_config_of(settings: Settings) -> "PipelineConfig":
    """Return the rules of the pipeline with what the registry says now."""
    from ingest.following import RegistryFollower  # noqa: PLC0415 - as above
    from store.registry_entries import Policy  # noqa: PLC0415 - as above

    follower = RegistryFollower(settings.store_urls[1], settings.data, Policy(settings.registration))
    with contextlib.closing(follower):
        return replace(pipeline_config_of(settings), admission=follower.first())


def session_config_of(settings: Settings) -> "SessionConfig":
    """Return how ingest reaches the broker; ValueError where it cannot."""
    from ingest.session import SessionConfig  # noqa: PLC0415 - as above

    return SessionConfig(
        host=settings.broker_host,
        port=settings.broker_port,
        username=settings.broker_username,
        password=settings.broker_password,
        tls=settings.broker_tls,
        ca_file=_text(settings.broker_ca_file),
        cert_file=_text(settings.broker_cert_file),
        key_file=_text(settings.broker_key_file),
        filters=(*settings.topic_filters, *(topic for source in sources_of(settings) for topic in source.topics)),
        max_batch_messages=settings.held_messages,
        max_batch_bytes=settings.held_bytes,
    )


def gateway_config_of(settings: Settings) -> "GatewayConfig | None":
    """Return where terminals are listened for, None where they are not; ValueError where they cannot be."""
    from ingest.gateway import GatewayConfig  # noqa: PLC0415 - as above

    if settings.jt808_port is None and settings.teltonika_port is None:
        return None
    return GatewayConfig(
        site=settings.site,
        host=settings.gateway_host,
        jt808_port=settings.jt808_port,
        teltonika_port=settings.teltonika_port,
        anyone=settings.jt808_anyone,
        strict=settings.jt808_strict,
        max_connections=settings.gateway_connections,
        idle_s=settings.gateway_idle_s,
    )


def ingest_config_of(settings: Settings) -> "IngestConfig":
    """Return what an ingest worker is to be. Raises SettingsError where the settings let none run."""
    from ingest.config import IngestConfig  # noqa: PLC0415 - as above
    from store.registry_entries import Policy  # noqa: PLC0415 - as above

    try:
        session, gateway = session_config_of(settings), gateway_config_of(settings)
        _check_tls(settings)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from None
    windows_url, records_url = settings.store_urls
    return IngestConfig(
        data=settings.data.absolute(),
        windows_url=windows_url,
        records_url=records_url,
        session=session,
        worker=settings.worker,
        pipeline=pipeline_config_of(settings),
        gateway=gateway,
        commit_interval_s=settings.commit_interval_s,
        keep_s=settings.keep_s,
        journal_keep_bytes=settings.journal_keep_bytes,
        journal_keep_s=settings.journal_keep_s,
        journal_compress=settings.journal_compress,
        journal_ballast_bytes=settings.journal_ballast_bytes,
        registration=Policy(settings.registration),
        shed_below_bytes=settings.shed_below_bytes,
    )


async def run_ingest(settings: Settings) -> None:
    """Run an ingest worker until SIGTERM or SIGINT. Raises SettingsError where the settings let none run."""
    await ingest(ingest_config_of(settings), settings.log_level)


async def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM or SIGINT.

    Raises StackError where its address cannot be listened on, StoreUnreachableError or StoreUrlError where it could not
    answer.
    """
    import uvicorn  # noqa: PLC0415 - as above

    from api.app import create_app, try_stores  # noqa: PLC0415 - as above
    from api.config import ApiConfig  # noqa: PLC0415 - as above

    try:
        _check_tls(settings)
    except OSError as error:
        raise SettingsError(str(error)) from None
    listening = listen(settings.host, settings.port)
    log.info("serving at http://%s:%d", settings.host, listening.getsockname()[1])
    windows_url, records_url = settings.store_urls
    config = ApiConfig(
        windows_url=windows_url,
        records_url=records_url,
        broker_host=settings.broker_host,
        broker_port=settings.broker_port,
        broker_username=settings.broker_username,
        broker_password=settings.broker_password,
        broker_tls=settings.broker_tls,
        broker_ca_file=settings.broker_ca_file,
        broker_cert_file=settings.broker_cert_file,
        broker_key_file=settings.broker_key_file,
        access_secret=settings.access_secret,
        change_secret=settings.change_secret,
        local_changes=settings.local_changes and not settings.secure,
        registration=settings.registration,
    )
    await asyncio.to_thread(try_stores, config)
    serving = uvicorn.Config(
        create_app(config),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    serving.load()
    _set_aside_what_stays()
    with listening:
        await uvicorn.Server(serving).serve([listening])


def _set_aside_what_stays() -> None:
    """Put what lives as long as the process out of the garbage collector's way.

    It would go through all of that now and then, while every answer and every live value waits for it.
    """
    gc.collect()
    gc.freeze()


def broker_of(settings: Settings) -> "Broker":
    """Return where simulators publish; ValueError where nobody could."""
    from simulators.broker import Broker  # noqa: PLC0415 - as above

    broker = Broker(
        host=settings.broker_host,
        port=settings.broker_port,
        username=settings.broker_username,
        password=settings.broker_password,
        tls=settings.broker_tls,
        tls_ca=_text(settings.broker_ca_file),
        tls_cert=_text(settings.broker_cert_file),
        tls_key=_text(settings.broker_key_file),
    )
    try:
        broker.tls_context()
    except OSError as error:
        raise ValueError(str(error)) from None
    return broker


async def run_simulation(  # noqa: PLR0913 - one flag each
    settings: Settings,
    duration_s: float | None,
    *,
    speed: float,
    payload: str,
    summary: Path | None,
    truth: Path | None,
    noise: str,
    scenario: str | None,
    jt808: str | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Publish a simulated port until its time is over, SIGTERM or SIGINT; with ``out``, record it without a broker.

    Return 0 if the broker has acknowledged every message, 3 if it acknowledged none, otherwise 1.
    """
    from simulators import fleet  # noqa: PLC0415 - as above

    try:
        config = fleet.FleetConfig(
            broker=broker_of(settings),
            site=settings.site,
            profile=settings.profile,
            seed=settings.seed,
            speed=speed,
            duration_s=duration_s,
            payload=payload,
            summary_path=summary,
            truth_path=truth,
            noise=noise,
            scenario=scenario,
            jt808=jt808,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if out is not None:
        return await asyncio.to_thread(_record_port, config, out, as_json=as_json)
    result = await fleet.run(config)
    if as_json:
        typer.echo(json.dumps(result))
    if not result["outstanding"]:
        return 0
    return UNREACHABLE if not result["acked"] else FAILED


def _record_port(config: "FleetConfig", out: Path, *, as_json: bool) -> int:
    """Record a simulated port in virtual time; return 0."""
    from simulators.recorded_port import record_port  # noqa: PLC0415 - as above

    for name, value, free in (("speed", config.speed, 1.0), ("jt808", config.jt808, None)):
        if value != free:
            raise SettingsError(f"{name} = {value}: means nothing to a recording without a broker")
    if config.summary_path is not None:
        raise SettingsError("summary: nothing is published, so there is no publisher's ledger to keep")
    if config.duration_s is None:
        raise SettingsError("out: a recording without a broker needs an end, such as --for 10m")
    done = record_port(config, out)
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(
            f"{done['messages']:,} messages, {done['first_time']} to {done['last_time']}: "
            f"{done['bytes'] / 1e6:,.1f} MB, on the disk {done['disk_bytes'] / 1e6:,.1f} MB in "
            f"{done['segments']} segments of {out}"
        )
    return 0


def listen(host: str, port: int) -> socket.socket:
    """Listen, before anything else is begun, so that a port that is taken is one sentence: StackError."""
    from quayflow.stack import StackError  # noqa: PLC0415 - as above

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(f"port {port} is taken; choose another with --port, or 0 for a free one") from None
        raise StackError(f"cannot listen on {host}, port {port}: {of_address(error)}") from None
    # For all that will be accepted. asyncio sees to that only where a socket names its protocol, which create_server
    # leaves open: a value would then wait up to 40 ms, until the reader's system has acknowledged the one before.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _check_tls(settings: Settings) -> None:
    """Raise OSError where a certificate cannot be used: who has just named it wants to hear of it, and not a log."""
    from store.tls_files import tls_context  # noqa: PLC0415 - as above

    if settings.broker_tls:
        tls_context(settings.broker_ca_file, settings.broker_cert_file, settings.broker_key_file)


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None

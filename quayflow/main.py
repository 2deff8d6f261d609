"""The command line. Exit status: 0 good, 1 failed, 2 usage, 3 something unreachable, 99 a threshold missed."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from quayflow import __version__, traffic
from quayflow.checking import check
from quayflow.commanding import command
from quayflow.decoding import decode
from quayflow.device_verbs import device_app
from quayflow.failures import USAGE
from quayflow.journal import (
    Form,
    From,
    Limit,
    To,
    Topic,
    cat,
    folder_of,
    info,
    journal_app,
    leave,
    refuse_backwards,
    time_of,
)
from quayflow.journal import verify as verify_journal
from quayflow.options import (
    Broker,
    BrokerPort,
    Data,
    ExternalBroker,
    For,
    Json,
    Listen,
    Open,
    Port,
    Profile,
    Secure,
    Seed,
    Tls,
    written,
)
from quayflow.registry_verbs import registry_app
from quayflow.running import finish, log_from
from quayflow.settings import Settings, SettingsError, SettingsFault, load
from quayflow.usage_examples import end_helps_with_examples

app = typer.Typer(
    name="quayflow",
    help="The telemetry backend of a port: takes what cranes, gates and vehicles publish, loses nothing, answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(*, version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    """Take the options that stand before a command."""
    if version:
        typer.echo(f"quayflow {__version__}")
        raise typer.Exit


@app.command()
def demo(  # noqa: PLR0913 - one flag each
    *,
    duration_s: For = None,
    port: Port = None,
    broker_port: BrokerPort = None,
    broker: ExternalBroker = None,
    profile: Profile = None,
    seed: Seed = None,
    data: Data = None,
    secure: Secure = None,
    tls: Tls = None,
    listen: Listen = None,
    open_page: Open = None,
    as_json: Json = False,
) -> None:
    """Start everything with a simulated port, and print where to look."""
    settings = settings_of(
        broker,
        port=port,
        broker_port=broker_port,
        profile=profile,
        seed=seed,
        data=data,
        secure=secure,
        tls=tls,
        broker_listen=listen,
    )
    _run_stack(settings, duration_s, broker, simulate=True, open_page=open_page, as_json=as_json)


@app.command()
def up(  # noqa: PLR0913 - one flag each
    *,
    duration_s: For = None,
    port: Port = None,
    broker_port: BrokerPort = None,
    broker: ExternalBroker = None,
    data: Data = None,
    secure: Secure = None,
    tls: Tls = None,
    listen: Listen = None,
    open_page: Open = None,
    as_json: Json = False,
) -> None:
    """Start everything without simulated devices, for real ones."""
    settings = settings_of(
        broker, port=port, broker_port=broker_port, data=data, secure=secure, tls=tls, broker_listen=listen
    )
    _run_stack(settings, duration_s, broker, simulate=False, open_page=open_page, as_json=as_json)


@app.command()
def ingest(
    *,
    broker: Broker = None,
    data: Data = None,
    worker: Annotated[str | None, typer.Option(help="Name of this worker. [default: ingest-1]")] = None,
) -> None:
    """Take messages from the broker into journal and store."""
    from quayflow import parts  # noqa: PLC0415 - each part is loaded by the process that runs it

    settings = settings_of(broker, data=data, worker=worker)
    finish(parts.run_ingest(settings))


@app.command()
def api(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Port = None,
    broker: Broker = None,
    data: Data = None,
) -> None:
    """Serve the API and the page."""
    from quayflow import parts  # noqa: PLC0415 - as above

    finish(parts.run_api(settings_of(broker, host=host, port=port, data=data)))


@app.command()
def simulate(  # noqa: PLR0913 - one flag each
    *,
    duration_s: For = None,
    broker: Broker = None,
    profile: Profile = None,
    seed: Seed = None,
    site: Annotated[str | None, typer.Option(help="Site level of the topics. [default: CNNGB-DEMO]")] = None,
    speed: Annotated[float, typer.Option(help="Port seconds per second.")] = 1.0,
    payload: Annotated[Literal["msgpack", "json", "mixed"], typer.Option(help="Form of the payloads.")] = "msgpack",
    summary: Annotated[
        Path | None, typer.Option(callback=written, help="Keep the publisher's ledger in this file.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(callback=written, help="Append what really happened to this file, JSON lines.")
    ] = None,
    noise: Annotated[Literal["none", "default", "heavy"], typer.Option(help="Noise of the instruments.")] = "none",
    scenario: Annotated[
        str | None, typer.Option(help="Name or file of a scenario, in place of profile and seed.")
    ] = None,
    jt808: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Gateway to which road trucks report as JT/T 808 terminals.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Publish nothing: record --for so long of the port's time in this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish a simulated port to any broker."""
    from quayflow import parts  # noqa: PLC0415 - as above

    settings = settings_of(broker, profile=profile, seed=seed, site=site)
    run = parts.run_simulation(
        settings,
        duration_s,
        speed=speed,
        payload=payload,
        summary=summary,
        truth=truth,
        noise=noise,
        scenario=scenario,
        jt808=jt808,
        out=out,
        as_json=as_json,
    )
    finish(run)


@app.command(short_help="Prove the pipeline on a simulated port.")
def verify(  # noqa: PLR0913 - one flag each
    *,
    profile: Profile = None,
    seed: Seed = None,
    scenario: Annotated[str | None, typer.Option(help="Name or file of a scenario; exit 99 if it is missed.")] = None,
    hours: Annotated[float, typer.Option(help="Virtual time, h.")] = 1.0,
    noise: Annotated[Literal["none", "default", "heavy"], typer.Option(help="Noise of the instruments.")] = "none",
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Deliver messages out of order.")] = False,
    duplicate: Annotated[float, typer.Option(min=0, max=1, help="Share of messages delivered twice.")] = 0.0,
    drop: Annotated[float, typer.Option(min=0, max=1, help="Share of messages never delivered.")] = 0.0,
    data: Annotated[Path | None, typer.Option(help="Instead: print the hash of this data folder's store.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate a port in virtual time through the whole pipeline and mark it against the truth; no broker needed."""
    if data is not None:
        from quayflow.hashing import show_hash  # noqa: PLC0415 - as above

        finish(show_hash(settings_of(None, data=data), as_json=as_json))
    from quayflow.verifying import VerifyConfig, show  # noqa: PLC0415 - as above
    from quayflow.verifying import verify as run_verify  # noqa: PLC0415 - as above
    from simulators.scenarios import load as load_scenario  # noqa: PLC0415 - as above

    settings = settings_of(None, profile=profile, seed=seed)
    try:
        if scenario is not None:
            config = VerifyConfig.of(load_scenario(scenario), settings.site)
        else:
            config = VerifyConfig(
                settings.profile,
                settings.seed,
                hours,
                shuffle,
                duplicate=duplicate,
                drop=drop,
                site=settings.site,
                noise=noise,
            )
        report = run_verify(config)
    except ValueError as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(show(report, as_json=as_json))


@app.command()
def ledger(*, data: Data = None, as_json: Json = False) -> None:
    """Print the accounts of every frame, per device.

    Exit status 1 if they do not balance.
    """
    from quayflow.ledger import print_ledger  # noqa: PLC0415 - as above

    finish(print_ledger(settings_of(None, data=data), as_json=as_json))


app.command(short_help="Print what one message of any format says.")(decode)
app.command(short_help="Judge what a device sends.")(check)
traffic.register(app)
app.add_typer(journal_app, name="journal")
device_app.command("command", short_help="Have a device do something, and see its answer.")(command)
app.add_typer(device_app, name="device")
app.add_typer(registry_app, name="registry")


@journal_app.command("info")
def journal_info(*, data: Data = None, as_json: Json = False) -> None:
    """Print what the journal holds."""
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: info(folder, as_json=as_json))


@journal_app.command("verify")
def journal_verify(*, data: Data = None, as_json: Json = False) -> None:
    """Check every record; exit status 1 names each that is damaged."""
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: verify_journal(folder, as_json=as_json))


@journal_app.command("cat", short_help="Write frames to standard output.")
def journal_cat(
    *,
    data: Data = None,
    start: From = None,
    end: To = None,
    topic: Topic = None,
    limit: Limit = None,
    form: Form = "jsonl",
) -> None:
    """Write frames to standard output, in a form that `quayflow replay` reads."""
    refuse_backwards(start, end)
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: cat(folder, start, end, topic, limit, form))


@journal_app.command("rebuild", short_help="Put the store right from the journal.")
def journal_rebuild(
    *,
    start: Annotated[
        int | None, typer.Option("--from", parser=time_of, metavar="TIME", help="Event time. [default: the first]")
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=time_of, metavar="TIME", help="Event time. [default: the last]")
    ] = None,
    data: Data = None,
    worker: Annotated[str | None, typer.Option(help="Name of the worker. [default: ingest-1]")] = None,
    as_json: Json = False,
) -> None:
    """Compute the hours from --from to --to of the store again from the journal, and put right what differs.

    Ingest must not be running on the data folder.
    """
    from quayflow.parts import registered_config_of  # noqa: PLC0415 - as above
    from quayflow.rebuilding import rebuild  # noqa: PLC0415 - as above

    refuse_backwards(start, end)
    settings = settings_of(None, data=data, worker=worker)
    folder_of(settings)
    finish(rebuild(settings, registered_config_of(settings), start, end, as_json=as_json))


@journal_app.command("export", short_help="Write samples or frames to a Parquet or JSON-lines file.")
def journal_export(  # noqa: PLR0913 - one flag each
    *,
    out: Annotated[Path, typer.Option(help="File to write; it appears when it is complete.")],
    form: Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="Form of the file.")] = "parquet",
    raw: Annotated[bool, typer.Option("--raw", help="Frames as they came, instead of their samples.")] = False,
    data: Data = None,
    start: From = None,
    end: To = None,
    topic: Topic = None,
    as_json: Json = False,
) -> None:
    """Write what was received to a file for other tools: a row per sample, or with --raw a row per frame."""
    from quayflow.exporting import ExportConfig  # noqa: PLC0415 - as above
    from quayflow.exporting import run as run_export  # noqa: PLC0415 - as above
    from quayflow.parts import sources_of, strict_codecs_of  # noqa: PLC0415 - as above

    refuse_backwards(start, end)
    settings = settings_of(None, data=data)
    try:
        sources, strict = sources_of(settings), strict_codecs_of(settings)
    except SettingsError as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(2) from None
    last = 2**63 - 1 if end is None else end
    config = ExportConfig(folder_of(settings), out, form, raw, start or 0, last, topic, sources, strict)
    leave(lambda: run_export(config, as_json=as_json))


config_app = typer.Typer(help="Show and check the settings.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("show")
def config_show(*, as_json: Json = False) -> None:
    """Print every setting, its value and where it comes from."""
    from quayflow import origins  # noqa: PLC0415 - as above

    origins.show(settings_of(None), as_json=as_json)


@config_app.command("validate", short_help="Check quayflow.toml and the environment.")
def config_validate(*, as_json: Json = False) -> None:
    """Check quayflow.toml and the environment; exit status 2 names what cannot be used."""
    if not as_json:
        settings_of(None)
        typer.echo("settings are good")
        return
    try:
        faults: tuple[SettingsFault, ...] = ()
        load()
    except SettingsError as error:
        faults = error.faults
    typer.echo(json.dumps({"valid": not faults, "faults": [fault._asdict() for fault in faults]}))
    raise typer.Exit(USAGE if faults else 0)


end_helps_with_examples(app)


def settings_of(broker: str | None, **flags: object) -> Settings:
    """Return the settings under the flags; ends with status 2 where they cannot be used."""
    if broker is not None:
        host, _, number = broker.removeprefix("mqtt://").rpartition(":")
        if not host or not number.isdigit() or not 1 <= int(number) <= 65_535:  # noqa: PLR2004 - TCP
            raise typer.BadParameter(f"{broker!r}: expected HOST:PORT, such as 127.0.0.1:1883", param_hint="--broker")
        flags |= {"broker_host": host, "broker_port": int(number)}
    try:
        settings = load(**flags)
    except SettingsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    log_from(settings.log_level)
    return settings


def _run_stack(
    settings: Settings,
    duration_s: float | None,
    broker: str | None,
    *,
    simulate: bool,
    open_page: bool | None,
    as_json: bool,
) -> None:
    from quayflow.demo import DemoOptions, run  # noqa: PLC0415 - as above

    options = DemoOptions(
        duration_s=duration_s,
        simulate=simulate,
        external_broker=broker is not None,
        open_page=sys.stdout.isatty() if open_page is None else open_page,
        as_json=as_json,
    )
    finish(run(settings, options))

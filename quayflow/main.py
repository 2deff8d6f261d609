"""The command line. Exit status: 0 good, 1 failed, 2 usage, 3 something unreachable, 99 a threshold missed."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from quayflow import __version__, on_demand
from quayflow.failures import USAGE
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
from quayflow.running import finish, log_from
from quayflow.usage_examples import end_helps_with_examples

if TYPE_CHECKING:
    from quayflow.settings import Settings

app = on_demand.program(
    "The telemetry backend of a port: takes what cranes, gates and vehicles publish, loses nothing, answers."
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
    from quayflow.settings import SettingsError, SettingsFault, load  # noqa: PLC0415 - as above

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
on_demand.register(app)


def settings_of(broker: str | None, **flags: object) -> "Settings":
    """Return the settings under the flags; ends with status 2 where they cannot be used."""
    from quayflow.settings import SettingsError, load  # noqa: PLC0415 - help needs none

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
    settings: "Settings",
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

"""`quayflow device command`: have a device do something, and print its acknowledgement."""

import asyncio
import json
import ssl
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from devices.scalars import Scalar
from devices.topics import DeviceKey
from quayflow.device_verbs import (
    TLS_FOLDER,
    Class,
    Data,
    Id,
    Json,
    Look,
    SiteCode,
    actor,
    device_app,
    known_key,
    registry_of,
    settings_with,
)
from quayflow.failures import FAILED, UNREACHABLE, USAGE
from quayflow.options import duration
from quayflow.settings import Settings
from store.access import API
from store.tls_files import tls_context
from store.trying_out import broker_address, speaks_tls

if TYPE_CHECKING:
    from api.commands import BrokerAddress, Sent

BROKER_FOLDER: Final = "mosquitto"
WAIT_S: Final = 10.0


def register(app: typer.Typer) -> None:
    """Add the command and those beside it."""
    app.add_typer(device_app, name="device")


@device_app.command(short_help="Have a device do something, and see its answer.")
def command(  # noqa: PLR0913 - one flag each
    device: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is to do, in its own words.")],
    *,
    argument: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="With what; a number, true, false, null, or text.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            parser=duration,
            metavar="TIME",
            help="How long to wait; after that it is not begun any more. [default: 10s]",
        ),
    ] = None,
    command_id: Annotated[
        str | None, typer.Option("--id", help="Id of the command; the same again is done once. [default: drawn]")
    ] = None,
    device_class: Class = None,
    site: SiteCode = None,
    data: Data = None,
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Broker. [default: that to which ingest is connected]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Publish a command to a device and print its answer. Exit status 1 if it refuses, or does not answer in time."""
    from api.commands import LONGEST_S, Commander, CommandNotSentError, Outcome  # noqa: PLC0415 - by who sends one

    wait_s = WAIT_S if timeout is None else timeout
    if not 1 <= wait_s <= LONGEST_S:
        raise typer.BadParameter(f"{wait_s:g} s: expected 1 s to {LONGEST_S:g} s", param_hint="--timeout")
    args = dict(map(_argument, argument or ()))
    settings = settings_with(broker, data=data, site=site)
    # Read-only first: that refuses a data folder that is not there.
    with registry_of(settings, read_only=True) as registry, registry_of(settings, read_only=False) as audit:
        key = known_key(registry, settings, device, device_class)
        with closing(Look(registry, settings)) as look:
            try:
                commander = Commander(_address(settings, look), audit, time.time_ns)
                sending = commander.send(key, name, args, wait_s=wait_s, actor=actor(), command_id=command_id)
                sent = asyncio.run(sending)
            except CommandNotSentError as error:
                typer.echo(f"quayflow: not sent: {error}", err=True)
                raise typer.Exit(FAILED if error.refused else UNREACHABLE) from None
            except ValueError as error:
                typer.echo(f"quayflow: {error}", err=True)
                raise typer.Exit(USAGE) from None
            verdict = look.health(key).verdict
    if as_json:
        typer.echo(msgspec.json.encode(sent).decode())
    else:
        _show(key, sent, verdict)
    raise typer.Exit(0 if sent.outcome is Outcome.DONE else FAILED)


def _show(key: DeviceKey, sent: "Sent", verdict: str) -> None:
    match str(sent.outcome):
        case "done":
            typer.secho(f"✔ {key.uid} has done {sent.name}", fg="green")
        case "refused":
            typer.secho(f"✘ {key.uid} has not done {sent.name}: {sent.detail}", fg="red")
        case _:
            typer.secho(f"✘ {key.uid}: {sent.detail}", fg="red")
            typer.echo(f"  the device: {verdict}")
    for fact, value in sent.data.items():
        typer.echo(f"  {fact:<20} {json.dumps(value)}")
    typer.echo(f"  id {sent.id}")


def _argument(text: str) -> tuple[str, Scalar]:
    """Return name and value of ``k=v``: a JSON scalar where it is one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r}: expected a name, = and a value, such as hz=5", param_hint="--argument")
    try:
        return name, msgspec.json.decode(value.encode(), type=Scalar)
    except msgspec.MsgspecError:
        return name, value


def _address(settings: Settings, look: Look) -> "BrokerAddress":
    """Return the broker that ingest is connected to, or that of the settings where they name one.

    ValueError where a file that TLS needs cannot be used.
    """
    from api.commands import BrokerAddress  # noqa: PLC0415 - as above
    from quayflow.broker_access import SECRETS  # noqa: PLC0415 - as above

    named = {"broker_host", "broker_port"} & settings.model_fields_set
    host, port = (
        (settings.broker_host, settings.broker_port)
        if named
        else broker_address(look.workers(), (settings.broker_host, settings.broker_port))
    )
    username, password = settings.broker_username, settings.broker_password
    kept = settings.data / BROKER_FOLDER / SECRETS
    if username is None and kept.exists():
        # The broker that quayflow starts asks for credentials; who may read this file may use those of the API.
        username, password = API, json.loads(kept.read_bytes()).get(API)
    said = settings.broker_tls or settings.tls
    tls = said if named else speaks_tls(look.workers(), otherwise=said)
    try:
        return BrokerAddress(
            host=host,
            port=port,
            username=username,
            password=password,
            tls=tls_context_of(settings) if tls else None,
        )
    except OSError as error:
        raise ValueError(str(error)) from None


def tls_context_of(settings: Settings) -> ssl.SSLContext:
    """Return how TLS to the broker of the settings is spoken; OSError where a file cannot be used."""
    made = settings.data / TLS_FOLDER / "ca.pem"
    ca_file = settings.broker_ca_file or (made if made.exists() else None)
    return tls_context(ca_file, settings.broker_cert_file, settings.broker_key_file)

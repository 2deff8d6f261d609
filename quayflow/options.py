"""Options that several commands have."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from devices.times import format_rfc3339, parse_rfc3339

UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration(text: str) -> float:
    """Parse ``60``, ``60s``, ``5m`` or ``1h`` into seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text.strip())
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r}: expected a duration above 0 such as 60s, 5m or 1h")
    return float(found[1]) * UNITS_S[found[2] or "s"]


def written(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written, before the work whose result it is to hold."""
    if path is None or (path.exists() and not (path.is_file() or path.is_dir())):
        return path
    there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise typer.BadParameter(f"{str(path)!r} cannot be written: {error.strerror or error}") from None
    if not there:
        path.unlink()
    return path


def time_of(text: str) -> int:
    """Parse an RFC 3339 time given on the command line."""
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def refuse_backwards(start: int | None, end: int | None) -> None:
    """Refuse a range that ends before it begins; ends with status 2."""
    if start is not None and end is not None and end < start:
        raise typer.BadParameter(
            f"{format_rfc3339(end)} is before --from {format_rfc3339(start)}: expected a later time", param_hint="--to"
        )


Data = Annotated[Path | None, typer.Option(help="Folder of journal and store. [default: quayflow-data]")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port of the API; 0 takes a free one. [default: 8080]")
]
BrokerPort = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port for the broker; 0 takes a free one. [default: 1883 or free]")
]
ExternalBroker = Annotated[
    str | None, typer.Option("--broker", metavar="HOST:PORT", help="Use this broker instead of starting Mosquitto.")
]
For = Annotated[
    float | None,
    typer.Option("--for", parser=duration, metavar="TIME", help="Stop after this, such as 60s. [default: at Ctrl-C]"),
]
Profile = Annotated[str | None, typer.Option(help="Name or file of the port's profile. [default: small]")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the simulated port. [default: 7]")]
Open = Annotated[
    bool | None, typer.Option("--open/--no-open", help="Open the page in a browser. [default: on a terminal]")
]
Secure = Annotated[bool | None, typer.Option("--secure", help="Ask for credentials; each device may do only its own.")]
Tls = Annotated[bool | None, typer.Option("--tls", help="Speak TLS, with certificates made in the data folder.")]
Listen = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Listen here, with --secure and --tls. [default: 127.0.0.1]"),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print results as JSON on standard output, all else on standard error.")
]
Broker = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Broker. [default: 127.0.0.1:1883]")]
From = Annotated[int | None, typer.Option("--from", parser=time_of, metavar="TIME", help="Received at or after this.")]
To = Annotated[int | None, typer.Option("--to", parser=time_of, metavar="TIME", help="Received before this.")]

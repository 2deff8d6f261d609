"""`quayflow decode`: one message of any format, as samples and events in the vocabulary's names."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from devices.codecs.readings import Reading
from devices.codecs.registry import CODECS, STRICT, make_codec
from devices.rejects import Reason, Reject, RejectError
from devices.times import format_rfc3339
from devices.vocabulary import BY_NAME
from quayflow.failures import FAILED

LAST_NS: Final = 253_402_300_800 * 10**9
"""The first instant that has no four-digit year, ns."""
ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000))}
"""What a device may send and a terminal would obey or a reader of lines take as the end of one, and half characters."""

Name = Annotated[str, typer.Option("--codec", metavar="NAME", help=f"Wire format: {', '.join(CODECS)}.")]
Topic = Annotated[str, typer.Option(metavar="T", help="Topic on which the message came, where the format needs it.")]
Zone = Annotated[str, typer.Option(metavar="Z", help="Offset of times without a zone, such as +08:00.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse what could be read in spite of its faults, instead of flagging it.")
]
Hex = Annotated[str | None, typer.Option("--hex", metavar="H", help="The message as hexadecimal digits.")]
File = Annotated[
    Path | None, typer.Option(metavar="F", exists=True, dir_okay=False, readable=True, help="File with the message.")
]
Stdin = Annotated[Literal["-"] | None, typer.Argument(metavar="[-]", help="Read the message from standard input.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines alone, also for a reject.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(decode)


def decode(  # noqa: PLR0913 - the options
    source: Stdin = None,
    *,
    codec: Name,
    topic: Topic = "",
    zone: Zone = "",
    strict: Strict = False,
    digits: Hex = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Print what a message says as JSON lines; exit status 1 and the reason where it cannot be used."""
    try:
        decoder = make_codec(codec, zone, strict=strict)
    except ValueError as error:
        hint = "--codec" if codec not in CODECS else "--strict" if strict and codec not in STRICT else "--zone"
        raise typer.BadParameter(str(error), param_hint=hint) from None
    payload = _payload(source, digits, file)
    try:
        readings = decoder.decode(payload, topic)
    except RejectError as error:
        typer.echo(json.dumps({"codec": codec, "reject": error.reject._asdict()}))
        if not as_json:
            typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(FAILED) from None
    for reading in readings:
        typer.echo(json.dumps({"codec": codec} | line_of(reading), ensure_ascii=False).translate(ESCAPES))


def line_of(reading: Reading) -> dict[str, Any]:
    """Return a reading as plain values without what is empty; values out of their range are among the refused."""
    values, refused = _within_range(reading)
    line = {
        "device": reading.device,
        "class": reading.device_class,
        "time": _text(reading.ts),
        "ts": reading.ts,
        "boot": reading.boot,
        "seq": reading.seq,
        "values": values,
        "events": [{"type": each.type, "data": each.data} for each in reading.happenings],
        "online": reading.online,
        "unknown": reading.unknown,
        "refused": [reject._asdict() for reject in refused],
        "info": reading.info,
        "flags": list(reading.flags),
    }
    # 0 and false are said, what is not there is not.
    return {name: value for name, value in line.items() if value is not None and value not in ("", [], {})}


def _payload(source: str | None, digits: str | None, file: Path | None) -> bytes:
    if sum(given is not None for given in (source, digits, file)) != 1:
        raise typer.BadParameter("expected one of --hex H, --file F and -")
    if digits is not None:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            raise typer.BadParameter("expected pairs of hexadecimal digits", param_hint="--hex") from None
    return file.read_bytes() if file is not None else sys.stdin.buffer.read()


def _within_range(reading: Reading) -> tuple[dict[str, float | bool], list[Reject]]:
    """Split the values as ingest will: into those that it takes, and the others with the reason."""
    values: dict[str, float | bool] = {}
    refused = list(reading.refused)
    for name, value in reading.values.items():
        metric, where = BY_NAME[name], f"/values/{name}"
        if not math.isfinite(value):
            refused.append(Reject(Reason.NOT_FINITE, where, f"{value} is not a finite number"))
        elif not metric.minimum <= value <= metric.maximum:
            detail = f"{value:g} {metric.unit}: expected {metric.minimum:g} to {metric.maximum:g}"
            refused.append(Reject(Reason.OUT_OF_RANGE, where, detail))
        else:
            values[name] = value
    return values, refused


def _text(ts: int | None) -> str | None:
    # A device may claim any time; one that no calendar can show is printed as a number alone.
    return format_rfc3339(ts) if ts is not None and 0 <= ts < LAST_NS else None

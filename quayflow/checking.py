"""`quayflow check`: does a device say what quayflow understands; a report with pointers, before it is put into service.

The messages run through the very pipeline of ingest, in memory: what it would refuse is what the report names.
"""

import asyncio
import base64
import binascii
import difflib
import html
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import aiomqtt
import msgspec
import numpy as np
import typer

from devices.filters import fault_of
from devices.rejects import Reason
from devices.times import NS, parse_rfc3339
from devices.topics import DeviceKey, Stream, TopicError, parse, topic_of
from devices.vocabulary import DeviceClass, accepted_from
from ingest.pipeline import Pipeline, PipelineConfig
from quayflow.failures import FAILED, UNREACHABLE
from quayflow.options import Broker, For, written
from quayflow.parts import broker_of
from quayflow.settings import Settings
from store.interface import QuarantineRecord
from store.journal import Frame

DEFAULT_S: Final = 60.0
SKEW_S: Final = 10.0
"""Median difference of clocks that is worth a warning, s."""
PLACEHOLDER: Final = "CHECKED"
"""Id of the device for payloads that come without a topic."""
CHECKS: Final = {
    Reason.IDENTITY_MISMATCH: "identity",
    Reason.UNKNOWN_TOPIC: "identity",
    Reason.UNKNOWN_METRIC: "names",
    Reason.OUT_OF_RANGE: "ranges",
    Reason.NOT_FINITE: "ranges",
    Reason.CLOCK_FUTURE: "clock",
    Reason.CLOCK_UNSET: "clock",
    Reason.SEQUENCE_TOO_OLD: "sequence",
}
"""Reason for refusal → what of the conformance it concerns; ``payload`` for the others."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message to judge, received at ``recv_ts`` ns UTC."""

    topic: str
    payload: bytes
    recv_ts: int


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be."""

    severity: str
    """``error`` or ``warning``; errors decide the exit status."""
    check: str
    """identity, clock, rate, sequence, names, units, ranges or payload."""
    topic: str
    pointer: str
    detail: str
    count: int = 1


class Report(msgspec.Struct):
    """What was found of the messages of one check."""

    source: str
    device_class: str
    messages: int
    devices: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def conforms(self) -> bool:
        """Whether there is nothing that would lose a value."""
        return self.messages > 0 and not any(each.severity == "error" for each in self.findings)


@dataclass(slots=True)
class _Device:
    """What is counted of one device."""

    times: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    numbered: int = 0
    messages: int = 0


def judge(messages: list[Message], device_class: DeviceClass, source: str) -> Report:
    """Run messages through the pipeline of ingest and return what it makes of them."""
    pipeline = Pipeline("check", 1, PipelineConfig())
    devices: dict[str, _Device] = {}
    findings: list[Finding] = []
    for at, message in enumerate(messages):
        pipeline.process([Frame(at, message.recv_ts, 1, 1, message.topic, message.payload)])
        try:
            key, _ = parse(message.topic)
        except TopicError:
            continue
        _note(devices.setdefault(key.uid, _Device()), message)
    findings += _refusals(pipeline.take_quarantine(), device_class)
    rows = []
    for uid, counted in devices.items():
        key = DeviceKey.from_uid(uid)
        if key.device_class != device_class:
            detail = f"the topic says {key.device_class}, expected {device_class}"
            findings.append(Finding("error", "identity", topic_of(key, Stream.TELEMETRY), "", detail, counted.messages))
        entry = pipeline.directory.device(key)
        row = _row(uid, counted, entry.tracker.lost)
        rows.append(row)
        findings += _of_device(key, counted, row)
    return Report(source, device_class, len(messages), rows, sorted(findings, key=_rank))


def _note(device: _Device, message: Message) -> None:
    device.messages += 1
    device.received.append(message.recv_ts)
    body = _body(message.payload)
    device.numbered += isinstance(body.get("seq"), int) and isinstance(body.get("boot"), int)
    ts = body.get("ts", body.get("t0"))
    try:
        if isinstance(ts, int) and not isinstance(ts, bool):
            device.times.append(ts)
        elif isinstance(ts, str):
            device.times.append(parse_rfc3339(ts))
    except ValueError:
        return


def _body(payload: bytes) -> dict[Any, Any]:
    """Return a payload's fields, {} where it is no map; whatever is wrong with it, the pipeline says."""
    try:
        body = msgspec.json.decode(payload) if payload[:1] == b"{" else msgspec.msgpack.decode(payload)
    except Exception:  # noqa: BLE001 - decoders raise RecursionError, UnicodeDecodeError and more on bad input
        return {}
    return body if isinstance(body, dict) else {}


def _refusals(records: list[QuarantineRecord], device_class: DeviceClass) -> Iterator[Finding]:
    """Yield one finding per place and reason, with how often it was met."""
    counts: Counter[tuple[str, str, str]] = Counter()
    first: dict[tuple[str, str, str], QuarantineRecord] = {}
    for record in records:
        place = (record.reason, record.topic, record.pointer)
        counts[place] += 1
        first.setdefault(place, record)
    for place, count in counts.items():
        record = first[place]
        reason = Reason(record.reason)
        check, detail = CHECKS.get(reason, "payload"), record.detail
        if reason is Reason.UNKNOWN_METRIC:
            name = record.pointer.rpartition("/")[2]
            hint = _like(name, device_class)
            check = "units" if hint and hint.rpartition("_")[0] == name.rpartition("_")[0] else check
            detail += f"; did you mean {hint}?" if hint else ""
        yield Finding("error", check, record.topic, record.pointer, f"{record.reason}: {detail}", count)


def _like(name: str, device_class: DeviceClass) -> str:
    """Return the metric whose name is most like ``name``: its own in another unit first, "" if none is."""
    known = list(accepted_from(device_class))
    same = [each for each in known if each.rpartition("_")[0] == name.rpartition("_")[0] and "_" in name]
    return next(iter(same or difflib.get_close_matches(name, known, 1)), "")


def _row(uid: str, device: _Device, lost: int) -> dict[str, Any]:
    span_s = (max(device.received) - min(device.received)) / NS
    skews = np.array(device.received[: len(device.times)], np.int64) - np.array(device.times, np.int64)
    return {
        "uid": uid,
        "messages": device.messages,
        "rate_hz": round((device.messages - 1) / span_s, 3) if span_s > 0 else None,
        "skew_s": round(float(np.median(skews)) / NS, 3) if len(device.times) == device.messages else None,
        "numbered": device.numbered,
        "missing": lost,
    }


def _of_device(key: DeviceKey, device: _Device, row: dict[str, Any]) -> Iterator[Finding]:
    where = topic_of(key, Stream.TELEMETRY)
    if device.numbered < device.messages:
        detail = "messages without boot and seq: repetitions and losses cannot be told for sure"
        yield Finding("warning", "sequence", where, "/seq", detail, device.messages - device.numbered)
    if row["missing"]:
        yield Finding(
            "warning", "sequence", where, "/seq", "numbers missing between the first and the last", row["missing"]
        )
    if len(device.times) < device.messages:
        detail = "messages without a time: that of receipt counts"
        yield Finding("warning", "clock", where, "/ts", detail, device.messages - len(device.times))
    if row["skew_s"] is not None and abs(row["skew_s"]) > SKEW_S:
        detail = f"the clock is {abs(row['skew_s']):.1f} s {'behind' if row['skew_s'] > 0 else 'ahead'}"
        yield Finding("warning", "clock", where, "/ts", detail, device.messages)
    gaps = np.diff(np.sort(np.array(device.received, np.int64))) / NS
    if len(gaps) > 2 and gaps.max() > 10 * max(float(np.median(gaps)), 0.001):  # noqa: PLR2004 - three messages
        detail = f"a pause of {gaps.max():.1f} s among messages every {np.median(gaps):.2f} s"
        yield Finding("warning", "rate", where, "", detail)


def _rank(finding: Finding) -> tuple[bool, str, str, str]:
    return finding.severity != "error", finding.check, finding.topic, finding.pointer


def read_file(path: Path, device_class: DeviceClass, site: str) -> list[Message]:
    """Return the messages of a file of JSON lines: payloads, or lines as ``quayflow journal cat`` writes them.

    ValueError names the line that is neither.
    """
    messages: list[Message] = []
    # One for all: a file without times says nothing of a rate.
    now = time.time_ns()
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        tree = _body(line)
        if isinstance(tree.get("topic"), str) and "payload" in tree:
            messages.append(_recorded(tree, number, now))
            continue
        stream = Stream.EVENT if "type" in tree else Stream.STATUS if "online" in tree else Stream.TELEMETRY
        key = DeviceKey(site, device_class, str(tree.get("device", PLACEHOLDER)))
        messages.append(Message(topic_of(key, stream), line, _time_in(tree, now)))
    return messages


def _recorded(tree: dict[Any, Any], number: int, now: int) -> Message:
    payload, ts = tree["payload"], tree.get("ts")
    try:
        content = base64.b64decode(payload, validate=True) if isinstance(payload, str) else json.dumps(payload).encode()
    except (binascii.Error, ValueError):
        raise ValueError(f"line {number}: payload: expected base64 or an object") from None
    if ts is not None and (not isinstance(ts, int) or isinstance(ts, bool)):
        raise ValueError(f"line {number}: ts: expected nanoseconds since 1970 UTC")
    return Message(tree["topic"], content, now if ts is None else ts)


def _time_in(tree: dict[Any, Any], now: int) -> int:
    """Return the time of a payload without a time of receipt: its own, or now."""
    ts = tree.get("ts", tree.get("t0"))
    try:
        found = parse_rfc3339(ts) if isinstance(ts, str) else ts
    except ValueError:
        found = None
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= now else now


async def listen(settings: Settings, topic: str, seconds: float) -> list[Message]:
    """Return what comes on a topic filter within some seconds. MqttError where there is no broker."""
    if fault := fault_of(topic):
        raise ValueError(fault)
    messages: list[Message] = []
    broker = broker_of(settings)
    async with aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username,
        password=broker.password,
        protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=broker.tls_context(),
    ) as client:
        await client.subscribe(topic, qos=1)
        try:
            async with asyncio.timeout(seconds):
                async for message in client.messages:
                    if not message.retain:
                        messages.append(  # noqa: PERF401 - until time is over
                            Message(str(message.topic), bytes(message.payload), time.time_ns())
                        )
        except TimeoutError:
            return messages
    return messages


def check(
    source: Annotated[str, typer.Argument(metavar="FILE|TOPIC", help="File of JSON lines, or a topic filter.")],
    *,
    device_class: Annotated[DeviceClass, typer.Option("--as", help="What the device is.")],
    duration_s: For = None,
    broker: Broker = None,
    site: Annotated[str | None, typer.Option(help="Site of payloads without a topic. [default: CNNGB-DEMO]")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", callback=written, help="Write the report as a page, too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Judge what a device sends: identity, clock, rate, sequence, names, units, ranges. Exit status 1 if it fails."""
    from quayflow.main import settings_of  # noqa: PLC0415 - main registers this module

    settings = settings_of(broker, site=site)
    try:
        if Path(source).is_file():
            messages = read_file(Path(source), device_class, settings.site)
        else:
            messages = asyncio.run(listen(settings, source, duration_s or DEFAULT_S))
    except ValueError as error:
        typer.echo(f"quayflow: {source}: {error}", err=True)
        raise typer.Exit(2) from None
    except (aiomqtt.MqttError, OSError) as error:
        where = f"{settings.broker_host}:{settings.broker_port}"
        typer.echo(f"quayflow: {source} is no file, and the broker at {where} cannot be asked: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    report = judge(messages, device_class, source)
    if page is not None:
        page.write_text(as_page(report), encoding="utf-8")
    if as_json:
        document = {**msgspec.to_builtins(report), "conforms": report.conforms}
        typer.echo(json.dumps(document))
    else:
        typer.echo("\n".join(as_lines(report)))
    raise typer.Exit(0 if report.conforms else FAILED)


def as_lines(report: Report) -> Iterator[str]:
    """Yield the report for a terminal."""
    for row in report.devices:
        rate = "-" if row["rate_hz"] is None else f"{row['rate_hz']:g}/s"
        skew = "-" if row["skew_s"] is None else f"{row['skew_s']:g} s"
        yield f"{row['uid']}: {row['messages']} messages, {rate}, skew {skew}, {row['missing']} missing"
    for each in report.findings:
        sign = "✘" if each.severity == "error" else "!"
        yield f"{sign} {each.check:<9} {each.topic} {each.pointer or '/'} ({each.count}): {each.detail}"
    if not report.messages:
        yield "✘ no message came"
    verdict = "conforms" if report.conforms else "does NOT conform"
    yield f"{report.messages} messages: {verdict} as {report.device_class}"


def as_page(report: Report) -> str:
    """Return the report as a page that needs no other file."""
    rows = "".join(
        f"<tr class={each.severity}><td>{each.severity}<td>{each.check}<td><code>{html.escape(each.topic)}</code>"
        f"<td><code>{html.escape(each.pointer or '/')}</code><td>{each.count}<td>{html.escape(each.detail)}</tr>"
        for each in report.findings
    )
    devices = "".join(
        f"<tr><td><code>{html.escape(row['uid'])}</code><td>{row['messages']}<td>{row['rate_hz']}"
        f"<td>{row['skew_s']}<td>{row['numbered']}<td>{row['missing']}</tr>"
        for row in report.devices
    )
    verdict = "conforms" if report.conforms else "does not conform"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Conformance</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem}td,th{text-align:left;padding:.2rem .8rem .2rem 0;"
        "vertical-align:top;border-bottom:1px solid #ccd}.error td:first-child{color:#b00020}</style>"
        f"<h1>{html.escape(report.source)} {verdict} as {report.device_class}</h1>"
        f"<p>{report.messages} messages</p><table><tr><th>device<th>messages<th>per second<th>skew, s<th>numbered"
        f"<th>missing</tr>{devices}</table><table><tr><th><th>check<th>topic<th>pointer<th>times<th></tr>{rows}</table>"
    )

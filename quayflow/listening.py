"""Terminals that speak TCP, judged as they come: `quayflow check --listen` answers them as the gateway of ingest does.

It is that gateway, with a judge in place of the journal: a reply is sent once its frame has been judged. What a
terminal was refused, or how its connection ended, no frame tells, so that is among the findings too.
"""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import typer

from ingest.gateway import KEY_BYTES, KEY_FILE, Gateway
from ingest.packets import Message as Delivered
from quayflow.captures import Message
from quayflow.conformance import ERROR, NOTE, WARNING, Finding, Judging, Report, rank
from quayflow.parts import gateway_config_of
from quayflow.settings import Settings
from store.admission import Admission

SPOKEN: Final = ("jt808", "teltonika")
"""Formats in which the gateway converses."""
LAST_PORT: Final = 65_535
REFUSED: Final = {
    "wrong_code": (WARNING, "identity", "it authenticated (0x0102) with a code that it was not given here"),
    "not_authenticated": (WARNING, "identity", "it reported before it had authenticated (0x0102)"),
    "not_registered": (ERROR, "identity", "the registry does not let it speak"),
    "other_phone": (ERROR, "identity", "another phone number than the one that has authenticated on the connection"),
    "undecodable": (ERROR, "payload", "what it sent is no frame of the format"),
    "damaged": (WARNING, "payload", "a checksum or a head is wrong; the frame is expected again"),
}
"""Why the gateway took a frame not → how bad it is, what it concerns, and what it means."""
CLOSED: Final = {
    "no_introduction": (ERROR, "identity", "it connected and did not say who it is"),
    "half_frame": (ERROR, "payload", "a frame did not become whole"),
    "not_reading": (WARNING, "payload", "it does not read the replies"),
    "silent": (WARNING, "rate", "it said nothing for so long that it was taken for gone"),
    "replaced": (NOTE, "identity", "a second connection under the same number took the place of the first"),
    "too_many": (ERROR, "payload", "more connections than are allowed"),
}
"""Why a connection was ended here → the same."""


@dataclass(frozen=True, slots=True)
class Terminals:
    """Where terminals are listened for."""

    host: str
    """Address to listen on, "" for that of the settings."""
    port: int
    """TCP port, 0 for a free one."""
    codec: str
    """What they speak, one of :data:`SPOKEN`."""

    @classmethod
    def at(cls, address: str, codec: str) -> Self:
        """Return where ``[HOST:]PORT`` is; ValueError where that cannot be listened on."""
        host, _, number = address.rpartition(":")
        if not (number.isascii() and number.isdigit() and int(number) <= LAST_PORT):
            raise ValueError(f"--listen {address[:64]!r}: expected PORT or HOST:PORT, such as 6808 or 0.0.0.0:6808")
        if codec not in SPOKEN:
            raise ValueError(f"--listen needs --codec {' or --codec '.join(SPOKEN)}: what the terminals speak")
        return cls(host.removeprefix("[").removesuffix("]"), int(number), codec)

    def settings(self, settings: Settings) -> Settings:
        """Return the settings with the gateway here and nowhere else."""
        ports = {f"{codec}_port": self.port if codec == self.codec else None for codec in SPOKEN}
        return settings.model_copy(update={**ports, "gateway_host": self.host or settings.gateway_host})


async def listen(
    terminals: Terminals, settings: Settings, seconds: float, judging: Judging, admission: Admission
) -> Report:
    """Answer and judge the terminals that connect within some seconds, or until SIGINT.

    Raises GatewayError where it cannot listen.
    """
    config = gateway_config_of(terminals.settings(settings))
    if config is None:
        raise ValueError("no port to listen on")
    heard: set[str] = set()

    async def judge(messages: Sequence[Delivered]) -> bool:
        """Take what the gateway would have made durable."""
        now = time.time_ns()
        judging.take([Message(each.topic, each.payload, now) for each in messages])
        for topic in dict.fromkeys(each.topic for each in messages):
            if topic not in heard:
                heard.add(topic)
                typer.echo(f"{topic}: speaks", err=True)
        return True

    gateway = Gateway(config, _key_in(settings.data), judge, time.time_ns, admission)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await gateway.listen()
    (port,) = gateway.ports.values()
    until = "; Ctrl-C ends it earlier" if sys.stderr.isatty() else ""
    typer.echo(f"listening on {config.host}, port {port}, for {seconds:g} s{until}", err=True)
    asyncio.get_running_loop().call_later(seconds, stop.set)
    await gateway.run(stop)
    report = judging.report(f"port {port}")
    report.findings = sorted([*report.findings, *_findings(gateway)], key=rank)
    return report


def _key_in(folder: Path) -> bytes:
    """Return the key of the data folder, under which the terminals' codes stay good; else one for this time only."""
    path = folder / KEY_FILE
    return path.read_bytes() if path.is_file() else secrets.token_bytes(KEY_BYTES)


def _findings(gateway: Gateway) -> list[Finding]:
    """Return what the gateway refused and why it ended connections."""
    found = []
    for meanings, counts in ((REFUSED, gateway.refused), (CLOSED, gateway.closed)):
        for reason, count in counts.items():
            if reason in meanings:
                severity, check, meaning = meanings[reason]
                found.append(Finding(severity, check, "", "", f"{reason}: {meaning}", count))
    if gateway.garbage:
        found.append(Finding(WARNING, "payload", "", "", "bytes that belong to no frame", gateway.garbage))
    if gateway.parts_given_up:
        found.append(Finding(WARNING, "payload", "", "", "messages that did not become whole", gateway.parts_given_up))
    return found

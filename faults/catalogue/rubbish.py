"""Faults of content: what no codec can read, what should blow up a decoder, what is far too large."""

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from faults import ROOT
from faults.api_abuse import abuses, answers, running_api, told
from faults.mutants import Searched, every_codec, mutants, processed
from faults.publisher import SITE, Outgoing, Publisher, readings
from faults.registry import fault
from faults.resident import peak_mb
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import quarantined, until_received, verify

CORPUS: Final = ROOT.parent / "shared" / "fixtures" / "robustness"
STREAMS: Final = ("telemetry", "event", "status")
VALID: Final = {"v": 1, "boot": 7, "seq": 1, "ts": "2026-11-23T08:00:00Z", "m": {"speed_mps": 4.2, "laden": True}}
WHOLE: Final = (json.dumps(VALID).encode(), msgspec.msgpack.encode(VALID))
RSS_MB: Final = 300.0
API_MB: Final = 32.0
"""By how much the API may grow over bodies that it refuses, MB."""
MILLION: Final = 1_000_000


def handmade() -> Iterator[bytes]:
    """Yield payloads made to break decoders."""
    yield b""
    yield b"{"
    yield b'{"v":1,"m":' + b'{"a":' * 100_000
    yield b"[" * 100_000
    yield b"\x91" * 100_000
    yield b"\x81\xa1a" * 50_000
    # An array that claims 2**32 - 1 elements, a map and a binary that do the same, and 1 MiB of empty maps.
    yield b"\xdd\xff\xff\xff\xff"
    yield b"\xdf\xff\xff\xff\xff"
    yield b"\xc6\xff\xff\xff\xff"
    yield b"\xdd" + struct.pack(">I", 1 << 20) + b"\x80" * (1 << 20)
    numbers: list[object] = [float("nan"), float("inf"), -float("inf"), 2**63, 2**64 - 1, -(2**63), True, None, "4.2"]
    for number in (*numbers, [], {}):
        yield msgspec.msgpack.encode({"v": 1, "m": {"speed_mps": number}})
    for text in ("NaN", "Infinity", "-Infinity", "1e999", "18446744073709551616", '"\\ud800"', "\x00"):
        yield f'{{"v":1,"m":{{"speed_mps":{text}}}}}'.encode()
    yield b'{"v":1,"m":{"speed_mps":1},"m":{"speed_mps":2},"m":3}'
    yield b'{"v":1,"type":"\xff\xfe","m":{"speed_mps":1}}'
    yield b'{"v":1,"m":{"\\ud800":1}}'
    yield b"\x82\xa1v\x01\xa1m\xd6\xff\x00\x00\x00\x00"
    yield b"\xef\xbb\xbf" + json.dumps(VALID).encode()
    yield bytes(range(256)) * 256


def recorded() -> Iterator[bytes]:
    """Yield the corpora that lie beside the checkout, nothing where they do not."""
    for path in sorted((CORPUS / "JSONTestSuite").rglob("*.json")):
        yield path.read_bytes()
    with contextlib.suppress(FileNotFoundError):
        for group in json.loads((CORPUS / "msgpack-test-suite.json").read_bytes()).values():
            for case in group:
                for text in case.get("msgpack", ()):
                    yield bytes.fromhex(text.replace("-", ""))
        for text in json.loads((CORPUS / "blns.json").read_bytes()):
            yield text.encode(errors="surrogatepass")
            yield json.dumps({"v": 1, "type": text, "data": {"text": text}}).encode()


@fault(
    "F18",
    "poison-corpus",
    "JSON and msgpack test suites, naughty strings, nesting, bombs, NaN, and one-byte mutations, on every stream",
    "no crash, no growth; every frame ends in one account; what comes between is stored",
)
def poison_corpus(rig: Rig) -> Outcome:
    """Publish everything that ever broke a decoder."""
    payloads = [*handmade(), *recorded(), *mutants(WHOLE, int(rig.scaled(100_000, 3_000)), 18)]
    poison = [
        Outgoing(f"port/{SITE}/vehicle/P-{n % 7}/{STREAMS[n % 3]}", payload, None) for n, payload in enumerate(payloads)
    ]
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        pid = ingest.pid
        began = now()
        with (
            Publisher(broker.port, readings(), 200.0) as publisher,
            Publisher(broker.port, iter(poison), None, name="poison") as poisoner,
        ):
            poisoner.finish()
            publisher.stop()
            until_received(ingest.folder, len(poison) + len(publisher.acked))
            took = now() - began
            alive = ingest.pid == pid
            ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
        reasons = quarantined(ingest.folder)
        tracebacks = ingest.said("Traceback")
    holds = alive and not tracebacks and ingest.peak_rss_mb < RSS_MB and found.quarantined > 0
    words = f"{len(poison)} payloads in {took:.1f} s, {len(reasons)} reasons, {tracebacks} tracebacks"
    return outcome(found, 0.0, ingest.peak_rss_mb, holds=holds, measured=words)


@fault(
    "F18m",
    "mutants",
    "a million valid native messages with one byte changed, taken out or put in, through decode and pipeline",
    "no exception, every one ends in one account; in batches in one process, without a broker",
)
def native_mutants(rig: Rig) -> Outcome:
    """Send the mutants of native messages through the pipeline."""
    return _searched([processed("native", int(rig.scaled(MILLION, 20_000)), 18)])


@fault(
    "F18c",
    "mutants-per-codec",
    "the same against each codec: a million each where the row is asked for by name or number, else 100,000",
    "each is read or refused with a reason, and nothing else",
)
def codec_mutants(rig: Rig) -> Outcome:
    """Hand mutants to every codec."""
    return _searched(every_codec(int(rig.scaled(MILLION if rig.alone else MILLION // 10, 1_000)), 18))


def _searched(found: list[Searched]) -> Outcome:
    """Return the row of mutants; none of them is lost, as none may leave without an account."""
    total, refused = sum(each.mutants for each in found), sum(each.quarantined for each in found)
    wrong = [each.wrong for each in found if each.wrong]
    return Outcome(
        acked=total,
        stored=total - refused,
        lost=0,
        duplicates_stored=0,
        quarantined=refused,
        recovery_s=0.0,
        rss_mb=round(max(each.rss_mb for each in found), 1),
        passed=not wrong,
        measured="; ".join([f"{total:,} mutants, {len(found)} formats", *wrong]),
    )


@fault(
    "F19",
    "oversize",
    "a PUBLISH of 256 MB, payloads of 15 MB; at the API chunks without end, 256 MB announced, a gzip bomb, nesting",
    "the broker hangs up, the API refuses all and keeps none of it; what is no telemetry is quarantined by its head",
)
def oversize(rig: Rig) -> Outcome:
    """Send what is far too large."""
    with rig.broker() as broker, rig.ingest(broker.port) as ingest:
        ingest.start()
        with Publisher(broker.port, readings(), 200.0) as publisher:
            rig.recovered(ingest, 100, now())
            before = peak_mb(ingest.pid)
            sent = _send_endlessly(broker.port, 256 << 20)
            topic = f"port/{SITE}/vehicle/P-0/telemetry"
            large = [Outgoing(topic, bytes([nth]) * (15 << 20), None) for nth in (0x7B, 0x93, 0xC6)]
            with Publisher(broker.port, iter(large), None, name="large") as heavy:
                heavy.finish()
            result_rss = peak_mb(ingest.pid) - before
            with running_api(ingest.folder, rig.folder / "api.log") as (port, pid):
                before = peak_mb(pid)
                abused = abuses(port)
                api_rss, well = peak_mb(pid) - before, answers(port)
            publisher.stop()
            until_received(ingest.folder, len(publisher.acked) + len(large))
            ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
    refused = all(400 <= each.status < 500 for each in abused)  # noqa: PLR2004 - refusals
    holds = found.quarantined == len(large) and ingest.peak_rss_mb < RSS_MB and sent < 256 << 20
    words = (
        f"{sent >> 20} MB of 256 taken by the broker, ingest grew by {result_rss:.0f} MB for 15 MB payloads; "
        f"the API took {max(each.taken for each in abused) >> 20} MB at most, grew by {api_rss:.0f} MB: {told(abused)}"
    )
    holds = holds and refused and well and api_rss < API_MB
    return outcome(found, 0.0, ingest.peak_rss_mb, holds=holds, measured=words)


def _send_endlessly(port: int, size: int) -> int:
    """Announce a packet of ``size`` bytes and send it until the broker hangs up; return how much it took."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04huge")
        connection.recv(4)
        with contextlib.suppress(OSError):
            connection.sendall(b"\x30\xff\xff\xff\x7f\x00\x04port")
            while sent < size:
                sent += connection.send(bytes(1 << 20))
    return sent

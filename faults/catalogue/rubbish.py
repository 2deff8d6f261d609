"""Faults of content: what no codec can read, what should blow up a decoder, what is far too large."""

import contextlib
import json
import random
import socket
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from faults import ROOT
from faults.publisher import SITE, Outgoing, Publisher, readings
from faults.registry import fault
from faults.resident import peak_mb
from faults.rig import Outcome, Rig, now, outcome
from faults.verifier import quarantined, until_received, verify

CORPUS: Final = ROOT.parent / "shared" / "fixtures" / "robustness"
STREAMS: Final = ("telemetry", "event", "status")
VALID: Final = {"v": 1, "boot": 7, "seq": 1, "ts": "2026-11-23T08:00:00Z", "m": {"speed_mps": 4.2, "laden": True}}
RSS_MB: Final = 300.0


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


def mutated(count: int) -> Iterator[bytes]:
    """Yield valid payloads with one byte changed, taken out or put in."""
    dice = random.Random(18)
    whole = (json.dumps(VALID).encode(), msgspec.msgpack.encode(VALID))
    for _ in range(count):
        payload = bytearray(dice.choice(whole))
        at = dice.randrange(len(payload))
        match dice.randrange(3):
            case 0:
                payload[at] = dice.randrange(256)
            case 1:
                del payload[at]
            case _:
                payload.insert(at, dice.randrange(256))
        yield bytes(payload)


@fault(
    "F18",
    "poison-corpus",
    "JSON and msgpack test suites, naughty strings, nesting, bombs, NaN, and one-byte mutations, on every stream",
    "no crash, no growth; every frame ends in one account; what comes between is stored",
)
def poison_corpus(rig: Rig) -> Outcome:
    """Publish everything that ever broke a decoder."""
    payloads = [*handmade(), *recorded(), *mutated(int(rig.scaled(100_000, 3_000)))]
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
    "F19",
    "oversize",
    "a PUBLISH of 256 MB, and payloads of 15 MB that are no telemetry",
    "the first is refused by the broker before it is read, the others are quarantined by their head",
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
            publisher.stop()
            until_received(ingest.folder, len(publisher.acked) + len(large))
            ingest.terminate()
        found = verify(ingest.folder, publisher.acked)
    holds = found.quarantined == len(large) and ingest.peak_rss_mb < RSS_MB and sent < 256 << 20
    words = f"{sent >> 20} MB of 256 taken by the broker, ingest grew by {result_rss:.0f} MB for 15 MB payloads"
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

"""Journals made for tests: a clock that stands, and the messages in them."""

from pathlib import Path

from devices.times import parse_rfc3339
from store.journal import Frame, JournalConfig, JournalWriter, encode

NOW = parse_rfc3339("2026-11-23T08:15:30Z")
TOPICS = tuple(f"port/CNNGB-DEMO/vehicle/T-{number:03d}/telemetry" for number in range(5))


def writer_of(folder: Path, **config: float) -> JournalWriter:
    return JournalWriter(JournalConfig(folder, **config), lambda: NOW)  # type: ignore[arg-type]


def append(writer: JournalWriter, messages: list[tuple[str, bytes, int]], recv_ts: int = NOW) -> list[Frame]:
    batch = encode(writer.begin(), recv_ts, 7, messages)
    writer.append(batch.blob, len(messages))
    return batch.frames


def fleet_journal(folder: Path, batches: int = 30, **config: float) -> list[Frame]:
    """A journal in which each batch, received 1 s after the one before, holds a message of every vehicle but one."""
    writer = writer_of(folder, **config)
    frames = []
    for nth in range(batches):
        topics = [topic for at, topic in enumerate(TOPICS) if at != nth % len(TOPICS)]
        messages = [(topic, b'{"v":1,"m":{"speed_mps":%d}}' % nth, 1) for topic in topics]
        frames += append(writer, messages, NOW + nth * 1_000_000_000)
    writer.close()
    return frames

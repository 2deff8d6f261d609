"""What a replay takes from journals and files: filters, clones, passes, and what is damaged."""

import asyncio
import math
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_journal import NOW, TOPICS, append, fleet_journal, writer_of

from devices.codecs.native import Block, Telemetry, decode_block, decode_telemetry, encode
from devices.times import NS
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.subscriber import eventually, received
from faults.publisher import Outgoing, Publisher
from simulators.broker import Broker
from simulators.moving import clone_of, moved
from simulators.recorder import RecordConfig
from simulators.recorder import run as record
from simulators.recording import Choice, open_recording
from simulators.replay import ReplayConfig, ReplayResult, run
from simulators.tracks import RecordingError
from store.journal import Compressor, list_segments, read

SITE = "CNNGB-DEMO"


def entries_of(path: Path, **choice: object) -> list[tuple[str, bytes]]:
    recording = open_recording(path, Choice(**choice), SITE)  # type: ignore[arg-type]
    entries = list(recording.entries())
    assert recording.messages == len(entries) == sum(voice.messages for voice in recording.voices)
    assert list(recording.entries()) == entries
    assert [entry.ts for entry in entries] == sorted(entry.ts for entry in entries)
    return [(entry.topic, entry.content) for entry in entries]  # type: ignore[misc]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_journal_is_replayed_by_topic_device_and_time(tmp_path: Path, compressed: bool) -> None:
    journal = tmp_path / "data" / "journal"
    frames = fleet_journal(journal, segment_bytes=3_000)
    if compressed:
        Compressor(journal, threading.Lock(), 400).work()

    def these(*, topics: set[str] | None = None, start: int = 0, end: int = 2**63) -> list[tuple[str, bytes]]:
        return [
            (each.topic, each.payload)
            for each in frames
            if (topics is None or each.topic in topics) and start <= each.recv_ts < end
        ]

    assert entries_of(tmp_path / "data") == entries_of(journal) == these()
    assert entries_of(journal, devices=("T-00[13]",)) == these(topics={TOPICS[1], TOPICS[3]})
    assert entries_of(journal, topics=("port/+/vehicle/T-002/#",)) == these(topics={TOPICS[2]})
    start, end = NOW + 3 * NS, NOW + 9 * NS
    assert entries_of(journal, from_ns=start, to_ns=end, limit=11) == these(start=start, end=end)[:11]
    first_two = {frames[0].topic, frames[1].topic}
    assert entries_of(journal, limit_devices=2) == these(topics=first_two)


def test_damaged_and_truncated_recordings_are_said_skipped_and_counted(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path / "a", segment_bytes=3_000)
    path = list_segments(tmp_path / "a")[0].path
    ruined = bytearray(path.read_bytes())
    ruined[frames[4].offset + 30] ^= 1
    path.write_bytes(ruined)
    recording = open_recording(tmp_path / "a", Choice(), SITE)
    assert (recording.messages, recording.bad.count) == (len(frames) - 1, 1)
    assert f"at offset {frames[4].offset}" in recording.bad.notes[0]
    # The end of a folder, cut in the middle of a record.
    last = list_segments(tmp_path / "a")[-1]
    os.truncate(last.path, frames[-1].offset - last.base + 20)
    recording = open_recording(tmp_path / "a", Choice(), SITE)
    assert (recording.messages, recording.bad.count) == (len(frames) - 2, 2)
    assert recording.bad.notes[1] == f"{last.path.name}: the last 20 bytes hold no whole record"
    # A compressed segment, cut in the middle of its index.
    Compressor(tmp_path / "a", threading.Lock(), 400).work()
    os.truncate(path, path.stat().st_size - 10)
    recording = open_recording(path, Choice(), SITE)
    assert [note.partition(": ")[2][:20] for note in recording.bad.notes][-1] == "its index is missing"
    # One segment alone, cut in the middle of a record.
    cut = tmp_path / path.name
    cut.write_bytes(ruined[: frames[9].offset + 20])
    recording = open_recording(cut, Choice(), SITE)
    assert (recording.messages, recording.bad.count) == (8, 2)
    assert recording.bad.notes[1] == f"{path.name}: the last 20 bytes hold no whole record"
    cut.write_bytes(b"QFJL" + bytes(60))
    with pytest.raises(RecordingError, match="not a journal segment"):
        open_recording(cut, Choice(), SITE)
    with pytest.raises(RecordingError, match="no message can be replayed"):
        open_recording(tmp_path / "a", Choice(devices=("QC*",)), SITE)


def test_a_native_message_is_moved_and_cloned_and_says_the_same_otherwise() -> None:
    topic = TOPICS[0]
    telemetry = Telemetry(v=1, m={"x_m": 1.5}, boot=5, seq=3, ts=NOW, device="T-000")
    found = decode_telemetry(moved(topic, encode(telemetry), 7, 0b110, "T-000-x1") or b"")
    assert (found.ts, found.boot, found.seq, found.m, found.device) == (NOW + 7, 5 ^ 0b110, 3, {"x_m": 1.5}, "T-000-x1")
    block = Block(v=1, t0=NOW, dt=5, names=("x_m",), f32=bytes(8), boot=5, seq=3)
    packed = decode_block(moved(topic, encode(block), -9, 1) or b"")
    assert (packed.t0, packed.dt, packed.f32, packed.boot, packed.device) == (NOW - 9, 5, bytes(8), 4, None)
    assert moved("zebra/fx9600/tags", encode(telemetry), 7, 1) is None
    assert moved(topic, b"{nonsense", 7, 1) is None
    assert clone_of("zebra/fx9600/tags", 1) is None
    long = f"port/{SITE}/vehicle/{'T' * 64}/telemetry"
    assert clone_of(long, 12) == (f"port/{SITE}/vehicle/{'T' * 60}-x12/telemetry", f"{'T' * 60}-x12")


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto() as running:
        yield running


def replayed(broker: Mosquitto, config: ReplayConfig) -> tuple[ReplayResult, list[tuple[str, bytes]]]:
    async def scenario() -> tuple[ReplayResult, list[tuple[str, bytes]]]:
        async with received(broker, "port/#") as messages:
            result = await run(config)
            await eventually(lambda: len(messages) >= result.acked, "every message arrives")
        return result, [(str(message.topic), bytes(message.payload)) for message in messages]

    return asyncio.run(scenario())


def test_every_device_is_replayed_under_as_many_identities_as_asked_for(broker: Mosquitto, tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path, batches=4)
    config = ReplayConfig(tmp_path, Broker(port=broker.port), speed=math.inf, scale_devices=3, clients=2)
    result, messages = replayed(broker, config)
    assert (result.messages, result.acked, result.lost) == (3 * len(frames), 3 * len(frames), 0)
    for topic in TOPICS:
        own = [payload for where, payload in messages if where == topic]
        assert len(own) == sum(frame.topic == topic for frame in frames)
        for number in (1, 2):
            clone = clone_of(topic, number)
            assert clone is not None
            assert len([payload for where, payload in messages if where == clone[0]]) == len(own)
    assert f"{SITE}/vehicle/T-001-x2" in result.devices


def test_every_pass_is_new_traffic_and_the_time_ends_the_last(broker: Mosquitto, tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    native = [
        (TOPICS[0], encode(Telemetry(v=1, m={"x_m": 1.0}, boot=5, seq=nth, ts=NOW + nth)), 1) for nth in range(10)
    ]
    append(writer, native)
    writer.close()
    result, messages = replayed(broker, ReplayConfig(tmp_path, Broker(port=broker.port), speed=math.inf, loops=3))
    assert (result.messages, result.passes, result.lost) == (30, 3, 0)
    decoded = [decode_telemetry(payload) for _, payload in messages]
    assert len({found.boot for found in decoded}) == 3
    assert len({(found.boot, found.seq) for found in decoded}) == 30
    config = ReplayConfig(tmp_path, Broker(port=broker.port), speed=1e-6, loops=0, duration_s=0.3, patience_s=5)
    result, _ = replayed(broker, config)
    assert result.elapsed_s < 3
    assert result.lost == 0
    assert result.messages >= 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("qos", 2, "qos = 2"),
        ("scale_devices", 0, "scale_devices = 0"),
        ("loops", -1, "loops = -1"),
        ("topics", ("a/#/b",), "topics = "),
        ("from_ns", 2**63 - 1, "from_ns = "),
        ("duration_s", 0.0, "duration_s = 0.0"),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ReplayConfig(Path("x.csv"), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="loops = 2"):
        ReplayConfig(Path("x.csv"), shift="none", loops=2)


def test_at_qos_0_messages_count_as_acknowledged_when_they_have_left(broker: Mosquitto, tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path, batches=20)
    result, messages = replayed(
        broker, ReplayConfig(tmp_path, Broker(port=broker.port), speed=math.inf, qos=0, shift="none")
    )
    assert result.acked == len(messages) == len(frames)
    assert sorted(messages) == sorted((frame.topic, frame.payload) for frame in frames)


def test_a_message_larger_than_the_broker_takes_is_lost_and_counted(tmp_path: Path) -> None:
    writer = writer_of(tmp_path / "recording")
    append(writer, [(TOPICS[0], b"small", 1), (TOPICS[0], b"x" * 5_000, 1), (TOPICS[0], b"small too", 1)])
    writer.close()
    with running_mosquitto(max_packet_size=2_000) as broker:
        config = ReplayConfig(tmp_path / "recording", Broker(port=broker.port), speed=math.inf, patience_s=3)
        result = asyncio.run(run(config))
    assert (result.messages, result.acked, result.oversize, result.lost) == (3, 2, 1, 1)


def recorded(
    config: RecordConfig, broker: Mosquitto, messages: list[Outgoing], *, restart: bool = False
) -> list[bytes]:
    async def scenario() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(record(config, stop=stop))
        await asyncio.sleep(0.4)
        half = len(messages) // 2

        def publish(some: list[Outgoing]) -> None:
            with Publisher(broker.port, iter(some), None) as publisher:
                publisher.finish()

        await asyncio.to_thread(publish, messages[:half])
        if restart:
            await asyncio.to_thread(broker.restart)
        await asyncio.to_thread(publish, messages[half:])
        for _ in range(200):
            if sum(1 for _ in read(config.out)) >= len(messages):
                break
            await asyncio.sleep(0.05)
        stop.set()
        await task

    asyncio.run(scenario())
    return [frame.payload for frame in read(config.out)]


def outgoing(count: int, first: int = 0) -> list[Outgoing]:
    return [Outgoing(TOPICS[nth % 5], b"%d" % nth, None) for nth in range(first, first + count)]


def test_a_recording_holds_what_was_published_and_is_continued(broker: Mosquitto, tmp_path: Path) -> None:
    config = RecordConfig(tmp_path / "out", Broker(port=broker.port), ("port/+/vehicle/#",))
    found = recorded(config, broker, outgoing(100))
    assert sorted(found) == sorted(message.payload for message in outgoing(100))
    found = recorded(config, broker, outgoing(50, 100))
    assert sorted(found) == sorted(message.payload for message in outgoing(150))


def test_a_recording_survives_the_brokers_restart(tmp_path: Path) -> None:
    with running_mosquitto(persistence=True) as broker:
        config = RecordConfig(tmp_path / "out", Broker(port=broker.port))
        found = recorded(config, broker, outgoing(60), restart=True)
    assert {message.payload for message in outgoing(60)} <= set(found)


def test_a_limit_ends_a_recording_and_a_folder_of_something_else_is_left_alone(
    broker: Mosquitto, tmp_path: Path
) -> None:
    config = RecordConfig(tmp_path / "out", Broker(port=broker.port), limit=10)

    async def scenario() -> int:
        task = asyncio.create_task(record(config))
        await asyncio.sleep(0.4)

        def publish() -> None:
            with Publisher(broker.port, iter(outgoing(40)), None) as publisher:
                publisher.finish()

        await asyncio.to_thread(publish)
        return (await asyncio.wait_for(task, 10)).messages

    assert asyncio.run(scenario()) == sum(1 for _ in read(tmp_path / "out")) == 10
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(RecordingError, match="something else"):
        asyncio.run(record(RecordConfig(tmp_path / "other", Broker(port=broker.port))))
    shutil.rmtree(tmp_path / "other")

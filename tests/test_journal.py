"""The journal on a real folder: what was appended comes back, whatever is torn, flipped, full or failing."""

import errno
import itertools
import os
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_journal import NOW, append, writer_of

from devices.times import NS, parse_rfc3339
from store.journal import (
    HEADER,
    RECORD,
    Damage,
    Frame,
    JournalConfig,
    JournalError,
    JournalFullError,
    JournalWriter,
    encode,
    first_frame,
    lay_out,
    list_segments,
    read,
)

TOPIC = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"
MESSAGES = [
    (TOPIC, b'{"v":1,"m":{"load_t":24.6}}', 1),
    ("port/宁波/闸口", b"", 5),
    ("a", bytes(range(256)), 0),
    (TOPIC, b"\x00" * 64, 9),
    (TOPIC, b"QFJL" * 9, 1),
]
FOLDER = itertools.count()


def crc32c(data: bytes) -> int:
    """CRC-32C by its definition, bit by bit."""
    register = 0xFFFF_FFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F6_3B78 if register & 1 else 0)
    return register ^ 0xFFFF_FFFF


def written(folder: Path, messages: list[tuple[str, bytes, int]] = MESSAGES) -> list[Frame]:
    """A journal with these messages, closed."""
    writer = writer_of(folder)
    frames = append(writer, messages)
    writer.close()
    return frames


def the_segment(folder: Path) -> Path:
    (path,) = folder.glob("*.qfj")
    return path


def damage_of(folder: Path) -> list[Damage]:
    found: list[Damage] = []
    for _ in read(folder, damaged=found.append):
        pass
    return found


def vector(root: Path, name: str) -> bytes:
    text = (root / "docs" / "journal.md").read_text()
    found = re.search(rf"```hex {name}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return bytes.fromhex(found[1])


def test_what_was_appended_comes_back(tmp_path: Path) -> None:
    frames = written(tmp_path)
    assert list(read(tmp_path)) == frames
    assert [(each.topic, each.payload, each.flags) for each in frames] == MESSAGES
    assert {(each.recv_ts, each.epoch) for each in frames} == {(NOW, 7)}


def test_crc_is_that_of_the_castagnoli_polynomial() -> None:
    assert crc32c(b"123456789") == 0xE306_9283
    assert crc32c(bytes(32)) == 0x8A91_36AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8_AB43  # RFC 3720, B.4


def test_bytes_on_disk_are_those_of_the_documented_vectors(root: Path, tmp_path: Path) -> None:
    header, first, second = (vector(root, name) for name in ("header", "first record", "second record"))
    writer = writer_of(tmp_path)
    received = parse_rfc3339("2026-11-23T08:15:31.5Z")
    append(writer, [(TOPIC, b'{"v":1,"m":{"load_t":24.6}}', 1)], received)
    append(writer, [("port/宁波", b"", 5)], received + 1)
    writer.close()
    assert the_segment(tmp_path).read_bytes() == header + first + second


def test_documented_vectors_are_what_the_documented_layout_gives(root: Path) -> None:
    created = parse_rfc3339("2026-11-23T08:15:30Z")
    received = parse_rfc3339("2026-11-23T08:15:31.5Z")
    head = b"QFJL" + struct.pack("<HHQQQ", 1, 0, 0, 0, created)
    assert vector(root, "header") == head + struct.pack("<II", crc32c(head), 0)
    offset = 40
    name, payload = TOPIC.encode(), b'{"v":1,"m":{"load_t":24.6}}'
    covered = struct.pack("<IQIHBB", len(name) + len(payload), received, 7, len(name), 1, 0) + name + payload
    first = struct.pack("<I", crc32c(covered) ^ offset) + covered
    assert vector(root, "first record") == first
    offset += len(first)
    name = "port/宁波".encode()
    covered = struct.pack("<IQIHBB", len(name), received + 1, 7, len(name), 5, 0) + name
    assert vector(root, "second record") == struct.pack("<I", crc32c(covered) ^ offset) + covered


@given(
    st.integers(0, 2**40),
    st.lists(st.sampled_from(["a", "b", "port/宁波"]), min_size=1, max_size=9),
    st.lists(st.sampled_from([b"", b"12", b"\x00\x00"]), min_size=9, max_size=9),
)
def test_records_laid_out_together_are_those_laid_out_one_by_one(
    start: int, topics: list[str], payloads: list[bytes]
) -> None:
    """Whether their names and payloads are of one length, and so laid out side by side, or not."""
    place, records = start, b""
    for topic, payload in zip(topics, payloads, strict=False):
        name = topic.encode()
        covered = struct.pack("<IQIHBB", len(name) + len(payload), NOW, 7, len(name), 1, 0) + name + payload
        record = struct.pack("<I", crc32c(covered) ^ place & 0xFFFF_FFFF) + covered
        records += record
        place += len(record)
    found = lay_out(start, NOW, 7, topics, payloads[: len(topics)], np.ones(len(topics), np.int64))
    assert found.blob == records
    assert [frame.payload for frame in found.frames] == payloads[: len(topics)]


def test_one_scan_gives_the_frames_from_an_offset_on_and_where_to_go_on(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, segment_bytes=300)
    frames = [frame for nth in range(12) for frame in append(writer, MESSAGES, NOW + nth)]
    end, count = writer.end, writer.frames
    writer.close()
    newest = max(tmp_path.glob("*.qfj"))
    for start in (0, *(frame.offset for frame in frames), end, end + 1):
        with newest.open("ab") as file:
            file.write(b"torn")
        writer = JournalWriter(JournalConfig(tmp_path), lambda: NOW, replayed=True)
        replayed = [frame for lot in writer.replay(start) for frame in lot]
        assert replayed == [frame for frame in frames if frame.offset >= start]
        assert (writer.end, writer.frames, writer.torn_bytes) == (end, count, 4)
        assert list(writer.replay(0)) == []
        writer.close()


def test_replaying_tells_of_damage_from_the_offset_on(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[frames[1].offset + 30] ^= 1
    path.write_bytes(whole)
    for start, told in ((0, 1), (frames[1].offset, 1), (frames[2].offset, 0)):
        damages: list[Damage] = []
        writer = JournalWriter(JournalConfig(tmp_path), lambda: NOW, replayed=True)
        replayed = [frame for lot in writer.replay(start, damages.append) for frame in lot]
        writer.close()
        assert replayed == [frame for frame in frames if frame.offset >= start and frame != frames[1]]
        assert [each.offset for each in damages] == [frames[1].offset] * told


def test_a_tail_torn_at_any_byte_is_cut_off_and_nothing_else(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    whole = path.read_bytes()
    for length in range(frames[-1].offset, len(whole)):
        path.write_bytes(whole[:length])
        assert list(read(tmp_path)) == frames[:-1]
        writer = writer_of(tmp_path)
        assert writer.torn_bytes == length - frames[-1].offset
        assert (writer.end, writer.frames) == (frames[-1].offset, len(frames) - 1)
        assert append(writer, MESSAGES[-1:]) == frames[-1:]
        writer.close()
        assert path.read_bytes() == whole


def test_a_bit_flipped_anywhere_costs_its_own_record_and_no_other(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    whole = path.read_bytes()
    ends = [each.offset for each in frames[1:]] + [len(whole)]
    for at in range(HEADER.size, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        hit = next(nth for nth, end in enumerate(ends) if at < end)
        assert list(read(tmp_path)) == frames[:hit] + frames[hit + 1 :]
        assert damage_of(tmp_path) == [Damage(path, frames[hit].offset, ends[hit] - frames[hit].offset)]


def test_a_damaged_last_record_is_told_at_the_start_and_stays_where_it_is(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    whole, last = path.read_bytes(), frames[-1].offset
    flips = [bytes([whole[at] ^ 1 << at % 8]) for at in range(len(whole))]
    damaged = [whole[:at] + flips[at] + whole[at + 1 :] for at in range(last, len(whole))]
    damaged.append(whole[:-20] + b"something else, yes!")
    for content in damaged:
        path.write_bytes(content)
        told: list[Damage] = []
        writer = JournalWriter(JournalConfig(tmp_path), lambda: NOW, replayed=True)
        assert [frame for lot in writer.replay(last, told.append) for frame in lot] == []
        assert told == [Damage(path, last, len(whole) - last)]
        assert (writer.torn_bytes, writer.end, writer.frames) == (0, len(whole), len(frames) - 1)
        later = append(writer, MESSAGES[:2])
        writer.close()
        assert path.read_bytes()[: len(whole)] == content
        assert list(read(tmp_path)) == frames[:-1] + later
        assert damage_of(tmp_path) == told


def test_zeros_that_a_power_cut_left_are_a_torn_tail(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    whole, last = path.read_bytes(), frames[-1].offset
    for safe in range(last, len(whole)):
        path.write_bytes(whole[:safe].ljust(len(whole), b"\0"))
        assert damage_of(tmp_path) == []
        writer = writer_of(tmp_path)
        assert (writer.torn_bytes, writer.end) == (len(whole) - last, last)
        writer.close()


def test_damage_at_the_end_of_a_sealed_segment_is_reported(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, segment_bytes=64)
    frames = append(writer, MESSAGES[:2]) + append(writer, MESSAGES[2:])
    writer.close()
    sealed = list_segments(tmp_path)[0].path
    whole = sealed.read_bytes()
    expected = [Damage(sealed, frames[1].offset, len(whole) - frames[1].offset)]
    for damaged in (whole[:-1] + b"\xff", whole[:-1], whole[: frames[1].offset + 3], whole[: frames[1].offset]):
        sealed.write_bytes(damaged)
        assert damage_of(tmp_path) == expected
        assert list(read(tmp_path)) == [frames[0], *frames[2:]]


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_whatever_is_overwritten_no_frame_is_ever_wrong(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, hits: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"overwritten-{next(FOLDER)}"
    frames = written(folder)
    path = the_segment(folder)
    data = bytearray(path.read_bytes())
    for _ in range(hits):
        data[chance.randrange(HEADER.size, len(data))] = chance.randrange(256)
    path.write_bytes(data)
    assert set(read(folder)) <= set(frames)


def test_a_record_inside_a_payload_is_never_taken_for_a_frame(tmp_path: Path) -> None:
    forged = encode(40, NOW, 1, [("port/CNNGB-DEMO/quay-crane/QC02/telemetry", b"forged", 1)]).blob
    message = (TOPIC, b"x" * 50 + forged * 3 + b"x" * 50, 1)
    frames = written(tmp_path, [*MESSAGES, message])
    path = the_segment(tmp_path)
    whole = path.read_bytes()
    for length in range(frames[-1].offset, len(whole), 7):
        path.write_bytes(whole[:length])
        assert list(read(tmp_path)) == frames[:-1]
    flipped = bytearray(whole)
    flipped[frames[-1].offset + 5] ^= 4
    path.write_bytes(flipped)
    assert list(read(tmp_path)) == frames[:-1]


def test_segments_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    writer = writer_of(tmp_path, segment_bytes=200)
    frames = [frame for nth in range(40) for frame in append(writer, [(TOPIC, b"%d" % nth, 1)] * 3)]
    segments = list_segments(tmp_path)
    assert len(segments) > 5
    for one, other in itertools.pairwise(segments):
        assert one.base + one.path.stat().st_size == other.base
        assert one.path.name == f"{one.base:016x}.qfj"
        within = [nth for nth, frame in enumerate(frames) if one.base <= frame.offset < other.base]
        assert within[0] == one.first_frame
        assert within[-1] + 1 == other.first_frame
    assert writer.frames == len(frames)
    assert damage_of(tmp_path) == []
    for nth, frame in enumerate(frames):
        assert list(read(tmp_path, frame.offset)) == frames[nth:]
    assert list(read(tmp_path, writer.end)) == []


def test_a_reopened_journal_goes_on_where_it_ended(tmp_path: Path) -> None:
    frames: list[Frame] = []
    end = 0
    for nth in range(6):
        writer = writer_of(tmp_path, segment_bytes=150)
        assert writer.torn_bytes == 0
        assert writer.frames == len(frames)
        assert writer.end >= end
        frames += append(writer, [(TOPIC, b"%d" % nth, 1)] * 2)
        end = writer.end
        writer.close()
        writer.close()
    assert list(read(tmp_path)) == frames


def test_an_empty_journal_has_no_frames(tmp_path: Path) -> None:
    assert list(read(tmp_path)) == []
    assert first_frame(tmp_path) == 0
    writer_of(tmp_path).close()
    assert list(read(tmp_path)) == []


def sealed_journal(folder: Path, **config: float) -> tuple[JournalWriter, list[int]]:
    """A journal of five segments, and where each begins."""
    writer = writer_of(folder, segment_bytes=64, **config)
    for _ in range(5):
        append(writer, [(TOPIC, b"x" * 100, 1)])
    bases = [segment.base for segment in list_segments(folder)]
    assert len(bases) == 5
    return writer, bases


def test_segments_beyond_their_age_are_deleted_up_to_the_checkpoint(tmp_path: Path) -> None:
    writer, bases = sealed_journal(tmp_path, keep_s=60)
    soon, later = NOW + 60 * NS, NOW + 61 * NS
    # The file system's word does not count: its clock may have been set.
    for path in tmp_path.glob("*.qfj"):
        os.utime(path, ns=(0, 0))
    assert writer.forget(writer.expendable(writer.end, soon)) == 0
    assert writer.forget(writer.expendable(bases[2] - 1, later)) == bases[1] - bases[0]
    assert [segment.base for segment in list_segments(tmp_path)] == bases[1:]
    assert first_frame(tmp_path) == 1
    assert writer.forget(writer.expendable(bases[2], later)) == bases[2] - bases[1]
    # The newest is never deleted, however old.
    assert writer.forget(writer.expendable(writer.end, later)) == bases[4] - bases[2]
    assert [segment.base for segment in list_segments(tmp_path)] == bases[4:]


def test_segments_beyond_the_size_are_deleted_oldest_first(tmp_path: Path) -> None:
    writer, bases = sealed_journal(tmp_path, keep_bytes=620)
    assert writer.forget(writer.expendable(bases[1] - 1)) == 0
    assert writer.forget(writer.expendable(writer.end)) == bases[2] - bases[0]
    left = list_segments(tmp_path)
    assert [segment.base for segment in left] == bases[2:]
    assert sum(segment.path.stat().st_size for segment in left) <= 620


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path)
    path = the_segment(tmp_path)
    data = path.read_bytes()
    head = data[:4] + struct.pack("<H", 3) + data[6:32]
    path.write_bytes(head + struct.pack("<I", crc32c(head)) + data[36:])
    with pytest.raises(JournalError, match=r"format version 3.*reads up to 2.*newer quayflow"):
        list(read(tmp_path))
    with pytest.raises(JournalError, match="format version 3"):
        writer_of(tmp_path)


@pytest.mark.parametrize("at", [0, 5, 12, 20, 30, 33])
def test_a_header_with_more_than_a_wrong_bit_stops_instead_of_guessing(tmp_path: Path, at: int) -> None:
    written(tmp_path)
    path = the_segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x11
    path.write_bytes(data)
    with pytest.raises(JournalError, match="header is damaged"):
        list(read(tmp_path))


@pytest.mark.parametrize("head", [b"", b"QFJL", b"QFJL\x01" + bytes(34), bytes(40)])
def test_a_segment_whose_creation_was_cut_short_is_empty(tmp_path: Path, head: bytes) -> None:
    frames = written(tmp_path)
    unborn = tmp_path / f"{the_segment(tmp_path).stat().st_size:016x}.qfj"
    unborn.write_bytes(head)
    # To a reader beside the writer it may be just coming into being, so it must not touch it.
    assert list(read(tmp_path)) == frames
    assert unborn.exists()
    writer = writer_of(tmp_path)
    assert not unborn.exists()
    frames += append(writer, MESSAGES)
    writer.close()
    assert list(read(tmp_path)) == frames


def test_nothing_is_written_below_a_checkpoint_that_lies_beyond_the_end(tmp_path: Path) -> None:
    frames = written(tmp_path)
    path = the_segment(tmp_path)
    checkpoint = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    writer = writer_of(tmp_path)
    assert writer.end < checkpoint
    writer.skip_to(checkpoint)
    later = append(writer, MESSAGES)
    assert later[0].offset >= checkpoint
    assert list(read(tmp_path, checkpoint)) == later
    assert list(read(tmp_path)) == frames[:-1] + later
    before = writer.end
    writer.skip_to(checkpoint)
    assert writer.end == before
    writer.close()


def test_a_full_disk_keeps_nothing_of_the_batch_which_can_be_appended_later(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from store.journal import JournalConfig, JournalFullError, JournalWriter, encode, list_segments, read
folder = Path(sys.argv[1])
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
writer = JournalWriter(JournalConfig(folder))
few = [("a/b", b"x" * 100, 1)] * 3
many = [("a/b", b"y" * 1000, 1)] * 20
kept = encode(writer.begin(), 1, 1, few)
writer.append(kept.blob, len(few))
path = list_segments(folder)[0].path
size, end = path.stat().st_size, writer.end
limit(size + 5_500)
batch = encode(writer.begin(), 2, 1, many)
for _ in range(3):
    try:
        writer.append(batch.blob, len(many))
    except JournalFullError as error:
        assert path.name in str(error), error
    else:
        raise AssertionError("it fitted")
    assert (path.stat().st_size, writer.end, writer.frames) == (size, end, 3)
assert list(read(folder)) == kept.frames
limit(resource.RLIM_INFINITY)
writer.append(batch.blob, len(many))
assert list(read(folder)) == kept.frames + batch.frames
assert writer.frames == 23
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    writer = writer_of(tmp_path)
    assert (writer.torn_bytes, writer.frames) == (0, 23)
    writer.close()


def failing(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> list[int]:
    """Let a system call fail; the list grows with each attempt."""
    attempts: list[int] = []

    def fail(descriptor: int, *_: object) -> int:
        attempts.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    return attempts


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_fdatasync_stops_the_journal_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    writer = writer_of(tmp_path)
    batch = encode(writer.begin(), NOW, 7, MESSAGES)
    attempts = failing(monkeypatch, "fdatasync", number)
    with pytest.raises(JournalError, match="fdatasync") as raised:
        writer.append(batch.blob, len(MESSAGES))
    assert not isinstance(raised.value, JournalFullError)
    assert len(attempts) == 1
    assert writer.frames == 0


def test_a_failed_write_stops_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(tmp_path)
    batch = encode(writer.begin(), NOW, 7, MESSAGES)
    failing(monkeypatch, "write", errno.EIO)
    with pytest.raises(JournalError, match="cannot write") as raised:
        writer.append(batch.blob, len(MESSAGES))
    assert not isinstance(raised.value, JournalFullError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_segment_that_finds_no_space_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    writer = writer_of(tmp_path, segment_bytes=100)
    frames = append(writer, MESSAGES)
    with monkeypatch.context() as context:
        failing(context, "write", number)
        for _ in range(3):
            with pytest.raises(JournalFullError, match="new segment"):
                writer.begin()
    assert len(list_segments(tmp_path)) == 1
    frames += append(writer, MESSAGES)
    assert len(list_segments(tmp_path)) == 2
    assert list(read(tmp_path)) == frames


def test_segments_too_small_for_a_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="segment_bytes 10"):
        JournalConfig(tmp_path, segment_bytes=10)
    assert JournalConfig(tmp_path, segment_bytes=HEADER.size + RECORD.size).segment_bytes == 64

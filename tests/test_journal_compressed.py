"""Sealed segments in their compressed form: the same frames, from any place, whatever is damaged or interrupted."""

import os
import random
import re
import threading
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_journal import NOW, TOPICS, append, fleet_journal, writer_of

from devices.times import NS, parse_rfc3339
from store.journal import HEADER, Compressor, Damage, Frame, JournalError, SegmentScan, list_segments, read
from store.journal.chunks import HEAD, TRAILER, Chunk, Contents, pack_table, parse_table
from store.journal.compressed import CompressedSegment, remembered_index
from store.journal.compressing import PART
from store.journal.repair import with_bit_put_right


def compressor_of(folder: Path, chunk_bytes: int = 400) -> Compressor:
    return Compressor(folder, threading.Lock(), chunk_bytes)


def compressed_journal(folder: Path) -> tuple[list[Frame], Path]:
    """A journal whose first segment holds many chunks, and the path of that segment."""
    frames = fleet_journal(folder, segment_bytes=8_000)
    assert compressor_of(folder).work() > 0
    return frames, list_segments(folder)[0].path


def chunks_of(folder: Path) -> list[Chunk]:
    segment = CompressedSegment(list_segments(folder)[0])
    assert segment.index is not None
    return list(segment.index.chunks)


def damage_of(folder: Path) -> list[Damage]:
    found: list[Damage] = []
    for _ in read(folder, damaged=found.append):
        pass
    return found


@pytest.mark.parametrize("chunk_bytes", [1, 400, 1 << 20])
@pytest.mark.parametrize("segment_bytes", [64, 3_000])
def test_a_compressed_journal_is_read_like_the_plain_one(tmp_path: Path, chunk_bytes: int, segment_bytes: int) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=segment_bytes)
    plain = list_segments(tmp_path)
    assert compressor_of(tmp_path, chunk_bytes).work() == len(plain) - 1
    assert compressor_of(tmp_path, chunk_bytes).work() == 0
    segments = list_segments(tmp_path)
    assert [each.version for each in segments] == [2] * (len(plain) - 1) + [1]
    assert [each[:4] for each in segments] == [each[:4] for each in plain]
    assert list(read(tmp_path)) == frames
    assert damage_of(tmp_path) == []
    for nth in range(0, len(frames), 7):
        assert list(read(tmp_path, frames[nth].offset)) == frames[nth:]
    wanted, start, end = {TOPICS[0], TOPICS[4]}, NOW + 5 * NS, NOW + 17 * NS
    assert list(read(tmp_path, frames[30].offset, topics=wanted, from_ns=start, to_ns=end)) == [
        each for each in frames[30:] if each.topic in wanted and start <= each.recv_ts < end
    ]


def test_a_selection_decompresses_only_what_may_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(tmp_path, segment_bytes=20_000)
    for nth in range(200):
        append(writer, [(TOPICS[nth // 50], b"x" * 80, 1)], NOW + nth * NS)
    append(writer, [(TOPICS[0], b"", 1)], NOW)
    writer.close()
    assert compressor_of(tmp_path).work() == 1
    loaded: list[Chunk] = []
    load = CompressedSegment.load

    def noted(segment: CompressedSegment, chunk: Chunk) -> bytes | None:
        loaded.append(chunk)
        return load(segment, chunk)

    monkeypatch.setattr(CompressedSegment, "load", noted)
    every = chunks_of(tmp_path)
    assert len(every) > 40
    assert len(list(read(tmp_path, topics={TOPICS[1]}))) == 50
    assert len(loaded) < len(every) / 2
    loaded.clear()
    assert len(list(read(tmp_path, from_ns=NOW + 100 * NS, to_ns=NOW + 102 * NS))) == 2
    assert len(loaded) <= 2
    loaded.clear()
    assert list(read(tmp_path, topics={"unknown"})) == []
    assert loaded == []


def test_the_chunks_are_the_plain_segment_byte_for_byte(tmp_path: Path) -> None:
    fleet_journal(tmp_path, segment_bytes=3_000)
    segment = list_segments(tmp_path)[0]
    plain = segment.path.read_bytes()
    compressor_of(tmp_path).work()
    compressed = CompressedSegment(list_segments(tmp_path)[0])
    chunks = chunks_of(tmp_path)
    assert b"".join(compressed.load(chunk) or b"" for chunk in chunks) == plain[HEADER.size :]
    # Without the index, the heads give the same chunks.
    assert list(compressed.chunks()) == chunks


def test_compressing_takes_no_memory_that_stays(tmp_path: Path) -> None:
    fleet_journal(tmp_path, segment_bytes=3_000)
    remembered_index.cache_clear()
    assert compressor_of(tmp_path).work() >= 3
    # What was read back under a passing name is never asked for again, and would push out what is.
    assert remembered_index.cache_info().currsize == 0
    chunks_of(tmp_path)
    assert remembered_index.cache_info().currsize == 1
    segment = list_segments(tmp_path)[0]
    assert CompressedSegment(segment).index is CompressedSegment(segment).index


def test_an_index_takes_two_bytes_for_each_topic_in_a_chunk_and_shares_its_texts() -> None:
    topics = [f"port/CNNGB-BLCT/vehicle/V{nth:05d}/telemetry" for nth in range(10_000)]
    contents = [Contents(Chunk(nth, nth, 1, 1_500), NOW, NOW, range(nth, nth + 1_500)) for nth in range(128)]
    one, other = (parse_table(pack_table(contents, topics), end) for end in (1, 2))
    entries = 128 * 1_500
    arrays = (one.places, one.first_ns, one.last_ns, one.per_chunk, one.entry_topic)
    assert sum(each.nbytes for each in arrays) < 2.1 * entries
    assert all(each.base is None for each in arrays)
    assert all(ours is theirs for ours, theirs in zip(one.topics, other.topics, strict=True))


def test_one_bit_flipped_anywhere_behind_the_header_costs_nothing_and_is_found(tmp_path: Path) -> None:
    frames, path = compressed_journal(tmp_path)
    whole = path.read_bytes()
    first = [each for each in frames if each.offset < list_segments(tmp_path)[1].base]
    chance = random.Random(5)
    for at in chance.sample(range(HEADER.size, len(whole)), 250):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        scan = SegmentScan(list_segments(tmp_path)[0])
        assert list(scan.frames(0)) == first
        assert scan.damage == []
        assert scan.valid_bytes == scan.size
        assert len(scan.repaired) + scan.without_index == 1, at


def test_a_destroyed_chunk_is_damage_of_exactly_its_stretch(tmp_path: Path) -> None:
    frames, path = compressed_journal(tmp_path)
    whole = path.read_bytes()
    chunks = chunks_of(tmp_path)
    for chunk in chunks:
        ruined = bytearray(whole)
        ruined[chunk.position + HEAD.size + 4 : chunk.position + HEAD.size + 40] = bytes(36)
        path.write_bytes(ruined)
        end = chunk.offset + chunk.length
        left = [each for each in frames if not chunk.offset <= each.offset < end]
        assert list(read(tmp_path)) == left
        assert damage_of(tmp_path) == [Damage(path, chunk.offset, chunk.length)]
        assert len(frames) - len(left) == chunk.records
        # The head, too: the index still knows what was there.
        ruined[chunk.position : chunk.position + HEAD.size] = bytes(HEAD.size)
        path.write_bytes(ruined)
        assert damage_of(tmp_path) == [Damage(path, chunk.offset, chunk.length)]
        # And with a selection that needs this chunk.
        found: list[Damage] = []
        wanted = {next(each.topic for each in frames if each.offset == chunk.offset)}
        assert list(read(tmp_path, topics=wanted, damaged=found.append)) == [
            each for each in left if each.topic in wanted
        ]
        assert found == [Damage(path, chunk.offset, chunk.length)]


def test_a_destroyed_head_costs_nothing_while_there_is_an_index(tmp_path: Path) -> None:
    frames, path = compressed_journal(tmp_path)
    ruined = bytearray(path.read_bytes())
    for chunk in chunks_of(tmp_path):
        ruined[chunk.position : chunk.position + HEAD.size] = os.urandom(HEAD.size)
    path.write_bytes(ruined)
    assert list(read(tmp_path)) == frames
    scan = SegmentScan(list_segments(tmp_path)[0])
    assert sum(1 for _ in scan.frames(0)) == scan.count
    assert len(scan.repaired) == len(chunks_of(tmp_path))


@pytest.mark.parametrize("cut", [1, TRAILER.size, TRAILER.size + 20])
def test_without_its_index_a_segment_is_read_chunk_by_chunk(tmp_path: Path, cut: int) -> None:
    frames, path = compressed_journal(tmp_path)
    chunks = chunks_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read(tmp_path)) == frames
    assert damage_of(tmp_path) == []
    assert list(read(tmp_path, topics={TOPICS[2]})) == [each for each in frames if each.topic == TOPICS[2]]
    ruined = bytearray(path.read_bytes())
    lost = chunks[2]
    ruined[lost.position : lost.position + HEAD.size] = bytes(HEAD.size)
    path.write_bytes(ruined)
    assert damage_of(tmp_path) == [Damage(path, lost.offset, lost.length)]
    path.write_bytes(ruined[: chunks[-1].position + 7])
    end = list_segments(tmp_path)[1].base
    assert damage_of(tmp_path)[-1] == Damage(path, chunks[-1].offset, end - chunks[-1].offset)


def test_damage_of_the_plain_segment_stays_what_it_was(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=3_000)
    path = list_segments(tmp_path)[0].path
    ruined = bytearray(path.read_bytes())
    ruined[frames[4].offset + 30] ^= 1
    ruined[-3] ^= 1
    path.write_bytes(ruined)
    left, damage = list(read(tmp_path)), damage_of(tmp_path)
    assert len(damage) == 2
    compressor_of(tmp_path).work()
    assert (list(read(tmp_path)), damage_of(tmp_path)) == (left, damage)


def test_a_reader_that_listed_a_segment_before_it_was_compressed_reads_it(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=3_000)
    listed = list_segments(tmp_path)
    reading = read(tmp_path)
    first = next(reading)
    compressor_of(tmp_path).work()
    assert [frame for segment in listed for frame in SegmentScan(segment).frames(0)] == frames
    assert [first, *reading] == frames


def test_compression_that_fails_leaves_the_plain_segment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=3_000)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for place, name in ((os, "fsync"), (Path, "rename")):
        with monkeypatch.context() as context:
            context.setattr(place, name, fail)
            assert compressor_of(tmp_path).work() == 0
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with monkeypatch.context() as context:
        context.setattr(CompressedSegment, "load", lambda *_: b"something else")
        assert compressor_of(tmp_path).work() == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert list(read(tmp_path)) == frames


def test_a_segment_deleted_while_it_is_compressed_stays_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_journal(tmp_path, segment_bytes=8_000)
    first, *others = list_segments(tmp_path)
    fsync = os.fsync

    def delete_and_sync(descriptor: int) -> None:
        first.path.unlink(missing_ok=True)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", delete_and_sync)
    compressor_of(tmp_path).work()
    assert [each.path for each in list_segments(tmp_path)] == [each.path for each in others]
    assert list(tmp_path.glob(f"*{PART}")) == []


def test_what_a_crash_left_is_deleted_and_done_again(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=8_000)
    (tmp_path / f"{0:016x}{PART}").write_bytes(b"QFJL half")
    compressor = compressor_of(tmp_path)
    compressor.start()
    deadline = threading.Event()
    for _ in range(100):
        if all(each.version == 2 for each in list_segments(tmp_path)[:-1]):
            break
        deadline.wait(0.05)
    compressor.close()
    compressor.close()
    assert [each.version for each in list_segments(tmp_path)] == [2, 1]
    assert list(tmp_path.glob(f"*{PART}")) == []
    assert list(read(tmp_path)) == frames
    assert compressor.bytes_after < compressor.bytes_before


def test_retention_counts_what_is_on_the_disk_and_the_age_of_the_frames(tmp_path: Path) -> None:
    fleet_journal(tmp_path, segment_bytes=3_000)
    later = NOW + 61 * NS
    compressor_of(tmp_path, 1 << 20).work()
    sizes = [each.path.stat().st_size for each in list_segments(tmp_path)]
    writer = writer_of(tmp_path, segment_bytes=3_000, keep_bytes=sum(sizes), keep_s=62)
    assert writer.forget(writer.expendable(writer.end, later)) == 0
    assert writer.disk_bytes == sum(sizes)
    writer.close()
    writer = writer_of(tmp_path, segment_bytes=3_000, keep_bytes=sum(sizes) - 1, keep_s=62)
    assert writer.forget(writer.expendable(writer.end, later)) == sizes[0]
    writer.close()
    writer = writer_of(tmp_path, segment_bytes=3_000, keep_s=60)
    assert writer.forget(writer.expendable(writer.end, later)) == sum(sizes[1:-1])
    assert writer.disk_bytes == sizes[-1]
    writer.close()


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_flipped_bit_is_put_right_by_the_checksum_alone(data: bytes, chosen: st.DataObject) -> None:
    checksum = google_crc32c.value(data)
    bit = chosen.draw(st.integers(0, 8 * len(data) - 1))
    wrong = bytearray(data)
    wrong[bit // 8] ^= 1 << bit % 8
    assert with_bit_put_right(bytes(wrong), checksum) == data


@given(st.binary(max_size=60), st.data())
def test_what_is_put_right_always_has_the_checksum(data: bytes, chosen: st.DataObject) -> None:
    checksum = chosen.draw(st.integers(0, 2**32 - 1))
    found = with_bit_put_right(data, checksum)
    assert found is None or google_crc32c.value(found) == checksum


def test_the_documented_compressed_segment_reads_as_documented(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "journal.md").read_text()
    found = re.search(r"```hex compressed segment\n(.*?)```", text, re.DOTALL)
    assert found is not None
    path = tmp_path / f"{0:016x}.qfj"
    path.write_bytes(bytes.fromhex(found[1]))
    received = parse_rfc3339("2026-11-23T08:15:31.5Z")
    (segment,) = list_segments(tmp_path)
    assert (segment.version, segment.created_ns) == (2, parse_rfc3339("2026-11-23T08:15:30Z"))
    scan = SegmentScan(segment)
    assert [(each.recv_ts - received, each.topic, each.payload, each.flags) for each in scan.frames(0)] == [
        (0, "port/CNNGB-DEMO/quay-crane/QC01/telemetry", b'{"v":1,"m":{"load_t":24.6}}', 1),
        (1, "port/宁波", b"", 5),
    ]
    assert not scan.without_index
    (chunk,) = chunks_of(tmp_path)
    compressed = CompressedSegment(segment)
    plain = re.findall(r"```hex (?:first|second) record\n(.*?)```", text, re.DOTALL)
    assert compressed.load(chunk) == b"".join(map(bytes.fromhex, plain))


def test_a_codec_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    _, path = compressed_journal(tmp_path)
    data = path.read_bytes()
    head = data[:6] + b"\x02\x00" + data[8:32]
    path.write_bytes(head + google_crc32c.value(head).to_bytes(4, "little") + data[36:])
    with pytest.raises(JournalError, match="newer quayflow"):
        list(read(tmp_path))

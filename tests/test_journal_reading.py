"""Reading a journal by topic and time, and finding the way again after damage."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_journal import NOW, TOPICS, append, fleet_journal, writer_of

from devices.times import NS
from store.journal import HEADER, RECORD, Damage, Frame, SegmentScan, encode, list_segments, read, scanning
from store.journal.plain import PlainSegment
from store.journal.resync import next_record

MEGABYTE = 1 << 20
FOLDER = itertools.count()


@pytest.mark.parametrize("segment_bytes", [64, 900, 1 << 20])
def test_a_selection_gives_the_frames_that_are_wanted_in_their_order(tmp_path: Path, segment_bytes: int) -> None:
    frames = fleet_journal(tmp_path, segment_bytes=segment_bytes)
    wanted = {TOPICS[1], TOPICS[3], "port/CNNGB-DEMO/vehicle/unknown/telemetry"}
    start, end = NOW + 7 * NS, NOW + 20 * NS
    assert list(read(tmp_path, topics=wanted)) == [each for each in frames if each.topic in wanted]
    assert list(read(tmp_path, from_ns=start)) == [each for each in frames if each.recv_ts >= start]
    assert list(read(tmp_path, to_ns=end)) == [each for each in frames if each.recv_ts < end]
    middle = frames[50].offset
    assert list(read(tmp_path, middle, topics=wanted, from_ns=start, to_ns=end)) == [
        each for each in frames[50:] if each.topic in wanted and start <= each.recv_ts < end
    ]
    assert list(read(tmp_path, topics=frozenset())) == []


def test_topics_are_chosen_by_anything_that_can_tell(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path)

    class EndsInThree:
        def __contains__(self, topic: object) -> bool:
            return isinstance(topic, str) and topic.split("/")[3].endswith("3")

    assert list(read(tmp_path, topics=EndsInThree())) == [each for each in frames if each.topic == TOPICS[3]]


def test_damage_is_reported_whatever_is_selected(tmp_path: Path) -> None:
    frames = fleet_journal(tmp_path)
    path = list_segments(tmp_path)[0].path
    data = bytearray(path.read_bytes())
    data[frames[9].offset + 30] ^= 1
    path.write_bytes(data)
    found: list[int] = []
    chosen = list(read(tmp_path, topics={TOPICS[0]}, damaged=lambda damage: found.append(damage.offset)))
    assert chosen == [each for each in frames if each.topic == TOPICS[0] and each.offset != frames[9].offset]
    assert found == [frames[9].offset]


def test_of_a_plain_segment_no_more_than_a_piece_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "PIECE", 1_000)
    frames, asked, whole = fleet_journal(tmp_path), list[int](), PlainSegment.read

    def noted(plain: PlainSegment, begin: int, length: int) -> bytes:
        asked.append(length)
        return whole(plain, begin, length)

    monkeypatch.setattr(PlainSegment, "read", noted)
    assert list(read(tmp_path)) == frames
    size = list_segments(tmp_path)[0].path.stat().st_size
    assert max(asked) == 1_000
    assert sum(asked) < 1.2 * size


def scanned(folder: Path, piece: int, start: int) -> tuple[list[Frame], list[Damage], int, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "PIECE", piece)
        scan = SegmentScan(list_segments(folder)[0])
        return list(scan.frames(start)), scan.damage, scan.valid_bytes, scan.size


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 12), st.integers(1, 700))
def test_pieces_of_any_size_hold_the_same_frames_and_the_same_damage(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random, hits: int, piece: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"pieces-{next(FOLDER)}"
    writer = writer_of(folder)
    sizes = [chance.choice((0, 3, 40, 40, 40, 900)) for _ in range(chance.randrange(1, 30))]
    frames = append(writer, [(chance.choice(TOPICS), chance.randbytes(size), 1) for size in sizes])
    writer.close()
    path = list_segments(folder)[0].path
    data = bytearray(path.read_bytes())
    for _ in range(hits):
        data[chance.randrange(HEADER.size, len(data))] = chance.choice((0, 1, 255, chance.randrange(256)))
    path.write_bytes(data[: len(data) - chance.choice((0, 0, chance.randrange(60)))])
    start = chance.choice((0, chance.choice(frames).offset, frames[-1].offset + 5_000))
    assert scanned(folder, piece, start) == scanned(folder, MEGABYTE, start)


def test_a_segment_that_is_cut_while_it_is_read_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PIECE", 300)
    frames, path = fleet_journal(tmp_path), list_segments(tmp_path)[0].path
    scan = SegmentScan(list_segments(tmp_path)[0])
    reading = scan.frames(0)
    read_before = [next(reading) for _ in range(10)]
    with path.open("r+b") as file:
        file.truncate(frames[50].offset)
    assert [*read_before, *reading] == frames[:50]
    assert (scan.damage, scan.valid_bytes) == ([], scan.size)


def by_definition(data: bytes, base: int) -> int:
    """Where the next intact record begins: the first place at which encoding what is read gives what stands there."""
    for at in range(len(data) - RECORD.size + 1):
        _, body, recv_ts, epoch, name, flags, zero = RECORD.unpack_from(data, at)
        end = at + RECORD.size + body
        if zero or flags > 15 or not 0 < name <= body or end > len(data):
            continue
        topic = data[at + RECORD.size :][:name]
        try:
            message = (topic.decode(), data[at + RECORD.size + name : end], flags)
        except UnicodeDecodeError:
            continue
        if encode(base + at, recv_ts, epoch, [message]).blob == data[at:end]:
            return at
    return -1


@given(
    st.binary(max_size=300),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=40),
    st.binary(max_size=60),
    st.integers(0, 15),
    st.binary(max_size=60),
    st.integers(0, 2**40),
)
def test_the_next_record_is_where_the_format_says(
    rubbish: bytes, topic: str, payload: bytes, flags: int, after: bytes, base: int
) -> None:
    data = rubbish + encode(base + len(rubbish), NOW, 3, [(topic, payload, flags)]).blob + after
    assert next_record(data, base, 0) == by_definition(data, base) == len(rubbish)
    assert next_record(rubbish, base, 0) == by_definition(rubbish, base)


def rubbish_of(kind: str) -> bytes:
    chance = np.random.default_rng(3)
    match kind:
        case "noise":
            return chance.bytes(MEGABYTE)
        case "floats":
            return chance.integers(0, 100, MEGABYTE // 4).astype("<f4").tobytes()
        case "small integers":
            return chance.integers(0, 1_000, MEGABYTE // 4).astype("<u4").tobytes()
    # Records, but of another place.
    return encode(5, NOW, 1, [(TOPICS[0], b"x" * 80, 1)] * 5_000).blob[:MEGABYTE]


@pytest.mark.parametrize("kind", ["noise", "floats", "small integers", "records"])
@pytest.mark.parametrize("more", [0, 1, 23, 24, 25])
def test_a_megabyte_of_rubbish_hides_no_record_behind_it(kind: str, more: int) -> None:
    rubbish = rubbish_of(kind)[: MEGABYTE - 24 + more]
    record = encode(40 + len(rubbish), NOW, 1, [("a", b"", 1)]).blob
    assert next_record(rubbish + record, 40, 0) == len(rubbish)
    assert next_record(rubbish + record[:-1], 40, 0) == -1

"""A wrong bit in the header of a segment costs nothing: readers, writer and retention go on as if it were right."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.journal import HEADER, Frame, JournalConfig, JournalWriter, encode, list_segments, read
from store.journal.segments import COMPRESSED, HeaderError, Segment, header, is_header_whole, parse_header

TOPIC = "port/CNNGB-DEMO/vehicle/T-001/telemetry"
BITS = 8 * HEADER.size


def journalled(folder: Path, frames: int) -> JournalWriter:
    writer = JournalWriter(JournalConfig(folder, segment_bytes=300), lambda: 5_000)
    for number in range(frames):
        record = encode(writer.begin(), number + 1, 1, [(TOPIC, b"payload %d" % number, 1)])
        writer.append(record.blob, 1)
    return writer


def flip(path: Path, *bits: int) -> bytes:
    """Flip bits of a file; return what it was."""
    before = path.read_bytes()
    data = bytearray(before)
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return before


@pytest.mark.parametrize("nth", [0, 1, -1])
def test_whichever_bit_is_wrong_nothing_is_missing_and_ingest_goes_on(nth: int, tmp_path: Path) -> None:
    journalled(tmp_path, 16).close()
    segments, frames = list_segments(tmp_path), list(read(tmp_path))
    assert len(segments) > 3
    path = segments[nth].path
    for bit in range(BITS):
        whole = flip(path, bit)
        assert list_segments(tmp_path) == segments, bit
        assert not is_header_whole(path)
        path.write_bytes(whole)
    flip(path, 77)
    assert list(read(tmp_path)) == frames
    writer = JournalWriter(JournalConfig(tmp_path, segment_bytes=300, keep_s=1e9), lambda: 6_000)
    assert writer.frames == len(frames)
    assert writer.expendable(writer.end) == []
    record = encode(writer.begin(), 99, 2, [(TOPIC, b"more", 1)])
    writer.append(record.blob, 1)
    writer.close()
    found: list[Frame] = list(read(tmp_path))
    assert (found[:-1], found[-1].payload) == (frames, b"more")


@settings(max_examples=500)
@given(
    st.sampled_from([1, COMPRESSED]),
    st.integers(0, 2**63),
    st.integers(0, 2**40),
    st.sets(st.integers(0, BITS - 33), min_size=2, max_size=4),
)
def test_more_wrong_bits_are_never_taken_for_another_header(
    tmp_path_factory: pytest.TempPathFactory, version: int, base: int, first: int, bits: set[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"{base:016x}.qfj"
    path.write_bytes(header(base, first, 5_000, version))
    flip(path, *bits)
    try:
        found = parse_header(path)
    except HeaderError:
        return
    finally:
        path.unlink()
    assert found == Segment(path, base, first, 5_000, version)

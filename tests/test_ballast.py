"""The ballast under the journal: a full disk has room for the end of the work at hand, and for nothing new."""

import errno
import os
from pathlib import Path

import pytest
from made_journal import TOPICS, append, writer_of

from store.journal import Ballast, JournalFullError, encode, list_segments, read
from store.journal.ballast import NAME

SIZE = 1 << 20
MESSAGES = [(TOPICS[0], b"x" * 100, 1)] * 3


class Disk:
    """A disk that is full but for what the ballast takes up."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._ballast = folder / NAME
        self._write, self._statvfs = os.write, os.statvfs
        monkeypatch.setattr(os, "write", self._guarded)
        monkeypatch.setattr(os, "statvfs", self._about)

    def _guarded(self, descriptor: int, data: bytes) -> int:
        if self.full and self._ballast.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(descriptor, data)

    def _about(self, path: Path) -> os.statvfs_result:
        about = list(self._statvfs(path))
        if self.full:
            about[4] = 0  # f_bavail
        return os.statvfs_result(about)


def test_the_batch_at_hand_is_kept_and_nothing_more_is_begun_until_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    writer = writer_of(tmp_path, ballast_bytes=SIZE)
    assert writer.ballast.state == "ready"
    assert (tmp_path / NAME).stat().st_blocks * 512 >= SIZE
    frames = append(writer, MESSAGES)
    disk.full = True
    frames += append(writer, MESSAGES)
    assert writer.ballast.state == "released"
    assert not (tmp_path / NAME).exists()
    for _ in range(3):
        with pytest.raises(JournalFullError, match="ballast"):
            writer.begin()
    writer.forget(writer.expendable(0))
    assert list(read(tmp_path)) == frames
    disk.full = False
    frames += append(writer, MESSAGES)
    assert writer.ballast.state == "ready"
    assert list(read(tmp_path)) == frames
    writer.close()
    assert not (tmp_path / NAME).exists()


def test_a_new_segment_without_space_lets_the_ballast_go_for_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, monkeypatch)
    writer = writer_of(tmp_path, ballast_bytes=SIZE, segment_bytes=64)
    append(writer, MESSAGES)
    disk.full = True
    with pytest.raises(JournalFullError, match="new segment"):
        writer.begin()
    assert writer.ballast.state == "released"
    assert len(list_segments(tmp_path)) == 1
    disk.full = False
    append(writer, MESSAGES)
    assert writer.ballast.state == "ready"
    writer.close()


def test_a_disk_too_small_for_a_ballast_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch)
    disk.full = True
    ballast = Ballast(tmp_path, SIZE)
    assert ballast.restore()
    assert ballast.state == "none"
    assert not ballast.release()
    disk.full = False
    assert ballast.restore()
    assert ballast.state == "ready"


def test_a_ballast_left_by_a_crash_is_taken_over_even_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ballast(tmp_path, SIZE).restore()
    Disk(tmp_path, monkeypatch).full = True
    ballast = Ballast(tmp_path, SIZE)
    ballast.restore()
    assert ballast.state == "ready"
    assert ballast.release()


def test_a_ballast_that_cannot_be_taken_up_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, begin: int, size: int) -> None:
        os.truncate(descriptor, size // 2)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    ballast = Ballast(tmp_path, SIZE)
    assert ballast.restore()
    assert ballast.state == "none"
    assert list(tmp_path.iterdir()) == []


def test_without_a_size_there_is_no_ballast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = writer_of(tmp_path)
    assert (writer.ballast.state, writer.ballast.restore(), writer.ballast.release()) == ("none", True, False)
    frames = append(writer, MESSAGES)
    attempts = iter([errno.ENOSPC])
    write = os.write

    def full_once(descriptor: int, data: bytes) -> int:
        if (number := next(attempts, None)) is not None:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full_once)
    batch = encode(writer.begin(), 1, 1, MESSAGES)
    with pytest.raises(JournalFullError):
        writer.append(batch.blob, len(MESSAGES))
    assert list(read(tmp_path)) == frames
    writer.close()

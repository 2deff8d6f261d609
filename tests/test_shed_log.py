"""Counts of what was shed survive whatever a process or a power cut does, and count once."""

from pathlib import Path

import pytest

from store.shed_log import Shed, ShedLog


def shed(log: ShedLog, *frames: int) -> None:
    for n in frames:
        log.append(log.number, Shed(n, {"a": n}))


def counts(log: ShedLog, number: int) -> list[int]:
    return [each.topics["a"] for each in log.since(number)]


def test_a_commit_contains_what_was_shed_before_it_and_nothing_later(tmp_path: Path) -> None:
    log = ShedLog(tmp_path / "shed")
    shed(log, 1, 2)
    first = log.cut()
    assert log.cut() == first
    shed(log, 3)
    second = log.cut()
    shed(log, 4)
    again = ShedLog(tmp_path / "shed")
    assert [counts(again, number) for number in (0, first, second)] == [[1, 2, 3, 4], [3, 4], [4]]


def test_what_is_read_once_and_committed_is_not_read_again_whatever_the_store_goes_back_to(tmp_path: Path) -> None:
    log = ShedLog(tmp_path / "shed")
    shed(log, 1)
    log.cut()
    shed(log, 2)
    # A power cut takes the store back to where it had nothing.
    second = ShedLog(tmp_path / "shed")
    assert counts(second, 0) == [1, 2]
    second.skip_to(0)
    kept = second.cut()
    shed(second, 3)
    third = ShedLog(tmp_path / "shed")
    assert counts(third, kept) == [3]
    # And a checkpoint may know numbers of which no file is left.
    third.skip_to(100)
    shed(third, 4)
    assert counts(ShedLog(tmp_path / "shed"), 100) == [4]


def test_what_is_forgotten_is_what_lies_before(tmp_path: Path) -> None:
    log = ShedLog(tmp_path / "shed")
    assert not log.holds(log.cut())
    shed(log, 1)
    before = log.cut()
    shed(log, 2)
    assert log.holds(before)
    log.forget(before)
    assert not log.holds(before)
    assert counts(ShedLog(tmp_path / "shed"), 0) == [2]


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    log = ShedLog(tmp_path / "shed")
    shed(log, 1)
    [path] = (tmp_path / "shed").iterdir()
    whole = path.read_bytes()
    shed(log, 2)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        shed(log, 2)
        assert counts(log, 0) == [2], length


def test_a_line_that_was_damaged_is_said_and_spoils_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ShedLog(tmp_path / "shed")
    shed(log, 1, 2)
    [path] = (tmp_path / "shed").iterdir()
    first, *rest = path.read_bytes().lstrip().split(b"\n")
    for at in range(len(first)):
        for damage in (b"\xff", b"\x00"):
            caplog.clear()
            path.write_bytes(b"\n".join([b"", first[:at] + damage + first[at + 1 :], *rest]))
            assert counts(log, 0) == [2], (at, damage)
            assert "is passed over" in caplog.text

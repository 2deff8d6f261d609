"""`quayflow journal`: what it says of whole and of damaged journals, plain and compressed."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from made_journal import TOPICS, fleet_journal
from typer.testing import CliRunner

from quayflow.main import app
from store.journal import HEADER, Compressor, Frame, list_segments


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["journal", *map(str, arguments)])
    return done.exit_code, done.stdout


def verdict(data: Path) -> tuple[int, dict[str, Any]]:
    code, said = run("verify", "--data", data, "--json")
    return code, json.loads(said)


@pytest.fixture(params=["plain", "compressed"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Frame]]:
    frames = fleet_journal(tmp_path / "data" / "journal", segment_bytes=8_000)
    if request.param == "compressed":
        assert Compressor(tmp_path / "data" / "journal", threading.Lock(), 400).work() == 1
    return tmp_path / "data", frames


def flip(path: Path, at: int) -> None:
    found = bytearray(path.read_bytes())
    found[at] ^= 0x10
    path.write_bytes(found)


def test_a_whole_journal_is_verified(data: tuple[Path, list[Frame]]) -> None:
    folder, frames = data
    assert verdict(folder) == (
        0,
        {"frames": len(frames), "bad": 0, "frames_lost": 0, "damage": [], "incomplete_tail_bytes": 0},
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.995])
def test_a_flipped_bit_is_exactly_one_bad_record_named_by_segment_and_offset(
    data: tuple[Path, list[Frame]], tmp_path: Path, share: float
) -> None:
    folder, frames = data
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    segment = list_segments(copy / "journal")[0]
    at = HEADER.size + int(share * (segment.path.stat().st_size - HEADER.size))
    flip(segment.path, at)
    code, said = verdict(copy)
    assert (code, said["bad"], len(said["damage"])) == (1, 1, 1)
    (found,) = said["damage"]
    assert found["segment"] == segment.path.name
    if segment.version == 1:
        hit = [each for each in frames if each.offset <= segment.base + at][-1]
        assert (found["offset"], found["what"], said["frames_lost"]) == (hit.offset, "lost", 1)
        assert said["frames"] == len(frames) - 1
    else:
        # Compressed, it is put right.
        assert found["what"] in {"repaired", "index"}
        assert (said["frames"], said["frames_lost"]) == (len(frames), 0)
    assert run("verify", "--data", copy)[1].splitlines()[0].endswith("bytes)")


def test_a_damaged_header_is_named_and_the_records_behind_it_are_checked(data: tuple[Path, list[Frame]]) -> None:
    folder, frames = data
    segment = list_segments(folder / "journal")[0]
    flip(segment.path, 20)
    code, said = verdict(folder)
    assert (code, said["frames"], said["bad"]) == (1, len(frames), 1)
    assert said["damage"] == [{"segment": segment.path.name, "offset": 0, "bytes": HEADER.size, "what": "header"}]


@pytest.mark.parametrize("at", range(36, 40))
def test_the_end_of_a_header_is_checked_though_nothing_reads_it(data: tuple[Path, list[Frame]], at: int) -> None:
    folder, frames = data
    segment = list_segments(folder / "journal")[0]
    flip(segment.path, at)
    code, said = verdict(folder)
    assert (code, said["frames"], said["bad"]) == (1, len(frames), 1)
    assert said["damage"] == [{"segment": segment.path.name, "offset": 0, "bytes": HEADER.size, "what": "header"}]


def test_a_bit_flipped_in_the_last_record_of_all_is_a_bad_record_and_no_torn_tail(
    data: tuple[Path, list[Frame]],
) -> None:
    folder, frames = data
    segment, last = list_segments(folder / "journal")[-1], frames[-1].offset
    whole = segment.path.read_bytes()
    end = segment.base + len(whole)
    for at in range(last, end):
        flip(segment.path, at - segment.base)
        code, said = verdict(folder)
        assert (code, said["frames"], said["incomplete_tail_bytes"]) == (1, len(frames) - 1, 0)
        assert said["damage"] == [{"segment": segment.path.name, "offset": last, "bytes": end - last, "what": "lost"}]
        segment.path.write_bytes(whole)
    segment.path.write_bytes(whole[:-1])
    code, said = verdict(folder)
    assert (code, said["bad"], said["incomplete_tail_bytes"]) == (0, 0, end - last - 1)


def test_info_counts_both_forms(data: tuple[Path, list[Frame]]) -> None:
    folder, frames = data
    code, said = run("info", "--data", folder, "--json")
    found = json.loads(said)
    segments = list_segments(folder / "journal")
    assert code == 0
    assert (found["frames"], found["segments"], found["topics"]) == (len(frames), 2, len(TOPICS))
    assert found["compressed"] == sum(each.version == 2 for each in segments)
    assert found["bytes"] == sum(each.path.stat().st_size for each in segments)


def test_cat_writes_what_is_asked_for(data: tuple[Path, list[Frame]]) -> None:
    folder, frames = data
    code, said = run("cat", "--data", folder, "--topic", "T-003", "--from", "2026-11-23T08:15:35Z", "--limit", "4")
    lines = [json.loads(line) for line in said.splitlines()]
    wanted = [each for each in frames if each.topic == TOPICS[3]]
    assert code == 0
    assert [line["offset_bytes"] for line in lines] == [
        each.offset for each in wanted if each.recv_ts >= lines[0]["ts"]
    ][:4]
    assert len(lines) == 4

"""`quayflow journal export`: what the journal holds, as other tools read it."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_journal import NOW, append, writer_of
from typer.testing import CliRunner

from devices.codecs.native import Block, Telemetry, encode
from devices.times import NS, parse_rfc3339
from quayflow import exporting
from quayflow.main import app
from store.journal import list_segments, read

CRANE = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"
VAN = "port/CNNGB-DEMO/vehicle/T-001/telemetry"


def message(seq: int, **metrics: float) -> bytes:
    return encode(Telemetry(v=1, m=dict(metrics), boot=5, seq=seq, ts=NOW + seq * NS))


def block(seq: int, values: list[list[float]]) -> bytes:
    packed = np.array(values, "<f4").tobytes()
    names = ("hoist_height_m", "load_t")
    return msgspec.msgpack.encode(Block(v=1, t0=NOW, dt=NS // 10, names=names, f32=packed, boot=5, seq=seq))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    writer = writer_of(tmp_path / "data" / "journal", segment_bytes=64)
    append(writer, [(VAN, message(nth, speed_mps=nth / 4, x_m=10.0 + nth), 1) for nth in range(8)], NOW + NS)
    append(writer, [(VAN, message(3, speed_mps=0.75, x_m=13.0), 5)], NOW + 2 * NS)
    append(writer, [(CRANE, block(0, [[1.5, 20.0], [2.5, 21.0], [3.5, 1e9]]), 1)], NOW + 3 * NS)
    append(writer, [(VAN, b"{nonsense", 0), ("elsewhere", b"", 9)], NOW + 4 * NS)
    writer.close()
    return tmp_path / "data"


def export(data: Path, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    arguments = ["journal", "export", "--data", str(data), "--out", str(out), "--json", *more]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, json.loads(done.stdout)


def rows_of(out: Path) -> list[tuple[str, str, int, float]]:
    if out.suffix == ".jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        return sorted((each["device"], each["metric"], parse_rfc3339(each["ts"]), each["value"]) for each in lines)
    table = pq.read_table(out)
    ts = table["ts"].cast("int64").to_pylist()
    return sorted(
        zip(table["device"].to_pylist(), table["metric"].to_pylist(), ts, table["value"].to_pylist(), strict=True)
    )


def test_every_sample_is_a_row_and_what_came_again_is_not(data: Path, tmp_path: Path) -> None:
    code, said = export(data, tmp_path / "a.parquet")
    assert code == 0
    assert (said["frames"], said["rows"], said["duplicates"], said["damaged"]) == (12, 21, 1, 0)
    assert said["refused"]["out_of_range"] == 1
    assert sum(said["refused"].values()) == 3
    van, crane = "CNNGB-DEMO/vehicle/T-001", "CNNGB-DEMO/quay-crane/QC01"
    expected = [(van, "speed_mps", NOW + nth * NS, nth / 4) for nth in range(8)]
    expected += [(van, "x_m", NOW + nth * NS, 10.0 + nth) for nth in range(8)]
    expected += [(crane, "hoist_height_m", NOW + nth * NS // 10, 1.5 + nth) for nth in range(3)]
    expected += [(crane, "load_t", NOW + nth * NS // 10, 20.0 + nth) for nth in range(2)]
    assert rows_of(tmp_path / "a.parquet") == sorted(expected)
    assert export(data, tmp_path / "a.jsonl", "--format", "jsonl")[1]["rows"] == 21
    assert rows_of(tmp_path / "a.jsonl") == sorted(expected)
    assert list(tmp_path.glob("*.part")) == []


def test_messages_that_differ_in_nothing_but_numbers_are_rows_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The decoder takes such messages together, as columns, once it has met the device in an earlier batch.
    monkeypatch.setattr(exporting, "FRAMES_AT_ONCE", 10)
    writer = writer_of(tmp_path / "data" / "journal")
    told = [Telemetry(v=1, m={"speed_mps": nth / 4}, boot=5, seq=nth, ts=NOW + nth * NS) for nth in range(40)]
    append(writer, [(VAN, encode(each, binary=True), 1) for each in told], NOW + 41 * NS)
    writer.close()
    code, said = export(tmp_path / "data", tmp_path / "a.parquet")
    assert (code, said["rows"], said["refused"]) == (0, 40, {})
    van = "CNNGB-DEMO/vehicle/T-001"
    assert rows_of(tmp_path / "a.parquet") == [(van, "speed_mps", NOW + nth * NS, nth / 4) for nth in range(40)]


def test_a_range_and_a_topic_narrow_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    assert export(data, out, "--topic", "quay-crane")[1]["frames"] == 1
    assert {row[0] for row in rows_of(out)} == {"CNNGB-DEMO/quay-crane/QC01"}
    said = export(data, out, "--from", "2026-11-23T08:15:32Z", "--to", "2026-11-23T08:15:34Z")[1]
    assert said["frames"] == 2
    assert export(data, out, "--topic", "no such thing") == (
        0,
        {"out": str(out), "frames": 0, "rows": 0, "duplicates": 0, "refused": {}, "damaged": 0},
    )
    assert pq.read_table(out).num_rows == 0


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_raw_frames_come_byte_for_byte(data: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / f"raw.{form}"
    assert export(data, out, "--raw", "--format", form)[1]["rows"] == 12
    frames = list(read(data / "journal"))
    if form == "parquet":
        rows = pq.read_table(out).to_pylist()
        found = [(row["offset"], row["topic"], row["payload"], row["qos"], row["retained"]) for row in rows]
    else:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found = [
            (line["offset"], line["topic"], base64.b64decode(line["payload"]), line["qos"], line["retained"])
            for line in lines
        ]
    assert found == [(each.offset, each.topic, each.payload, each.flags & 3, bool(each.flags & 8)) for each in frames]


def test_damage_is_said_and_the_rest_is_exported(data: Path, tmp_path: Path) -> None:
    path = list_segments(data / "journal")[0].path
    ruined = bytearray(path.read_bytes())
    ruined[60] ^= 1
    path.write_bytes(ruined)
    code, said = export(data, tmp_path / "a.parquet")
    # The damaged message came twice, so its samples are there all the same.
    assert (code, said["frames"], said["damaged"]) == (1, 11, 1)


def test_a_file_that_cannot_be_written_is_one_sentence(data: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["journal", "export", "--data", str(data), "--out", str(tmp_path / "no" / "a.parquet")]
    )
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr

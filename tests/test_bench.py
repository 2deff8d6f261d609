"""The measurements as a machine: rounds become rows, rows become a file. The figures themselves are `make bench`."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from bench.__main__ import TOLD_TO_END, take
from bench.payloads import DEVICES, SteadyMessages, small_frames
from bench.registry import Group, Pair, Round, Row, Scale, chosen, every_group, group
from bench.report import keep, result_of
from devices.codecs.native import decode_telemetry
from engines.ports import wait_until
from faults.resident import now_mb, peak_mb
from quayflow.supervisor import start_tied

ROOT = Path(__file__).parent.parent

FIXED = {"name", "value", "unit", "reference", "reference_value", "ratio", "pairs"}


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    pairs = [Pair(10, 10), Pair(30, 10), Pair(40, 20)]
    result = result_of(Row("x", "1/s", "y", "an x"), pairs)
    assert set(result) == FIXED
    assert (result["value"], result["reference_value"], result["ratio"], result["pairs"]) == (30, 10, 2, 3)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("x", "1/s", "y", ""), None),
        (Row("x", "1/s", "y", "", goal=2), True),
        (Row("x", "1/s", "y", "", goal=2.1), False),
        (Row("x", "s", "y", "", goal=2, less_is_better=True), True),
        (Row("x", "s", "y", "", goal=1.9, less_is_better=True), False),
        (Row("x", "1/s", "y", "", goal=2, goal_value=21), False),
        (Row("x", "1/s", "y", "", goal_value=20), True),
    ],
)
def test_a_goal_is_met_or_missed(row: Row, met: bool | None) -> None:
    assert result_of(row, [Pair(20, 10)]).get("met") is met


def test_details_are_kept_as_their_medians() -> None:
    pairs = [Pair(1, 1, {"rss_mb": size}) for size in (5, 90, 7)]
    assert result_of(Row("x", "1/s", "y", ""), pairs)["rss_mb"] == 7


def test_a_run_of_some_rows_leaves_the_others_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    keep([result_of(Row(name, "1/s", "y", ""), [Pair(1, 1)]) for name in "ab"], path)
    keep([result_of(Row("b", "1/s", "y", ""), [Pair(2, 1)])], path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert {row["name"]: row["value"] for row in document["rows"]} == {"a": 1, "b": 2}
    assert document["machine"]["cores"] >= 1


def test_a_group_is_closed_after_its_rounds() -> None:
    closed = []

    def rounds(scale: Scale) -> Iterator[Round]:
        try:
            while True:
                yield {"x": Pair(scale.of(7, 3), 1)}
        finally:
            closed.append(True)

    found = take(Group((Row("x", "1/s", "y", ""),), rounds), 4, Scale(quick=True), Console(quiet=True))
    assert [pair.value for pair in found["x"]] == [3] * 4
    assert closed == [True]


def test_rows_are_chosen_by_name_and_by_how_they_begin() -> None:
    names = [row.name for each in chosen("ingest_packed*") for row in each.rows]
    assert names == ["ingest_packed_300", "ingest_packed_1500"]
    assert any(row.name == "ingest_qos1_small" for each in chosen("ingest_qos1_small") for row in each.rows)
    with pytest.raises(ValueError, match=r"'nonsense'.*ingest_qos1_small"):
        chosen("nonsense")


def test_what_takes_many_minutes_is_measured_only_when_it_is_named() -> None:
    assert not any(each.long for each in chosen(""))
    [flat] = chosen("rss_flat")
    assert flat.long
    assert flat in every_group()


def test_steady_messages_are_the_small_ones_with_times_and_numbers_of_their_own() -> None:
    messages = SteadyMessages(3).lot(275, 20, 1_000)
    size = len(messages) // 20
    for nth, (topic, payload) in enumerate(small_frames(295, 3)[275:]):
        packet = messages[nth * size : (nth + 1) * size]
        asked = decode_telemetry(payload)
        made = decode_telemetry(packet[packet.index(topic.encode()) + len(topic) + 3 :])
        assert made == structs.replace(asked, seq=(1 << 32) + (275 + nth) // DEVICES, ts=1_000 + nth)
        assert int.from_bytes(packet[packet.index(topic.encode()) + len(topic) :][:2]) == 276 + nth


def test_every_row_has_a_name_of_its_own() -> None:
    names = [row.name for each in every_group() for row in each.rows]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match="two rows of one name"):
        group(Row(names[0], "1/s", "y", ""))(lambda _: iter(()))


def test_the_peak_of_a_process_is_its_own_and_not_that_of_who_started_it() -> None:
    large = b"\1" * (200 << 20)
    assert peak_mb() > len(large) >> 20
    program = "from faults.resident import *; print(now_mb(), peak_mb())"
    child = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    now, peak = map(float, child.stdout.split())
    assert 1 < now <= peak < len(large) >> 20


def test_a_process_that_has_gone_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert peak_mb(child.pid) == now_mb(child.pid) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ingest_packed_300",
        "latency_half_load",
        "recovery",
        "rss_flat",
        "api_throughput_day",
        "api_throughput_month",
        "gateway_5000_sustained",
    ],
)
def test_rows_that_run_the_whole_product_can_be_taken(name: str) -> None:
    [measured] = chosen(name)
    found = take(measured, 1, Scale(quick=True), Console(quiet=True))
    for row in measured.rows:
        assert found[row.name][0].value > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not see to it")
@pytest.mark.parametrize(
    "begin",
    [
        "IngestProcess(Path(sys.argv[1]) / 'data', free_port()).start(connected=False)",
        "start('bench.pacer', str(free_port()), '1', '1', '1')",
        "begun()",
    ],
    ids=["ingest", "a part of the bench", "a broker for tests"],
)
def test_what_was_started_ends_with_whoever_started_it_even_where_that_is_killed(begin: str, tmp_path: Path) -> None:
    program = f"""import sys, time
from pathlib import Path
from bench.trial import start
from faults.ingest_process import IngestProcess
from engines.mosquitto import Mosquitto
from quayflow.broker import free_port
def begun():
    broker = Mosquitto(Path(sys.argv[1]), {{}})
    broker.start()
    return broker
child = {begin}
print(child.pid, flush=True)
time.sleep(60)"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        assert now_mb(pid) > 0
        parent.kill()
    # One that has ended has no memory, whether or not anybody has waited for it.
    wait_until(lambda: now_mb(pid) == 0, "it ends", 10)


def test_what_was_started_outlives_the_thread_that_asked_for_it() -> None:
    found: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: found.append(start_tied([sys.executable, "-c", "input()"], stdin=-1)))
    thread.start()
    thread.join()
    (child,) = found
    with child, pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    assert child.returncode != -signal.SIGKILL


@pytest.mark.parametrize("folder", ["bench", "faults", "tests/engines"])
def test_all_that_bench_faults_and_their_engines_start_is_tied_to_them(folder: str) -> None:
    for file in (ROOT / folder).rglob("*.py"):
        assert "subprocess.Popen(" not in file.read_text(), file


def test_a_bench_that_is_told_to_end_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--only", "rss_flat", "--quick"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}) as running:
        wait_until(lambda: any(tmp_path.glob("quayflow-bench-*/data/journal")), "ingest is set up", 30)
        running.terminate()
    assert running.returncode == TOLD_TO_END
    assert not list(tmp_path.iterdir())

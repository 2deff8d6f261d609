"""`quayflow check` of files of any size: they are gone through, not held, and it is shown how far."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from devices.vocabulary import DeviceClass
from quayflow import progress
from quayflow.captures import Message, pieces
from quayflow.conformance import MOST_FINDINGS, judge
from quayflow.main import app
from quayflow.paces import MOST, Pace, Sample

NS = 1_000_000_000
BEGIN = 1_795_421_730 * NS
MIB = 1 << 20


def bodies(number: int, pad: int = 0, **more: object) -> Iterator[str]:
    for seq in range(number):
        body = {"v": 1, "boot": 5, "seq": seq, "ts": BEGIN + seq * NS, "m": {"load_t": 1.0}} | more
        yield json.dumps(body).replace(' "m"', " " * pad + '"m"')


def peak_kb(path: Path) -> int:
    """Judge a file that conforms in a process of its own, and return the most memory that it took, KB."""
    words = [sys.executable, "-m", "quayflow", "check", str(path), "--as", "quay-crane"]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss


def test_a_file_is_not_held_in_memory_however_large_it_is(tmp_path: Path) -> None:
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_text("\n".join(bodies(10)))
    with large.open("w") as out:
        out.writelines(f"{line}\n" for line in bodies(2_000, pad=100_000))
    assert large.stat().st_size > 180 * MIB
    assert peak_kb(large) - peak_kb(small) < 50 * 1_024


def test_it_is_shown_how_far_a_file_has_been_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text("\n".join(bodies(400, pad=100_000)))
    monkeypatch.setattr(progress, "PLAIN_PERIOD_S", 0.0)
    done = CliRunner().invoke(app, ["check", str(path), "--as", "quay-crane", "--json"])
    assert "checked: 8 of 40 MB, 21 %" in done.stderr
    assert json.loads(done.stdout)["messages"] == 400


def test_a_pipe_is_judged_as_a_file_is(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "quayflow", "check", "/dev/stdin", "--as", "quay-crane", "--json"]
    sent = "\n".join(bodies(300)).encode()
    done = subprocess.run(words, cwd=tmp_path, input=sent, capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["messages"]) == (0, 300), done.stderr


def test_an_empty_file_holds_no_message(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    for codec in ("native", "jt808", "tic40", "epc"):
        found = CliRunner().invoke(app, ["check", str(path), "--as", "vehicle", "--codec", codec])
        assert (found.exit_code, "no message came" in found.output) == (1, True)


def test_documents_one_after_another_without_lines_are_told_apart() -> None:
    sent = [body.encode() for body in bodies(3_000, pad=500)]
    assert len(whole := b"".join(sent)) > MIB
    assert [each.payload for each in pieces(whole, "tic40")] == sent
    # What stands within strings ends no document, wherever a document is cut to be looked at.
    sent = [json.dumps({"text": "}{" * length}).encode() for length in (2_030, 2_048, 33_000, 600_000)]
    assert [each.payload for each in pieces(b"\n".join(sent), "tic40")] == sent


def test_findings_that_never_repeat_are_bounded() -> None:
    topic = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"
    sent = [Message(topic, body.encode(), BEGIN) for body in bodies(1)] * 2
    sent += [
        Message(topic, json.dumps({"v": 1, "ts": BEGIN, "m": {f"name_{nth}": 1}}).encode(), BEGIN)
        for nth in range(MOST_FINDINGS + 500)
    ]
    report = judge(sent, DeviceClass.QUAY_CRANE, "test")
    more = [each for each in report.findings if each.detail == "more that is not listed"]
    assert len(report.findings) <= MOST_FINDINGS + 5
    assert sum(each.count for each in more) >= 500


def test_up_to_some_thousand_times_rate_and_pauses_are_exact_and_beyond_that_close() -> None:
    random = np.random.default_rng(7)
    for number in (2, 3, 100, MOST, 5 * MOST):
        gaps = random.integers(NS // 2, 2 * NS, number)
        gaps[number // 2] = 700 * NS
        times = np.cumsum(gaps)
        pace = Pace()
        # Two by two in the wrong order.
        for ts in times[: number // 2 * 2].reshape(-1, 2)[:, ::-1].ravel().tolist():
            pace.add(ts)
        sent = times[: number // 2 * 2]
        assert pace.rate_hz() == round((len(sent) - 1) / ((sent[-1] - sent[0]) / NS), 3)
        between = np.diff(sent) / NS
        if len(between) < 3:
            assert pace.pauses_s() == (0, 0)
        elif number <= MOST:
            assert pace.pauses_s() == (between.max(), np.median(between))
        else:
            assert pace.pauses_s() == pytest.approx((between.max(), np.median(between)), rel=0.05)


def test_a_sample_of_many_numbers_has_the_median_of_all_and_bounded_size() -> None:
    numbers = np.random.default_rng(7).normal(60 * NS, NS, 100_000).astype(np.int64)
    sample = Sample()
    for number in numbers.tolist():
        sample.add(number)
    assert sample.median() == pytest.approx(float(np.median(numbers)), rel=0.002)
    assert len(sample._kept) <= MOST  # noqa: SLF001 - the bound is the law

"""A slice of the fault catalogue, and the check of the check: a product broken on purpose must be found out."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.__main__ import play
from faults.registry import catalogue, chosen
from faults.rig import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SLICE = [
    "torn-journal",
    "failed-fsync",
    "broker-killed",
    "reorder",
    "poison-corpus",
    "cardinality",
    "duplicate-wire",
    "upgrade",
    "mutants",
    "mutants-per-codec",
]
MUTATIONS = ["early-ack", "no-epoch", "no-dedup"]
KEYS = {"name", "fault", "acked", "stored", "lost", "duplicates_stored", "quarantined", "recovery_s", "rss_mb", "pass"}


@pytest.mark.parametrize("name", SLICE)
def test_the_product_stands_the_fault(name: str) -> None:
    [fault] = chosen(name)
    row = play(fault, quick=True)
    assert row["pass"], row


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_product_broken_on_purpose_is_found_out(name: str) -> None:
    [fault] = chosen(name)
    assert fault.shows is not None
    row = play(fault, quick=True)
    assert row["acked"] > 0, row
    assert row["pass"], row


def test_a_broken_product_that_fails_otherwise_or_an_unbroken_one_that_fails_is_no_proof() -> None:
    [fault] = chosen("no-dedup")
    lost = Outcome(acked=9, stored=8, lost=1, duplicates_stored=0, quarantined=0, recovery_s=0, rss_mb=0, passed=False)
    twice = replace(lost, lost=0, duplicates_stored=1)
    good = replace(lost, lost=0, passed=True)
    for broken, unbroken, proof in (
        (twice, good, True),
        (lost, good, False),
        (twice, lost, False),
        (good, good, False),
        (replace(twice, acked=0), good, False),
    ):
        outcomes = iter([broken, unbroken])
        made = replace(fault, play=lambda _, each=outcomes: next(each), unbroken=lambda _, each=outcomes: next(each))  # type: ignore[misc]
        row = play(made, quick=True)
        assert row["pass"] is proof


def test_every_row_has_the_columns_that_checks_rely_on() -> None:
    [fault] = chosen("two-instances")
    row = play(fault, quick=True)
    assert set(row) >= KEYS
    assert row["pass"], row


def test_a_fault_that_cannot_be_played_fails_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> Any:
        raise RuntimeError("no such engine")

    [fault] = chosen("two-instances")
    for shows in (None, lambda _: True):
        row = play(replace(fault, play=broken, shows=shows), quick=True)
        assert not row["pass"]
        assert "no such engine" in row["measured"]


def test_names_and_numbers_are_unique() -> None:
    names = [fault.name for fault in catalogue()]
    numbers = [fault.number for fault in catalogue()]
    assert len(set(names)) == len(names)
    assert len(set(numbers)) == len(numbers)


def test_every_fault_is_documented(root: Path) -> None:
    text = (root / "docs" / "faults.md").read_text(encoding="utf-8")
    for fault in catalogue():
        assert f"| {fault.number} | `{fault.name}` |" in text, fault.name


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "faults", *arguments]
    return subprocess.run(
        command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def test_only_names_what_is_to_be_played_by_flag_and_by_environment() -> None:
    lettered = [line.split()[0] for line in run("--list", "--only", "F18").stdout.splitlines()]
    assert lettered == ["F18", "F18c", "F18m"]
    for done in (run("--list", "--only", "F29,no-dedup"), run("--list", ONLY="two-instances,M14")):
        assert done.returncode == 0, done.stderr
        assert [line.split()[:2] for line in done.stdout.splitlines()] == [
            ["F29", "two-instances"],
            ["M14", "no-dedup"],
        ]


def test_an_unknown_name_is_a_usage_error_that_says_what_there_is() -> None:
    done = run("--only", "nonsense")
    assert done.returncode == 2
    assert "'nonsense'" in done.stderr
    assert "kill9-loop" in done.stderr
    assert done.stdout == ""

"""Failures that are told in one sentence: each name is a failure's, and a worker loads nothing for their sake."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from engines.ports import wait_until
from faults.ingest_process import IngestProcess
from quayflow.failures import STATUSES, USAGE, status_of
from simulators.tracks import RecordingError
from store.journal import JournalFullError

SETTLING = ("pydantic", "pydantic_core", "pydantic_settings", "typer", "click")
STRANGERS = ("cryptography", "rich", "shapely", "argon2", "simulators", "fastapi", "influxdb_client", "psycopg")


@pytest.mark.parametrize("name", STATUSES)
def test_every_name_is_a_failure(name: str) -> None:
    module, _, own = name.rpartition(".")
    failure = getattr(importlib.import_module(module), own)
    assert issubclass(failure, Exception)
    assert f"{failure.__module__}.{failure.__qualname__}" == name


def test_a_failure_has_the_status_of_what_it_is() -> None:
    assert status_of(RecordingError("no recording")) == USAGE
    assert status_of(JournalFullError("full")) == 1
    assert status_of(ValueError("a mistake")) is None


def test_a_worker_loads_no_part_that_it_does_not_run() -> None:
    code = (
        "import quayflow.main, quayflow.parts, ingest.worker, sys;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(STRANGERS) & set(loaded)


def test_a_running_worker_holds_nothing_that_only_its_settings_need(tmp_path: Path) -> None:
    ingest = IngestProcess(tmp_path / "data", 1).start(connected=False)
    try:
        wait_until(lambda: ingest.said("trying again") > 0, "ingest looks for its broker")
        mapped = Path(f"/proc/{ingest.pid}/maps").read_text(encoding="utf-8")
    finally:
        assert ingest.terminate() == 0
    assert "numpy" in mapped
    assert "pydantic_core" not in mapped
    code = "import quayflow.entry, quayflow.ingesting, ingest.worker, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {*SETTLING, *STRANGERS} & set(loaded)

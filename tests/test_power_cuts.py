"""What a power cut may take of a store, and what it may not. The journal's part is in the simulation."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import committing_child as child
import pytest

from engines.ports import wait_until
from store.interface import StoreUnreachableError
from store.open import open_sink
from store.sinks import EmbeddedSink


@contextmanager
def syncs_noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note the files that are synced from here."""
    noted: list[str] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        noted.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        really(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        yield noted


def test_a_synced_file_outlives_a_power_cut_and_a_disk_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = EmbeddedSink(tmp_path / "quayflow.db")
    sink.commit(child.commit_number(1))
    with syncs_noted(monkeypatch) as noted:
        sink.sync()
    assert noted == ["quayflow.db-wal", tmp_path.name]

    def fails(descriptor: int) -> None:
        raise OSError(5, os.strerror(5), descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreUnreachableError, match=r"quayflow\.db-wal: cannot be synced: Input/output error"):
        sink.sync()
    sink.close()


def test_only_the_file_that_the_journal_can_fill_again_is_not_synced_at_every_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An entry whose rows have been sent, and a record whose entry has been removed, come from nowhere again.
    opened: dict[str, sqlite3.Connection] = {}
    really = sqlite3.connect

    def connect(path: Path, **options: Any) -> sqlite3.Connection:
        opened[Path(path).name] = really(path, **options)
        return opened[Path(path).name]

    monkeypatch.setattr(sqlite3, "connect", connect)
    url = f"sqlite:///{tmp_path}/quayflow.db"
    alone = open_sink(url, url, tmp_path)
    behind = open_sink(f"sqlite:///{tmp_path}/windows.db", f"sqlite:///{tmp_path}/records.db", tmp_path)
    normal, full = 1, 2
    wanted = {"quayflow.db": normal, "outbox.db": full, "windows.db": full, "records.db": full}

    def synchronous() -> dict[str, int]:
        # Delivery opens the remote stores in a thread of its own.
        return {name: each.execute("PRAGMA synchronous").fetchone()[0] for name, each in list(opened.items())}

    wait_until(lambda: synchronous() == wanted, f"databases that are synced as {wanted}")
    alone.close()
    behind.close()

"""The data folder is held by one instance, says who holds it, and refuses what it does not know."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from store.data_folder import FORMAT, DataFolder, DataFolderError

HOLD = """
import sys, pathlib
from store.data_folder import DataFolder
DataFolder.open(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "a" / "b") as folder:
        assert (folder.path / "format").read_text() == f"{FORMAT}\n"
        assert (folder.path / "lock").read_text() == f"{os.getpid()}\n"


def test_identity_is_lasting_and_of_its_own(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "one") as one, DataFolder.open(tmp_path / "two") as two:
        first, second = one.identity, two.identity
    with DataFolder.open(tmp_path / "one") as again:
        assert again.identity == first
    assert first != second
    assert len(first) == 32


def test_second_instance_in_one_process_is_refused(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path), pytest.raises(DataFolderError, match=f"in use by process {os.getpid()}"):
        DataFolder.open(tmp_path)
    DataFolder.open(tmp_path).close()


def test_instance_of_another_process_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataFolderError, match=f"{tmp_path} is in use by process {holder.pid}"):
            DataFolder.open(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    DataFolder.open(tmp_path).close()


def test_child_started_meanwhile_does_not_hold_the_folder(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"  # until its program runs, a child still has what its parent had
        folder.close()
        DataFolder.open(tmp_path).close()
        child.kill()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    folder.close()
    folder.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [(str(FORMAT + 1), "newer quayflow"), ("hello", "not a quayflow data folder"), ("", "expected")],
)
def test_unknown_format_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "format").write_text(text)
    with pytest.raises(DataFolderError, match=message) as refused:
        DataFolder.open(tmp_path)
    assert str(tmp_path) in str(refused.value)
    (tmp_path / "format").write_text(str(FORMAT))
    DataFolder.open(tmp_path).close()  # the refusal let the lock go


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (bytes(33), "damaged"), (b"\xff\xfe", "damaged")])
def test_an_identity_that_a_failing_disk_has_changed_is_not_taken_for_one(
    content: bytes, word: str, tmp_path: Path
) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "identity").write_bytes(content)
    with pytest.raises(DataFolderError, match=f"identity is {word}: restore it, or remove it"):
        DataFolder.open(tmp_path)


def test_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="cannot be written"):
        DataFolder.open(tmp_path / "file" / "data")


TRY = """
import os, sys, pathlib
from store.data_folder import DataFolder, DataFolderError
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    DataFolder.open(pathlib.Path(sys.argv[1]))
except DataFolderError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("path", "reason"), [("/proc/quayflow", ""), ("/etc", ": this user may not do that: correct its permissions")]
)
def test_unwritable_folder_is_refused_by_name(path: str, reason: str) -> None:
    # Root may write anywhere but in /proc, so the other half of the law is tried as an ordinary user.
    done = subprocess.run([sys.executable, "-c", TRY, path], capture_output=True, text=True, check=True)
    assert f"data folder {path} cannot be written{reason}" in done.stdout
    assert "--data" in done.stdout

"""A disk that fails: the calls of ``os`` that change files below a folder, with a memory of what is safe.

What a process has written survives its death, for the kernel holds it. What was not synced before a power cut is cut
off anywhere, with zeros where the size got to the disk and the data did not; and names that were made, moved or removed
since their folder was last synced are as before.
"""

import contextlib
import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

CALLS: Final = ("open", "close", "write", "fdatasync", "fsync", "ftruncate", "truncate", "replace", "rename", "unlink")

SQLITE_LOG: Final = "-wal"
"""How the names of SQLite's logs end. Its calls do not come this way, so of these files nothing is known (see
``SqliteSink``), and whoever lives reads what was written from the kernel, also after a sync that failed."""


class Crash(BaseException):
    """The process is gone; nobody may catch this and go on."""


class _File(io.RawIOBase):
    """A file of Python for writing whose every call comes by way of ``os``, where the disk sees it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def write(self, data: Any) -> int:  # noqa: ANN401 - as io.RawIOBase
        return os.write(self._descriptor, data)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


class Disk:
    """The files below one folder."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        """Watch ``folder`` while :meth:`mounted`."""
        self._folder = str(folder)
        self._graves = folder.parent / "graves"
        self._graves.mkdir()
        self._dice = dice
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}
        self._files: dict[int, str] = {}
        self._safe: dict[str, int] = {}
        """Path → bytes that a power cut leaves."""
        self._names: list[tuple[str, Callable[[], None]]] = []
        """Folder and what undoes it, of each change of names since the folder was synced."""
        self.dead = False
        """Whether the process is gone: every call ends in :class:`Crash`."""
        self.full = False
        self.failing: set[str] = set()
        """Calls whose next turn fails with EIO."""
        self.dies_in = 0
        """The process dies at this call from now on; 0 never."""
        self.on_death: Callable[[], None] = lambda: None
        self.calls = 0

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Put the disk under this process."""
        try:
            for name in CALLS:
                setattr(os, name, getattr(self, f"_{name}"))
            io.open = self._open_file  # type: ignore[assignment]
            yield
        finally:
            io.open = open
            for name, call in self._real.items():
                setattr(os, name, call)

    def lose_power(self) -> None:
        """Leave what is safe, and of the rest what chance leaves."""
        kept = self._dice.randint(0, len(self._names))
        for _, undo in reversed(self._names[kept:]):
            undo()
        self._names.clear()
        for path, safe in list(self._safe.items()):
            if not Path(path).exists():
                del self._safe[path]
                continue
            self._tear(path, safe)
            self._safe[path] = Path(path).stat().st_size
        self._files.clear()

    def remove(self, path: Path) -> None:
        """Remove a file, though no process does."""
        self._real["unlink"](path)

    def _tear(self, path: str, safe: int) -> None:
        """Cut what was not synced off somewhere, and zero some of what is left of it."""
        size = Path(path).stat().st_size
        if size <= safe:
            return
        end = self._dice.randint(safe, size)
        self._real["truncate"](path, end)
        zeros_from = self._dice.randint(safe, end)
        if self._dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
            with Path(path).open("r+b") as file:
                file.seek(zeros_from)
                file.write(bytes(end - zeros_from))

    def _mine(self, path: object) -> str:
        """Return the path if it is below the folder, else ""."""
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        return text if isinstance(text, str) and text.startswith(self._folder) else ""

    def _turn(self, name: str) -> None:
        """Count a call, and die or fail at it if it is its turn."""
        if self.dead:
            raise Crash
        self.calls += 1
        if self.dies_in:
            self.dies_in -= 1
            if not self.dies_in:
                self.dead = True
                self.on_death()
                raise Crash
        if name in self.failing:
            self.failing.discard(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _open(self, path: Any, flags: int, *rest: Any, **options: Any) -> int:  # noqa: ANN401 - as os.open
        mine = self._mine(path)
        if not mine:
            return int(self._real["open"](path, flags, *rest, **options))
        makes = bool(flags & os.O_CREAT) and not Path(mine).exists()
        if makes or self.dead:
            self._turn("open")
        descriptor = int(self._real["open"](path, flags, *rest, **options))
        self._files[descriptor] = mine
        if makes:
            self._safe[mine] = 0
            self._names.append((str(Path(mine).parent), lambda: self._unmake(mine)))
        elif flags & os.O_TRUNC:
            self._safe[mine] = 0
        return descriptor

    def _open_file(
        self,
        file: Any,  # noqa: ANN401 - as io.open
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        *rest: Any,  # noqa: ANN401 - as io.open
        **options: Any,  # noqa: ANN401 - as io.open
    ) -> IO[Any]:
        """Open a file as :meth:`pathlib.Path.open` does; what is written into one from its beginning comes this way."""
        if mode not in {"w", "wb"} or not self._mine(file):
            return open(file, mode, buffering, encoding, *rest, **options)  # noqa: PTH123 - the caller closes it
        binary = io.BufferedWriter(_File(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)))
        return binary if mode == "wb" else io.TextIOWrapper(binary, encoding)

    def _close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:  # noqa: ANN401 - as os.write
        if descriptor not in self._files:
            return int(self._real["write"](descriptor, data))
        self._turn("write")
        if self.full:
            if len(data) > 1 and self._dice.random() < 0.5:  # noqa: PLR2004 - as likely as not
                return int(self._real["write"](descriptor, data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(data) > 1 and self._dice.random() < 0.1:  # noqa: PLR2004 - a short write now and then
            data = data[: self._dice.randint(1, len(data))]
        return int(self._real["write"](descriptor, data))

    def _fdatasync(self, descriptor: int) -> None:
        # What was opened by other means, such as a file of Python, is known by its name.
        path = self._files.get(descriptor) or self._mine(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if not path:
            self._real["fdatasync"](descriptor)
            return
        try:
            self._turn("fdatasync")
        except OSError:
            if not path.endswith(SQLITE_LOG):
                # The kernel says so once and may have dropped the pages: what the file holds now is anything.
                self._tear(path, self._safe.get(path, 0))
                self._safe[path] = Path(path).stat().st_size if Path(path).exists() else 0
            raise
        if path.endswith(SQLITE_LOG):
            return
        if Path(path).is_dir():
            self._names = [each for each in self._names if each[0] != path]
        else:
            self._safe[path] = os.fstat(descriptor).st_size

    _fsync = _fdatasync

    def _ftruncate(self, descriptor: int, length: int) -> None:
        path = self._files.get(descriptor)
        if path is not None:
            self._turn("ftruncate")
            self._safe[path] = min(self._safe.get(path, 0), length)
        self._real["ftruncate"](descriptor, length)

    def _truncate(self, path: Any, length: int) -> None:  # noqa: ANN401 - as os.truncate
        mine = self._mine(path)
        if mine:
            self._turn("truncate")
            self._safe[mine] = min(self._safe.get(mine, length), length)
        self._real["truncate"](path, length)

    def _unlink(self, path: Any, **options: Any) -> None:  # noqa: ANN401 - as os.unlink
        mine = self._mine(path)
        if not mine:
            self._real["unlink"](path, **options)
            return
        self._turn("unlink")
        if Path(mine).exists():
            grave = self._bury(mine)
            self._real["unlink"](path, **options)
            self._names.append((str(Path(mine).parent), lambda: self._dig_up(grave, mine)))
        else:
            self._real["unlink"](path, **options)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:  # noqa: ANN401 - as os.replace
        old, new = self._mine(source), self._mine(target)
        if not (old and new):
            self._real["replace"](source, target, **options)
            return
        self._turn("replace")
        grave = self._bury(new) if Path(new).exists() else ""
        self._real["replace"](source, target, **options)
        size = Path(new).stat().st_size
        moved, replaced = self._safe.pop(old, size), self._safe.get(new, size)
        self._safe[new] = moved

        def undo() -> None:
            if Path(new).exists():
                self._real["replace"](new, old)
                self._safe[old] = moved
            if grave:
                self._dig_up(grave, new)
                self._safe[new] = replaced

        self._names.append((str(Path(new).parent), undo))

    _rename = _replace

    def _unmake(self, path: str) -> None:
        if Path(path).exists():
            self._real["unlink"](path)

    def _bury(self, path: str) -> str:
        """Keep a file whose name is about to go."""
        grave = str(self._graves / f"{len(list(self._graves.iterdir()))}")
        os.link(path, grave)
        return grave

    def _dig_up(self, grave: str, path: str) -> None:
        self._real["replace"](grave, path)

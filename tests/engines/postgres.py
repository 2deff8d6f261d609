"""A real PostgreSQL for tests: its own cluster in a temporary folder, reached through a Unix socket in it.

PostgreSQL refuses to run as root; root starts it as the user ``postgres``, whom Debian's package creates.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from engines.ports import wait_until
from quayflow.supervisor import start_tied

DEBIAN = Path("/usr/lib/postgresql")
USER = "postgres"


@dataclass
class Postgres:
    """A cluster; ``folder`` holds its data, its socket and its log."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Return the records' URL of a database."""
        return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}"

    def create(self, database: str) -> str:
        """Create an empty database and return its records' URL."""
        with psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url(database)

    def start(self) -> None:
        """Start the server on the cluster as it is and wait until it takes connections."""
        # Losing the cluster in a power cut is nothing to a test, so nothing waits for the disk.
        settings = [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "listen_addresses=",
            "max_connections=40",
        ]
        options = [part for setting in settings for part in ("-c", setting)]
        command = [_program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = start_tied(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=_user(),
                group=_user(),
                extra_groups=_groups(),
            )
        wait_until(self._answers, f"postgres answers, see {self.folder}")

    def stop(self) -> None:
        """Stop the server, cutting its connections; idempotent."""
        if self._process is not None:
            self._process.send_signal(2)  # SIGINT: "fast" shutdown
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise RuntimeError(f"postgres ended with {code}: {(self.folder / 'postgres.log').read_text()[-2000:]}")
        try:
            psycopg.connect(host=str(self.folder), user=USER, dbname="postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _user() -> str | None:
    return USER if os.getuid() == 0 else None


def _groups() -> list[str] | None:
    return [] if os.getuid() == 0 else None


def _program(name: str) -> str:
    """Return a server program, which Debian keeps out of PATH, of the newest version installed."""
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parent.parent.name))
    found = str(versions[-1]) if versions else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install postgresql")
    return found


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Create a cluster in a temporary folder and run it; afterwards nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="quayflow-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, USER, USER)
        subprocess.run(
            [
                _program("initdb"),
                "-D",
                str(folder / "data"),
                "-U",
                USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "-N",
            ],
            check=True,
            capture_output=True,
            user=_user(),
            group=_user(),
            extra_groups=_groups(),
            cwd=folder,
        )
        postgres = Postgres(folder)
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

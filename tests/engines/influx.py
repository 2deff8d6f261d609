"""A real InfluxDB 1.x for tests, behind an nginx that offers the write address of 1.8 and later.

Debian's influxd 1.6.7 has ``/write`` and ``/query`` but no ``/api/v2/write``; nginx maps the one to the other, so the
genuine ``influxdb-client`` writes to it. The Authorization header passes and is ignored, influxd unpacks gzip itself.
"""

import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engines.ports import free_port, listens, wait_until
from engines.programs import program

INFLUXD = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
  logging-enabled = false
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "inmem"
  query-log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
[logging]
  level = "warn"
"""

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  # bucket=database/policy, the slash written as %2F by every client
  map $arg_bucket $database {{ "~^(?<db>[^%/]+)" $db; }}
  map $arg_bucket $policy {{ default ""; "~(?:%2F|/)(?<rp>.+)$" $rp; }}
  upstream influxd {{ server 127.0.0.1:{http}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{proxy};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 120s;
    location = /api/v2/write {{
      rewrite ^ /write?db=$database&rp=$policy&precision=$arg_precision? break;
      proxy_pass http://influxd;
    }}
    location / {{ proxy_pass http://influxd; }}
  }}
}}
"""

POLICY = "autogen"


@dataclass
class Influx:
    """A running server. ``address`` is nginx's, ``direct`` influxd's own, both ``http://host:port``."""

    folder: Path
    http: int
    rpc: int
    proxy: int
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where ``/api/v2/write`` and ``/query`` are."""
        return f"http://127.0.0.1:{self.proxy}"

    @property
    def direct(self) -> str:
        """Where influxd itself is, with ``/write``."""
        return f"http://127.0.0.1:{self.http}"

    def url(self, database: str) -> str:
        """Return the window store's URL of a database."""
        return f"influxdb://tester:secret@127.0.0.1:{self.proxy}/{database}/{POLICY}?org=port"

    def create(self, database: str) -> str:
        """Create an empty database and return its window store's URL."""
        self.ask(f'DROP DATABASE "{database}"')
        self.ask(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def ask(self, statement: str, database: str = "") -> bytes:
        """Run a statement past everything of ours and return the answer's text."""
        form = urllib.parse.urlencode({"q": statement, "db": database, "epoch": "ns"}).encode()
        with urllib.request.urlopen(f"{self.direct}/query", form, timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def write(self, database: str, line: str) -> None:
        """Write a line past everything of ours."""
        address = f"{self.direct}/write?db={urllib.parse.quote(database)}&rp={POLICY}&precision=ns"
        urllib.request.urlopen(address, line.encode(), timeout=30).close()

    def start(self) -> None:
        """Start influxd on the folder as it is, and nginx if it does not run."""
        self._run("influxd", [program("influxd"), "run", "-config", str(self.folder / "influxdb.conf")])
        wait_until(self._answers, f"influxd answers on {self.http}, see {self.folder}")
        if "nginx" not in self._processes:
            config = str(self.folder / "nginx.conf")
            self._run(
                "nginx", [program("nginx"), "-p", str(self.folder), "-c", config, "-e", str(self.folder / "nginx.log")]
            )
            wait_until(lambda: listens(self.proxy), f"nginx listens on {self.proxy}, see {self.folder}")

    def stop(self, *, kill: bool = False) -> None:
        """Stop influxd alone; nginx stays and answers 502."""
        self._end("influxd", kill=kill)

    def close(self) -> None:
        """Stop everything."""
        for name in ("nginx", "influxd"):
            self._end(name, kill=True)

    def _run(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def _end(self, name: str, *, kill: bool) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        (process.kill if kill else process.terminate)()
        process.wait(30)

    def _answers(self) -> bool:
        code = self._processes["influxd"].poll()
        if code is not None:
            words = (self.folder / "influxd.out").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"influxd ended with {code}: {words}")
        try:
            with urllib.request.urlopen(f"{self.direct}/ping", timeout=2) as answer:
                return bool(answer.status == 204)
        except OSError:
            return False


@contextmanager
def running_influx() -> Iterator[Influx]:
    """Start influxd and nginx on free ports in a temporary folder; afterwards nothing of them is left."""
    folder = Path(tempfile.mkdtemp(prefix="quayflow-influx-"))
    influx = Influx(folder, free_port(), free_port(), free_port())
    ports = {"folder": folder, "http": influx.http, "rpc": influx.rpc, "proxy": influx.proxy}
    (folder / "influxdb.conf").write_text(INFLUXD.format(**ports))
    (folder / "nginx.conf").write_text(NGINX.format(**ports))
    try:
        influx.start()
        yield influx
    finally:
        influx.close()
        shutil.rmtree(folder, ignore_errors=True)

"""InfluxDB 1.x for tests, behind an nginx that offers the write address of 1.8 and later.

Debian's influxd 1.6.7 has ``/write`` and ``/query`` but no ``/api/v2/write``; nginx maps the one to the other, so the
genuine ``influxdb-client`` writes to it. The Authorization header passes and is ignored, influxd unpacks gzip itself.
"""

from engines.influx_server import InfluxServer
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


class Influx1(InfluxServer):
    """influxd 1.6.7 and nginx."""

    def __init__(self) -> None:
        """Take free ports and a temporary folder; nothing runs before :meth:`start`."""
        super().__init__()
        self._http = free_port()
        ports = {"folder": self.folder, "http": self._http, "rpc": free_port(), "proxy": self.port}
        (self.folder / "influxdb.conf").write_text(INFLUXD.format(**ports))
        (self.folder / "nginx.conf").write_text(NGINX.format(**ports))

    def url(self, database: str) -> str:
        """Return the window store's URL of a database."""
        return f"influxdb://tester:secret@127.0.0.1:{self.port}/{database}/{POLICY}?org=port"

    def create(self, database: str) -> str:
        """Create an empty database and return its window store's URL."""
        self.ask(f'DROP DATABASE "{database}"')
        self.ask(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def keep(self, database: str, hours: int) -> None:
        """Let the server refuse, and forget, what is older."""
        self.ask(f'ALTER RETENTION POLICY "{POLICY}" ON "{database}" DURATION {hours}h SHARD DURATION 1h')

    def write_request(self, database: str) -> tuple[str, dict[str, str]]:
        """Return path and headers with which lines are posted."""
        return f"/api/v2/write?bucket={database}%2F{POLICY}&precision=ns", {}

    def start(self) -> None:
        """Start influxd on the folder as it is, and nginx if it does not run."""
        self._run("influxd", [program("influxd"), "run", "-config", str(self.folder / "influxdb.conf")])
        wait_until(lambda: self._answers(self._http), f"influxd answers on {self._http}, see {self.folder}")
        if "nginx" not in self._processes:
            config = str(self.folder / "nginx.conf")
            self._run(
                "nginx", [program("nginx"), "-p", str(self.folder), "-c", config, "-e", str(self.folder / "nginx.log")]
            )
            wait_until(lambda: listens(self.port), f"nginx listens on {self.port}, see {self.folder}")

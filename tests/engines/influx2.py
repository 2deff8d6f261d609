"""InfluxDB 2.x for tests, as it comes: organisation, a bucket for each database, a token that may use this bucket only.

Debian has none and no package registry ships one, so it is run where TEST_INFLUXD2 names a built influxd.
"""

import json
import urllib.parse
from collections.abc import Mapping
from typing import Final

from engines.influx_server import InfluxServer
from engines.ports import wait_until

ORG: Final = "port"
OPERATOR: Final = "operator-of-the-tests"


class Influx2(InfluxServer):
    """influxd 2.x and nothing before it."""

    def __init__(self, influxd: str) -> None:
        """Keep the path of the program."""
        super().__init__()
        self._influxd = influxd
        self._org_id = ""
        self._tokens: dict[str, str] = {}

    def url(self, database: str) -> str:
        """Return the window store's URL of a bucket, with the token made for it; else with one that may do anything."""
        return f"influxdb://{self._tokens.get(database, OPERATOR)}@127.0.0.1:{self.port}/{database}?org={ORG}"

    def create(self, database: str) -> str:
        """Create an empty bucket and a token that may read and write it, and return its window store's URL."""
        for bucket in self._buckets(database):
            self.send("DELETE", f"/api/v2/buckets/{bucket}", None, {})
        made = self.call("POST", "/api/v2/buckets", {"orgID": self._org_id, "name": database, "retentionRules": []})
        self._tokens[database] = self.token(str(made["id"]), "read", "write")
        return self.url(database)

    def token(self, bucket: str, *actions: str) -> str:
        """Return a new token that may do these things to the bucket of this id."""
        resource = {"type": "buckets", "id": bucket, "orgID": self._org_id}
        permissions = [{"action": action, "resource": resource} for action in actions]
        made = self.call("POST", "/api/v2/authorizations", {"orgID": self._org_id, "permissions": permissions})
        return str(made["token"])

    def keep(self, database: str, hours: int) -> None:
        """Let the server refuse, and forget, what is older."""
        rule = {"type": "expire", "everySeconds": hours * 3600, "shardGroupDurationSeconds": 3600}
        for bucket in self._buckets(database):
            self.call("PATCH", f"/api/v2/buckets/{bucket}", {"retentionRules": [rule]})

    def write_request(self, database: str) -> tuple[str, dict[str, str]]:
        """Return path and headers with which lines are posted."""
        return f"/api/v2/write?org={ORG}&bucket={urllib.parse.quote(database)}&precision=ns", self.identity()

    def identity(self) -> dict[str, str]:
        """Return the headers with which who may do everything asks."""
        return {"Authorization": f"Token {OPERATOR}"}

    def start(self) -> None:
        """Start influxd on the folder as it is; the first time with an organisation."""
        folder = self.folder
        command = [self._influxd, "--bolt-path", f"{folder}/influxd.bolt", "--sqlite-path", f"{folder}/influxd.sqlite"]
        command += ["--engine-path", f"{folder}/engine", "--http-bind-address", f"127.0.0.1:{self.port}"]
        self._run("influxd", [*command, "--reporting-disabled", "--log-level", "warn"])
        wait_until(lambda: self._answers(self.port), f"influxd answers on {self.port}, see {folder}")
        if not self._org_id:
            setup = {"username": "tester", "password": "long enough", "org": ORG, "bucket": "first", "token": OPERATOR}
            made = self.call("POST", "/api/v2/setup", setup)
            self._org_id = made["org"]["id"]

    def call(self, method: str, path: str, document: Mapping[str, object] | None = None) -> dict[str, dict[str, str]]:
        """Call its management API and return the answer."""
        body = None if document is None else json.dumps(document).encode()
        said = self.send(method, path, body, {"Content-Type": "application/json"})
        found: dict[str, dict[str, str]] = json.loads(said)
        return found

    def _buckets(self, name: str) -> list[str]:
        """Return the ids of the buckets of this name."""
        found = self.call("GET", f"/api/v2/buckets?orgID={self._org_id}&limit=100")
        return [bucket["id"] for bucket in found["buckets"] if bucket["name"] == name]  # type: ignore[index]

"""Window rows in InfluxDB 1.8, 2.x or 3.x: written through ``influxdb-client``, read through InfluxQL.

Run against 2.7.12, and 1.6.7 behind a proxy that offers ``/api/v2/write``; 3.x is written for from its documentation.
"""

import contextlib
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from analytics.rows import TIERS_S, SeriesKey, WindowRows, WindowSums
from devices.columns import Bools
from devices.times import NS
from devices.vocabulary import PERCENTILED
from store.influxql import (
    FOREIGN,
    REFUSED,
    InfluxqlClient,
    InfluxqlError,
    Series,
    duration_ns,
    failure,
    is_foreign,
    quoted,
    said,
)
from store.interface import EARLIEST_NS, PointsRejectedError, StoreRefusedError, StoreUnreachableError
from store.line_protocol import (
    BINS_FIELD,
    FLOAT_FIELDS,
    INTEGER_FIELDS,
    bins_back,
    lines,
    measurement,
    scale_of,
    tags_of,
    unscaled_back,
)
from store.system_words import of_address

LINES_PER_WRITE: Final = 5_000
CONNECT_TIMEOUT_MS: Final = 5_000
"""A host that cannot be reached is given up so soon: the system's own next tries are further and further apart."""
WRITE_TIMEOUT_MS: Final = 30_000
DEVICES_PER_QUERY: Final = 100
COMPRESSION: Final = 1
"""zlib level of what is sent. Measured on window lines: level 1 leaves 21 % at 600 k lines/s on one core, the client's
own 9 leaves 18 % at 48 k."""

POLICY_PERIOD_NS: Final = 60 * NS
CLOCKS_APART_NS: Final = 60 * NS
"""By how much the server's clock may be behind ours, so that nothing that it would take is kept from it."""

LATEST_NS: Final = 2**63 - 366 * 86_400 * NS
"""Latest time that InfluxDB can hold, less a year to round in."""

CORE_RANGE_NS: Final = 72 * 3600 * NS
"""Longest range that one query may span on InfluxDB 3 Core."""

# The client declares its precisions as objects of a class whose values are the texts that it wants.
_NANOSECONDS: Final = cast("WritePrecision", WritePrecision.NS)
_REFUSED: Final = frozenset({400, 413, 422})
_KEY: Final = ("tier_s", "window", "series", "epoch")
_FIELDS: Final = (*INTEGER_FIELDS, *FLOAT_FIELDS)
_GROUP: Final = '"site", "class", "device", "metric", "worker"'
_SUMMED: Final = ("count", "sum", "late")


@dataclass(frozen=True)
class InfluxTarget:
    """Which bucket of which server."""

    url: str
    """``http://host:port`` or ``https://host:port``."""

    bucket: str
    """Bucket of 2.x and 3.x, ``database/retention-policy`` on 1.8."""

    org: str = "-"
    """Organisation of 2.x; the others do not look at it."""

    token: str = ""
    """Token, or ``user:password`` on 1.8; "" where the server asks for none."""

    def __post_init__(self) -> None:
        """Refuse what no server could mean."""
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: {self.url!r} must begin with http:// or https://")
        if not self.bucket.strip("/"):
            raise ValueError("bucket: missing; use influxdb://token@host:port/bucket")
        if not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("windows_url: the token has a letter that HTTP cannot carry: only ASCII can be sent")

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``influxdb://user:token@host:port/bucket?org=…``; ``influxdbs`` speaks TLS.

        ``user`` may be left out (``influxdb://:token@…``). It is sent only with a bucket ``database/retention-policy``,
        for 1.8 knows users and passwords. Raises ValueError naming the part that is wrong.
        """
        parts = urlsplit(url)
        schemes = {"influxdb": "http", "influxdbs": "https"}
        if parts.scheme not in schemes or not parts.hostname:
            raise ValueError("windows_url: expected influxdb://user:token@host:port/bucket?org=… or influxdbs://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        bucket = unquote(parts.path.strip("/"))
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        token = f"{user}:{password}" if user and password and "/" in bucket else password or user
        org = parse_qs(parts.query).get("org", ["-"])[0]
        return cls(f"{schemes[parts.scheme]}://{host}:{parts.port or 8086}", bucket, org, token)

    @property
    def database(self) -> tuple[str, str]:
        """Database and retention policy for InfluxQL; the policy is "" where the bucket is the database."""
        database, _, policy = self.bucket.partition("/")
        return database, policy


class InfluxWindowStore:
    """A :class:`store.interface.WindowStore` in InfluxDB."""

    def __init__(self, target: InfluxTarget, *, read_only: bool = False) -> None:
        """Keep where to write and ask; nothing is connected before it is needed.

        ``read_only``: for who never writes, and may have a token that does not allow it.
        """
        self._target = target
        self._read_only = read_only
        self._name = f"InfluxDB at {target.url}, bucket {target.bucket},"
        self._client = InfluxDBClient(
            target.url, target.token, org=target.org, enable_gzip=True, timeout=(CONNECT_TIMEOUT_MS, WRITE_TIMEOUT_MS)
        )
        self._client.api_client.configuration.update_request_body = _compressed
        self._writes = self._client.write_api(write_options=SYNCHRONOUS)
        self._queries = InfluxqlClient(target.url, *target.database, target.token)
        self._building = ThreadPoolExecutor(1, thread_name_prefix="influx-lines")
        self._version: str | None = None
        self._keeps_ns = 0
        self._ask_policy_at = 0

    def write(self, rows: WindowRows) -> None:
        """Write rows in requests of at most 5,000 lines; a point that exists is replaced.

        While the server takes one request, another thread makes the lines of the next.
        """
        if not len(rows):
            return
        body = _body(rows, 0)
        for after in range(LINES_PER_WRITE, len(rows), LINES_PER_WRITE):
            following = self._building.submit(_body, rows, after)
            self._post(body)
            body = following.result()
        self._post(body)

    def _post(self, body: bytes) -> None:
        target = self._target
        try:
            self._writes.write(target.bucket, target.org, body, _NANOSECONDS)
        except ApiException as error:
            words = said(error.body or error.reason or "")
            if is_foreign(error.status, error.body or ""):
                raise StoreRefusedError(f"{self._name} answered {error.status}: {words}; {FOREIGN}") from error
            if error.status in _REFUSED:
                raise PointsRejectedError(words) from error
            raise failure(self._name, error.status, words, error.headers) from error
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnreachableError(f"InfluxDB at {target.url} cannot be reached: {of_address(error)}") from error

    def check(self) -> None:
        """Read, or else write, no point: who only writes may have a token that does not let it read."""
        if self._read_only:
            for _ in self._ask(f'SELECT "count" FROM "{measurement(TIERS_S[-1])}" WHERE time >= 0 AND time < 1'):  # noqa: S608 - our own name
                pass
        else:
            # A line without a point, for 2.7 fails at an empty body. Who may write may be told that points are missing.
            with contextlib.suppress(PointsRejectedError):
                self._post(b"\n")

    def remove(self, rows: WindowRows) -> None:
        """Overwrite the points of these keys by such as say that nothing is left: 3.x can delete none."""
        zero = np.zeros(len(rows), np.int64)
        nothing = dict.fromkeys(WindowRows.columns(), zero) | {name: getattr(rows, name) for name in _KEY}
        self.write(WindowRows(rows.keys, rows.worker, *(nothing[name] for name in WindowRows.columns())))

    def kept_from(self, now_ns: int) -> int:
        """Return the time before which the server refuses points, as far as it says, ns UTC; it is asked now and then.

        What it refuses by its own clock beside that, it refuses when it is sent.
        """
        if now_ns >= self._ask_policy_at:
            try:
                self._keeps_ns = self._policy_ns()
                self._ask_policy_at = now_ns + POLICY_PERIOD_NS
            except InfluxqlError:
                self._keeps_ns, self._ask_policy_at = 0, now_ns + POLICY_PERIOD_NS
            except StoreUnreachableError:
                # Whoever may only write is not told; and one that is away says so when it is written to.
                pass
        return now_ns - self._keeps_ns - CLOCKS_APART_NS if self._keeps_ns else EARLIEST_NS

    def _policy_ns(self) -> int:
        """Return how long the retention policy keeps points, 0 for ever."""
        if self._is_of("2"):
            # In InfluxQL it says of every bucket that it keeps points for ever.
            return self._queries.bucket_keeps_s(self._target.bucket, self._target.org) * NS
        database, policy = self._target.database
        name = database.replace("\\", "\\\\").replace('"', '\\"')
        for group in self._queries.ask(f'SHOW RETENTION POLICIES ON "{name}"'):
            for row in group.values:
                told = dict(zip(group.columns, row, strict=True))
                if told["name"] == policy or (not policy and told["default"]):
                    return duration_ns(str(told["duration"]))
        return 0

    def read(
        self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey], worker: str | None = None
    ) -> WindowRows:
        """Return every row of ``series`` in one tier with ``start_ns`` ≤ window < ``end_ns``, not folded.

        A row that is being written at this moment is not there yet: the server takes a point field by field, so a
        query may meet one that has only some. One that is being replaced may be read with fields of both.
        """
        fields = (*_FIELDS, BINS_FIELD) if any(key.metric in PERCENTILED for key in series) else _FIELDS
        position = {key: index for index, key in enumerate(series)}
        groups = self._groups(tier_s, (start_ns, end_ns), position, fields, worker)
        parts = [_rows(group, tier_s, position, series) for group in groups]
        return WindowRows.concatenate(parts) if parts else WindowRows.empty(series)

    def read_sums(self, tier_s: int, start_ns: int, end_ns: int, series: Sequence[SeriesKey]) -> WindowSums:
        """Return what adds up of the rows that :meth:`read` returns."""
        position = {key: index for index, key in enumerate(series)}
        groups = self._groups(tier_s, (start_ns, end_ns), position, _SUMMED)
        return WindowSums.concatenate([_sums(group, tier_s, position) for group in groups])

    def heard(self, tier_s: int, windows: range, series: Sequence[SeriesKey]) -> Bools:
        """Return in which windows there are samples of a series; shape (series, windows)."""
        position = {key: index for index, key in enumerate(series)}
        result = np.zeros((len(series), len(windows)), np.bool_)
        for group in self._groups(tier_s, (windows.start, windows.stop), position, ("count",)):
            time = np.array([time for time, count in group.values if count], np.int64)
            result[position[_key(group)], (time - windows.start) // windows.step] = True
        return result

    def _groups(
        self,
        tier_s: int,
        span_ns: tuple[int, int],
        series: Iterable[SeriesKey],
        fields: Sequence[str],
        worker: str | None = None,
    ) -> Iterator[Series]:
        """Yield the points of the windows of one tier that begin in a span, by series and worker."""
        # A window's points lie in its first second, so bounds that are moved up to windows' starts cut between windows.
        width = tier_s * NS
        start, end = (-(-min(max(ns, EARLIEST_NS), LATEST_NS) // width) * width for ns in span_ns)
        wanted = ", ".join(f'"{name}"' for name in fields)
        source = f'SELECT {wanted} FROM "{measurement(tier_s)}"'  # noqa: S608 - our own names
        for first, last in self._ranges(start, end):
            # The conditions name exactly the wanted series, so every group is of one of them.
            for where in _conditions(series):
                where = where if worker is None else f'{where} AND "worker" = {quoted(worker)}'  # noqa: PLW2901
                yield from self._ask(f"{source} WHERE time >= {first} AND time < {last} AND {where} GROUP BY {_GROUP}")

    def find(
        self,
        *,
        site: str | None = None,
        device_class: str | None = None,
        device: str | None = None,
        metrics: Iterable[str] | None = None,
    ) -> list[SeriesKey]:
        """Return the series known, filtered, sorted."""
        names = None if metrics is None else sorted(set(metrics))
        if names == []:
            return []
        given = (("site", site), ("class", device_class), ("device", device))
        clauses = [f'"{name}" = {quoted(value)}' for name, value in given if value is not None]
        if names is not None:
            clauses.append("(" + " OR ".join(f'"metric" = {quoted(name)}' for name in names) + ")")
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        return sorted({SeriesKey(t["site"], t["class"], t["device"], t["metric"]) for t in self._tags(where)})

    def _tags(self, where: str) -> Iterator[dict[str, str]]:
        """Yield the tags of the series; 3.x has no ``SHOW SERIES``, so there the points themselves are asked."""
        measurements = ", ".join(f'"{measurement(tier_s)}"' for tier_s in TIERS_S)
        try:
            for group in self._queries.ask(f"SHOW SERIES FROM {measurements}{where}"):
                for row in group.values:
                    yield tags_of(str(row[0]))
        except InfluxqlError as error:
            if "not found" in str(error):
                raise self._unreachable(error) from error
        else:
            return
        for group in self._ask(
            f'SELECT LAST("count") FROM {measurements}{where} GROUP BY "site", "class", "device", "metric"'  # noqa: S608
        ):
            yield group.tags

    def expire(self, before_ns: Mapping[int, int]) -> int:  # noqa: ARG002 - the server's retention policy holds
        """Return 0: InfluxDB keeps rows as long as its retention policy says."""
        return 0

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._building.shutdown()
        self._queries.close()
        self._client.close()  # type: ignore[no-untyped-call] # the client's own gap

    def _ask(self, statement: str) -> Iterator[Series]:
        try:
            yield from self._queries.ask(statement)
        except InfluxqlError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> StoreUnreachableError:
        words = f"InfluxDB at {self._target.url}, bucket {self._target.bucket}: {error}"
        if "not found" in str(error):
            # 2.x says so also of a bucket that the token may not read.
            return StoreRefusedError(f"{words}; {REFUSED[404]}, or give its token the right to read the bucket")
        return StoreUnreachableError(words)

    def _is_of(self, major: str) -> bool:
        """Tell whether the server is of this major version."""
        if self._version is None:
            self._version = self._queries.version()
        return self._version.startswith(f"{major}.")

    def _ranges(self, start_ns: int, end_ns: int) -> Iterator[tuple[int, int]]:
        """Cut a range into those that the server answers in one query."""
        step = CORE_RANGE_NS if self._is_of("3") else max(end_ns - start_ns, 1)
        for first in range(start_ns, end_ns, step):
            yield first, min(first + step, end_ns)


def _body(rows: WindowRows, first: int) -> bytes:
    """Return the request that begins with row number ``first``."""
    some = rows.take(np.arange(first, min(first + LINES_PER_WRITE, len(rows))))
    return "\n".join(lines(some)).encode()


def _compressed(_path: str, body: object) -> object:
    """Take the place of the client's own compression, which is gzip at level 9."""
    return gzip.compress(body, COMPRESSION) if isinstance(body, bytes) else body


def _conditions(series: Iterable[SeriesKey]) -> Iterator[str]:
    """Yield conditions that together match exactly ``series``, each naming a bounded number of devices.

    Devices of one site and class that are asked for the same metrics share a condition.
    """
    metrics: dict[tuple[str, str, str], list[str]] = {}
    for site, device_class, device, metric in series:
        metrics.setdefault((site, device_class, device), []).append(metric)
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (site, device_class, device), names in metrics.items():
        alike.setdefault((site, device_class, tuple(sorted(names))), []).append(device)
    for (site, device_class, wanted), devices in alike.items():
        which = " OR ".join(f'"metric" = {quoted(name)}' for name in wanted)
        for first in range(0, len(devices), DEVICES_PER_QUERY):
            some = " OR ".join(f'"device" = {quoted(device)}' for device in devices[first : first + DEVICES_PER_QUERY])
            yield f'"site" = {quoted(site)} AND "class" = {quoted(device_class)} AND ({some}) AND ({which})'


def _rows(group: Series, tier_s: int, position: dict[SeriesKey, int], series: Sequence[SeriesKey]) -> WindowRows:
    """Return the points of one series and worker as rows; shape (points,)."""
    key = _key(group)
    scale = scale_of(key.metric)
    needed = [group.columns.index(name) for name in _FIELDS]
    whole = [point for point in group.values if all(point[at] is not None for at in needed)]
    if not whole:
        return WindowRows.empty(series)
    columns = dict(zip(group.columns, zip(*whole, strict=True), strict=True))
    time = np.array(columns["time"], np.int64)
    arrays = {name: np.array(columns[name], np.int64) for name in INTEGER_FIELDS}
    arrays |= {name: unscaled_back(np.array(columns[name], np.float64), scale) for name in FLOAT_FIELDS}
    arrays["epoch"] = time % (tier_s * NS)
    arrays["window"] = time - arrays["epoch"]
    arrays["tier_s"] = np.full(len(time), tier_s, np.int64)
    arrays["series"] = np.full(len(time), position[key], np.int64)
    bins = bins_back(columns[BINS_FIELD]) if key.metric in PERCENTILED and BINS_FIELD in columns else None
    return WindowRows(series, "", *(arrays[name] for name in WindowRows.columns()), bins=bins)


def _sums(group: Series, tier_s: int, position: Mapping[SeriesKey, int]) -> WindowSums:
    """Return what adds up of the points of one series and worker; shape (points,)."""
    whole = [point for point in group.values if None not in point]
    time, count, total, late = np.array(whole, np.int64).reshape(-1, 1 + len(_SUMMED)).T
    series = np.full(len(time), position[_key(group)], np.int64)
    return WindowSums(time - time % (tier_s * NS), series, count, total, late)


def _key(group: Series) -> SeriesKey:
    tags = group.tags
    return SeriesKey(tags["site"], tags["class"], tags["device"], tags["metric"])

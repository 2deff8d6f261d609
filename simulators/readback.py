"""Reading back: does the API show what was sent? Per device and metric, count and sum, to the last digit.

What is there already is read before; what has been added since must be what was sent, each message once. So nobody else
may publish for these devices meanwhile.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import numpy as np
import urllib3

from devices.codecs.native import Block, Telemetry
from devices.times import NS, format_rfc3339, parse_rfc3339
from devices.vocabulary import INDEX, MAXIMUM, MINIMUM, SCALE
from simulators.moving import decoded
from store.accounts import ENDS

GRID_NS: Final = 10 * NS
"""Figures of the API lie on a grid of 10 s."""
PARALLEL: Final = 4
POLL_S: Final = 0.5
PAGE: Final = 1_000
TIMEOUT_S: Final = 10.0
MOST_NOTES: Final = 20
NOT_FOUND: Final = 404
OK: Final = 200


class ReadBackError(Exception):
    """The API cannot be asked; the message says why."""


class Sum(NamedTuple):
    """A checksum: how many samples, and the sum of their values in the metric's resolution."""

    samples: int
    total: int

    def since(self, other: "Sum") -> "Sum":
        """Return what was added since ``other``."""
        return Sum(self.samples - other.samples, self.total - other.total)


@dataclass(slots=True)
class Series:
    """One metric of one device, as it was sent."""

    count: int = 0
    total: int = 0
    first_ns: int = 2**63 - 1
    last_ns: int = -(2**63)

    def add(self, ts: int, last_ns: int, count: int, total: int) -> None:
        """Add samples from ``ts`` to ``last_ns``."""
        self.count += count
        self.total += total
        self.first_ns = min(self.first_ns, ts)
        self.last_ns = max(self.last_ns, last_ns)


@dataclass(slots=True)
class Expected:
    """What the store must hold of the messages sent."""

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    """(uid, metric) → its samples."""
    uids: set[str] = field(default_factory=set)
    messages: int = 0
    """Messages of devices."""
    unchecked: int = 0
    """Those of which no samples are compared: they are no native telemetry with time and number."""
    _seen: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def add(self, topic: str, payload: bytes) -> None:
        """Take a message that is about to be sent; one that was sent before adds nothing."""
        native = decoded(topic, payload)
        if native is None:
            self.unchecked += 1
            return
        key, _, found = native
        self.uids.add(key.uid)
        self.messages += 1
        if not isinstance(found, Telemetry | Block) or found.boot is None or found.seq is None or found.ts is None:
            self.unchecked += 1
            return
        seen = self._seen.setdefault(key.uid, set())
        if (found.boot, found.seq) in seen:
            return
        seen.add((found.boot, found.seq))
        if isinstance(found, Telemetry):
            ts = parse_rfc3339(found.ts) if isinstance(found.ts, str) else found.ts
            for metric, value in found.m.items():
                self._add(key.uid, metric, ts, ts, np.array([value], np.float64))
        else:
            values = np.frombuffer(found.f32, "<f4").reshape(found.rows, len(found.names))
            last = found.t0 + found.dt * (found.rows - 1)
            for metric, column in zip(found.names, values.T, strict=True):
                self._add(key.uid, metric, found.t0, last, column.astype(np.float64))

    def _add(self, uid: str, metric: str, ts: int, last_ns: int, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        index = INDEX.get(metric)
        if index is None:
            return
        good = values[(values >= MINIMUM[index]) & (values <= MAXIMUM[index])]
        if len(good):
            series = self.series.setdefault((uid, metric), Series())
            series.add(ts, last_ns, len(good), int(np.rint(good * SCALE[index]).sum()))


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the API showed in the end."""

    stored: int
    """Messages of the devices concerned that ingest has taken meanwhile, whatever became of them."""
    messages: int
    """Messages of devices that were sent."""
    quarantined: int
    series: int
    """Series compared."""
    mismatches: int
    """Series of which count or sum differ."""
    unchecked: int
    """Messages about which no series says anything: events, states, foreign formats, and those without a number."""
    notes: tuple[str, ...]
    """The first differences, in words."""
    seconds: float
    """How long after the last acknowledgement everything was there, or was given up."""

    @property
    def good(self) -> bool:
        """Whether every checksum agrees."""
        return not self.mismatches


class Reader:
    """Asks an API before and after."""

    def __init__(self, url: str) -> None:
        """``url`` such as ``http://127.0.0.1:8080``."""
        self._url = url.rstrip("/")
        self._http = urllib3.PoolManager(maxsize=PARALLEL, timeout=TIMEOUT_S, retries=2)
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="readback")
        self._accounts: Mapping[str, Mapping[str, int]] = {}
        self._sums: dict[tuple[str, str], Sum] = {}

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown()
        self._http.clear()

    async def before(self, expected: Expected) -> None:
        """Note what is there already of what will be sent. ReadBackError where the API cannot be asked."""
        self._accounts = await self._run(self._ledger)
        # Of a device without an account nothing can be there.
        known = {each: series for each, series in expected.series.items() if each[0] in self._accounts}
        self._sums = dict.fromkeys(expected.series, Sum(0, 0)) | await self._sums_of(known)

    async def after(self, expected: Expected, patience_s: float) -> ReadBack:
        """Wait until the API shows everything, ``patience_s`` at most, and compare."""
        began = time.monotonic()
        left, added = dict(expected.series), dict.fromkeys(expected.series, Sum(0, 0))
        while True:
            stored, quarantined = self._taken(await self._run(self._ledger), expected.uids)
            seconds = time.monotonic() - began
            # The ledger is one question, the series are many: they are asked when there is a chance.
            if stored >= expected.messages or seconds > patience_s:
                added |= {each: now.since(self._sums[each]) for each, now in (await self._sums_of(left)).items()}
                left = {each: sent for each, sent in left.items() if added[each] != Sum(sent.count, sent.total)}
                if not left or seconds > patience_s:
                    break
            await asyncio.sleep(POLL_S)
        notes = tuple(
            f"{uid} {metric}: {series.count} samples with the sum {series.total} were sent, "
            f"{added[uid, metric].samples} with {added[uid, metric].total} are there"
            for (uid, metric), series in list(left.items())[:MOST_NOTES]
        )
        return ReadBack(
            stored=stored,
            messages=expected.messages,
            quarantined=quarantined,
            series=len(expected.series),
            mismatches=len(left),
            unchecked=expected.unchecked,
            notes=notes,
            seconds=round(seconds, 2),
        )

    def _taken(self, accounts: Mapping[str, Mapping[str, int]], uids: Iterable[str]) -> tuple[int, int]:
        stored = quarantined = 0
        for uid in uids:
            now, then = accounts.get(uid, {}), self._accounts.get(uid, {})
            stored += sum(now.get(end, 0) - then.get(end, 0) for end in ENDS)
            quarantined += now.get("quarantined", 0) - then.get("quarantined", 0)
        return stored, quarantined

    async def _run(self, work: Any, *arguments: Any) -> Any:  # noqa: ANN401 - whatever the work returns
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _sums_of(self, series: Mapping[tuple[str, str], Series]) -> dict[tuple[str, str], Sum]:
        keys = list(series)
        found = await asyncio.gather(*(self._run(self._sum, *key, series[key]) for key in keys))
        return dict(zip(keys, found, strict=True))

    def _ledger(self) -> dict[str, dict[str, int]]:
        accounts: dict[str, dict[str, int]] = {}
        cursor = None
        while True:
            page = self._get("/v1/ledger", {"limit": PAGE} | ({"cursor": cursor} if cursor else {})) or {}
            accounts |= {item["uid"]: item["frames"] for item in page["items"]}
            cursor = page["next"]
            if cursor is None:
                return accounts

    def _sum(self, uid: str, metric: str, series: Series) -> Sum:
        start = series.first_ns // GRID_NS * GRID_NS
        end = series.last_ns // GRID_NS * GRID_NS + GRID_NS
        query = {"metric": metric, "start": format_rfc3339(start), "end": format_rfc3339(end)}
        found = self._get(f"/v1/devices/{quote(uid.replace('/', '~'))}/telemetry", query)
        if found is None:
            return Sum(0, 0)
        inside = [each for each in found["points"] if start <= parse_rfc3339(each["time"]) < end]
        scale = SCALE[INDEX[metric]]
        return Sum(sum(each["count"] for each in inside), sum(round(each["sum"] * scale) for each in inside))

    def _get(self, path: str, query: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None for an unknown device."""
        url = f"{self._url}{path}?{urlencode(query)}"
        try:
            answer = self._http.request("GET", url)
            body = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ReadBackError(f"{self._url}: {getattr(error, 'reason', error)}") from None
        if answer.status == NOT_FOUND:
            return None
        if answer.status != OK:
            raise ReadBackError(f"{url}: {answer.status} {body.get('detail', '')}")
        return dict(body)

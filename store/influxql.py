"""A small client for InfluxQL over ``/query``, the one dialect that InfluxDB 1.x, 2.x and 3.x have in common.

Beside it, what a server tells of itself: its version, and how long a bucket of 2.x keeps points.
"""

import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import msgspec
import urllib3

from devices.times import NS
from store.interface import StoreRefusedError, StoreUnreachableError
from store.system_words import of_address

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
CHUNK_ROWS: Final = 10_000
"""Rows per part of an answer; the server sends them one after another and holds no more in memory."""

CONNECTIONS: Final = 8

_DURATION: Final = re.compile(r"(\d+)(h|ms|m|us|µs|ns|s)")
_UNIT_NS: Final = {"h": 3600 * NS, "m": 60 * NS, "s": NS, "ms": 1_000_000, "us": 1_000, "µs": 1_000, "ns": 1}

REFUSED: Final = {
    401: "correct the token in windows_url",
    403: "give the token in windows_url the right to read and write the bucket",
    404: "create the bucket or database, or correct windows_url",
}
"""Statuses of a server that does not let us in or lacks what we name, and what to do then."""
_NO_ORG: Final = "name the organisation as org=… in windows_url"

FOREIGN: Final = (
    "that is no answer of InfluxDB: begin windows_url with influxdbs:// if it speaks TLS, or correct the port"
)
"""What to do where somebody else answers than InfluxDB."""

Value = int | float | str | bool | None


class InfluxqlError(Exception):
    """A statement that the server understood as a request but would not run; carries its words."""


class Series(msgspec.Struct):
    """One group of an answer."""

    name: str = ""
    tags: dict[str, str] = {}
    columns: list[str] = []
    values: list[list[Value]] = []


class _Result(msgspec.Struct):
    series: list[Series] = []
    error: str = ""


class _Part(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_PART: Final = msgspec.json.Decoder(_Part)


class _Rule(msgspec.Struct):
    seconds: int = msgspec.field(name="everySeconds", default=0)


class _Bucket(msgspec.Struct):
    rules: list[_Rule] = msgspec.field(name="retentionRules", default_factory=list)


class _Buckets(msgspec.Struct):
    buckets: list[_Bucket] = []


class InfluxqlClient:
    """Asks one database; may be used from several threads."""

    def __init__(self, url: str, database: str, retention_policy: str, token: str) -> None:
        """Keep where to ask. ``retention_policy`` and ``token`` may be empty."""
        self._url = url
        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=False, timeout=timeout)
        self._form = {"db": database, "epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        if retention_policy:
            self._form["rp"] = retention_policy
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        if token:
            self._headers["Authorization"] = f"Token {token}"

    def ask(self, statement: str) -> Iterator[Series]:
        """Yield the groups of an answer; a group that exceeds a part comes in several.

        Raises :class:`StoreUnreachableError` or :class:`InfluxqlError`.
        """
        try:
            form = urlencode(self._form | {"q": statement}).encode()
            response = self._pool.urlopen(
                "POST", f"{self._url}/query", body=form, headers=self._headers, preload_content=False
            )
            try:
                if response.status != 200:  # noqa: PLR2004 - HTTP's own number
                    raise _refusal(self._url, response)
                for line in _lines(response):
                    yield from _groups(_PART.decode(line))
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnreachableError(f"InfluxDB at {self._url} cannot be reached: {of_address(error)}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreUnreachableError(
                f"InfluxDB at {self._url} sent an answer that is no InfluxQL: {error}"
            ) from error

    def bucket_keeps_s(self, bucket: str, org: str) -> int:
        """Return how long a bucket of 2.x keeps points, s, 0 for ever. StoreUnreachableError if it is not told."""
        response = self._get(f"/api/v2/buckets?{urlencode({'name': bucket, 'org': org})}")
        if response.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise failure(f"InfluxDB at {self._url}", response.status, said(response.data), response.headers)
        try:
            found = msgspec.json.decode(response.data, type=_Buckets).buckets
        except msgspec.DecodeError as error:
            raise StoreUnreachableError(f"InfluxDB at {self._url} tells no buckets: {error}") from error
        return min((rule.seconds for each in found for rule in each.rules if rule.seconds), default=0)

    def version(self) -> str:
        """Return the server's version as it says on ``/ping``, "" if it does not say. StoreUnreachableError."""
        response = self._get("/ping")
        if response.status >= 500:  # noqa: PLR2004 - HTTP's own number
            # What stands before a server that is away does not know which version it is.
            raise failure(f"InfluxDB at {self._url}", response.status, said(response.data), response.headers)
        return response.headers.get("X-Influxdb-Version", "").removeprefix("v")

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.urlopen("GET", self._url + path, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnreachableError(f"InfluxDB at {self._url} cannot be reached: {of_address(error)}") from error

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._pool.clear()


def quoted(text: str) -> str:
    """Return an InfluxQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def duration_ns(text: str) -> int:
    """Return a duration as the server writes it, such as ``168h0m0s``, in ns."""
    return sum(int(number) * _UNIT_NS[unit] for number, unit in _DURATION.findall(text))


def said(body: bytes | str) -> str:
    """Return what a server says in an error's body: its JSON's ``error`` or ``message``, else its first 300 letters."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body if isinstance(body, str) else body.decode("utf-8", "replace")
        return text.strip()[:300]
    if isinstance(answer, dict):
        return str(answer.get("error") or answer.get("message") or answer)[:300]
    return str(answer)[:300]


def is_foreign(status: int, body: bytes | str) -> bool:
    """Tell whether a refusal is not about what was sent, but says that somebody else listens, or that TLS is spoken.

    That is 400 with a page in HTML, of a proxy, or with the words of a server that was to be spoken to in TLS.
    """
    text = (body if isinstance(body, str) else body.decode("utf-8", "replace")).lstrip()
    return status == 400 and (text.startswith("<") or "HTTPS server" in text)  # noqa: PLR2004 - HTTP's own number


def retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """Return how many seconds ``Retry-After`` asks to wait, from a number or from a date beside ``Date``."""
    given = (headers or {}).get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given)
    try:
        date, now = parsedate_to_datetime(given), parsedate_to_datetime((headers or {}).get("Date", ""))
        return max(0.0, (date - now).total_seconds())
    except (TypeError, ValueError):
        return None


def _refusal(url: str, response: urllib3.BaseHTTPResponse) -> Exception:
    words = said(response.read(64 * 1024, decode_content=True))
    if response.status == 400:  # noqa: PLR2004 - HTTP's own number
        return InfluxqlError(words)
    return failure(f"InfluxDB at {url}", response.status, words, response.headers)


def failure(where: str, status: int, words: str, headers: Mapping[str, str] | None) -> StoreUnreachableError:
    """Return what an answer of this status means: a server in trouble, or one that will not serve us."""
    hint = _NO_ORG if status == 404 and "organization" in words else REFUSED.get(status)  # noqa: PLR2004 - HTTP's own
    kind = StoreUnreachableError if hint is None else StoreRefusedError
    message = f"{where} answered {status or 'with an error'}: {words}"
    return kind(message if hint is None else f"{message}; {hint}", retry_after_s=retry_after_s(headers))


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield the lines of an answer; one may come in thousands of pieces, which are looked at once each."""
    begun: list[bytes] = []
    for piece in response.stream(2**18, decode_content=True):
        *ends, rest = piece.split(b"\n")
        for end in ends:
            line = b"".join((*begun, end))
            begun.clear()
            if line.strip():
                yield line
        begun.append(rest)
    last = b"".join(begun)
    if last.strip():
        yield last


def _groups(part: _Part) -> Iterator[Series]:
    if part.error:
        raise InfluxqlError(part.error)
    for result in part.results:
        if result.error:
            raise InfluxqlError(result.error)
        yield from result.series

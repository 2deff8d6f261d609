"""Query parameters that several endpoints share, and the checks that FastAPI does not make."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Path, Query, Request, Response

from api import cursors
from api.config import ApiConfig
from api.problems import ApiError, parameter_error
from api.series import Span, default_step
from api.times import (
    GRID_NS,
    STEP_FORMS,
    STEP_PATTERN,
    TIME_FORMS,
    TIME_PATTERN,
    format_duration,
    on_grid,
    parse_step,
    parse_time,
)
from api.wiring import Wiring
from devices.times import NS, format_rfc3339
from devices.topics import DEVICE, SITE, DeviceKey
from devices.vocabulary import DeviceClass
from store.interface import DeviceRecord
from store.registry_entries import RegisteredDevice

MAX_LIMIT: Final = 1_000
DAY_NS: Final = 86_400 * NS
DEVICE_PATTERN: Final = rf"^({SITE.pattern}~[a-z-]{{1,32}}~)?{DEVICE.pattern}$"
_NEITHER: Final = frozenset({"limit", "cursor"})
"""Parameters that do not change which items a list has."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items in the answer.", examples=[100])]
Cursor = Annotated[
    str | None,
    Query(
        max_length=cursors.MAX_LENGTH,
        description="`next` of the answer before, unchanged; the other filters must be the same.",
        json_schema_extra={"pattern": "^[A-Za-z0-9_-]+$"},
    ),
]
Site = Annotated[
    str | None,
    Query(pattern=f"^{SITE.pattern}$", description="UN/LOCODE and facility of a site.", examples=["CNNGB-DEMO"]),
]
Class = Annotated[DeviceClass | None, Query(alias="class", description="Device class.", examples=["quay-crane"])]
Start = Annotated[
    str | None,
    Query(
        max_length=64,
        description=f"Begin of the range, inside it: {TIME_FORMS}.",
        examples=["-1h", "2026-11-23T08:00:00Z"],
        json_schema_extra={"pattern": TIME_PATTERN},
    ),
]
End = Annotated[
    str | None,
    Query(
        max_length=64,
        description=f"End of the range, outside it: {TIME_FORMS}.",
        examples=["now", "2026-11-23T16:00:00Z"],
        json_schema_extra={"pattern": TIME_PATTERN},
    ),
]
Step = Annotated[
    str | None,
    Query(
        max_length=64,
        description=f"Width of a bucket, aligned to the epoch: {STEP_FORMS}.",
        examples=["5m", "PT1H"],
        json_schema_extra={"pattern": STEP_PATTERN},
    ),
]
DeviceFilter = Annotated[
    str | None,
    Query(
        max_length=128,
        pattern=DEVICE_PATTERN,
        description="A device's own id, or its uid with ~ in the place of each /.",
        examples=["QC01", "CNNGB-DEMO~quay-crane~QC01"],
    ),
]
DeviceId = Annotated[
    str,
    Path(
        max_length=128,
        pattern=DEVICE_PATTERN,
        description="The device's own id, or its uid with ~ in the place of each /.",
        examples=["QC01", "CNNGB-DEMO~quay-crane~QC01"],
    ),
]


def refuse_unknown(request: Request, known: Mapping[str, AbstractSet[str]]) -> None:
    """Raise a problem for a query parameter that the path does not know, or that is given twice.

    ``known``: path template → parameter names.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    allowed = known.get(getattr(request.scope.get("route"), "path", ""), frozenset())
    for name in dict.fromkeys(names):
        if name not in allowed:
            choice = ", ".join(sorted(allowed)) or "none"
            raise parameter_error(name[:64], f"not a parameter of this path; allowed: {choice}", "unknown-parameter")
        if names.count(name) > 1:
            raise parameter_error(name, "given more than once; give it once", "unknown-parameter")


def time_of(name: str, text: str | None, now_ns: int) -> int | None:
    """Return the time that a parameter says, None if it is not given; a problem if it is malformed."""
    if text is None:
        return None
    try:
        return parse_time(text, now_ns)
    except ValueError as error:
        raise parameter_error(name, str(error)) from None


def check_order(start_ns: int | None, end_ns: int | None) -> None:
    """Raise a problem unless ``start`` is before ``end``."""
    if start_ns is not None and end_ns is not None and end_ns <= start_ns:
        detail = f"{format_rfc3339(end_ns)} is not after start, {format_rfc3339(start_ns)}"
        raise parameter_error("end", detail, "reversed-range")


@dataclass(frozen=True, slots=True)
class Asked:
    """The range and step of a question, as written."""

    start: str | None
    end: str | None
    step: str | None

    def span(self, config: ApiConfig, now_ns: int, default_points: int) -> Span:
        """Return the range on the 10 s grid; a problem if it is malformed, reversed or too large."""
        end = time_of("end", self.end, now_ns)
        end = now_ns if end is None else end
        start = time_of("start", self.start, now_ns)
        start = max(0, end - 3_600 * NS) if start is None else start
        check_order(start, end)
        if end - start < GRID_NS:
            detail = f"{format_rfc3339(end)} is less than one window of 10 s after start, {format_rfc3339(start)}"
            raise parameter_error("end", detail, "reversed-range")
        if end - start > config.max_range_days * DAY_NS:
            detail = f"the range is {(end - start) / DAY_NS:.1f} days long; allowed: {config.max_range_days}"
            raise parameter_error("start", detail, "range-too-large")
        start, end = on_grid(start), on_grid(end)
        return Span(start, end, self._step_s(start, end, default_points))

    def _step_s(self, start_ns: int, end_ns: int, default_points: int) -> int:
        if self.step is None:
            return default_step(start_ns, end_ns, default_points)
        try:
            return parse_step(self.step)
        except ValueError as error:
            raise parameter_error("step", str(error)) from None


def check_size(config: ApiConfig, span: Span, lines: int) -> None:
    """Raise a problem if the answer, of ``lines`` series, would have too many buckets."""
    points = -(-(span.end_ns - span.start_ns) // span.step_ns) + 1
    most = min(config.max_points, config.max_cells // max(1, lines))
    if points > most:
        seconds = (span.end_ns - span.start_ns) // NS
        wide_enough = max(10, -(-seconds // (max(1, most - 1) * 10)) * 10)
        detail = (
            f"{format_duration(span.step_s)} makes about {points} buckets in each of {lines} series; "
            f"allowed here: {most}, so at least {format_duration(wide_enough)}"
        )
        raise parameter_error("step", detail, "range-too-large")


async def device_of(wiring: Wiring, text: str, parameter: str, site: str | None = None) -> DeviceRecord:
    """Return the device (of ``site``) that an id or a uid names; a problem if there is none, or several."""
    stores = wiring.stores
    if "~" in text:
        device = await stores.ask(stores.records.device, text.replace("~", "/"))
        found = [] if device is None else [device]
    else:
        found = await stores.ask(stores.records.devices_named, text)
    found = [device for device in found if site in {None, device.site}]
    if not found:
        detail = f"no device {text!r} has been heard" + ("" if site is None else f" at {site}")
        raise ApiError("unknown-device", detail, errors=[{"parameter": parameter, "detail": detail}])
    if len(found) > 1:
        raise _ambiguous(text, parameter, [device.uid for device in found])
    return found[0]


def _ambiguous(text: str, parameter: str, uids: Sequence[str]) -> ApiError:
    detail = f"{len(uids)} devices are called {text!r}: {', '.join(uids[:10])}"
    errors = [{"parameter": parameter, "detail": detail}]
    return ApiError("ambiguous-device", detail, errors=errors, members={"uids": list(uids[:100])})


async def known_key(wiring: Wiring, text: str, parameter: str) -> DeviceKey:
    """Return the device that an id or a uid names, also one that is registered or refused and was never heard."""
    try:
        return DeviceKey.from_uid((await device_of(wiring, text, parameter)).uid)
    except ApiError as error:
        if error.kind.slug != "unknown-device":
            raise
        unheard = await wiring.stores.ask(_unheard, wiring, text)
        if not unheard:
            raise
        if len(unheard) > 1:
            raise _ambiguous(text, parameter, [key.uid for key in unheard]) from None
        return unheard[0]


def _unheard(wiring: Wiring, text: str) -> list[DeviceKey]:
    """Return the devices that an id or a uid may mean of which nothing was ever accepted. Blocking."""
    registry, records = wiring.stores.registry, wiring.stores.records
    if "~" not in text:
        every = [DeviceKey.from_uid(entry.key) for entry in registry.every(RegisteredDevice.kind)]
        return [key for key in every if key.device == text]
    key = DeviceKey.from_uid(text.replace("~", "/"))
    if key.device_class not in set(DeviceClass):
        return []
    known = registry.entry(RegisteredDevice.kind, key.uid) or records.quarantine(uid=key.uid, limit=1)
    return [key] if known else []


class Paging:
    """Reads and writes the cursors of one request for a list."""

    def __init__(self, request: Request, response: Response, kind: str) -> None:
        """``kind`` names the list."""
        self._request = request
        self._response = response
        self._kind = kind
        filters = [(name, value) for name, value in request.query_params.multi_items() if name not in _NEITHER]
        self._mark = cursors.fingerprint(filters)

    def position(self, cursor: str | None, like: tuple[type, ...]) -> cursors.Position | None:
        """Return where the cursor says the list was left, None without a cursor; a problem if it is not ours."""
        if cursor is None:
            return None
        try:
            return cursors.decode(self._kind, self._mark, cursor, like)
        except ValueError as error:
            raise parameter_error("cursor", str(error), "invalid-cursor") from None

    def next(self, *position: Any) -> str:  # noqa: ANN401 - int, str or None
        """Return the cursor after ``position`` and link to it."""
        cursor = cursors.encode(self._kind, self._mark, position)
        query = dict(self._request.query_params) | {"cursor": cursor}
        self._response.headers["Link"] = f'<{self._request.url.path}?{urlencode(query)}>; rel="next"'
        return cursor

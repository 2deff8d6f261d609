"""Port events and devices' own events, in the order of storing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from api.answers import answer, describe
from api.parameters import (
    Cursor,
    DeviceFilter,
    End,
    Limit,
    Paging,
    Site,
    Start,
    check_order,
    device_of,
    time_of,
)
from api.problems import parameter_error
from api.responses import Event, Page
from api.wiring import Given, Wiring
from devices.vocabulary import DeviceClass
from store.interface import DeviceRecord, EventRecord, Records

CLASSES_OF_TYPE: Final = {
    "crane_move": (DeviceClass.QUAY_CRANE,),
    "yard_move": (DeviceClass.YARD_CRANE,),
    "gate_passage": (DeviceClass.RFID_GATE,),
}
"""Which devices' watermarks say how complete a list of events of one type is; every device's otherwise."""
MAX_CURSOR: Final = 2**63 - 1

router = APIRouter(tags=["events"])


class Order(StrEnum):
    """Oldest or newest first, by the order of storing."""

    ASC = "asc"
    DESC = "desc"


EventCursor = Annotated[int | None, Query(ge=0, le=MAX_CURSOR)]


@router.get(
    "/v1/events",
    operation_id="listEvents",
    summary="List events",
    response_model=Page[Event],
    **describe("events", 404, 409),
)
async def list_events(  # noqa: PLR0913, PLR0917 - FastAPI passes them by name
    request: Request,
    wiring: Given,
    type: Annotated[  # noqa: A002 - the name in the query
        str | None, Query(min_length=1, max_length=64, description="Type of the event.", examples=["crane_move"])
    ] = None,
    site: Site = None,
    device: DeviceFilter = None,
    start: Start = None,
    end: End = None,
    after: Annotated[EventCursor, Query(description="Only events with a greater `cursor`.")] = None,
    before: Annotated[EventCursor, Query(description="Only events with a smaller `cursor`.")] = None,
    limit: Limit = 100,
    order: Annotated[
        Order | None, Query(description="`asc`: oldest first, the default with `after`; `desc`: newest first, else.")
    ] = None,
    cursor: Cursor = None,
) -> Response:
    """Events by the order of storing. The range of times is half-open and applies to the event's `time`."""
    response = Response()
    paging = Paging(request, response, "events")
    now = wiring.clock()
    start_ns, end_ns = time_of("start", start, now), time_of("end", end, now)
    check_order(start_ns, end_ns)
    if after is not None and before is not None and before <= after:
        raise parameter_error("before", f"{before} is not greater than after, {after}", "reversed-range")
    one = None if device is None else await device_of(wiring, device, "device", site)
    newest_first = (order or (Order.DESC if after is None else Order.ASC)) is Order.DESC
    # A relative range is resolved once: the pages that follow keep that of the first.
    position = paging.position(cursor, (int, int, int))
    if position is not None:
        at, start_ns, end_ns = (None if part is None else int(part) for part in position)
        after, before = (after, at) if newest_first else (at, before)
    filters = _Filters(
        types=None if type is None else (type,),
        site=site if one is None else one.site,
        device=one,
        start_ns=start_ns,
        end_ns=end_ns,
        newest_first=newest_first,
    )
    found = await wiring.stores.ask(_find, wiring.stores.records, filters, after or 0, before, limit + 1)
    page = found[:limit]
    body: dict[str, Any] = {
        "items": await wiring.stores.documents(page),
        "next": paging.next(page[-1].cursor, start_ns, end_ns) if len(found) > limit else None,
        "complete_through": await wiring.complete_through(await _concerned(wiring, type, site, one)),
    }
    return answer(body, response)


@dataclass(frozen=True, slots=True)
class _Filters:
    types: tuple[str, ...] | None
    site: str | None
    device: DeviceRecord | None
    start_ns: int | None
    end_ns: int | None
    newest_first: bool


def _find(records: Records, filters: _Filters, after: int, before: int | None, wanted: int) -> list[EventRecord]:
    """Return up to ``wanted`` events. Blocking."""
    device = filters.device
    found: list[EventRecord] = []
    while True:
        batch = records.events(
            after=after,
            before=before,
            types=filters.types,
            site=filters.site,
            device=None if device is None else device.device,
            start_ns=filters.start_ns,
            end_ns=filters.end_ns,
            newest_first=filters.newest_first,
            limit=wanted,
        )
        # The records know a device by its own id, which devices of two classes may share.
        found += [event for event in batch if device is None or event.device_class == device.device_class]
        if len(batch) < wanted or len(found) >= wanted:
            return found[:wanted]
        after, before = (after, batch[-1].cursor) if filters.newest_first else (batch[-1].cursor, before)


async def _concerned(
    wiring: Wiring, event_type: str | None, site: str | None, one: DeviceRecord | None
) -> Sequence[DeviceRecord]:
    if one is not None:
        return [one]
    return await wiring.stores.devices(site=site, classes=CLASSES_OF_TYPE.get(event_type or ""))

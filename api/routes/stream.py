"""The live stream: server-sent events of values, port events and worker statuses."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response

from api.answers import PROBLEM_SCHEMA
from api.event_stream import ClientFeed, EventStreamResponse
from api.examples import STREAM
from api.middleware import HEAD_KEY
from api.parameters import Site
from api.problems import MEDIA_TYPE, ApiError
from api.shapes import hello_json
from api.wiring import Given, Wiring
from devices.times import format_rfc3339

MAX_CURSOR: Final = 2**63 - 1
router = APIRouter(tags=["events"])

_PROBLEM: Final = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Server-sent events: `hello`, then `live`, `port-event`, `status` and `broker` as they happen",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": STREAM}},
    },
    422: {"description": "A parameter is wrong; `errors` names it", "content": _PROBLEM},
    503: {"description": "Too many streams, or the store does not answer", "content": _PROBLEM},
}


@router.get(
    "/v1/stream",
    operation_id="followStream",
    summary="Follow live values and events",
    response_class=EventStreamResponse,
    status_code=200,
    responses=_RESPONSES,
)
async def follow_stream(
    request: Request,
    wiring: Given,
    site: Site = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_CURSOR, description="Send the events after this `cursor` first.")
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=MAX_CURSOR, description="As `after`; browsers send it when they connect again."),
    ] = None,
) -> Response:
    """Values are conflated: a slow reader gets the newest of each metric. Events are complete and resumable."""
    if request.scope.get(HEAD_KEY):
        return Response(media_type=EventStreamResponse.media_type)
    hub = wiring.hub
    if hub.is_full():
        wiring.instruments.stream_refused.inc()
        detail = f"{wiring.config.stream_clients} clients follow the stream; repeat later"
        raise ApiError("too-many-streams", detail, headers={"Retry-After": "5"})
    newest = await hub.newest_cursor()
    asked = after if last_event_id is None else last_event_id
    # A cursor from the future belongs to another store: following it would show nothing for a long time.
    cursor = newest if asked is None else min(asked, newest)
    version = hub.version
    hello = await _hello(wiring, site, cursor)
    feed = ClientFeed(hub, wiring.config, wiring.instruments, site)
    closed = wiring.instruments.stream_closed
    return EventStreamResponse(
        feed.frames(hello, cursor, version), wiring.config.stream_stall_s, lambda reason: closed.labels(reason).inc()
    )


async def _hello(wiring: Wiring, site: str | None, cursor: int) -> dict[str, object]:
    devices = await wiring.stores.devices(site=site)
    now = wiring.clock()
    live = {key: values for key, values in wiring.hub.values().items() if site in {None, key[0]}}
    return {
        "time": format_rfc3339(now),
        "cursor": cursor,
        "complete_through": await wiring.complete_through(devices),
        "devices": hello_json(devices, live, now),
        "workers": list(wiring.hub.workers().values()),
        "broker": wiring.hub.broker(),
    }

"""What was refused, and why."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from api.answers import answer, describe
from api.parameters import Cursor, DeviceFilter, Limit, Paging, device_of
from api.problems import ApiError
from api.responses import Page, Refusal
from api.shapes import quarantine_json
from api.wiring import Given, Wiring
from devices.rejects import Reason

UID_PARTS: Final = 3
router = APIRouter(tags=["quality"])


@router.get(
    "/v1/quarantine",
    operation_id="listQuarantine",
    summary="List refusals",
    response_model=Page[Refusal],
    **describe("quarantine", 404, 409),
)
async def list_quarantine(
    request: Request,
    wiring: Given,
    reason: Annotated[Reason | None, Query(description="Only refusals for this reason.")] = None,
    device: DeviceFilter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Refused frames and samples, newest first, each with its reason, the field at fault and the payload's head."""
    response = Response()
    paging = Paging(request, response, "quarantine")
    (before,) = paging.position(cursor, (int,)) or (None,)
    uid = None if device is None else await _uid_of(wiring, device)
    found = await wiring.stores.ask(
        wiring.stores.records.quarantine,
        before=None if before is None else int(before),
        reason=reason,
        uid=uid,
        limit=limit + 1,
    )
    page = found[:limit]
    body: dict[str, Any] = {
        "items": [quarantine_json(record) for record in page],
        "next": paging.next(page[-1].cursor) if len(found) > limit else None,
        "complete_through": await wiring.complete_through(
            [record for record in await wiring.stores.devices() if uid in {None, record.uid}]
        ),
    }
    return answer(body, response)


async def _uid_of(wiring: Wiring, device: str) -> str:
    """Return the uid to filter by; a full one need not be registered: all that it sent may have been refused."""
    try:
        return (await device_of(wiring, device, "device")).uid
    except ApiError as error:
        if error.kind.slug != "unknown-device" or device.count("~") != UID_PARTS - 1:
            raise
        return device.replace("~", "/")

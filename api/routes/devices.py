"""The devices, as last committed."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import answer, describe
from api.parameters import Class, Cursor, DeviceId, Limit, Paging, Site, device_of
from api.responses import Device, Page
from api.shapes import device_json
from api.wiring import Given

router = APIRouter(tags=["devices"])


@router.get(
    "/v1/devices",
    operation_id="listDevices",
    summary="List devices",
    response_model=Page[Device],
    **describe("devices"),
)
async def list_devices(
    request: Request,
    wiring: Given,
    site: Site = None,
    device_class: Class = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Devices by uid, each with the newest value of every metric."""
    response = Response()
    paging = Paging(request, response, "devices")
    (after,) = paging.position(cursor, (str,)) or ("",)
    records = wiring.stores.records
    found = await wiring.stores.ask(
        records.devices, site=site, device_class=device_class, after=str(after), limit=limit + 1
    )
    page = found[:limit]
    now = wiring.clock()
    body: dict[str, Any] = {
        "items": [device_json(device, now) for device in page],
        "next": paging.next(page[-1].uid) if len(found) > limit else None,
        "complete_through": await wiring.complete_through(page),
    }
    return answer(body, response)


@router.get(
    "/v1/devices/{id}",
    operation_id="getDevice",
    summary="One device",
    response_model=Device,
    **describe("device", 404, 409),
)
async def get_device(wiring: Given, id: DeviceId) -> Response:  # noqa: A002 - the name in the path
    """One device with the newest value of every metric."""
    return answer(device_json(await device_of(wiring, id, "id"), wiring.clock()))

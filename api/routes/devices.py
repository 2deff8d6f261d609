"""The devices, as last committed."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import answer, describe
from api.parameters import Class, Cursor, DeviceId, Limit, Paging, Site, device_of
from api.responses import Device, Page
from api.services import Given
from api.shapes import device_json

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
    services: Given,
    site: Site = None,
    device_class: Class = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Devices by uid, each with the newest value of every metric."""
    response = Response()
    paging = Paging(request, response, "devices")
    (after,) = paging.position(cursor, (str,)) or ("",)
    records = services.stores.records
    found = await services.stores.ask(
        records.devices, site=site, device_class=device_class, after=str(after), limit=limit + 1
    )
    page = found[:limit]
    now = services.clock()
    body: dict[str, Any] = {
        "items": [device_json(device, now) for device in page],
        "next": paging.next(page[-1].uid) if len(found) > limit else None,
        "complete_through": await services.complete_through(page),
    }
    return answer(body, response)


@router.get(
    "/v1/devices/{id}",
    operation_id="getDevice",
    summary="One device",
    response_model=Device,
    **describe("device", 404, 409),
)
async def get_device(services: Given, id: DeviceId) -> Response:  # noqa: A002 - the name in the path
    """One device with the newest value of every metric."""
    return answer(device_json(await device_of(services, id, "id"), services.clock()))

"""The devices, as last committed."""

from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import answer, describe
from api.parameters import Class, Cursor, DeviceId, Limit, Paging, Site, device_of
from api.responses import Device, Page
from api.shapes import device_json
from api.wiring import Given
from store.interface import LedgerRow

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
    ledger: dict[str, list[LedgerRow]] = {device.uid: [] for device in page}
    for row in await wiring.stores.ask(records.ledger, uids=list(ledger)):
        ledger[row.uid].append(row)
    now = wiring.clock()
    body: dict[str, Any] = {
        "items": [device_json(device, ledger[device.uid], now) for device in page],
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
    device = await device_of(wiring, id, "id")
    ledger = await wiring.stores.ask(wiring.stores.records.ledger, uids=[device.uid])
    return answer(device_json(device, ledger, wiring.clock()))

"""The registry, and how each device does."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Request, Response

from api.answers import answer, describe
from api.parameters import Cursor, DeviceId, Limit, Paging, Site, known_key
from api.responses import DeviceHealth, RegistryPage
from api.wiring import Given, Wiring
from devices.topics import DeviceKey
from store.access import username_of
from store.admission import read_admission_of
from store.device_health import NEWEST as EVERYBODYS
from store.device_health import health_of
from store.registry_entries import KINDS, Policy, document_of
from store.trying_out import broker_address, publish_command

NEWEST: Final = 3
router = APIRouter(tags=["devices"])

KIND_PATTERN: Final = f"^({'|'.join(KINDS)})$"


@router.get(
    "/v1/registry/{kind}",
    operation_id="listRegistry",
    summary="Entries of the registry",
    response_model=RegistryPage,
    **describe("registry"),
)
async def list_registry(
    request: Request,
    wiring: Given,
    kind: Annotated[str, Path(pattern=KIND_PATTERN, description="Kind of the entries.", examples=["zone"])],
    site: Site = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Sites, organisations, devices, assets, mountings, zones, tags, aliases or adopted names, by key."""
    response = Response()
    paging = Paging(request, response, f"registry {kind}")
    (after,) = paging.position(cursor, (str,)) or ("",)
    registry = wiring.stores.registry
    found = await wiring.stores.ask(registry.entries, kind, site=site, after=str(after), limit=limit + 1)
    page = found[:limit]
    body: dict[str, Any] = {
        "items": [{"key": entry.key, "site": entry.place or None, "entry": document_of(entry)} for entry in page],
        "next": paging.next(page[-1].key) if len(found) > limit else None,
        "revision": await wiring.stores.ask(registry.revision),
    }
    return answer(body, response)


@router.get(
    "/v1/devices/{id}/health",
    operation_id="getDeviceHealth",
    summary="Why is it silent?",
    response_model=DeviceHealth,
    **describe("health", 404, 409),
)
async def get_health(wiring: Given, id: DeviceId) -> Response:  # noqa: A002 - the name in the path
    """Whether a device is live, and the first reason why it is not; its rate, clock, gaps and newest refusals.

    A device that is registered, or of which everything was refused, is answered for too. `publish` is the command that
    publishes one reading as the device.
    """
    key = await known_key(wiring, id, "id")
    return answer(await wiring.stores.ask(_health, wiring, key))


def _health(wiring: Wiring, key: DeviceKey) -> dict[str, Any]:
    """Blocking."""
    registry, records, config = wiring.stores.registry, wiring.stores.records, wiring.config
    credential = registry.credential(username_of(key))
    address = broker_address(records.workers(), (config.broker_host, config.broker_port))
    ca = None if config.broker_ca_file is None else str(config.broker_ca_file)
    found = records.device(key.uid)
    health = health_of(
        key,
        found,
        records.ledger(uids=[key.uid]),
        records.quarantine(uid=key.uid, limit=NEWEST),
        read_admission_of(registry, key, Policy(wiring.config.registration)),
        None if credential is None else credential.kind,
        wiring.clock(),
        newest=records.quarantine(limit=EVERYBODYS) if found is None else (),
    )
    command = publish_command(key, address, credential, ca, tls=config.broker_tls)
    return {**msgspec.to_builtins(health), "publish": command}

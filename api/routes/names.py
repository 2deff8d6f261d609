"""The names of a device's own: which were refused, which are adopted, and adopting one."""

from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.answers import answer, describe
from api.changing import Changer, Changing
from api.parameters import DeviceId, known_key
from api.problems import ApiError, parameter_error
from api.responses import AdoptedName, DeviceNames
from api.wiring import Given, Wiring
from devices.guesses import guesses
from devices.times import format_rfc3339
from devices.topics import DeviceKey
from devices.unknown_names import MAX_NAME, adopt_command
from devices.vocabulary import DeviceClass
from store.interface import UnknownName
from store.registry_entries import Adoption, EntryError, document_of, entry_of

PATH: Final = "/v1/devices/{id}/names"
MOST: Final = 200
"""Names in an answer; those refused last come first."""
router = APIRouter(tags=["devices"])

Name = Annotated[
    str, Query(min_length=1, max_length=MAX_NAME, description="The name that the device sends.", examples=["hoist mm"])
]


class Meaning(BaseModel):
    """What a name of a device's own means: value × scale + offset is the metric, in its unit."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"metric": "load_t", "scale": 0.001}]})

    metric: str = Field(max_length=64, description="A metric that devices of this class may send.")
    scale: float = Field(default=1.0, description="The value times this …")
    offset: float = Field(default=0.0, description="… plus this is the value in the metric's unit.")


@router.get(
    PATH,
    operation_id="listDeviceNames",
    summary="Names of a device's own",
    response_model=DeviceNames,
    **describe("names", 404, 409),
)
async def list_names(wiring: Given, id: DeviceId) -> Response:  # noqa: A002 - the name in the path
    """Names that are no metric of the device's class: those refused, as the quarantine has them, and those adopted."""
    key = await known_key(wiring, id, "id")
    return answer(await wiring.stores.ask(_names, wiring, key))


@router.put(
    PATH,
    operation_id="adoptDeviceName",
    summary="Say what a name means",
    response_model=AdoptedName,
    **describe("adopted_name", 400, 401, 403, 404, 409),
)
async def adopt_name(
    wiring: Given,
    changer: Changing,
    id: DeviceId,  # noqa: A002 - the name in the path
    name: Name,
    meaning: Annotated[Meaning, Body()],
) -> Response:
    """Take a name of the device's own for a metric, from about a second later on; what was refused before stays so.

    It replaces what the name meant before. The same again changes nothing, and leaves nothing in the audit trail.
    """
    key = await known_key(wiring, id, "id")
    fields = {"device": key.uid, "name": name, **meaning.model_dump()}
    try:
        entry = entry_of(Adoption.kind, fields)
    except EntryError as error:
        raise _fault(str(error)) from None
    await wiring.stores.ask(changer.registry.put, entry, actor=changer.actor, now_ns=wiring.clock())
    return answer(document_of(entry))


@router.delete(
    PATH,
    operation_id="dropDeviceName",
    summary="Say that a name means nothing",
    response_model=AdoptedName,
    **describe("adopted_name", 401, 403, 404, 409),
)
async def drop_name(
    wiring: Given,
    changer: Changing,
    id: DeviceId,  # noqa: A002 - the name in the path
    name: Name,
) -> Response:
    """Take back that a name means a metric, and return what it meant; from then on it is refused by its name again."""
    key = await known_key(wiring, id, "id")
    found = await wiring.stores.ask(_drop, changer, f"{key.uid}#{name}", wiring.clock())
    if found is None:
        raise ApiError("not-adopted", f"{name[:64]!r} is not an adopted name of {key.uid}")
    return answer(document_of(found))


def _drop(changer: Changer, key: str, now_ns: int) -> Adoption | None:
    """Blocking."""
    found = changer.registry.entry(Adoption.kind, key)
    if found is None or not changer.registry.remove(Adoption.kind, key, actor=changer.actor, now_ns=now_ns):
        return None
    return cast("Adoption", found)


def _names(wiring: Wiring, key: DeviceKey) -> dict[str, Any]:
    """Blocking."""
    refused = {each.name: each for each in wiring.stores.records.unknown_names(key.uid)}
    adopted = {each.name: each for each in wiring.stores.registry.adoptions_of(key.uid)}
    names = [*refused, *(name for name in adopted if name not in refused)][:MOST]
    return {
        "uid": key.uid,
        "items": [_name_json(key, name, refused.get(name), adopted.get(name)) for name in names],
        "next": None,
    }


def _name_json(key: DeviceKey, name: str, refused: UnknownName | None, adopted: Adoption | None) -> dict[str, Any]:
    likely = () if adopted else guesses(name, DeviceClass(key.device_class))
    meaning = adopted and {"metric": adopted.metric, "scale": adopted.scale, "offset": adopted.offset}
    return {
        "name": name,
        "value": refused.value if refused else "",
        "refused": refused.refused if refused else 0,
        "first": format_rfc3339(refused.first_ns) if refused else None,
        "last": format_rfc3339(refused.last_ns) if refused else None,
        "adopted": meaning,
        "guesses": [{"metric": each.metric, "scale": each.scale} for each in likely],
        "command": adopt_command(key.uid, name),
    }


def _fault(message: str) -> ApiError:
    """Return the problem that blames the field with which a message begins."""
    field, _, detail = message.partition(": ")
    if field == "metric":
        errors = [{"pointer": "/metric", "detail": detail}]
        return ApiError("unknown-metric", message, errors=errors)
    if field == "name":
        return parameter_error("name", detail)
    pointers = [f"/{each}" for each in field.split(", ") if each in Meaning.model_fields]
    return ApiError("invalid-parameter", message, errors=[{"pointer": each, "detail": detail} for each in pointers])

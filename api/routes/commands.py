"""Commands to devices."""

import logging
import math
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.answers import answer, describe
from api.changing import Changing
from api.commands import LONGEST_S, MOST, CommandNotSentError, Outcome, Sent
from api.parameters import DeviceId, known_key
from api.problems import ApiError
from api.responses import CommandSent
from api.times import STEP_PATTERN, parse_duration
from api.wiring import Given, Wiring
from devices.scalars import Scalar, is_beyond
from devices.topics import DeviceKey

PATH: Final = "/v1/devices/{id}/commands"
router = APIRouter(tags=["commands"])

log = logging.getLogger(__name__)


def _tellable(value: Scalar) -> Scalar:
    """Return an argument that a device can be told exactly; ValueError for one that it cannot."""
    if is_beyond(value):
        raise ValueError("a whole number beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("text with half of a character")
    return value


class CommandRequest(BaseModel):
    """What a device is asked to do."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "set_rate", "args": {"hz": 5}, "timeout": "10s"}]}
    )

    name: str = Field(min_length=1, max_length=64, description="What to do, in the device's own words.")
    args: dict[str, Annotated[Scalar, AfterValidator(_tellable)]] = Field(
        default={},
        max_length=64,
        description="With what; flat. A whole number reaches the device as one, within 64 bits, 5.0 and 2.5 as floats.",
    )
    id: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Drawn if left out. The same id again is the same command: it is done once, and answered again.",
    )
    timeout: str = Field(
        default="10s",
        pattern=STEP_PATTERN,
        description=f"How long to wait, up to {LONGEST_S:g} s; after that the command is not begun any more.",
    )


@router.post(
    PATH,
    operation_id="sendCommand",
    summary="Have a device do something",
    response_model=CommandSent,
    **describe("command", 400, 401, 403, 404, 409, 502, 504),
)
async def send_command(
    wiring: Given,
    changer: Changing,
    id: DeviceId,  # noqa: A002 - the name in the path
    body: Annotated[CommandRequest, Body()],
) -> Response:
    """Have a device do something, and return its acknowledgement: `outcome` is `done` or `refused`.

    Where none comes in time the answer is 504 `no-answer`, with the `id` under which it can be asked for again.
    """
    wait_s = _wait_of(body.timeout)
    key = await known_key(wiring, id, "id")
    sent = await _send(wiring, key, body, wait_s, changer.actor)
    if sent.outcome is Outcome.UNANSWERED:
        members: dict[str, Any] = {"uid": sent.uid, "id": sent.id, "expires": sent.expires}
        raise ApiError("no-answer", sent.detail, members=members)
    return answer(sent)


async def _send(wiring: Wiring, key: DeviceKey, body: CommandRequest, wait_s: float, actor: str) -> Sent:
    assert wiring.commander is not None  # noqa: S101 - for the type checker: `Changing` has looked
    try:
        return await wiring.commander.send(key, body.name, body.args, wait_s=wait_s, actor=actor, command_id=body.id)
    except OverflowError:
        detail = f"{MOST} commands wait for their answers; repeat in a second"
        raise ApiError("busy", detail, headers={"Retry-After": "1"}) from None
    except ValueError as error:
        raise ApiError("invalid-parameter", str(error), errors=[{"pointer": "", "detail": str(error)}]) from None
    except CommandNotSentError as error:
        log.warning("command to %s: %s", key.uid, error)
        if error.refused:
            raise ApiError("broker-refused", str(error)) from None
        raise ApiError("broker-unreachable", str(error), headers={"Retry-After": "5"}) from None


def _wait_of(text: str) -> float:
    seconds = parse_duration(text)
    if not 1 <= seconds <= LONGEST_S:
        detail = f"{text!r}: expected 1 s to {LONGEST_S:g} s, such as 10s"
        raise ApiError("invalid-parameter", f"/timeout: {detail}", errors=[{"pointer": "/timeout", "detail": detail}])
    return float(seconds)

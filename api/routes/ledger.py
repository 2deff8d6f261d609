"""The ledger: every frame and sample received, and the account in which it ended."""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from api.answers import answer, describe
from api.parameters import Cursor, Limit, Paging, Site
from api.responses import Ledger
from api.wiring import Given
from devices.scalars import Scalar
from store.accounts import accounts_of, is_balanced
from store.interface import LedgerRow, Records

router = APIRouter(tags=["quality"])


@router.get("/v1/ledger", operation_id="getLedger", summary="The ledger", response_model=Ledger, **describe("ledger"))
async def get_ledger(
    request: Request, wiring: Given, site: Site = None, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """The accounts of all devices together, and of each, by uid. `total` and `balanced` do not depend on the page."""
    response = Response()
    paging = Paging(request, response, "ledger")
    position = paging.position(cursor, (str,))
    rows, workers = await wiring.stores.ask(_read, wiring.stores.records)
    if site is not None:
        rows = [row for row in rows if row.uid.startswith(f"{site}/")]
    of_device: dict[str, list[LedgerRow]] = {}
    for row in rows:
        of_device.setdefault(row.uid, []).append(row)
    uids = sorted(of_device)
    begin = 0 if position is None else bisect_right(uids, str(position[0]))
    page = uids[begin : begin + limit]
    body: dict[str, Any] = {
        "balanced": is_balanced(rows),
        "journal_frames": _journal_frames(workers),
        "total": accounts_of(rows),
        "items": [{"uid": uid, **accounts_of(of_device[uid])} for uid in page],
        "next": paging.next(page[-1]) if begin + limit < len(uids) else None,
        "complete_through": await wiring.complete_through(await wiring.stores.devices(site=site)),
    }
    return answer(body, response)


def _read(records: Records) -> tuple[list[LedgerRow], Mapping[str, Mapping[str, Scalar]]]:
    # In this order: no journal may seem to hold less than was received from it.
    return records.ledger(), records.workers()


def _journal_frames(workers: Mapping[str, Mapping[str, Scalar]]) -> int | None:
    told = (status.get("journal_frames") for status in workers.values())
    known = [int(frames) for frames in told if isinstance(frames, int | float)]
    return sum(known) if known else None

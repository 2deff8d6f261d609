"""The ledger: every frame and sample received, and the account in which it ended."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from api.answers import answer, describe
from api.parameters import Cursor, Limit, Paging, Site
from api.responses import Ledger
from api.wiring import Given
from store.interface import LedgerRow, Records, Scalar

ACCOUNTS: Final = ("received", "windowed", "merged_late", "duplicate", "quarantined", "shed", "lost_before_journal")
ENDS: Final = ("windowed", "merged_late", "duplicate", "quarantined", "shed")
"""Accounts whose sum is what was received."""

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


def is_balanced(rows: Iterable[LedgerRow]) -> bool:
    """Return whether, for every device, what was received is the sum of the accounts, in frames and in samples."""
    difference: dict[str, tuple[int, int]] = {}
    for row in rows:
        sign = 1 if row.account == "received" else -(row.account in ENDS)
        frames, samples = difference.get(row.uid, (0, 0))
        difference[row.uid] = frames + sign * row.frames, samples + sign * row.samples
    return not any(frames or samples for frames, samples in difference.values())


def accounts_of(rows: Iterable[LedgerRow]) -> dict[str, Any]:
    """Return frames and samples by account, the quarantined frames by reason, and the flagged readings by flag."""
    frames = dict.fromkeys(ACCOUNTS, 0)
    samples = dict.fromkeys(ACCOUNTS, 0)
    reasons: dict[str, int] = {}
    flags: dict[str, int] = {}
    for row in rows:
        if row.account == "flagged":
            flags[row.reason] = flags.get(row.reason, 0) + row.frames
            continue
        frames[row.account] = frames.get(row.account, 0) + row.frames
        samples[row.account] = samples.get(row.account, 0) + row.samples
        if row.account == "quarantined":
            # A frame of which some samples are kept is not quarantined itself: those samples are counted alone.
            reasons[row.reason] = reasons.get(row.reason, 0) + (row.frames or row.samples)
    return {"frames": frames, "samples": samples, "quarantined_by_reason": reasons, "flags": flags}


def _journal_frames(workers: Mapping[str, Mapping[str, Scalar]]) -> int | None:
    told = (status.get("journal_frames") for status in workers.values())
    known = [int(frames) for frames in told if isinstance(frames, int | float)]
    return sum(known) if known else None

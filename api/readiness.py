"""Whether answers can be relied on now: broker, journal, store, lag."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from api.problems import ApiError
from api.wiring import Wiring
from devices.scalars import Scalar
from devices.times import NS
from store.interface import Overlap, StoreRefusedError, StoreUnreachableError

logger = logging.getLogger(__name__)

Check = dict[str, bool | str]

RECENT_NS: Final = 60 * NS
"""Two workers that have both heard a device as recently as this still do, ns."""


async def checks(wiring: Wiring) -> dict[str, Check]:
    """Return the checks by name, each with ``ok`` and a sentence."""
    store, committed, overlaps = await _store(wiring)
    workers = newest_statuses(committed, wiring.hub.workers())
    most_s = wiring.config.ready_lag_s
    now = wiring.clock()
    silent = [
        f"{name} reported {age_s:.0f} s ago; allowed: {most_s:g} s"
        for name, status in workers.items()
        if (age_s := (now - _number(status, "updated_ns")) / NS) > most_s
    ]
    journals = [f"{name}: {word}" for name, status in workers.items() if (word := status.get("journal")) != "ok"]
    lags = [
        f"{name}: the oldest uncommitted frame is {lag_s:.1f} s old; allowed: {most_s:g} s"
        for name, status in workers.items()
        if (lag_s := _number(status, "store_lag_s")) > most_s
    ]
    stuck = [
        f"{name}: the stores have taken no commits for {failing_s:.0f} s; allowed: {most_s:g} s; see its log"
        for name, status in workers.items()
        if (failing_s := _number(status, "sink_failing_s")) > most_s
    ]
    wrong = [
        f"{name}: frames are not accounted for" for name, status in workers.items() if status.get("balanced") is False
    ]
    nobody = [] if workers else ["no ingest worker has reported yet"]
    return {
        "broker": _broker(wiring, workers),
        "journal": _check(nobody + silent + journals),
        "store": store if not store["ok"] else _check(stuck, "the stores answer"),
        "lag": _check(nobody + silent + lags),
        "ledger": _check(wrong + _several([each for each in overlaps if each.until_ns > now - RECENT_NS])),
    }


def _several(overlaps: Sequence[Overlap]) -> list[str]:
    """Say which workers hear the same devices."""
    found: dict[str, list[str]] = {}
    for each in overlaps:
        found.setdefault(f"{each.one} and {each.other}", []).append(each.uid)
    return [f"{pair} both hear {len(uids)} devices, such as {uids[0]}" for pair, uids in found.items()]


def _check(faults: list[str], otherwise: str = "ok") -> Check:
    return {"ok": not faults, "detail": "; ".join(faults) or otherwise}


def not_ready(found: Mapping[str, Check]) -> ApiError | None:
    """Return the problem if a check failed."""
    failed = [f"{name}: {check['detail']}" for name, check in found.items() if not check["ok"]]
    if not failed:
        return None
    return ApiError("not-ready", "; ".join(failed), headers={"Retry-After": "2"}, members={"checks": dict(found)})


def _broker(wiring: Wiring, workers: Mapping[str, Mapping[str, Scalar]]) -> Check:
    where = f"{wiring.config.broker_host}:{wiring.config.broker_port}"
    words = {name: status.get("broker") for name, status in workers.items()}
    faults = [f"{name} is {word}" for name, word in words.items() if word != "connected"]
    ways = {name: str(status.get("subscription", "")) for name, status in workers.items()}
    faults += [f"{name} is subscribed to {way}" for name, way in ways.items() if way.startswith("none, ")]
    if not wiring.hub.connected:
        faults.insert(0, f"the API cannot reach {where}")
    elif wiring.hub.broker_silent_s > wiring.config.ready_lag_s:
        faults.insert(0, f"{where} has not answered the API for {wiring.hub.broker_silent_s:.0f} s")
    return _check(faults, f"connected to {where}")


async def _store(wiring: Wiring) -> tuple[Check, Mapping[str, Mapping[str, Scalar]], Sequence[Overlap]]:
    try:
        committed = await wiring.stores.ask_lightly(wiring.stores.records.workers)
        overlaps = await wiring.stores.ask_lightly(wiring.stores.records.overlaps)
    except StoreUnreachableError:
        return {"ok": False, "detail": "the records cannot be reached; see the log"}, {}, ()
    except ApiError as error:
        return {"ok": False, "detail": error.detail}, {}, ()
    return await _windows(wiring), committed, overlaps


async def _windows(wiring: Wiring) -> Check:
    try:
        await wiring.stores.windows_answer()
    except StoreUnreachableError as error:
        logger.warning("%s", error)
        words = "does not answer us as we are set up" if isinstance(error, StoreRefusedError) else "cannot be reached"
        return {"ok": False, "detail": f"the window store {words}; see the log"}
    except ApiError as error:
        return {"ok": False, "detail": error.detail}
    return {"ok": True, "detail": "the stores answer"}


def newest_statuses(*sources: Mapping[str, Mapping[str, Scalar]]) -> dict[str, Mapping[str, Scalar]]:
    """Return worker → the newer of its statuses in ``sources``."""
    found: dict[str, Mapping[str, Scalar]] = {}
    for source in sources:
        for name, status in source.items():
            if name not in found or _number(status, "updated_ns") >= _number(found[name], "updated_ns"):
                found[name] = status
    return found


def _number(status: Mapping[str, Scalar], key: str) -> float:
    value = status.get(key)
    return value if isinstance(value, int | float) else 0

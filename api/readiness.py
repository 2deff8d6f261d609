"""Whether answers can be relied on now: broker, journal, store, lag."""

from collections.abc import Mapping

from api.problems import ApiError
from api.wiring import Wiring
from devices.times import NS
from store.interface import Scalar, StoreUnreachableError

Check = dict[str, bool | str]


async def checks(wiring: Wiring) -> dict[str, Check]:
    """Return the checks by name, each with ``ok`` and a sentence."""
    store, committed = await _store(wiring)
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
    wrong = [
        f"{name}: frames are not accounted for" for name, status in workers.items() if status.get("balanced") is False
    ]
    nobody = [] if workers else ["no ingest worker has reported yet"]
    return {
        "broker": _broker(wiring, workers),
        "journal": _check(nobody + silent + journals),
        "store": store,
        "lag": _check(nobody + silent + lags),
        "ledger": _check(wrong),
    }


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
    if not wiring.hub.connected:
        faults.insert(0, f"the API cannot reach {where}")
    return _check(faults, f"connected to {where}")


async def _store(wiring: Wiring) -> tuple[Check, Mapping[str, Mapping[str, Scalar]]]:
    try:
        committed = await wiring.stores.ask_lightly(wiring.stores.records.workers)
    except StoreUnreachableError:
        return {"ok": False, "detail": "the records cannot be reached; see the log"}, {}
    except ApiError as error:
        return {"ok": False, "detail": error.detail}, {}
    return {"ok": True, "detail": "the records answer"}, committed


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

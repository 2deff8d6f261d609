"""What operators and their tools ask: alive, ready, figures, version."""

from typing import Any, Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.answers import answer, describe
from api.instruments import Snapshot
from api.problems import ApiError
from api.readiness import checks, newest_statuses, not_ready
from api.responses import Alive, Ready, Version
from api.wiring import Given, Wiring
from store.accounts import is_balanced
from store.interface import StoreUnreachableError

router = APIRouter(tags=["operations"])

_METRICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Prometheus exposition text",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "quayflow_store_reachable 1.0\n"}},
    },
}


@router.get(
    "/healthz", operation_id="getHealth", summary="Alive?", response_model=Alive, **describe("alive", always=(422,))
)
async def get_health() -> Response:
    """200 as long as the process answers at all; asks nobody else."""
    return answer({"status": "ok"})


@router.get("/readyz", operation_id="getReadiness", summary="Ready?", response_model=Ready, **describe("ready"))
async def get_readiness(wiring: Given) -> Response:
    """200 if broker, journal and store work and nothing lags; else a 503 problem whose `checks` say what does not."""
    found = await checks(wiring)
    problem = not_ready(found)
    if problem is not None:
        raise problem
    return answer({"status": "ready", "checks": found})


@router.get(
    "/metrics", operation_id="getMetrics", summary="Figures for Prometheus", response_class=Response, responses=_METRICS
)
async def get_metrics(wiring: Given) -> Response:
    """Every family is explained in docs/metrics.md."""
    return Response(wiring.instruments.render(await _snapshot(wiring)), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/version",
    operation_id="getVersion",
    summary="What runs",
    response_model=Version,
    **describe("version", always=(422,)),
)
async def get_version(wiring: Given) -> Response:
    """Name and version of the program, and of this interface."""
    return answer({"name": "quayflow", "version": wiring.version, "api": "v1"})


async def _snapshot(wiring: Wiring) -> Snapshot:
    """Ask what lies outside; a store that does not answer shows as such and leaves the rest to be seen."""
    live = wiring.hub.workers()
    stores = wiring.stores
    try:
        ledger = await stores.ask_lightly(stores.records.ledger)
        workers = newest_statuses(await stores.ask_lightly(stores.records.workers), live)
        quarantine = await stores.ask_lightly(stores.records.quarantine_figures)
    except (StoreUnreachableError, ApiError):
        return Snapshot(wiring.clock(), live, store_reachable=False)
    return Snapshot(wiring.clock(), workers, ledger, ledger_balanced=is_balanced(ledger), quarantine=quarantine)

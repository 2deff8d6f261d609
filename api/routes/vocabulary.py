"""The vocabulary: every metric that the system knows."""

from typing import Any, Final

from fastapi import APIRouter, Response

from analytics.rows import TIERS_S
from api.answers import answer, describe
from api.responses import Vocabulary
from api.times import format_duration
from devices.vocabulary import METRICS, DeviceClass, Metric

router = APIRouter(tags=["devices"])


def _metric_json(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "unit": metric.unit,
        "resolution": metric.resolution,
        "minimum": metric.minimum,
        "maximum": metric.maximum,
        "kind": metric.kind,
        "classes": sorted(metric.classes),
        "tic": metric.tic,
        "derived": metric.derived,
        "percentiles": metric.percentiles,
    }


VOCABULARY: Final = {
    "items": [_metric_json(metric) for metric in METRICS],
    "next": None,
    "classes": list(DeviceClass),
    "tiers": [format_duration(tier) for tier in TIERS_S],
}


@router.get(
    "/v1/vocabulary",
    operation_id="getVocabulary",
    summary="Every metric",
    response_model=Vocabulary,
    **describe("vocabulary", always=(422,)),
)
async def get_vocabulary() -> Response:
    """Name, unit, resolution and range of every metric, the classes that have it, and the window tiers."""
    return answer(VOCABULARY)

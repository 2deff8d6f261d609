"""What every answer with figures says of itself."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analytics.kpis import KpiDefinition, coverage_percent, coverage_tier_s
from api.series import Coverage, Span
from api.shapes import time_json
from api.times import format_duration
from devices.times import format_rfc3339


def definition_json(kpi: KpiDefinition) -> dict[str, str]:
    """Return a definition as published."""
    return asdict(kpi)


def range_json(span: Span, complete_ns: int | None, coverage: Iterable[Coverage]) -> dict[str, Any]:
    """Return the range as resolved, how complete it is, and how much of it was heard."""
    return {
        "start": format_rfc3339(span.start_ns),
        "end": format_rfc3339(span.end_ns),
        "step": format_duration(span.step_s),
        "complete_through": None if complete_ns is None else time_json(complete_ns),
        "coverage_percent": percent(coverage),
        "coverage_window": format_duration(coverage_tier_s(span.start_ns, span.end_ns)),
    }


def percent(coverage: Iterable[Coverage]) -> float | None:
    """Return the coverage of several devices together, None where nothing was expected."""
    found = list(coverage)
    share = coverage_percent(sum(one.heard for one in found), sum(one.expected for one in found))
    return None if share is None else round(share, 3)

"""docs/vocabulary.md, made from the table of metrics: ``python -m devices.vocabulary_page > docs/vocabulary.md``."""

import sys
from typing import Final

from devices.vocabulary import METRICS, DeviceClass, Kind, Metric

HEAD: Final = """# Vocabulary

The words that quayflow knows: every metric by class of device. Made from `devices/vocabulary.py`; the same table is
served at `/v1/vocabulary`. A value is kept to its resolution and refused outside its range. Names follow TIC 4.0 where
it has a word, and carry their unit. Metrics marked so have percentiles too.

| kind | what it is, and what may be made of it |
|---|---|
"""
KINDS: Final = {
    Kind.GAUGE: "a measured quantity: mean, minimum, maximum, first and last",
    Kind.STATE: "one of few whole numbers, 0 and 1 for no and yes: the mean is the share of samples",
    Kind.COUNTER: "a reading that only grows, such as an odometer: first and last",
    Kind.POSITION: "a place: first and last",
    Kind.TALLY: "1 for each time that something happened: the sum",
}
TITLES: Final = {
    DeviceClass.QUAY_CRANE: "Quay cranes",
    DeviceClass.YARD_CRANE: "Yard cranes",
    DeviceClass.VEHICLE: "Vehicles: terminal tractors, trucks, other rolling equipment",
    DeviceClass.RFID_GATE: "Gates: readers, lanes, barriers",
    DeviceClass.PARK_SENSOR: "Park sensors: weather, warehouses, reefers",
}
COLUMNS: Final = "| metric | unit | resolution | range | kind | TIC 4.0 |\n|---|---|---|---|---|---|\n"
TAIL: Final = """
## Made here

Nobody may publish these: ingest and the detectors make them.

"""


def markdown() -> str:
    """Return the page."""
    parts = [HEAD, *(f"| {kind} | {said} |\n" for kind, said in KINDS.items())]
    for device_class, title in TITLES.items():
        parts += [f"\n## {title}\n\nClass `{device_class}`.\n\n", COLUMNS]
        parts += [_row(metric) for metric in METRICS if device_class in metric.classes and not metric.derived]
    parts += [TAIL, "| metric | unit | resolution | range | kind | classes |\n|---|---|---|---|---|---|\n"]
    parts += [_row(metric) for metric in METRICS if metric.derived]
    return "".join(parts)


def _row(metric: Metric) -> str:
    classes = "all" if metric.classes == set(DeviceClass) else ", ".join(sorted(metric.classes))
    last = classes if metric.derived else f"`{metric.tic}`" if metric.tic else ""
    unit = "" if metric.unit == "1" else metric.unit
    limits = f"{_number(metric.minimum)} to {_number(metric.maximum)}"
    kind = f"{metric.kind}, percentiles" if metric.percentiles else metric.kind
    return f"| `{metric.name}` | {unit} | {_number(metric.resolution)} | {limits} | {kind} | {last} |\n"


def _number(number: float) -> str:
    """Return a number as people write it: no exponent, no trailing zeros, a true minus, commas between thousands."""
    text = f"{number:,.7f}".rstrip("0").rstrip(".")
    return text.replace("-", "−")


if __name__ == "__main__":
    sys.stdout.write(markdown())

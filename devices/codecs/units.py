"""Units as foreign formats write them, to those of the vocabulary."""

from typing import Final

_M: Final = {"m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0, "mm": 1e-3, "millimeter": 1e-3,
             "millimeters": 1e-3, "cm": 1e-2, "centimeter": 1e-2, "centimeters": 1e-2, "km": 1e3, "kilometer": 1e3,
             "kilometers": 1e3, "ft": 0.3048, "foot": 0.3048, "feet": 0.3048}  # fmt: skip
_MPS: Final = {"m/s": 1.0, "mps": 1.0, "meters/second": 1.0, "meter/second": 1.0, "meterspersecond": 1.0,
               "metre/second": 1.0, "m/min": 1 / 60, "meters/minute": 1 / 60, "mpm": 1 / 60, "km/h": 1 / 3.6,
               "kmh": 1 / 3.6, "kph": 1 / 3.6, "kilometers/hour": 1 / 3.6, "mm/s": 1e-3}  # fmt: skip
_T: Final = {"t": 1.0, "ton": 1.0, "tons": 1.0, "tonne": 1.0, "tonnes": 1.0, "metricton": 1.0, "kg": 1e-3,
             "kilogram": 1e-3, "kilograms": 1e-3, "kgm": 1e-3}  # fmt: skip
_S: Final = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "min": 60.0, "minute": 60.0,
             "minutes": 60.0, "h": 3_600.0, "hour": 3_600.0, "hours": 3_600.0}  # fmt: skip
_DEG: Final = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "°": 1.0, "rad": 57.29577951308232}
_KW: Final = {"kw": 1.0, "kilowatt": 1.0, "kilowatts": 1.0, "w": 1e-3, "watt": 1e-3, "watts": 1e-3, "mw": 1e3}
_KWH: Final = {"kwh": 1.0, "kilowatthour": 1.0, "kilowatthours": 1.0, "wh": 1e-3, "mwh": 1e3}
_CELSIUS: Final = {"°c": 1.0, "c": 1.0, "celsius": 1.0, "degreescelsius": 1.0, "cel": 1.0}
_FT: Final = {"ft": 1.0, "foot": 1.0, "feet": 1.0, "'": 1.0}
_PERCENT: Final = {"%": 1.0, "percent": 1.0, "percentage": 1.0}
_A: Final = {"a": 1.0, "amp": 1.0, "ampere": 1.0, "amperes": 1.0, "ma": 1e-3}
_L: Final = {"l": 1.0, "liter": 1.0, "liters": 1.0, "litre": 1.0, "litres": 1.0}

FACTORS: Final[dict[str, dict[str, float]]] = {
    "m": _M, "m/s": _MPS, "t": _T, "s": _S, "deg": _DEG, "kW": _KW, "kWh": _KWH, "°C": _CELSIUS, "ft": _FT,
    "%": _PERCENT, "A": _A, "L": _L,
}  # fmt: skip
"""Unit of the vocabulary → foreign word for a unit of the same quantity, in lower case without blanks → factor."""


def factor_of(foreign: str, unit: str) -> float:
    """Return what a number in a foreign unit is multiplied by; no unit means the vocabulary's own.

    Raises ValueError where the word is no unit of that quantity.
    """
    word = foreign.strip().lower().replace(" ", "").replace("_", "")
    if not word or word in {"none", "null", "-", unit.lower()}:
        return 1.0
    factor = FACTORS.get(unit, {}).get(word)
    if factor is None:
        if unit == "1":
            # A count or a state has none; "box" and "boolean" are words for that.
            return 1.0
        raise ValueError(f"unit {foreign[:32]!r}: expected one of {', '.join(FACTORS.get(unit, (unit,)))}")
    return factor

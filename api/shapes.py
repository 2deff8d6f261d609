"""Records as the JSON that is published."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from devices.times import NS, format_rfc3339
from devices.vocabulary import BY_NAME
from store.device_health import gaps_and_refusals
from store.interface import DeviceRecord, LedgerRow, QuarantineRecord

STALE_NS: Final = 30 * NS
"""An online device silent for longer than this is called stale."""
LONGEST_UTF8: Final = 4


def time_json(ns: int) -> str | None:
    """Return a time, None for one that never was."""
    return format_rfc3339(ns) if ns > 0 else None


def device_state(device: DeviceRecord, now_ns: int) -> str:
    """Return ``offline`` if it said so, ``stale`` if it has been silent for 30 s, else ``live``."""
    if not device.online:
        return "offline"
    return "stale" if now_ns - device.last_seen_ns > STALE_NS else "live"


def device_json(device: DeviceRecord, ledger: Iterable[LedgerRow], now_ns: int) -> dict[str, Any]:
    """Return a device as listed; ``ledger``: its rows."""
    lost, refused = gaps_and_refusals(ledger)
    return {
        "id": device.device,
        "uid": device.uid,
        "site": device.site,
        "class": device.device_class,
        "online": device.online,
        "state": device_state(device, now_ns),
        "first_seen": time_json(device.first_seen_ns),
        "last_seen": time_json(device.last_seen_ns),
        "last_event_time": time_json(device.last_event_ns),
        "frames": device.frames,
        "latest": {
            metric: {"value": value, "unit": unit_of(metric), "time": format_rfc3339(ts)}
            for metric, (ts, value) in device.latest.items()
        },
        "info": dict(device.info),
        "clock_offset_s": device.clock_offset_s,
        "rate_hz": device.rate_hz,
        "lost_before_journal": lost,
        "quarantined": refused,
        "health": f"/v1/devices/{quote(device.uid.replace('/', '~'))}/health",
    }


def unit_of(metric: str) -> str:
    """Return the unit of a metric, "" for one that this version does not know."""
    known = BY_NAME.get(metric)
    return known.unit if known else ""


def quarantine_json(record: QuarantineRecord) -> dict[str, Any]:
    """Return a refusal as listed."""
    payload, encoding = _payload_text(record.payload, truncated=record.payload_bytes > len(record.payload))
    return {
        "id": record.id,
        "reason": record.reason,
        "pointer": record.pointer,
        "detail": record.detail,
        "topic": record.topic,
        "uid": record.uid,
        "received": format_rfc3339(record.recv_ns),
        "payload": payload,
        "payload_encoding": encoding,
        "payload_bytes": record.payload_bytes,
        "payload_sha256": record.payload_sha256,
    }


def _payload_text(payload: bytes, *, truncated: bool) -> tuple[str, str]:
    """Return (text, "utf-8") or (base64, "base64"); a head cut inside a character is still text."""
    try:
        return payload.decode(), "utf-8"
    except UnicodeDecodeError as error:
        if truncated and error.reason == "unexpected end of data" and len(payload) - error.start < LONGEST_UTF8:
            return payload[: error.start].decode(), "utf-8"
        return base64.b64encode(payload).decode(), "base64"


def hello_json(
    devices: list[DeviceRecord],
    live: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]],
    now_ns: int,
) -> list[dict[str, Any]]:
    """Return each device with its newest value of every metric: from the records, overlaid with what is live."""
    found: dict[str, dict[str, Any]] = {}
    for device in devices:
        found[device.uid] = {
            "id": device.device,
            "uid": device.uid,
            "site": device.site,
            "class": device.device_class,
            "online": device.online,
            "state": device_state(device, now_ns),
            "last_seen": time_json(device.last_seen_ns),
            "values": {metric: value for metric, (_, value) in device.latest.items()},
        }
    for (site, device_class), values in live.items():
        for name, metrics in values.items():
            uid = f"{site}/{device_class}/{name}"
            unknown = {
                "id": name,
                "uid": uid,
                "site": site,
                "class": device_class,
                "online": True,
                "state": "live",
                "last_seen": None,
                "values": {},
            }
            found.setdefault(uid, unknown)["values"].update(metrics)
    return list(found.values())

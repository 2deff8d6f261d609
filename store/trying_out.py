"""What a field engineer tries: the exact command that publishes one reading as a device."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from devices.topics import DeviceKey, Stream, topic_of
from devices.unknown_names import quoted
from devices.vocabulary import DeviceClass, accepted_from
from store.registry import Credential

TO_FILL_IN: Final = "PASSWORD"
"""What stands in the place of a password: nobody but the device has it."""


def broker_address(workers: Mapping[str, Mapping[str, Any]], otherwise: tuple[str, int]) -> tuple[str, int]:
    """Return host and port of the broker that ingest is connected to; ``otherwise`` where no worker says one."""
    url = _broker_url(workers)
    return (str(url.hostname), int(url.port or 0)) if url else otherwise


def speaks_tls(workers: Mapping[str, Mapping[str, Any]], *, otherwise: bool) -> bool:
    """Tell whether the broker of :func:`broker_address` is spoken to over TLS."""
    url = _broker_url(workers)
    return url.scheme == "mqtts" if url else otherwise


def _broker_url(workers: Mapping[str, Mapping[str, Any]]) -> SplitResult | None:
    urls = (urlsplit(str(status.get("broker_url", ""))) for status in workers.values())
    return next((url for url in urls if url.hostname and url.port), None)


def publish_command(
    key: DeviceKey, broker: tuple[str, int], credential: Credential | None, ca: str | None, *, tls: bool
) -> str:
    """Return the exact command that publishes one reading as the device; a password has to be filled in.

    ``ca``: file of the authority that signs the broker's certificate. ``tls``: whether the broker speaks TLS.
    """
    metric = next(iter(accepted_from(DeviceClass(key.device_class))))
    payload = json.dumps({"v": 1, "m": {metric: 1}}, separators=(",", ":"))
    words = ["mosquitto_pub", "-h", broker[0], "-p", str(broker[1])]
    certified = credential is not None and credential.kind == "certificate"
    if tls or certified:
        words += ["--cafile", ca or "CA.pem"]
    if certified:
        words += ["--cert", "CERTIFICATE", "--key", "KEY"]
    elif credential is not None:
        words += ["-u", credential.username, "-P", TO_FILL_IN]
    return " ".join(map(quoted, [*words, "-q", "1", "-t", topic_of(key, Stream.TELEMETRY), "-m", payload]))

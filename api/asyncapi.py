"""The messages as AsyncAPI 3.0: made from the structs that decode them and from the vocabulary, so it cannot drift."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from api.foreign_messages import SENT, foreign_channels, foreign_messages, foreign_schemas
from devices.acks import Acknowledgement, ack_topic
from devices.codecs import native
from devices.commands import Command, CommandAnswer
from devices.topics import (
    DEVICE,
    RESULTS_ROOT,
    SITE,
    DeviceKey,
    Stream,
    event_topic,
    live_topic,
    status_topic,
    topic_of,
)
from devices.vocabulary import METRICS, DeviceClass, Metric

ASYNCAPI_VERSION: Final = "3.0.0"
Json = dict[str, Any]

DESCRIPTION: Final = (
    "What devices publish and what comes back. Payloads are JSON, or msgpack of the same shape. `seq` counts the "
    "messages of a device over all its streams and `boot` is drawn anew at each start: with both, a message counts "
    "exactly once however often it is sent."
)
_PLACES: Final = DeviceKey("{site}", "{class}", "{device}")
_STRUCTS: Final = (
    native.Telemetry,
    native.Block,
    native.Event,
    native.Status,
    Command,
    CommandAnswer,
    Acknowledgement,
)
_TIME: Final = 1_795_421_730_250_000_000

_LIVE: Final[Json] = {
    "title": "Live",
    "type": "object",
    "properties": {
        "time": {"type": "string", "format": "date-time"},
        "values": {
            "type": "object",
            "description": "device → metric → newest value, of what changed since the message before",
            "additionalProperties": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    },
    "required": ["time", "values"],
    "additionalProperties": False,
}
_PORT_EVENT: Final[Json] = {
    "title": "PortEvent",
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "made of what the event is: the same event keeps its id"},
        "cursor": {"type": "integer", "description": "position in the order of storing"},
        "type": {"type": "string"},
        "site": {"type": "string"},
        "class": {"type": "string", "enum": list(DeviceClass)},
        "device": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "start": {"type": "string", "format": "date-time"},
        "data": {
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
        "carrier": {
            "type": "object",
            "description": "what carried the tag in `data`, where the registry knows it for that time",
            "properties": {"id": {"type": "string"}, "type": {"type": "string"}, "source": {"const": "registry"}},
            "required": ["id", "type", "source"],
            "additionalProperties": False,
        },
    },
    "required": ["id", "cursor", "type", "site", "class", "device", "time", "start", "data"],
    "additionalProperties": False,
}
_WORKER: Final[Json] = {
    "title": "Worker",
    "type": "object",
    "description": "What an ingest worker says of itself.",
    "properties": {
        "worker": {"type": "string"},
        "updated": {"type": "string", "format": "date-time"},
        "broker": {"type": "string"},
        "journal": {"type": "string"},
        "balanced": {"type": "boolean", "description": "whether each frame is in exactly one account"},
    },
    "required": ["worker", "updated", "broker", "journal", "balanced"],
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}

_EXAMPLES: Final[dict[str, Json]] = {
    "telemetry-quay-crane": {
        "v": 1,
        "boot": 7_403_517_728_331_452,
        "seq": 118,
        "ts": "2026-11-23T08:15:30.25Z",
        "m": {"trolley_position_m": 31.2, "hoist_height_m": 12.85, "load_t": 24.6, "spreader_locked": True},
    },
    "telemetry-yard-crane": {"v": 1, "boot": 9, "seq": 4, "ts": _TIME, "m": {"gantry_position_m": 118.4, "load_t": 0}},
    "telemetry-rfid-gate": {"v": 1, "boot": 51, "seq": 8, "ts": _TIME, "m": {"queue_length": 3, "barrier_open": False}},
    "telemetry-vehicle": {
        "v": 1,
        "boot": 77,
        "seq": 12,
        "ts": _TIME,
        "m": {"longitude_deg": 121.83, "latitude_deg": 29.93, "speed_mps": 4.2, "laden": True},
    },
    "telemetry-park-sensor": {"v": 1, "m": {"temperature_celsius": 4.5, "humidity_percent": 61}},
    "block": {
        "v": 1,
        "boot": 7_403_517_728_331_452,
        "seq": 119,
        "t0": _TIME,
        "dt": 100_000_000,
        "names": ["hoist_height_m", "load_t"],
        "f32": "zcxNQc3MxEEAAFBBzczEQQ==",
    },
    "event": {
        "v": 1,
        "boot": 51,
        "seq": 9,
        "ts": "2026-11-23T08:15:31Z",
        "type": "tag_read",
        "data": {"tag": "E28011700000020F1A2B3C4D", "antenna": 2, "rssi_dbm": -61.5, "direction": "in"},
    },
    "status": {"v": 1, "boot": 51, "seq": 0, "online": True, "info": {"maker": "ZPMC", "firmware": "4.2.1"}},
    "command": {
        "v": 1,
        "id": "c-4711",
        "name": "set_rate",
        "args": {"hz": 5},
        "expires": "2026-11-23T08:15:40Z",
    },
    "command-answer": {"v": 1, "id": "c-4711", "ok": True, "data": {"was_hz": 2}},
    "acknowledgement": {"v": 1, "boots": [{"boot": 51, "low": 0, "high": 118, "missing": [[17, 19]]}]},
    "live": {"time": "2026-11-23T08:00:00.5Z", "values": {"QC01": {"trolley_position_m": 31.2}}},
    "port-event": {
        "id": "5f0c6c2f7d8a4be19a3b5c7d",
        "cursor": 4_711,
        "type": "crane_move",
        "site": "CNNGB-DEMO",
        "class": "quay-crane",
        "device": "QC01",
        "time": "2026-11-23T07:58:31.4Z",
        "start": "2026-11-23T07:57:44.1Z",
        "data": {"kind": "discharge", "teu": 2.0},
    },
    "worker": {
        "worker": "ingest-1",
        "updated": "2026-11-23T08:00:00Z",
        "broker": "connected",
        "journal": "ok",
        "balanced": True,
    },
}


def describe_messages(version: str, broker: str, *, tls: bool) -> Json:
    """Return the AsyncAPI document of this installation.

    ``version``: of the program. ``broker``: its host and port as ``host:port``.
    """
    channels = {**_device_channels(), **_result_channels(), **foreign_channels(_device_parameters())}
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {"title": "Quayflow messages", "version": version, "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {
            "broker": {"host": broker, "protocol": "secure-mqtt" if tls else "mqtt", "protocolVersion": "5"},
        },
        "channels": channels,
        "operations": {name: _operation(name, channel) for name, channel in channels.items()},
        "components": {"schemas": _schemas(), "messages": _messages()},
    }


def _schemas() -> Json:
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    schemas |= foreign_schemas()
    schemas |= {"Live": _LIVE, "PortEvent": _PORT_EVENT, "Worker": _WORKER}
    for device_class in DeviceClass:
        schemas[f"values-{device_class}"] = _values(device_class)
    readable: Json = _plain(schemas)
    return readable


def _values(device_class: DeviceClass) -> Json:
    """Return the schema of ``m`` for a class: the metrics that it may publish, with their ranges."""
    metrics = [metric for metric in METRICS if device_class in metric.classes and not metric.derived]
    return {
        "title": f"Values of a {device_class}",
        "type": "object",
        "description": "At least one; a value under another name, or out of its range, is quarantined alone.",
        "properties": {metric.name: _metric(metric) for metric in metrics},
        "additionalProperties": False,
        "minProperties": 1,
    }


def _metric(metric: Metric) -> Json:
    is_flag = (metric.minimum, metric.maximum, metric.resolution) == (0, 1, 1)
    return {
        "type": ["number", "boolean"] if is_flag else "number",
        "minimum": metric.minimum,
        "maximum": metric.maximum,
        "description": f"{metric.unit}, {metric.kind}, kept to {metric.resolution:g}",
    }


def _messages() -> Json:
    messages = {
        f"telemetry-{device_class}": _message(
            f"Values of a {device_class} at one instant",
            {
                "allOf": [
                    _ref("schemas", "Telemetry"),
                    {"properties": {"m": _ref("schemas", f"values-{device_class}")}},
                ]
            },
        )
        for device_class in DeviceClass
    }
    messages |= {
        "block": _message("Fast signals, many instants packed", _ref("schemas", "Block")),
        "event": _message("Something that happened once", _ref("schemas", "Event")),
        "status": _message("Whether the device is there, and what it is", _ref("schemas", "Status")),
        "command": _message("What a device is asked to do", _ref("schemas", "Command")),
        "command-answer": _message("What became of a command", _ref("schemas", "CommandAnswer")),
        "acknowledgement": _message("What of a device rests on the disk of ingest", _ref("schemas", "Acknowledgement")),
        "live": _message("Newest values of a class", _ref("schemas", "Live")),
        "port-event": _message("A port event, after it is stored", _ref("schemas", "PortEvent")),
        "worker": _message("How an ingest worker does", _ref("schemas", "Worker")),
    }
    for name, message in messages.items():
        message["name"] = name
        message["examples"] = [{"payload": _EXAMPLES[name]}]
    return messages | {name: message | {"name": name} for name, message in foreign_messages().items()}


def _device_channels() -> Json:
    telemetry = [*(f"telemetry-{device_class}" for device_class in DeviceClass), "block"]
    return {
        "telemetry": _of_device(Stream.TELEMETRY, "Values, QoS 1.", telemetry),
        "event": _of_device(Stream.EVENT, "Events of the device itself, QoS 1.", ["event"]),
        "status": _of_device(Stream.STATUS, "Retained, published at connect; the last will says offline.", ["status"]),
        "cmd-ack": _of_device(Stream.COMMAND_ACK, "The device's answers to its commands, QoS 1.", ["command-answer"]),
        "cmd": _of_device(Stream.COMMAND, "Commands to the device, QoS 1, never retained.", ["command"]),
        "acks": _channel(
            ack_topic(_PLACES),
            "Retained, about once a second, to a device whose status has `acks: true` in its `info`.",
            ["acknowledgement"],
            _device_parameters(),
        ),
    }


def _of_device(stream: Stream, description: str, messages: Iterable[str]) -> Json:
    return _channel(topic_of(_PLACES, stream), description, messages, _device_parameters())


def _device_parameters() -> Json:
    return {
        "site": {"description": f"UN/LOCODE and facility: {SITE.pattern}", "examples": ["CNNGB-DEMO"]},
        "class": {"description": "Device class", "enum": list(DeviceClass)},
        "device": {"description": f"The device's own id: {DEVICE.pattern}", "examples": ["QC01"]},
    }


def _result_channels() -> Json:
    site = {"site": {"description": "UN/LOCODE and facility", "examples": ["CNNGB-DEMO"]}}
    of_class = {"class": {"description": "Device class", "enum": list(DeviceClass)}}
    of_type = {"type": {"description": "Type of the event", "examples": ["crane_move"]}}
    worker = {"worker": {"description": "Name of the worker", "examples": ["ingest-1"]}}
    return {
        "live": _channel(
            live_topic("{site}", "{class}"), "QoS 0, up to 50 times a second, what changed.", ["live"], site | of_class
        ),
        "port-events": _channel(
            event_topic("{site}", "{type}"), "QoS 1, each port event once stored.", ["port-event"], site | of_type
        ),
        "workers": _channel(status_topic("{worker}"), "Retained, every second.", ["worker"], worker),
    }


def _channel(address: str, description: str, messages: Iterable[str], parameters: Json) -> Json:
    return {
        "address": address,
        "description": description,
        "messages": {name: _ref("messages", name) for name in messages},
        "parameters": parameters,
    }


def _operation(name: str, channel: Json) -> Json:
    """Return what quayflow does on a channel: it receives what devices say and sends the rest."""
    receives = name not in {*SENT, "cmd"} and not channel["address"].startswith(f"{RESULTS_ROOT}/")
    return {
        "action": "receive" if receives else "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": channel["description"],
    }


def _message(title: str, payload: Json) -> Json:
    return {"title": title, "payload": payload}


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _plain(value: object) -> Any:  # noqa: ANN401 - whatever a schema holds
    r"""Return a schema in its standard's own words: ECMA 262 knows no ``\A`` and ``\Z``, Markdown one backtick."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str):
        return value.replace(r"\A", "^").replace(r"\Z", "$").replace("``", "`")
    return value

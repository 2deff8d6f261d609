"""Foreign formats as AsyncAPI: their channels, and what travels there, made by the codecs' own structs and encoders."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from devices.codecs import jt808_bodies, sparkplug_payloads, teltonika
from devices.codecs.impinj import Impinj
from devices.codecs.jt808_frames import LOCATION, frame_of
from devices.codecs.registry import CODECS
from devices.codecs.sparkplug import DEVICE_TYPES, NODE_TYPES
from devices.codecs.tic40 import encode
from devices.codecs.tic40_flat import encode_flat
from devices.codecs.zebra import Zebra
from devices.times import NS, format_rfc3339
from devices.topics import ROOT
from devices.vocabulary import DeviceClass

NATIVE: Final = "native"
JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
TIME: Final = 1_795_421_730_250_000_000
FROM_PLATFORM: Final = frozenset({"NCMD", "DCMD"})
Json = dict[str, Any]

_VALUES: Final = {"hoist_height_m": 12.85, "load_t": 24.6}
_PLACE: Final = (29.93, 121.83)


class Format(NamedTuple):
    """A foreign format."""

    title: str
    content_type: str
    example: Any
    """A payload: an object of JSON, text, or bytes."""
    struct: type[msgspec.Struct] | None = None
    """What of one object of JSON is read, where the codec has a struct of it."""


FORMATS: Final[dict[str, Format]] = {
    "tic40": Format(
        "TIC 4.0 JSON of a machine (CHE)", JSON, encode("QC01", DeviceClass.QUAY_CRANE, TIME, dict(_VALUES))
    ),
    "tic40-flat": Format(
        "TIC 4.0 FLAT of a machine", JSON, encode_flat("QC01", DeviceClass.QUAY_CRANE, TIME, dict(_VALUES))
    ),
    "impinj": Format(
        "JSON of an Impinj reader; several in an array or a line each",
        JSON,
        {
            "timestamp": format_rfc3339(TIME),
            "hostname": "impinj-14-2e-01",
            "eventType": "tagInventory",
            "tagInventoryEvent": {"epcHex": "E28011700000020F1A2B3C4D", "antennaPort": 2, "peakRssiCdbm": -6150},
        },
        Impinj.message,
    ),
    "zebra": Format(
        "JSON of a Zebra reader; several in an array or a line each",
        JSON,
        {
            "type": "CUSTOM",
            "timestamp": "2026-11-23T08:15:30.250+0000",
            "data": {"idHex": "e28011700000020f1a2b3c4d", "antenna": 2, "peakRssi": -61, "eventNum": 16_511},
        },
        Zebra.message,
    ),
    "llrp": Format("LLRP messages of a reader, one after another", OCTETS, bytes.fromhex("043e0000000a00000009")),
    "epc": Format("Codes of tags, in hexadecimal digits, or one as it is", TEXT, "3074257BF7194E4000001A85"),
    "iso6346": Format("Container numbers, one a line, perhaps with a size-type code", TEXT, "CSQU3054383 22G1\n"),
    "edifact": Format(
        "UN/EDIFACT CODECO and COARRI",
        TEXT,
        "UNB+UNOA:1+CNNGBBLCT+ABC+261123:0815+77'UNH+7+CODECO:D:95B:UN:ITG14'BGM+34+1+9'EQD+CN+CSQU3054383'"
        "UNT+4+7'UNZ+1+77'",
    ),
    "sparkplug": Format(
        "Sparkplug B, protobuf",
        OCTETS,
        sparkplug_payloads.write(
            TIME // 1_000_000,
            0,
            [
                sparkplug_payloads.Metric("bdSeq", None, TIME // 1_000_000, 4, 0),
                sparkplug_payloads.Metric("Crane/load_t", 1, TIME // 1_000_000, sparkplug_payloads.DOUBLE, 24.6),
            ],
        ),
    ),
    "jt808": Format(
        "A frame of JT/T 808, from 7E to 7E",
        OCTETS,
        frame_of(LOCATION, "13812345678", 1, jt808_bodies.location(TIME, *_PLACE, speed_mps=4.2)),
    ),
    "teltonika": Format(
        "A packet of Teltonika codec 8, 8 extended or 16",
        OCTETS,
        teltonika.packet_of(8, 1, teltonika.record_of(TIME, *_PLACE, speed_mps=4.2)),
    ),
    "owntracks": Format(
        "OwnTracks JSON, or a position that Traccar forwards",
        JSON,
        {"_type": "location", "tst": TIME // NS, "lat": _PLACE[0], "lon": _PLACE[1], "vel": 15},
    ),
}
"""Codec → what travels; a test holds it to the codecs that there are."""
STATE: Final = "sparkplug-state"
REBIRTH: Final = "sparkplug-rebirth"
SENT: Final = frozenset({STATE, REBIRTH})
"""Channels on which quayflow publishes."""
_STATE_SCHEMA: Final[Json] = {
    "title": "SparkplugState",
    "type": "object",
    "properties": {
        "online": {"type": "boolean"},
        "timestamp": {"type": "integer", "description": "ms since 1970; the last will has that of the birth"},
    },
    "required": ["online", "timestamp"],
    "additionalProperties": False,
}


def foreign_schemas() -> Json:
    """Return the schemas of what is read of foreign JSON, and of Sparkplug's STATE, by their names."""
    found: Json = {"SparkplugState": _STATE_SCHEMA}
    for codec, each in FORMATS.items():
        if each.struct is not None:
            _, parts = msgspec.json.schema_components(
                [each.struct], ref_template=f"#/components/schemas/{codec}-{{name}}"
            )
            found |= {f"{codec}-{name}": schema for name, schema in parts.items()}
    return found


def foreign_messages() -> Json:
    """Return message → title, payload, content type and example."""
    messages = {f"foreign-{codec}": _message(codec, each) for codec, each in FORMATS.items()}
    state = {"title": "Whether ingest is there as the host of Sparkplug", "payload": _ref("SparkplugState")}
    return messages | {STATE: state | {"examples": [{"payload": {"online": True, "timestamp": TIME // 1_000_000}}]}}


def foreign_channels(device_parameters: Mapping[str, Json]) -> Json:
    """Return the channels; ``device_parameters``: those of the levels that say who speaks."""
    channels = {
        f"foreign-{codec}": _channel(
            f"{ROOT}/{{site}}/{{class}}/{{device}}/{codec}",
            f"{FORMATS[codec].title}, QoS 1; the topic says who speaks.",
            codec,
            device_parameters,
        )
        for codec in CODECS
        if codec != NATIVE
    }
    group, node, device = (
        {name: {"description": f"Sparkplug's {name} id", "examples": [example]}}
        for name, example in (("group", "BLCT"), ("node", "PLC-1"), ("device", "hoist"))
    )
    kinds = {
        level: {"type": {"description": "What the message is", "enum": sorted(types - FROM_PLATFORM)}}
        for level, types in (("node", NODE_TYPES), ("device", DEVICE_TYPES))
    }
    usual = "Where `sources` have this codec; the topic says who speaks."
    channels["sparkplug-node"] = _channel(
        "spBv1.0/{group}/{type}/{node}", usual, "sparkplug", group | kinds["node"] | node
    )
    channels["sparkplug-device"] = _channel(
        "spBv1.0/{group}/{type}/{node}/{device}", usual, "sparkplug", group | kinds["device"] | node | device
    )
    channels["owntracks"] = _channel(
        "owntracks/{user}/{device}",
        usual,
        "owntracks",
        {
            "user": {"description": "Name of the user", "examples": ["li"]},
            "device": {"description": "Name of the phone", "examples": ["phone"]},
        },
    )
    channels[REBIRTH] = _channel(
        "spBv1.0/{group}/NCMD/{node}",
        "`Node Control/Rebirth`, QoS 0, to a node whose births are not known.",
        "sparkplug",
        group | node,
    )
    host = {"host": {"description": "Name of ingest as Sparkplug's host", "examples": ["quayflow-ingest-1"]}}
    channels[STATE] = _channel("spBv1.0/STATE/{host}", "Retained, and as last will.", "", host)
    return channels


def _message(codec: str, each: Format) -> Json:
    example = each.example
    if each.content_type == JSON:
        example = msgspec.json.decode(example) if isinstance(example, bytes) else example
        payload = {"type": "object"} if each.struct is None else _ref(f"{codec}-{each.struct.__name__}")
    elif each.content_type == TEXT:
        payload = {"type": "string"}
    else:
        example = example.hex()
        payload = {"type": "string", "format": "binary", "description": "here in hexadecimal digits"}
    return {
        "title": each.title,
        "contentType": each.content_type,
        "payload": payload,
        "examples": [{"payload": example}],
    }


def _channel(address: str, description: str, codec: str, parameters: Mapping[str, Json]) -> Json:
    name = f"foreign-{codec}" if codec else STATE
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": dict(parameters),
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}

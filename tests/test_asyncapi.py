"""The message description is true: valid AsyncAPI, and what devices really send fits it, and nothing else does."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator
from jsonschema.validators import Draft202012Validator
from made_port import Client, MadePort, client_of

from api.asyncapi import describe_messages
from api.foreign_messages import FORMATS
from devices import acks, commands
from devices.codecs import native
from devices.codecs.impinj import Impinj
from devices.codecs.registry import CODECS, make_codec
from devices.codecs.zebra import Zebra
from devices.filters import matches
from devices.topics import Stream, parse
from devices.vocabulary import BY_NAME, DeviceClass
from ingest.sources import USUAL
from simulators import profiles
from simulators.messages import PortMessages

SECOND = 1_000_000_000
BEGIN = 1_767_225_600 * SECOND
DECODERS: dict[str, Callable[[bytes], object]] = {
    "telemetry": native.decode_telemetry,
    "block": native.decode_block,
    "event": native.decode_event,
    "status": native.decode_status,
    "command": commands.decode_command,
    "command-answer": commands.decode_answer,
    "acknowledgement": acks.decode,
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return describe_messages("1.2.3", "broker.example:8883", tls=True)


@pytest.fixture(scope="module")
def official(root: Path) -> Draft7Validator:
    """The schema that the AsyncAPI initiative publishes; set-up installs it with the page's packages."""
    path = root / "web" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    return Draft7Validator(json.loads(path.read_text()))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with client_of(MadePort(tmp_path_factory.mktemp("asyncapi"))) as client:
        yield client


def payload_schema(document: dict[str, Any], message: str) -> Draft202012Validator:
    schema = document["components"]["messages"][message]["payload"]
    return Draft202012Validator({**schema, "components": document["components"]})


def test_the_description_is_valid_asyncapi(document: dict[str, Any], official: Draft7Validator) -> None:
    assert [f"{error.json_path}: {error.message}" for error in official.iter_errors(document)] == []


def test_the_official_schema_refuses_a_broken_description(document: dict[str, Any], official: Draft7Validator) -> None:
    operations = document["operations"] | {"telemetry": {"action": "publish", "channel": {}}}
    assert not official.is_valid(document | {"operations": operations})
    assert not official.is_valid({name: part for name, part in document.items() if name != "info"})


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert found
    for path in found:
        place: Any = document
        for part in path.split("/"):
            place = place[part]


def test_every_channel_names_exactly_the_parameters_of_its_address(document: dict[str, Any]) -> None:
    for channel in document["channels"].values():
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])


def test_every_example_fits_its_schema_and_is_decoded(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        for example in message["examples"]:
            payload_schema(document, name).validate(example["payload"])
            decode = DECODERS.get(name.split("-")[0] if name.startswith("telemetry") else name)
            if decode is not None:
                decode(json.dumps(example["payload"]).encode())


def test_every_foreign_format_has_its_channel_and_an_example_that_its_codec_reads(document: dict[str, Any]) -> None:
    channels, messages = document["channels"], document["components"]["messages"]
    assert set(FORMATS) == set(CODECS) - {"native"}
    for codec in FORMATS:
        channel = channels[f"foreign-{codec}"]
        assert channel["address"].endswith(f"/{codec}")
        message = messages[f"foreign-{codec}"]
        said = message["examples"][0]["payload"]
        match message["contentType"]:
            case "application/json":
                payload = json.dumps(said).encode()
            case "text/plain":
                payload = said.encode()
            case _:
                payload = bytes.fromhex(said)
        topic = "spBv1.0/BLCT/NBIRTH/PLC-1" if codec == "sparkplug" else "owntracks/li/phone"
        assert make_codec(codec).decode(payload, topic)


def test_what_is_read_of_foreign_json_is_described_by_the_struct_that_reads_it(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for codec, kind in (("impinj", Impinj.message), ("zebra", Zebra.message)):
        schema = payload_schema(document, f"foreign-{codec}")
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert set(schemas[f"{codec}-{kind.__name__}"]["properties"]) == fields
        assert not schema.is_valid({"type": 5, "eventType": 5})


def test_usual_topics_are_those_that_ingest_subscribes_to(document: dict[str, Any]) -> None:
    for codec, channels in (("sparkplug", ["sparkplug-node", "sparkplug-device"]), ("owntracks", ["owntracks"])):
        for channel in channels:
            topic = re.sub(r"{\w+}", "x", document["channels"][channel]["address"])
            assert any(matches(pattern, topic) for pattern in USUAL[codec])
            assert document["operations"][channel]["action"] == "receive"
    sent = {name for name, operation in document["operations"].items() if operation["action"] == "send"}
    assert sent == {"acks", "cmd", "live", "port-events", "sparkplug-rebirth", "sparkplug-state", "workers"}


def test_what_a_port_sends_fits_the_description(document: dict[str, Any]) -> None:
    port = PortMessages(profiles.load("small"), 7, "CNNGB-DEMO", BEGIN, "json")
    sent = [*port.hello(), *port.advance(60 * SECOND), *port.goodbye()]
    seen = set()
    for message in sent:
        key, stream = parse(message.topic)
        name = f"telemetry-{key.device_class}" if stream is Stream.TELEMETRY else stream.value
        payload_schema(document, name).validate(json.loads(message.payload))
        seen.add(name)
    assert seen >= {"status", "event", "telemetry-quay-crane", "telemetry-vehicle"}


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ("telemetry-quay-crane", {"v": 1, "m": {"no_such_metric": 1}}),
        ("telemetry-quay-crane", {"v": 1, "m": {"load_t": 501}}),
        ("telemetry-quay-crane", {"v": 1, "m": {"load_t": "24.6"}}),
        ("telemetry-quay-crane", {"v": 1, "m": {}}),
        ("telemetry-vehicle", {"v": 1, "m": {"load_t": 1}}),
        ("telemetry-vehicle", {"v": 1, "seq": -1, "m": {"speed_mps": 1}}),
        ("telemetry-vehicle", {"m": {"speed_mps": 1}}),
        ("event", {"v": 1, "type": "a/b"}),
        ("event", {"v": 1, "type": "x", "data": {"deep": {}}}),
        ("status", {"v": 1}),
        ("status", {"v": 1, "online": True, "extra": 1}),
    ],
)
def test_what_ingest_refuses_does_not_fit(document: dict[str, Any], message: str, payload: dict[str, Any]) -> None:
    assert not payload_schema(document, message).is_valid(payload)


def test_a_class_may_publish_exactly_its_metrics(document: dict[str, Any]) -> None:
    for device_class in DeviceClass:
        described = set(document["components"]["schemas"][f"values-{device_class}"]["properties"])
        assert described == {
            name for name, metric in BY_NAME.items() if device_class in metric.classes and not metric.derived
        }


def test_the_api_serves_the_description_of_its_own_broker(client: Client, official: Draft7Validator) -> None:
    found = client.json("/asyncapi.json")
    assert official.is_valid(found)
    assert found["servers"]["broker"]["host"] == "127.0.0.1:1"
    assert found["info"]["version"] == client.json("/version")["version"]


def test_the_page_shows_every_channel_message_and_metric_without_another_host(
    client: Client, document: dict[str, Any]
) -> None:
    page = client.get("/asyncapi")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for channel in document["channels"].values():
        assert channel["address"] in page.text
    for message in document["components"]["messages"].values():
        assert message["title"] in page.text
    for name, metric in BY_NAME.items():
        assert metric.derived or f"<code>{name}</code>" in page.text
    assert not re.search(r"https?://|<script|src=", page.text)

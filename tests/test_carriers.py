"""Whose tag was read: the registry's tags beside the events, at the time of the passage, wherever these are told."""

import json
import queue
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from made_frames import read_of, topic
from made_port import NOW, SITE, MadePort, client_of, device, event
from paho.mqtt.enums import CallbackAPIVersion

from devices.times import NS, format_rfc3339
from devices.topics import event_topic
from engines.mosquitto import running_mosquitto
from engines.ports import wait_until
from engines.postgres import Postgres
from faults.ingest_process import IngestProcess
from faults.publisher import Outgoing, Publisher
from store.carriers import Carriers
from store.open import open_registry
from store.registry_entries import EntryError, Tag, entry_of

EPC = "3074257BF7194E4000001A85"
LANE = f"{SITE}/rfid-gate/G1"
BOX = {"id": "CSQU3054383", "type": "container", "source": "registry"}
HOUR = 3_600 * NS


def at(ts_ns: int) -> str:
    return format_rfc3339(ts_ns)


def passage(number: int, ts_ns: int, tag: str = EPC) -> Any:
    return event(number, LANE, "gate_passage", ts_ns=ts_ns, data={"tag": tag, "direction": "in", "reads": 3})


def test_a_tag_is_on_what_carried_it_at_the_time() -> None:
    moved = Tag(tag=EPC, carrier="MSKU6011672", start=at(NOW))
    carriers = Carriers([Tag(tag=EPC.lower(), carrier="CSQU3054383"), moved, Tag(tag="T2", carrier="X", end=at(NOW))])
    found = [carriers.at(EPC, NOW - 1), carriers.at(EPC.lower(), NOW), carriers.at(EPC, NOW + HOUR)]
    assert [each.id for each in found if each] == ["CSQU3054383", "MSKU6011672", "MSKU6011672"]
    assert carriers.at("T2", NOW - 1) is not None
    assert carriers.at("T2", NOW) is None
    assert carriers.at("T3", NOW) is None


def test_an_event_keeps_its_tag_and_one_without_a_carrier_is_told_as_it_is() -> None:
    carriers = Carriers([Tag(tag=EPC, carrier="CSQU3054383")])
    told = carriers.document(passage(1, NOW))
    assert told == passage(1, NOW).document() | {"carrier": BOX}
    for other in (passage(2, NOW, "T3"), event(3), event(4, data={"tag": 7})):
        assert carriers.document(other) == other.document()


def test_entries_of_one_tag_at_different_times_are_kept_beside_each_other() -> None:
    first, second = Tag(tag=EPC, carrier="A"), Tag(tag=EPC, carrier="B", start=at(NOW))
    assert (first.key, second.key) == (EPC, f"{EPC}@{at(NOW)}")
    for wrong, said in (({"start": "noon"}, "start: "), ({"start": at(NOW), "end": at(NOW)}, "is not after start")):
        with pytest.raises(EntryError, match=said):
            entry_of("tag", {"tag": EPC, "carrier": "A", **wrong})


@pytest.fixture(params=["sqlite", "postgres"])
def port(request: pytest.FixtureRequest, tmp_path: Path) -> MadePort:
    if request.param == "sqlite":
        return MadePort(tmp_path)
    engine: Postgres = request.getfixturevalue("postgres")
    return MadePort(tmp_path, records_url=engine.create(f"carriers_{time.monotonic_ns()}"))


def test_a_tag_table_that_comes_later_holds_for_passages_of_before(port: MadePort) -> None:
    port.commit(devices=[device(LANE)], events=[passage(1, NOW - HOUR), passage(2, NOW), event(3)])
    port.sink.drain(20)
    registry = open_registry(port.records_url, read_only=False)
    with client_of(port) as client:

        def told() -> list[Any]:
            return [each.get("carrier") for each in client.json("/v1/events", order="asc")["items"]]

        assert told() == [None, None, None]
        registry.put(Tag(tag=EPC, carrier="CSQU3054383", end=at(NOW)), actor="cli:test", now_ns=NOW)
        wait_until(lambda: told() == [BOX, None, None], "the passage of the time shows its container")
        registry.put(Tag(tag=EPC, carrier="浙B12345", type="truck", start=at(NOW)), actor="cli:test", now_ns=NOW)
        truck = {"id": "浙B12345", "type": "truck", "source": "registry"}
        wait_until(lambda: told() == [BOX, truck, None], "the later one shows the truck")
        items = client.json("/v1/events", order="asc", type="gate_passage")["items"]
        assert [each["data"]["tag"] for each in items] == [EPC, EPC]
    registry.close()
    port.sink.close()


@pytest.mark.slow
def test_a_passage_is_announced_with_its_container(tmp_path: Path) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port) as ingest:
        ingest.start()
        registry = open_registry(f"sqlite:///{ingest.folder}/quayflow.db", read_only=False)
        registry.put(Tag(tag=EPC, carrier="CSQU3054383"), actor="cli:test", now_ns=1)
        wait_until(lambda: ingest.said("the registry has revision 1") == 1, "ingest reads the registry")
        listener = mqtt.Client(CallbackAPIVersion.VERSION2)
        listener.on_message = lambda *given: heard.put(json.loads(given[2].payload))
        listener.connect("127.0.0.1", broker.port)
        listener.subscribe(event_topic(SITE, "gate_passage"), 1)
        listener.loop_start()
        began = time.time_ns() - 60 * NS
        reads = [(nth, began + nth * NS, EPC) for nth in range(3)] + [(3, began + 50 * NS, "E200")]
        sent = [
            Outgoing(topic("rfid-gate", "G1", "event"), json.dumps(read_of(seq, ts, tag)).encode(), None)
            for seq, ts, tag in reads
        ]
        with Publisher(broker.port, iter(sent), None) as sender:
            sender.finish()
        told = heard.get(timeout=30)
        assert told["carrier"] == BOX
        assert told["data"]["tag"] == EPC
        listener.loop_stop()
        listener.disconnect()
        registry.close()
        assert ingest.terminate() == 0

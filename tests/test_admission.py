"""What the registry lets in, and what adopted names become."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from made_frames import T0, Shelf, accounts, assert_every_frame_is_booked, frame, numbered, pipeline_of, topic, values

from analytics.rows import SeriesKey
from devices.rejects import Reason
from devices.topics import DeviceKey
from devices.vocabulary import DeviceClass
from engines.mosquitto import running_mosquitto
from engines.ports import wait_until
from engines.postgres import Postgres
from faults.ingest_process import IngestProcess
from faults.publisher import Outgoing, Publisher
from ingest.following import RegistryFollower
from ingest.pipeline import Pipeline
from ingest.sources import Source
from store.admission import (
    Admission,
    admission_of,
    from_bytes,
    read_admission,
    read_admission_of,
    to_bytes,
)
from store.open import open_records, open_registry
from store.registry_entries import Adoption, Alias, Entry, Policy, RegisteredDevice, Site

SITE = "CNNGB-DEMO"
QC01 = DeviceKey(SITE, "quay-crane", "QC01")
ADOPTED = Adoption(device=QC01.uid, name="hoist mm", metric="hoist_height_m", scale=0.001, offset=-2.5)


def admitted(*entries: Entry, default: Policy = Policy.OPEN) -> Pipeline:
    pipeline = pipeline_of()
    pipeline.admit(admission_of(entries, default))
    return pipeline


def sums(pipeline: Pipeline, metric: str) -> list[tuple[int, ...]]:
    """Count and scaled sum of each window of the finest tier of a metric of QC01."""
    shelf = Shelf()
    shelf.write(pipeline.windows.take_rows(1))
    key = SeriesKey(*QC01, metric)
    return [row[:2] for (tier, _, series), row in sorted(shelf.folded().items()) if (tier, series) == (10, key)]


@pytest.mark.parametrize(
    ("policy", "classes", "registered", "enabled", "admits"),
    [
        (Policy.OPEN, (), False, True, True),
        (Policy.OPEN, (), True, False, False),
        (Policy.KNOWN_CLASSES, (DeviceClass.QUAY_CRANE,), False, True, True),
        (Policy.KNOWN_CLASSES, (DeviceClass.VEHICLE,), False, True, False),
        (Policy.KNOWN_CLASSES, (DeviceClass.VEHICLE,), True, True, True),
        (Policy.CLOSED, (), False, True, False),
        (Policy.CLOSED, (), True, True, True),
        (Policy.CLOSED, (), True, False, False),
    ],
)
def test_a_site_admits_whom_its_policy_says(
    policy: Policy, classes: tuple[DeviceClass, ...], registered: bool, enabled: bool, admits: bool, tmp_path: Path
) -> None:
    entries: list[Entry] = [Site(site=SITE, policy=policy, classes=classes)]
    if registered:
        entries.append(RegisteredDevice(uid=QC01.uid, enabled=enabled))
    pipeline = admitted(*entries)
    pipeline.process(numbered([frame(topic("quay-crane", "QC01"), values(0, T0, load_t=1.0))]))
    refused = pipeline.take_quarantine()
    assert [record.reason for record in refused] == ([] if admits else [Reason.NOT_REGISTERED])
    # Who asks about one device alone is told the same.
    url = f"sqlite:///{tmp_path}/records.db"
    open_records(url, read_only=False).close()
    with closing(open_registry(url, read_only=False)) as registry:
        for entry in [*entries, RegisteredDevice(uid=f"{SITE}/vehicle/OTHER"), Site(site="CNNGB-OTHER")]:
            registry.put(entry, actor="test", now_ns=1)
        for default in Policy:
            for key in (QC01, DeviceKey("CNNGB-NEW", "vehicle", "X")):
                alone, all_of_it = read_admission_of(registry, key, default), read_admission(registry, default)
                assert alone.refusal(key) == all_of_it.refusal(key)
                assert alone.devices.get(key.uid) == all_of_it.devices.get(key.uid)
    assert_every_frame_is_booked(pipeline, 1)


def test_a_site_that_the_registry_does_not_know_follows_the_setting() -> None:
    for default, refusals in ((Policy.OPEN, 0), (Policy.CLOSED, 1)):
        pipeline = admitted(Site(site="DEHAM-CTA"), default=default)
        pipeline.process(numbered([frame(topic("quay-crane", "QC01"), values(0, T0, load_t=1.0))]))
        assert len(pipeline.take_quarantine()) == refusals


def test_a_change_of_the_registry_holds_from_the_next_frame_on() -> None:
    pipeline = admitted()
    closed, where = Site(site=SITE, policy=Policy.CLOSED), topic("quay-crane", "QC01")
    pipeline.process(numbered([frame(where, values(0, T0, load_t=1.0))]))
    pipeline.admit(admission_of([closed]))
    pipeline.process([frame(where, values(1, T0, load_t=1.0), offset=1_000)])
    pipeline.admit(admission_of([closed, RegisteredDevice(uid=QC01.uid)]))
    pipeline.process([frame(where, values(2, T0, load_t=1.0), offset=2_000)])
    assert [record.id for record in pipeline.take_quarantine()] == ["1000"]
    assert sums(pipeline, "load_t") == [(2, 2_000)]
    assert_every_frame_is_booked(pipeline, 3)


def test_an_unknown_name_tells_how_to_adopt_it_and_then_counts_in_the_metric_s_unit() -> None:
    pipeline, where = admitted(), topic("quay-crane", "QC01")
    body: dict[str, Any] = {"v": 1, "m": {"hoist mm": 14_500, "load_t": 2.0}}
    pipeline.process(numbered([frame(where, body)]))
    (refused,) = pipeline.take_quarantine()
    assert refused.reason == Reason.UNKNOWN_METRIC
    assert refused.detail.endswith(": quayflow device adopt CNNGB-DEMO/quay-crane/QC01 'hoist mm' METRIC")
    pipeline.admit(admission_of([ADOPTED]))
    pipeline.process([frame(where, body, offset=5_000)])
    assert pipeline.take_quarantine() == []
    assert sums(pipeline, "hoist_height_m") == [(1, 12_000)]
    pipeline.admit(admission_of([]))
    pipeline.process([frame(where, body, offset=9_000)])
    assert len(pipeline.take_quarantine()) == 1
    assert_every_frame_is_booked(pipeline, 3)


def test_an_adopted_value_is_held_to_the_range_of_its_metric() -> None:
    pipeline = admitted(ADOPTED)
    pipeline.process(numbered([frame(topic("quay-crane", "QC01"), {"v": 1, "m": {"hoist mm": 10_000_000}})]))
    (refused,) = pipeline.take_quarantine()
    assert refused.reason == Reason.OUT_OF_RANGE


def test_adopted_names_count_in_packed_blocks_too() -> None:
    pipeline = admitted(ADOPTED)
    block = {
        "v": 1,
        "t0": T0,
        "dt": 100_000_000,
        "names": ["hoist mm", "load_t"],
        "f32": np.array([[14_500, 1], [15_500, 2]], "<f4").tobytes(),
    }
    where = topic("quay-crane", "QC01")
    pipeline.process(numbered([frame(where, msgspec.msgpack.encode(block))]))
    assert pipeline.take_quarantine() == []
    assert sums(pipeline, "hoist_height_m") == [(2, 25_000)]


@pytest.mark.parametrize("policy", Policy)
def test_a_device_known_by_an_alias_is_one_device_however_it_is_named(policy: Policy) -> None:
    gate = f"{SITE}/rfid-gate/G7"
    entries = [
        Site(site=SITE, policy=policy),
        RegisteredDevice(uid=gate),
        Alias(scheme="impinj", foreign="r700-1", device=gate),
    ]
    pipeline = pipeline_of(sources=(Source("impinj", SITE, DeviceClass.VEHICLE, ("readers/#",)),))
    pipeline.admit(admission_of(entries))
    named, says = topic("vehicle", "r700-1", "impinj"), b'{"hostname":"r700-1","eventType":"heartbeat","timestamp":%d}'
    pipeline.process(numbered([frame("readers/1", says % (T0 // 10**6)), frame(named, says % (T0 // 10**6 + 1))]))
    assert pipeline.take_quarantine() == []
    assert accounts(pipeline)[gate, "windowed", ""][0] == 2
    assert {uid for uid, _, _ in accounts(pipeline)} == {gate}


def test_what_is_kept_of_the_registry_comes_back_as_it_was() -> None:
    entries = [
        Site(site=SITE, policy=Policy.KNOWN_CLASSES, classes=(DeviceClass.VEHICLE,)),
        RegisteredDevice(uid=QC01.uid),
        ADOPTED,
        Alias(scheme="jt808", foreign="123456789012", device=f"{SITE}/vehicle/T-07"),
    ]
    admission = admission_of(entries, Policy.CLOSED, 7)
    assert from_bytes(to_bytes(admission)) == admission
    assert admission.aliases == {"jt808:123456789012": f"{SITE}/vehicle/T-07"}


def test_a_start_without_the_store_holds_to_what_was_last_known(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quayflow.db"
    writer = open_registry(url, read_only=False)
    writer.put(Site(site=SITE, policy=Policy.CLOSED), actor="a", now_ns=1)
    follower = RegistryFollower(url, tmp_path, Policy.OPEN)
    known = follower.first()
    assert known.sites[SITE].policy is Policy.CLOSED
    assert follower.poll() is None
    writer.put(RegisteredDevice(uid=QC01.uid), actor="a", now_ns=2)
    changed = follower.poll()
    assert changed is not None
    assert changed.devices == {QC01.uid: True}
    follower.close()
    writer.close()
    away = RegistryFollower(f"sqlite:///{tmp_path}/no/such/folder/quayflow.db", tmp_path, Policy.OPEN)
    assert away.first() == changed
    away.close()
    nothing = RegistryFollower(f"sqlite:///{tmp_path}/no/such/folder/quayflow.db", tmp_path / "x", Policy.CLOSED)
    assert nothing.first() == Admission(default=Policy.CLOSED)
    nothing.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_running_ingest_follows_the_registry_without_a_restart(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    settings, url = {}, f"sqlite:///{tmp_path}/data/quayflow.db"
    if kind == "postgres":
        engine: Postgres = request.getfixturevalue("postgres")
        url = settings["records_url"] = engine.create("following")
    with running_mosquitto() as broker, IngestProcess(tmp_path / "data", broker.port, **settings) as ingest:
        ingest.start()
        registry, records = open_registry(url, read_only=False), open_records(url)

        def publish(seq: int) -> None:
            payload = json.dumps(values(seq, time.time_ns(), load_t=1.0)).encode()
            with Publisher(broker.port, iter([Outgoing(topic("quay-crane", "QC01"), payload, None)]), None) as sender:
                sender.finish()

        def frames(account: str) -> int:
            return sum(row.frames for row in records.ledger() if row.account == account)

        publish(0)
        wait_until(lambda: frames("windowed") == 1, "an open site admits it")
        registry.put(Site(site=SITE, policy=Policy.CLOSED), actor="cli:test", now_ns=1)
        wait_until(lambda: ingest.said("the registry has revision 1") == 1, "ingest reads the registry")
        publish(1)
        wait_until(lambda: frames("quarantined") == 1, "a closed site refuses it")
        registry.put(RegisteredDevice(uid=QC01.uid), actor="cli:test", now_ns=2)
        wait_until(lambda: ingest.said("the registry has revision 2") == 1, "ingest reads the registry")
        publish(2)
        wait_until(lambda: frames("windowed") == 2, "a registered device is admitted")
        assert ingest.terminate() == 0
        (refused,) = [row for row in registry.audit() if row.action == "refused"]
        assert refused.subject == topic("quay-crane", "QC01")
        assert "not_registered" in refused.detail
        registry.close()
        records.close()

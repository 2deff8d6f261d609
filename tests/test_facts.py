"""Facts: a whole number stays whole, a float a float and a state a state, from the wire to the answer."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import T0, frame, numbered, pipeline_of, topic, values
from made_instance import LONG, Instance
from made_port import MadePort, client_of, event, served
from made_records import commit
from test_api_live import following
from typer.testing import CliRunner

from api.app import create_app
from devices.client.command_desk import CommandDesk
from devices.client.config import ClientConfig
from devices.client.outbox import Outbox
from devices.codecs import native
from devices.commands import Command, CommandAnswer, decode_answer, decode_command, encode
from devices.rejects import Reason, RejectError
from devices.scalars import LEAST, MOST, Scalar, as_floats, bounded_facts
from devices.times import NS
from devices.vocabulary import DeviceClass
from ingest.checkpoint import WorkerBlob, freeze, thaw
from quayflow.hashing import StoreHash
from quayflow.main import app
from store.entries import decode as decode_entry
from store.entries import encode as encode_entry
from store.interface import EventRecord
from store.journal import Frame
from store.open import open_records

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WHOLE = st.integers(LEAST, MOST) | st.sampled_from([0, 1, 5, 2**53 + 1, 2**63, LEAST, MOST])
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([5.0, 0.0, 2.0**53, 1e22])
FACTS = st.dictionaries(TEXTS, WHOLE | FLOATS | st.booleans() | st.none() | TEXTS, max_size=6)
KINDS: dict[str, Scalar] = {
    "whole": 5,
    "float": 5.0,
    "part": 2.5,
    "state": True,
    "none": None,
    "text": "5",
    "exact": 2**53 + 1,
    "most": MOST,
    "least": LEAST,
}
IDS = ["618595c546dfef05c5cd1da0", "9216949a262c32f16e74d29f"]
"""Of two events, with and without a sequence, by the release that made floats of whole numbers."""
CRANE = topic("quay-crane", "QC01", "event")


def told(facts: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """The facts with their types, which Python does not look at when it compares."""
    return {name: (type(value).__name__, value) for name, value in facts.items()}


def happened(data: Mapping[str, Scalar], seq: int | None = 1, ts: int = T0) -> dict[str, Any]:
    counted = {} if seq is None else {"boot": 5, "seq": seq}
    return {"v": 1, "ts": ts, "type": "fault", "data": data, **counted}


def events_of(*frames: Frame) -> list[EventRecord]:
    pipeline = pipeline_of()
    pipeline.process(numbered(frames))
    return [each for each in pipeline.take_events() if each.type == "fault"]


# --- on the wire ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [True, False], ids=["msgpack", "json"])
@given(facts=FACTS)
def test_facts_keep_their_types_through_events_and_statuses(binary: bool, facts: dict[str, Scalar]) -> None:
    said = native.Event(v=1, type="fault", data=facts)
    assert told(native.decode_event(native.encode(said, binary=binary)).data) == told(facts)
    status = native.Status(v=1, online=True, info=facts)
    assert told(native.decode_status(native.encode(status, binary=binary)).info) == told(facts)


@given(facts=FACTS)
def test_facts_keep_their_types_through_commands_and_answers(facts: dict[str, Scalar]) -> None:
    assert told(decode_command(encode(Command(1, "c", "set", facts))).args) == told(facts)
    assert told(decode_answer(encode(CommandAnswer(1, "c", ok=True, data=facts))).data) == told(facts)


@given(facts=FACTS)
def test_a_device_hears_the_types_that_were_meant_and_its_own_come_back(facts: dict[str, Scalar]) -> None:
    heard: list[Command] = []

    def repeat(command: Command) -> Mapping[str, Scalar]:
        heard.append(command)
        return command.args

    with closing(CommandDesk(repeat)) as desk:
        answer = desk.handle(encode(Command(1, "c", "repeat", facts)))
    assert answer is not None
    assert told(heard[0].args) == told(decode_answer(answer).data) == told(facts)


@pytest.mark.parametrize("number", [MOST + 1, LEAST - 1, 10**30])
def test_a_whole_number_beyond_64_bits_becomes_the_nearest_float_in_events_and_statuses(number: int) -> None:
    payload = b'{"v":1,"type":"fault","data":{"n":%d,"m":5}}' % number
    assert told(native.decode_event(payload).data) == told({"n": float(number), "m": 5})
    status = b'{"v":1,"online":true,"info":{"n":%d}}' % number
    assert told(native.decode_status(status).info) == told({"n": float(number)})


@pytest.mark.parametrize("digits", [400, 4_000])
def test_a_whole_number_beyond_every_float_is_refused_by_its_name(digits: int) -> None:
    with pytest.raises(RejectError) as refused:
        native.decode_event(b'{"v":1,"type":"fault","data":{"m":5,"n/o":-%s}}' % (b"9" * digits))
    assert refused.value.reject[:2] == (Reason.NOT_FINITE, "/data/n~1o")


@given(facts=FACTS)
def test_what_64_bits_hold_is_not_touched(facts: dict[str, Scalar]) -> None:
    assert told(bounded_facts(facts)) == told(facts)


@pytest.mark.parametrize("number", [MOST + 1, LEAST - 1])
def test_a_device_does_not_send_a_number_that_would_arrive_as_another(number: int, tmp_path: Path) -> None:
    config = ClientConfig(site="CNNGB-DEMO", device_class=DeviceClass.QUAY_CRANE, device="QC01", folder=tmp_path)
    with closing(Outbox(config, lambda: T0, lambda: 0.0)) as outbox:
        with pytest.raises(ValueError, match="/data/n: a whole number beyond 64 bits"):
            outbox.event("fault", {"n": number}, None)
        assert outbox.event("fault", {"n": MOST}, None) == 0


# --- from the wire to the answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [True, False], ids=["msgpack", "json"])
@settings(max_examples=30, deadline=None)
@given(facts=FACTS)
def test_an_event_keeps_the_types_of_its_facts_up_to_the_outbox(binary: bool, facts: dict[str, Scalar]) -> None:
    events = events_of(frame(CRANE, happened(facts), binary=binary))
    assert [told(each.data) for each in events] == [told(facts)]
    [kept] = decode_entry(encode_entry(commit(events=events))).events
    assert told(kept.data) == told(facts)
    assert told(json.loads(msgspec.json.encode(kept.document()))["data"]) == told(facts)


def test_an_event_keeps_the_types_of_its_facts_up_to_answer_and_live_stream(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.take([frame(CRANE, happened(KINDS))])
    instance.settle(T0 + LONG)
    port = MadePort(tmp_path)
    with client_of(port) as client:
        text = client.get("/v1/events", params={"type": "fault"}).text
        assert '"whole":5,"float":5.0,"part":2.5,"state":true,"none":null,"text":"5"' in text
        assert '"exact":9007199254740993,"most":18446744073709551615,"least":-9223372036854775808' in text
    with served(create_app(port.config())) as url, following(url, "/v1/stream?after=0") as stream:
        message = stream.next_of("port-event")
        while message.data["type"] != "fault":
            message = stream.next_of("port-event")
        assert told(message.data["data"]) == told(KINDS)


def test_what_a_status_tells_keeps_its_types_through_a_restart() -> None:
    pipeline = pipeline_of()
    pipeline.process([frame(topic("quay-crane", "QC01", "status"), {"v": 1, "online": True, "info": KINDS})])
    state = freeze(pipeline, WorkerBlob(), pipeline.touched()).state
    later = pipeline_of(life=2)
    thaw(later, state)
    assert told(later.directory.devices[1].info) == told(pipeline.directory.devices[1].info) == told(KINDS)


def test_decode_prints_facts_as_they_were_sent() -> None:
    payload = b'{"v":1,"type":"fault","data":{"code":17,"load":17.0,"on":true}}'
    done = CliRunner().invoke(app, ["decode", "--codec", "native", "--topic", CRANE, "--hex", payload.hex()])
    assert (done.exit_code, '"code": 17, "load": 17.0, "on": true' in done.stdout) == (0, True), done.output


def test_samples_stay_floats_whatever_was_sent() -> None:
    pipelines = []
    for load in (5, 5.0):
        pipelines.append(pipeline_of())
        pipelines[-1].process([frame(topic("quay-crane", "QC01"), values(1, T0, load_t=load))])
    records = [next(iter(each.records_of(each.directory.devices[1:]))) for each in pipelines]
    assert told({"load": records[0].latest["load_t"][1]}) == told({"load": 5.0})
    assert records[0].latest == records[1].latest


# --- who is who -------------------------------------------------------------------------------------------------------


def test_an_event_has_the_id_that_earlier_releases_gave_it() -> None:
    counted, uncounted = frame(CRANE, happened({"code": 17})), frame(CRANE, happened({"code": 17}, seq=None))
    assert [each.id for each in events_of(counted, uncounted)] == IDS


def test_the_number_alone_tells_whether_a_command_is_the_same_and_devices_know_those_that_they_have_kept() -> None:
    assert Command(1, "c", "set_rate", {"hz": 5}).asked == b'["set_rate",{"hz":5.0}]'
    assert Command(1, "c", "set_rate", {"hz": 5.0}).asked == Command(1, "c", "set_rate", {"hz": 5}).asked
    assert Command(1, "c", "set_rate", {"hz": True}).asked != Command(1, "c", "set_rate", {"hz": 1}).asked
    near = [Command(1, "c", "set", {"n": 2**53 + n}).asked for n in range(5)]
    assert len(set(near)) == len(near)


@given(facts=FACTS)
def test_as_floats_are_the_same_numbers_and_states_stay_states(facts: dict[str, Scalar]) -> None:
    floats = as_floats(facts)
    assert floats == facts
    assert as_floats(floats) == floats
    assert {name for name, value in floats.items() if type(value) is not type(facts[name])} == {
        name for name, value in facts.items() if type(value) is int and LEAST <= value <= MOST and float(value) == value
    }


def hash_of_events(*events: EventRecord) -> str:
    result = StoreHash()
    result.add_events(events)
    return result.hexdigest()


def test_the_store_hash_is_that_of_earlier_releases_which_made_floats_of_what_devices_told() -> None:
    def fault(code: Scalar) -> EventRecord:
        return event(1, kind="fault", data={"code": code})

    assert hash_of_events(fault(5)) == hash_of_events(fault(5.0))
    assert len({hash_of_events(fault(code)) for code in (1, True, "1", 2, None)}) == 5
    # What detectors find has always had the types that it has.
    assert hash_of_events(event(1, data={"size_ft": 20})) != hash_of_events(event(1, data={"size_ft": 20.0}))


def test_an_earlier_release_s_events_are_not_changed_nor_made_twice_by_a_rebuild(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    sent = [
        frame(CRANE, happened({"code": nth, "on": True}, nth, T0 + nth * NS), recv_ts=T0 + nth * NS) for nth in range(5)
    ]
    instance.take(sent)
    instance.settle(T0 + LONG)
    before = instance.hash().hexdigest()
    with closing(open_records(instance.urls[1], read_only=False)) as records:
        as_before = [
            msgspec.structs.replace(each, data=as_floats(each.data))
            for each in records.events()
            if each.type == "fault"
        ]
        assert len(as_before) == len(sent)
        records.write(commit(worker=instance.worker, events=as_before))
    assert instance.hash().hexdigest() == before
    done = CliRunner().invoke(app, ["journal", "rebuild", "--data", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    account = json.loads(done.stdout)
    assert {name: account[name] for name in ("events_added", "events_changed", "events_removed")} == {
        "events_added": 0,
        "events_changed": 0,
        "events_removed": 0,
    }
    assert instance.hash().hexdigest() == before

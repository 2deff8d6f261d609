"""Law 5 for what is derived: late data has detectors run again, and the store ends as if all had come in order."""

import gc
import random
import weakref
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import T0, Shelf, frame, numbered, pipeline_of, read_of, seeds, topic, values
from test_pipeline import GATE, LONG_AFTER

from analytics.findings import PERIOD
from devices.times import NS
from devices.vocabulary import BY_NAME
from ingest.checkpoint import WorkerBlob, freeze, thaw, worker_of
from ingest.detection import DEVICES_AT_ONCE, RETRACTED
from ingest.pipeline import Pipeline
from ingest.rerunning import OfDevices, catch_up, run_again
from store.admission import admission_of
from store.interface import EventRecord
from store.journal import DUPLICATE, Frame
from store.registry_entries import Entry, Policy, RegisteredDevice, Site

FOUND = {"crane_move", "yard_move", "gate_passage"}
HOUR = PERIOD // NS


class Store:
    """A pipeline, the journal before it and the store behind it, with the commits, ends and passes of a worker."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.state: dict[str, bytes] = {}
        self.history: dict[str, dict[int, bytes]] = {}
        self.events: dict[str, EventRecord] = {}
        self.notices: list[EventRecord] = []
        self.journal: list[Frame] = []
        self.start()

    def start(self) -> None:
        self.blob = worker_of(self.state)
        self.blob.life += 1
        self.pipeline: Pipeline = pipeline_of(life=self.blob.life)
        thaw(self.pipeline, self.state)

    def take(self, frames: list[Frame]) -> None:
        self.journal += frames
        self.pipeline.process(frames)
        self.pipeline.tick(max(each.recv_ts for each in frames))

    def commit(self) -> None:
        self.blob.commits += 1
        touched = self.pipeline.touched()
        self.shelf.write(self.pipeline.take_rows(self.blob.commits))
        for id_ in self.pipeline.detection.take_retracted():
            self.events.pop(id_, None)
        for event in self.pipeline.take_events():
            if event.type == RETRACTED:
                self.notices.append(event)
            self.events[event.id] = event
        frozen = freeze(self.pipeline, self.blob, touched)
        self.state |= frozen.state
        for hour in frozen.history:
            self.history.setdefault(hour.uid, {})[hour.start_ns] = hour.blob

    def catch_up(self) -> None:
        catch_up(self.pipeline, self.journal, self.history)

    def found(self) -> tuple[dict[str, EventRecord], dict[Any, Any]]:
        """Let everything come to rest; return the events and the folded rows."""
        self.pipeline.tick(LONG_AFTER)
        self.catch_up()
        self.commit()
        assert self.pipeline.detection.late_for_detectors == 0
        events = {id_: event for id_, event in self.events.items() if event.type in FOUND}
        return events, self.shelf.folded(with_late=False)


def lift(crane: str, second: float, first: int, *, side: float = 32.0) -> list[Frame]:
    """The frames of one lift: lock at 10 s, unlock at 70 s."""
    steps: list[tuple[float, dict[str, Any]]] = [
        (0, {"spreader_locked": False, "load_t": 0.2, "trolley_position_m": side}),
        (10, {"spreader_locked": True, "load_t": 0.3, "trolley_position_m": side, "spreader_size_ft": 40}),
        (12, {"load_t": 24.6}),
        (40, {"load_t": 24.1, "trolley_position_m": 3}),
        (70, {"spreader_locked": False, "load_t": 0.4, "trolley_position_m": -side / 2}),
    ]
    return [
        frame(topic("quay-crane", crane), values(first + nth, T0 + round((second + step) * NS), **body))
        for nth, (step, body) in enumerate(steps)
    ]


def passing(tag: str, second: float, first: int) -> list[Frame]:
    """The frames of one passage."""
    return [frame(GATE, read_of(first + nth, T0 + round((second + nth) * NS), tag)) for nth in range(3)]


def shift() -> list[Frame]:
    """Four hours of two cranes and a lane, with lifts and passages over the ends of hours; in event-time order."""
    frames: list[Frame] = []
    for nth, second in enumerate([100, 400, HOUR - 40, HOUR + 300, 2 * HOUR - 65, 2 * HOUR + 900, 3 * HOUR + 30]):
        frames += lift("QC01", second, 10 * nth)
        frames += lift("QC02", second + 7.5, 10 * nth, side=-20)
    for nth, second in enumerate([50, 130, HOUR - 4, HOUR - 1, 2 * HOUR - 11, 3 * HOUR - 2, 3 * HOUR + 10]):
        frames += passing(f"E2{nth}", second, 10 * nth)
    return sorted(numbered(frames), key=event_time)


def event_time(each: Frame) -> int:
    found = each.payload.split(b'"ts":')[1].split(b",")[0].split(b"}")[0]
    return int(found)


def received(frames: list[Frame], times: list[int]) -> list[Frame]:
    """The frames as if received at given times, in that order."""
    stamped = [each._replace(recv_ts=at) for each, at in zip(frames, times, strict=True)]
    return sorted(stamped, key=lambda each: each.recv_ts)


def in_order(frames: list[Frame]) -> Store:
    store = Store()
    for each in received(frames, [event_time(each) + NS // 2 for each in frames]):
        store.take([each])
    return store


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, EventRecord], dict[Any, Any]]:
    return in_order(shift()).found()


def test_in_order_every_lift_and_passage_is_found(reference: tuple[dict[str, EventRecord], dict[Any, Any]]) -> None:
    events, rows = reference
    kinds = [event.type for event in events.values()]
    assert (kinds.count("crane_move"), kinds.count("gate_passage")) == (14, 7)
    moved = sum(row[1] for (tier, _, key), row in rows.items() if tier == 3600 and key.metric == "moves")
    assert moved == 14


@settings(max_examples=12)
@given(seeds, st.floats(0.05, 0.9), st.booleans())
def test_lateness_and_order_change_no_bit_of_events_and_figures(
    reference: tuple[dict[str, EventRecord], dict[Any, Any]], chance: random.Random, late: float, restarts: bool
) -> None:
    """Some frames come minutes or hours late, some twice; passes, commits and restarts happen at any time."""
    frames = shift()
    again = [*frames, *chance.choices(frames, k=20)]
    delays = [chance.randrange(4 * HOUR) if chance.random() < late else 1 for _ in again]
    store = Store()
    for each in received(again, [event_time(each) + delay * NS for each, delay in zip(again, delays, strict=True)]):
        store.take([each])
        if chance.random() < 0.1:
            store.catch_up()
        if chance.random() < 0.2:
            store.commit()
            if restarts and chance.random() < 0.3:
                store.start()
                store.pipeline.tick(each.recv_ts)
    assert store.found() == reference


def test_events_stand_while_late_data_changes_nothing() -> None:
    frames = shift()
    harmless = next(each for each in frames if b"24.1" in each.payload)
    store = in_order([each for each in frames if each != harmless])
    store.pipeline.tick(LONG_AFTER)
    store.commit()
    before = dict(store.events)
    store.take([harmless._replace(recv_ts=LONG_AFTER)])
    store.pipeline.tick(LONG_AFTER)
    assert store.pipeline.detection.waiting_to_run_again == 1
    # Its own samples join the windows at once.
    assert sorted(store.pipeline.take_rows(99).tier_s.tolist()) == [10, 10, 60, 60, 900, 900, 3600, 3600]
    store.catch_up()
    assert store.pipeline.detection.waiting_to_run_again == 0
    assert store.pipeline.take_events() == []
    assert len(store.pipeline.take_rows(100)) == 0
    assert store.events == before


def test_a_move_that_never_was_is_retracted_with_its_figures_and_the_true_one_comes() -> None:
    """A lift in two: in its middle the spreader was put down, which is told an hour later."""
    store = Store()
    told = lift("QC01", 100, 0)
    store.take([each._replace(recv_ts=T0 + 200 * NS) for each in told])
    store.pipeline.tick(T0 + 300 * NS)
    store.commit()
    (move,) = [event for event in store.events.values() if event.type == "crane_move"]
    put = values(20, T0 + 130 * NS, spreader_locked=False, trolley_position_m=32)
    taken = values(21, T0 + 140 * NS, spreader_locked=True, trolley_position_m=32)
    store.take([frame(topic("quay-crane", "QC01"), body, recv_ts=T0 + HOUR * NS) for body in (put, taken)])
    store.pipeline.tick(T0 + HOUR * NS)
    store.catch_up()
    store.commit()
    (notice,) = store.notices
    assert notice.data == {"id": move.id, "type": "crane_move"}
    assert (notice.ts_ns, notice.device) == (move.ts_ns, "QC01")
    assert move.id not in store.events
    true = [event for event in store.events.values() if event.type == "crane_move"]
    assert [(event.start_ns - T0) // NS for event in true] == [110, 140]
    assert [event.data["kind"] for event in true] == ["shift", "discharge"]


def test_a_window_that_loses_its_last_event_answers_nothing() -> None:
    store = Store()
    store.take([each._replace(recv_ts=T0 + 200 * NS) for each in lift("QC01", 100, 0)])
    store.pipeline.tick(T0 + 300 * NS)
    store.commit()
    moves = [place for place in store.shelf.folded() if place[2].metric == "moves"]
    assert len(moves) == 4
    # The spreader was put down and never taken up again: the unlock that was seen ends nothing.
    put = values(20, T0 + 165 * NS, spreader_locked=False, load_t=0, trolley_position_m=32)
    store.take([frame(topic("quay-crane", "QC01"), put, recv_ts=T0 + HOUR * NS)])
    store.pipeline.tick(T0 + HOUR * NS)
    store.catch_up()
    store.commit()
    assert [place for place in store.shelf.folded() if place[2].metric == "moves"] == []


def test_a_device_of_which_everything_is_late_is_found_from_its_first_message_on() -> None:
    """As after a retained status that is newer than all that is replayed behind it."""
    store = Store()
    status = {"v": 1, "boot": 5, "seq": 900, "ts": T0 + HOUR * NS, "online": True}
    store.take([frame(topic("quay-crane", "QC01", "status"), status, recv_ts=T0 + HOUR * NS)])
    store.pipeline.tick(T0 + HOUR * NS)
    store.take([each._replace(recv_ts=T0 + HOUR * NS) for each in lift("QC01", 100, 0)])
    store.pipeline.tick(T0 + HOUR * NS)
    assert store.pipeline.detection.waiting_to_run_again == 1
    events, _ = store.found()
    assert [event.type for event in events.values()] == ["crane_move"]


def test_what_is_dated_by_its_receipt_is_found_once_however_late_it_comes_again() -> None:
    """Without a time of its own a lift that the broker delivers again is not a second one, nor when all runs again."""

    def without_time(each: Frame, recv_ts: int, flags: int) -> Frame:
        body = msgspec.json.decode(each.payload)
        del body["ts"]
        return each._replace(payload=msgspec.json.encode(body), recv_ts=recv_ts, flags=flags)

    store, hour = Store(), HOUR * NS
    once, second, third = (lift("QC01", at, nth * 10) for nth, at in enumerate((100, HOUR + 60, 2 * HOUR)))
    store.take([without_time(each, event_time(each), 1) for each in once])
    store.take([each._replace(recv_ts=event_time(each) + 1) for each in second])
    store.take([without_time(each, event_time(each) + 4_200 * NS, 1 | DUPLICATE) for each in once])
    store.commit()
    store.take([each._replace(recv_ts=event_time(each) + 1) for each in third])
    store.pipeline.tick(T0 + 3 * hour)
    store.commit()
    before = {id_ for id_, event in store.events.items() if event.type in FOUND}
    assert len(before) == 3
    late = values(30, T0 + hour + 1_000 * NS, load_t=1)
    store.take([frame(topic("quay-crane", "QC01"), late, recv_ts=T0 + 3 * hour)])
    assert store.pipeline.detection.waiting_to_run_again == 1
    events, _ = store.found()
    assert set(events) == before
    assert store.pipeline.detection.runs_again > 0


def test_a_passage_that_silence_ends_in_the_next_hour_stays_when_that_hour_runs_again() -> None:
    """Nothing was heard when the hour began; when something was, one passage was over and another was not."""
    store = Store()
    for heard, frames in (
        (HOUR, [*passing("E19", HOUR - 8, 0), *passing("E20", HOUR - 3, 10)]),
        (HOUR + 95, passing("E21", HOUR + 90, 20)),
        (HOUR + 200, passing("E22", HOUR + 30, 30)),
    ):
        store.take([each._replace(recv_ts=T0 + heard * NS) for each in frames])
        # Silence moves the watermark to 8 s after the hour's beginning: E19 is over, E20 may go on.
        store.pipeline.tick(T0 + (heard + 11) * NS)
    assert store.pipeline.detection.waiting_to_run_again == 1
    events, _ = store.found()
    assert store.pipeline.detection.runs_again == 1
    assert sorted(str(event.data["tag"]) for event in events.values()) == ["E19", "E20", "E21", "E22"]


def test_only_devices_with_late_data_run_again() -> None:
    frames = shift()
    late = [each for each in frames if "/QC01/" in each.topic][7]
    store = in_order([each for each in frames if each != late])
    store.take([late._replace(recv_ts=LONG_AFTER)])
    store.pipeline.tick(LONG_AFTER)
    (plan,) = store.pipeline.detection.plan()
    assert plan.uid == "CNNGB-DEMO/quay-crane/QC01"
    assert plan.need.first == plan.need.last == event_time(late)
    topics = OfDevices([plan.uid], {"tic40:STS01": plan.uid, "tic40:STS02": "CNNGB-DEMO/quay-crane/QC02"})
    assert late.topic in topics
    assert topic("quay-crane", "STS01", "tic40") in topics
    assert topic("quay-crane", "STS02", "tic40") not in topics
    assert topic("quay-crane", "STS01", "impinj") not in topics
    assert topic("quay-crane", "QC02") not in topics
    assert "spBv1.0/group/NDATA/node" in topics
    # Meanwhile its detectors are held, and late data waits for the next pass.
    assert store.pipeline.detection.plan() == []
    store.pipeline.detection.give_up()
    assert [again.uid for again in store.pipeline.detection.plan()] == [plan.uid]


@pytest.mark.parametrize(
    "entry",
    [
        RegisteredDevice(uid="CNNGB-DEMO/quay-crane/QC01", enabled=False),
        Site(site="CNNGB-DEMO", policy=Policy.CLOSED),
    ],
)
def test_a_device_that_may_not_speak_any_more_keeps_what_was_found(entry: Entry) -> None:
    frames = shift()
    late = [each for each in frames if "/QC01/" in each.topic][7]
    store = in_order([each for each in frames if each != late])
    store.pipeline.tick(LONG_AFTER)
    store.commit()
    events = dict(store.events)
    assert events
    store.take([late._replace(recv_ts=LONG_AFTER)])
    store.pipeline.tick(LONG_AFTER)
    store.pipeline.admit(admission_of([entry]))
    store.catch_up()
    store.commit()
    detection = store.pipeline.detection
    assert (detection.late_for_detectors, detection.waiting_to_run_again, detection.runs_again) == (1, 0, 0)
    assert (store.events, store.notices) == (events, [])


def test_a_pass_takes_no_more_devices_than_it_can_hold() -> None:
    store = Store()
    cranes = [f"QC{nth:02}" for nth in range(DEVICES_AT_ONCE + 3)]
    for second in (5_000, 100):
        frames = [each for crane in cranes for each in lift(crane, second, second)]
        store.take([each._replace(recv_ts=T0 + 5_200 * NS) for each in frames])
        store.pipeline.tick(T0 + 5_300 * NS)
    assert len(store.pipeline.detection.plan()) == DEVICES_AT_ONCE
    assert store.pipeline.detection.waiting_to_run_again == len(cranes)
    store.pipeline.detection.give_up()
    events, _ = store.found()
    assert sum(event.type == "crane_move" for event in events.values()) == 2 * len(cranes)


@pytest.mark.parametrize("most", [30, 100])
def test_what_is_found_does_not_depend_on_how_many_inputs_a_pass_can_hold(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> Store:
        store = Store()
        for second in (3 * HOUR, 2 * HOUR, HOUR, 100):
            frames = [each for nth in range(5) for each in lift(f"QC{nth}", second, second + 10 * nth)]
            store.take([each._replace(recv_ts=T0 + 4 * HOUR * NS) for each in frames])
            store.pipeline.tick(T0 + 5 * HOUR * NS)
        return store

    reference, passes = late().found(), late()
    monkeypatch.setattr("ingest.rerunning.MOST_INPUTS", most)
    assert passes.found() == reference
    assert passes.pipeline.detection.late_for_detectors == 0
    assert sum(event.type == "crane_move" for event in reference[0].values()) == 20


def test_what_was_too_much_is_let_go_before_less_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = weakref.WeakSet[Pipeline]()
    most = 0

    def made(*arguments: Any) -> Pipeline:
        nonlocal most
        gc.collect()
        most = max(most, len(alive))
        pipeline = Pipeline(*arguments)
        alive.add(pipeline)
        return pipeline

    store = Store()
    for second in (5_000, 100):
        frames = [each for nth in range(8) for each in lift(f"QC{nth}", second, second)]
        store.take([each._replace(recv_ts=T0 + 5_200 * NS) for each in frames])
        store.pipeline.tick(T0 + 5_300 * NS)
    monkeypatch.setattr("ingest.rerunning.MOST_INPUTS", 30)
    monkeypatch.setattr("ingest.rerunning.Pipeline", made)
    store.catch_up()
    assert store.pipeline.detection.runs_again == 8
    assert most == 0


def test_a_device_that_says_more_in_an_hour_than_a_pass_can_hold_does_not_run_again_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    for second in (5_000, 100):
        store.take([each._replace(recv_ts=T0 + 5_200 * NS) for each in lift("QC01", second, second)])
        store.pipeline.tick(T0 + 5_300 * NS)
    monkeypatch.setattr("ingest.rerunning.MOST_INPUTS", 5)
    store.catch_up()
    detection = store.pipeline.detection
    assert (detection.late_for_detectors, detection.waiting_to_run_again, detection.runs_again) == (13, 0, 0)


def test_what_the_journal_does_not_hold_any_more_is_counted() -> None:
    store = Store()
    for second in (5_000, 100):
        store.take([each._replace(recv_ts=T0 + 5_200 * NS) for each in lift("QC01", second, second)])
        store.pipeline.tick(T0 + 5_300 * NS)
    plans = store.pipeline.detection.plan()
    (outcome,) = run_again(plans, {}, lambda _: store.journal, lambda: T0 + 4_901 * NS, store.pipeline.config, {})
    assert not outcome.possible
    store.pipeline.detection.splice(outcome, "1")
    detection = store.pipeline.detection
    assert (detection.late_for_detectors, detection.waiting_to_run_again, detection.runs_again) == (13, 0, 0)


def test_a_checkpoint_of_before_there_were_hours_goes_on_and_runs_again_from_there() -> None:
    """Its blobs end where the old form ended; its state is the detectors' as of its watermark."""
    store = Store()
    store.take([each._replace(recv_ts=T0 + 200 * NS) for each in [*lift("QC01", 20, 0), *passing("E2", 190, 0)]])
    store.pipeline.tick(T0 + 203 * NS)
    store.commit()
    device, worker = "device:CNNGB-DEMO/quay-crane/QC01", "worker"
    old = {name: as_before(blob, 15) for name, blob in store.state.items() if name.startswith("device:")}
    store.state = old | {worker: as_before(store.state[worker], 12)}
    assert device in store.state
    store.history.clear()
    store.start()
    later = lift("QC01", 400, 10)
    store.take([each._replace(recv_ts=T0 + 600 * NS) for each in [later[0], *later[2:]]])
    store.pipeline.tick(T0 + 700 * NS)
    # The lock comes late, but after what the old checkpoint contained; an early sample cannot be told any more.
    store.take([later[1]._replace(recv_ts=T0 + 700 * NS)])
    store.pipeline.tick(T0 + 700 * NS)
    store.catch_up()
    store.commit()
    moves = sorted(event.ts_ns for event in store.events.values() if event.type == "crane_move")
    assert [(ts - T0) // NS for ts in moves] == [90, 470]
    assert sum(event.type == "gate_passage" for event in store.events.values()) == 1
    store.take([frame(topic("quay-crane", "QC01"), values(50, T0 + 5 * NS, load_t=1), recv_ts=T0 + 700 * NS)])
    store.pipeline.tick(T0 + 700 * NS)
    store.catch_up()
    assert store.pipeline.detection.late_for_detectors == 1


def as_before(blob: bytes, fields: int) -> bytes:
    """A blob with the first so many of its fields."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(blob)[:fields])


def test_retractions_are_no_samples() -> None:
    assert RETRACTED not in BY_NAME
    assert worker_of({}) == WorkerBlob()


def test_an_hour_is_kept_open_until_its_figures_are_rows() -> None:
    store = Store()
    store.take([each._replace(recv_ts=T0 + 2 * HOUR * NS) for each in [*lift("QC01", 100, 0), *lift("QC01", 6_000, 9)]])
    store.pipeline.tick(T0 + 3 * HOUR * NS)
    assert freeze(store.pipeline, store.blob, []).history == []
    assert len(store.pipeline.take_rows(1)) > 0
    (hour,) = freeze(store.pipeline, store.blob, []).history
    assert (hour.uid, hour.start_ns) == ("CNNGB-DEMO/quay-crane/QC01", T0)

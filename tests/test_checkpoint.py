"""A worker that stops and goes on from its checkpoint is the worker that never stopped."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_frames import (
    T0,
    Shelf,
    accounts,
    any_frames,
    assert_every_frame_is_booked,
    frame,
    numbered,
    pipeline_of,
    seeds,
    topic,
    values,
)
from test_pipeline import GATE, LONG_AFTER, port_day

from devices.times import NS
from ingest.checkpoint import DEVICE, WORKER, PendingBlob, WorkerBlob, freeze, thaw, worker_of
from ingest.directory import NOBODY
from ingest.packed_ints import PackedInts
from ingest.pipeline import Pipeline, PipelineConfig
from store.interface import EventRecord, QuarantineRecord
from store.journal import Frame

Step = Sequence[Frame] | int
"""Frames to process, or a time to let pass."""


class Worker:
    """A pipeline and the store behind it, with the order of a real worker: steps, commits, and now and then an end."""

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.shelf = Shelf()
        self.state: dict[str, bytes] = {}
        self.history: dict[str, dict[int, bytes]] = {}
        self.events: dict[str, EventRecord] = {}
        self.quarantine: dict[str, QuarantineRecord] = {}
        self.start()

    def start(self) -> None:
        self.blob = worker_of(self.state)
        self.blob.life += 1
        self.pipeline: Pipeline = pipeline_of(life=self.blob.life, **self.config)
        thaw(self.pipeline, self.state)

    def take(self, step: Step) -> None:
        if isinstance(step, int):
            self.pipeline.tick(step)
        else:
            self.pipeline.process(step)

    def commit(self, *, last: bool = False) -> None:
        self.blob.commits += 1
        touched = self.pipeline.touched()
        self.shelf.write(self.pipeline.take_rows(self.blob.commits))
        self.events |= {event.id: event for event in self.pipeline.take_events()}
        self.quarantine |= {record.id: record for record in self.pipeline.take_quarantine()}
        frozen = freeze(self.pipeline, self.blob, touched, last=last)
        self.state |= frozen.state
        for hour in frozen.history:
            self.history.setdefault(hour.uid, {})[hour.start_ns] = hour.blob

    def findings(self) -> dict[str, Any]:
        """Everything that anybody can see of the worker, by name."""
        pipeline = self.pipeline
        devices = sorted(pipeline.directory.devices[1:], key=lambda device: device.uid)
        return {
            "rows": self.shelf.folded(),
            "events": self.events,
            "quarantine": self.quarantine,
            "accounts": accounts(pipeline),
            "devices": list(pipeline.records_of(devices)),
            "seen": [device.tracker.state() for device in devices],
            "counts": (pipeline.samples, pipeline.detection.late_for_detectors, pipeline.quarantine_dropped),
            "received": pipeline.ledger.received,
        }


def run(steps: list[Step], commits: set[int], ends: set[int], redone: int = 0) -> Worker:
    """Take the steps and commit after some; at ``ends`` go on from the commit, losing ``redone`` steps beyond it.

    Where none are lost it is an end in order.
    """
    worker = Worker()
    for nth, step in enumerate(steps):
        worker.take(step)
        if nth in commits:
            worker.commit(last=nth in ends and not redone)
        if nth in commits & ends:
            for lost in steps[nth + 1 : nth + 1 + redone]:
                worker.take(lost)
            worker.start()
    worker.take(LONG_AFTER)
    worker.commit()
    return worker


def steps_of(frames: list[Frame], chance: random.Random) -> list[Step]:
    """The frames in batches of some size, with time passing between some of them; clocks of receipt only go on."""
    steps: list[Step] = []
    at = 0
    while at < len(frames):
        size = chance.randrange(1, max(2, len(frames) // 8))
        batch, following = frames[at : at + size], frames[at + size : at + size + 1]
        steps.append(batch)
        if following and chance.random() < 0.5:
            steps.append(chance.randrange(batch[-1].recv_ts, following[0].recv_ts + 1))
        at += size
    return steps


def received_over_time(frames: list[Frame], chance: random.Random) -> list[Frame]:
    """The frames as if received one after another, sometimes after a silence in which devices go idle."""
    clock, result = T0, []
    for each in frames:
        clock += chance.choice([0, 0, 1, 1, 1, 15]) * NS
        result.append(each._replace(recv_ts=clock))
    return result


def assert_same(one: Worker, other: Worker) -> None:
    found = other.findings()
    for name, value in one.findings().items():
        assert found[name] == value, name


@settings(max_examples=150)
@given(any_frames, seeds, st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_going_on_from_a_checkpoint_is_never_having_stopped(
    frames: list[Frame], chance: random.Random, commits: set[int], ends: set[int]
) -> None:
    steps = steps_of(received_over_time(frames, chance), chance)
    never, often = run(steps, commits, set()), run(steps, commits, ends, redone=chance.randrange(5))
    assert_same(never, often)
    assert_every_frame_is_booked(often.pipeline, len(frames))


@settings(max_examples=15)
@given(seeds)
def test_moves_and_passages_survive_an_end_in_the_middle_of_them(chance: random.Random) -> None:
    steps = steps_of(port_day(chance), chance)
    commits = {nth for nth in range(len(steps)) if chance.random() < 0.7}
    never, often = run(steps, commits, set()), run(steps, commits, commits, redone=3)
    assert_same(never, often)
    assert sum(event.type == "crane_move" for event in often.events.values()) == 8
    assert often.blob.life == len(commits) + 1


def crane(second: int, **body: float) -> Frame:
    message = {**values(second, T0 + second * NS), "m": body}
    return frame(topic("quay-crane", "QC01"), message, recv_ts=T0 + second * NS)


def test_what_only_time_released_survives_too() -> None:
    """Silence releases the last samples of a crane to the detector, without any frame of it."""
    lock = [crane(0, spreader_locked=0, load_t=0, trolley_position_m=30), crane(1, spreader_locked=1, load_t=20)]
    unlock = [crane(90, spreader_locked=0, trolley_position_m=-10), crane(91, load_t=0)]
    worker = Worker()
    worker.take(lock)
    worker.commit()
    worker.take(T0 + 60 * NS)
    worker.commit()
    worker.start()
    worker.take(unlock)
    worker.take(LONG_AFTER)
    worker.commit()
    (move,) = [event for event in worker.events.values() if event.type == "crane_move"]
    assert move.data["kind"] == "discharge"
    assert move.data["load_t"] == 20


def test_the_watermark_of_a_silent_device_does_not_go_back_at_a_restart() -> None:
    worker = Worker()
    worker.take([frame(topic("vehicle", "T1"), values(0, T0, x_m=1))])
    worker.commit()
    worker.take(T0 + 60 * NS)
    mark = int(worker.pipeline.watermarks.mark[1])
    assert mark > T0
    assert not worker.pipeline.directory.devices[1].touched
    worker.commit()
    worker.start()
    assert worker.pipeline.watermarks.mark[1] == mark


def test_only_devices_that_changed_are_written() -> None:
    worker = Worker()
    worker.take([crane(0, load_t=1), frame(topic("vehicle", "T1"), values(0, T0, x_m=1))])
    assert {device.uid for device in worker.pipeline.directory.devices if device.touched} == {
        "CNNGB-DEMO/quay-crane/QC01",
        "CNNGB-DEMO/vehicle/T1",
    }
    worker.commit()
    worker.take([frame(topic("vehicle", "T1"), values(1, T0, x_m=1)), frame("nowhere", b"")])
    touched = worker.pipeline.touched()
    assert set(freeze(worker.pipeline, WorkerBlob(), touched).state) == {
        WORKER,
        DEVICE,
        DEVICE + "CNNGB-DEMO/vehicle/T1",
    }
    worker.start()
    assert worker.pipeline.touched() == []


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300) | st.integers(T0, T0 + 5 * NS), max_size=20))
def test_packed_integers_are_the_same_again(numbers: list[int]) -> None:
    packed = PackedInts.of(np.array(numbers, np.int64))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(packed), type=PackedInts)
    assert again.ints().tolist() == numbers
    assert len(packed.data) == packed.width * len(numbers)


def test_integers_close_to_each_other_take_a_byte_each_however_great_they_are() -> None:
    assert PackedInts.of(np.array([T0 + 255, T0])) == PackedInts(T0, 1, b"\xff\x00")
    assert PackedInts.of(np.array([-1, 255])) == PackedInts(-1, 2, b"\x00\x00\x00\x01")


def test_what_detectors_wait_for_is_packed_until_an_end_in_order_which_an_older_release_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker()
    worker.take([crane(second, load_t=second, trolley_position_m=-second) for second in range(9)])
    waiting = sorted_inputs(worker)
    assert len(waiting) > 3

    def pending(*, last: bool) -> PendingBlob:
        worker.commit(last=last)
        found = worker_of(worker.state).pending
        assert found is not None
        return found

    packed = pending(last=False)
    assert {type(column) for column in columns_of(packed)} == {PackedInts}
    worker.start()
    assert sorted_inputs(worker) == waiting
    with monkeypatch.context() as patched:
        patched.setattr("ingest.checkpoint.MOST_PLAIN", len(waiting) - 1)
        assert pending(last=True) == packed
    plain = pending(last=True)
    assert [len(column) for column in columns_of(plain) if isinstance(column, bytes)] == [8 * len(waiting)] * 5
    worker.start()
    assert sorted_inputs(worker) == waiting


def columns_of(pending: PendingBlob) -> list[PackedInts | bytes]:
    return [pending.device, pending.metric, pending.ts, pending.seq, pending.value]


def sorted_inputs(worker: Worker) -> list[tuple[int, ...]]:
    found = worker.pipeline.detection.waiting.all()
    arrays = (found.device, found.metric, found.ts, found.seq, found.value)
    return sorted(zip(*(array.tolist() for array in arrays), strict=True))


def test_a_first_start_has_nothing_to_go_on_from() -> None:
    assert worker_of({}) == WorkerBlob()
    pipeline = pipeline_of()
    thaw(pipeline, {})
    assert len(pipeline.directory.devices) == NOBODY + 1
    assert pipeline.ledger.received == 0


def test_a_lower_cap_does_not_keep_a_worker_from_starting() -> None:
    worker = Worker()
    worker.take(numbered(frame(topic("vehicle", f"T{nth}"), values(0, T0, x_m=1, y_m=2)) for nth in range(9)))
    worker.take([crane(0, load_t=1)])
    worker.commit()
    worker.config = {"max_devices": 3, "max_series": 2}
    worker.start()
    assert len(worker.pipeline.directory.devices) == 11
    worker.take(
        [frame(topic("vehicle", "T5"), values(1, T0, x_m=3)), frame(topic("vehicle", "T9"), values(0, T0, x_m=3))]
    )
    assert [record.reason for record in worker.pipeline.take_quarantine()] == ["cardinality"]
    assert_every_frame_is_booked(worker.pipeline, 12)


def test_strange_but_valid_state_rests_in_a_checkpoint() -> None:
    bodies = [
        values(2**63 - 1, T0, boot=2**64 - 1, rssi_dbm=-60.0),
        {
            "v": 1,
            "type": "tag_read",
            "data": {"tag": "\ud7ff\U0010ffff", "antenna": 64, "rssi_dbm": -150, "direction": "out"},
        },
    ]
    worker = Worker()
    worker.take(
        [frame(topic("rfid-gate", "G1"), bodies[0]), frame(GATE, bodies[1]), frame(GATE, bodies[1], recv_ts=T0 + NS)]
    )
    info = {"text": "\x00宁波", "none": None, "yes": True, "most": 1.7e308}
    worker.take([frame(topic("rfid-gate", "G1", "status"), {"v": 1, "online": True, "info": info})])
    worker.commit()
    before = worker.findings()
    worker.start()
    assert worker.findings() == before
    worker.take(T0 + 3_600 * NS)
    worker.commit()
    assert [event.type for event in worker.events.values()].count("gate_passage") == 1


@pytest.mark.parametrize("config", [PipelineConfig(), PipelineConfig(max_devices=1)])
def test_a_checkpoint_of_nothing_is_small(config: PipelineConfig) -> None:
    blobs = freeze(Pipeline("w", 1, config), WorkerBlob(), []).state
    assert set(blobs) == {WORKER}
    assert len(blobs[WORKER]) < 100

"""A checkpoint of a disk that fails: what cannot be read is said in words, and no other error comes of it."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from made_frames import everything, pipeline_of
from test_pipeline import LONG_AFTER
from test_running_again import Store, event_time, in_order, received, shift

from devices.times import NS
from ingest.checkpoint import CheckpointError, thaw, worker_of
from ingest.kept_hours import decode_history
from store.interface import StoreUnreachableError

UID = "CNNGB-DEMO/quay-crane/QC01"


def committed() -> Store:
    store = in_order(shift())
    store.commit()
    return store


def cut(blob: bytes, chance: random.Random) -> bytes:
    return blob[: chance.randrange(len(blob))]


def flipped(blob: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(blob))
    return blob[:at] + bytes([blob[at] ^ 1 << chance.randrange(8)]) + blob[at + 1 :]


def zeroed(blob: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(blob))
    return blob[:at] + bytes(min(64, len(blob) - at)) + blob[at + 64 :]


@pytest.mark.parametrize("damage", [cut, flipped, zeroed])
def test_whatever_has_become_of_a_checkpoint_it_is_read_or_said_to_be_damaged(
    damage: Callable[[bytes, random.Random], bytes],
) -> None:
    state, chance = committed().state, random.Random(3)
    refused: list[CheckpointError] = []
    for name in state:
        for _ in range(40):
            broken = state | {name: damage(state[name], chance)}
            try:
                worker_of(broken)
                thaw(pipeline_of(life=2), broken)
            except CheckpointError as error:
                refused.append(error)
    assert refused
    assert all("the checkpoint cannot be read" in str(error) for error in refused)
    assert issubclass(CheckpointError, StoreUnreachableError)


@pytest.fixture
def lacking() -> tuple[Store, Any]:
    """A store that lacks one frame of QC01 until hours later, and the frame; the hour of it is over and kept."""
    frames = shift()
    late = next(each for each in frames if b'"seq":51' in each.payload and "QC01" in each.topic)
    store = in_order([each for each in frames if each != late])
    store.pipeline.tick(LONG_AFTER)
    store.commit()
    return store, late


def test_a_damaged_hour_of_findings_does_not_end_ingest_and_is_counted(lacking: tuple[Store, Any]) -> None:
    store, late = lacking
    start = max(each for each in store.history[UID] if each <= event_time(late))
    store.history[UID][start] = b"\0" + store.history[UID][start][1:]
    assert start not in decode_history(store.history[UID], UID)
    before = dict(store.events)
    store.take(received([late], [LONG_AFTER + NS]))
    store.pipeline.tick(LONG_AFTER + NS)
    assert store.pipeline.detection.waiting_to_run_again == 1
    store.catch_up()
    store.commit()
    # What was found there is not known any more, so nothing of it may be replaced: it stands, and is counted.
    assert store.pipeline.detection.late_for_detectors > 0
    assert store.events == before


def test_a_damaged_hour_that_is_not_concerned_holds_nothing_up(lacking: tuple[Store, Any]) -> None:
    store, late = lacking
    start = min(store.history[UID])
    assert start < event_time(late) - 3600 * NS
    store.history[UID][start] = b"nonsense"
    store.take(received([late], [LONG_AFTER + NS]))
    store.catch_up()
    found, _ = store.found()
    assert found == in_order(shift()).found()[0]


def test_an_undamaged_checkpoint_is_read_as_it_was() -> None:
    store = committed()
    again = pipeline_of(life=store.blob.life)
    thaw(again, store.state)
    assert everything(again).keys() == everything(store.pipeline).keys()

"""A recorded frame is the same to whoever reads it: to a replay and to a check."""

import json
from typing import Any

import pytest

from devices.vocabulary import DeviceClass
from quayflow.captures import Holding, read_file
from simulators.tracks import BadRows, RecordingFile, read_messages

AT = 1_763_856_000_000_000_000
"""2025-11-23T00:00:00Z."""
TOPIC = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"

Told = tuple[int, str, bytes]


def replayed(content: bytes) -> Told | None:
    """Return time, topic and payload as a replay reads a frame, None where it refuses it."""
    bad = BadRows()
    found = read_messages(RecordingFile("made.jsonl", content), bad)
    assert len(found) + bad.count == 1
    if not found:
        return None
    ts, topic, payload = found[0]
    return ts, topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def checked(content: bytes) -> Told | None:
    """Return the same as a check reads it."""
    try:
        [found] = read_file(content, Holding(DeviceClass.QUAY_CRANE, "CNNGB-DEMO"))
    except ValueError:
        return None
    return found.recv_ts, found.topic, found.payload


@pytest.mark.parametrize(
    ("said", "at", "payload"),
    [
        ({}, AT, b'{"v": 1}'),
        ({"payload": "e30="}, AT, b"{}"),
        ({"payload": [1, 2]}, AT, b"[1, 2]"),
        ({"ts": "2025-11-23T00:00:00Z"}, AT, b'{"v": 1}'),
        ({"ts": "2025-11-23T08:00:00+08:00"}, AT, b'{"v": 1}'),
        ({"ts": "2025-11-23T00:00:00"}, AT, b'{"v": 1}'),
        ({"ts": True}, None, b""),
        ({"ts": 1.5}, None, b""),
        ({"ts": "yesterday"}, None, b""),
        ({"payload": "no base64!"}, None, b""),
        ({"payload": 7}, None, b""),
        ({"payload": None}, None, b""),
    ],
    ids=str,
)
def test_a_frame_is_the_same_to_a_replay_and_to_a_check(said: dict[str, Any], at: int | None, payload: bytes) -> None:
    content = json.dumps({"topic": TOPIC, "payload": {"v": 1}, "ts": AT} | said).encode()
    assert replayed(content) == checked(content) == (None if at is None else (at, TOPIC, payload))

"""The native wire read and written by a second msgpack and a second JSON library: what devices will use, not we."""

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs import native
from devices.codecs.native import Event, Status, Telemetry

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=64)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
COUNTERS = {
    "boot": st.integers(0, 2**63 - 1),
    "seq": st.integers(0, 2**63 - 1),
    "ts": st.integers(0, 2**62) | st.just("2026-11-23T08:15:30.25Z"),
}
TELEMETRY = st.fixed_dictionaries(
    {"v": st.just(1), "m": st.dictionaries(NAMES, NUMBERS, max_size=8)}, optional=COUNTERS
)
EVENT = st.fixed_dictionaries(
    {"v": st.just(1), "type": NAMES, "data": st.dictionaries(NAMES, SCALARS, min_size=1, max_size=8)}, optional=COUNTERS
)
STATUS = st.fixed_dictionaries(
    {"v": st.just(1), "online": st.booleans(), "info": st.dictionaries(NAMES, SCALARS, min_size=1, max_size=8)},
    optional=COUNTERS,
)


def packed(payload: dict[str, Any]) -> bytes:
    found: bytes = msgpack.packb(payload)
    return found


def texted(payload: dict[str, Any]) -> bytes:
    return json.dumps(payload).encode()


@pytest.mark.parametrize("write", [packed, texted])
@given(payload=TELEMETRY)
def test_telemetry_of_another_library_is_read_as_it_was_meant(write: Any, payload: dict[str, Any]) -> None:
    found = native.decode_telemetry(write(payload))
    assert (found.m, found.boot, found.seq, found.ts) == (
        payload["m"], payload.get("boot"), payload.get("seq"), payload.get("ts"),
    )  # fmt: skip


@pytest.mark.parametrize("write", [packed, texted])
@given(event=EVENT, status=STATUS)
def test_events_and_statuses_of_another_library_are_read_as_they_were_meant(
    write: Any, event: dict[str, Any], status: dict[str, Any]
) -> None:
    found = native.decode_event(write(event))
    assert (found.type, found.data) == (event["type"], event["data"])
    other = native.decode_status(write(status))
    assert (other.online, other.info) == (status["online"], status["info"])


@given(telemetry=TELEMETRY, event=EVENT, status=STATUS)
def test_what_we_write_is_read_by_another_library(
    telemetry: dict[str, Any], event: dict[str, Any], status: dict[str, Any]
) -> None:
    for plain, kind in ((telemetry, Telemetry), (event, Event), (status, Status)):
        ours = kind(**plain)
        assert msgpack.unpackb(native.encode(ours)) == plain
        assert json.loads(native.encode(ours, binary=False)) == plain

"""Frames that are taken together come to what they come to one by one."""

import random
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from made_frames import SITE, T0, accounts, everything, frame, numbered, pipeline_of, topic, values

from devices.codecs import native
from devices.codecs.native_layouts import Layout, layout_of
from devices.times import NS
from ingest.decoding import Decoder
from ingest.directory import Directory
from ingest.foreign import Foreign
from ingest.unforeseen import FAILED
from store.journal import Frame

TELEMETRY: dict[str, Any] = {"v": 1, "boot": 7, "seq": 4, "ts": T0, "m": {"load_t": 2.5, "wind_speed_mps": 3.5}}
PAYLOAD = msgspec.msgpack.encode(TELEMETRY)


BLOCK: dict[str, Any] = {
    "v": 1,
    "t0": T0,
    "dt": NS // 10,
    "names": ["load_t", "sway_m"],
    "f32": np.arange(6, dtype="<f4").tobytes(),
    "boot": 7,
    "seq": 4,
}


def same_telemetry(payload: bytes, boot: int, seq: int, ts: int, m: dict[str, float]) -> bool:
    found = native.decode_telemetry(payload)
    as_they_are = np.array([found.boot, found.seq, found.ts], np.uint64).astype(np.int64).tolist()
    return (
        as_they_are == [boot, seq, ts]
        and list(found.m) == list(m)
        and repr(list(found.m.values())) == repr(list(m.values()))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seq": 200, "boot": 2**64 - 1},
        {"seq": 70_000, "boot": 2**40},
        {"m": {"load_t": 1.5, "spreader_locked": True}},
    ],
)
def test_a_payload_with_any_byte_changed_fits_only_if_it_says_the_same_one_by_one(changes: dict[str, Any]) -> None:
    payload = msgspec.msgpack.encode(TELEMETRY | changes)
    layout = layout_of(payload)
    assert layout is not None
    every = [payload[:at] + bytes([byte]) + payload[at + 1 :] for at in range(len(payload)) for byte in range(256)]
    fits, read = layout.fits(b"".join(every)), layout.read(b"".join(every))
    assert fits.sum() > 8 * 256
    for nth in np.flatnonzero(fits).tolist():
        m = dict(zip(layout.names, read.values[nth].tolist(), strict=True))
        m = {name: bool(value) if name == "spreader_locked" else value for name, value in m.items()}
        # A sequence that needs 64 bits unsigned is refused one by one; here it is below 0, which ingest lets go.
        if read.seq[nth] >= 0:
            assert same_telemetry(every[nth], int(read.boot[nth]), int(read.seq[nth]), int(read.ts[nth]), m)


def test_a_block_with_any_byte_changed_fits_only_if_it_says_the_same_one_by_one() -> None:
    payload = msgspec.msgpack.encode(BLOCK)
    layout = layout_of(payload)
    assert layout is not None
    assert (layout.names, layout.rows, layout.dt) == (("load_t", "sway_m"), 3, NS // 10)
    every = [payload[:at] + bytes([byte]) + payload[at + 1 :] for at in range(len(payload)) for byte in range(256)]
    fits, read = layout.fits(b"".join(every)), layout.read(b"".join(every))
    assert fits.sum() > (24 + 8) * 256
    values = read.values.reshape(len(every), -1).astype("<f4")
    for nth in np.flatnonzero(fits).tolist():
        found = native.decode_block(every[nth])
        assert (found.boot, found.seq, found.names, found.dt) == (
            read.boot[nth],
            read.seq[nth],
            layout.names,
            layout.dt,
        )
        assert (np.array(found.t0, np.uint64).astype(np.int64), found.f32) == (read.ts[nth], values[nth].tobytes())


@pytest.mark.parametrize(
    "changes",
    [
        {"f32": b""},
        {"f32": bytes(12)},
        {"f32": "text"},
        {"names": []},
        {"names": ["load_t", "load_t"]},
        {"names": ["x" * 200] * 40},
        {"dt": 0},
        {"dt": 1.5},
        {"m": {}},
        {"ts": T0},
        {"site": SITE},
    ],
)
def test_what_is_no_block_with_numbers_alone_has_no_layout(changes: dict[str, Any]) -> None:
    assert layout_of(msgspec.msgpack.encode(BLOCK | changes)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        msgspec.json.encode(TELEMETRY),
        PAYLOAD[:-1],
        PAYLOAD + b"\x00",
        msgspec.msgpack.encode(TELEMETRY | {"v": 2}),
        msgspec.msgpack.encode(TELEMETRY | {"m": {}}),
        msgspec.msgpack.encode(TELEMETRY | {"m": {"load_t": 5}}),
        msgspec.msgpack.encode(TELEMETRY | {"m": {"load_t": "5"}}),
        msgspec.msgpack.encode(TELEMETRY | {"ts": "2026-11-23T08:00:00Z"}),
        msgspec.msgpack.encode(TELEMETRY | {"site": SITE}),
        msgspec.msgpack.encode({name: value for name, value in TELEMETRY.items() if name != "seq"}),
        msgspec.msgpack.encode(TELEMETRY | {"seq": -1}),
        PAYLOAD.replace(b"wind_speed_mps", b"load_t" + b"\xcb" + bytes(7)),
        PAYLOAD.replace(b"load_t", b"load_\xff"),
    ],
)
def test_what_is_not_telemetry_with_numbers_alone_has_no_layout(payload: bytes) -> None:
    assert layout_of(payload) is None


def test_a_name_that_is_there_twice_has_no_layout() -> None:
    one, two = (msgspec.msgpack.encode(TELEMETRY | {"m": {name: 1.5, "load_t": 2.5}}) for name in ("load_x", "load_t"))
    twice = one.replace(b"load_x", b"load_t")
    assert len(twice) > len(two)
    assert layout_of(one) is not None
    assert layout_of(twice) is None


def message(chance: random.Random, device: int, seq: int, ts: int) -> tuple[Any, bool]:
    """A body, mostly as the device always has it, and whether it goes in binary."""
    m: dict[str, Any] = {"load_t": chance.uniform(0, 40), "wind_speed_mps": chance.uniform(0, 20)}
    if device % 3 == 1:
        m = {"hoist_height_m": np.float32(chance.uniform(0, 30)).item(), "spreader_locked": chance.random() < 0.5}
    body: dict[str, Any] = values(seq, ts, **m)
    odd = chance.random()
    if odd < 0.01:
        body["m"]["load_t"] = chance.choice([float("nan"), 1e9, 7, True])
    elif odd < 0.015:
        body["m"] = chance.choice(
            [{}, {"nonsense": 1.0}, {"load_t": 1.0, "nonsense": 2.0}, {"trolley_position_m": 1.0}]
        )
    elif odd < 0.02:
        body["ts"] = chance.choice([5, T0 + 10**15, 2**64 - 1, "2026-11-23T08:00:00Z", None])
    elif odd < 0.025:
        body["boot"] = chance.choice([6, 2**64 - 1])
    elif odd < 0.03:
        body |= chance.choice([{"site": SITE}, {"device": "elsewhere"}, {"v": 2}, {"seq": 2**63}])
    elif odd < 0.035:
        del body["seq"]
    return body, chance.random() < 0.999


def block(chance: random.Random, seq: int, now: int) -> bytes:
    """A block that mostly is as the device always has it, over the end of a window now and then."""
    body = BLOCK | {"boot": 5, "seq": seq, "t0": now - NS, "f32": np.array([chance.random() for _ in range(6)], "<f4")}
    odd = chance.random()
    if odd < 0.007:
        body["f32"][chance.randrange(6)] = chance.choice([np.nan, np.inf, 1e9])
    elif odd < 0.014:
        body |= chance.choice([{"dt": 2_000 * NS}, {"dt": 400 * NS}, {"t0": 5}, {"t0": T0 + 10**15}, {"boot": 6}])
    elif odd < 0.02:
        body["names"] = chance.choice([["sway_m", "load_t"], ["load_t", "nonsense"], ["load_t"]])
    return msgspec.msgpack.encode(body | {"f32": body["f32"].tobytes()})


def traffic(chance: random.Random, frames: int) -> list[Frame]:
    """Cranes that mostly go on in sequence, with everything that may happen to one of them now and then."""
    seqs = [chance.choice([0, 100, 250, 65_500]) for _ in range(6)]
    result: list[Frame] = []
    for nth in range(frames):
        device = chance.randrange(len(seqs))
        where, now = topic("quay-crane", f"QC{device}"), T0 + nth * NS // 10
        what = chance.random()
        if what < 0.004 and result:
            result.append(chance.choice(result))
            continue
        if what < 0.008:
            seqs[device] += chance.choice([1, 2, 300])
        seq, seqs[device] = seqs[device], seqs[device] + 1
        if what < 0.012:
            status = {"v": 1, "online": chance.random() < 0.5, "seq": seq, "boot": 5, "ts": now}
            result.append(frame(topic("quay-crane", f"QC{device}", "status"), status, recv_ts=now))
        elif what < 0.016:
            event = {"v": 1, "type": "door", "data": {}, "seq": seq, "boot": 5, "ts": now}
            result.append(frame(topic("quay-crane", f"QC{device}", "event"), event, recv_ts=now))
        elif what < 0.018:
            result.append(frame("no/topic", b"\x80", recv_ts=now))
        else:
            if device == 5:
                result.append(frame(where, block(chance, seq, now), recv_ts=now))
                continue
            body, binary = message(chance, device, seq, now - chance.randrange(NS))
            packed = msgpack.packb(body, use_single_float=device % 3 == 2)
            payload = packed if binary else msgspec.json.encode(body)
            result.append(frame(where, payload, recv_ts=now))
    return numbered(result)


@pytest.mark.parametrize("seed", range(12))
def test_together_comes_to_the_same_as_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    frames = traffic(chance, 2_000)
    alone = pipeline_of()
    for each in frames:
        alone.process([each])
    together, at, taken, blocks = pipeline_of(), 0, 0, 0
    decoder = Decoder(directory := Directory(100, 1_000), Foreign(directory, ()))
    while at < len(frames):
        batch = frames[at : at + chance.choice([1, 20, 60, 200])]
        together.process(batch)
        accepted = decoder.decode(batch).together
        taken += len(accepted.frames) if accepted is not None else 0
        blocks += len(accepted.blocks) if accepted is not None else 0
        at += len(batch)
    assert taken > len(frames) // 20
    assert blocks
    assert together.ledger.balanced()
    assert everything(together) == everything(alone)


ODD = 25
"""Which of the frames below nothing can read."""


def in_sequence(count: int = 60) -> list[Frame]:
    """Two devices that have been heard before, each with nothing but what it always sends."""
    frames = []
    for nth in range(count):
        body = values(nth // 2, T0 + nth * NS, load_t=float(nth), wind_speed_mps=1.5)
        frames.append(frame(topic("quay-crane", f"QC{nth % 2}"), body, binary=True, recv_ts=T0 + nth * NS))
    return numbered(frames)


def test_one_odd_frame_among_columns_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    frames = in_sequence()
    odd, read, decode = frames[ODD].payload, Layout.read, native.telemetry_in

    def read_all_but_one(layout: Layout, payloads: bytes) -> Any:
        if odd in payloads:
            raise MemoryError("nobody has foreseen this")
        return read(layout, payloads)

    def decode_all_but_one(payload: bytes) -> native.Telemetry | None:
        if payload == odd:
            raise MemoryError("nobody has foreseen this")
        return decode(payload)

    monkeypatch.setattr(Layout, "read", read_all_but_one)
    monkeypatch.setattr(native, "telemetry_in", decode_all_but_one)
    pipeline = pipeline_of()
    for begin, end in ((0, 2), (2, 40), (40, 60)):
        pipeline.process(frames[begin:end])
    found = accounts(pipeline)
    device = f"{SITE}/quay-crane/QC{ODD % 2}"
    assert found[device, "quarantined", "undecodable"] == (1, 0)
    assert sum(frames for (_, account, _), (frames, _) in found.items() if account == "windowed") == len(frames) - 1
    assert not any(account == "duplicate" for _, account, _ in found)
    assert pipeline.ledger.balanced()
    [refused] = pipeline.take_quarantine()
    assert (refused.id, FAILED in refused.detail) == (str(frames[ODD].offset), True)
    assert "taking frames together failed on 38 frames" in caplog.text


def test_frames_that_fail_as_columns_alone_are_taken_one_by_one_and_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise IndexError("nobody has foreseen this")

    monkeypatch.setattr("ingest.alike._accepted", fails)
    frames, broken, sound = in_sequence(), pipeline_of(), pipeline_of()
    for begin, end in ((0, 2), (2, 40), (40, 60)):
        broken.process(frames[begin:end])
    monkeypatch.undo()
    for each in frames:
        sound.process([each])
    assert everything(broken) == everything(sound)
    # Said once.
    assert caplog.text.count("taking frames together failed") == 1

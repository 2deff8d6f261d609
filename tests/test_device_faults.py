"""Faults composed around a stream: each does what it says, is counted, and is the same for the same seed."""

import itertools
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from devices.codecs.native import Block, Event, Telemetry, decode_block, decode_telemetry, encode
from devices.columns import Floats
from devices.times import NS
from simulators.fault_chain import Chain, Delivery
from simulators.faults import (
    AnyFault,
    Backfill,
    Clock,
    Corrupt,
    Drift,
    Duplicate,
    Late,
    Lost,
    Reboot,
    Silent,
    Stuck,
)
from simulators.messages import Message

START = 1_764_000_000 * NS
DEVICES = ("QC01", "QC02", "TT01")
CLASSES = {"QC": "quay-crane", "TT": "vehicle"}


def stream(seconds: int = 100) -> list[Message]:
    """One reading a second from each of three devices, the value being the second."""
    messages = []
    for second in range(seconds):
        for number, name in enumerate(DEVICES):
            at = START + second * NS + number
            payload = Telemetry(v=1, m={"power_kw": float(second)}, boot=5 + number, seq=second, ts=at)
            topic = f"port/CNNGB-DEMO/{CLASSES[name[:2]]}/{name}/telemetry"
            messages.append(Message(at, number, second, topic, encode(payload), retain=False))
    return messages


def through(
    *faults: AnyFault, seed: int = 7, messages: Sequence[Message] | None = None
) -> tuple[list[Delivery], Chain]:
    chain = Chain(faults, seed, START)
    chain.send(stream() if messages is None else messages)
    return list(chain.arrived(2**62)), chain


def values(deliveries: Sequence[Delivery], device: int = 0) -> list[float]:
    return [decode_telemetry(one.message.payload).m["power_kw"] for one in deliveries if one.message.device == device]


def test_without_faults_everything_arrives_when_it_is_sent() -> None:
    deliveries, chain = through()
    assert [one.message for one in deliveries] == stream()
    assert all(one.arrival_ns == one.message.due_ns and not one.repeated for one in deliveries)
    assert not chain.counts
    assert not len(chain)


def test_nothing_arrives_before_its_time() -> None:
    chain = Chain([Late(delay_s=(1.0, 20.0))], 7, START)
    seen = []
    for second in range(130):
        chain.send([one for one in stream() if (one.due_ns - START) // NS == second])
        now = START + (second + 1) * NS
        arrived = list(chain.arrived(now))
        assert all(one.message.due_ns + NS <= one.arrival_ns < now for one in arrived)
        seen += [one.message for one in arrived]
    assert sorted(seen) == stream()
    assert seen != stream()  # out of order


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_is_lost_and_counted(share: float) -> None:
    deliveries, chain = through(Lost(share=share))
    assert len(deliveries) + chain.counts["lost"] == 300
    assert chain.counts["lost"] == pytest.approx(300 * share, abs=30 * (0 < share < 1))


def test_a_repetition_is_the_same_message_and_says_so() -> None:
    deliveries, chain = through(Duplicate(share=0.3, after_s=(0.0, 5.0)))
    repeated = [one for one in deliveries if one.repeated]
    assert len(repeated) == chain.counts["duplicate"] > 50
    assert {one.message for one in repeated} <= set(stream())
    assert len(deliveries) == 300 + len(repeated)


def test_bits_flip_in_the_payload_only() -> None:
    deliveries, chain = through(Corrupt(share=0.5))
    sent = {(one.device, one.seq): one for one in stream()}
    changed = [one for one in deliveries if one.message != sent[one.message.device, one.message.seq]]
    assert 100 < len(changed) <= chain.counts["corrupt"]
    for one in changed:
        original = sent[one.message.device, one.message.seq]
        assert one.message._replace(payload=b"") == original._replace(payload=b"")
        wrong = int.from_bytes(one.message.payload) ^ int.from_bytes(original.payload)
        assert 1 <= wrong.bit_count() <= 8


def test_a_fault_is_for_the_devices_and_the_time_it_names() -> None:
    deliveries, chain = through(Silent(devices="QC*", from_s=10.0, lasts_s=20.0))
    assert values(deliveries, 0) == values(deliveries, 1) == [*map(float, range(10)), *map(float, range(30, 100))]
    assert len(values(deliveries, 2)) == 100
    assert chain.counts == {"silent": 40}


def test_a_dead_zone_loses_nothing_and_is_caught_up_in_order() -> None:
    deliveries, chain = through(Backfill(devices="TT01", from_s=10.0, lasts_s=50.0, per_s=4.0))
    caught = [one for one in deliveries if one.message.device == 2]
    assert [one.message.seq for one in caught] == list(range(100))
    held = [one for one in caught if one.arrival_ns > one.message.due_ns]
    assert len(held) == chain.counts["backfill"] >= 50
    end = START + 60 * NS
    assert min(one.arrival_ns for one in held) >= end
    assert all(b.arrival_ns - a.arrival_ns >= NS // 4 - 1 for a, b in itertools.pairwise(held))
    # Four a second catch up with one a second: 50 kept and those that come meanwhile.
    assert held[-1].message.due_ns == pytest.approx(end + 17 * NS, abs=2 * NS)


def test_a_clock_is_off_jumps_and_drifts() -> None:
    deliveries, _ = through(Clock(devices="QC01", from_s=50.0, offset_s=-3600.0, ppm=1000.0))
    errors = [
        decode_telemetry(one.message.payload).ts - one.message.due_ns  # type: ignore[operator]
        for one in deliveries
        if one.message.device == 0
    ]
    assert errors[:50] == [0] * 50
    assert errors[50] == -3600 * NS
    assert errors[99] == pytest.approx(-3600 * NS + 49 * 1_000_000, abs=1000)
    assert [one.arrival_ns for one in deliveries] == [one.message.due_ns for one in deliveries]


def test_a_packed_block_has_a_clock_too() -> None:
    block = Block(1, START, NS, ("power_kw",), b"\0\0\0\0", boot=1, seq=1)
    message = Message(START, 0, 1, "port/CNNGB-DEMO/quay-crane/QC01/telemetry", encode(block), retain=False)
    (delivery,), _ = through(Clock(offset_s=1.5), messages=[message])
    assert decode_block(delivery.message.payload).t0 == START + 1_500_000_000


def test_a_reboot_is_silent_and_begins_anew() -> None:
    deliveries, _ = through(Reboot(devices="QC02", from_s=20.0, lasts_s=10.0))
    found = [decode_telemetry(one.message.payload) for one in deliveries if one.message.device == 1]
    assert [one.seq for one in found] == [*range(20), *range(70)]
    assert [one.boot for one in found] == [6] * 20 + [7] * 70
    assert [one.m["power_kw"] for one in found[20:22]] == [30.0, 31.0]


def test_a_stuck_sensor_shows_what_it_showed_and_a_drifting_one_moves_away() -> None:
    deliveries, _ = through(Stuck(devices="QC01", metric="power_kw", from_s=40.0, lasts_s=30.0))
    assert values(deliveries)[38:72] == [38.0, 39.0, *[40.0] * 30, 70.0, 71.0]
    deliveries, _ = through(Drift(devices="QC01", metric="power_kw", per_hour=3600.0))
    assert values(deliveries)[50] == pytest.approx(100.0, abs=1e-6)


def blocks(seconds: int = 20) -> list[Message]:
    """Blocks of five rows a second with a counter and a constant; each is due at its last row."""
    messages = []
    for second in range(seconds):
        start = START + second * NS
        table = np.array([[5.0 * second + row, 7.0] for row in range(5)], "<f4")
        block = Block(1, start, NS // 5, ("load_t", "power_kw"), table.tobytes(), boot=1, seq=second)
        topic = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"
        messages.append(Message(start + 4 * NS // 5, 0, second, topic, encode(block), retain=False))
    return messages


def table_of(deliveries: Sequence[Delivery]) -> Floats:
    """Return all rows of blocks, (rows, 2)."""
    found = [decode_block(one.message.payload) for one in deliveries]
    return np.concatenate([np.frombuffer(block.f32, "<f4") for block in found]).reshape(-1, 2).astype(float)


def test_a_stuck_sensor_is_stuck_in_packed_blocks_too_from_row_to_row() -> None:
    # From the fourth row of the third second to before the third row of the sixth.
    deliveries, chain = through(Stuck(metric="load_t", from_s=2.6, lasts_s=2.8), messages=blocks())
    found, sound = table_of(deliveries), table_of(through(messages=blocks())[0])
    assert found[:, 1].tolist() == sound[:, 1].tolist()
    assert found[13:27, 0].tolist() == [13.0] * 14
    assert [*found[:13, 0], *found[27:, 0]] == [*sound[:13, 0], *sound[27:, 0]]
    assert chain.counts == {"stuck": 4}
    assert [one.message.seq for one in deliveries] == list(range(20))


def test_a_drifting_sensor_drifts_within_packed_blocks() -> None:
    deliveries, chain = through(Drift(metric="load_t", per_hour=3600.0, from_s=10.0), messages=blocks())
    error = table_of(deliveries)[:, 0] - np.arange(100.0)
    assert error.tolist() == pytest.approx([0.0] * 50 + [row / 5 for row in range(50)], abs=1e-4)
    assert chain.counts == {"drift": 10}


def test_a_block_without_the_metric_is_left_as_it_is() -> None:
    deliveries, chain = through(Stuck(metric="hoist_height_m"), messages=blocks())
    assert [one.message for one in deliveries] == blocks()
    assert not chain.counts


def test_what_is_not_native_is_left_as_it_is_and_counted() -> None:
    strange = Message(START, 0, 0, "spBv1.0/g/DDATA/n/d", b"\x08\x01", retain=False)
    (delivery,), chain = through(Clock(offset_s=5.0), messages=[strange])
    assert delivery.message == strange
    assert chain.counts == {"unchanged": 1}


def test_events_keep_their_data_when_their_clock_is_off() -> None:
    event = Event(v=1, type="tag_read", data={"tag": "E2"}, boot=1, seq=1, ts=START)
    topic = "port/CNNGB-DEMO/rfid-gate/GATE-IN-1/event"
    (delivery,), _ = through(
        Clock(offset_s=5.0), messages=[Message(START, 0, 1, topic, encode(event, binary=False), retain=False)]
    )
    found = msgspec.json.decode(delivery.message.payload)
    assert (found["ts"], found["data"]) == (START + 5 * NS, {"tag": "E2"})


EVERYTHING: list[AnyFault] = [
    Late(share=0.3, delay_s=(0.0, 30.0)),
    Duplicate(share=0.2, after_s=(0.0, 10.0)),
    Lost(share=0.1),
    Corrupt(share=0.05),
    Silent(devices="TT01", from_s=20.0, lasts_s=10.0),
    Backfill(devices="QC01", from_s=40.0, lasts_s=20.0),
    Clock(devices="QC02", offset_s=1.0),
    Reboot(devices="QC02", from_s=60.0),
    Stuck(devices="QC01", metric="power_kw", from_s=10.0),
    Drift(metric="power_kw", per_hour=10.0),
]


def test_the_same_seed_is_the_same_trouble_however_the_stream_is_cut() -> None:
    whole, chain = through(*EVERYTHING)
    assert set(chain.counts) >= {
        "late",
        "duplicate",
        "lost",
        "corrupt",
        "silent",
        "backfill",
        "clock",
        "reboot",
        "stuck",
    }
    pieces = Chain(EVERYTHING, 7, START)
    seen: list[Delivery] = []
    for second in range(150):
        pieces.send([one for one in stream() if (one.due_ns - START) // NS == second])
        seen += pieces.arrived(START + (second + 1) * NS)
    assert seen == whole
    assert through(*EVERYTHING, seed=8)[0] != whole


def test_another_fault_does_not_change_the_dice_of_the_first() -> None:
    alone, _ = through(Lost(share=0.3))
    beside, _ = through(Lost(share=0.3), Corrupt(share=1.0))
    assert Counter((one.message.device, one.message.seq) for one in alone) == Counter(
        (one.message.device, one.message.seq) for one in beside
    )

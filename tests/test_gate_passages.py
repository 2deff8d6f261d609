"""Passages from tag reads: one per vehicle, whatever its reads, its neighbours and the batches."""

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import seeds

from analytics.detectors.gates import GatePassages, PassageRules, TagRead
from analytics.events import PortEvent
from devices.times import NS

T0 = 1_795_420_800 * NS
LANE, OTHER_LANE = 1, 2
END = T0 + 10**6 * NS


def read(
    second: float, tag: str = "E2A", *, lane: int = LANE, antenna: int = 1, rssi: float = -60.0, way: str = "in"
) -> TagRead:
    ts = T0 + round(second * NS)
    return TagRead(lane, ts, round(second * 10), tag, antenna, rssi, way)


def passages_of(reads: Iterable[TagRead]) -> list[PortEvent]:
    """All passages of the reads, with the lanes closed at the end."""
    gates = GatePassages(PassageRules())
    found = list(gates.push(sorted(reads)))
    for lane in (LANE, OTHER_LANE):
        found += gates.release(lane, END)
    return found


def reads_of(passage: PortEvent) -> int:
    reads = passage.data["reads"]
    assert isinstance(reads, int)
    return reads


def test_reads_without_a_gap_are_one_passage() -> None:
    reads = [
        read(0, rssi=-70),
        read(0.4, antenna=2, rssi=-58.5),
        read(3, antenna=3, rssi=-58.5),
        read(9, rssi=-65),
    ]
    (passage,) = passages_of(reads)
    assert passage.type == "gate_passage"
    assert (passage.start, passage.ts) == (T0, T0 + 9 * NS)
    # The antenna is that of the strongest read, the first of equals.
    assert passage.data == {"tag": "E2A", "direction": "in", "reads": 4, "antenna": 2, "rssi_dbm": -58.5}
    assert dict(passage.samples) == {"passages_in": 1}


@pytest.mark.parametrize(("gap_s", "passages"), [(9.9, 1), (10.0, 1), (10.000001, 2), (60, 2)])
def test_a_passage_ends_with_the_gap(gap_s: float, passages: int) -> None:
    reads = [read(0), read(1), read(1 + gap_s), read(2 + gap_s)]
    found = passages_of(reads)
    assert len(found) == passages
    assert sum(map(reads_of, found)) == 4


def test_the_way_out_is_counted_apart() -> None:
    (passage,) = passages_of([read(0, way="out"), read(1, way="out")])
    assert dict(passage.samples) == {"passages_out": 1}
    assert passage.data["direction"] == "out"


def test_a_stray_read_is_no_passage_but_counted() -> None:
    gates = GatePassages(PassageRules())
    assert list(gates.push([read(0), read(100), read(200), read(201)])) == []
    assert gates.stray_reads == 2
    (passage,) = gates.release(LANE, END)
    assert passage.data["reads"] == 2
    assert list(gates.push([read(900)])) == []
    assert list(gates.release(LANE, END)) == []
    assert gates.stray_reads == 3


def test_tags_interleaved_are_passages_of_their_own() -> None:
    reads = [read(nth * 0.5, f"E2{nth % 2}") for nth in range(20)]
    reads += [read(nth * 0.5, "E20", lane=OTHER_LANE) for nth in range(6)]
    found = {(event.device, event.data["tag"]): event.data["reads"] for event in passages_of(reads)}
    assert found == {(LANE, "E20"): 10, (LANE, "E21"): 10, (OTHER_LANE, "E20"): 6}


def test_a_watermark_closes_what_is_older_than_the_gap() -> None:
    gates = GatePassages(PassageRules())
    assert list(gates.push([read(0), read(1), read(2, "E2B"), read(3, "E2B")])) == []
    assert list(gates.release(LANE, T0 + 11 * NS)) == []
    assert list(gates.release(OTHER_LANE, END)) == []
    (first,) = gates.release(LANE, T0 + 11 * NS + 1)
    assert first.data["tag"] == "E2A"
    assert list(gates.release(LANE, T0 + 11 * NS + 1)) == []
    (second,) = gates.release(LANE, T0 + 14 * NS)
    assert second.data["tag"] == "E2B"
    assert gates.open == {LANE: {}}


def test_passages_are_told_apart_by_their_tag() -> None:
    events = passages_of([read(second, tag) for tag in ("E2A", "E2B") for second in (0, 1)])
    assert {event.distinguishing for event in events} == {"E2A", "E2B"}


@given(seeds, st.lists(st.integers(0, 80), max_size=10))
def test_batches_and_order_within_them_do_not_matter(chance: random.Random, cuts: list[int]) -> None:
    reads = [
        read(chance.randrange(800) / 10, f"E2{chance.randrange(3)}", lane=chance.choice([LANE, OTHER_LANE]),
             antenna=chance.randrange(4), rssi=chance.randrange(-70, -60), way=chance.choice(["in", "out"]))
        for _ in range(60)
    ]  # fmt: skip
    gates, found = GatePassages(PassageRules()), list[PortEvent]()
    edges = [T0 - 1, *sorted(T0 + cut * NS for cut in cuts), END]
    for begin, end in itertools.pairwise(edges):
        batch = [each for each in reads if begin < each.ts <= end]
        chance.shuffle(batch)
        found += gates.push(sorted(batch))
        for lane in (LANE, OTHER_LANE):
            found += gates.release(lane, end)
    assert sorted(found, key=str) == sorted(passages_of(reads), key=str)
    assert sum(reads_of(event) for event in found) + gates.stray_reads == len(reads)

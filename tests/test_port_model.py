import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pytest

from devices.columns import Floats
from devices.vocabulary import METRICS, DeviceClass, accepted_from
from simulators import profiles, signals
from simulators.messages import NS, Message, PortMessages
from simulators.port.containers import check_digit
from simulators.port.gate import Read
from simulators.port.layout import Projection
from simulators.port.world import Port
from simulators.truth import Fact, Move, Passage, Relock, YardMove, lines

START_NS = 1_764_000_000 * NS
SMALL = profiles.load("small")


def traffic(seed: int = 7, chunk_s: int = 5, payload: str = "msgpack", start_ns: int = START_NS) -> Iterator[Message]:
    source = PortMessages(SMALL, seed, "CNNGB-DEMO", start_ns, payload)
    yield from source.hello()
    for _ in range(60 // chunk_s):
        yield from source.advance(chunk_s * NS)
    yield from source.goodbye()


def digest(messages: Iterable[Message]) -> str:
    found = hashlib.sha256()
    for message in messages:
        found.update(f"{message.due_ns} {message.topic} {message.seq} ".encode() + message.payload)
    return found.hexdigest()


class Watched:
    """An hour of a port, with every signal of its cranes at 5 Hz."""

    def __init__(self, seed: int, hours: float = 1.0) -> None:
        self.port = Port(SMALL, seed)
        self.begin = self.port.open()
        self.end = self.begin + hours * 3600
        self.times: Floats = np.arange(self.begin, self.end, 0.2)
        self.port.advance(self.end)
        self.quay = {crane.name: signals.quay_crane(crane, self.times) for crane in self.port.quay_cranes}
        self.yard = {crane.name: signals.yard_crane(crane, self.times) for crane in self.port.yard_cranes}
        self.reads: dict[str, list[Read]] = {gate.lane.name: gate.take_reads(self.end) for gate in self.port.gates}
        self.facts = [fact for fact in self.port.truth.peek() if fact.end_s < self.end]


@pytest.fixture(scope="module")
def hour() -> Watched:
    return Watched(seed=7)


def test_same_seed_same_bytes_whatever_the_chunks() -> None:
    first = digest(traffic(seed=7, chunk_s=5))
    assert digest(traffic(seed=7, chunk_s=5)) == first
    assert digest(traffic(seed=7, chunk_s=60)) == first
    assert digest(traffic(seed=7, chunk_s=1)) == first


def test_another_seed_is_another_port() -> None:
    assert digest(traffic(seed=7)) != digest(traffic(seed=8))


def test_a_whole_port_is_the_same_bytes_for_the_same_seed() -> None:
    def run(seed: int) -> str:
        port = PortMessages(profiles.load("chuanshan"), seed, "CNNGB-DEMO", START_NS, noise="default")
        return digest([*port.hello(), *port.advance(2 * NS), *port.goodbye()])

    first = run(7)
    assert run(7) == first
    assert run(8) != first


def test_a_second_run_with_the_same_seed_is_new_traffic_to_who_removes_duplicates() -> None:
    first = PortMessages(SMALL, 7, "CNNGB-DEMO", START_NS)
    second = PortMessages(SMALL, 7, "CNNGB-DEMO", START_NS + 1)
    assert not {device.boot for device in first.devices} & {device.boot for device in second.devices}


def test_messages_come_in_order_of_time_and_sequences_have_no_holes() -> None:
    messages = list(traffic())
    assert [message.due_ns for message in messages] == sorted(message.due_ns for message in messages)
    by_device: dict[int, list[int]] = {}
    for message in messages:
        by_device.setdefault(message.device, []).append(message.seq)
    assert len(by_device) == 4 + 6 + 4 + 20 + 40 + 2
    assert all(seqs == list(range(len(seqs))) for seqs in by_device.values())


def test_every_signal_is_in_the_vocabulary_and_in_range(hour: Watched) -> None:
    port, times = hour.port, hour.times[:: 5 * 10]
    projection, meter = Projection(SMALL.site), signals.Meter(1.0, 0.0, 40.0)
    groups: dict[DeviceClass, list[signals.Signals]] = {
        DeviceClass.QUAY_CRANE: [
            {
                **signals.quay_crane(crane, times),
                **signals.quay_crane_slow(crane, port.weather, meter, times),
            }
            for crane in port.quay_cranes
        ],
        DeviceClass.YARD_CRANE: [signals.yard_crane(crane, times) for crane in port.yard_cranes],
        DeviceClass.RFID_GATE: [signals.gate_lane(gate, times) for gate in port.gates],
        DeviceClass.VEHICLE: [
            signals.truck(truck, projection, times) for truck in port.yard_trucks + port.external_trucks
        ],
        DeviceClass.PARK_SENSOR: [signals.park_sensor(port.weather, number, times) for number in range(2)],
    }
    for device_class, sampled in groups.items():
        accepted = accepted_from(device_class)
        for values in sampled:
            for name, samples in values.items():
                metric = METRICS[accepted[name]]
                assert samples.shape == times.shape
                assert metric.minimum <= samples.min(), name
                assert samples.max() <= metric.maximum, name


def test_a_crane_never_locks_twice_without_unlocking(hour: Watched) -> None:
    for crane in (*hour.port.quay_cranes, *hour.port.yard_cranes):
        moments, values = crane.locked.changes()
        assert all(before != after for before, after in itertools.pairwise(values)), crane.name
        assert all(before < after for before, after in itertools.pairwise(moments)), crane.name
        assert len(values) > 20


def test_cranes_keep_their_speeds_and_their_reach(hour: Watched) -> None:
    quay, yard = SMALL.quay, SMALL.yard
    for names, limits in ((hour.quay, quay), (hour.yard, yard)):
        for name, values in names.items():
            hoisting = np.abs(np.diff(values["hoist_height_m"])) / 0.2
            trolleying = np.abs(np.diff(values["trolley_position_m"])) / 0.2
            assert hoisting.max() <= limits.hoist_empty_mps + 1e-6, name
            assert trolleying.max() <= limits.trolley_mps + 1e-6, name
            laden = (values["load_t"][1:] > 2) & (values["load_t"][:-1] > 2)
            assert hoisting[laden].max() <= limits.hoist_laden_mps + 1e-6, name
            assert np.abs(np.diff(np.diff(values["hoist_height_m"]))).max() / 0.04 < 2 * limits.hoist_acceleration_mps2
    for values in hour.quay.values():
        assert values["hoist_height_m"].max() <= quay.lift_above_quay_m
        assert values["trolley_position_m"].max() <= quay.outreach_m
        # Only the slow final approach, never a crossing trolley, happens low over the ship's deck or the quay.
        low = values["hoist_height_m"][1:] < 4.0
        assert np.abs(np.diff(values["trolley_position_m"]))[low].max(initial=0) < 0.05 * quay.trolley_mps


def test_trucks_neither_jump_nor_speed(hour: Watched) -> None:
    projection = Projection(SMALL.site)
    times = hour.times[: 5 * 1800]
    for truck in hour.port.yard_trucks + hour.port.external_trucks:
        values = signals.truck(truck, projection, times)
        step = np.hypot(np.diff(values["x_m"]), np.diff(values["y_m"]))
        assert step.max() <= 9.5 * 0.2, truck.name
        assert values["speed_mps"].max() <= 9.5
        assert np.all(np.diff(values["odometer_m"]) >= -1e-6)
        assert values["odometer_m"][-1] - values["odometer_m"][0] > 200, truck.name


def test_position_and_degrees_agree(hour: Watched) -> None:
    truck = hour.port.yard_trucks[0]
    values = signals.truck(truck, Projection(SMALL.site), hour.times)
    north = np.diff(values["latitude_deg"]) * 110_850.0  # metres per degree of latitude at 30° N
    east = np.diff(values["longitude_deg"]) * 96_560.0  # metres per degree of longitude at 29.97° N
    # x points east in this profile.
    assert np.allclose(east, np.diff(values["x_m"]), atol=2e-3)
    assert np.allclose(north, np.diff(values["y_m"]), atol=2e-3)
    moving = values["speed_mps"][:-1] > 2
    driven = np.degrees(np.arctan2(np.diff(values["x_m"]), np.diff(values["y_m"])))[moving] % 360
    turned = np.abs((values["heading_deg"][:-1][moving] - driven + 180) % 360 - 180)
    assert np.median(turned) < 0.1


def locked_spans(values: signals.Signals) -> Iterator[tuple[int, int]]:
    """Indices of the first locked and the first unlocked sample of every lock that is wholly in sight."""
    edges = np.diff(values["spreader_locked"])
    rises, falls = np.flatnonzero(edges > 0) + 1, np.flatnonzero(edges < 0) + 1
    for rise in rises.tolist():
        after = falls[falls > rise]
        if len(after):
            yield rise, int(after[0])


def test_the_truth_is_what_the_signals_show(hour: Watched) -> None:
    for name, values in hour.quay.items():
        facts = [
            fact
            for fact in hour.facts
            if fact.device == name and fact.start_s >= hour.begin and isinstance(fact, Move | Relock)
        ]
        spans = list(locked_spans(values))
        assert len(spans) == len(facts) > 15
        for fact, (rise, fall) in zip(sorted(facts, key=lambda fact: fact.start_s), spans, strict=True):
            assert 0 <= hour.times[rise] - fact.start_s <= 0.2
            assert 0 <= hour.times[fall] - fact.end_s <= 0.2
            peak = values["load_t"][rise:fall].max()
            from_ship = values["trolley_position_m"][rise] > 5
            to_ship = values["trolley_position_m"][fall] > 5
            if isinstance(fact, Relock):
                assert peak < 2
                continue
            assert isinstance(fact, Move)
            assert peak == pytest.approx(fact.gross_t)
            assert peak >= 4
            assert fact.kind == ("shift" if from_ship == to_ship else "discharge" if from_ship else "load")
            assert values["spreader_size_ft"][rise] == fact.size_ft
            assert bool(values["spreader_twin"][rise]) == (len(fact.containers) == 2)
    kinds = {fact.kind for fact in hour.facts if isinstance(fact, Move)}
    assert {"discharge", "load"} <= kinds
    assert any(isinstance(fact, Relock) for fact in hour.facts)


def test_yard_moves_are_what_the_signals_show(hour: Watched) -> None:
    for name, values in hour.yard.items():
        facts = [fact for fact in hour.facts if fact.device == name and fact.start_s >= hour.begin]
        facts = [fact for fact in facts if isinstance(fact, YardMove)]
        assert len(list(locked_spans(values))) == len(facts) > 10


def test_passages_are_what_the_readers_read(hour: Watched) -> None:
    passages = [fact for fact in hour.facts if isinstance(fact, Passage) and fact.start_s >= hour.begin]
    assert {passage.direction for passage in passages} == {"in", "out"}
    for passage in passages:
        reads = [
            read
            for read in hour.reads[passage.device]
            if read.tag == passage.tag and passage.start_s <= read.time <= passage.end_s
        ]
        assert len(reads) == passage.reads
        assert SMALL.gates.reads[0] <= passage.reads <= SMALL.gates.reads[1]
        assert passage.end_s - passage.start_s <= SMALL.gates.reading_s[1]
        assert passage.end_s <= passage.opened_s
        assert {read.antenna for read in reads} <= {1, 2}
        assert len(bytes.fromhex(passage.tag)) == 12
        assert passage.tag.startswith("E280")


def test_a_truck_that_comes_in_goes_out_before_it_comes_again(hour: Watched) -> None:
    by_truck: dict[str, list[str]] = {}
    for fact in hour.facts:
        if isinstance(fact, Passage):
            by_truck.setdefault(fact.truck, []).append(fact.direction)
    assert len(by_truck) == SMALL.trucks.external
    assert all(before != after for ways in by_truck.values() for before, after in itertools.pairwise(ways))


def test_the_mix_of_boxes_gives_the_teu_factor_of_the_trade() -> None:
    port = Port(SMALL, seed=3)
    begin = port.open()
    for hour_number in range(8):
        port.advance(begin + 3600 * (hour_number + 1))
        port.forget(port.agenda.now)
    moves = [fact for fact in port.truth.peek() if isinstance(fact, Move) and fact.kind != "shift"]
    assert 20 <= len(moves) / 8 / SMALL.quay.cranes <= 35  # moves per crane and hour
    boxes = sum(len(move.containers) for move in moves)
    assert 1.4 < sum(move.teu for move in moves) / boxes < 1.8
    cycles = [
        after.end_s - before.end_s
        for crane in port.quay_cranes
        for before, after in itertools.pairwise([move for move in moves if move.device == crane.name])
    ]
    assert 90 <= float(np.median(cycles)) <= 150
    numbers = [number for move in moves for number in move.containers]
    assert all(check_digit(number) == int(number[10]) for number in numbers)


@pytest.mark.parametrize("number", ["CSQU3054383", "MSKU0308961", "TRHU6875483", "CBHU6818017", "HLXU1234561"])
def test_check_digits_agree_with_published_numbers(number: str) -> None:
    assert check_digit(number) == int(number[10])


@pytest.mark.parametrize("seed", range(6))
def test_who_starts_a_port_soon_sees_it_work(seed: int) -> None:
    port = Port(SMALL, seed)
    begin = port.open()
    port.advance(begin + 200)

    def until(seconds: float) -> list[Fact]:
        return [fact for fact in port.truth.peek() if fact.end_s < begin + seconds]

    assert any(isinstance(fact, Move) for fact in until(30))
    assert sum(isinstance(fact, Move) for fact in until(90)) >= 2
    ways = [fact.direction for fact in until(90) if isinstance(fact, Passage)]
    assert set(ways) == {"in", "out"}


def test_virtual_time_runs_at_least_sixty_times_as_fast_as_real_time() -> None:
    source = PortMessages(SMALL, 7, "CNNGB-DEMO", START_NS)
    started = time.process_time()
    for _ in range(30):
        source.advance(4 * NS)
    assert 120 / (time.process_time() - started) >= 60


def test_a_long_run_forgets_what_is_over() -> None:
    source = PortMessages(SMALL, 7, "CNNGB-DEMO", START_NS)
    sizes = []
    for _ in range(3):
        for _ in range(8):
            source.advance(60 * NS)
            source.truth()
        crane, truck = source.port.quay_cranes[0], source.port.external_trucks[0]
        sizes.append(len(crane.locked.changes()[0]) + len(truck.laden.changes()[0]))
    assert max(sizes) < 40
    assert len(source.port.truth) < 40


def test_the_truth_log_does_not_depend_on_the_moment_of_the_start(hour: Watched) -> None:
    early, late = (b"".join(lines(hour.facts[:50], origin)) for origin in (START_NS, START_NS + 3600 * NS))
    assert early.count(b"\n") == 50
    assert early != late
    assert len(early) == len(late)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quay": {"cranes": -1}}, ["quay.cranes", "-1", ">= 0"]),
        ({"quay": {"cranes": "four"}}, ["quay.cranes", "four", "int"]),
        ({"quay": {"crane": 4}}, ["[quay]", "crane", "allowed", "cranes"]),
        ({"harbour": {}}, ["harbour", "allowed", "quay"]),
        ({"quay": {"positioning_s": [9.0, 3.0]}}, ["quay.positioning_s", "[9.0, 3.0]"]),
        ({"containers": {"share_20ft": 0.9}}, ["containers.share_20ft", "1.5", "allowed is 1"]),
        ({"yard": {"cranes": 0}}, ["yard.cranes", "0", "1 or more"]),
        ({"trucks": {"yard": 3}}, ["trucks.yard", "3", "quay.cranes"]),
        ({"site": {"origin_latitude_deg": 99.0}}, ["site.origin_latitude_deg", "99.0", "85"]),
        ({"name": "Small Port"}, ["name", "Small Port"]),
    ],
)
def test_an_impossible_profile_is_refused_with_key_value_and_what_is_allowed(
    change: dict[str, object], named: list[str]
) -> None:
    tree = profiles_tree()
    for section, values in change.items():
        if isinstance(values, dict):
            tree.setdefault(section, {}).update(values)
        else:
            tree[section] = values  # type: ignore[assignment]
    with pytest.raises(profiles.ProfileError) as refused:
        profiles.parse(tree)
    for part in named:
        assert part in str(refused.value)


def test_a_missing_profile_is_named_with_those_that_exist() -> None:
    with pytest.raises(profiles.ProfileError, match=r"'nowhere'.*allowed: .*small"):
        profiles.load("nowhere")


def test_a_missing_key_is_named() -> None:
    tree = profiles_tree()
    del tree["gates"]["service_s"]
    with pytest.raises(profiles.ProfileError, match=r"\[gates\].*service_s"):
        profiles.parse(tree)


def profiles_tree() -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = msgspec.to_builtins(SMALL)
    return tree

"""A terminal with ships, stacks, arrivals by the hour, roads, hindrances and tides: what must hold in any profile."""

import itertools
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from devices.times import NS
from simulators import profiles
from simulators.messages import PortMessages
from simulators.port.agenda import WARM_UP_S
from simulators.port.arrivals import ArrivalTimes, hours_of_week
from simulators.port.containers import check_digit
from simulators.port.layout import Layout
from simulators.port.roads import GATE, HOMES, RoadGraph
from simulators.port.stacks import Stacks
from simulators.port.world import Port
from simulators.profiles import Profile
from simulators.truth import (
    STEPS,
    STOP_S,
    Alarm,
    Fact,
    JobStep,
    Kpi,
    Move,
    Passage,
    Queue,
    Stay,
    Stop,
    Trip,
    Turn,
    VesselCall,
    YardMove,
)
from simulators.truth_figures import figures_of

BUILT_IN = ("small", "meishan", "chuanshan", "stress")
CHUANSHAN = profiles.load("chuanshan")


def changed(profile: Profile, **sections: Any) -> Profile:
    """Return a profile with some keys of its sections changed."""
    tree: dict[str, Any] = msgspec.to_builtins(profile)
    for name, values in sections.items():
        tree[name] = tree[name] | values if isinstance(values, dict) and tree.get(name) else values
    return profiles.parse(tree)


def terminal(**sections: Any) -> Profile:
    """Return a terminal of two berths with everything that a large one has."""
    small: dict[str, Any] = {
        "quay": {"length_m": 500.0, "cranes": 5},
        "yard": {"cranes": 8, "block_columns": 4, "block_length_m": 120.0},
        "gates": {"lanes_in": 3, "lanes_out": 2},
        "trucks": {"yard": 34, "external": 90},
        "park": {"sensors": 1, "doors": 2, "reefers": 3},
        "calls": {
            "berths": 2,
            "working_share": 1.0,
            "boxes": [60, 120],
            "lashing_s": [300.0, 600.0],
            "gap_s": [600.0, 1200.0],
        },
        "arrivals": {"visits_per_hour": 30.0},
        "roads": {"reach_m": 3000.0},
    }
    for name, values in sections.items():
        small[name] = small.get(name, {}) | values if isinstance(values, dict) else values
    return changed(CHUANSHAN, **small)


class Watched:
    """Some hours of a port and what really happened in them."""

    def __init__(self, profile: Profile, seed: int, hours: float) -> None:
        self.port = Port(profile, seed)
        self.begin = self.port.open()
        self.end = self.begin + hours * 3600
        self.facts: list[Fact] = []
        while self.port.agenda.now < self.end:
            self.port.advance(min(self.end, self.port.agenda.now + 600))
            self.port.forget(self.port.agenda.now)
            self.facts += self.port.truth.take(self.port.agenda.now)

    def all(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


@pytest.fixture(scope="module")
def day() -> Watched:
    return Watched(terminal(), seed=7, hours=10)


def test_ships_come_are_worked_and_leave(day: Watched) -> None:
    calls = day.all(VesselCall)
    assert len(calls) >= 6
    for call in calls:
        assert call.arrived_s <= call.start_s <= call.first_lift_s < call.last_lift_s < call.end_s
        moves = [
            move
            for move in day.all(Move)
            if move.kind != "shift"
            and move.device in {f"QC{n + 1:02d}" for n in (range(2) if call.device == "BERTH-01" else range(2, 5))}
            and call.first_lift_s <= move.end_s <= call.last_lift_s + 60
        ]
        if call.first_lift_s > day.begin:
            assert len(moves) == call.lifts
            assert 45 <= call.lifts <= 150
    for berth in ("BERTH-01", "BERTH-02"):
        at = [call for call in calls if call.device == berth]
        assert all(before.end_s < after.start_s for before, after in itertools.pairwise(at))


def test_a_ship_berths_only_when_the_water_is_high_enough() -> None:
    high = Watched(terminal(tide={"range_m": 4.0, "berthing_above_m": 1.2}), seed=3, hours=14)
    fresh = [call for call in high.all(VesselCall) if not call.cut]
    assert any(call.start_s > call.arrived_s for call in fresh)
    for call in fresh:
        assert high.port.tide.height_m(call.start_s) > 1.1


def test_cranes_never_pass_each_other(day: Watched) -> None:
    times = np.arange(day.end - 60, day.end, 1.0)
    at = [crane.gantry.sample(times)[0] for crane in day.port.quay_cranes]
    for left, right in itertools.pairwise(at):
        assert (right - left).min() > 20


def test_tractors_go_through_the_six_steps_in_their_order(day: Watched) -> None:
    by_truck: dict[str, list[JobStep]] = {}
    for step in day.all(JobStep):
        by_truck.setdefault(step.device, []).append(step)
    assert len(by_truck) == 34
    numbers = {name: number for number, name in enumerate(STEPS)}
    for steps in by_truck.values():
        for before, after in itertools.pairwise(steps):
            assert before.end_s == after.start_s or numbers[before.step] == 6
            assert numbers[after.step] == numbers[before.step] % 6 + 1, (before, after)
    assert {step.step for step in day.all(JobStep)} == set(STEPS[1:])


def test_containers_that_leave_the_yard_have_stayed_their_time(day: Watched) -> None:
    stays = day.all(Stay)
    assert len(stays) > 300
    imports = [stay.end_s - stay.start_s for stay in stays if stay.flow == "import"]
    assert min(imports) >= 3 * 3600 - 1
    assert {stay.flow for stay in stays} == {"import", "export"}
    assert all(check_digit(stay.container) == int(stay.container[10]) for stay in stays)
    fetched = {move.containers[0] for move in day.all(YardMove) if move.kind == "deliver"}
    assert {stay.container for stay in stays} <= fetched


def test_what_stands_on_a_container_is_dug_away_first(day: Watched) -> None:
    shifts = [move for move in day.all(YardMove) if move.kind == "shift"]
    delivers = [move for move in day.all(YardMove) if move.kind == "deliver"]
    assert 0.2 < len(shifts) / len(delivers) < 2.5
    assert all(not move.truck for move in shifts)


def test_stacks_neither_lose_nor_overfill() -> None:
    yard, limits = CHUANSHAN.yard, CHUANSHAN.stacks
    assert limits is not None
    stacks = Stacks(np.random.default_rng(3), yard, limits, CHUANSHAN.containers, bays=6)
    standing = len(stacks)
    assert 0.4 < standing / (6 * yard.rows * yard.tiers) < 0.7
    taken = []
    while (box := stacks.claim("import", 1e9)) is not None:
        for above in stacks.above(box):
            assert stacks.move(above).bay == box.place.bay
        assert not stacks.above(box)
        stacks.remove(box)
        taken.append(box)
    assert len(taken) + len(stacks) == standing
    assert all(box.flow == "import" for box in taken)
    assert len({stacks.named(box).number for box in taken}) == len(taken)
    while (place := stacks.reserve()) is not None:
        stacks.put(place, stacks.named(taken[0]), "export", 0.0)
        assert stacks.height(place) <= yard.tiers
    assert len(stacks) > 0.8 * 6 * yard.rows * yard.tiers
    assert stacks.claim("import", 1e9) is None


@pytest.mark.parametrize(("slots", "peak"), [(False, 3.3), (True, 2.6)])
def test_the_busiest_hour_of_the_week_is_as_busy_as_in_the_trade(slots: bool, peak: float) -> None:
    factors = hours_of_week(slots=slots)
    assert factors.mean() == pytest.approx(1.0)
    assert factors.max() == pytest.approx(peak, rel=0.01)
    assert factors.argmax() % 24 in range(9, 15)
    assert factors[6 * 24 :].mean() < factors[:24].mean()


@pytest.mark.parametrize("slots", [True, False])
def test_trucks_come_at_the_rate_of_the_hour_and_in_order(slots: bool) -> None:
    profile = changed(CHUANSHAN, arrivals={"slots": slots, "opening_hour": 0.0, "visits_per_hour": 400.0})
    assert profile.arrivals is not None
    arrivals = ArrivalTimes(np.random.default_rng(1), profile.arrivals)
    times = np.array([arrivals.next() for _ in range(20_000)])
    assert np.all(np.diff(times) >= 0)
    counts = np.bincount((times // 3600).astype(int))[1:34]
    expected = np.array([400 * arrivals.factor(hour * 3600.0) for hour in range(1, 34)])
    spread = np.abs(counts - expected) / np.sqrt(expected)
    assert spread.max() < (1 if slots else 5)


def test_visits_come_in_by_the_gate_and_leave_by_it(day: Watched) -> None:
    ways: dict[str, list[str]] = {}
    for passage in day.all(Passage):
        ways.setdefault(passage.truck, []).append(passage.direction)
    assert all(before != after for way in ways.values() for before, after in itertools.pairwise(way))
    turns = [turn for turn in day.all(Turn) if turn.end_s > day.begin + 60]
    assert len(turns) > 100
    opened = {(passage.truck, passage.opened_s): passage.direction for passage in day.all(Passage)}
    for turn in turns:
        assert opened[turn.device, turn.end_s] == "out"
        if turn.start_s > day.begin:
            assert opened[turn.device, turn.start_s] == "in"
    assert 180 < np.median([turn.end_s - turn.start_s for turn in turns]) < 2400


def test_the_quickest_way_is_found_and_ends_where_it_should() -> None:
    assert CHUANSHAN.roads is not None
    roads = RoadGraph(CHUANSHAN.roads, Layout(CHUANSHAN))
    for home in HOMES:
        way = roads.way(home, GATE)
        assert way[-1].corner == roads.places[GATE]
        back = roads.way(GATE, home)
        assert back[-1].corner == roads.places[home]
        assert sorted(leg.limit_mps for leg in way) == sorted(leg.limit_mps for leg in back)
    # The motorway is longer than the way past the park, and quicker.
    assert roads.places["junction"] in [leg.corner for leg in roads.way("city", GATE)]


def test_trips_and_stops_of_a_vehicle_take_turns_without_a_gap(day: Watched) -> None:
    by_truck: dict[str, list[Trip | Stop]] = {}
    for fact in (*day.all(Trip), *day.all(Stop)):
        by_truck.setdefault(fact.device, []).append(fact)
    assert len(by_truck) > 100
    for facts in by_truck.values():
        ordered = sorted(facts, key=lambda fact: (fact.start_s, fact.end_s))
        for before, after in itertools.pairwise(ordered):
            assert type(before) is not type(after)
            assert before.end_s == pytest.approx(after.start_s)
        assert all(fact.end_s - fact.start_s >= STOP_S for fact in facts if isinstance(fact, Stop))
        assert all(fact.distance_m > 0 for fact in facts if isinstance(fact, Trip))


def test_queues_end_when_the_truck_is_called(day: Watched) -> None:
    queues = day.all(Queue)
    assert {queue.device[:4] for queue in queues} >= {"GATE", "QC01"}
    assert all(queue.start_s <= queue.end_s for queue in queues)


def test_the_figures_of_the_hour_are_those_of_the_facts(day: Watched) -> None:
    kpis = day.all(Kpi)
    assert len({kpi.end_s for kpi in kpis}) >= 9
    whole = [kpi for kpi in kpis if kpi.start_s >= day.begin]
    for kpi in whole:
        value, count = figures_of(day.facts, kpi.start_s, kpi.end_s)[kpi.kpi]
        assert (kpi.value, kpi.count) == (round(value, 3), count), kpi
    moves = [kpi for kpi in whole if kpi.kpi == "moves_per_hour"]
    assert max(kpi.value for kpi in moves) > 40


def test_a_storm_stops_the_cranes_and_they_say_so() -> None:
    storm = {"from_s": 1200.0, "rise_s": 900.0, "lasts_s": 1800.0, "peak_mps": 25.0}
    watched = Watched(terminal(storm=storm), seed=7, hours=2)
    stops = [alarm for alarm in watched.all(Alarm) if alarm.code == "wind_stop"]
    # A crane whose ship is done has nothing to be kept from.
    assert len({alarm.device for alarm in stops if alarm.device.startswith("QC")}) >= 4
    blowing = (WARM_UP_S + 2400, WARM_UP_S + 3600)
    assert not [move for move in watched.all(Move) if blowing[0] < move.start_s < blowing[1]]
    assert [move for move in watched.all(Move) if move.start_s < WARM_UP_S + 1200]
    assert [move for move in watched.all(Move) if move.start_s > WARM_UP_S + 5600]


def test_a_crane_that_breaks_down_makes_no_move_until_it_is_repaired() -> None:
    broken = {"device": "QC02", "from_s": 1200.0, "lasts_s": 2400.0}
    watched = Watched(terminal(breakdowns=[broken]), seed=7, hours=1.5)
    (alarm,) = [alarm for alarm in watched.all(Alarm) if (alarm.device, alarm.code) == ("QC02", "breakdown")]
    assert alarm.end_s == WARM_UP_S + 3600
    moves = [move for move in watched.all(Move) if move.device == "QC02"]
    assert not [move for move in moves if alarm.start_s < move.start_s < alarm.end_s]
    assert [move for move in moves if move.end_s <= alarm.start_s]


def test_trucks_avoid_a_blocked_lane_and_those_in_it_wait() -> None:
    blocked = {"device": "GATE-IN-2", "from_s": 1200.0, "lasts_s": 2400.0}
    arrivals = {"visits_per_hour": 120.0}
    watched = Watched(terminal(blocked_lanes=[blocked], arrivals=arrivals), seed=7, hours=1.5)
    (alarm,) = [alarm for alarm in watched.all(Alarm) if alarm.code == "lane_blocked"]
    through = [passage for passage in watched.all(Passage) if passage.device == "GATE-IN-2"]
    assert not [passage for passage in through if alarm.start_s + 30 < passage.start_s < alarm.end_s]
    assert Counter(passage.device for passage in watched.all(Passage))["GATE-IN-1"] > len(through)


def test_a_shift_change_pauses_every_crane_once() -> None:
    watched = Watched(terminal(arrivals={"opening_hour": 39.5}), seed=7, hours=1)  # Tuesday 15:30, shifts at 16:00
    pauses = Counter(alarm.device for alarm in watched.all(Alarm) if alarm.code == "shift_change")
    assert sum(pauses[f"QC{n + 1:02d}"] for n in range(5)) >= 3
    assert max(pauses.values()) == 1


def test_alarms_are_events_on_the_wire() -> None:
    broken = {"device": "YC03", "from_s": 300.0, "lasts_s": 400.0}
    source = PortMessages(terminal(breakdowns=[broken]), 7, "CNNGB-DEMO", 1_764_000_000 * NS)
    sent = [message for _ in range(20) for message in source.advance(60 * NS)]
    alarms = [
        (msgspec.msgpack.decode(message.payload), message.topic)
        for message in sent
        if message.topic.endswith("/event") and b"alarm" in message.payload
    ]
    told = [event["data"] for event, topic in alarms if "/YC03/" in topic and event["data"]["code"] == "breakdown"]
    assert [one["active"] for one in told] == [True, False]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_profile_works(name: str) -> None:
    port = Port(profiles.load(name), 7)
    begin = port.open()
    port.advance(begin + 300)
    seen = {type(fact) for fact in port.truth.take(begin + 300)}
    assert {Move, YardMove, Passage, Trip, Queue} <= seen


def test_chuanshan_has_the_size_of_the_real_one() -> None:
    port = Port(CHUANSHAN, 7)
    assert (len(port.quay_cranes), len(port.yard_cranes), len(port.yard_trucks)) == (48, 150, 356)
    assert (len(port.external_trucks), len(port.gates), len(port.berths)) == (1500, 40, 11)
    port.advance(port.open() + 1800)
    figures = figures_of(port.truth.peek(), WARM_UP_S, port.agenda.now - 300)
    # 20,600 boxes a day are 860 an hour; a move is 1.12 boxes.
    assert 600 < figures["moves_per_hour"][0] < 1000


def test_stress_has_ten_thousand_devices() -> None:
    source = PortMessages(profiles.load("stress"), 7, "CNNGB-DEMO", 1_764_000_000 * NS)
    assert len(source.devices) == 10_000


@pytest.mark.parametrize("noise", ["none", "heavy"])
def test_the_same_seed_is_the_same_bytes_whatever_the_chunks_in_a_large_port(noise: str) -> None:
    def sent(chunk_s: float) -> list[tuple[int, str, bytes]]:
        source = PortMessages(terminal(), 7, "CNNGB-DEMO", 1_764_000_000 * NS, noise=noise)
        chunks = round(30 / chunk_s)
        return [
            (message.due_ns, message.topic, message.payload)
            for _ in range(chunks)
            for message in source.advance(round(chunk_s * NS))
        ]

    whole = sent(30)
    assert sent(0.5) == whole
    assert sent(5) == whole
    packed = [payload for _, topic, payload in whole if b"f32" in payload and "quay-crane" in topic]
    assert len(packed) == pytest.approx(5 * 30, abs=5)


def test_standing_road_trucks_report_seldom() -> None:
    source = PortMessages(terminal(), 7, "CNNGB-DEMO", 1_764_000_000 * NS)
    sent = [message for _ in range(4) for message in source.advance(60 * NS)]
    per_truck = Counter(message.device for message in sent if "/vehicle/XT" in message.topic)
    assert 7 <= min(per_truck.values()) <= 9  # 240 s / 30 s
    assert 20 < max(per_truck.values()) <= 48


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"calls": {"berths": 9}}, ["calls.berths", "9", "quay.cranes = 5"]),
        ({"calls": {"berth": 2}}, ["[calls]", "berth", "allowed", "berths"]),
        ({"stacks": {"import_dwell_h": 2.0}}, ["stacks.import_dwell_h", "2", "import_least_h"]),
        ({"arrivals": {"opening_hour": 168.0}}, ["arrivals.opening_hour", "168", "< 168"]),
        ({"hindrances": {"shift_hours": [25.0]}}, ["hindrances.shift_hours[0]", "25", "< 24"]),
        ({"breakdowns": [{"device": "QC99", "from_s": 0.0, "lasts_s": 1.0}]}, ["breakdowns[0]", "QC99", "QC01"]),
        ({"breakdowns": [{"device": "QC01", "from_s": 0.0, "last_s": 1.0}]}, ["breakdowns[0]", "last_s", "lasts_s"]),
        (
            {"blocked_lanes": [{"device": "GATE-IN-9", "from_s": 0.0, "lasts_s": 1.0}]},
            ["blocked_lanes[0]", "GATE-IN-9"],
        ),
        ({"wire": {"quay_crane": "morse"}}, ["wire.quay_crane", "morse"]),
        ({"storm": {"from_s": -1.0, "rise_s": 1.0, "lasts_s": 1.0, "peak_mps": 20.0}}, ["storm.from_s", "-1", ">= 0"]),
    ],
)
def test_an_impossible_terminal_is_refused_with_key_value_and_what_is_allowed(
    change: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(profiles.ProfileError) as refused:
        terminal(**change)
    for part in named:
        assert part in str(refused.value)

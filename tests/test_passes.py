"""Passes of detectors over late data: however few hours each takes, and whatever comes meanwhile, nothing changes."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from made_frames import T0, frame, topic, values
from test_running_again import HOUR, Store, event_time, lift, received, shift

from devices.times import NS
from ingest import rerunning
from ingest.detection import Plan
from ingest.rerunning import OfDevices, nothing_forgotten, run_again
from store.journal import Frame

Found = tuple[dict[str, Any], dict[Any, Any]]


def day() -> list[Frame]:
    """The shift, and two trucks whose ignition is told now and then."""
    frames, chance = shift(), random.Random(9)
    for truck in ("T1", "T2"):
        second = 30
        for seq in range(40):
            body = values(seq, T0 + second * NS, ignition_on=chance.random() < 0.5, speed_mps=chance.choice([0, 5]))
            frames.append(frame(topic("vehicle", truck), body))
            second += chance.choice([20, 100, 400, 700])
    return sorted(frames, key=event_time)


class Late(Store):
    """A store whose messages come late, some twice; commits and ends happen at any time, and passes go on meanwhile."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.joining = self.passes = 0
        """Plans that were to join on to what is found meanwhile; of how many."""

    def run(self, frames: list[Frame], *, meanwhile: bool) -> Found:
        chance = self.chance
        late = chance.choice([0.05, 0.2, 0.5, 0.9])
        again = [*frames, *chance.choices(frames, k=20)]
        delays = [chance.randrange(4 * HOUR) if chance.random() < late else 1 for _ in again]
        under_way: tuple[list[Plan], int] | None = None
        for each in received(again, [event_time(e) + delay * NS for e, delay in zip(again, delays, strict=True)]):
            self.take([each])
            if chance.random() < 0.1:
                if under_way is None and (plans := self.pipeline.detection.plan(chance.choice([1, 2, 32]))):
                    under_way = plans, len(self.journal)
                    self.passes += len(plans)
                    self.joining += sum(plan.boundary > 0 for plan in plans)
                if under_way is not None and (not meanwhile or chance.random() < 0.2):
                    self.splice(*under_way)
                    under_way = None
            if chance.random() < 0.2:
                self.commit()
                if chance.random() < 0.1:
                    self.start()
                    self.pipeline.tick(each.recv_ts)
                    under_way = None
        self.pipeline.detection.give_up()
        return self.found()

    def splice(self, plans: list[Plan], end: int) -> None:
        """Take over what a pass has found in the journal as it was when the pass began."""
        topics = OfDevices((plan.uid for plan in plans), {})

        def frames(since: int) -> Iterator[Frame]:
            return (each for each in self.journal[:end] if each.recv_ts >= since and each.topic in topics)

        pipeline = self.pipeline
        codecs = pipeline.foreign.feeds.states()
        for outcome in run_again(plans, self.history, frames, nothing_forgotten, pipeline.current_config, codecs):
            pipeline.detection.splice(outcome, f"{end}")


@pytest.fixture(scope="module")
def reference() -> Found:
    store = Store()
    for each in received(day(), [event_time(each) + NS // 2 for each in day()]):
        store.take([each])
    return store.found()


@pytest.mark.parametrize("hours", [1, 2, 64])
def test_a_pass_of_few_hours_leaves_what_reaches_over_their_end(
    hours: int, reference: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerunning, "DEVICE_HOURS", hours)
    for seed in range(5):
        assert Late(seed).run(day(), meanwhile=False) == reference, seed


@pytest.mark.parametrize("hours", [1, 64])
def test_what_comes_while_a_pass_is_under_way_changes_nothing(
    hours: int, reference: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerunning, "DEVICE_HOURS", hours)
    joining = passes = 0
    for seed in range(8):
        store = Late(seed)
        assert store.run(day(), meanwhile=True) == reference, seed
        joining, passes = joining + store.joining, passes + store.passes
    assert passes / 2 < joining < passes


def late_lift(*, newest: bool) -> Late:
    """A crane at work in its fourth hour, of which a lift in its first hour, or in the newest, comes late."""
    store = Late(0)
    told = [*lift("QC01", 100, 0), *lift("QC01", HOUR + 300, 10), *lift("QC01", 3 * HOUR + 300, 20)]
    for each in received(told, [event_time(e) + NS for e in told]):
        store.take([each])
    missing = lift("QC01", (3 if newest else 0) * HOUR + 200, 30)
    store.take([each._replace(recv_ts=T0 + (3 * HOUR + 500) * NS) for each in missing])
    store.pipeline.tick(T0 + (3 * HOUR + 520) * NS)
    return store


@pytest.mark.parametrize("newest", [False, True])
def test_only_where_the_newest_hour_is_concerned_its_moves_wait_for_the_pass(newest: bool) -> None:
    store = late_lift(newest=newest)
    store.pipeline.take_events()
    (plan,) = store.pipeline.detection.plan()
    assert plan.boundary == (0 if newest else T0 + 3 * HOUR * NS)
    end = len(store.journal)
    store.take([each._replace(recv_ts=event_time(each) + NS) for each in lift("QC01", 3 * HOUR + 600, 40)])
    store.pipeline.tick(T0 + (3 * HOUR + 700) * NS)
    assert [event.start_ns for event in store.pipeline.take_events()] == (
        [] if newest else [T0 + (3 * HOUR + 610) * NS]
    )
    store.splice([plan], end)
    store.pipeline.tick(T0 + (3 * HOUR + 701) * NS)
    seconds = {(event.start_ns - T0) // NS for event in store.pipeline.take_events()}
    # Cycle times of what follows change with it, so that also others come anew.
    assert seconds >= ({3 * HOUR + 210, 3 * HOUR + 610} if newest else {210})


def test_passes_that_hold_and_passes_that_do_not_take_turns() -> None:
    store = Store()
    for crane, hour in (("QC01", 3), ("QC02", 0), ("QC03", 0)):
        told = [*lift(crane, 100, 0), *lift(crane, 3 * HOUR + 300, 20)]
        late = lift(crane, hour * HOUR + 200, 30)
        store.take([each._replace(recv_ts=event_time(each) + NS) for each in told])
        store.pipeline.tick(T0 + (3 * HOUR + 400) * NS)
        store.take([each._replace(recv_ts=T0 + (3 * HOUR + 500) * NS) for each in late])
        store.pipeline.tick(T0 + (3 * HOUR + 520) * NS)
    chosen = []
    for _ in range(3):
        chosen.append([plan.uid[-4:] for plan in store.pipeline.detection.plan(1)])
        store.pipeline.detection.give_up()
    assert chosen == [["QC02"], ["QC01"], ["QC02"]]


def test_what_the_journal_has_forgotten_while_it_was_read_takes_nothing_back() -> None:
    store = late_lift(newest=False)
    plans = store.pipeline.detection.plan()
    config = store.pipeline.current_config
    times = iter([0, T0 + HOUR * NS])
    (outcome,) = run_again(plans, {}, lambda _: store.journal[5:], lambda: next(times), config, {})
    assert not outcome.possible

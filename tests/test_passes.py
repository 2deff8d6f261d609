"""Passes of detectors over late data: however few hours each takes, and whatever comes meanwhile, nothing changes."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from made_frames import T0, frame, topic, values
from test_running_again import HOUR, Store, event_time, received, shift

from devices.times import NS
from ingest import rerunning
from ingest.detection import Plan
from ingest.rerunning import OfDevices, run_again
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
        for outcome in run_again(plans, self.history, frames, 0, pipeline.current_config, codecs):
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

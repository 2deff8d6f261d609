"""The pass over the journal that has detectors run again: in a thread, beside ingest, given up when the worker ends."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from made_frames import T0, pipeline_of
from test_running_again import HOUR, lift

from devices.times import NS
from ingest import catching_up
from ingest.catching_up import CatchUp, held_from
from ingest.pipeline import Pipeline
from store.interface import StoreUnreachableError
from store.journal import Frame, JournalConfig, JournalWriter, encode


class Keeper:
    """Hours of findings as a sink keeps them; ``down`` answers as a store that cannot be reached."""

    def __init__(self) -> None:
        self.down = False
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def history(self, worker: str, uid: str) -> dict[int, bytes]:
        assert (worker, uid) == ("w", "CNNGB-DEMO/quay-crane/QC01")
        self.entered.set()
        assert self.go_on.wait(10)
        if self.down:
            raise StoreUnreachableError("the store is down")
        return {}

    def forget_history(self, worker: str, before_ns: int) -> int:
        raise AssertionError((worker, before_ns))


def journalled(folder: Path, frames: list[Frame]) -> list[Frame]:
    """The frames as a journal in ``folder`` holds them."""
    writer = JournalWriter(JournalConfig(folder, segment_bytes=600), lambda: T0)
    held = []
    for each in frames:
        encoded = encode(writer.begin(), each.recv_ts, 1, [(each.topic, each.payload, each.flags)])
        writer.append(encoded.blob, 1)
        held += encoded.frames
    writer.close()
    return held


def late_crane(folder: Path, late_s: int = 50) -> tuple[Pipeline, int]:
    """A pipeline that was told of a lift before the one that came first, and where its journal ends.

    ``late_s``: when that was, s; beyond an hour it is in the same as the other.
    """
    now = T0 + 6_000 * NS
    frames = journalled(
        folder, [each._replace(recv_ts=now) for each in [*lift("QC01", 5_000, 9), *lift("QC01", late_s, 0)]]
    )
    pipeline = pipeline_of()
    for half in (frames[:5], frames[5:]):
        pipeline.process(half)
        pipeline.tick(now + 60 * NS)
    assert [event.type for event in pipeline.take_events()] == ["device_online", "crane_move"]
    return pipeline, frames[-1].offset + 10_000


def running(
    pipeline: Pipeline, folder: Path, keeper: Keeper, end: int
) -> tuple[CatchUp, Callable[[asyncio.Event], Coroutine[Any, Any, None]]]:
    catch_up = CatchUp(pipeline, "w", folder, keeper, lambda: True)
    return catch_up, lambda stop: catch_up.run(stop, asyncio.Lock(), lambda: end)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - state of the loop itself, not of another task
            await asyncio.sleep(0.01)


def test_late_data_is_read_back_from_the_journal_and_found(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(catching_up, "SHORTEST_WAIT_S", 0.01)
    pipeline, end = late_crane(tmp_path)
    catch_up, run = running(pipeline, tmp_path, Keeper(), end)

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run(stop))
        await until(lambda: pipeline.detection.runs_again == 1)
        stop.set()
        await task

    asyncio.run(main())
    catch_up.close()
    (move,) = [event for event in pipeline.take_events() if event.ts_ns < T0 + HOUR * NS]
    assert (move.type, move.ts_ns) == ("crane_move", T0 + 120 * NS)
    assert pipeline.detection.waiting_to_run_again == 0


def test_a_pass_meanwhile_too_much_comes_ends_and_a_device_that_has_it_alone_is_counted(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(catching_up, "SHORTEST_WAIT_S", 0.01)
    monkeypatch.setattr(catching_up, "MOST_HELD", 3)
    pipeline, end = late_crane(tmp_path, 4_000)
    keeper = Keeper()
    keeper.go_on.clear()
    catch_up, run = running(pipeline, tmp_path, keeper, end)

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run(stop))
        await until(keeper.entered.is_set)
        # The device goes on while its detectors are held.
        pipeline.process([each._replace(recv_ts=T0 + 6_100 * NS) for each in lift("QC01", 6_000, 30)])
        pipeline.tick(T0 + 6_200 * NS)
        assert len(pipeline.detection.waiting) > 3
        keeper.go_on.set()
        await until(lambda: pipeline.detection.waiting_to_run_again == 0)
        stop.set()
        await task

    asyncio.run(main())
    catch_up.close()
    assert pipeline.detection.runs_again == 0
    assert pipeline.detection.late_for_detectors > 0
    # It is let go: what came meanwhile is found.
    pipeline.tick(T0 + 6_300 * NS)
    assert [event.ts_ns for event in pipeline.take_events()] == [T0 + 6_070 * NS]
    assert len(pipeline.detection.waiting) == 0


def test_frames_beyond_the_offset_of_the_pass_are_left_to_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(catching_up, "SHORTEST_WAIT_S", 0.01)
    pipeline, _ = late_crane(tmp_path)
    catch_up, run = running(pipeline, tmp_path, Keeper(), 0)

    async def main() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run(stop))
        await until(lambda: pipeline.detection.runs_again >= 1)
        stop.set()
        await task

    asyncio.run(main())
    catch_up.close()
    # It was told that the journal is empty, and found nothing in it.
    assert pipeline.detection.take_retracted() != []


def test_a_store_or_an_end_in_the_way_leaves_the_need_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(catching_up, "SHORTEST_WAIT_S", 0.01)
    pipeline, end = late_crane(tmp_path)
    keeper = Keeper()
    keeper.down = True
    catch_up, run = running(pipeline, tmp_path, keeper, end)
    need = pipeline.detection.need_of(1)

    async def down() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run(stop))
        await until(keeper.entered.is_set)
        await asyncio.sleep(0.1)
        stop.set()
        await task

    asyncio.run(down())
    assert pipeline.detection.need_of(1) == need
    keeper.down = False
    keeper.entered.clear()
    keeper.go_on.clear()

    async def ended() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(run(stop))
        await until(keeper.entered.is_set)
        stop.set()
        await asyncio.sleep(0.05)
        keeper.go_on.set()
        await task

    asyncio.run(ended())
    catch_up.close()
    assert pipeline.detection.need_of(1) == need
    assert pipeline.detection.runs_again == 0


def test_a_journal_holds_everything_until_it_forgets(tmp_path: Path) -> None:
    journalled(tmp_path, lift("QC01", 50, 0))
    assert held_from(tmp_path) == 0
    min(tmp_path.glob("*.qfj")).unlink()
    assert held_from(tmp_path) == T0

"""Which frames have been seen: the tracker against a plain set of numbers."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import dedup, hashes
from analytics.dedup import (
    BOOT_BYTES,
    MAX_BOOTS,
    MAX_FORGOTTEN,
    MAX_INTERVALS,
    BootState,
    DeviceState,
    SequenceTracker,
    Verdict,
)
from analytics.hashes import HASH_BYTES, MAX_HASHES, SHORT_BYTES

frames = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=120)


class Model:
    """The numbers seen, by boot."""

    def __init__(self) -> None:
        self.seen: dict[int, set[int]] = {}

    def see(self, boot: int, seq: int) -> Verdict:
        of_boot = self.seen.setdefault(boot, set())
        if seq in of_boot:
            return Verdict.DUPLICATE
        of_boot.add(seq)
        return Verdict.NEW

    @property
    def lost(self) -> int:
        return sum(max(seqs) - min(seqs) + 1 - len(seqs) for seqs in self.seen.values())


def through_a_checkpoint(tracker: SequenceTracker, blocks: dict[int, bytes] | None = None) -> SequenceTracker:
    """The tracker as the next life has it; ``blocks``: those of earlier checkpoints, which those of this one join."""
    state, changed = tracker.take_state()
    blocks = {} if blocks is None else blocks
    blocks |= changed
    return SequenceTracker(msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=DeviceState), blocks)


@given(frames, st.sets(st.integers(0, 120)))
def test_each_number_is_new_exactly_once_in_any_order(sent: list[tuple[int, int]], restarts: set[int]) -> None:
    tracker, model = SequenceTracker(), Model()
    for nth, (boot, seq) in enumerate(sent):
        assert tracker.see(boot, seq) is model.see(boot, seq)
        assert tracker.lost == model.lost
        if nth in restarts:
            tracker = through_a_checkpoint(tracker)


@given(st.permutations(range(60)), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 61))
def test_nothing_is_lost_once_everything_has_come(order: list[int], boot: int, first: int) -> None:
    tracker = SequenceTracker()
    assert all(tracker.see(boot, first + nth) is Verdict.NEW for nth in order)
    assert tracker.lost == 0
    state = tracker.state().boots[boot]
    assert (state.low, state.high, state.starts, state.ends) == (first, first + 59, [], [])
    assert all(tracker.see(boot, first + nth) is Verdict.DUPLICATE for nth in order)


def test_a_counter_that_begins_anew_tells_what_is_missing_and_nothing_else() -> None:
    tracker = SequenceTracker()

    def lost_after(*numbers: int) -> int:
        nonlocal tracker
        for number in numbers:
            tracker.count(1, number)
            tracker = SequenceTracker(tracker.state())
        return tracker.lost

    assert lost_after(5_000, 5_001, 5_004) == 2
    assert lost_after(5_003) == 1
    assert lost_after(0, 1, 2) == 1
    assert lost_after(4) == 2
    assert lost_after(2**62, 2**62 + 1) == 2
    tracker.see(7, 0)
    tracker.count(2, 9)
    assert tracker.lost == 2


def test_a_counter_that_goes_round_tells_what_is_missing_and_numbers_on() -> None:
    tracker = SequenceTracker()

    def count(number: int | None, *, anew: bool = False, known: bool = False) -> int:
        nonlocal tracker
        tracker = through_a_checkpoint(tracker)
        return tracker.count_round(3, number, 256, anew=anew, known=known)

    assert count(None) == 0
    assert [count(number) for number in (250, 251, 255, 1, 0)] == [250, 251, 255, 257, 256]
    assert tracker.lost == 3
    # Late, repeated, before the first one heard; a number that cannot be read is the next.
    assert [count(number) for number in (252, 252, 249, None)] == [252, 252, 249, 258]
    assert tracker.lost == 2
    # A step back where the device may have begun anew, then none.
    fresh = count(0, anew=True)
    assert fresh > 258
    assert fresh % 256 == 0
    assert [count(number) - fresh for number in (1, 3, None, 1)] == [1, 3, 4, 1]
    assert tracker.lost == 3
    tracker.see(7, 0)
    assert (count(5) - fresh, tracker.lost) == (5, 3)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=60))
def test_a_counter_that_goes_round_tells_exactly_what_was_left_out(steps: list[tuple[int, bool, bool]]) -> None:
    tracker, number, lost = SequenceTracker(), 65_400, 0
    tracker.count_round(0, number, 65_536)
    for left_out, starts, again in steps:
        if starts and number % 65_536 > 1:
            number = (number // 65_536 + 2) * 65_536
            tracker.count_round(0, 0, 65_536, anew=True)
        number, lost = number + left_out + 1, lost + left_out
        for _ in range(1 + again):
            tracker.count_round(0, number % 65_536, 65_536)
        assert tracker.lost == lost


def test_a_number_is_recognised_at_any_distance() -> None:
    tracker = SequenceTracker()
    for seq in (0, 10**6, 10**12, 2**63 - 1):
        assert tracker.see(1, seq) is Verdict.NEW
    assert tracker.see(1, 5) is Verdict.NEW
    assert tracker.see(1, 0) is Verdict.DUPLICATE
    assert tracker.see(1, 10**6) is Verdict.DUPLICATE
    assert tracker.lost == 2**63 - 5


def test_a_reboot_counts_from_zero_again() -> None:
    tracker = SequenceTracker()
    assert [tracker.see(1, seq) for seq in (0, 1, 2)] == [Verdict.NEW] * 3
    assert [tracker.see(2, seq) for seq in (0, 1, 1)] == [Verdict.NEW, Verdict.NEW, Verdict.DUPLICATE]
    # Counting from zero under the same boot is a repetition.
    assert tracker.see(1, 0) is Verdict.DUPLICATE
    assert tracker.see(1, 3) is Verdict.NEW
    assert tracker.lost == 0


def test_beyond_the_intervals_remembered_old_numbers_are_too_old_and_never_new_twice() -> None:
    tracker, count = SequenceTracker(), MAX_INTERVALS + 100
    for nth in range(count + 1):
        assert tracker.see(1, 2 * nth) is Verdict.NEW
    assert tracker.lost == count
    # The 100 oldest gaps are given up: what lay below their end cannot be told apart any more.
    assert [tracker.see(1, seq) for seq in (0, 1, 198, 199)] == [Verdict.TOO_OLD] * 4
    assert tracker.see(1, 200) is Verdict.DUPLICATE
    assert tracker.see(1, 201) is Verdict.NEW
    assert tracker.lost == count - 1
    again = through_a_checkpoint(tracker)
    assert again.lost == count - 1
    assert [again.see(1, seq) for seq in (1, 200, 201, 203)] == [
        Verdict.TOO_OLD,
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.NEW,
    ]


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 3))
def test_few_intervals_never_make_a_number_new_twice(sent: list[int], intervals: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "MAX_INTERVALS", intervals)
        tracker, model = SequenceTracker(), Model()
        refused = set()
        for seq in sent:
            verdict = tracker.see(1, seq)
            if verdict is Verdict.TOO_OLD:
                refused.add(seq)
            elif verdict is Verdict.DUPLICATE:
                assert seq in model.seen[1]
            else:
                assert model.see(1, seq) is Verdict.NEW
            assert len(tracker.state().boots[1].starts) <= intervals
        if model.seen:
            # A number refused as too old never counts as arrived.
            assert tracker.lost == model.lost
        assert refused <= set(sent)


def test_a_device_that_restarts_for_ever_costs_bounded_memory_and_no_count() -> None:
    tracker = SequenceTracker()
    for boot in range(3 * MAX_BOOTS):
        tracker.see(boot, 0)
        tracker.see(boot, 2)
    assert len(tracker.state().boots) == MAX_BOOTS
    assert tracker.lost == 3 * MAX_BOOTS
    assert through_a_checkpoint(tracker).lost == 3 * MAX_BOOTS


def test_the_boots_forgotten_first_are_those_not_heard_for_longest() -> None:
    tracker = SequenceTracker()
    for boot in range(MAX_BOOTS):
        tracker.see(boot, 0)
    assert tracker.see(0, 0) is Verdict.DUPLICATE
    tracker = through_a_checkpoint(tracker)
    tracker.see(MAX_BOOTS, 0)
    boots = tracker.state().boots
    assert 0 in boots
    assert 1 not in boots


def test_what_comes_of_a_forgotten_boot_is_too_old_and_never_new_again() -> None:
    tracker, boots = SequenceTracker(), 3 * MAX_BOOTS
    for boot in range(boots):
        assert [tracker.see(boot, seq) for seq in (0, 2)] == [Verdict.NEW] * 2
    for _ in range(2):
        for boot in range(boots - MAX_BOOTS):
            assert [tracker.see(boot, seq) for seq in range(4)] == [Verdict.TOO_OLD] * 4
        for boot in range(boots - MAX_BOOTS, boots):
            assert tracker.see(boot, 0) is Verdict.DUPLICATE
        tracker = through_a_checkpoint(tracker)
    # It changes nothing of what is known, nor of what is lost.
    assert len(tracker.state().boots) == MAX_BOOTS
    assert tracker.lost == boots


def test_what_is_known_of_forgotten_boots_takes_bounded_memory() -> None:
    tracker, boots = SequenceTracker(), MAX_BOOTS + MAX_FORGOTTEN + 10
    for boot in range(boots):
        tracker.see(boot, 0)
    assert len(tracker.state().forgotten) == MAX_FORGOTTEN * BOOT_BYTES
    assert tracker.see(10, 0) is Verdict.TOO_OLD
    assert tracker.see(2**64 - 1, 0) is Verdict.NEW


def test_a_checkpoint_of_before_forgotten_boots_were_kept_is_read() -> None:
    tracker = SequenceTracker()
    tracker.see(7, 0)
    *before, _ = msgspec.msgpack.decode(msgspec.msgpack.encode(tracker.state()))
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(before), type=DeviceState)
    assert SequenceTracker(state).see(7, 0) is Verdict.DUPLICATE


def test_a_frame_without_sequence_is_recognised_by_its_hash() -> None:
    tracker = SequenceTracker()
    digests = [nth.to_bytes(12, "big") for nth in range(MAX_HASHES + 1)]
    assert all(tracker.see_hash(digest) is Verdict.NEW for digest in digests[:-1])
    assert tracker.see_hash(digests[0]) is Verdict.DUPLICATE
    # The two oldest are forgotten, and the first has just been heard again.
    assert tracker.see_hash(digests[-1]) is Verdict.NEW
    tracker = through_a_checkpoint(tracker)
    assert tracker.see_hash(digests[0]) is Verdict.DUPLICATE
    assert tracker.see_hash(digests[2]) is Verdict.DUPLICATE
    assert tracker.see_hash(digests[1]) is Verdict.NEW
    assert [len(each) for each in tracker.state().hashes] == [MAX_HASHES * SHORT_BYTES]


@contextmanager
def small_blocks(per_block: int) -> Iterator[int]:
    """As if so few hashes were kept together; yields how many are remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "PER_BLOCK", per_block)
        patch.setattr(hashes, "MAX_HASHES", 4 * per_block)
        patch.setattr(hashes, "SLOTS", 6)
        yield 4 * per_block


@given(st.lists(st.integers(0, 9) | st.just("checkpoint") | st.just("many"), max_size=60), st.integers(1, 5))
def test_hashes_kept_in_blocks_are_those_that_were_seen(steps: list[int | str], per_block: int) -> None:
    with small_blocks(per_block):
        tracker, whole, fresh = SequenceTracker(), SequenceTracker(), 100
        blocks: dict[int, bytes] = {}
        for step in steps:
            if step == "checkpoint":
                state, changed = tracker.take_state()
                blocks |= changed
                assert len(state.hashes) <= 1
                assert all(len(each) < per_block * HASH_BYTES for each in state.hashes)
                tracker = SequenceTracker(state, blocks)
                continue
            for number in range(fresh, fresh + per_block) if step == "many" else [int(step)]:
                digest = number.to_bytes(12, "big")
                assert tracker.see_hash(digest) is whole.see_hash(digest)
            fresh += per_block
        assert tracker.state() == whole.state()


said_when = st.tuples(st.integers(0, 60), st.sampled_from(["when it was", "late", "without a time"]))


@given(st.lists(said_when | st.just("checkpoint") | st.just("a life"), max_size=200), st.integers(1, 5))
def test_what_comes_again_is_recognised_and_what_does_not_is_new(steps: list[tuple[int, str] | str], per: int) -> None:
    """Against all that was ever said: within the horizon what was said before is recognised, and nothing else ever."""
    with small_blocks(per) as remembered:
        tracker, blocks, now = SequenceTracker(), dict[int, bytes](), 1_000
        last: dict[tuple[int, int | None], int] = {}
        for step in steps:
            if step == "checkpoint":
                blocks |= tracker.take_state()[1]
            elif isinstance(step, str):
                tracker = through_a_checkpoint(tracker, blocks)
            else:
                back, when = step
                now += back == 0
                at = None if when == "without a time" else now - back * (when == "late")
                said = back % 3, at
                verdict = tracker.see_hash(hash_of(*said), at)
                come_since = sum(each > last.get(said, 0) for each in last.values())
                if said not in last:
                    assert verdict is Verdict.NEW
                elif come_since < remembered // 2:
                    assert verdict is Verdict.DUPLICATE
                last[said] = max(last.values(), default=0) + 1


def hash_of(what: int, at: int | None) -> bytes:
    return blake2b(repr((what, at)).encode(), digest_size=12).digest()


def test_a_frame_is_recognised_among_the_last_thousand_however_its_device_s_time_goes() -> None:
    for step in (1, 0, -1):
        tracker, blocks = SequenceTracker(), dict[int, bytes]()
        frames = [(hash_of(nth, 10**6 + step * nth), 10**6 + step * nth) for nth in range(5_000)]
        for nth, frame in enumerate(frames):
            assert tracker.see_hash(*frame) is Verdict.NEW
            if nth % 100 == 0:
                blocks |= tracker.take_state()[1]
            # At once, and as late as the horizon allows.
            assert tracker.see_hash(*frame) is Verdict.DUPLICATE
            if nth % 1_013 == 0 and nth >= MAX_HASHES:
                assert tracker.see_hash(*frames[nth - MAX_HASHES + 2]) is Verdict.DUPLICATE
        kept = tracker.state().hashes[0]
        assert len(kept) == MAX_HASHES * SHORT_BYTES


def test_what_has_rested_in_a_checkpoint_takes_six_bytes() -> None:
    trackers, devices = list[SequenceTracker](), 20
    tracemalloc.start()
    try:
        for _ in range(devices):
            trackers.append(SequenceTracker())
            for nth in range(2 * MAX_HASHES):
                trackers[-1].see_hash(hash_of(nth, nth), nth)
                if nth % 64 == 0:
                    trackers[-1].take_state()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / devices < MAX_HASHES * SHORT_BYTES + 2_000


def test_a_time_that_no_checkpoint_has_room_for_is_none_to_go_by() -> None:
    tracker, beyond = SequenceTracker(), 2**70
    for verdict in (Verdict.NEW, Verdict.DUPLICATE):
        assert [tracker.see_hash(hash_of(0, at), at) for at in (5, beyond, -beyond, 7)] == [verdict] * 4
    assert through_a_checkpoint(tracker).see_hash(hash_of(0, beyond), beyond) is Verdict.DUPLICATE


def test_a_frame_has_the_newest_hashes_written_again_and_not_all() -> None:
    tracker = SequenceTracker()
    for nth in range(2 * MAX_HASHES):
        tracker.see_hash(nth.to_bytes(12, "big"))
    _, blocks = tracker.take_state()
    assert len(blocks) == MAX_HASHES // hashes.PER_BLOCK
    tracker.see_hash(b"another one.")
    state, blocks = tracker.take_state()
    assert (len(state.hashes[0]), blocks) == (HASH_BYTES, {})


def test_hashes_of_a_checkpoint_of_before_are_recognised() -> None:
    digests = [nth.to_bytes(12, "big") for nth in range(20)]
    tracker = SequenceTracker(DeviceState({}, digests))
    # Which of them was from the latest time, such a checkpoint does not say.
    assert tracker.see_hash((20).to_bytes(12, "big"), 5) is Verdict.NEW
    assert all(tracker.see_hash(digest, 1_000) is Verdict.DUPLICATE for digest in digests)
    tracker = through_a_checkpoint(tracker)
    assert all(tracker.see_hash(digest, 2_000 + nth) is Verdict.DUPLICATE for nth, digest in enumerate(digests))


class EarlierState(msgspec.Struct, array_like=True):
    """A device's memory as an earlier release reads it."""

    boots: dict[int, BootState]
    hashes: list[bytes]
    lost_before: int = 0
    forgotten: bytes = b""
    first_hash: int = 0
    hashes_in_blocks: int = 0


@pytest.mark.parametrize("frames", [7, 200, 1_100, 1_152, 3_000])
def test_an_earlier_release_finds_all_hashes_whole_and_is_read_in_turn(frames: int) -> None:
    tracker, blocks, digests = SequenceTracker(), dict[int, bytes](), [hash_of(nth, nth) for nth in range(frames)]
    for nth, digest in enumerate(digests):
        tracker.see_hash(digest, nth)
        if nth % 60 == 0:
            blocks |= tracker.take_state()[1]
    state, changed = tracker.take_state()
    blocks |= changed
    earlier = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=EarlierState)
    whole, first, end = b"", earlier.first_hash, earlier.first_hash + earlier.hashes_in_blocks
    for nth in range(first // hashes.PER_BLOCK, end // hashes.PER_BLOCK):
        live = (nth + 1) * hashes.PER_BLOCK - max(nth * hashes.PER_BLOCK, first)
        whole += blocks[nth % hashes.SLOTS][-live * HASH_BYTES :]
    whole += b"".join(earlier.hashes)
    assert whole == b"".join(digest[-HASH_BYTES:] for digest in digests[-MAX_HASHES:])
    again = SequenceTracker(msgspec.msgpack.decode(msgspec.msgpack.encode(earlier), type=DeviceState), blocks)
    assert again.state().hashes == tracker.state().hashes
    assert again.see_hash(digests[-1], frames + 9) is Verdict.DUPLICATE


def test_a_hash_across_two_others_is_none_of_them() -> None:
    tracker = SequenceTracker()
    for digest in (b"abcdefgh", b"ijklmnop"):
        tracker.see_hash(digest)
    assert tracker.see_hash(b"efghijkl") is Verdict.NEW
    assert tracker.see_hash(b"ijklmnop") is Verdict.DUPLICATE

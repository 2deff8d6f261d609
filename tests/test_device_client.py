"""The device client: what it keeps, when it lets go, when it sends again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.dedup import SequenceTracker
from devices import acks, commands
from devices.acks import MAX_MISSING, BootMark
from devices.client import ClientConfig, Ring, RingError
from devices.client.command_desk import CommandDesk
from devices.client.command_log import REMEMBERED, CommandLog
from devices.client.outbox import LONGEST_RESEND, Outbox
from devices.codecs import native
from devices.scalars import Scalar
from devices.topics import DeviceKey
from devices.vocabulary import DeviceClass
from ingest.acknowledging import BOOTS, Acknowledger, marks_of
from ingest.directory import Directory

NOW = 1_795_421_730_000_000_000
QC09 = DeviceKey("CNNGB-DEMO", "quay-crane", "QC09")


class Elapsed:
    """A clock in seconds that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def config(folder: Path, **settings: Any) -> ClientConfig:
    return ClientConfig(site=QC09.site, device_class=DeviceClass.QUAY_CRANE, device="QC09", folder=folder, **settings)


def outbox_in(folder: Path, elapsed: Elapsed | None = None, **settings: Any) -> Outbox:
    return Outbox(config(folder, **settings), lambda: NOW, elapsed or Elapsed())


def sequences(outbox: Outbox, limit: int = 100) -> list[int | None]:
    return [native.decode_telemetry(entry.payload).seq for entry in outbox.take(limit)]


def told(outbox: Outbox, low: int, high: int, *missing: tuple[int, int]) -> bytes:
    return acks.encode((BootMark(outbox.boot, low, high, missing),))


# --- acknowledgements ---------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 300), min_size=1, max_size=200))
def test_what_is_told_to_be_durable_is_exactly_what_was_seen(numbers: list[int]) -> None:
    tracker = SequenceTracker()
    for seq in numbers:
        tracker.see(7, seq)
    (mark,) = acks.decode(acks.encode(tuple(marks_of(tracker))))
    durable = {seq for first, last in mark.durable() for seq in range(first, last + 1)}
    assert durable <= set(numbers)
    if len(mark.missing) < MAX_MISSING:
        assert durable == set(numbers)


def test_more_gaps_than_can_be_told_hide_only_what_lies_beyond_them() -> None:
    tracker = SequenceTracker()
    for seq in range(0, 4 * MAX_MISSING, 2):
        tracker.see(7, seq)
    (mark,) = marks_of(tracker)
    assert len(mark.missing) == MAX_MISSING
    assert [first for first, _ in mark.durable()] == list(range(0, 2 * MAX_MISSING + 1, 2))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"\xff", b'{"v":2,"boots":[]}', b'{"v":1,"boots":[{"boot":-1,"low":0,"high":0}]}', b"[" * 9_000],
)
def test_what_is_no_acknowledgement_is_said_to_be_none(payload: bytes) -> None:
    with pytest.raises(ValueError, match="acknowledgement"):
        acks.decode(payload)


def test_only_devices_that_ask_and_have_been_heard_are_told() -> None:
    directory, teller = Directory(10, 10), Acknowledger()
    asks, silent = directory.device(QC09), directory.device(QC09._replace(device="QC10"))
    asks.info = {"acks": True}
    assert teller.collect(directory.devices) == []
    for device in (asks, silent):
        device.frames = 1
        device.tracker.see(5, 0)
    (found,) = teller.collect(directory.devices)
    assert found.topic == "quayflow/CNNGB-DEMO/acks/quay-crane/QC09"
    assert acks.decode(found.payload) == (BootMark(5, 0, 0),)
    assert teller.collect(directory.devices) == []
    asks.frames, _ = 2, asks.tracker.see(6, 0)
    (found,) = teller.collect(directory.devices)
    assert acks.decode(found.payload) == (BootMark(5, 0, 0), BootMark(6, 0, 0))


def test_every_device_is_told_in_turn() -> None:
    directory, teller = Directory(100, 10), Acknowledger()
    for number in range(25):
        device = directory.device(QC09._replace(device=f"QC{number}"))
        device.info, device.frames = {"acks": True}, 1
        device.tracker.see(1, 0)
    rounds = [teller.collect(directory.devices, 10) for _ in range(4)]
    assert [len(each) for each in rounds] == [10, 10, 5, 0]
    assert len({each.topic for part in rounds for each in part}) == 25


def test_the_newest_boots_are_told() -> None:
    tracker = SequenceTracker()
    for boot in range(9):
        tracker.see(boot, 3)
    assert [mark.boot for mark in marks_of(tracker)] == list(range(9 - BOOTS, 9))


# --- the ring ---------------------------------------------------------------------------------------------------------


def filled(folder: Path, count: int = 5, **settings: Any) -> Ring:
    ring = Ring(folder, settings.pop("max_bytes", 1_000), **settings)
    for seq in range(count):
        ring.append(1, seq, "topic", b"x" * 10)
    return ring


def test_the_ring_holds_what_was_published_until_it_is_acknowledged(tmp_path: Path) -> None:
    ring = filled(tmp_path)
    assert (len(ring), ring.kept_bytes) == (5, 50)
    assert ring.acknowledge([BootMark(1, 1, 4, ((2, 4),)), BootMark(2, 0, 100)]) == 2
    ring.close()
    again = Ring(tmp_path, 1_000)
    assert [entry.id for entry in again.after(0, 10)] == [1, 3, 4]
    assert (len(again), again.kept_bytes, again.oldest()) == (3, 30, 1)
    again.close()


def test_a_full_ring_drops_the_oldest_and_counts_it_over_restarts(tmp_path: Path) -> None:
    ring = filled(tmp_path, 7, max_bytes=45)
    assert (len(ring), ring.dropped, ring.oldest()) == (4, 3, 4)
    ring.close()
    again = Ring(tmp_path, 45)
    again.append(1, 7, "topic", b"x" * 45)
    assert (len(again), again.dropped) == (1, 7)
    with pytest.raises(RingError, match="does not fit"):
        again.append(1, 8, "topic", b"x" * 46)
    again.close()


def test_two_clients_do_not_share_a_ring(tmp_path: Path) -> None:
    ring = filled(tmp_path, power_safe=True)
    with pytest.raises(RingError, match="another client is using it"):
        Ring(tmp_path, 1_000)
    ring.close()


def test_a_ring_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "ring.db").write_bytes(b"no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(RingError, match="not a database"):
        Ring(tmp_path, 1_000)


def test_a_number_given_twice_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    ring = filled(tmp_path)
    with pytest.raises(RingError, match="cannot be written"):
        ring.append(1, 0, "topic", b"y")
    assert (len(ring), ring.kept_bytes) == (5, 50)
    ring.append(1, 5, "topic", b"y")
    assert len(ring) == 6
    ring.close()


# --- what is sent, and when ---------------------------------------------------------------------------------------


def test_messages_are_numbered_from_0_under_a_boot_of_their_own(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path)
    outbox.telemetry({"load_t": 24.6}, None)
    outbox.event("spreader_fault", {"code": 17}, NOW - 5)
    first, second = outbox.take(10)
    assert native.decode_telemetry(first.payload) == native.Telemetry(1, {"load_t": 24.6}, outbox.boot, 0, NOW)
    assert native.decode_event(second.payload) == native.Event(
        1, "spreader_fault", {"code": 17}, outbox.boot, 1, NOW - 5
    )
    assert [first.topic, second.topic] == [
        "port/CNNGB-DEMO/quay-crane/QC09/telemetry",
        "port/CNNGB-DEMO/quay-crane/QC09/event",
    ]
    outbox.close()
    assert outbox_in(tmp_path).boot != outbox.boot


def test_what_ingest_would_refuse_is_refused_at_once_and_takes_no_number(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path)
    refusals: list[Any] = [{}, {"load_t": "24"}, {f"m{n}": 1.0 for n in range(1_025)}]
    for values in refusals:
        with pytest.raises(ValueError, match=r"values|/m"):
            outbox.telemetry(values, None)
    with pytest.raises(ValueError, match="/type"):
        outbox.event("a/b", {}, None)
    assert outbox.telemetry({"load_t": 1}, None) == 0


def test_no_more_than_the_window_is_outstanding(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path, window=10)
    for _ in range(25):
        outbox.telemetry({"load_t": 1}, None)
    assert sequences(outbox, 6) == [0, 1, 2, 3, 4, 5]
    assert sequences(outbox) == [6, 7, 8, 9]
    assert sequences(outbox) == []
    assert outbox.acknowledge(told(outbox, 0, 4)) == 5
    assert sequences(outbox) == [10, 11, 12, 13, 14]


def test_a_new_connection_begins_with_the_oldest_that_is_not_acknowledged(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path)
    for _ in range(5):
        outbox.telemetry({"load_t": 1}, None)
    assert len(sequences(outbox)) == 5
    outbox.acknowledge(told(outbox, 0, 1))
    outbox.connected()
    assert sequences(outbox) == [2, 3, 4]


def test_what_stays_without_a_word_is_sent_again_ever_more_rarely(tmp_path: Path) -> None:
    elapsed = Elapsed()
    outbox = outbox_in(tmp_path, elapsed, resend_s=10)
    for _ in range(3):
        outbox.telemetry({"load_t": 1}, None)
    sent_at = []
    for second in range(400):
        elapsed.seconds = second
        if sequences(outbox):
            sent_at.append(second)
    waits = [later - earlier for earlier, later in pairwise(sent_at)]
    assert waits[:4] == [11, 21, 41, 81]
    assert max(waits) == 10 * LONGEST_RESEND + 1
    assert outbox.resent == 3 * len(waits)


def test_a_hole_among_acknowledged_messages_is_filled(tmp_path: Path) -> None:
    elapsed = Elapsed()
    outbox = outbox_in(tmp_path, elapsed, resend_s=10)
    for number in range(60):
        elapsed.seconds = number
        outbox.telemetry({"load_t": 1}, None)
        found = sequences(outbox)
        # Everything is acknowledged at once but for number 5, however much comes after it.
        if 5 in found and number > 5:
            assert number == 16
            outbox.acknowledge(told(outbox, 0, number))
            break
        outbox.acknowledge(told(outbox, 0, number, *([(5, 6)] if number >= 5 else [])))
    assert len(outbox.ring) == 0


def test_messages_of_an_earlier_start_are_sent_first_and_under_their_own_boot(tmp_path: Path) -> None:
    before = outbox_in(tmp_path)
    before.telemetry({"load_t": 1}, None)
    before.close()
    outbox = outbox_in(tmp_path)
    outbox.telemetry({"load_t": 2}, None)
    first, second = (native.decode_telemetry(entry.payload) for entry in outbox.take(10))
    assert (first.boot, first.seq, second.boot, second.seq) == (before.boot, 0, outbox.boot, 0)
    assert outbox.acknowledge(told(before, 0, 0)) == 1
    assert len(outbox.ring) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": ""}, "host"),
        ({"port": 0}, "port 0"),
        ({"password": "x"}, "username"),
        ({"window": 0}, "window 0"),
        ({"resend_s": float("nan")}, "resend_s nan"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **settings)


@pytest.mark.parametrize(
    ("field", "value"), [("site", "Ningbo"), ("device_class", "crane"), ("device", "a/b"), ("device", "")]
)
def test_an_identity_that_is_none_is_refused(tmp_path: Path, field: str, value: str) -> None:
    given: dict[str, Any] = {"site": "CNNGB-DEMO", "device_class": "quay-crane", "device": "QC09"} | {field: value}
    with pytest.raises(ValueError, match=field):
        ClientConfig(folder=tmp_path, **given)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_is_done_once_however_often_it_comes() -> None:
    done: list[str] = []

    def act(command: commands.Command) -> dict[str, Scalar]:
        done.append(command.name)
        if command.name == "explode":
            raise RuntimeError("not today")
        return {"was": command.args.get("to")}

    desk = CommandDesk(act)
    payload = commands.encode(commands.Command(1, "c1", "set_rate", {"to": 5}))
    answers = {desk.handle(payload) for _ in range(3)}
    assert done == ["set_rate"]
    (answer,) = answers
    assert answer is not None
    assert commands.decode_answer(answer) == commands.CommandAnswer(1, "c1", ok=True, data={"was": 5})
    failed = desk.handle(commands.encode(commands.Command(1, "c2", "explode")))
    assert failed is not None
    assert commands.decode_answer(failed).detail == "RuntimeError: not today"
    for number in range(REMEMBERED):
        desk.handle(commands.encode(commands.Command(1, f"n{number}", "tick")))
    desk.handle(payload)
    assert done.count("set_rate") == 2


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"v":1,"id":"","name":"x"}', b'{"v":9,"id":"a","name":"x"}'])
def test_what_is_no_command_is_not_answered(payload: bytes) -> None:
    assert CommandDesk(None).handle(payload) is None


def test_a_device_without_commands_says_so() -> None:
    answer = CommandDesk(None).handle(commands.encode(commands.Command(1, "c", "stop")))
    assert answer is not None
    assert commands.decode_answer(answer).ok is False


def answer_of(desk: CommandDesk, command: commands.Command, *, retained: bool = False) -> commands.CommandAnswer:
    answer = desk.handle(commands.encode(command), retained=retained)
    assert answer is not None
    return commands.decode_answer(answer)


def test_a_command_is_not_done_again_after_a_restart_and_answered_as_before(tmp_path: Path) -> None:
    done: list[str] = []
    command = commands.Command(1, "c1", "open_barrier", expires="2026-11-24T00:00:00Z")
    answers = []
    for _ in range(3):
        desk = CommandDesk(lambda each: done.append(each.id), tmp_path, lambda: NOW)
        answers.append(answer_of(desk, command))
        desk.close()
    assert (done, [answer.ok for answer in answers]) == (["c1"], [True] * 3)


def test_of_a_command_that_a_restart_cut_off_it_is_said_that_nobody_knows(tmp_path: Path) -> None:
    command = commands.Command(1, "c1", "lift")
    done: list[commands.Command] = []
    log = CommandLog(tmp_path)
    log.begin("c1", command.asked, None, NOW)
    log.close()
    found = answer_of(CommandDesk(done.append, tmp_path, lambda: NOW), command)
    assert (found.ok, found.detail, done) == (
        False,
        "it was begun before a restart; whether it was done is not known",
        [],
    )


@pytest.mark.parametrize(
    ("command", "retained", "why"),
    [
        (commands.Command(1, "c", "stop", expires="2026-11-23T08:00:00Z"), False, "it expired at"),
        (commands.Command(1, "c", "stop"), True, "a retained command"),
    ],
)
def test_a_command_that_is_too_old_or_of_any_age_is_refused_with_a_reason(
    command: commands.Command, retained: bool, why: str
) -> None:
    done: list[commands.Command] = []
    found = answer_of(CommandDesk(done.append, now=lambda: NOW), command, retained=retained)
    assert (found.ok, found.detail[: len(why)], done) == (False, why, [])


def test_an_id_that_was_another_command_s_is_refused() -> None:
    desk = CommandDesk(lambda _: None)
    assert answer_of(desk, commands.Command(1, "c", "set_rate", {"hz": 5})).ok
    assert answer_of(desk, commands.Command(1, "c", "set_rate", {"hz": 6})).detail.startswith("this id was that of")


def test_a_command_is_not_forgotten_as_long_as_it_could_still_be_begun() -> None:
    done: list[str] = []
    desk = CommandDesk(lambda each: done.append(each.name), now=lambda: NOW)
    lasting = commands.Command(1, "c", "lasting", expires="2027-01-01T00:00:00Z")
    desk.handle(commands.encode(lasting))
    for number in range(REMEMBERED + 1):
        desk.handle(commands.encode(commands.Command(1, f"n{number}", "tick")))
    desk.handle(commands.encode(lasting))
    assert done.count("lasting") == 1


def test_what_cannot_be_noted_is_not_done(tmp_path: Path) -> None:
    done: list[commands.Command] = []
    desk = CommandDesk(done.append, tmp_path, lambda: NOW)
    desk.close()
    found = answer_of(desk, commands.Command(1, "c", "stop"))
    assert (found.ok, done) == (False, [])
    assert "cannot be noted" in found.detail


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_however_commands_come_and_devices_restart_each_is_done_at_most_once(steps: list[tuple[int, bool]]) -> None:
    done: list[str] = []
    log = CommandLog(None)

    def desk() -> CommandDesk:
        made = CommandDesk(lambda each: done.append(each.id), now=lambda: NOW)
        made._log = log  # noqa: SLF001 - what is on the disk outlives the process
        return made

    here = desk()
    for number, restarts in steps:
        here = desk() if restarts else here
        assert answer_of(here, commands.Command(1, f"c{number}", "tick")).ok
    assert sorted(done) == sorted({f"c{number}" for number, _ in steps})

"""JT/T 808 serials: every message that a terminal sends has one, so those that never came are counted, exactly."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_frames import SITE, T0, accounts, assert_every_frame_is_booked, cut, frame, numbered, pipeline_of, topic
from made_instance import Instance
from typer.testing import CliRunner

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808_frames import (
    AUTHENTICATE,
    BATCH,
    HEARTBEAT,
    LOCATION,
    REGISTER,
    REPLY,
    frame_of,
    frames_of,
)
from devices.times import NS
from ingest.checkpoint import WorkerBlob, freeze, thaw
from ingest.pipeline import Pipeline
from quayflow.main import app
from store.journal import Frame, read

PHONE = "13812345678"
UID = f"{SITE}/vehicle/{PHONE}"
TOPIC = topic("vehicle", PHONE, "jt808")


def said(serial: int, kind: int = HEARTBEAT, body: bytes = b"", second: int = 0) -> Frame:
    return frame(TOPIC, frame_of(kind, PHONE, serial, body), recv_ts=T0 + second * NS)


def located(serial: int, second: int) -> Frame:
    return said(serial, LOCATION, bodies.location(T0 + second * NS, 29.93, 121.85, speed_mps=5), second)


def signed_on(serial: int) -> Frame:
    return said(serial, AUTHENTICATE, b"code")


def spoilt(whole: Frame, at: int) -> Frame:
    payload = bytearray(whole.payload)
    payload[at] ^= 1
    return whole._replace(payload=bytes(payload))


def heard(frames: Sequence[Frame], pipeline: Pipeline | None = None) -> Pipeline:
    pipeline = pipeline or pipeline_of()
    pipeline.process(numbered(frames))
    assert pipeline.ledger.balanced()
    return pipeline


def booked(pipeline: Pipeline, account: str = "lost_before_journal") -> int:
    return sum(frames for (uid, name, _), (frames, _) in accounts(pipeline).items() if (uid, name) == (UID, account))


def test_what_a_terminal_s_serials_leave_out_is_lost_whatever_kind_of_message_comes() -> None:
    registered = said(0, REGISTER, bodies.registration("浙B12345"))
    kinds = [registered, signed_on(1), located(2, 1), said(3), said(4, 0x0001, bytes(5)), said(5, 0x0900, b"\x41x")]
    assert booked(heard(kinds)) == 0
    assert booked(heard([*kinds, said(8), located(9, 2), located(11, 3)])) == 3
    batch = said(7, BATCH, bodies.batch([bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(9)], late=True))
    assert booked(heard([*kinds, batch, said(8)])) == 1


def test_serials_go_round_at_65536() -> None:
    assert (
        booked(heard([signed_on(65_530), *(said(serial) for serial in range(65_531, 65_536)), said(0), said(1)])) == 0
    )
    around = [located(serial & 0xFFFF, second) for second, serial in enumerate(range(65_500, 65_600, 2))]
    assert booked(heard([signed_on(65_499), *around])) == 49


@pytest.mark.parametrize("first", [0, 1, 480, 3_000])
def test_a_terminal_that_begins_anew_has_lost_nothing_by_that(first: int) -> None:
    before = [signed_on(490), *(located(serial, serial) for serial in range(491, 500))]
    after = [signed_on(first), *(located(first + 1 + nth, 900 + nth) for nth in range(20))]
    assert booked(heard([*before, *after])) == 0
    del after[7:9]
    assert booked(heard([*before, *after])) == 2


def test_what_is_lost_after_a_start_that_nothing_tells_of_is_not_counted_and_nothing_else_is_wrong() -> None:
    # Documented in docs/gateway.md: without a sign-on, the first 500 serials of the second life may be late ones.
    first = [located(n, n) for n in range(500) if n != 9]
    again = [located(n, 1_000 + n) for n in range(700) if n not in {5, 6, 600, 601}]
    for sign_on, lost in (([], 2), ([signed_on(0)], 1 + 4)):
        second = again[1:] if sign_on else again
        pipeline = heard([*first, *sign_on, *second])
        assert booked(pipeline) == lost
        assert booked(pipeline, "duplicate") == 0
        assert booked(pipeline, "received") == 499 + 696


def test_what_got_lost_between_two_connections_is_counted_where_the_serials_go_on() -> None:
    assert booked(heard([signed_on(490), located(491, 1), signed_on(495), located(496, 2)])) == 3


def test_what_is_sent_again_is_neither_lost_nor_stored_twice() -> None:
    pipeline = heard([signed_on(1), located(2, 1), said(3), said(5), located(2, 1), said(3)])
    assert (booked(pipeline), booked(pipeline, "duplicate")) == (1, 2)
    # The one that was missing comes late, and a location again under a number of its own.
    heard([said(4), located(6, 1), said(7)], pipeline)
    assert (booked(pipeline), booked(pipeline, "duplicate")) == (0, 3)
    # The same words under another number are another message.
    heard([said(8), said(9)], pipeline)
    assert booked(pipeline, "duplicate") == 3
    # A location kept for hours comes with the serial that it had then.
    heard([located((7 - 40_000) & 0xFFFF, 1), said(11)], pipeline)
    assert (booked(pipeline), booked(pipeline, "duplicate")) == (1, 4)


def test_a_serial_that_comes_again_after_it_has_gone_round_is_another_message() -> None:
    pipeline = heard([signed_on(1), *(located(serial, serial) for serial in range(2, 40))])
    # Half an hour later with the same serials, and then what was sent first once more.
    heard([located(serial, 1_800 + serial) for serial in range(2, 40)], pipeline)
    heard([located(serial, serial) for serial in range(2, 40)], pipeline)
    assert (booked(pipeline, "windowed") + booked(pipeline, "merged_late"), booked(pipeline, "duplicate")) == (77, 38)


def test_what_is_refused_or_damaged_is_in_the_journal_and_not_lost() -> None:
    short = said(3, LOCATION, bytes(20))
    future = said(4, LOCATION, bodies.location(T0 + 86_400 * NS, 29.9, 121.8))
    torn = frame(TOPIC, b"\x7e\x02\x00\x7e")
    # One bit of the serial, of the body, and of the phone number.
    damaged = [spoilt(located(6, 1), 11), spoilt(located(7, 2), 30), spoilt(located(8, 3), 6)]
    pipeline = heard([signed_on(1), said(2), short, future, torn, *damaged, said(9)])
    assert booked(pipeline) == 0
    assert booked(pipeline, "quarantined") == 4
    assert booked(heard([*damaged, said(3), said(4)])) == 0
    # What was lost beside a damaged one is counted all the same.
    assert booked(heard([signed_on(1), spoilt(located(5, 1), 11), said(6)])) == 3


def test_a_strict_worker_has_in_quarantine_what_others_flag_and_loses_nothing_by_it() -> None:
    frames = [signed_on(1), spoilt(located(2, 1), 30), said(3), said(5)]
    tolerant, strict = heard(frames), heard(frames, pipeline_of(strict=("jt808",)))
    assert (booked(tolerant, "quarantined"), booked(strict, "quarantined")) == (0, 1)
    assert booked(tolerant) == booked(strict) == 1
    assert booked(tolerant, "flagged") == 1


def test_what_the_platform_says_is_not_numbered_by_the_terminal() -> None:
    assert booked(heard([signed_on(1), said(700, REPLY, bytes(5)), said(2)])) == 0


def test_parts_are_numbered_each_and_one_that_comes_when_it_is_asked_for_is_lost_no_more() -> None:
    body = bodies.batch([bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(120)], late=True)
    parts = [frame(TOPIC, each) for each in frames_of(BATCH, PHONE, 2, body)]
    assert len(parts) == 4
    pipeline = heard([signed_on(1), parts[0], *parts[2:], said(6)])
    assert booked(pipeline) == 1
    heard([parts[1]], pipeline)
    assert booked(pipeline) == 0


def test_a_message_whose_parts_never_come_is_counted_once_and_its_terminal_stays_balanced() -> None:
    body = bodies.batch([bodies.location(T0 + nth * NS, 29.9, 121.8) for nth in range(120)], late=True)
    parts = [frame(TOPIC, each) for each in frames_of(BATCH, PHONE, 2, body)]
    pipeline, kept = heard([signed_on(1), *parts[:2], parts[3], located(6, 1), said(7, second=60)]), dict[str, bytes]()
    assert booked(pipeline, "flagged") == 0
    kept |= freeze(pipeline, WorkerBlob(), pipeline.touched()).state
    pipeline = pipeline_of(life=2)
    thaw(pipeline, kept)
    heard([said(8, second=121), said(9, second=122)], pipeline)
    assert accounts(pipeline)[UID, "quarantined", "parts_missing"] == (0, 1)
    assert accounts(pipeline)[UID, "flagged", "parts_lost"] == (1, 0)
    [record] = pipeline.take_quarantine()
    assert record.payload == (body[: 2 * 1_023] + body[3 * 1_023 :])[: len(record.payload)]
    assert record.payload_bytes == len(body) - 1_023
    # The part itself is what is lost, until it comes after all.
    assert booked(pipeline) == 1


def day(chance: random.Random) -> tuple[list[Frame], int]:
    """A day of a terminal with connections, restarts, losses and repetitions, and how many messages were lost."""
    sent: list[Frame] = []
    serial, lost = 65_000, 0
    for second in range(1_500):
        if chance.random() < 0.01:
            serial = 0 if chance.random() < 0.3 else serial
            sent.append(signed_on(serial))
        elif chance.random() < 0.05 and len(sent) > 3 and sent[-1].payload[2] != AUTHENTICATE & 0xFF:
            lost += 1
        else:
            sent.append(located(serial, second) if chance.random() < 0.7 else said(serial, second=second))
            if chance.random() < 0.05:
                sent.append(sent[-1])
        serial = (serial + 1) & 0xFFFF
    return sent, lost


def test_the_count_is_exact_over_restarts_and_the_same_however_the_frames_are_cut() -> None:
    chance = random.Random(7)
    frames, lost = day(chance)
    # What was lost just before a restart cannot be known: nothing follows it.
    assert lost - 3 <= booked(heard(frames)) <= lost
    pipeline, life, kept = pipeline_of(), 1, dict[str, bytes]()
    for part in cut(numbered(frames), chance.sample(range(len(frames)), 12)):
        pipeline.process(part)
        frozen, life = freeze(pipeline, WorkerBlob(), pipeline.touched()), life + 1
        pipeline = pipeline_of(life=life)
        kept |= frozen.state
        thaw(pipeline, kept)
    assert accounts(pipeline) == accounts(heard(frames))
    assert_every_frame_is_booked(pipeline, len(frames))


def test_ledger_and_rebuilt_store_agree_after_ends_of_any_kind(tmp_path: Path) -> None:
    frames, _ = day(random.Random(8))
    instance = Instance(tmp_path / "one")
    for begin in range(0, 600, 50):
        instance.take(frames[begin : begin + 50])
        if begin % 100:
            instance.commit()
        if begin % 150 == 0:
            instance.stop()
            instance.start()
    expected = booked(heard(frames[:600]))
    assert booked(instance.pipeline) == expected > 10
    instance.settle(T0 + 7 * 86_400 * NS)
    # The whole journal through a new installation.
    again = Instance(tmp_path / "two")
    again.take(read(tmp_path / "one" / "journal"))
    again.settle(T0 + 7 * 86_400 * NS)
    env = {"QUAYFLOW_WINDOWS_URL": instance.urls[0], "QUAYFLOW_RECORDS_URL": instance.urls[1]}
    rebuilt = CliRunner().invoke(app, ["journal", "rebuild", "--data", str(instance.folder), "--json"], env=env)
    assert rebuilt.exit_code == 0, rebuilt.output
    told = []
    for each in (instance, again):
        env = {"QUAYFLOW_WINDOWS_URL": each.urls[0], "QUAYFLOW_RECORDS_URL": each.urls[1]}
        shown = CliRunner().invoke(app, ["ledger", "--data", str(each.folder), "--json"], env=env)
        assert shown.exit_code == 0, shown.output
        told.append(json.loads(shown.stdout))
    assert told[0] == told[1]
    [device] = [item for item in told[0]["items"] if item["uid"] == UID]
    assert told[0]["balanced"]
    assert device["frames"]["lost_before_journal"] == expected


def test_a_location_that_is_taken_at_once_comes_to_the_same_as_one_that_is_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The short way through decoding is a saving and nothing else: store, accounts and checkpoint are equal."""
    drawn = random.Random(7)
    frames = [signed_on(1), *(located(nth, nth) for nth in range(2, 200) if nth % 17)]
    frames += [drawn.choice(frames) for _ in range(60)]
    frames += [spoilt(located(200 + nth, 200 + nth), drawn.randrange(1, 38)) for nth in range(40)]
    odd_items = bodies.item(0x7F, b"ab") + bodies.item(1, b"\x00\x01\x02\x03")
    beyond = [
        bodies.location(T0 + 300 * NS, 200.0, 121.8),
        bodies.location(T0 + 86_400 * NS, 29.9, 121.8),
        bodies.location(0, 29.9, 121.8),
        bodies.location(T0 + 301 * NS, 29.9, 121.8, items=odd_items),
    ]
    frames += [said(300 + nth, LOCATION, body, 300 + nth) for nth, body in enumerate(beyond)]
    frames.append(said(310, BATCH, bodies.batch([beyond[0], beyond[3]], late=True), 310))
    drawn.shuffle(frames)

    def outcome() -> list[object]:
        pipeline, result = pipeline_of(), list[object]()
        for batch in cut(numbered(frames), range(40, len(frames), 40)):
            pipeline.process(batch)
            pipeline.tick(batch[-1].recv_ts)
        touched = pipeline.touched()
        rows = pipeline.take_rows(1)
        result += [accounts(pipeline), {name: getattr(rows, name).tolist() for name in rows.columns()}]
        result.append(sorted(event.id for event in pipeline.take_events()))
        result += [sorted(each.id for each in pipeline.take_quarantine()), list(pipeline.records_of(touched))]
        return [*result, freeze(pipeline, WorkerBlob(), touched).state]

    at_once = outcome()
    monkeypatch.setattr("ingest.foreign._usual_series", lambda *_: [])
    assert outcome() == at_once

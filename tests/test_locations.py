"""Locations of terminals that are taken together come to what they come to one by one."""

import random
import struct
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from made_frames import SITE, T0, cut, everything, frame, numbered, pipeline_of, seeds, topic, values

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808 import Jt808
from devices.codecs.jt808_columns import layout_of, plain
from devices.codecs.jt808_frames import AUTHENTICATE, BATCH, FLAG, HEARTBEAT, LOCATION, checksum, frame_of, unescaped
from devices.times import NS
from devices.vocabulary import DeviceClass
from ingest.decoding import Decoder
from ingest.directory import Directory
from ingest.foreign import Foreign
from ingest.layouts import FEW
from ingest.ledger import Account
from ingest.pipeline import Pipeline
from ingest.sources import Source
from store.admission import Admission
from store.journal import Frame

PHONE = 13_900_000_000
ITEMS = b"".join(
    bodies.item(number, value)
    for number, value in [(1, b"\0\1\2\3"), (2, b"\1\2"), (6, b"\xff\xec"), (0x25, b"\0\0\0\1"), (0x30, b"\x1f")]
)


def location(ts: int, **changes: Any) -> bytes:
    said: dict[str, Any] = {
        "latitude": 29.93,
        "longitude": 121.85,
        "items": ITEMS,
        "alarm": 1,
        "altitude_m": -12,
    } | changes
    return bodies.location(ts, **said)


def written(data: bytes) -> bytes:
    """A frame of what stands in it, with its checksum, escapes and flags."""
    data += bytes([checksum(data)])
    return FLAG + data.replace(b"\x7d", b"\x7d\x01").replace(b"\x7e", b"\x7d\x02") + FLAG


@pytest.mark.parametrize("of_2019", [False, True])
@pytest.mark.parametrize("items", [b"", ITEMS])
def test_a_location_with_any_byte_changed_is_read_only_if_it_says_the_same_one_by_one(
    items: bytes, *, of_2019: bool
) -> None:
    sound = frame_of(LOCATION, str(PHONE), 5, location(T0, items=items), of_2019=of_2019)
    layout = layout_of(plain(sound))
    assert layout is not None
    data, _ = unescaped(sound[1:-1])
    every = [
        written(data[:at] + bytes([byte]) + data[at + 1 : -1]) for at in range(len(data) - 1) for byte in range(256)
    ]
    assert all(len(plain(each)) == len(plain(sound)) for each in every)
    read = layout.read(b"".join(map(plain, every)))
    assert read.sound.sum() > 26 * 200
    for nth in np.flatnonzero(read.sound).tolist():
        (one,) = Jt808().decode(every[nth])
        measured = dict(zip(layout.names, (column[nth].item() for column in read.values), strict=True))
        told = dict(zip(layout.info, (column[nth].item() for column in read.info), strict=True))
        assert (f"{read.phone[nth]:x}", read.serial[nth], read.ts[nth]) == (one.device, one.seq, one.ts)
        # In the same order, and of the same types: a hash is made of them.
        assert repr((measured, told)) == repr((one.values, one.info))
        assert (one.flags, one.online, one.unknown, one.happenings, one.refused) == ((), None, {}, (), ())


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        FLAG,
        frame_of(LOCATION, "1", 5, location(T0))[:-1],
        frame_of(LOCATION, "1", 5, location(T0))[1:],
        FLAG + frame_of(LOCATION, "1", 5, location(T0)),
        frame_of(LOCATION, "1", 5, location(T0)).replace(b"\x1f", b"\x7d"),
        frame_of(LOCATION, "1", 5, location(T0, items=ITEMS + b"\x30\x01\x02")),
        frame_of(LOCATION, "1", 5, location(T0, items=b"\x30\x00")),
        frame_of(LOCATION, "1", 5, location(T0, items=b"\x30\x02\x00\x01")),
        frame_of(LOCATION, "1", 5, location(T0, items=b"\xe1\x01\x00")),
        frame_of(LOCATION, "1", 5, location(T0, items=b"\x30\x01")),
        frame_of(LOCATION, "1", 5, location(T0, items=b"\x30")),
        frame_of(LOCATION, "1", 5, location(T0), part=(1, 2)),
        frame_of(LOCATION, "9" * 20, 5, location(T0), of_2019=True),
        frame_of(LOCATION, "1", 5, location(T0)[:20]),
        frame_of(HEARTBEAT, "1", 5, location(T0)),
        written(bytes.fromhex("0200 041C 000000000001 0005") + location(T0, items=b"")),
        written(bytes.fromhex("0200 001B 000000000001 0005") + location(T0, items=b"")),
    ],
)
def test_what_is_not_a_location_with_known_items_alone_has_no_layout(odd: bytes) -> None:
    assert layout_of(plain(odd)) is None


def said_by(chance: random.Random, phone: str, serial: int, now: int) -> bytes:
    """What a terminal says: mostly a location as it always sends it, now and then anything else."""
    ts = now - chance.randrange(3) * NS
    changes: dict[str, Any] = {
        "latitude": chance.choice([29.93, -1.5]) + chance.random(),
        "speed_mps": chance.randrange(20),
        "laden": chance.random() < 0.5,
        "alarm": chance.choice([0, 0, 0, 5]),
        "items": bodies.item(1, struct.pack(">I", chance.randrange(2**32)))
        + bodies.item(0x31, bytes([chance.randrange(256)])),
    }
    odd = chance.random()
    if odd < 0.02:
        changes["items"] = chance.choice([b"", ITEMS, b"\xe1\x01\x00", b"\x30\x01", b"\x30\x00", ITEMS + b"\x02"])
    elif odd < 0.03:
        ts = chance.choice([0, now + 400 * NS, now - 3_600 * NS])
    body = location(ts, **changes)
    if odd > 0.99:
        # Without a fix.
        body = body[:4] + bytes(4) + body[8:]
    elif odd > 0.98:
        body = body[:22] + chance.choice([bytes(6), b"\xff" * 6]) + body[28:]
    whole = frame_of(LOCATION, phone, serial & 0xFFFF, body, of_2019=chance.random() < 0.1)
    if 0.03 < odd < 0.04:
        at = chance.randrange(1, len(whole) - 1)
        whole = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    elif odd < 0.05:
        whole = chance.choice(
            [
                frame_of(HEARTBEAT, phone, serial & 0xFFFF),
                frame_of(AUTHENTICATE, phone, serial & 0xFFFF, bodies.authentication("code")),
                frame_of(BATCH, phone, serial & 0xFFFF, bodies.batch([body, body[:28]], late=chance.random() < 0.5)),
                frame_of(LOCATION, "13900009999", serial & 0xFFFF, body),
                whole[:-1],
                whole[1:-1],
                FLAG + whole,
            ]
        )
    return whole


def traffic(chance: random.Random, frames: int) -> list[Frame]:
    """Terminals that report in turn, some twice in a row, with everything that may happen to one now and then.

    The vehicle of the first two speaks native telemetry besides.
    """
    count = chance.choice([FEW, 20, 40])
    serials = [chance.choice([0, 5, 65_500]) for _ in range(count)]
    result: list[Frame] = []
    turns = islice(cycle(range(count)), frames)
    for nth, turn in enumerate(turns):
        now = T0 + nth * NS // 5
        who = turn if chance.random() < 0.95 else chance.randrange(count)
        where = topic("vehicle", str(PHONE + who), "jt808")
        what = chance.random()
        if what < 0.02 and result:
            result.append(chance.choice(result)._replace(recv_ts=now))
            continue
        if what < 0.03:
            serials[who] += chance.choice([-1, 1, 2, 300, 5_000])
        serials[who] += 1
        if what > 0.999:
            result.append(frame("no/topic", b"\x80", recv_ts=now))
        elif what > 0.998:
            result.append(frame("owntracks/a/b", {"_type": "lwt", "tst": now // NS}, recv_ts=now))
        elif what > 0.97:
            result.append(frame(topic("vehicle", "YT1"), values(nth, now, x_m=1.5), recv_ts=now))
        else:
            result.append(frame(where, said_by(chance, str(PHONE + who), serials[who], now), recv_ts=now))
    return numbered(result)


def pipeline() -> Pipeline:
    """One to which the registry says that two terminals are of the same vehicle, which speaks MQTT as well."""
    aliases = {f"jt808:{PHONE + nth}": f"{SITE}/vehicle/YT1" for nth in (0, 1)}
    source = Source("owntracks", SITE, DeviceClass.VEHICLE)
    return pipeline_of(admission=Admission(aliases=aliases), sources=(source,))


@settings(max_examples=12)
@given(seeds)
def test_together_comes_to_the_same_as_one_by_one(chance: random.Random) -> None:
    frames = traffic(chance, 400)
    alone, together = pipeline(), pipeline()
    for each in frames:
        alone.process([each])
    for some in cut(frames, range(0, len(frames), chance.choice([FEW, 25, 60, 200]))):
        together.process(some)
    assert together.ledger.balanced()
    assert everything(together) == everything(alone)


def reports(rounds: int, terminals: int = 2 * FEW) -> list[Frame]:
    """Terminals that report in turn as they always do."""
    frames = []
    for nth in range(rounds * terminals):
        phone, now = str(PHONE + nth % terminals), T0 + nth * NS // 10
        report = frame_of(LOCATION, phone, nth // terminals, location(now))
        frames.append(frame(topic("vehicle", phone, "jt808"), report, recv_ts=now))
    return numbered(frames)


def test_what_terminals_always_say_is_taken_together_from_the_second_report_on() -> None:
    decoder = Decoder(directory := Directory(100, 1_000), Foreign(directory, ()))
    frames, taken = reports(rounds=4), []
    for some in cut(frames, range(0, len(frames), 2 * FEW)):
        accepted = decoder.decode(some).together
        taken.append(0 if accepted is None else len(accepted.frames))
    assert taken == [0, 2 * FEW, 2 * FEW, 2 * FEW]


def test_what_comes_again_is_a_duplicate_of_what_was_taken_together() -> None:
    frames, found = reports(rounds=3), pipeline_of()
    for _ in range(2):
        for some in cut(frames, range(0, len(frames), 2 * FEW)):
            found.process(some)
    assert found.ledger.total(Account.WINDOWED) == found.ledger.total(Account.DUPLICATE) == len(frames)
    assert found.ledger.balanced()


def test_locations_that_fail_as_columns_are_taken_one_by_one_and_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise IndexError("nobody has foreseen this")

    monkeypatch.setattr("ingest.locations._accepted", fails)
    frames, broken, sound = reports(rounds=4), pipeline_of(), pipeline_of()
    for some in cut(frames, range(0, len(frames), 2 * FEW)):
        broken.process(some)
    monkeypatch.undo()
    for each in frames:
        sound.process([each])
    assert everything(broken) == everything(sound)
    # Said once.
    assert caplog.text.count("taking locations together failed") == 1

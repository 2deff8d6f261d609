"""What gateway and terminals say to each other, without a socket: who is believed, what is answered and counted."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs import jt808_bodies as bodies
from devices.codecs.jt808 import Jt808
from devices.codecs.jt808_frames import (
    ACKNOWLEDGE,
    ASK_FOR_PARTS,
    AUTHENTICATE,
    BATCH,
    HEARTBEAT,
    LOCATION,
    MAX_FRAME,
    MULTIMEDIA,
    MULTIMEDIA_REPLY,
    QUERY_TIME,
    REGISTER,
    REGISTER_REPLY,
    REPLY,
    SYNC_TIME,
    SYNC_TIME_REPLY,
    TIME_REPLY,
    frame_of,
    frames_of,
    open_frame,
)
from devices.codecs.teltonika import packet_of, record_of
from devices.times import NS, parse_rfc3339
from ingest.conversations import MAX_BAD, MAX_PACKET, Jt808Conversation, Said, TeltonikaConversation, code_of
from ingest.part_requests import MAX_ASKED

NOW = parse_rfc3339("2026-11-23T08:15:30Z")
KEY = b"k" * 32
PHONE = "13812345678"
REGISTRATION = frame_of(REGISTER, PHONE, 0, bodies.registration("浙B12345"))
WHERE = bodies.location(NOW, 29.93, 121.85)


def talk(*, anyone: bool = False, strict: bool = False) -> Jt808Conversation:
    return Jt808Conversation(KEY, lambda: NOW, anyone=anyone, strict=strict)


def authenticated(serial: int = 1, *, strict: bool = False) -> Jt808Conversation:
    conversation = talk(strict=strict)
    conversation.receive(frame_of(AUTHENTICATE, PHONE, serial, bodies.authentication(code_of(KEY, PHONE))))
    assert conversation.device == PHONE
    return conversation


def general(said: Said) -> tuple[int, int, int]:
    """Serial, message and result of a general reply."""
    message = open_frame(said.reply, strict=True)
    assert message.kind == REPLY
    return int.from_bytes(message.body[:2]), int.from_bytes(message.body[2:4]), message.body[4]


@pytest.mark.parametrize("of_2019", [False, True])
def test_a_terminal_registers_authenticates_and_reports(of_2019: bool) -> None:
    conversation = talk()
    body = bodies.registration("浙B12345")
    if of_2019:
        body = bytes(4) + b"maker".ljust(11) + b"model".ljust(30) + b"id".ljust(30) + b"\x01" + "浙B12345".encode("gbk")
    registration = frame_of(REGISTER, PHONE, 7, body, of_2019=of_2019)
    [said] = conversation.receive(registration)
    reply = open_frame(said.reply, strict=True)
    assert (reply.kind, reply.phone, reply.of_2019) == (REGISTER_REPLY, PHONE, of_2019)
    assert (said.frames, reply.body[:3]) == ((), b"\0\x07\0")
    code = bodies.authentication(reply.body[3:].decode(), of_2019=of_2019, imei="123456789012345")
    authentication = frame_of(AUTHENTICATE, PHONE, 8, code, of_2019=of_2019)
    [said] = conversation.receive(authentication)
    assert said.frames == (registration, authentication)
    assert general(said) == (8, AUTHENTICATE, bodies.ACCEPTED)
    location = frame_of(LOCATION, PHONE, 9, WHERE, of_2019=of_2019)
    [said] = conversation.receive(location)
    assert said.frames == (location,)
    assert general(said) == (9, LOCATION, bodies.ACCEPTED)


def test_nothing_is_taken_from_a_terminal_that_is_not_believed() -> None:
    conversation = talk()
    wrong = frame_of(AUTHENTICATE, PHONE, 2, bodies.authentication(code_of(KEY, "13900000000")))
    for frame, refused in ((frame_of(LOCATION, PHONE, 1, WHERE), "not_authenticated"), (wrong, "wrong_code")):
        [said] = conversation.receive(frame)
        assert (said.frames, said.refused, general(said)[2]) == ((), refused, bodies.FAILED)
    assert conversation.device == ""


def test_a_code_is_the_terminals_own_and_stays() -> None:
    assert code_of(KEY, PHONE) == code_of(KEY, PHONE)
    assert len({code_of(KEY, PHONE), code_of(KEY, "13812345679"), code_of(b"other", PHONE)}) == 3


def test_anyone_is_believed_where_that_is_set() -> None:
    conversation = talk(anyone=True)
    [said] = conversation.receive(frame_of(LOCATION, PHONE, 1, WHERE))
    assert said.refused == ""
    assert conversation.device == PHONE


def test_a_terminal_speaks_for_itself_alone() -> None:
    [said] = authenticated().receive(frame_of(LOCATION, "13900000000", 2, WHERE))
    assert (said.frames, said.refused, general(said)[2]) == ((), "other_phone", bodies.FAILED)


def test_a_damaged_frame_is_taken_from_whom_is_known_and_from_nobody_else() -> None:
    damaged = bytearray(frame_of(LOCATION, PHONE, 2, WHERE))
    damaged[20] ^= 1
    [said] = authenticated().receive(bytes(damaged))
    assert (said.frames, general(said)[2]) == ((bytes(damaged),), bodies.ACCEPTED)
    [said] = talk(anyone=True).receive(bytes(damaged))
    assert said == Said(refused="damaged")
    short = b"\x7e\x01\x02\x03\x7e"
    assert authenticated().receive(short) == [Said((short,))]
    assert talk().receive(short) == [Said(refused="undecodable")]


def test_a_terminal_of_2019_is_believed_with_a_bare_code_unless_that_is_against_the_rules_here() -> None:
    for code in (code_of(KEY, PHONE).encode(), b"\x10" + code_of(KEY, PHONE).encode()):
        bare = frame_of(AUTHENTICATE, PHONE, 2, code, of_2019=True)
        [said] = talk().receive(bare)
        assert (said.frames, general(said)[2]) == ((bare,), bodies.ACCEPTED)
        [said] = talk(strict=True).receive(bare)
        assert (said.refused, general(said)[2]) == ("wrong_code", bodies.FAILED)
    wrong = frame_of(AUTHENTICATE, PHONE, 2, code_of(KEY, "13900000000").encode(), of_2019=True)
    assert talk().receive(wrong)[0].refused == "wrong_code"


def test_a_damaged_frame_is_answered_as_such_where_it_goes_to_quarantine() -> None:
    damaged = bytearray(frame_of(LOCATION, PHONE, 2, WHERE))
    damaged[20] ^= 1
    [said] = authenticated(strict=True).receive(bytes(damaged))
    assert (said.frames, general(said)) == ((bytes(damaged),), (2, LOCATION, bodies.DAMAGED))


def test_each_question_has_its_own_answer() -> None:
    conversation = authenticated()
    for asked, answered in ((QUERY_TIME, TIME_REPLY), (SYNC_TIME, SYNC_TIME_REPLY), (BATCH, REPLY), (HEARTBEAT, REPLY)):
        [said] = conversation.receive(frame_of(asked, PHONE, 2))
        assert open_frame(said.reply, strict=True).kind == answered
        assert said.frames
    [said] = conversation.receive(frame_of(ACKNOWLEDGE, PHONE, 3, bytes(5)))
    assert (len(said.frames), said.reply) == (1, b"")
    [again] = conversation.receive(frame_of(REGISTER, PHONE, 4, bodies.registration("浙B12345")))
    assert open_frame(again.reply, strict=True).kind == REGISTER_REPLY


def test_the_platforms_serials_go_up_by_one() -> None:
    conversation = authenticated()
    replies = [conversation.receive(frame_of(HEARTBEAT, PHONE, nth))[0].reply for nth in range(3)]
    assert [open_frame(reply).serial for reply in replies] == [1, 2, 3]


class Watch:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.ns = NOW

    def __call__(self) -> int:
        return self.ns

    def after(self, seconds: float) -> None:
        self.ns += round(seconds * NS)


def in_parts(kind: int, *, of_2019: bool = False) -> tuple[Watch, Jt808Conversation, list[bytes]]:
    """A terminal that is believed, and a message of four parts with the serials 65,534 to 1."""
    watch = Watch()
    conversation = Jt808Conversation(KEY, watch, anyone=True)
    conversation.receive(frame_of(HEARTBEAT, PHONE, 65_533, of_2019=of_2019))
    frames = frames_of(kind, PHONE, 65_534, b"\0\0\0\x7b" + bytes(3_500), of_2019=of_2019)
    assert len(frames) == 4
    return watch, conversation, frames


def waits(conversation: Jt808Conversation) -> bool:
    """Whether parts are waited for."""
    return conversation.in_parts


def replies(said: list[Said]) -> list[tuple[int, bytes]]:
    """Kind and body of everything that is sent."""
    sent = b"".join(each.reply for each in said).split(b"\x7e")
    messages = [open_frame(each, strict=True) for each in sent if each]
    return [(message.kind, message.body) for message in messages]


@pytest.mark.parametrize(("of_2019", "request_"), [(False, "fffe0200020003"), (True, "fffe000200020003")])
def test_parts_that_do_not_come_are_asked_for_some_times_and_then_no_more(of_2019: bool, request_: str) -> None:
    watch, conversation, frames = in_parts(BATCH, of_2019=of_2019)
    assert not waits(conversation)
    for frame in (frames[0], frames[3]):
        said = conversation.receive(frame)
        assert [kind for kind, _ in replies(said)] == [REPLY]
        assert said[0].frames == (frame,)
    assert waits(conversation)
    watch.after(9.9)
    assert conversation.due() == []
    asked = []
    for _ in range(MAX_ASKED):
        watch.after(10)
        said = conversation.due()
        assert sum(each.asked for each in said) == 1
        asked += replies(said)
        assert conversation.due() == []
    assert asked == [(ASK_FOR_PARTS, bytes.fromhex(request_))] * MAX_ASKED
    watch.after(10)
    assert conversation.due() == [Said(given_up=1)]
    assert not waits(conversation)
    assert conversation.due() == []


def test_parts_that_are_sent_when_they_are_asked_for_make_it_whole() -> None:
    watch, conversation, frames = in_parts(BATCH)
    for frame in (frames[0], frames[1], frames[3]):
        conversation.receive(frame)
    watch.after(11)
    assert replies(conversation.due()) == [(ASK_FOR_PARTS, bytes.fromhex("fffe010003"))]
    watch.after(9)
    assert [kind for kind, _ in replies(conversation.receive(frames[2]))] == [REPLY]
    assert not waits(conversation)
    watch.after(99)
    assert conversation.due() == []
    # Sent once more, it is no message of its own.
    conversation.receive(frames[2])
    assert not waits(conversation)


def test_an_upload_is_answered_with_what_is_missing_of_it_and_at_the_end_with_nothing() -> None:
    watch, conversation, frames = in_parts(MULTIMEDIA)
    for frame in frames[:2]:
        assert [kind for kind, _ in replies(conversation.receive(frame))] == [REPLY]
    said = conversation.receive(frames[3])
    assert replies(said)[1:] == [(MULTIMEDIA_REPLY, bytes.fromhex("0000007b010003"))]
    assert said[0].asked == 1
    watch.after(10)
    assert replies(conversation.due()) == [(MULTIMEDIA_REPLY, bytes.fromhex("0000007b010003"))]
    said = conversation.receive(frames[2])
    assert replies(said)[1:] == [(MULTIMEDIA_REPLY, bytes.fromhex("0000007b"))]
    assert said[0].asked == 0
    # One that comes in one piece, and one whose id has not come.
    assert replies(conversation.receive(frame_of(MULTIMEDIA, PHONE, 2, b"\0\0\0\x7c" + bytes(9)))) == [
        (MULTIMEDIA_REPLY, bytes.fromhex("0000007c"))
    ]
    _, conversation, frames = in_parts(MULTIMEDIA)
    assert [kind for kind, _ in replies(conversation.receive(frames[3]))] == [REPLY, ASK_FOR_PARTS]


def test_parts_published_by_a_library_are_asked_for_as_it_sends_them_again(recorded: Path) -> None:
    """go-jt808 leaves out three of 18 parts, and sends these when it is asked for them."""
    folder, sent = recorded / "trackers" / "jt808_gojt808", {}
    for name in ("缺失", "缺失补传"):
        text = (folder / f"example__protocol__sub_package__0x1205{name}.txt").read_text(encoding="utf-8")
        sent[name] = [bytes.fromhex(line) for line in text.split()]
    watch, codec = Watch(), Jt808()
    conversation = Jt808Conversation(KEY, watch, anyone=True)
    for frame in sent["缺失"]:
        conversation.receive(frame)
        assert codec.decode(frame)[0].info["part"]
    watch.after(11)
    again = [open_frame(frame) for frame in sent["缺失补传"]]
    first = again[0].serial - (again[0].part or (0, 0))[0] + 1
    missing = [message.part[0] for message in again if message.part]
    assert missing == [7, 8, 16]
    assert replies(conversation.due()) == [(ASK_FOR_PARTS, bodies.parts_request(first, missing))]
    for frame in sent["缺失补传"]:
        conversation.receive(frame)
    last = [codec.decode(frame)[0] for frame in sent["缺失补传"]][-1]
    assert last.info == {"message": "0x1205"}
    assert not waits(conversation)


def test_registrations_count_once_their_terminal_is_believed_with_a_code_or_without_one() -> None:
    again = frame_of(REGISTER, PHONE, 1, bodies.registration("浙B12345"))
    others = frame_of(REGISTER, "13900000000", 0, bodies.registration("浙B54321"))
    signed_on = frame_of(AUTHENTICATE, PHONE, 2, bodies.authentication(code_of(KEY, PHONE)))
    for anyone, last in ((False, signed_on), (True, frame_of(HEARTBEAT, PHONE, 2))):
        conversation = talk(anyone=anyone)
        for registered in (others, REGISTRATION, REGISTRATION, again):
            conversation.receive(registered)
        [said] = conversation.receive(last)
        assert said.frames == (REGISTRATION, again, last)


frames = st.lists(
    st.builds(lambda serial: frame_of(LOCATION, PHONE, serial, WHERE), st.integers(0, 65_535)), max_size=5
)


@given(frames, st.lists(st.integers(0, 400), max_size=12), st.booleans())
def test_frames_are_found_however_the_bytes_are_cut(sent: list[bytes], at: list[int], shared: bool) -> None:
    # Some terminals write one flag between two frames.
    data = b"".join(sent).replace(b"\x7e\x7e", b"\x7e") if shared else b"".join(sent)
    conversation, said = authenticated(), []
    edges = sorted({0, len(data), *(min(each, len(data)) for each in at)})
    for begin, end in pairwise(edges):
        said += conversation.receive(data[begin:end])
    assert [frame for each in said for frame in each.frames] == sent
    assert conversation.garbage == 0


def test_garbage_is_counted_and_costs_no_frame() -> None:
    conversation = talk(anyone=True)
    said = conversation.receive(b"GET / HTTP/1.1\r\n" + frame_of(HEARTBEAT, PHONE, 1))
    assert [each.refused for each in said] == [""]
    assert conversation.garbage == 16
    # A frame without an end is given up, and the next one is found.
    conversation.receive(b"\x7e" + b"x" * (MAX_FRAME + 1))
    assert (conversation.waiting, conversation.garbage) == (0, 17 + MAX_FRAME)
    said = conversation.receive(b"yyy" + frame_of(HEARTBEAT, PHONE, 2))
    assert [each.refused for each in said] == [""]
    assert conversation.garbage == 20 + MAX_FRAME


@given(st.binary(max_size=5_000))
def test_no_bytes_make_a_conversation_hold_more_than_a_frame(data: bytes) -> None:
    for conversation, bound in ((talk(), MAX_FRAME), (TeltonikaConversation(), MAX_PACKET + 12)):
        conversation.receive(data)
        assert conversation.waiting <= bound


def test_a_row_of_refusals_ends_it_and_a_good_frame_ends_the_row() -> None:
    conversation = talk()
    bad = frame_of(LOCATION, PHONE, 1, WHERE)
    conversation.receive(bad * (MAX_BAD - 1))
    conversation.receive(REGISTRATION)
    conversation.receive(bad * (MAX_BAD - 1))
    assert conversation.over == ""
    conversation.receive(bad)
    assert conversation.over == "not_authenticated"


def test_a_teltonika_terminal_says_its_imei_and_is_told_how_many_records_came() -> None:
    conversation = TeltonikaConversation()
    packet = packet_of(8, 3, record_of(NOW, 29.93, 121.85) * 3)
    said = conversation.receive(bytes.fromhex("000F") + b"356307042441013" + b"\xff" + packet[:20])
    assert said == [Said(reply=b"\x01")]
    assert conversation.device == "356307042441013"
    assert conversation.receive(packet[20:]) == [Said((packet,), b"\0\0\0\3")]
    damaged = packet[:-1] + bytes([packet[-1] ^ 1])
    assert conversation.receive(damaged) == [Said(reply=bytes(4), refused="damaged")]
    assert conversation.receive(packet) == [Said((packet,), b"\0\0\0\3")]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1", bytes.fromhex("000F") + b"not an imei 123", b"\xff\xff\xff"])
def test_what_is_no_introduction_ends_it(data: bytes) -> None:
    conversation = TeltonikaConversation()
    [said] = conversation.receive(data)
    assert (said.refused, conversation.over, conversation.garbage) == ("undecodable", "undecodable", len(data))


@pytest.mark.parametrize("data", [b"\0\0\0\1", b"\0\0\0\0\0\0\0\1", b"\0\0\0\0\xff\xff\xff\xff"])
def test_what_is_no_packet_ends_it(data: bytes) -> None:
    conversation = TeltonikaConversation()
    conversation.receive(bytes.fromhex("000F") + b"356307042441013")
    conversation.receive(data)
    assert conversation.over == "undecodable"

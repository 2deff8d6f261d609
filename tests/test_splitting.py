"""Splitting a connection's bytes: as columns it comes to what the codec says packet by packet."""

from collections.abc import Sequence

import mqtt5
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.packets import Message, MessageTable, Splitter

TOPICS = ("port/CNNGB-DEMO/quay-crane/QC01/telemetry", "port/CNNGB-DEMO/quay-crane/QC02/telemetry", "宁波")


def publish(topic: str, payload: bytes, packet_id: int | None, **more: object) -> bytes:
    qos = mqtt5.QoS.AT_MOST_ONCE if packet_id is None else mqtt5.QoS.AT_LEAST_ONCE
    return bytes(mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id, **more).write())  # type: ignore[arg-type]


PUBLISHES = st.builds(
    lambda topic, payload, packet_id, retain, duplicate, content_type: publish(
        topic,
        payload,
        packet_id,
        retain=retain,
        duplicate=duplicate and packet_id is not None,
        content_type=content_type,
    ),
    st.sampled_from(TOPICS),
    st.one_of(st.just(b"always of this length"), st.binary(max_size=200), st.just(bytes(20_000))),
    st.one_of(st.none(), st.integers(1, 65_535)),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, None, "application/json"]),
)
OTHERS = st.sampled_from([bytes(mqtt5.PingRespPacket().write()), bytes(mqtt5.DisconnectPacket().write())])


def by_the_codec(data: bytes) -> tuple[list[Message], list[mqtt5.Packet], int]:
    messages: list[Message] = []
    others: list[mqtt5.Packet] = []
    position = 0
    while position < len(data):
        try:
            packet, length = mqtt5.read(memoryview(data)[position:])
        except IndexError:
            break
        position += length
        if isinstance(packet, mqtt5.PublishPacket):
            if packet.packet_id == 0:
                raise ValueError("which the codec lets pass")
            flags = int(packet.packet_id is not None) | packet.duplicate << 2 | packet.retain << 3
            messages.append(Message(packet.topic, packet.payload, flags, packet.packet_id))
        else:
            others.append(packet)
    return messages, others, position


RUNS = st.builds(
    lambda packet, times: packet * times, st.one_of(PUBLISHES, PUBLISHES, PUBLISHES, OTHERS), st.sampled_from([1, 1, 5])
)


@given(st.lists(RUNS, max_size=20), st.integers(0, 30), st.integers(1, 40))
def test_packets_are_what_the_codec_says(packets: Sequence[bytes], cut_off: int, apart: int) -> None:
    """However many of them are gone through one by one before it is looked for others that are alike."""
    data = b"".join(packets)
    data = data[: max(0, len(data) - cut_off)]
    messages, others, position = by_the_codec(data)
    splitter = Splitter()
    # The second time every topic is known, so that what is plain is read as columns.
    for _ in range(2):
        met: list[mqtt5.Packet] = []
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("ingest.packets.APART", apart)
            table, end = splitter.split(data, 1_000, met.append)
        assert (list(table), met, end) == (messages, others, position)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what a panic leaves behind
@given(st.lists(st.integers(0, 255), min_size=2, max_size=60).map(bytes), st.integers(0, 59), st.integers(0, 255))
def test_a_damaged_packet_is_what_the_codec_says(payload: bytes, at: int, byte: int) -> None:
    whole = bytearray(publish(TOPICS[0], payload, 7))
    splitter = Splitter()
    splitter.split(bytes(whole), 10, lambda _: None)
    whole[at % len(whole)] = byte
    data = bytes(whole)
    try:
        wanted: object = by_the_codec(data)
    except ValueError:
        wanted = ValueError
    except BaseException as error:  # noqa: BLE001 - a panic of the codec is no Exception
        wanted = type(error)
    others: list[mqtt5.Packet] = []
    found: object
    try:
        table, end = splitter.split(data, 1_000, others.append)
        found = list(table), others, end
    except ValueError:
        found = ValueError
    except BaseException as error:  # noqa: BLE001 - a panic of the codec is no Exception
        found = type(error)
    assert found == wanted


def test_no_more_packets_are_taken_than_asked_for() -> None:
    data = b"".join(publish(TOPICS[0], b"%d" % number, number) for number in range(1, 6))
    table, end = Splitter().split(data, 3, print)
    assert [message.payload for message in table] == [b"1", b"2", b"3"]
    again, rest = Splitter().split(data[end:], 3, print)
    assert ([message.packet_id for message in again], end + rest) == ([4, 5], len(data))


@given(st.integers(1, 9), st.integers(1, 9))
def test_of_many_that_are_alike_no_more_are_taken_either(most: int, apart: int) -> None:
    data = b"".join(publish(TOPICS[number % 2], b"%d" % number, 1 + number) for number in range(10))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ingest.packets.APART", apart)
        table, end = Splitter().split(data, most, print)
    assert [message.payload for message in table] == [b"%d" % number for number in range(most)]
    assert end == most * len(data) // 10


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff\x01", b"\x8a\x00", b"\x8a\x80\x00"])
def test_a_length_without_an_end_or_longer_than_needed_is_refused(length: bytes) -> None:
    with pytest.raises(ValueError, match="a length that has no end"):
        Splitter().split(b"\x32" + length + bytes(20), 10, print)


def test_a_table_is_a_sequence_of_its_messages() -> None:
    messages = [Message("a", b"1", 1, 5), Message("b", b"2", 8, None), Message("c", b"3", 5, 6)]
    table = MessageTable.of(messages)
    assert list(table) == messages
    assert table[1:] == messages[1:]
    assert list(table.take(table.packet_ids > 0)) == [messages[0], messages[2]]
    assert MessageTable.of(table) is table
    assert list(MessageTable.of([])) == []
    assert np.array_equal(table.packet_ids, [5, 0, 6])

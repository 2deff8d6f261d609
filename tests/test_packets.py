"""Packets out of a stream of bytes, however it is cut."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.packets import NotMqttError, PacketStream

TAKEN = (mqtt5.PubAckReasonCode.SUCCESS, mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS)
REFUSED = mqtt5.PubAckReasonCode.QUOTA_EXCEEDED

acks = st.builds(
    mqtt5.PubAckPacket,
    packet_id=st.integers(1, 65_535),
    reason_code=st.sampled_from([*TAKEN, *TAKEN, *TAKEN, REFUSED]),
    reason_str=st.sampled_from([None, None, None, "no"]),
)
packets = st.lists(acks | st.just(mqtt5.PingRespPacket()) | st.builds(mqtt5.PublishPacket, st.just("a/b"), st.binary()))


@given(packets, st.lists(st.integers(1, 40)), st.booleans())
def test_every_packet_comes_out_once_however_the_stream_is_cut(
    sent: list[mqtt5.Packet], cuts: list[int], bulk: bool
) -> None:
    data = b"".join(packet.write() for packet in sent)
    stream, taken, acked, at = PacketStream(), [], 0, 0
    for cut in [*cuts, len(data)]:
        stream.feed(data[at : at + cut])
        at += cut
        acked += stream.take_acks() if bulk else 0
        taken += list(stream)
    plain = [packet for packet in sent if isinstance(packet, mqtt5.PubAckPacket) and packet.reason_code in TAKEN]
    assert len(taken) + acked == len(sent)
    left = iter(taken)
    # What is taken in bulk are acknowledgements of messages taken, and the order of the others stays.
    others = [packet for packet in sent if packet not in plain]
    assert all(any(packet == each for each in left) for packet in others)


def test_many_acknowledgements_are_taken_at_once_up_to_the_first_other_one() -> None:
    for reason in TAKEN:
        many = b"".join(mqtt5.PubAckPacket(packet_id=nth, reason_code=reason).write() for nth in range(1, 1_000))
        refusal = mqtt5.PubAckPacket(packet_id=1_000, reason_code=REFUSED)
        stream = PacketStream()
        stream.feed(many + refusal.write() + many[:-1])
        assert stream.take_acks() == 999
        assert stream.take_acks() == 0
        assert next(iter(stream)) == refusal
        assert stream.take_acks() == 998
        assert list(stream) == []
        stream.feed(many[-1:])
        assert stream.take_acks() == 1


def test_what_is_no_mqtt_is_said() -> None:
    stream = PacketStream()
    stream.feed(mqtt5.PingRespPacket().write() + b"\x00\x00HTTP/1.1 400")
    found = iter(stream)
    assert isinstance(next(found), mqtt5.PingRespPacket)
    with pytest.raises(NotMqttError):
        next(found)

"""Payloads changed at random, for the law that nothing but a reject leaves a codec."""

import random
from collections.abc import Sequence

from devices.codecs.readings import Codec
from devices.rejects import Reason, Reject, RejectError


def mutated(payload: bytes, dice: random.Random) -> bytes:
    """Return a payload with up to four bytes changed, inserted, cut out or doubled, or cut off."""
    data = bytearray(payload)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(6)
        if kind == 0 and at < len(data):
            data[at] = dice.randrange(256)
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            data[at:at] = dice.randbytes(dice.randint(1, 4))
        elif kind == 3:
            del data[at : at + dice.randint(1, 8)]
        elif kind == 4:
            data[at:at] = data[at : at + dice.randint(1, 32)]
        else:
            del data[at:]
    return bytes(data)


def assert_only_rejects_leave(
    codec: Codec, samples: Sequence[tuple[bytes, str]], rounds: int, *, seed: int = 7
) -> tuple[int, int]:
    """Decode ``rounds`` mutations of (payload, topic) samples; return how many were read and how many refused."""
    dice = random.Random(seed)
    rejects: list[Reject] = []
    for _ in range(rounds):
        payload, topic = dice.choice(samples)
        try:
            readings = codec.decode(mutated(payload, dice), topic)
        except RejectError as error:
            rejects.append(error.reject)
        else:
            assert readings
    assert all(reject.reason in Reason and reject.detail for reject in rejects)
    return rounds - len(rejects), len(rejects)

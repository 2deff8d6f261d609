"""What is kept compressed until it is written comes back as it was, in its order."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import lots
from store.lots import Blobs, Lots


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_what_is_added_comes_back_in_its_order(added: list[bytes], lot_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lots, "LOT_BYTES", lot_bytes)
        kept, blobs = Lots(), Blobs()
        for nth, each in enumerate(added):
            kept.add(each)
            blobs.add(str(nth), each)
    assert list(kept) == [kept[nth] for nth in range(len(kept))] == kept[:] == added
    assert kept[-3:] == added[-3:]
    expected = {str(nth): each for nth, each in enumerate(added)}
    assert list(blobs.items()) == list(expected.items())
    assert blobs == expected
    assert [blobs[key] for key in blobs] == added
    with pytest.raises(KeyError):
        blobs["another"]
    with pytest.raises(IndexError):
        kept[len(added)]


def test_thousands_of_devices_alike_take_a_fraction_of_their_bytes() -> None:
    blobs = Blobs()
    tracemalloc.start()
    try:
        for nth in range(5_000):
            blobs.add(f"device:{nth}", b"latitude_deg longitude_deg speed_mps" * 30 + nth.to_bytes(8, "big"))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < sum(map(len, blobs.values())) / 4

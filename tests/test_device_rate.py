"""The recent rate of a device: from its own frames, whenever commits come, and not that of long ago."""

from devices.times import NS
from devices.topics import DeviceKey
from ingest.directory import Directory

START = 1_795_420_800 * NS


def test_a_rate_is_that_of_the_last_minute_or_so() -> None:
    device = Directory(10, 10).device(DeviceKey("CNNGB-DEMO", "quay-crane", "QC01"))

    def heard(at_s: float, frames: int) -> float | None:
        device.last_seen = START + round(at_s * NS)
        device.frames += frames
        return device.rate_hz()

    assert heard(0, 1) is None
    for second in range(1, 121):
        assert heard(second, 5) == 5
    assert device.rate_hz() == 5, "asked again, it is the same"
    # Ten times slower: the old rate is forgotten within a minute and a half.
    rates = [heard(120 + 2 * n, 1) for n in range(1, 60)]
    assert rates == sorted(rates, key=lambda rate: -(rate or 0))
    assert rates[44] == 0.5
    # After an hour of silence: next to nothing, and the new rate from the next frames on.
    assert (heard(240 + 3_600, 1) or 1) < 0.01
    assert heard(240 + 3_601, 10) == 10


def test_several_looks_in_the_same_instant_make_no_rate() -> None:
    device = Directory(10, 10).device(DeviceKey("CNNGB-DEMO", "quay-crane", "QC01"))
    device.last_seen, device.frames = START, 7
    assert device.rate_hz() is None
    device.frames = 9
    assert device.rate_hz() is None

"""Why a device is silent, in one sentence: the first reason that explains it."""

import msgspec
from made_records import device, refusal

from devices.times import NS
from devices.topics import DeviceKey
from store.admission import Admission
from store.device_health import Health, health_of
from store.interface import DeviceRecord, LedgerRow, QuarantineRecord

NOW = 1_800_000_000 * NS


def row(account: str, frames: int, reason: str = "") -> LedgerRow:
    return LedgerRow(uid=heard(1).uid, account=account, reason=reason, frames=frames, samples=frames)


def heard(frames: int) -> DeviceRecord:
    return msgspec.structs.replace(device(frames=frames), last_seen_ns=NOW - NS, last_event_ns=NOW - NS, online=True)


def refused(topic: str = "", uid: str = "") -> QuarantineRecord:
    return msgspec.structs.replace(refusal(1, reason="out_of_range", uid=uid), topic=topic, recv_ns=NOW - NS)


def said(
    found: DeviceRecord | None, rows: list[LedgerRow], own: list[QuarantineRecord], newest: list[QuarantineRecord]
) -> Health:
    key = DeviceKey.from_uid(heard(1).uid)
    return health_of(key, found, rows, own, Admission(), None, NOW, newest=newest)


def test_a_device_of_which_every_message_was_refused_is_not_called_live() -> None:
    own = [refused(uid=heard(1).uid)]
    health = said(heard(2), [row("quarantined", 1, "undecodable"), row("quarantined", 1, "out_of_range")], own, [])
    assert (health.cause, health.live) == ("all_refused", False)
    assert health.verdict.startswith("everything that it sends is refused, last as out_of_range")
    health = said(heard(3), [row("quarantined", 2, "out_of_range"), row("windowed", 1)], own, [])
    assert (health.cause, health.live) == ("partly_refused", True)


def test_a_device_that_publishes_to_a_wrong_topic_is_told_which() -> None:
    name = heard(1).device
    wrong = refused(f"port/CNNGB-DEMO/quaycrane/{name}/telemetry")
    others = [refused("port/CNNGB-DEMO/quaycrane/Q/telemetry"), refused(f"port/x/{name}x/telemetry")]
    health = said(None, [], [], [*others, wrong])
    assert (health.cause, health.live) == ("never_heard", False)
    assert health.verdict.startswith(
        f"never heard on its own topics; on {wrong.topic} it may be refused as out_of_range"
    )
    assert said(None, [], [], others).verdict.startswith("never heard: nothing has come on its topics; check network")
    # Whoever is heard has the right topics.
    assert said(heard(1), [row("windowed", 1)], [], [wrong]).verdict == "live"


def test_a_device_whose_number_stands_still_is_told_so() -> None:
    """Every message after the first passes for a repetition of it."""
    stuck = said(heard(100), [row("windowed", 1), row("duplicate", 99)], [], [])
    assert (stuck.cause, stuck.live) == ("repeating", True)
    assert stuck.verdict.startswith("live, and 99 of its messages were taken for repetitions")
    # Whoever sends its store again after a breakdown of the network is in order.
    assert said(heard(100), [row("windowed", 60), row("duplicate", 40)], [], []).cause == "live"
    assert said(heard(5), [row("windowed", 1), row("duplicate", 4)], [], []).cause == "live"

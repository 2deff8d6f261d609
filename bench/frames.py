"""One made message or more of every wire format, as the devices of a port send them: for speed and for mutations."""

import json
import struct
from base64 import urlsafe_b64encode
from typing import Any, Final

from bench.tracker_frames import TRACKERS
from devices.codecs.native import Block, Event, Status, Telemetry, encode
from devices.codecs.tic40 import encode as encode_tic40
from devices.codecs.tic40_flat import encode_flat
from devices.vocabulary import DeviceClass

START_NS: Final = 1_795_421_730_250_000_000
"""2026-11-23T08:15:30.25Z."""
READS_OF_A_PASSAGE: Final = 20
"""The least that a vehicle in a lane is read."""
CRANE: Final[dict[str, float | bool]] = {
    "hoist_height_m": 12.85,
    "trolley_position_m": 31.2,
    "load_t": 24.6,
    "spreader_locked": True,
}


def _text(tree: Any) -> bytes:  # noqa: ANN401 - whatever JSON holds
    return json.dumps(tree).encode()


def _code(first: int, nth: int) -> bytes:
    """Return the code of the tag of the ``nth`` read: a tag that passes is read so often."""
    return (first + nth // READS_OF_A_PASSAGE).to_bytes(12)


def impinj_read(nth: int = 0) -> bytes:
    """Return an R700's report of one read."""
    return _text(
        {
            "timestamp": f"2026-11-23T08:15:{nth % 60:02}.944189383Z",
            "hostname": "impinj-14-2e-01",
            "eventType": "tagInventory",
            "tagInventoryEvent": {
                "epc": urlsafe_b64encode(_code(0xE2801191A5030065F26CCBFF, nth)).decode(),
                "antennaPort": 1 + nth % 4,
                "peakRssiCdbm": -7300 + nth % 900,
                "frequency": 920625,
                "transmitPowerCdbm": 3000,
            },
        }
    )


def zebra_read(nth: int = 0) -> bytes:
    """Return an FX reader's report of one read."""
    return _text(
        {
            "data": {
                "antenna": 1 + nth % 8,
                "channel": 922.25,
                "eventNum": 16_511 + nth,
                "format": "epc",
                "idHex": _code(0xE28011700000020D2A412182, nth).hex(),
                "peakRssi": -60,
                "phase": -170.48,
                "reads": 1,
            },
            "timestamp": f"2026-11-23T08:15:{nth % 60:02}.028+0000",
            "type": "CUSTOM",
        }
    )


def llrp_report(reads: int = 2) -> bytes:
    """Return a tag report with antenna, signal strength, times and Impinj's own phase, within its message."""
    one = b"\x8d" + bytes.fromhex("3074257BF7194E4000001A85") + struct.pack(">BHBb", 0x81, 2, 0x86, -61)
    one += struct.pack(">BQBQ", 0x82, START_NS // 1_000 - 900, 0x84, START_NS // 1_000)
    one += struct.pack(">BHBH", 0x87, 7, 0x88, 3)
    one += struct.pack(">HHIIh", 1_023, 14, 25_882, 57, -6_125) + struct.pack(">HHIIH", 1_023, 14, 25_882, 56, 2_048)
    body = (struct.pack(">HH", 240, 4 + len(one)) + one) * reads
    return struct.pack(">HII", 0x0400 | 61, 10 + len(body), 7) + body


def llrp_event(kind: int, value: bytes) -> bytes:
    """Return a reader's event notification that holds one event."""
    inner = struct.pack(">HHQ", 128, 12, START_NS // 1_000) + struct.pack(">HH", kind, 4 + len(value)) + value
    body = struct.pack(">HH", 246, 4 + len(inner)) + inner
    return struct.pack(">HII", 0x0400 | 63, 10 + len(body), 8) + body


QUAY_CRANE: Final[dict[str, float | bool]] = {
    "hoist_height_m": 12.85,
    "hoist_speed_mps": 1.5,
    "load_t": 24.6,
    "gross_load_t": 36.1,
    "trolley_position_m": 31.2,
    "gantry_position_m": 104.5,
    "spreader_locked": True,
    "spreader_landed": False,
    "spreader_size_ft": 40.0,
    "control_on": True,
    "wind_speed_mps": 5.5,
    "power_kw": 812.5,
}
TRUCK: Final[dict[str, float | bool]] = {
    "speed_mps": 6.25,
    "heading_deg": 271.5,
    "longitude_deg": 121.8712,
    "latitude_deg": 29.9377,
    "job_step": 4.0,
    "battery_percent": 71.5,
}


def tic40_trapped() -> bytes:
    """Return a quay crane's message with everything that such messages have been seen to get wrong."""

    def item(value: Any, unit: str = "", stamp: str = "2026-11-23T08:15:30.25", **more: str) -> dict[str, Any]:  # noqa: ANN401 - anything
        return {"pom": "output", "pomt": "actual", "unit": unit, "timestamp": stamp, "value": value} | more

    old = "2022-11-05T00:16:08"
    hoist = {
        "hoisting": {"height": [item(-3.62, "meters", reference="ground_+up")], "lenght": [item("", "meters")]},
        "weight": {"gross": [item(6.014, "ton")], "net": [item("0.512", "ton", "")]},
    }
    spreader = {
        "id": "1",
        "locked": {"status": [item("False"), item("True", pom="input")]},
        "landed": {"status": [item(value=False)]},
        "size20foot": {"status": [item("False")]},
        "size40foot": {"status": [item("True")]},
        "twin": {"status": [item("False", stamp=old)]},
        "locking": {"totalcounter": [item(12_345, "times")]},
    }
    crane = {
        "ID": "STS07",
        "type": "STS",
        "on": {"status": [item("True")], "totaltimer": [item("8123.5", "hour", "")]},
        "hoist": [hoist],
        "trolley": [{"trolleying": {"reach": [item(103.57, "meters", reference="backreach")]}}],
        "spreader": [spreader, {"id": "2", "locked": {"status": [item("True")]}}],
        "boom": [{"luffing": {"angle": [item("", "degrees")]}}],
    }
    header = {
        "id": "1",
        "sender": "PLC",
        "timestamp": "2026-11-23T08:15:30.25",
        "destinantion": "",
        "version": "2022.005",
    }
    return _text({"msg": header, "che": [crane]})


LLRP_KEEPALIVE: Final = struct.pack(">HII", 0x0400 | 62, 10, 9)

FRAMES: Final[dict[str, tuple[bytes, ...]]] = {
    "native": (
        encode(Telemetry(v=1, m=CRANE, boot=7, seq=118, ts=START_NS)),
        encode(Telemetry(v=1, m=CRANE, boot=7, seq=118, ts=START_NS), binary=False),
        encode(Block(v=1, t0=START_NS, dt=10**8, names=("load_t", "power_kw"), f32=bytes(48), boot=7, seq=119)),
        encode(Event(v=1, type="spreader_fault", data={"code": 17.0, "side": "land"}, boot=7, seq=120, ts=START_NS)),
        encode(Status(v=1, online=True, info={"maker": "ZPMC"}, boot=7, seq=0), binary=False),
    ),
    "tic40": (
        tic40_trapped(),
        encode_tic40("STS07", DeviceClass.QUAY_CRANE, START_NS, QUAY_CRANE),
        encode_tic40("TT101", DeviceClass.VEHICLE, START_NS, TRUCK),
    ),
    "tic40-flat": (
        encode_flat("STS07", DeviceClass.QUAY_CRANE, START_NS, QUAY_CRANE, separator="."),
        encode_flat("RTG12", DeviceClass.YARD_CRANE, START_NS, QUAY_CRANE, separator="|"),
        encode_flat("TT101", DeviceClass.VEHICLE, START_NS, TRUCK),
    ),
    "impinj": (
        impinj_read(),
        b"[" + impinj_read(1) + b"," + impinj_read(2) + b"]",
        impinj_read(3) + b"\n" + impinj_read(4) + b"\n",
        _text({"eventType": "inventoryStatus", "inventoryStatusEvent": {"inventoryStatus": "running"}}),
        _text({"mac": "00:16:25:13:F9:0B", "tag_reads": [{"epc": "E280116060000209", "firstSeenTimestamp": 1}] * 2}),
    ),
    "zebra": (
        zebra_read(),
        b"[" + zebra_read(1) + b"," + zebra_read(5) + b"]",
        _text({"type": "heartbeat", "eventNum": 372, "component": "RG", "data": {"radio_control": {}}}),
        _text(
            {"type": "dataEVT", "timestamp": 1_600_000_000_000, "data": {"tagData": [{"eventNum": 1, "idHex": "E2"}]}}
        ),
    ),
    "llrp": (
        llrp_report(),
        llrp_report(1) + LLRP_KEEPALIVE + llrp_report(3),
        llrp_event(255, b"\x00\x00\x03"),
        llrp_event(256, b"\x00\x00"),
        llrp_event(252, b"\x00\x05upset"),
        llrp_report(1)[10:],
    ),
    "epc": (
        bytes.fromhex("3074257BF7194E4000001A85"),
        bytes.fromhex("FB342CDE795211411234538566CB0AFC40"),
        bytes.fromhex("3D76451FD75411DEF6B4CC00000003039000"),
        b"3074257BF7194E4000001A85\nE2801191A5030065F26CCBFF\n",
    ),
    **TRACKERS,
    "edifact": (
        (
            b"UNB+UNOA:1+CNNGBBLCT+CARRIER+261123:0815+77'UNH+77+CODECO:D:95B:UN:SMDG16'BGM+34+DOC1+9'"
            b"TDT+20+123W+1++ABC:172:166+++9290127:146::EVER TEST'NAD+MS+BLCT:160:ZZZ'"
            b"EQD+CN+CSQU3054383+22G1:102:5++2+5'"
            b"RFF+BN:BOOK1'DTM+7:202611230815:203'LOC+165+CNNGB:139:6+BLCT:TER:ZZZ'MEA+AAE+VGM+KGM:27000.0'SEL+88200+SH'"
            b"TDT+1++3++:172:ZZZ+++93NGR1:146'CNT+16:1'UNT+13+77'UNZ+1+77'"
        ),
        (
            b"UNA:+.? 'UNH+1+COARRI:D:00B:UN'BGM+46+1+9'EQD+CN+TESI1120274+4EG1:102:5+++4'DTM+203:20261123:102'"
            b"LOC+147+0100284::5'EQD+CN+MSKU0308961+L5G1'FTX+DAR+++DENT?'S'UNT+000008+1'"
        ),
        b"UNH+1+BAPLIE:D:95B:UN'BGM++2'UNT+3+1'",
    ),
    "iso6346": (b"CSQU3054383 22G1\nTESI1120274\nHLXU 123456 1,45R1\n",),
}
"""Name of a codec → messages that it decodes."""

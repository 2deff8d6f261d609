"""What others published, through our codecs: how much of each source is read as it was meant, as docs/devices.md says.

A vector passes if every field that its source states is read the same; where a source states nothing but the message,
if the message is read and nothing of it refused. The tests of each codec compare more closely.
"""

import base64
import json
import math
import re
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from test_epc import EXAMPLES, WITHOUT_LINK, code_of
from test_jt808 import assert_dumped, assert_items, assert_paired, assert_status, dumped, pairs
from typer.testing import CliRunner

from devices.codecs.iso6346 import parse_number
from devices.codecs.readings import Reading
from devices.codecs.registry import CODECS, make_codec
from devices.rejects import RejectError
from quayflow.main import app

Verdicts = Iterator[bool]


def read(codec: str, payload: bytes, topic: str = "") -> list[Reading]:
    """Decode by a codec of its own; nothing where the message is refused, wholly or in part. The verb must agree."""
    result = CliRunner().invoke(app, ["decode", "--codec", codec, "--topic", topic, "-"], input=payload)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    try:
        readings = make_codec(codec).decode(payload, topic)
    except RejectError:
        readings = []
    assert (result.exit_code, len(lines)) == ((0, len(readings)) if readings else (1, 1))
    return [] if any(reading.refused for reading in readings) else readings


def first_event(codec: str, payload: Any) -> dict[str, Any]:
    readings = read(codec, payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return readings[0].happenings[0].data if readings and readings[0].happenings else {}


def epc_suites(name: str) -> Callable[[Path], Verdicts]:
    def verdicts(recorded: Path) -> Verdicts:
        for vector in json.loads((recorded / "rfid" / name).read_text()):
            pair = vector if isinstance(vector, list) else (vector["epc_hex"], vector["tag_uri"])
            said = first_event("epc", code_of(pair[0]))
            identity = said["identity"] if isinstance(vector, list) else vector["pure_identity"]
            yield (said["tag_uri"], said["identity"]) == (pair[1], identity)

    return verdicts


def epc_standard(recorded: Path) -> Verdicts:
    del recorded
    for scheme, digits, link in EXAMPLES:
        said = first_event("epc", code_of(digits))
        yield (said["scheme"], said["link"]) == (scheme, f"https://id.gs1.org{link}")
    for digits, scheme, body in WITHOUT_LINK:
        yield first_event("epc", code_of(digits))["tag_uri"] == f"urn:epc:tag:{scheme}:{body}"


def readers(name: str, field: Callable[[dict[str, Any]], str]) -> Callable[[Path], Verdicts]:
    def verdicts(recorded: Path) -> Verdicts:
        decoded = json.loads((recorded / "rfid" / "reader_payloads_decoded.json").read_text())
        for maker, messages in decoded.items():
            if not maker.startswith(name):
                continue
            for message in messages:
                data = first_event(name, message["payload"])
                expected = message.get("expect", {})
                digits = expected.get("epc_hex") or field(message["payload"])
                yield (
                    data.get("tag") == digits.upper() and expected.get("rssi_dbm", data["rssi_dbm"]) == data["rssi_dbm"]
                )

    return verdicts


def zebra(name: str) -> Callable[[Path], Verdicts]:
    """Messages of Zebra readers, of which every field with a meaning is compared: they are their own statement."""

    def verdicts(recorded: Path) -> Verdicts:
        text = (recorded / "rfid" / name).read_text()
        if name.endswith(".jsonl"):
            payloads = [json.loads(line)["payload"] for line in text.splitlines()]
        else:
            payloads = [message["payload"] for message in json.loads(text)["zebra_iotc"]]
        for payload in payloads:
            [reading] = read("zebra", json.dumps(payload).encode()) or [Reading()]
            said = payload[0] if isinstance(payload, list) else payload
            yield reading.ts == epoch_ns(said["timestamp"]) and zebra_told(reading) == zebra_said(said)

    return verdicts


def epoch_ns(stamp: str | int) -> int:
    """Return a reader's time, text or ms, in ns."""
    if isinstance(stamp, int):
        return stamp * 1_000_000
    return round(datetime.fromisoformat(stamp).timestamp() * 1_000) * 1_000_000


def zebra_said(payload: dict[str, Any]) -> dict[str, Any]:
    """Return what a message states, under the reader's own names; a number below 100 is a channel, no frequency."""
    data = payload["data"]
    if "idHex" not in data:
        return {"eventNum": payload["eventNum"]}
    known = ("idHex", "antenna", "peakRssi", "phase", "channel", "eventNum")
    return {name: data[name].upper() if name == "idHex" else data[name] for name in known if name in data}


def zebra_told(reading: Reading) -> dict[str, Any]:
    """Return what was read under the reader's own names and in its units."""
    told: dict[str, Any] = {} if reading.seq is None else {"eventNum": reading.seq}
    for each in reading.happenings:
        data = each.data
        told["idHex"] = f"{data['tag']}{data.get('tid', '')}"
        told |= {name: data[ours] for name, ours in (("antenna", "antenna"), ("peakRssi", "rssi_dbm")) if ours in data}
    if "phase_rad" in reading.values:
        told["phase"] = pytest.approx(math.degrees(reading.values["phase_rad"]))
    channel = reading.values.get("frequency_mhz", reading.info.get("channel"))
    return told if channel is None else told | {"channel": channel}


def llrp(recorded: Path) -> Verdicts:
    for path in sorted((recorded / "rfid" / "llrp").rglob("*.bytes")):
        other = json.loads(path.with_suffix(".json").read_text())
        readings = read("llrp", path.read_bytes())
        if "TagReportData" in other:
            [tag], said = other["TagReportData"], readings[0].happenings[0].data
            code = base64.b64decode(tag["EPC96"]["EPC"]).hex().upper()
            yield (said["tag"], said["rssi_dbm"], readings[0].ts) == (
                code,
                tag["PeakRSSI"],
                tag["FirstSeenUTC"] * 1_000,
            )
        elif "LLRPStatus" in other:
            yield readings[0].info["status"] == other["LLRPStatus"]["Status"]
        else:
            yield readings[0].ts == other["ReaderEventNotificationData"]["UTCTimestamp"] * 1_000


def iso6346_suite(recorded: Path) -> Verdicts:
    published = json.loads((recorded / "logistics" / "iso6346.json").read_text())
    yield from (parse_number(number).valid for number in published["valid"])
    for number, said in published["published_but_invalid"].items():
        yield (
            "check_digit" in read("iso6346", number.encode())[0].flags
            and parse_number(number).expected == said["expected"]
        )


def iso6346_doctest(recorded: Path) -> Verdicts:
    good, bad = (
        (recorded / "logistics" / "iso6346_python-stdnum.doctest").read_text().split("Test with invalid numbers")
    )
    for text, valid in ((good, True), (bad, False)):
        for number in re.findall(r"validate\('(\w+)'\)", text):
            yield any(not reading.flags for reading in read("iso6346", number.encode())) is valid


def edifact_reports(recorded: Path) -> Verdicts:
    lines = (recorded / "logistics" / "edifact" / "codeco_coarri.txt").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            said = first_event("edifact", line.encode())
            yield f"EQD+CN+{said['container']}+{said['size_type']}" in line and said["container_operator"] in line


def edifact_others(recorded: Path) -> Verdicts:
    for path in sorted((recorded / "logistics" / "edifact").glob("*.edi")):
        readings = read("edifact", path.read_bytes())
        yield all(f"UNH+{reading.happenings[0].data['reference']}+" in path.read_text() for reading in readings)


def edifact_view(recorded: Path) -> Verdicts:
    view = json.loads((recorded / "logistics" / "fiware_EdiCodeco_example.json").read_text())
    said = first_event("edifact", view["messageRaw"].encode())
    yield (said["container"], said["plate"]) == (view["containerIdentification"], view["truckLicenseCode"])


def lines_of(codec: str, path: str, pattern: str) -> Callable[[Path], Verdicts]:
    """Messages as hexadecimal digits, found by a pattern."""

    def verdicts(recorded: Path) -> Verdicts:
        for digits in re.findall(pattern, (recorded / "trackers" / path).read_text(encoding="utf-8")):
            yield bool(read(codec, bytes.fromhex(digits)))

    return verdicts


def compared(pairs: Callable[[Path], list[tuple[bytes, Any]]], compare: Callable[[bytes, Any], Any]) -> Any:
    """Frames of JT/T 808 with another library's decoding, field by field."""

    def verdicts(recorded: Path) -> Verdicts:
        for frame, expected in pairs(recorded):
            try:
                compare(frame, expected)
            except AssertionError:
                yield False
            else:
                yield bool(read("jt808", frame))

    return verdicts


def jt808_parts(recorded: Path) -> Verdicts:
    folder = recorded / "trackers" / "jt808_gojt808"
    for path in sorted(folder.glob("*0x1205*")):
        for digits in re.findall(r"(?m)^(7e[0-9a-f]+7e)\s*$", path.read_text(encoding="utf-8")):
            yield bool(read("jt808", bytes.fromhex(digits)))


def jt808_attachments(recorded: Path) -> Verdicts:
    folder = recorded / "trackers" / "jt808_gojt808"
    for path in sorted(folder.glob("attachment__*")):
        for digits in re.findall(r"7e[0-9a-f]{24,}?7e(?![0-9a-f])", path.read_text(encoding="utf-8")):
            yield bool(read("jt808", bytes.fromhex(digits)))


def jt808_tables(recorded: Path) -> Verdicts:
    folder = recorded / "trackers" / "jt808_gojt808"
    for pattern, compare in (("*status_sign*", assert_status), ("*0x0200_addition*", assert_items)):
        for path in sorted(folder.glob(pattern)):
            try:
                compare(path.read_text(encoding="utf-8"))
            except AssertionError:
                yield False
            else:
                yield True


def sparkplug_vectors(recorded: Path) -> Verdicts:
    """Messages of one node in a row: what a name is called by later is said at its birth."""
    codec = make_codec("sparkplug")
    for vector in json.loads((recorded / "sparkplug" / "umh_test_vectors.json").read_text()):
        payload, topic = bytes.fromhex(vector["hex"]), f"spBv1.0/port/{vector['message_type']}/node"
        if vector["name"] == "NDATA_BEFORE_BIRTH":
            with pytest.raises(RejectError, match="no_birth"):
                make_codec("sparkplug").decode(payload, topic)
        [reading, *others] = codec.decode(payload, topic)
        told = reading.info | reading.unknown
        yield (
            not others and not reading.refused and told == sparkplug_meant(vector) and sparkplug_counts(vector, reading)
        )


def sparkplug_meant(vector: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics that the bytes hold, by the name that the birth gave them, as many as the vector says."""
    meant: dict[str, Any]
    match vector["name"]:
        case "NBIRTH_V1":
            meant = {"bdSeq": 88, "Node Control/Rebirth": False, "Temperature": 21.5}
        case "NBIRTH_LARGE":
            meant = {"bdSeq": 88, "Node Control/Rebirth": False}
            meant |= {f"Metric_{number}": 1.5 * number for number in range(1, 101)}
        case "NDEATH_V1":
            # It bears the bdSeq of another birth than the one before it.
            meant = {"old_death": 0}
        case name:
            degrees = {"NDATA_V1": 22.5, "NDATA_GAP": 27.0, "NDATA_BEFORE_BIRTH": 25.0, "NDATA_WRAPAROUND": 30.0}
            meant = {"Temperature": degrees[name]}
    assert len(meant) == vector["metric_count"]
    return meant


def sparkplug_counts(vector: dict[str, Any], reading: Reading) -> bool:
    """Tell whether the number read is the one that the vector's description says, and the time its own."""
    number = {"NDATA_V1": 1, "NDATA_GAP": 5, "NDATA_BEFORE_BIRTH": 1, "NDATA_WRAPAROUND": 0}.get(vector["name"], 0)
    if vector["message_type"] == "NDEATH":
        return reading.seq is None and reading.flags == ("old_death",)
    return reading.ts == 1_750_855_643_474 * 10**6 and (reading.seq or 0) % 256 == number


def teltonika(recorded: Path) -> Verdicts:
    """Packets of traccar's test: whether there are positions, and four attributes."""
    for line in (recorded / "trackers" / "teltonika_traccar.jsonl").read_text(encoding="utf-8").splitlines():
        vector = json.loads(line)
        payload = bytes.fromhex(vector["payload"])
        readings = read("teltonika", payload)
        located = ["latitude_deg" in reading.values for reading in readings]
        if vector["verify"] == "Positions" and payload[8:9] in {b"\x0c", b"\x0d"}:
            # Text from a command or a serial line, which traccar tells at the last position that it knows.
            [said] = [each.data["text"] for each in readings[0].happenings]
            yield len(readings) == 1 and (said, readings[0].ts) == teltonika_text(payload)
        elif vector["verify"] == "Positions":
            # Every record of a packet is a reading of its own.
            yield len(readings) == payload[9] and all(located) and teltonika_begins(payload, readings[0])
        elif vector["verify"] == "Null":
            yield bool(readings) and not any(located)
        else:
            name, _, value = vector["expected"].partition(", ")
            yield teltonika_tells(readings[-1], name.strip('"'), json.loads(value))


def teltonika_text(payload: bytes) -> tuple[str, int | None]:
    """Return the text of a packet, and its time where it has one: codec 13 has it before the text, in s or ms."""
    said, ts = payload[15:-5], None
    if payload[8] == 0x0D:
        width, ns = (8, 10**6) if payload[15] == 0 else (4, 10**9)
        said, ts = said[width:], int.from_bytes(said[:width]) * ns
    return said.decode("latin-1"), ts


def teltonika_begins(payload: bytes, first: Reading) -> bool:
    """Tell whether the first record is read as it lies in the packet, by the offsets of the published layout."""
    ms, longitude, latitude, altitude, heading, satellites, speed = struct.unpack_from(">QxiihHBH", payload, 10)
    values = first.values
    return (first.ts, first.info.get("satellites")) == (ms * 10**6, satellites) and values | {
        "latitude_deg": pytest.approx(latitude / 1e7),
        "longitude_deg": pytest.approx(longitude / 1e7),
        "altitude_m": altitude,
        "heading_deg": heading,
        "speed_mps": pytest.approx(speed / 3.6),
    } == values


def teltonika_tells(reading: Reading, name: str, value: Any) -> bool:
    """Tell whether an attribute is read; of elements that only a model's table explains, in the bytes that are kept."""
    facts = reading.info
    match name:
        case "tag1Voltage":
            return bool(2_000 + 10 * bytes.fromhex(str(facts["io_548"]))[16] == value)
        case "tag1Battery":
            return bool(int(str(facts["io_10831"])[-4:], 16) == value)
        case "eyeTemp1":
            return bool(struct.unpack(">h", struct.pack(">H", facts["io_10800"]))[0] / 100 == value)
        case _:
            return f"|{value}|" in str(reading.happenings[0].data["text"])


def owntracks(recorded: Path) -> Verdicts:
    for line in (recorded / "trackers" / "owntracks_traccar.jsonl").read_text().splitlines():
        payload = json.loads(line)["payload"].lstrip("/").encode()
        [reading] = read("owntracks", payload, "owntracks/u/d") or [Reading()]
        said = json.loads(payload)
        stated = {"latitude_deg": ("lat", 1.0), "longitude_deg": ("lon", 1.0), "speed_mps": ("vel", 1 / 3.6)}
        stated |= {"heading_deg": ("cog", 1.0), "altitude_m": ("alt", 1.0), "battery_percent": ("batt", 1.0)}
        meant = {name: pytest.approx(said[field] * to) for name, (field, to) in stated.items() if field in said}
        yield reading.values == meant and reading.ts == said["tst"] * 10**9


def sparkplug_golden(recorded: Path) -> Verdicts:
    golden = json.loads((recorded / "sparkplug" / "golden_bytes.json").read_text())
    meant: list[dict[str, Any]] = [{"bdSeq": 3}, {"alias 1": "locked"}, {"Node Control/Rebirth": True}]
    meant.append({"bdSeq": 3, "Device Control/Rebirth": True})
    for digits, expected in zip(golden.values(), meant, strict=True):
        yield [reading.info | reading.unknown for reading in read("sparkplug", bytes.fromhex(digits))] == [expected]


SOURCES: dict[str, Callable[[Path], Verdicts]] = {
    "impinj: single messages": readers("impinj", lambda said: (
        said["tag_reads"][0]["epc"] if "tag_reads" in said else said["tagInventoryEvent"]["epcHex"]
    )),
    "zebra: single messages": zebra("reader_payloads_decoded.json"),
    "zebra: observed": zebra("reader_payloads_observed.jsonl"),
    "llrp: device-rfid-llrp-go": llrp,
    "epc: test suites": epc_suites("epc_vectors.json"),
    "epc: epc-coder": epc_suites("epc_vectors_epc-coder.json"),
    "epc: TDS 2.3, annex E.3": epc_standard,
    "iso6346: test suites": iso6346_suite,
    "iso6346: python-stdnum": iso6346_doctest,
    "edifact: CODECO, COARRI": edifact_reports,
    "edifact: other messages": edifact_others,
    "edifact: smart-data-models": edifact_view,
    "sparkplug: golden bytes": sparkplug_golden,
    "jt808: jt808-server, pairs": compared(pairs, assert_paired),
    "jt808: jt808-server, frames": lines_of("jt808", "jt808_yezhihao_frames.txt", r"(?m)^([0-9a-fA-F]+)$"),
    "jt808: jt808-server, parts": lines_of("jt808", "jt808_yezhihao_fragments_1205.txt", r"(?m)^([0-9a-fA-F]+)$"),
    "jt808: jt808-server, T/JSATL": lines_of("jt808", "jt808_yezhihao_tjsatl_frames.txt", r"(?m)^([0-9a-fA-F]+)$"),
    "jt808: go-jt808": compared(dumped, assert_dumped),
    "jt808: go-jt808, parts": jt808_parts,
    "jt808: go-jt808, attachments": jt808_attachments,
    "jt808: go-jt808, tables": jt808_tables,
    "sparkplug: benthos-umh": sparkplug_vectors,
    "teltonika: traccar": teltonika,
    "owntracks: traccar": owntracks,
}  # fmt: skip


def rows(root: Path) -> dict[str, tuple[int, int]]:
    text = (root / "docs" / "devices.md").read_text()
    found = re.findall(r"^\| `([\w-]+)` \| ([^|]+?) \|[^|]+\| (\d+)/(\d+) \|", text, re.MULTILINE)
    return {f"{codec}: {source}": (int(passed), int(total)) for codec, source, passed, total in found}


@pytest.mark.parametrize("source", SOURCES)
def test_so_many_vectors_pass_as_the_table_says(source: str, root: Path, recorded: Path) -> None:
    verdicts = list(SOURCES[source](recorded))
    assert rows(root)[source] == (sum(verdicts), len(verdicts))
    # What does not pass is known one by one and told beside the table.
    assert sum(verdicts) >= 0.9 * len(verdicts)


def test_every_source_and_every_codec_is_in_the_tables(root: Path) -> None:
    assert set(rows(root)) == set(SOURCES)
    text = (root / "docs" / "devices.md").read_text()
    assert [name for name in CODECS if f"| `{name}` |" not in text] == []

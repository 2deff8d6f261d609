import asyncio
import base64
import json
import math
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from devices.codecs.native import Telemetry, decode_telemetry, encode
from devices.times import format_rfc3339, parse_rfc3339
from engines.mosquitto import Mosquitto, running_mosquitto
from engines.ports import free_port
from engines.subscriber import eventually, received
from simulators.broker import Broker
from simulators.readback import Expected
from simulators.replay import ReplayConfig, ReplayProgress, ReplayResult, run
from simulators.thresholds import Threshold, ThresholdError
from simulators.tracks import BadRows, Recorded, RecordingError, RecordingFile, files, read_messages, read_track

NS = 1_000_000_000
RECORDED_NS = 1_583_049_600 * NS
TRACK = "timestamp,x,y,speed_mps,remark\n" + "".join(
    f"2020-03-01 08:00:{second:02d}.5,{second * 3.25 - 40},{second * -1.5},{4 + second / 8},free text\n"
    for second in range(20)
)


@pytest.fixture(scope="module")
def broker() -> Iterator[Mosquitto]:
    with running_mosquitto() as running:
        yield running


def replay_and_receive(broker: Mosquitto, config: ReplayConfig) -> tuple[ReplayResult, list[tuple[str, bytes]]]:
    async def scenario() -> tuple[ReplayResult, list[tuple[str, bytes]]]:
        async with received(broker, "#") as messages:
            result = await run(config)
            await eventually(lambda: len(messages) >= result.acked, "every message arrives")
        return result, [(str(message.topic), bytes(message.payload)) for message in messages]

    return asyncio.run(scenario())


@pytest.fixture
def track(tmp_path: Path) -> Path:
    path = tmp_path / "van 7.csv"
    path.write_text(TRACK)
    return path


@pytest.mark.parametrize("payload", ["msgpack", "json"])
def test_a_track_is_sent_as_recorded_but_for_the_shift_and_the_offset(
    broker: Mosquitto, track: Path, payload: str
) -> None:
    before = time.time_ns()
    config = ReplayConfig(track, Broker(port=broker.port), speed=math.inf, offset_m=(100.0, 50.0), payload=payload)
    result, messages = replay_and_receive(broker, config)
    after = time.time_ns()
    assert (result.messages, result.sent, result.acked, result.lost, result.bad_rows) == (20, 20, 20, 0, 0)
    assert [topic for topic, _ in messages] == ["port/CNNGB-DEMO/vehicle/van-7/telemetry"] * 20
    decoded = [decode_telemetry(body) for _, body in messages]
    assert all((body[:1] == b"{") == (payload == "json") for _, body in messages)
    assert [found.m for found in decoded] == [
        {"x_m": second * 3.25 + 60, "y_m": second * -1.5 + 50, "speed_mps": 4 + second / 8} for second in range(20)
    ]
    recorded = [parse_rfc3339(f"2020-03-01T08:00:{second:02d}.5Z") for second in range(20)]
    assert [found.ts for found in decoded] == [ts + result.shift_ns for ts in recorded]
    assert before <= recorded[-1] + result.shift_ns <= after  # at unlimited speed the last point is now
    assert [found.seq for found in decoded] == list(range(20))
    account = result.devices["CNNGB-DEMO/vehicle/van-7"]
    assert {found.boot for found in decoded} == {account["boot"]}
    assert (account["first_seq"], account["last_seq"], account["offset_x_m"]) == (0, 19, 100.0)


def test_without_shift_the_same_recording_is_the_same_traffic(broker: Mosquitto, track: Path) -> None:
    config = ReplayConfig(track, Broker(port=broker.port), speed=math.inf, shift="none")
    first, second = replay_and_receive(broker, config)[1], replay_and_receive(broker, config)[1]
    assert first == second
    assert decode_telemetry(first[0][1]).ts == parse_rfc3339("2020-03-01T08:00:00.5Z")


def test_with_shift_the_same_recording_is_new_traffic(broker: Mosquitto, track: Path) -> None:
    config = ReplayConfig(track, Broker(port=broker.port), speed=math.inf)
    first, second = replay_and_receive(broker, config)[1], replay_and_receive(broker, config)[1]
    assert decode_telemetry(first[0][1]).boot != decode_telemetry(second[0][1]).boot


def test_original_timing_is_kept_and_lateness_is_measured(broker: Mosquitto, track: Path) -> None:
    seen: list[ReplayProgress] = []
    config = ReplayConfig(
        track, Broker(port=broker.port), speed=19.0, thresholds=("lost==0", "behind_max<60s", "rate>1000")
    )
    result = asyncio.run(run(config, seen.append))
    assert 0.95 <= result.elapsed_s < 5  # 19 recorded seconds
    assert result.behind_ms["max"] > 0
    assert [threshold["ok"] for threshold in result.thresholds] == [True, True, False]
    assert not result.passed
    assert seen[-1].acked == seen[-1].messages == 20
    assert json.loads(msgspec.json.encode(result.as_dict()))["passed"] is False


def test_a_default_offset_puts_the_middle_of_a_track_into_the_port(broker: Mosquitto, track: Path) -> None:
    _, messages = replay_and_receive(broker, ReplayConfig(track, Broker(port=broker.port), speed=math.inf))
    x = [decode_telemetry(body).m["x_m"] for _, body in messages]
    y = [decode_telemetry(body).m["y_m"] for _, body in messages]
    assert (min(x) + max(x)) / 2 == pytest.approx(360, abs=0.5)
    assert (min(y) + max(y)) / 2 == pytest.approx(220, abs=0.5)


def test_limits_take_the_first_messages_and_the_first_devices(broker: Mosquitto, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "vans.zip", "w") as archive:
        for number in (3, 1, 2):
            archive.writestr(f"run/van_{number}.csv", TRACK)
        archive.writestr("run/read me.txt", "not a recording")
    config = ReplayConfig(tmp_path / "vans.zip", Broker(port=broker.port), speed=math.inf, limit=7, limit_devices=2)
    result, messages = replay_and_receive(broker, config)
    assert result.messages == len(messages) == 7
    assert {topic.split("/")[3] for topic, _ in messages} == {"van_1", "van_2"}
    times = sorted(decode_telemetry(body).ts for _, body in messages)  # type: ignore[type-var]
    assert times[-1] == parse_rfc3339("2020-03-01T08:00:03.5Z") + result.shift_ns


def test_recorded_messages_are_moved_where_they_are_native_and_sent_byte_for_byte_where_not(
    broker: Mosquitto, tmp_path: Path
) -> None:
    ts = 1_700_000_000 * NS
    text = {"v": 1, "boot": 5, "seq": 3, "ts": format_rfc3339(ts + NS // 2), "m": {"antenna": 2}}
    binary = encode(Telemetry(v=1, boot=5, seq=4, ts=ts + NS, m={"antenna": 3}))
    lines: list[dict[str, Any]] = [
        {"topic": "port/CNNGB-DEMO/rfid-gate/G1/telemetry", "payload": text, "ts": ts + NS // 2},
        {
            "topic": "port/CNNGB-DEMO/rfid-gate/G1/telemetry",
            "payload": base64.b64encode(binary).decode(),
            "ts": ts + NS,
        },
        {"topic": "zebra/fx9600/tags", "payload": {"type": "SIMPLE", "data": {}}, "ts": format_rfc3339(ts)},
        {"topic": "raw/one", "payload": base64.b64encode(b"\x00\xff").decode(), "ts": ts + 2 * NS},
    ]
    path = tmp_path / "recording.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    result, messages = replay_and_receive(broker, ReplayConfig(path, Broker(port=broker.port), speed=math.inf))
    assert (result.messages, result.acked, result.verbatim) == (4, 4, 2)
    native = [decode_telemetry(body) for topic, body in messages if topic.startswith("port/")]
    assert parse_rfc3339(str(native[0].ts)) == ts + NS // 2 + result.shift_ns
    assert native[1].ts == ts + NS + result.shift_ns
    assert native[0].boot == native[1].boot != 5
    found = dict(messages)
    assert json.loads(found["zebra/fx9600/tags"]) == {"type": "SIMPLE", "data": {}}
    assert found["raw/one"] == b"\x00\xff"
    same, unmoved = replay_and_receive(
        broker, ReplayConfig(path, Broker(port=broker.port), speed=math.inf, shift="none")
    )
    assert same.verbatim == 0
    assert binary in [body for _, body in unmoved]


def test_bad_rows_are_said_skipped_and_counted(broker: Mosquitto, tmp_path: Path) -> None:
    rows = ["2020-01-01T00:00:00Z,1,2", "yesterday,1,2", "2020-01-01T00:00:01Z,east,2", "2020-01-01T00:00:02Z,nan,2"]
    rows += ["2020-01-01T00:00:03Z,5e9,2", "2020-01-01T00:00:04Z,1", "", "1577836805.25,7,8"]
    (tmp_path / "van.csv").write_text("timestamp,x,y\n" + "\n".join(rows))
    lines = [
        "{",
        "[]",
        '{"topic":"a/+","payload":{},"ts":1}',
        '{"topic":"a","payload":"!","ts":1}',
        '{"topic":"a","payload":{}}',
    ]
    (tmp_path / "van.jsonl").write_text("\n".join([*lines, '{"topic":"a","payload":{},"offset":1.5}']))
    result, messages = replay_and_receive(
        broker, ReplayConfig(tmp_path, Broker(port=broker.port), speed=math.inf, shift="none")
    )
    assert result.bad_rows == 10
    assert len(messages) == result.messages == 3
    notes = " | ".join(result.bad_row_notes)
    for said in (
        "van.csv:3",
        "yesterday",
        "van.csv:4",
        "east",
        "x_m = nan",
        "x_m = 5e9",
        "2 columns",
        "van.jsonl:1",
        "base64",
    ):
        assert said in notes
    points = [decode_telemetry(body) for topic, body in messages if topic != "a"]
    assert points[1].ts == 1_577_836_805 * NS + NS // 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "timestamp,x,y\n", "no message can be replayed"),
        ("header.csv", "time,x,y\n1,2,3\n", "lacks timestamp"),
        ("broken.zip", "this is no archive", "cannot be read"),
        ("notes.txt", "hello", "allowed are .csv, .jsonl"),
    ],
)
def test_a_recording_that_cannot_be_used_is_an_error_that_says_why(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordingError, match=said):
        asyncio.run(run(ReplayConfig(tmp_path / name, Broker(port=free_port()))))


def test_a_recording_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        list(files(Path("nowhere.csv")))


def test_without_a_broker_nothing_passes() -> None:
    with running_mosquitto() as gone:
        gone.stop()
        path = gone.folder / "one.csv"
        path.write_text(TRACK)
        config = ReplayConfig(path, Broker(port=gone.port), speed=math.inf, patience_s=0.5, thresholds=("lost==0",))
        result = asyncio.run(run(config))
    assert (result.messages, result.sent, result.acked, result.lost) == (20, 0, 0, 20)
    assert not result.passed


def test_a_replay_survives_the_brokers_death(track: Path) -> None:
    with running_mosquitto() as broker:
        config = ReplayConfig(track, Broker(port=broker.port), speed=10.0, thresholds=("lost==0", "reconnects>0"))

        async def scenario() -> ReplayResult:
            running = asyncio.create_task(run(config))
            await asyncio.sleep(0.7)  # in the middle of the 1.9 s
            await asyncio.to_thread(broker.restart, kill=True)
            return await running

        result = asyncio.run(scenario())
    assert result.passed
    assert result.acked == 20


def test_points_are_put_in_the_order_of_time_and_keep_their_nanoseconds() -> None:
    bad = BadRows()
    content = b"timestamp,x,y\n1964-01-12 00:00:04.980000257,2,0\n1964-01-12 00:00:00,1,0\n"
    points = read_track(RecordingFile("van.csv", content), bad)
    assert [point.values["x_m"] for point in points] == [1, 2]
    assert points[1].ts - points[0].ts == 4_980_000_257
    assert not bad.count


def test_a_boolean_is_no_time() -> None:
    bad = BadRows()
    assert not read_messages(RecordingFile("a.jsonl", b'{"topic":"a","payload":{},"ts":true}'), bad)
    assert bad.count == 1


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("lost==0", True),
        ("lost != 0", False),
        ("behind_p99<500ms", True),
        ("behind_p99<=0.1s", False),
        ("rate>=100", True),
    ],
)
def test_thresholds_compare_in_base_units(text: str, holds: bool) -> None:
    figures = {"lost": 0.0, "behind_p99": 0.4, "rate": 100.0}
    assert Threshold.parse(text, frozenset(figures)).holds(figures) == holds


@pytest.mark.parametrize("text", ["lost", "lost=0", "lost==zero", "speed<1", "lost==0 or 1", ""])
def test_a_threshold_that_cannot_be_read_is_found_before_the_replay(text: str) -> None:
    with pytest.raises(ThresholdError, match=r"allowed|expected"):
        ReplayConfig(Path("x.csv"), thresholds=(text,))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shift", "later"),
        ("speed", 0.0),
        ("speed", math.nan),
        ("clients", 0),
        ("limit", 0),
        ("payload", "xml"),
        ("site", "x"),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} = "):
        ReplayConfig(Path("x.csv"), **{field: value})  # type: ignore[arg-type]


def test_a_msgpack_recording_is_read_like_the_same_one_in_json_lines(tmp_path: Path) -> None:
    payload = encode(Telemetry(v=1, m={"speed_mps": 4.2}, boot=1, seq=0, ts=RECORDED_NS))
    topic = "port/CNNGB-DEMO/vehicle/T-001/telemetry"
    binary = {"ts": RECORDED_NS, "topic": topic, "payload": payload}
    (tmp_path / "a.msgpack").write_bytes(msgpack.packb(binary) + msgpack.packb({"topic": topic}) + b"\xc1")
    (tmp_path / "a.jsonl").write_text(json.dumps(binary | {"payload": base64.b64encode(payload).decode()}))
    found = {}
    bad = BadRows()
    for file in files(tmp_path):
        found[file.name] = read_messages(file, bad)
    assert found["a.msgpack"] == found["a.jsonl"] == [Recorded(RECORDED_NS, topic, payload)]
    assert bad.count == 2
    assert [note.split(":")[1] for note in bad.notes] == ["2", "3"]


def test_messages_that_cannot_be_compared_are_counted_when_it_is_read_back() -> None:
    expected = Expected()
    telemetry = {"v": 1, "boot": 1, "seq": 0, "ts": 1_795_420_800 * 10**9, "m": {"load_t": 1.5}}
    where = "port/CNNGB-DEMO/quay-crane/QC01"
    for _ in range(2):
        expected.add(f"{where}/telemetry", json.dumps(telemetry).encode())
    expected.add(f"{where}/telemetry", json.dumps({"v": 1, "m": {"load_t": 1.5}}).encode())
    expected.add(f"{where}/status", json.dumps({"v": 1, "online": True}).encode())
    expected.add(f"{where}/tic40", b'{"che":[]}')
    assert (expected.messages, expected.unchecked, len(expected.series)) == (4, 3, 1)

"""Figures equal those computed independently, from the raw samples, in plain Python."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_port import NOW, SITE, Client, Clock, MadePort, client_of, device, worker_status

from devices.times import NS, format_rfc3339, parse_rfc3339
from engines.influx import Influx
from engines.postgres import Postgres

BEGIN = parse_rfc3339("2026-11-23T05:00:00Z")
WATERMARK = parse_rfc3339("2026-11-23T07:41:23.7Z")
COMPLETE = parse_rfc3339("2026-11-23T07:41:20Z")
"""The watermark on the grid of the windows: what lies after it is not complete."""
QC01, QC02, YC01 = (f"{SITE}/quay-crane/QC01", f"{SITE}/quay-crane/QC02", f"{SITE}/yard-crane/YC01")
G1, OTHER = f"{SITE}/rfid-gate/G1", "CNSHA-YS1/quay-crane/QC01"
DEVICES = (QC01, QC02, YC01, G1, OTHER)


class Sample(NamedTuple):
    uid: str
    metric: str
    ts: int
    seq: int
    value: float
    late: bool


def made_samples() -> list[Sample]:
    draw = random.Random(7)
    found: list[Sample] = []

    def series(uid: str, metric: str, number: int, value: Any) -> None:
        times = sorted(draw.randrange(BEGIN, NOW) for _ in range(number))
        for seq, ts in enumerate(times):
            found.append(Sample(uid, metric, ts, seq, value(), draw.random() < 0.05))

    for uid in (QC01, QC02, OTHER):
        series(uid, "load_t", 900, lambda: draw.randrange(-20_000, 500_000) / 1000)
        series(uid, "moves", 80, lambda: 1.0)
        series(uid, "teu", 80, lambda: draw.choice([1.0, 2.0, 2.25]))
    series(YC01, "yard_moves", 60, lambda: 1.0)
    series(G1, "passages_in", 50, lambda: 1.0)
    series(G1, "passages_out", 40, lambda: 1.0)
    return found


SAMPLES = made_samples()


@pytest.fixture(scope="module", params=["embedded", "servers"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("figures")
    urls: tuple[str, ...] = ()
    if request.param == "servers":
        influx: Influx = request.getfixturevalue("influx")
        postgres: Postgres = request.getfixturevalue("postgres")
        urls = (influx.create("figures"), postgres.create("figures"))
    port = MadePort(folder, *urls)
    for uid, metric in dict.fromkeys((sample.uid, sample.metric) for sample in SAMPLES):
        chosen = [sample for sample in SAMPLES if (sample.uid, sample.metric) == (uid, metric)]
        port.add(uid, metric, [s.ts for s in chosen], [s.value for s in chosen], [s.late for s in chosen])
        port.commit()
    port.commit(devices=[device(uid, watermark_ns=WATERMARK) for uid in DEVICES], status=worker_status())
    assert port.sink.drain(30)
    with client_of(port, Clock(NOW)) as client:
        yield client


def chosen(uid: str, metric: str, start: int, end: int) -> list[Sample]:
    return [s for s in SAMPLES if s.uid == uid and s.metric == metric and start <= s.ts < end]


RANGES = [
    ("2026-11-23T05:00:00Z", "2026-11-23T08:00:00Z", "1h"),
    ("2026-11-23T05:03:20Z", "2026-11-23T07:57:10Z", "1h"),
    ("2026-11-23T05:00:00Z", "2026-11-23T08:00:00Z", "15m"),
    ("2026-11-23T06:10:00Z", "2026-11-23T06:50:00Z", "PT5M"),
    ("2026-11-23T06:10:10Z", "2026-11-23T06:10:50Z", "20s"),
    ("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z", "1d"),
]


def assert_percentiles(said: dict[str, Any], values: list[float]) -> None:
    for percent in (50, 95, 99):
        exact = sorted(values)[-(-len(values) * percent // 100) - 1]
        assert abs(said[f"p{percent}"] - exact) <= abs(exact) * 0.0100001


@pytest.mark.parametrize(("start", "end", "step"), RANGES)
def test_telemetry_is_what_the_samples_say(client: Client, start: str, end: str, step: str) -> None:
    found = client.json(
        "/v1/devices/CNNGB-DEMO~quay-crane~QC01/telemetry", metric="load_t", start=start, end=end, step=step
    )
    samples = chosen(QC01, "load_t", parse_rfc3339(start), parse_rfc3339(end))
    step_ns = {"1h": 3_600, "15m": 900, "PT5M": 300, "20s": 20, "1d": 86_400}[step] * NS
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        buckets.setdefault(sample.ts // step_ns * step_ns, []).append(sample)
    assert (found["start"], found["end"]) == (start, end)
    assert found["observations"] == len(samples)
    assert found["corrections"] == sum(sample.late for sample in samples)
    assert [point["time"] for point in found["points"]] == [format_rfc3339(ns) for ns in sorted(buckets)]
    for point, (_, members) in zip(found["points"], sorted(buckets.items()), strict=True):
        values = [member.value for member in members]
        exact = sum(round(value * 1000) for value in values) / 1000
        assert (point["count"], point["min"], point["max"]) == (len(values), min(values), max(values))
        assert (point["sum"], point["mean"]) == (exact, exact / len(values))
        assert (point["first"], point["last"]) == (values[0], values[-1])
        assert (point["first_time"], point["last_time"]) == (
            format_rfc3339(members[0].ts),
            format_rfc3339(members[-1].ts),
        )
        assert_percentiles(point, values)
    summary = found["summary"]
    assert_percentiles(summary, [sample.value for sample in samples])
    assert summary["count"] == len(samples)
    assert summary["first"] == {"time": format_rfc3339(samples[0].ts), "value": samples[0].value}
    assert summary["last"] == {"time": format_rfc3339(samples[-1].ts), "value": samples[-1].value}
    assert summary["max"] == max(sample.value for sample in samples)


def test_metrics_without_percentiles_say_so(client: Client) -> None:
    start, end, step = RANGES[0]
    found = client.json(
        "/v1/devices/CNNGB-DEMO~quay-crane~QC01/telemetry", metric="moves", start=start, end=end, step=step
    )
    told = [found["summary"], *found["points"]]
    assert len(told) > 1
    assert all(each[name] is None for each in told for name in ("p50", "p95", "p99"))


@pytest.mark.parametrize(("start", "end", "step"), RANGES)
def test_crane_throughput_is_what_the_samples_say(client: Client, start: str, end: str, step: str) -> None:
    found = client.json("/v1/throughput", group_by="crane", start=start, end=end, step=step)
    first, last = parse_rfc3339(start), parse_rfc3339(end)
    assert [(group["site"], group["group"]) for group in found["groups"]] == [
        (SITE, "QC01"),
        (SITE, "QC02"),
        ("CNSHA-YS1", "QC01"),
    ]
    hours = max(0, min(last, COMPLETE) - first) / (3_600 * NS)
    for group in found["groups"]:
        moves, teu = chosen(group["uid"], "moves", first, last), chosen(group["uid"], "teu", first, last)
        assert group["moves"] == len(moves)
        assert group["teu"] == sum(sample.value for sample in teu)
        assert sum(point["moves"] for point in group["points"]) == len(moves)
        assert sum(point["teu"] for point in group["points"]) == sum(sample.value for sample in teu)
        complete = [sample for sample in moves if sample.ts < COMPLETE]
        assert group["moves_per_hour"] == pytest.approx(len(complete) / hours, abs=1e-4)
    assert found["observations"] == sum(group["moves"] for group in found["groups"])
    assert found["definition"]["id"] == "moves_per_hour"


def test_the_rate_of_a_bucket_is_over_its_complete_part(client: Client) -> None:
    found = client.json(
        "/v1/throughput", start="2026-11-23T07:00:00Z", end="2026-11-23T08:00:00Z", step="30m", site=SITE
    )
    points = found["groups"][0]["points"]
    half = parse_rfc3339("2026-11-23T07:30:00Z")
    complete = chosen(QC01, "moves", half, COMPLETE)
    assert points[0]["moves_per_hour"] == pytest.approx(2 * points[0]["moves"])
    assert points[1]["moves_per_hour"] == pytest.approx(len(complete) / ((COMPLETE - half) / (3_600 * NS)), abs=1e-4)
    assert points[1]["moves"] == len(chosen(QC01, "moves", half, parse_rfc3339("2026-11-23T08:00:00Z")))


def test_nothing_complete_has_no_rate(client: Client) -> None:
    found = client.json("/v1/throughput", start="2026-11-23T07:42:00Z", end="2026-11-23T08:00:00Z")
    assert {group["moves_per_hour"] for group in found["groups"]} == {None}
    assert {point["moves_per_hour"] for group in found["groups"] for point in group["points"]} == {None}
    assert found["coverage_percent"] is None


def test_gates_and_sites_add_up(client: Client) -> None:
    asked = {"start": "2026-11-23T05:00:00Z", "end": "2026-11-23T08:00:00Z", "step": "1h"}
    gates = client.json("/v1/throughput", group_by="gate", **asked)
    assert [(g["group"], g["passages_in"], g["passages_out"]) for g in gates["groups"]] == [("G1", 50, 40)]
    complete = [s for metric in ("passages_in", "passages_out") for s in chosen(G1, metric, BEGIN, COMPLETE)]
    hours = (COMPLETE - BEGIN) / (3_600 * NS)
    assert gates["groups"][0]["passages_per_hour"] == pytest.approx(len(complete) / hours, abs=1e-4)
    assert gates["definition"]["id"] == "passages_per_hour"
    sites = {group["group"]: group for group in client.json("/v1/throughput", group_by="site", **asked)["groups"]}
    assert {name: site["moves"] for name, site in sites.items()} == {SITE: 160, "CNSHA-YS1": 80}
    assert (sites[SITE]["yard_moves"], sites[SITE]["passages_in"], sites[SITE]["passages_out"]) == (60, 50, 40)


def test_adjacent_ranges_add_up_whatever_their_border(client: Client) -> None:
    for border in ("2026-11-23T06:30:00Z", "2026-11-23T06:31:17Z", "2026-11-23T06:33:09.999999999Z"):
        ranges = (("2026-11-23T05:00:00Z", border), (border, "2026-11-23T08:00:00Z"))
        parts = [client.json("/v1/throughput", start=start, end=end) for start, end in ranges]
        assert sum(part["observations"] for part in parts) == 240
        assert parts[0]["end"] == parts[1]["start"]


def test_coverage_is_the_share_of_closed_windows_with_a_sample(client: Client) -> None:
    start, end = "2026-11-23T07:00:00Z", "2026-11-23T08:00:00Z"
    found = client.json("/v1/throughput", start=start, end=end, site=SITE)
    expected = (COMPLETE - parse_rfc3339(start)) // (10 * NS)
    for group in found["groups"]:
        windows = {
            s.ts // (10 * NS) for s in SAMPLES if s.uid == group["uid"] and parse_rfc3339(start) <= s.ts < COMPLETE
        }
        assert group["coverage_percent"] == pytest.approx(100 * len(windows) / expected, abs=1e-3)
    mean = sum(group["coverage_percent"] for group in found["groups"]) / 2
    assert found["coverage_percent"] == pytest.approx(mean, abs=1e-3)
    assert found["coverage_window"] == "PT10S"


def test_every_figure_says_what_it_is_and_how_complete(client: Client) -> None:
    for path in ("/v1/throughput", "/v1/devices/QC02/telemetry?metric=load_t"):
        found = client.get(path).json()
        assert found["complete_through"] == "2026-11-23T07:41:23.700Z"
        assert {"id", "version", "description"} <= set(found["definition"])
        assert {"observations", "coverage_percent", "corrections", "start", "end", "step"} <= set(found)


def test_a_bucket_that_has_not_begun_is_not_shown_as_zero(client: Client) -> None:
    found = client.json("/v1/throughput", start="2026-11-23T07:00:00Z", end="2026-11-23T12:00:00Z", step="1h")
    assert [point["time"][11:16] for point in found["groups"][0]["points"]] == ["07:00", "08:00"]


def test_a_range_without_samples_is_an_empty_answer(client: Client) -> None:
    asked = {"metric": "load_t", "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
    found = client.json("/v1/devices/QC02/telemetry", **asked)
    assert (found["points"], found["observations"], found["coverage_percent"]) == ([], 0, 0)
    assert found["summary"] == {
        "count": 0,
        "mean": None,
        "min": None,
        "max": None,
        "first": None,
        "last": None,
        "sum": 0,
        "p50": None,
        "p95": None,
        "p99": None,
    }


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([device(QC01, watermark_ns=NOW - 9 * NS), device(QC02, watermark_ns=NOW - 4 * NS)], NOW - 9 * NS),
        ([device(QC01, watermark_ns=NOW - 99 * NS, last_seen_ns=NOW - 40 * NS), device(QC02)], NOW - 3 * NS),
        ([device(QC01, watermark_ns=NOW - 99 * NS, last_seen_ns=NOW - 40 * NS)], NOW - 3 * NS),
        ([], NOW - 3 * NS),
    ],
    ids=["least watermark", "idle devices hold nothing up", "all idle: the report less 2 s", "no devices"],
)
def test_complete_through_is_the_least_watermark_of_speaking_devices(
    tmp_path: Path, devices: list[Any], expected: int
) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=devices, status=worker_status(NOW - NS))
    with client_of(port) as client:
        assert client.json("/v1/throughput")["complete_through"] == format_rfc3339(expected)


def test_without_any_report_nothing_is_said_to_be_complete(tmp_path: Path) -> None:
    with client_of(MadePort(tmp_path)) as client:
        found = client.json("/v1/throughput")
        assert (found["complete_through"], found["groups"], found["coverage_percent"]) == (None, [], None)
        assert client.json("/v1/devices") == {"items": [], "next": None, "complete_through": None}

"""Following ``next`` visits every item exactly once, whatever the filters, the page size and what comes in between."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_port import NOW, SITE, Client, Clock, MadePort, client_of, device, event

from devices.times import NS, format_rfc3339
from store.interface import LedgerRow, QuarantineRecord

QUAY, YARD = f"{SITE}/quay-crane/C01", f"{SITE}/yard-crane/C01"
UIDS = sorted(
    f"{site}/{of}/D{n:02d}" for site in (SITE, "CNSHA-YS1") for of in ("vehicle", "rfid-gate") for n in range(9)
)
EVENTS = [
    event(n, (QUAY, YARD, UIDS[0])[n % 3], ("crane_move", "yard_move", "gate_passage", "door_opened")[n % 4])
    for n in range(57)
]
REASONS = ("wrong_type", "out_of_range")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> MadePort:
    port = MadePort(tmp_path_factory.mktemp("lists"))
    refusals = [
        QuarantineRecord(
            id=str(n),
            reason=REASONS[n % 2],
            pointer="/m/load_t",
            detail="-",
            topic=f"port/{QUAY}/telemetry",
            uid=UIDS[n % 4],
            recv_ns=NOW,
            payload=b"{}",
            payload_bytes=2,
            payload_sha256="0" * 64,
        )
        for n in range(31)
    ]
    accounts = [LedgerRow(uid=uid, account="received", reason="", frames=3, samples=9) for uid in UIDS]
    port.commit(
        devices=[device(uid) for uid in (*UIDS, QUAY, YARD)], events=EVENTS, quarantine=refusals, ledger=accounts
    )
    return port


@pytest.fixture(scope="module")
def client(port: MadePort) -> Iterator[Client]:
    with client_of(port) as client:
        yield client


def walk(client: Client, path: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Follow the list to its end by the Link header, and check that the body says the same."""
    found: list[dict[str, Any]] = []
    answer = client.get(path, params=parameters)
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= parameters["limit"]
        found += page["items"]
        if page["next"] is None:
            assert "link" not in answer.headers
            return found
        assert len(page["items"]) == parameters["limit"]
        link = answer.links["next"]["url"]
        assert page["next"] in link
        answer = client.get(link)


limits = st.integers(1, 70)


@given(limits, st.sampled_from([None, SITE, "CNSHA-YS1"]), st.sampled_from([None, "vehicle", "quay-crane"]))
def test_devices_are_walked_exactly_once(client: Client, limit: int, site: str | None, of_class: str | None) -> None:
    filters = {name: value for name, value in (("site", site), ("class", of_class)) if value}
    expected = [
        uid
        for uid in sorted((*UIDS, QUAY, YARD))
        if uid.split("/")[0] == (site or uid.split("/")[0]) and uid.split("/")[1] == (of_class or uid.split("/")[1])
    ]
    assert [item["uid"] for item in walk(client, "/v1/devices", {"limit": limit, **filters})] == expected


@given(
    limits,
    st.sampled_from(["asc", "desc"]),
    st.sampled_from([None, "crane_move", "door_opened", "nothing"]),
    st.sampled_from([None, QUAY, YARD]),
    st.one_of(st.none(), st.integers(0, 60)),
    st.one_of(st.none(), st.integers(0, 60)),
)
def test_events_are_walked_exactly_once(
    client: Client, limit: int, order: str, of_type: str | None, uid: str | None, start: int | None, end: int | None
) -> None:
    given_times = {"start": start, "end": end}
    if start is not None and end is not None and end <= start:
        return
    times = {name: EVENTS[0].ts_ns + n * NS for name, n in given_times.items() if n is not None}
    filters = {name: format_rfc3339(ns) for name, ns in times.items()}
    filters |= {"type": of_type} if of_type else {}
    filters |= {"device": uid.replace("/", "~")} if uid else {}
    expected = [
        made.id
        for made in EVENTS
        if of_type in {None, made.type}
        and uid in {None, f"{made.site}/{made.device_class}/{made.device}"}
        and times.get("start", 0) <= made.ts_ns < times.get("end", NOW)
    ]
    found = [item["id"] for item in walk(client, "/v1/events", {"limit": limit, "order": order, **filters})]
    assert found == (expected if order == "asc" else expected[::-1])


@given(limits, st.sampled_from([None, *REASONS]), st.sampled_from([None, *UIDS[:4]]))
def test_refusals_are_walked_exactly_once(client: Client, limit: int, reason: str | None, uid: str | None) -> None:
    filters = {"reason": reason} if reason else {}
    filters |= {"device": uid.replace("/", "~")} if uid else {}
    expected = [str(n) for n in range(31) if reason in {None, REASONS[n % 2]} and uid in {None, UIDS[n % 4]}]
    found = [item["id"] for item in walk(client, "/v1/quarantine", {"limit": limit, **filters})]
    assert found == expected[::-1]


@given(limits, st.sampled_from([None, SITE]))
def test_the_ledger_is_walked_exactly_once(client: Client, limit: int, site: str | None) -> None:
    filters = {"site": site} if site else {}
    expected = [uid for uid in UIDS if uid.startswith(site or "")]
    assert [item["uid"] for item in walk(client, "/v1/ledger", {"limit": limit, **filters})] == expected


def test_a_cursor_with_other_filters_is_refused(client: Client) -> None:
    cursor = client.json("/v1/events", limit=3, type="crane_move")["next"]
    assert client.problem(422, "/v1/events", cursor=cursor)["type"] == "/problems/invalid-cursor"
    assert client.problem(422, "/v1/devices", cursor=cursor)["errors"][0]["parameter"] == "cursor"
    assert client.json("/v1/events", limit=5, type="crane_move", cursor=cursor)["items"]


def test_events_are_newest_first_unless_asked_after_a_cursor(client: Client) -> None:
    assert [item["id"] for item in client.json("/v1/events", limit=2)["items"]] == ["e000056", "e000055"]
    assert [item["id"] for item in client.json("/v1/events", limit=2, after=10)["items"]] == ["e000010", "e000011"]
    found = client.json("/v1/events", limit=9, after=10, before=13, order="desc")["items"]
    assert [item["cursor"] for item in found] == [12, 11]


def test_what_comes_in_while_walking_disturbs_no_page(tmp_path_factory: pytest.TempPathFactory) -> None:
    port = MadePort(tmp_path_factory.mktemp("growing"))
    port.commit(devices=[device(QUAY)], events=[event(n) for n in range(20)])
    clock = Clock()
    with client_of(port, clock) as client:
        first = client.json("/v1/events", limit=7, start="-2h")
        port.commit(events=[event(n) for n in range(20, 30)])
        # "-2h" by now means a range in which nothing lies any more; the walk keeps the one that it began with.
        clock.now_ns += 10_000 * NS
        seen = first["items"] + client.json("/v1/events", limit=100, start="-2h", cursor=first["next"])["items"]
        assert [item["id"] for item in seen] == [f"e{n:06d}" for n in reversed(range(20))]


def test_an_event_is_published_whole(client: Client) -> None:
    found = client.json("/v1/events", limit=1, order="asc")["items"][0]
    assert found == {
        "id": "e000000",
        "cursor": 1,
        "type": "crane_move",
        "site": SITE,
        "class": "quay-crane",
        "device": "C01",
        "time": format_rfc3339(EVENTS[0].ts_ns),
        "start": format_rfc3339(EVENTS[0].start_ns),
        "data": {"teu": 2.0},
    }


def test_a_device_is_listed_with_how_it_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    port = MadePort(tmp_path_factory.mktemp("state"))
    odd = f"{SITE}/vehicle/a:b"
    given = {
        (QUAY, "lost_before_journal", ""): (4, 0),
        (QUAY, "quarantined", "wrong_type"): (2, 5),
        (QUAY, "quarantined", "out_of_range"): (0, 3),
        (QUAY, "quarantined", "late"): (0, 0),
        (QUAY, "flagged", "historical"): (9, 9),
        (YARD, "lost_before_journal", ""): (1, 0),
    }
    rows = [
        LedgerRow(uid=uid, account=account, reason=reason, frames=frames, samples=samples)
        for (uid, account, reason), (frames, samples) in given.items()
    ]
    port.commit(devices=[device(QUAY, rate_hz=5.25, clock_offset_s=-2.5), device(YARD), device(odd)], ledger=rows)
    with client_of(port) as client:
        quay, other, yard = client.json("/v1/devices")["items"]
        found = [quay[name] for name in ("rate_hz", "clock_offset_s", "lost_before_journal", "quarantined")]
        assert found == [5.25, -2.5, 4, {"wrong_type": 2, "out_of_range": 3}]
        assert [yard[name] for name in ("rate_hz", "lost_before_journal", "quarantined")] == [None, 1, {}]
        assert other["lost_before_journal"] == 0
        for each in (quay, other, yard):
            assert client.json(each["health"].removesuffix("/health")) == each
            health = client.json(each["health"])
            assert health["uid"] == each["uid"]
            for name in ("rate_hz", "lost_before_journal", "quarantined"):
                assert health[name] == each[name]

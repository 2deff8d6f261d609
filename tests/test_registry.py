"""The registry on both engines: what is kept, what differs, who did it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import commit, refusal
from sqlalchemy import update

from devices.times import NS
from engines.postgres import Postgres
from store.audit import first_broken
from store.open import open_records, open_registry
from store.registry import Change, Credential, SqlRegistry
from store.registry_entries import (
    KINDS,
    Adoption,
    EntryError,
    Mounting,
    Policy,
    RegisteredDevice,
    Site,
    Tag,
    Zone,
    document_of,
    entry_of,
    entry_of_row,
    row_of,
)
from store.tables import AUDIT, REGISTRY

QC01 = "CNNGB-DEMO/quay-crane/QC01"
SQUARE = {"type": "Polygon", "coordinates": [[[121.8, 29.9], [121.9, 29.9], [121.9, 30.0], [121.8, 29.9]]]}
EXAMPLES: dict[str, dict[str, Any]] = {
    "organisation": {"id": "psa", "name": "PSA 港务"},
    "site": {"site": "CNNGB-DEMO", "name": "Demo", "policy": "known-classes", "classes": ["quay-crane", "vehicle"]},
    "device": {"uid": QC01, "name": "PLC of crane 1", "enabled": False},
    "asset": {"id": "STS-1", "site": "CNNGB-DEMO", "type": "STS"},
    "mounting": {"device": QC01, "asset": "STS-1", "start": "2026-01-01T00:00:00Z", "end": "2026-06-01T00:00:00Z"},
    "zone": {"id": "A1", "site": "CNNGB-DEMO", "type": "block", "geometry": SQUARE},
    "tag": {"tag": "E28011700000020F1A2B3C4D", "carrier": "CSQU3054383"},
    "alias": {"scheme": "jt808", "foreign": "123456789012", "device": "CNNGB-DEMO/vehicle/T-07"},
    "adoption": {"device": QC01, "name": "hoist mm", "metric": "hoist_height_m", "scale": 0.001, "offset": -2.5},
}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/quayflow.db"
    engine: Postgres = request.getfixturevalue("postgres")
    return engine.create(f"registry_{abs(hash(request.node.name)) % 10**9}")


@pytest.fixture
def registry(url: str) -> Iterator[SqlRegistry]:
    opened = open_registry(url, read_only=False)
    yield opened
    opened.close()


def put(registry: SqlRegistry, *entries: Any) -> None:
    for entry in entries:
        registry.put(entry, actor="cli:test", now_ns=NS)


def every_kind() -> list[Any]:
    return [entry_of(kind, EXAMPLES[kind]) for kind in KINDS]


def test_a_reader_finds_nothing_until_a_writer_has_come(url: str) -> None:
    reader = open_registry(url)
    assert (reader.revision(), reader.entries("site"), reader.entry("site", "x"), reader.credentials()) == (
        0,
        [],
        None,
        [],
    )
    assert (reader.audit(), reader.audit_break(), reader.revoked()) == ([], None, {})
    reader.close()


def test_every_kind_comes_back_as_it_was(registry: SqlRegistry, url: str) -> None:
    put(registry, *every_kind())
    reader = open_registry(url)
    for entry in every_kind():
        assert reader.entry(entry.kind, entry.key) == entry
        assert reader.every(entry.kind) == [entry]
        assert reader.every(entry.kind, site=entry.place or None) == [entry]
        assert reader.every(entry.kind, site="DEHAM-CTA") == []
    assert reader.revision() == len(KINDS)
    reader.close()


def test_entries_are_paged_by_key(registry: SqlRegistry) -> None:
    registry.apply(registry.changes([Tag(tag=f"T{n:03d}", carrier="C") for n in range(25)]), actor="a", now_ns=1)
    pages, after = [], ""
    while page := registry.entries("tag", after=after, limit=10):
        pages.append([entry.key for entry in page])
        after = page[-1].key
    assert pages == [[f"T{n:03d}" for n in part] for part in (range(10), range(10, 20), range(20, 25))]


def test_a_dry_run_tells_exactly_what_applying_would_change(registry: SqlRegistry) -> None:
    kept, old, gone = (Tag(tag=name, carrier="C1") for name in ("kept", "changed", "gone"))
    put(registry, kept, old, gone)
    wanted = [kept, Tag(tag="changed", carrier="C2"), Tag(tag="new", carrier="C3")]
    revision = registry.revision()
    found = registry.changes(wanted, remove_others=True)
    assert [(change.action, change.key) for change in found] == [
        ("change", "changed"),
        ("remove", "gone"),
        ("add", "new"),
    ]
    assert found[0].before == document_of(old)
    assert registry.revision() == revision
    registry.apply(found, actor="a", now_ns=1)
    assert registry.every("tag") == [wanted[1], kept, wanted[2]]
    assert registry.changes(wanted, remove_others=True) == []
    registry.apply([], actor="a", now_ns=1)
    assert registry.revision() == revision + 1


def test_without_being_told_nothing_is_removed(registry: SqlRegistry) -> None:
    put(registry, Tag(tag="a", carrier="C"))
    assert [change.action for change in registry.changes([Tag(tag="b", carrier="C")])] == ["add"]
    assert registry.remove("tag", "a", actor="x", now_ns=1)
    assert not registry.remove("tag", "a", actor="x", now_ns=1)


def test_a_credential_replaces_the_one_before_and_revokes_its_certificate(registry: SqlRegistry) -> None:
    first = Credential(username=QC01, uid=QC01, kind="certificate", serial="0a", issued_ns=1, expires_ns=9)
    registry.issue(first, actor="cli:test")
    assert (registry.credential(QC01), registry.revoked()) == (first, {})
    second = Credential(username=QC01, uid=QC01, kind="password", argon2="$argon2id$…", broker_hash="$7$…", issued_ns=5)
    registry.issue(second, actor="cli:test")
    assert registry.credentials() == [second]
    assert registry.revoked() == {"0a": 5}
    assert registry.withdraw(QC01, actor="cli:test", now_ns=7)
    assert not registry.withdraw(QC01, actor="cli:test", now_ns=7)
    assert (registry.credentials(), registry.revision()) == ([], 3)
    actions = [row.action for row in registry.audit()]
    assert actions == ["credential.remove", "credential.issue", "credential.issue"]


def test_every_change_is_in_the_audit_trail_and_a_changed_row_breaks_its_chain(registry: SqlRegistry) -> None:
    put(registry, *every_kind())
    registry.remove("tag", EXAMPLES["tag"]["tag"], actor="cli:other", now_ns=2)
    rows = registry.audit(limit=1_000)
    assert [row.cursor for row in rows] == list(range(len(KINDS) + 1, 0, -1))
    assert (rows[0].actor, rows[0].action, rows[0].ts_ns) == ("cli:other", "registry.remove", 2)
    assert registry.audit(before=3, limit=1) == rows[-2:-1]
    assert registry.audit_break() is None
    assert first_broken(rows[::-1]) is None
    with registry._engine.begin() as connection:  # noqa: SLF001 - as somebody with the database's password would
        connection.execute(update(AUDIT).where(AUDIT.c.cursor == 4).values(actor="nobody"))
    assert registry.audit_break() == 4


def test_a_refused_identity_is_in_the_audit_trail_once(url: str, registry: SqlRegistry) -> None:
    records = open_records(url, read_only=False)
    spoofed = refusal(1, b"{}", reason="identity_mismatch")
    for offset in (1, 2):
        records.write(commit(offset, quarantine=[spoofed, refusal(2, reason="wrong_type")]))
    (row,) = registry.audit()
    assert (row.actor, row.action, row.subject) == ("ingest:w1", "refused", spoofed.topic)
    assert row.detail.startswith("identity_mismatch: ")
    assert spoofed.payload_sha256 in row.detail
    assert registry.audit_break() is None
    records.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_csv_says_the_same_as_json(kind: str) -> None:
    entry = entry_of(kind, EXAMPLES[kind])
    row = row_of(entry)
    assert all(isinstance(value, str) for value in row.values())
    assert entry_of_row(kind, row) == entry
    with pytest.raises(EntryError, match="colour"):
        entry_of_row(kind, row | {"colour": "red"})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("ship", {}, "kind 'ship': expected one of organisation"),
        ("site", {"site": "Ningbo"}, "site"),
        ("site", {"site": "CNNGB-DEMO", "policy": "shut"}, "policy"),
        ("site", {"site": "CNNGB-DEMO", "policy": "known-classes"}, "classes"),
        ("site", {"site": "CNNGB-DEMO", "classes": ["vehicle"]}, "classes"),
        ("device", {"uid": "CNNGB-DEMO/crane/QC01"}, "uid"),
        ("device", {"uid": QC01, "colour": "red"}, "colour"),
        ("asset", {"id": "a b", "site": "CNNGB-DEMO"}, "id"),
        ("mounting", {"device": QC01, "asset": "A", "start": "yesterday"}, "start"),
        ("mounting", EXAMPLES["mounting"] | {"end": "2025-01-01T00:00:00Z"}, "end"),
        ("zone", EXAMPLES["zone"] | {"geometry": {"type": "Point", "coordinates": [0, 0]}}, "Polygon"),
        ("zone", EXAMPLES["zone"] | {"geometry": {"type": "Polygon", "coordinates": "x"}}, "geometry"),
        ("zone", EXAMPLES["zone"] | {"geometry": {"type": "Polygon", "coordinates": []}}, "geometry"),
        ("tag", {"tag": "", "carrier": "C"}, "tag"),
        ("alias", {"scheme": "jt808", "foreign": "1", "device": "T-07"}, "device"),
        ("adoption", EXAMPLES["adoption"] | {"metric": "speed_mps"}, "metric"),
        ("adoption", EXAMPLES["adoption"] | {"metric": "moves"}, "metric"),
        ("adoption", EXAMPLES["adoption"] | {"scale": 0}, "scale"),
        ("adoption", EXAMPLES["adoption"] | {"offset": float("nan")}, "scale, offset"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_field(kind: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(EntryError, match=message):
        entry_of(kind, values)


def test_a_zone_that_crosses_itself_or_the_pole_is_refused() -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    far = {"type": "Polygon", "coordinates": [[[29.9, 121.8], [29.9, 121.9], [30, 121.9], [29.9, 121.8]]]}
    for geometry, message in ((bow, "Self-intersection"), (far, "longitude, latitude")):
        with pytest.raises(EntryError, match=message):
            Zone(id="A", site="CNNGB-DEMO", geometry=geometry).check()


@given(st.dictionaries(st.text(max_size=10), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.integers()))))
def test_anything_else_is_an_entry_error(values: dict[str, Any]) -> None:
    for kind in KINDS:
        try:
            entry_of(kind, values)
        except EntryError:
            continue


def test_the_examples_use_every_kind() -> None:
    assert set(EXAMPLES) == set(KINDS)
    assert Site(site="CNNGB-DEMO").policy is Policy.OPEN
    assert RegisteredDevice(uid=QC01).place == "CNNGB-DEMO"
    assert Adoption(device=QC01, name="n", metric="load_t").key == f"{QC01}#n"


def mounting(asset: str, start: str, end: str = "", device: str = QC01) -> Mounting:
    return Mounting(device=device, asset=asset, start=start, end=end)


JUNE, JULY, AUGUST = (f"2026-0{month}-01T00:00:00Z" for month in (6, 7, 8))


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (mounting("STS-1", JUNE), mounting("STS-2", JULY)),
        (mounting("STS-1", JUNE), mounting("STS-1", JULY, AUGUST)),
        (mounting("STS-1", JULY), mounting("STS-2", JUNE)),
        (mounting("STS-1", JUNE, AUGUST), mounting("STS-2", JULY)),
        (mounting("STS-1", JULY, AUGUST), mounting("STS-2", JUNE, "2026-07-01T00:00:00.000000001Z")),
        (mounting("STS-1", JUNE), mounting("STS-2", "2026-06-01T08:00:00+08:00", JULY)),
    ],
)
def test_a_device_is_on_one_asset_at_a_time(registry: SqlRegistry, there: Mounting, new: Mounting) -> None:
    put(registry, there)
    before = registry.revision()
    with pytest.raises(EntryError, match=f"^start: {QC01} is on STS-. from .*end the earlier mounting"):
        registry.changes([new])
    # As if another had mounted it after the changes were found.
    with pytest.raises(EntryError, match=f"^start: {QC01} is on STS-"):
        registry.apply([Change("add", new.kind, new.key, None, document_of(new))], actor="a", now_ns=NS)
    assert (registry.every("mounting"), registry.revision()) == ([there], before)


def test_a_device_may_move_on_where_its_mounting_ends(registry: SqlRegistry) -> None:
    moved = [mounting("STS-1", JUNE, JULY), mounting("STS-2", JULY, AUGUST), mounting("STS-1", AUGUST)]
    other = mounting("STS-1", JUNE, device="CNNGB-DEMO/quay-crane/QC02")
    with pytest.raises(EntryError, match="STS-1 from 2026-06-01T00:00:00Z without an end"):
        registry.changes([mounting("STS-1", JUNE), *moved[1:]])
    put(registry, mounting("STS-1", JUNE), other)
    registry.apply(registry.changes(moved), actor="a", now_ns=NS)
    assert registry.every("mounting") == [*moved, other]
    registry.apply(
        registry.changes([mounting("STS-9", "2026-06-15T00:00:00Z"), other], remove_others=True), actor="a", now_ns=NS
    )
    assert [each.key for each in registry.every("mounting")] == [f"{QC01}@2026-06-15T00:00:00Z", other.key]


def test_mountings_that_overlap_from_before_do_not_stand_in_the_way_of_others(registry: SqlRegistry) -> None:
    put(registry, mounting("STS-1", JUNE), mounting("STS-2", "2026-05-01T00:00:00Z", JUNE))
    with registry._engine.begin() as connection:  # noqa: SLF001 - as a version that did not look has left it
        body = document_of(mounting("STS-2", "2026-05-01T00:00:00Z"))
        changed = update(REGISTRY).where(REGISTRY.c.key == f"{QC01}@2026-05-01T00:00:00Z")
        connection.execute(changed.values(body=json.dumps(body)))
    put(registry, mounting("STS-3", JUNE, device="CNNGB-DEMO/quay-crane/QC02"))
    assert registry.remove("mounting", f"{QC01}@2026-05-01T00:00:00Z", actor="a", now_ns=NS)
    put(registry, mounting("STS-1", JUNE, JULY))

"""`quayflow registry` and `quayflow device` without a running port: what they change, print and refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from test_registry import EXAMPLES, QC01
from typer.testing import CliRunner, Result

from quayflow.main import app
from store.registry_entries import KINDS


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def run(data: Path, *arguments: str, status: int = 0, text: str | None = None) -> Result:
    found = CliRunner().invoke(app, [*arguments, "--data", str(data)], input=text)
    assert found.exit_code == status, found.output
    return found


def everything(tmp_path: Path) -> Path:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({kind: [EXAMPLES[kind]] for kind in KINDS}))
    return path


def test_what_is_exported_can_be_imported_again(data: Path, tmp_path: Path) -> None:
    run(data, "registry", "import", str(everything(tmp_path)))
    run(data, "registry", "export", str(tmp_path / "out.json"))
    found = json.loads(run(tmp_path / "other", "registry", "import", str(tmp_path / "out.json"), "--json").output)
    assert (found["entries"], len(found["changes"])) == (len(KINDS), len(KINDS))
    again = json.loads(run(data, "registry", "import", str(tmp_path / "out.json"), "--json").output)
    assert again["changes"] == []


def test_a_file_that_cannot_be_written_is_named(data: Path, tmp_path: Path) -> None:
    run(data, "registry", "import", str(everything(tmp_path)))
    assert (
        "'/dev/null/x.json' cannot be written" in run(data, "registry", "export", "/dev/null/x.json", status=2).output
    )


@pytest.mark.parametrize("kind", KINDS)
def test_csv_of_each_kind_goes_round(data: Path, tmp_path: Path, kind: str) -> None:
    run(data, "registry", "import", str(everything(tmp_path)))
    path = str(tmp_path / "one.csv")
    run(data, "registry", "export", path, "--kind", kind)
    assert json.loads(run(data, "registry", "import", path, "--kind", kind, "--json").output)["changes"] == []
    run(tmp_path / "other", "registry", "import", path, "--kind", kind)


def test_zones_go_round_as_geojson(data: Path, tmp_path: Path) -> None:
    run(data, "registry", "import", str(everything(tmp_path)))
    path = tmp_path / "zones.geojson"
    run(data, "registry", "export", str(path))
    collection = json.loads(path.read_text())
    assert collection["features"][0]["geometry"] == EXAMPLES["zone"]["geometry"]
    assert json.loads(run(data, "registry", "import", str(path), "--json").output)["changes"] == []


def test_a_dry_run_prints_the_difference_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("tag,carrier\nE1,CSQU3054383\nE2,MSKU0000001\n")
    run(data, "registry", "import", str(path), "--kind", "tag")
    path.write_text("tag,carrier\nE1,TEMU1111110\nE3,MSKU0000001\n")
    arguments = ("registry", "import", str(path), "--kind", "tag", "--remove-others")
    dry = run(data, *arguments, "--dry-run").output
    assert "~ tag E1" in dry
    assert 'carrier: "CSQU3054383" → "TEMU1111110"' in dry
    assert "- tag E2" in dry
    assert "+ tag E3" in dry
    assert "2 entries read, 3 would change" in dry
    assert run(data, *arguments, "--dry-run").output == dry
    assert "3 changed" in run(data, *arguments).output
    assert "0 would change" in run(data, *arguments, "--dry-run").output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "tag,carrier\nE1,C1\n,C2\n", "line 3"),
        ("x.csv", "tag,carrier\nE1\n", "line 2: expected as many cells"),
        ("x.csv", "tag,colour\nE1,red\n", "colour"),
        ("x.json", "{", "not JSON"),
        ("x.json", "[]", "expected an object"),
        ("x.json", '{"tag":{}}', "tag: expected a list"),
        ("x.json", '{"tag":[{"tag":"E1"}]}', "/tag/0"),
        ("x.json", '{"ship":[{}]}', "kind 'ship'"),
    ],
)
def test_a_file_that_cannot_be_kept_changes_nothing_and_names_the_line(
    data: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    flags = ("--kind", "tag") if name.endswith(".csv") else ()
    found = run(data, "registry", "import", str(path), *flags, status=2)
    assert message in found.output + found.stderr
    assert json.loads(run(data, "registry", "export", "-").output) == {}


def test_the_audit_trail_tells_who_did_what(data: Path, tmp_path: Path) -> None:
    run(data, "registry", "import", str(everything(tmp_path)))
    found = json.loads(run(data, "registry", "audit", "--verify", "--json").output)
    assert (found["verified"], found["broken"], len(found["rows"])) == (True, None, len(KINDS))
    assert all(row["actor"].startswith("cli:") for row in found["rows"])


def test_a_device_is_added_shown_and_removed(data: Path) -> None:
    def said(*arguments: str, status: int = 0) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run(data, "device", *arguments, "--json", status=status).output)
        return answer

    added = said("add", "QC01", "--class", "quay-crane", "--credentials", "--name", "Crane 1")
    assert (added["uid"], added["username"], len(added["password"])) == (QC01, QC01, 32)
    shown = said("show", "QC01", status=1)
    assert (shown["registered"], shown["heard"], shown["credential"]) == (True, False, "password")
    assert shown["verdict"].startswith("never heard")
    assert f"-t port/{QC01}/telemetry" in shown["publish"]
    assert said("rotate", "QC01")["password"] != added["password"]
    adopted = said("adopt", "QC01", "mm", "hoist_height_m", "--scale", "0.001")
    assert adopted["metric"] == "hoist_height_m"
    assert said("remove", "QC01") == {"uid": QC01, "registration": True, "credential": True, "adopted_names": 1}
    run(data, "device", "remove", QC01, status=1)
    # Its id alone is no wrong usage either: there is nobody of this name any more.
    assert said("remove", "QC01", status=1)["registration"] is False


@pytest.mark.parametrize("name", ["missing.json", "folder", "binary.json"])
def test_a_file_that_cannot_be_read_is_wrong_usage(name: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    assert name in run(data, "registry", "import", str(tmp_path / name), status=2).output.replace("\n", "")


def test_a_certificate_is_written_with_a_key_for_its_owner_alone(data: Path, tmp_path: Path) -> None:
    run(data, "device", "add", "T-07", "--class", "vehicle", "--certificate", str(tmp_path / "t07"))
    assert {path.name for path in (tmp_path / "t07").iterdir()} == {"ca.pem", "device.key", "device.pem"}
    assert (tmp_path / "t07" / "device.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "QC01"),
        ("add", "a/b", "--class", "vehicle"),
        ("add", "CNNGB-DEMO/crane/QC01"),
        ("show", "nobody"),
        ("adopt", QC01, "mm", "no_such_metric"),
        ("adopt", QC01, "mm", "hoist_height_m", "--scale", "0"),
    ],
)
def test_what_cannot_be_is_a_usage_error(data: Path, arguments: tuple[str, ...]) -> None:
    run(data, "device", *arguments, status=2)


@pytest.mark.parametrize(
    ("uid", "named"),
    [
        ("CNNGB-DEMO/vehicle/bad id", "id 'bad id'"),
        ("CNNGB-DEMO/crane/QC01", "class 'crane'"),
        ("here/vehicle/T1", "site 'here'"),
    ],
)
def test_what_is_wrong_with_a_uid_is_named(data: Path, uid: str, named: str) -> None:
    assert named in run(data, "device", "add", uid, status=2).output


def test_a_folder_that_is_not_there_is_named_and_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such"
    for verb in (("list",), ("show", "CNNGB-DEMO/vehicle/T1"), ("watch", "CNNGB-DEMO/vehicle/T1")):
        assert str(missing) in run(missing, "device", *verb, status=3).output
    assert not missing.parent.exists()


def test_who_draws_new_credentials_is_told_so(data: Path) -> None:
    run(data, "device", "add", "T1", "--class", "vehicle", "--credentials")
    assert "CNNGB-DEMO/vehicle/T1 has new credentials" in run(data, "device", "rotate", "T1").output


def test_a_disabled_device_is_told_why_it_is_refused(data: Path) -> None:
    run(data, "device", "add", "QC01", "--class", "quay-crane", "--disabled")
    found = run(data, "device", "show", "QC01", status=1).output
    assert "not admitted: CNNGB-DEMO/quay-crane/QC01 is registered, and disabled" in found
    assert "1 devices, 0 live" in run(data, "device", "list").output

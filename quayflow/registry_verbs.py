"""`quayflow registry`: import and export with a dry run, and the audit trail."""

import csv
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from devices.times import format_rfc3339
from quayflow.device_verbs import actor, registry_of, settings_with
from quayflow.failures import FAILED
from quayflow.options import Data, written
from store.registry import Change
from store.registry_entries import KINDS, Entry, EntryError, Zone, document_of, entry_of, entry_of_row, row_of

STANDARD: Final = "-"

registry_app = typer.Typer(help="Import and export the registry; who changed what.", no_args_is_help=True)

Kind = Annotated[str | None, typer.Option(help="Only this kind; needed for CSV.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(registry_app, name="registry")


@registry_app.command("export")
def export_entries(
    path: Annotated[str, typer.Argument(help="File .json, .csv or .geojson (zones); - is JSON on standard output.")],
    *,
    kind: Kind = None,
    site: Annotated[str | None, typer.Option(help="Only this site.")] = None,
    data: Data = None,
) -> None:
    """Write what the registry holds, in a form that import reads."""
    settings = settings_with(data=data)
    with registry_of(settings, read_only=True) as registry:
        suffix = _suffix(path)
        kinds = [_kind(kind, suffix)] if kind or suffix != ".json" else list(KINDS)
        entries = [entry for each in kinds for entry in registry.every(each, site=site)]
        text = _written(entries, kinds, suffix)
    if path == STANDARD:
        sys.stdout.write(text)
    else:
        written(Path(path))
        Path(path).write_text(text, encoding="utf-8")
        typer.echo(f"{len(entries)} entries in {path}", err=True)


@registry_app.command("import", short_help="Take entries over, or say what that would change.")
def import_entries(
    path: Annotated[str, typer.Argument(help="File .json, .csv or .geojson (zones); - is JSON on standard input.")],
    *,
    kind: Kind = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the differences and change nothing.")] = False,
    remove_others: Annotated[
        bool, typer.Option("--remove-others", help="Remove entries of the kinds in the file that it does not hold.")
    ] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take all entries of a file over, or none: a line that cannot be kept is named and nothing is changed."""
    settings = settings_with(data=data)
    text = _text_of(path)
    with registry_of(settings, read_only=False) as registry:
        wanted = list(_read(text, kind, _suffix(path)))
        changes = registry.changes(wanted, remove_others=remove_others)
        if not dry_run:
            registry.apply(changes, actor=actor(), now_ns=time.time_ns())
    odd = [
        {"kind": entry.kind, "key": entry.key, "flags": list(flags)} for entry in wanted if (flags := entry.oddities())
    ]
    counted = Counter(flag for entry in wanted for flag in entry.oddities())
    if as_json:
        told = {"dry_run": dry_run, "entries": len(wanted), "changes": [c._asdict() for c in changes]}
        typer.echo(json.dumps({**told, "odd": odd, "flags": counted}))
        return
    for each in odd:
        typer.echo(f"! {each['kind']} {each['key']}: {', '.join(each['flags'])}", err=True)
    for change in changes:
        typer.echo("\n".join(_shown(change)))
    done = "would change" if dry_run else "changed"
    flagged = "".join(f", {count} {flag}" for flag, count in counted.items())
    typer.echo(f"{len(wanted)} entries read, {len(changes)} {done}{flagged}")


def _text_of(path: str) -> str:
    """Return what an import reads; BadParameter where it is no text that can be read."""
    try:
        return sys.stdin.read() if path == STANDARD else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path!r} cannot be read: {error.strerror or error}", param_hint="PATH") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path!r} is no text in UTF-8: byte {error.start}", param_hint="PATH") from None


@registry_app.command("audit", short_help="Who changed what, and who spoke in whose name.")
def audit(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many rows.")] = 50,
    verify: Annotated[bool, typer.Option("--verify", help="Check that no row was changed or taken out.")] = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print the newest rows of the audit trail; with --verify, exit status 1 names the first that is not as written."""
    settings = settings_with(data=data)
    with registry_of(settings, read_only=True) as registry:
        rows = registry.audit(limit=limit)
        broken = registry.audit_break() if verify else None
    if as_json:
        plain = [msgspec.to_builtins(row) for row in rows]
        typer.echo(json.dumps({"rows": plain, "verified": verify and broken is None, "broken": broken}))
    else:
        for row in rows:
            when = format_rfc3339(row.ts_ns)
            typer.echo(f"{row.cursor:>6}  {when}  {row.actor:<18} {row.action:<20} {row.subject}  {row.detail}")
        if verify:
            typer.echo("the trail is whole" if broken is None else f"row {broken} is not as it was written")
    raise typer.Exit(FAILED if broken is not None else 0)


def _suffix(path: str) -> str:
    suffix = ".json" if path == STANDARD else Path(path).suffix.lower()
    if suffix not in {".json", ".csv", ".geojson"}:
        raise typer.BadParameter(f"{path!r}: expected a file that ends in .json, .csv or .geojson")
    return suffix


def _kind(kind: str | None, suffix: str) -> str:
    found = Zone.kind if suffix == ".geojson" else kind
    if found not in KINDS:
        raise typer.BadParameter(f"--kind {kind}: expected one of {', '.join(KINDS)}")
    return found


def _written(entries: Iterable[Entry], kinds: list[str], suffix: str) -> str:
    """Return entries as text: JSON by kind, GeoJSON, or CSV of one kind."""
    if suffix == ".json":
        by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for entry in entries:
            by_kind[entry.kind].append(document_of(entry))
        filled = {kind: documents for kind, documents in by_kind.items() if documents}
        return json.dumps(filled, indent=1, ensure_ascii=False) + "\n"
    if suffix == ".geojson":
        features = []
        for entry in entries:
            document = document_of(entry)
            geometry = document.pop("geometry")
            features.append({"type": "Feature", "properties": document, "geometry": geometry})
        return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False) + "\n"
    text = io.StringIO()
    names = [field.name for field in msgspec.structs.fields(KINDS[kinds[0]])]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_of(entry) for entry in entries)
    return text.getvalue()


def _read(text: str, kind: str | None, suffix: str) -> Iterator[Entry]:
    """Yield the entries of a text; EntryError names the one that cannot be kept."""
    if suffix == ".csv":
        yield from _read_csv(text, _kind(kind, suffix))
        return
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EntryError(f"not JSON: {error}") from None
    if not isinstance(tree, dict):
        raise EntryError("expected an object: kind → list of entries, or a FeatureCollection")
    if tree.get("type") == "FeatureCollection":
        tree = {Zone.kind: [_feature(feature) for feature in tree.get("features", ())]}
    for each, documents in tree.items():
        if not isinstance(documents, list):
            raise EntryError(f"{each}: expected a list")
        for number, document in enumerate(documents if kind in {None, each} else ()):
            yield _named(f"/{each}/{number}", partial(entry_of, each, document))


def _read_csv(text: str, kind: str) -> Iterator[Entry]:
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
        if None in row or None in row.values():
            raise EntryError(f"line {number}: expected as many cells as the first line has")
        yield _named(f"line {number}", partial(entry_of_row, kind, row))


def _feature(feature: object) -> dict[str, Any]:
    if not isinstance(feature, dict) or not isinstance(feature.get("properties"), dict):
        raise EntryError("features: expected features with properties")
    return {**feature["properties"], "geometry": feature.get("geometry")}


def _named(where: str, make: Callable[[], Entry]) -> Entry:
    try:
        return make()
    except EntryError as error:
        raise EntryError(f"{where}: {error}") from None


def _shown(change: Change) -> Iterator[str]:
    """Yield the lines of one difference."""
    sign = {"add": "+", "change": "~", "remove": "-"}[change.action]
    yield f"{sign} {change.kind} {change.key}"
    if change.before is not None and change.after is not None:
        for name, value in change.after.items():
            if change.before.get(name) != value:
                yield f"    {name}: {json.dumps(change.before.get(name))} → {json.dumps(value)}"

"""`quayflow ledger`: the accounts of every frame and sample, as ``/v1/ledger`` has them."""

import contextlib
import json
from typing import Any

import typer

from quayflow.settings import Settings
from store.accounts import ACCOUNTS, accounts_of, is_balanced
from store.interface import LedgerRow, StoreUnreachableError
from store.open import open_records


async def print_ledger(settings: Settings, *, as_json: bool) -> int:
    """Print the ledger; return 0 if it balances, 1 if not. Raises StoreUnreachableError where there is none."""
    database = settings.data / "quayflow.db"
    if settings.records_url is None and not database.exists():
        raise StoreUnreachableError(f"no ledger in {settings.data}: name the data folder with --data")
    with contextlib.closing(open_records(settings.store_urls[1])) as records:
        rows = records.ledger()
        agreed = all(status.get("balanced", True) for status in records.workers().values())
    balanced = agreed and is_balanced(rows)
    of_device: dict[str, list[LedgerRow]] = {}
    for row in sorted(rows, key=lambda row: row.uid):
        of_device.setdefault(row.uid, []).append(row)
    devices = {uid: accounts_of(of) for uid, of in of_device.items()}
    total = accounts_of(rows)
    if as_json:
        items = [{"uid": uid, **accounts} for uid, accounts in devices.items()]
        typer.echo(json.dumps({"balanced": balanced, "total": total, "items": items}))
    else:
        _print_table(devices, total)
        typer.echo("balanced" if balanced else "NOT BALANCED")
    return 0 if balanced else 1


def _print_table(devices: dict[str, dict[str, Any]], total: dict[str, Any]) -> None:
    typer.echo(f"{'frames of device':<40}" + "".join(f"{name:>20}" for name in ACCOUNTS))
    for uid, accounts in [*devices.items(), ("total", total)]:
        typer.echo(_line(uid or "(no device)", accounts["frames"]))
    typer.echo(_line("total, samples", total["samples"]))
    for title, counts in (("quarantined", total["quarantined_by_reason"]), ("kept, but flagged", total["flags"])):
        if counts:
            typer.echo(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))


def _line(title: str, counts: dict[str, int | None]) -> str:
    shown = ("unknown" if counts[name] is None else f"{counts[name]:,}" for name in ACCOUNTS)
    return f"{title:<40}" + "".join(f"{each:>20}" for each in shown)

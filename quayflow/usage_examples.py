"""One or two command lines for each command, shown at the end of its help.

They are kept together so that whoever changes an option sees what people were told to type, and given to the commands
in one place: a command without any cannot be registered unseen. The tests have the real parser read each of them.
"""

from typing import Final

import typer

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "demo": ("quayflow demo --for 60s --no-open", "quayflow demo --profile chuanshan --seed 11"),
    "up": ("quayflow up --data port-data", "quayflow up --secure --tls --listen 192.168.1.20"),
    "ingest": ("quayflow ingest --broker broker.example:1883 --data port-data",),
    "api": ("quayflow api --port 8080 --data port-data",),
    "simulate": (
        "quayflow simulate --broker 127.0.0.1:1883 --for 5m",
        "quayflow simulate --for 2h --out recording --truth truth.jsonl",
    ),
    "verify": ("quayflow verify --hours 2 --shuffle --duplicate 0.1", "quayflow verify --data port-data"),
    "ledger": ("quayflow ledger --data port-data --json",),
    "decode": (
        "quayflow decode --codec epc --hex 3074257BF7194E4000001A85",
        "quayflow decode --codec sparkplug --topic spBv1.0/P/NDATA/N --file a.bin",
    ),
    "check": (
        "quayflow check messages.jsonl --as quay-crane",
        "quayflow check --listen 0.0.0.0:6808 --codec jt808 --as vehicle --for 5m",
    ),
    "record": ("quayflow record --out recording --for 10m --topic 'port/#'",),
    "replay": (
        "quayflow replay recording --speed 10 --threshold lost==0",
        "quayflow replay recording --from 2026-11-24T08:00:00Z --for 1h",
    ),
    "load": (
        "quayflow load --rate constant:5000 --for 1m",
        "quayflow load --rate step --api http://127.0.0.1:8080 --html load.html",
    ),
    "journal info": ("quayflow journal info --data port-data",),
    "journal verify": ("quayflow journal verify --data port-data --json",),
    "journal cat": (
        "quayflow journal cat --topic QC01 --limit 10",
        "quayflow journal cat --from 2026-11-24T08:00:00Z --format msgpack",
    ),
    "journal rebuild": (
        "quayflow journal rebuild --data port-data",
        "quayflow journal rebuild --from 2026-11-24T08:00:00Z",
    ),
    "journal export": (
        "quayflow journal export --out samples.parquet",
        "quayflow journal export --raw --format jsonl --out frames.jsonl --topic QC01",
    ),
    "device add": (
        "quayflow device add QC07 --class quay-crane --credentials",
        "quayflow device add T118 --class vehicle --certificate T118-certificate",
    ),
    "device rotate": ("quayflow device rotate QC07",),
    "device remove": ("quayflow device remove CNNGB-DEMO/quay-crane/QC07",),
    "device adopt": ("quayflow device adopt QC07 hoistHeight hoist_height_m --scale 0.001",),
    "device list": ("quayflow device list --class vehicle",),
    "device show": ("quayflow device show QC07",),
    "device watch": ("quayflow device watch QC07 --for 5m",),
    "device command": (
        "quayflow device command QC01 status",
        "quayflow device command QC01 set_rate --argument hz=5 --timeout 20s",
    ),
    "registry export": ("quayflow registry export registry.json", "quayflow registry export tags.csv --kind tag"),
    "registry import": (
        "quayflow registry import registry.json --dry-run",
        "quayflow registry import zones.geojson --remove-others",
    ),
    "registry audit": ("quayflow registry audit --limit 200 --verify",),
    "config show": ("quayflow config show", "QUAYFLOW_PORT=9000 quayflow config show --json"),
    "config validate": ("quayflow config validate",),
}
"""Words that call a command → lines to type."""


def epilog_of(lines: tuple[str, ...]) -> str:
    """Return the end of a help text; the mark in front keeps its lines from being joined."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


def end_helps_with_examples(app: typer.Typer, before: str = "") -> None:
    """Give every command of ``app`` and of its groups its examples; KeyError names a command that has none."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        command.epilog = epilog_of(EXAMPLES[f"{before}{name}"])
    for group in app.registered_groups:
        if group.typer_instance is not None:
            end_helps_with_examples(group.typer_instance, f"{before}{group.name} ")

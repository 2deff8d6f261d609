"""Where each setting's value comes from."""

import json
import os
import re
import tomllib

import typer

from quayflow.settings import FILE, PREFIX, SECRETS, Settings

CREDENTIALS = re.compile("//[^@/]*@")
"""User, password or token in a URL."""


def show(settings: Settings, *, as_json: bool) -> None:
    """Print name, value and origin of every setting; passwords and tokens are not shown."""
    from_file = tomllib.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    rows = []
    for name, value in settings.model_dump(mode="json").items():
        origin = "default"
        if os.environ.get(PREFIX + name.upper()):
            origin = f"environment {PREFIX}{name.upper()}"
        elif name in from_file:
            origin = str(FILE)
        shown = "(set)" if name in SECRETS and value is not None else value
        if isinstance(shown, str):
            shown = CREDENTIALS.sub("//(set)@", shown)
        rows.append({"name": name, "value": shown, "origin": origin})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['name']:<20} {row['value']!s:<44} {row['origin']}")

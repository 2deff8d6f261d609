"""`quayflow journal`: the verbs that look into the journal of raw frames, put the store right from it, export it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from quayflow.journal import Form, Limit, Topic, cat, folder_of, info, leave
from quayflow.journal import verify as verify_journal
from quayflow.main import settings_of
from quayflow.options import Data, From, Json, To, refuse_backwards, time_of
from quayflow.running import finish
from quayflow.settings import SettingsError

journal_app = typer.Typer(help="Look into the journal of raw frames.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(journal_app, name="journal")


@journal_app.command("info")
def journal_info(*, data: Data = None, as_json: Json = False) -> None:
    """Print what the journal holds."""
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: info(folder, as_json=as_json))


@journal_app.command("verify")
def journal_verify(*, data: Data = None, as_json: Json = False) -> None:
    """Check every record; exit status 1 names each that is damaged."""
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: verify_journal(folder, as_json=as_json))


@journal_app.command("cat", short_help="Write frames to standard output.")
def journal_cat(
    *,
    data: Data = None,
    start: From = None,
    end: To = None,
    topic: Topic = None,
    limit: Limit = None,
    form: Form = "jsonl",
) -> None:
    """Write frames to standard output, in a form that `quayflow replay` reads."""
    refuse_backwards(start, end)
    folder = folder_of(settings_of(None, data=data))
    leave(lambda: cat(folder, start, end, topic, limit, form))


@journal_app.command("rebuild", short_help="Put the store right from the journal.")
def journal_rebuild(
    *,
    start: Annotated[
        int | None, typer.Option("--from", parser=time_of, metavar="TIME", help="Event time. [default: the first]")
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=time_of, metavar="TIME", help="Event time. [default: the last]")
    ] = None,
    data: Data = None,
    worker: Annotated[str | None, typer.Option(help="Name of the worker. [default: ingest-1]")] = None,
    as_json: Json = False,
) -> None:
    """Compute the hours from --from to --to of the store again from the journal, and put right what differs.

    Ingest must not be running on the data folder.
    """
    from quayflow.parts import registered_config_of  # noqa: PLC0415 - loaded by who asks for it
    from quayflow.rebuilding import rebuild  # noqa: PLC0415 - as above

    refuse_backwards(start, end)
    settings = settings_of(None, data=data, worker=worker)
    folder_of(settings)
    finish(rebuild(settings, registered_config_of(settings), start, end, as_json=as_json))


@journal_app.command("export", short_help="Write samples or frames to a Parquet or JSON-lines file.")
def journal_export(  # noqa: PLR0913 - one flag each
    *,
    out: Annotated[Path, typer.Option(help="File to write; it appears when it is complete.")],
    form: Annotated[Literal["parquet", "jsonl"], typer.Option("--format", help="Form of the file.")] = "parquet",
    raw: Annotated[bool, typer.Option("--raw", help="Frames as they came, instead of their samples.")] = False,
    data: Data = None,
    start: From = None,
    end: To = None,
    topic: Topic = None,
    as_json: Json = False,
) -> None:
    """Write what was received to a file for other tools: a row per sample, or with --raw a row per frame."""
    from quayflow.exporting import ExportConfig  # noqa: PLC0415 - as above
    from quayflow.exporting import run as run_export  # noqa: PLC0415 - as above
    from quayflow.parts import sources_of, strict_codecs_of  # noqa: PLC0415 - as above

    refuse_backwards(start, end)
    settings = settings_of(None, data=data)
    try:
        sources, strict = sources_of(settings), strict_codecs_of(settings)
    except SettingsError as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(2) from None
    last = 2**63 - 1 if end is None else end
    config = ExportConfig(folder_of(settings), out, form, raw, start or 0, last, topic, sources, strict)
    leave(lambda: run_export(config, as_json=as_json))

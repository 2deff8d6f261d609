"""`quayflow record`, `replay` and `load`: taking traffic down, and making it again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from quayflow.failures import USAGE
from quayflow.options import Broker, For, From, Json, Profile, Seed, To, duration, refuse_backwards, written
from quayflow.running import finish

if TYPE_CHECKING:
    from quayflow.settings import Settings

Verify = Annotated[
    str | None, typer.Option("--verify", metavar="URL", help="Read back from this API, such as http://127.0.0.1:8080.")
]
Html = Annotated[
    Path | None, typer.Option(callback=written, help="Write a report with plots to this file; it needs no network.")
]
Thresholds = Annotated[
    list[str] | None, typer.Option("--threshold", help="Condition such as lost==0; exit status 99 if missed.")
]
Patience = Annotated[
    float | None,
    typer.Option(
        "--patience", parser=duration, metavar="TIME", help="Give up when nothing moves for so long. [default: 30s]"
    ),
]
TopicFilters = Annotated[list[str] | None, typer.Option("--topic", help="Topic filter; may be given several times.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(record)
    app.command()(replay)
    app.command()(load)


def record(
    *,
    out: Annotated[Path, typer.Option(help="Folder for the recording; one that is there is continued.")],
    topic: TopicFilters = None,
    duration_s: For = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many messages.")] = None,
    broker: Broker = None,
    as_json: Json = False,
) -> None:
    """Record whatever is published, in the form of the journal: `quayflow replay` and `journal` read it."""
    from quayflow.parts import broker_of  # noqa: PLC0415 - each part is loaded where it runs
    from quayflow.recording import record as run_record  # noqa: PLC0415 - as above
    from simulators.recorder import RecordConfig  # noqa: PLC0415 - as above

    settings = _settings(broker)
    try:
        config = RecordConfig(out, broker_of(settings), tuple(topic or ("port/#",)), duration_s, limit)
    except ValueError as error:
        _refuse(error)
    finish(run_record(config, as_json=as_json))


def replay(  # noqa: PLR0913 - one flag each
    path: Annotated[
        Path, typer.Argument(help="CSV track, JSON-lines recording, folder or zip of such; journal or data folder.")
    ],
    *,
    speed: Annotated[str, typer.Option(help="Recorded seconds per second, or max.")] = "1",
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="MQTT connections.")] = 4,
    qos: Annotated[int, typer.Option(min=0, max=1, help="Quality of service.")] = 1,
    shift: Annotated[
        Literal["now", "none"], typer.Option(help="Move all times so that they end now, or keep them.")
    ] = "now",
    limit: Annotated[int | None, typer.Option(min=1, help="Replay the first so many messages.")] = None,
    limit_devices: Annotated[int | None, typer.Option(min=1, help="Replay the first so many devices.")] = None,
    topic: TopicFilters = None,
    device: Annotated[list[str] | None, typer.Option(help="Pattern of device ids such as QC*; several may be.")] = None,
    start: From = None,
    end: To = None,
    loop: Annotated[int, typer.Option(min=0, help="Play it so often; 0 until --for is over.")] = 1,
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--for", parser=duration, metavar="TIME", help="Stop after this, such as 60s. [default: when all is sent]"
        ),
    ] = None,
    scale_devices: Annotated[int, typer.Option(min=1, max=1_000, help="Identities per device.")] = 1,
    site: Annotated[str | None, typer.Option(help="Site level of the tracks' topics. [default: CNNGB-DEMO]")] = None,
    payload: Annotated[Literal["msgpack", "json"], typer.Option(help="Form of the tracks' payloads.")] = "msgpack",
    threshold: Thresholds = None,
    verify: Verify = None,
    patience_s: Patience = None,
    html: Html = None,
    broker: Broker = None,
    as_json: Json = False,
) -> None:
    """Publish recorded tracks and messages with their own timing, faster, or as fast as the broker takes them."""
    from quayflow.parts import broker_of  # noqa: PLC0415 - as above
    from quayflow.replaying import replay as run_replay  # noqa: PLC0415 - as above
    from simulators.recording import ENDLESS  # noqa: PLC0415 - as above
    from simulators.replay_config import ReplayConfig  # noqa: PLC0415 - as above

    refuse_backwards(start, end)
    settings = _settings(broker, site=site)
    try:
        config = ReplayConfig(
            path=path,
            broker=broker_of(settings),
            site=settings.site,
            shift=shift,
            speed=_speed(speed),
            clients=clients,
            qos=qos,
            limit=limit,
            limit_devices=limit_devices,
            topics=tuple(topic or ()),
            devices=tuple(device or ()),
            from_ns=-ENDLESS if start is None else start,
            to_ns=ENDLESS if end is None else end,
            loops=loop,
            duration_s=duration_s,
            scale_devices=scale_devices,
            payload=payload,
            verify_url=verify,
            patience_s=patience_s or 30.0,
            thresholds=tuple(threshold or ()),
        )
    except ValueError as error:
        _refuse(error)
    finish(run_replay(config, html, as_json=as_json))


def load(  # noqa: PLR0913 - one flag each
    *,
    rate: Annotated[
        str, typer.Option(help="constant:5000, soak:5000, ramp:1000-20000, spike:2000x5, step or step:2000.")
    ] = "constant:1000",
    duration_s: Annotated[
        float | None,
        typer.Option(
            "--for", parser=duration, metavar="TIME", help="Stop after this, such as 60s. [default: 30s; of step 150s]"
        ),
    ] = None,
    step_s: Annotated[
        float | None,
        typer.Option(
            "--step", parser=duration, metavar="TIME", help="How long each rate of step is kept. [default: 5s]"
        ),
    ] = None,
    profile: Profile = None,
    seed: Seed = None,
    site: Annotated[str, typer.Option(help="Site level of the topics.")] = "CNNGB-LOAD",
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="Devices.")] = 1_000,
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="MQTT connections.")] = 8,
    qos: Annotated[int, typer.Option(min=0, max=1, help="Quality of service.")] = 1,
    api: Annotated[str | None, typer.Option(metavar="URL", help="API that tells how ingest and store keep up.")] = None,
    threshold: Thresholds = None,
    html: Html = None,
    broker: Broker = None,
    as_json: Json = False,
) -> None:
    """Publish messages of a profile at a given rate; exit status 1 where the rate could not be kept."""
    from quayflow.loading import load as run_load  # noqa: PLC0415 - as above
    from quayflow.parts import broker_of  # noqa: PLC0415 - as above
    from simulators.load import LoadConfig  # noqa: PLC0415 - as above

    settings = _settings(broker, profile=profile, seed=seed)
    steps = rate.startswith("step")
    try:
        config = LoadConfig(
            broker=broker_of(settings),
            rate=rate,
            duration_s=duration_s or (150.0 if steps else 30.0),
            step_s=step_s or 5.0,
            profile=settings.profile,
            seed=settings.seed,
            site=site,
            devices=devices,
            clients=clients,
            qos=qos,
            api_url=api,
            thresholds=tuple(threshold or ()),
        )
    except ValueError as error:
        _refuse(error)
    finish(run_load(config, html, as_json=as_json))


def _speed(text: str) -> float:
    try:
        return float("inf") if text == "max" else float(text)
    except ValueError:
        raise ValueError(f"speed = {text!r}: allowed is a number above 0, or max") from None


def _settings(broker: str | None, **flags: object) -> "Settings":
    from quayflow.main import settings_of  # noqa: PLC0415 - it imports this module

    return settings_of(broker, **flags)


def _refuse(error: ValueError) -> NoReturn:
    typer.echo(f"quayflow: {error}", err=True)
    raise typer.Exit(USAGE) from None

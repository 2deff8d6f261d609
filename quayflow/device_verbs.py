"""`quayflow device`: the field engineer's verbs."""

import asyncio
import getpass
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from devices.topics import DEVICE, SITE, DeviceKey
from devices.unknown_names import adopt_command, quoted
from devices.vocabulary import DeviceClass
from quayflow.failures import FAILED, UNREACHABLE, USAGE
from quayflow.options import duration
from quayflow.settings import Settings
from store.access import username_of
from store.admission import read_admission
from store.device_health import NEWEST, Health, health_of
from store.interface import StoreUnreachableError, UnknownName
from store.open import StoreUrlError, open_records, open_registry
from store.registry import Credential, SqlRegistry
from store.registry_entries import Adoption, Entry, EntryError, Policy, RegisteredDevice, entry_of
from store.trying_out import broker_address, publish_command

TLS_FOLDER: Final = "tls"
NOTHING: Final = {"registration": False, "credential": False, "adopted_names": 0}
"""What is removed of a device that is not there."""
WATCH_S: Final = 60.0
WATCH_PERIOD_S: Final = 0.5
SAID_APART: Final = frozenset({"uid", "verdict", "cause", "live", "refusals", "publish", "adopt"})
"""What `show` says in lines of its own."""

device_app = typer.Typer(help="Register devices, give them credentials, see why one is silent.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option(help="Folder of journal and store. [default: quayflow-data]")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Its own id with --class, or its uid SITE/CLASS/ID.")]
Class = Annotated[DeviceClass | None, typer.Option("--class", help="Class of the device.")]
SiteCode = Annotated[str | None, typer.Option("--site", help="Its site. [default: that of the settings]")]


def settings_with(broker: str | None = None, **flags: object) -> Settings:
    """Return the settings under the flags; ends with status 2 where they cannot be used."""
    from quayflow.main import settings_of  # noqa: PLC0415 - main registers this module

    return settings_of(broker, **flags)


@contextmanager
def registry_of(settings: Settings, *, read_only: bool) -> Iterator[SqlRegistry]:
    """Lend the registry; ends with status 3 where it cannot be reached, 2 where what was asked cannot be kept.

    To read is refused where there is no data folder; who changes what must be there already asks to read first.
    """
    registry = None
    if read_only and settings.records_url is None and not settings.data.is_dir():
        typer.echo(f"quayflow: there is no folder {settings.data}: name the data folder with --data", err=True)
        raise typer.Exit(UNREACHABLE)
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        registry = open_registry(settings.store_urls[1], read_only=read_only)
        yield registry
    except (StoreUnreachableError, OSError) as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(UNREACHABLE) from None
    except (EntryError, StoreUrlError, UnicodeDecodeError) as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(USAGE) from None
    finally:
        if registry is not None:
            registry.close()


def actor() -> str:
    """Return who is at the command line, as the audit trail names it."""
    return f"cli:{getpass.getuser()}"


def key_of(text: str, device_class: DeviceClass | None, site: str) -> DeviceKey:
    """Return the device that an id, or a uid, names; ends with status 2 where it is none."""
    parts = text.split("/")
    if len(parts) == 3:  # noqa: PLR2004 - site, class, device
        found = DeviceKey(*parts)
    elif device_class is not None:
        found = DeviceKey(site, device_class, text)
    else:
        raise typer.BadParameter(f"{text!r}: name its class with --class, or write SITE/CLASS/ID")
    if not SITE.fullmatch(found.site):
        raise typer.BadParameter(f"site {found.site!r}: expected a UN/LOCODE and a facility, such as CNNGB-BLCT")
    if found.device_class not in set(DeviceClass):
        raise typer.BadParameter(f"class {found.device_class!r}: expected one of {', '.join(DeviceClass)}")
    if not DEVICE.fullmatch(found.device):
        raise typer.BadParameter(f"id {found.device!r}: expected up to 64 letters, digits and . _ : -")
    return found


def known_key(registry: SqlRegistry, settings: Settings, text: str, device_class: DeviceClass | None) -> DeviceKey:
    """Return the device that ``text`` names: a uid, an id with its class, or an id that only one known device has."""
    if "/" in text or device_class is not None:
        return key_of(text, device_class, settings.site)
    uids = uids_called(registry, settings, text)
    if len(uids) == 1:
        return DeviceKey.from_uid(uids[0])
    found = ", ".join(uids) or "none"
    what = f"expected one device of this id, found {found}; write SITE/CLASS/ID, or see `quayflow device list`"
    raise typer.BadParameter(f"{text!r}: {what}")


def uids_called(registry: SqlRegistry, settings: Settings, text: str) -> list[str]:
    """Return the uids of the devices, heard or registered, whose id is ``text``."""
    records = open_records(settings.store_urls[1])
    try:
        uids = {device.uid for device in records.devices_named(text)}
    finally:
        records.close()
    return sorted(
        uids | {entry.key for entry in registry.every(RegisteredDevice.kind) if entry.key.endswith(f"/{text}")}
    )


class Look:
    """All that is known of devices, read together."""

    def __init__(self, registry: SqlRegistry, settings: Settings) -> None:
        """Open the records; :meth:`close` closes them."""
        self._registry = registry
        self._records = open_records(settings.store_urls[1])
        self._default = Policy(settings.registration)
        self.refresh()

    def refresh(self) -> None:
        """Read the registry anew."""
        self._admission = read_admission(self._registry, self._default)
        self._credentials = {each.username: each.kind for each in self._registry.credentials()}

    def uids(self) -> list[str]:
        """Return every uid registered or heard."""
        uids, after = set(self._admission.devices), ""
        while page := self._records.devices(after=after, limit=1_000):
            uids |= {device.uid for device in page}
            after = page[-1].uid
        return sorted(uids)

    def health(self, key: DeviceKey) -> Health:
        """Return what is known of one device."""
        found = self._records.device(key.uid)
        return health_of(
            key,
            found,
            self._records.ledger(uids=[key.uid]),
            self._records.quarantine(uid=key.uid, limit=3),
            self._admission,
            self._credentials.get(username_of(key)),
            time.time_ns(),
            newest=self._records.quarantine(limit=NEWEST) if found is None else (),
        )

    def workers(self) -> Mapping[str, Mapping[str, Any]]:
        """Return worker → its last committed status."""
        return self._records.workers()

    def command(self, settings: Settings, key: DeviceKey) -> str:
        """Return the exact command that publishes one reading as the device; its password has to be filled in."""
        address = broker_address(self._records.workers(), (settings.broker_host, settings.broker_port))
        made = settings.data / TLS_FOLDER / "ca.pem"
        tls = settings.broker_tls or settings.tls or made.exists()
        credential = self._registry.credential(username_of(key))
        return publish_command(key, address, credential, str(settings.broker_ca_file or made), tls=tls)

    def unknown_names(self, key: DeviceKey) -> list[UnknownName]:
        """Return the names that were refused of a device and that nobody has adopted."""
        adopted = self._admission.adopted.get(key.uid, {})
        return [each for each in self._records.unknown_names(key.uid) if each.name not in adopted]

    def close(self) -> None:
        """Close the records; idempotent."""
        self._records.close()


@device_app.command("add", short_help="Register a device, and give it credentials.")
def add(  # noqa: PLR0913 - one flag each
    device: Id,
    *,
    device_class: Class = None,
    site: SiteCode = None,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    note: Annotated[str, typer.Option(help="A remark for people.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Refuse what it sends.")] = False,
    credentials: Annotated[bool, typer.Option("--credentials", help="Draw a password, shown once.")] = False,
    certificate: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a client certificate there.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Register a device; ingest and the broker act on it within about a second."""
    settings = settings_with(data=data, site=site)
    key = key_of(device, device_class, settings.site)
    with registry_of(settings, read_only=False) as registry:
        entry = RegisteredDevice(uid=key.uid, name=name, note=note, enabled=not disabled)
        registry.put(_checked(entry), actor=actor(), now_ns=time.time_ns())
        issued = _issue(registry, settings, key, password=credentials, certificate=certificate)
    _say({"uid": key.uid, **issued}, settings, key, "is registered", as_json=as_json)


@device_app.command("rotate", short_help="Give a device new credentials in place of the old.")
def rotate(
    device: Id,
    *,
    device_class: Class = None,
    site: SiteCode = None,
    certificate: Annotated[Path | None, typer.Option(metavar="DIR", help="A certificate, not a password.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Draw a new password, or make a new certificate; the old one ends within about a second."""
    settings = settings_with(data=data, site=site)
    with registry_of(settings, read_only=True), registry_of(settings, read_only=False) as registry:
        key = known_key(registry, settings, device, device_class)
        issued = _issue(registry, settings, key, password=certificate is None, certificate=certificate)
    done = "has new credentials, the old end within a second"
    _say({"uid": key.uid, **issued}, settings, key, done, as_json=as_json)


@device_app.command("remove", short_help="Take a device and its credentials out of the registry.")
def remove(
    device: Id, *, device_class: Class = None, site: SiteCode = None, data: Data = None, as_json: Json = False
) -> None:
    """Remove registration, credentials and adopted names; what it has sent stays. Exit status 1 if none was there."""
    settings = settings_with(data=data, site=site)
    with registry_of(settings, read_only=True), registry_of(settings, read_only=False) as registry:
        if "/" not in device and device_class is None and not uids_called(registry, settings, device):
            typer.echo(json.dumps({"uid": device} | NOTHING) if as_json else f"{device}: not there")
            raise typer.Exit(FAILED)
        key = known_key(registry, settings, device, device_class)
        now = time.time_ns()
        gone = registry.remove(RegisteredDevice.kind, key.uid, actor=actor(), now_ns=now)
        withdrawn = registry.withdraw(username_of(key), actor=actor(), now_ns=now)
        names = registry.adoptions_of(key.uid)
        for each in names:
            registry.remove(Adoption.kind, each.key, actor=actor(), now_ns=now)
    result = {"uid": key.uid, "registration": gone, "credential": withdrawn, "adopted_names": len(names)}
    typer.echo(json.dumps(result) if as_json else f"{key.uid}: " + ("removed" if gone or withdrawn else "not there"))
    raise typer.Exit(0 if gone or withdrawn or names else FAILED)


@device_app.command("adopt", short_help="Say which metric a name of the device's own is.")
def adopt(  # noqa: PLR0913 - one flag each
    device: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name that the device sends.")],
    metric: Annotated[
        str, typer.Argument(metavar="METRIC", help="The metric that it is; `/v1/vocabulary` lists them.")
    ],
    *,
    scale: Annotated[float, typer.Option(help="The value times this …")] = 1.0,
    offset: Annotated[float, typer.Option(help="… plus this is the value in the metric's unit.")] = 0.0,
    device_class: Class = None,
    site: SiteCode = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take a name of the device's own for a metric, from now on; what was quarantined before stays there."""
    settings = settings_with(data=data, site=site)
    with registry_of(settings, read_only=True), registry_of(settings, read_only=False) as registry:
        key = known_key(registry, settings, device, device_class)
        entry = Adoption(device=key.uid, name=name, metric=metric, scale=scale, offset=offset)
        registry.put(_checked(entry), actor=actor(), now_ns=time.time_ns())
    text = f"{key.uid}: {name} × {scale:g} + {offset:g} is {metric}"
    typer.echo(json.dumps(msgspec.to_builtins(entry)) if as_json else text)


@device_app.command("list")
def list_devices(
    *, device_class: Class = None, site: SiteCode = None, data: Data = None, as_json: Json = False
) -> None:
    """List the devices registered and heard, and how each does."""
    settings = settings_with(data=data)
    with registry_of(settings, read_only=True) as registry, closing(Look(registry, settings)) as look:
        keys = [DeviceKey.from_uid(uid) for uid in look.uids()]
        rows = [
            look.health(key) for key in keys if site in {None, key.site} and device_class in {None, key.device_class}
        ]
    if as_json:
        typer.echo(msgspec.json.encode(rows).decode())
        return
    for each in rows:
        sign = "✔" if each.live else "✘"
        typer.echo(f"{sign} {each.uid:<44} {each.frames:>9,} frames  {each.verdict}")
    typer.echo(f"{len(rows)} devices, {sum(each.live for each in rows)} live")


@device_app.command("show", short_help="Why is it silent, on one screen.")
def show(
    device: Id, *, device_class: Class = None, site: SiteCode = None, data: Data = None, as_json: Json = False
) -> None:
    """Show all that is known of a device, and the first reason why it is silent. Exit status 1 if it is."""
    settings = settings_with(data=data, site=site)
    with registry_of(settings, read_only=True) as registry, closing(Look(registry, settings)) as look:
        key = known_key(registry, settings, device, device_class)
        found = look.health(key)
        command = look.command(settings, key)
        unknown = look.unknown_names(key)
    flags = () if settings.data == Settings.model_fields["data"].default else ("--data", str(settings.data))
    adopt = {each.name: adopt_command(key.uid, each.name, "METRIC", *flags) for each in unknown}
    document = {**msgspec.to_builtins(found), "publish": command, "adopt": adopt}
    if as_json:
        typer.echo(json.dumps(document))
    else:
        typer.echo(f"{'✔' if found.live else '✘'} {found.uid}: {found.verdict}")
        for name, value in document.items():
            if name not in SAID_APART and value not in (None, {}):
                typer.echo(f"  {name:<20} {value}")
        for refusal in found.refusals:
            typer.echo(f"  refused {refusal['received']}  {refusal['reason']} at {refusal['pointer'] or '/'}")
            typer.echo(f"    {refusal['detail']}")
        for each in unknown:
            value = f", last as {each.value}" if each.value else ""
            typer.echo(f"  unknown {quoted(each.name)}, refused {each.refused} times{value}; say what it is:")
            typer.echo(f"    {adopt[each.name]}")
        typer.echo(f"  try: {command}")
    raise typer.Exit(0 if found.live else FAILED)


@device_app.command("watch", short_help="Wait until a device is heard.")
def watch(
    device: Id,
    *,
    device_class: Class = None,
    site: SiteCode = None,
    seconds: Annotated[
        float | None,
        typer.Option("--for", parser=duration, metavar="TIME", help="Give up after this, such as 5m. [default: 60s]"),
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Print the command to try, then a green tick for each message that arrives. Exit status 1 if none does."""
    patience_s = WATCH_S if seconds is None else seconds
    settings = settings_with(data=data, site=site)
    with registry_of(settings, read_only=True) as registry, closing(Look(registry, settings)) as look:
        key = known_key(registry, settings, device, device_class)
        before = look.health(key)
        if not as_json:
            typer.echo(f"try: {look.command(settings, key)}")
        after = asyncio.run(_until_heard(look, key, before, patience_s, as_json=as_json))
    if as_json:
        typer.echo(msgspec.json.encode(after).decode())
    elif after.accepted == before.accepted:
        typer.secho(f"✘ nothing accepted within {patience_s:g} s: {after.verdict}", fg="red")
    raise typer.Exit(0 if after.accepted > before.accepted else FAILED)


async def _until_heard(look: Look, key: DeviceKey, before: Health, seconds: float, *, as_json: bool) -> Health:
    """Follow the committed records; return the device's health once it is heard, or when time is over."""
    end, last = time.monotonic() + seconds, before
    while time.monotonic() < end:
        await asyncio.sleep(min(WATCH_PERIOD_S, max(0.0, end - time.monotonic())))
        look.refresh()
        found = look.health(key)
        if not as_json:
            if found.accepted > last.accepted:
                typer.secho(f"✔ {found.accepted - last.accepted} messages, last {found.last_seen}", fg="green")
            for refusal in found.refusals:
                if refusal not in last.refusals:
                    typer.secho(f"✘ {refusal['reason']}: {refusal['detail']}", fg="red")
        last = found
        if found.accepted > before.accepted:
            break
    return last


def _issue(
    registry: SqlRegistry, settings: Settings, key: DeviceKey, *, password: bool, certificate: Path | None
) -> dict[str, Any]:
    """Give a device a password or a certificate; return what there is to tell of it, once."""
    if certificate is not None:
        return _certified(registry, settings, key, certificate)
    if password:
        from quayflow.broker_access import password_credential  # noqa: PLC0415 - loaded by who draws one
        from store.passwords import new_password  # noqa: PLC0415 - as above

        drawn, username = new_password(), username_of(key)
        registry.issue(password_credential(username, key.uid, drawn, time.time_ns()), actor=actor())
        return {"username": username, "password": drawn}
    return {}


def _certified(registry: SqlRegistry, settings: Settings, key: DeviceKey, folder: Path) -> dict[str, Any]:
    """Write a certificate, its key and the authority's into a folder; ends with status 2 where none can be made."""
    from quayflow.certificates import Authority, CertificateError, write_private  # noqa: PLC0415 - as above

    username, now = username_of(key), time.time_ns()
    try:
        authority = Authority(settings.data / TLS_FOLDER, now)
        issued = authority.device(username, now)
    except CertificateError as error:
        typer.echo(f"quayflow: {error}", err=True)
        raise typer.Exit(USAGE) from None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.pem").write_bytes(issued.certificate)
    (folder / "ca.pem").write_bytes(authority.certificate_file.read_bytes())
    write_private(folder / "device.key", issued.key)
    credential = Credential(
        username=username,
        uid=key.uid,
        kind="certificate",
        serial=issued.serial,
        issued_ns=now,
        expires_ns=issued.expires_ns,
    )
    registry.issue(credential, actor=actor())
    return {"username": username, "certificate": str(folder), "serial": issued.serial}


def _say(result: dict[str, Any], settings: Settings, key: DeviceKey, done: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    typer.echo(f"✔ {result['uid']} {done}")
    if "password" in result:
        typer.echo(f"  user      {result['username']}\n  password  {result['password']}   (shown this once)")
    if "certificate" in result:
        typer.echo(f"  certificate, key and CA in {result['certificate']}")
    typer.echo(f"  then: quayflow device watch {key.uid} --data {settings.data}")


def _checked(entry: Entry) -> Entry:
    """Return an entry once its fields are held to their types; EntryError names the one at fault."""
    return entry_of(entry.kind, msgspec.to_builtins(entry))

"""What the registry holds: sites, organisations, devices, assets, mountings, zones, tags, aliases, adopted names.

Each kind is one struct with one key, checked as a whole when it is read from JSON, CSV or the command line. A device is
what speaks; an asset is what it is mounted on, for as long as a mounting says.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import inf
from typing import Annotated, Any, ClassVar, Final, get_origin

import msgspec

from devices.identities import oddities, site_oddities
from devices.times import parse_rfc3339
from devices.topics import DEVICE, SITE, DeviceKey
from devices.unknown_names import MAX_NAME, is_adoptable
from devices.vocabulary import BY_NAME, DeviceClass

Text = Annotated[str, msgspec.Meta(max_length=256)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"\A[^\x00-\x20\x7f]+\Z")]
SiteCode = Annotated[str, msgspec.Meta(pattern=rf"\A{SITE.pattern}\Z")]
DeviceId = Annotated[str, msgspec.Meta(pattern=rf"\A{DEVICE.pattern}\Z")]
CARRIERS: Final = {"container": "container"} | dict.fromkeys(("truck", "vehicle", "trailer"), "plate")
"""Type of what carries a tag → what its id is."""
UID: Final = rf"{SITE.pattern}/({'|'.join(DeviceClass)})/{DEVICE.pattern}"
Uid = Annotated[str, msgspec.Meta(pattern=rf"\A{UID}\Z")]
GEOMETRIES: Final = frozenset({"Polygon", "MultiPolygon"})


class EntryError(ValueError):
    """An entry that cannot be kept; the message names the field and what is expected."""


class Policy(StrEnum):
    """Which devices of a site ingest admits."""

    OPEN = "open"
    """Every device."""
    KNOWN_CLASSES = "known-classes"
    """Registered devices, and others whose class the site lists."""
    CLOSED = "closed"
    """Registered devices only."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the registry."""

    kind: ClassVar[str] = ""
    key_form: ClassVar[str] = ""
    """How the key, unique within its kind, is made of the fields."""
    place_field: ClassVar[str] = ""
    """The field that says or begins with the site, "" for none."""

    @property
    def key(self) -> str:
        """Unique within its kind; entries are listed in its order."""
        return self.key_form.format_map(msgspec.structs.asdict(self))

    @property
    def place(self) -> str:
        """The site that it belongs to, "" for none."""
        return str(getattr(self, self.place_field)).split("/")[0] if self.place_field else ""

    def check(self) -> None:
        """Raise EntryError for what the types alone do not say."""

    def oddities(self) -> tuple[str, ...]:
        """Return the flags of identities that do not add up, and are kept all the same."""
        return ()


class Organisation(Entry, frozen=True, kw_only=True):
    """Who owns or runs something."""

    kind: ClassVar[str] = "organisation"
    key_form: ClassVar[str] = "{id}"
    id: Id
    name: Text = ""


class Site(Entry, frozen=True, kw_only=True):
    """A terminal, a park, a yard."""

    kind: ClassVar[str] = "site"
    key_form: ClassVar[str] = "{site}"
    place_field: ClassVar[str] = "site"
    site: SiteCode
    name: Text = ""
    organisation: Text = ""
    policy: Policy = Policy.OPEN
    classes: tuple[DeviceClass, ...] = ()
    """Classes that ``known-classes`` admits."""

    def oddities(self) -> tuple[str, ...]:
        """Return whether the site begins with no UN/LOCODE."""
        return site_oddities(self.site)

    def check(self) -> None:
        """Refuse classes that the policy does not read, and a policy without the classes that it needs."""
        if (self.policy is Policy.KNOWN_CLASSES) != bool(self.classes):
            raise EntryError(f"classes: expected with the policy {Policy.KNOWN_CLASSES}, and only with it")


class RegisteredDevice(Entry, frozen=True, kw_only=True):
    """A device that may speak, whether or not it has been heard."""

    kind: ClassVar[str] = "device"
    key_form: ClassVar[str] = "{uid}"
    place_field: ClassVar[str] = "uid"
    uid: Uid
    name: Text = ""
    organisation: Text = ""
    enabled: bool = True
    """A device that is not is refused whatever the policy."""
    note: Text = ""


class Asset(Entry, frozen=True, kw_only=True):
    """A machine, a vehicle, a gate lane: what devices are mounted on."""

    kind: ClassVar[str] = "asset"
    key_form: ClassVar[str] = "{site}/{id}"
    place_field: ClassVar[str] = "site"
    id: Id
    site: SiteCode
    type: Text = ""
    """Such as STS, RTG, terminal tractor."""
    name: Text = ""
    organisation: Text = ""


class Mounting(Entry, frozen=True, kw_only=True):
    """From when until when a device was on an asset; half-open, RFC 3339."""

    kind: ClassVar[str] = "mounting"
    key_form: ClassVar[str] = "{device}@{start}"
    place_field: ClassVar[str] = "device"
    device: Uid
    asset: Id
    """Id of an asset of the same site."""
    start: str
    end: str = ""
    """"" as long as it is there."""

    def check(self) -> None:
        """Refuse times that are none, or reversed."""
        _time("start", self.start)
        _check_span(self.start, self.end)

    def span_ns(self) -> tuple[float, float]:
        """Return start and end, ns UTC; the end is infinite as long as it is there."""
        return _span_ns(self.start, self.end)


class Zone(Entry, frozen=True, kw_only=True):
    """An area of a site, as a GeoJSON polygon in WGS 84."""

    kind: ClassVar[str] = "zone"
    key_form: ClassVar[str] = "{site}/{id}"
    place_field: ClassVar[str] = "site"
    id: Id
    site: SiteCode
    name: Text = ""
    type: Text = ""
    """Such as block, lane, gate, berth, parking."""
    geometry: dict[str, Any]

    def check(self) -> None:
        """Refuse what is no valid polygon within the bounds of longitude and latitude."""
        if self.geometry.get("type") not in GEOMETRIES:
            raise EntryError(f"geometry: type {self.geometry.get('type')!r}: expected Polygon or MultiPolygon")
        # Loaded where a polygon is judged: an ingest worker reads what has been judged, and holds no geometry.
        import shapely  # noqa: PLC0415
        from shapely.geometry import shape  # noqa: PLC0415 - as above

        try:
            found = shape(self.geometry)
        except Exception as error:  # noqa: BLE001 - shapely raises a dozen kinds for what is no geometry
            raise EntryError(f"geometry: {error}") from None
        if found.is_empty or not found.is_valid:
            raise EntryError(f"geometry: {'empty' if found.is_empty else shapely.is_valid_reason(found)}")
        west, south, east, north = found.bounds
        if west < -180 or east > 180 or south < -90 or north > 90:  # noqa: PLR2004 - degrees
            raise EntryError("geometry: expected [longitude, latitude] in degrees, WGS 84")


class Tag(Entry, frozen=True, kw_only=True):
    """Which container, vehicle or thing carries an RFID tag."""

    kind: ClassVar[str] = "tag"
    key_form: ClassVar[str] = "{tag}"
    tag: Id
    """As readers report it: EPC or TID, in hexadecimal digits of either case."""
    carrier: Id
    """Such as a container number, or the plate of a truck."""
    type: Text = "container"
    start: str = ""
    """From when it has been there, RFC 3339; "" as long as anybody knows. A tag that moves has an entry for each."""
    end: str = ""
    """Until when, which is not included; "" as long as it is there."""

    @property
    def key(self) -> str:
        """The tag, and since when where that is told."""
        return f"{self.tag}@{self.start}" if self.start else self.tag

    def oddities(self) -> tuple[str, ...]:
        """Return what is wrong with the tag's code, and with the number of a container or the plate of a vehicle."""
        return (*oddities("tag", self.tag), *oddities(CARRIERS.get(self.type.lower(), ""), self.carrier))

    def check(self) -> None:
        """Refuse times that are none, or reversed."""
        _check_span(self.start, self.end)

    def span_ns(self) -> tuple[float, float]:
        """Return start and end, ns UTC, infinite where they are open."""
        return _span_ns(self.start, self.end)


class Alias(Entry, frozen=True, kw_only=True):
    """A foreign id under which a device speaks or is known, such as a tracker's phone number."""

    kind: ClassVar[str] = "alias"
    key_form: ClassVar[str] = "{scheme}:{foreign}"
    place_field: ClassVar[str] = "device"
    scheme: Id
    foreign: Id
    device: Uid


class Adoption(Entry, frozen=True, kw_only=True):
    """A name of a device's own, taken for a metric: value × ``scale`` + ``offset``, in the metric's unit."""

    kind: ClassVar[str] = "adoption"
    key_form: ClassVar[str] = "{device}#{name}"
    place_field: ClassVar[str] = "device"
    device: Uid
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    metric: str
    scale: float = 1.0
    offset: float = 0.0

    def check(self) -> None:
        """Refuse a name that no store can hold, what is no metric of the device's class, and numbers that cannot be."""
        if not is_adoptable(self.name):
            raise EntryError("name: expected text without NUL and without halves of characters")
        device_class = DeviceKey.from_uid(self.device).device_class
        metric = BY_NAME.get(self.metric)
        if metric is None or metric.derived or device_class not in metric.classes:
            raise EntryError(f"metric: {self.metric!r} is not a metric of a {device_class}; see /v1/vocabulary")
        if self.scale == 0 or not abs(self.scale) < 1e12 or not abs(self.offset) < 1e12:  # noqa: PLR2004 - no unit is
            raise EntryError("scale, offset: expected finite numbers, and a scale that is not 0")


KINDS: Final[dict[str, type[Entry]]] = {
    entry.kind: entry for entry in (Organisation, Site, RegisteredDevice, Asset, Mounting, Zone, Tag, Alias, Adoption)
}
"""Kind → struct, in the order in which an import applies them."""


def entry_of(kind: str, values: object) -> Entry:
    """Return the entry in plain values, as JSON has them; EntryError names the field."""
    struct = _struct_of(kind)
    try:
        entry = msgspec.convert(values, struct)
    except (msgspec.ValidationError, RecursionError) as error:
        raise EntryError(str(error)) from None
    entry.check()
    return entry


def entry_of_row(kind: str, row: dict[str, str]) -> Entry:
    """Return the entry in a row of CSV: empty cells are left out, lists are separated by spaces, geometry is JSON."""
    fields = {field.name: field for field in msgspec.structs.fields(_struct_of(kind))}
    told = {name: text for name, text in row.items() if text}
    for name in told:
        if name not in fields:
            raise EntryError(f"{name}: expected one of {', '.join(fields)}")
    return entry_of(kind, {name: _cell(name, fields[name].type, text) for name, text in told.items()})


def _struct_of(kind: str) -> type[Entry]:
    struct = KINDS.get(kind)
    if struct is None:
        raise EntryError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    return struct


def _cell(name: str, kind: object, text: str) -> object:
    if name == "geometry":
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise EntryError(f"{name}: {error}") from None
    if get_origin(kind) is tuple:
        return text.split()
    if kind is bool:
        if text not in {"true", "false"}:
            raise EntryError(f"{name}: {text!r}: expected true or false")
        return text == "true"
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise EntryError(f"{name}: {text!r}: expected a number") from None
    return text


def refuse_overlaps(mountings: Iterable[Mounting]) -> None:
    """Raise EntryError where a device would be on two assets, or twice on one, at the same time."""
    last: dict[str, Mounting] = {}
    for each in sorted(mountings, key=lambda mounting: mounting.span_ns()):
        before = last.get(each.device)
        if before is not None and before.span_ns()[1] > each.span_ns()[0]:
            until = f"until {before.end}" if before.end else "without an end"
            raise EntryError(
                f"start: {each.device} is on {before.asset} from {before.start} {until}, so it cannot be on "
                f"{each.asset} from {each.start}; end the earlier mounting at or before that"
            )
        last[each.device] = each


def document_of(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain values, all fields in their order."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(entry))
    return document


def row_of(entry: Entry) -> dict[str, str]:
    """Return an entry as a row of CSV, the inverse of :func:`entry_of_row`."""
    return {name: _text(value) for name, value in document_of(entry).items()}


def _text(value: object) -> str:
    match value:
        case list():
            return " ".join(value)
        case bool():
            return "true" if value else "false"
        case dict():
            return msgspec.json.encode(value).decode()
        case _:
            return str(value)


def _check_span(start: str, end: str) -> None:
    first, last = _span_ns(start, end)
    if first >= last:
        raise EntryError(f"end: {end} is not after start, {start}")


def _span_ns(start: str, end: str) -> tuple[float, float]:
    """Return start and end, ns UTC, infinite where they are ""."""
    return _time("start", start) if start else -inf, _time("end", end) if end else inf


def _time(field: str, text: str) -> int:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise EntryError(f"{field}: {error}") from None

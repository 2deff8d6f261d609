"""The worker's tables of devices and series: names outside, small integers inside."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, overload

import numpy as np

from analytics.dedup import SequenceTracker
from analytics.rows import SeriesKey
from devices.codecs.texts import number_of
from devices.columns import Ints
from devices.scalars import Scalar
from devices.times import NS
from devices.topics import DeviceKey
from devices.vocabulary import BY_NAME, INDEX, METRICS, DeviceClass, accepted_from
from store.admission import EVERYBODY, Admission, Adopted

MARK_EVERY_NS: Final = 30 * NS
RATE_OVER_NS: Final = 60 * NS
"""Time over which a device's recent rate is measured, up to one mark more or less, ns."""
MAX_NAMES: Final = 1_000
"""Tuples of names that are remembered for devices to share; with more, all are forgotten."""
NOBODY: Final = 0
"""Index of the entry to which frames are booked whose topic names no device."""


NO_SERIES: Final[Ints] = np.empty(0, np.int64)
NOTHING_ADOPTED: Final[Mapping[str, Adopted]] = {}
"""What most devices have in common."""


@dataclass(slots=True)
class Device:
    """One device: what ingest knows of it beyond the arrays; times are ns UTC."""

    index: int
    key: DeviceKey
    accepts: Mapping[str, int]
    """Metric names that a device of its class may publish → metric index."""
    series: dict[str, int] = field(default_factory=dict)
    """Metric name → series index, for the metrics that it has published so far."""
    derived: dict[str, int] = field(default_factory=dict)
    """Metric name → series index, for what ingest made of its frames: not to be published by a device."""
    telemetry_names: tuple[str, ...] | None = None
    """Names of the last telemetry of which every name was known …"""
    telemetry_series: list[int] = field(default_factory=list)
    """… and their series: a device repeats itself."""
    block_names: tuple[str, ...] = ()
    """Columns of the last packed block, likewise …"""
    block_series: Ints = field(default_factory=lambda: NO_SERIES)
    """… and their series."""
    tracker: SequenceTracker = field(default_factory=SequenceTracker)
    first_seen: int = 0
    last_seen: int = 0
    frames: int = 0
    marks: tuple[tuple[int, int], tuple[int, int]] | None = None
    """Two earlier pairs of ``last_seen`` and ``frames``, the older first: what the recent rate is measured from."""
    online: bool = False
    info: Mapping[str, Scalar] = field(default_factory=dict)
    adopted: Mapping[str, Adopted] = field(default_factory=lambda: NOTHING_ADOPTED)
    """Names of its own → what the registry says that they mean."""
    touched: bool = False
    """Whether anything changed since the last commit."""

    @property
    def uid(self) -> str:
        """The device's unique id; "" for nobody."""
        return self.key.uid if self.index else ""

    def rate_hz(self) -> float | None:
        """Return its recent frames a second, None until two looks lie apart; asked at each commit of the device.

        From a mark that is 30 to 90 s old to its newest frame. After a longer silence, from its last frame before that.
        """
        newest = (self.last_seen, self.frames)
        older, newer = self.marks or (newest, newest)
        if newest[0] - older[0] > RATE_OVER_NS + MARK_EVERY_NS:
            older = newer
        if newest[0] - newer[0] >= MARK_EVERY_NS or self.marks is None:
            self.marks = newer, newest
        span = newest[0] - older[0]
        return round((newest[1] - older[1]) * NS / span, 3) if span > 0 else None


class CardinalityError(Exception):
    """A cap on devices or series has been reached."""


class NotAdmittedError(Exception):
    """The registry does not let a device speak; the message says why and what to do."""


class Sample(NamedTuple):
    """A value on its way into a series."""

    series: int
    value: float


class SeriesTable(Sequence[SeriesKey]):
    """The keys of a directory's series by index, each made when it is asked for: as tuples they take 10 MB a 100,000.

    It grows with the directory; another thread may read it meanwhile.
    """

    def __init__(self, directory: "Directory") -> None:
        """Show what the directory knows."""
        self._directory = directory

    def __len__(self) -> int:
        """Return the number of series."""
        return self._directory.series_count

    @overload
    def __getitem__(self, at: int) -> SeriesKey: ...

    @overload
    def __getitem__(self, at: slice) -> list[SeriesKey]: ...

    def __getitem__(self, at: int | slice) -> SeriesKey | list[SeriesKey]:
        """Return the key of one series, or of some."""
        places = range(len(self))[at]
        return self._key(places) if isinstance(places, int) else [self._key(place) for place in places]

    def _key(self, series: int) -> SeriesKey:
        directory = self._directory
        key = directory.devices[directory.device_of[series]].key
        return SeriesKey(key.site, key.device_class, key.device, METRICS[directory.metric_of[series]].name)


class Directory:
    """Devices and series by index. Tables only grow; a cap turns an attack into counted refusals."""

    def __init__(
        self, max_devices: int, max_series: int, max_site_devices: int = 10_000, max_site_series: int = 100_000
    ) -> None:
        """Start with the entry of nobody. Caps are on the whole worker and on each site of it."""
        self.max_devices, self.max_series = max_devices, max_series
        self.max_site_devices, self.max_site_series = max_site_devices, max_site_series
        self._site_devices: Counter[str] = Counter()
        self._site_series: Counter[str] = Counter()
        self._strange_devices = self._strange_series = 0
        self.devices: list[Device] = [Device(NOBODY, DeviceKey("", "", ""), {})]
        self.keys = SeriesTable(self)
        """The key of each series."""
        self.series_count = 0
        self._by_key: dict[DeviceKey, Device] = {}
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.admission = EVERYBODY
        self._accepts = {device_class: accepted_from(device_class) for device_class in DeviceClass}
        self.metric_of: Ints = np.zeros(256, np.int64)
        """Series index → metric index."""
        self.device_of: Ints = np.zeros(256, np.int64)
        """Series index → device index."""

    def device(self, key: DeviceKey, *, capped: bool = True) -> Device:
        """Return the device of a key, entering it if it is new.

        NotAdmittedError where the registry does not let it speak, CardinalityError at the cap; neither unless
        ``capped``.
        """
        refusal = self.admission.refusal(key) if capped else None
        if refusal is not None:
            raise NotAdmittedError(refusal)
        found = self._by_key.get(key)
        if found is None:
            if capped and len(self.devices) > self.max_devices:
                msg = f"{self.max_devices} devices are known already"
                raise CardinalityError(msg)
            if capped and self._site_devices[key.site] >= self.max_site_devices:
                msg = f"{self.max_site_devices} devices of site {key.site} are known already"
                raise CardinalityError(msg)
            if self._is_strange(key.site):
                if capped and self._strange_devices >= self.max_devices // 2:
                    msg = f"{self._strange_devices} devices of sites that are not registered are known already"
                    raise CardinalityError(msg)
                self._strange_devices += 1
            self._site_devices[key.site] += 1
            found = Device(len(self.devices), key, self._accepts[DeviceClass(key.device_class)])
            found.adopted = self.admission.adopted.get(key.uid, NOTHING_ADOPTED)
            self.devices.append(found)
            self._by_key[key] = found
        return found

    def take_over(self, other: "Directory") -> None:
        """Enter the devices and series of another directory, whatever the caps."""
        for device in other.devices[NOBODY + 1 :]:
            entered = self.device(device.key, capped=False)
            for enter, names in ((self.series, device.series), (self.derived_series, device.derived)):
                for name in names:
                    enter(entered, name, capped=False)

    def admit(self, admission: Admission) -> None:
        """Take over what the registry says now."""
        self.admission = admission
        self._strange_devices, self._strange_series = (
            sum(number for site, number in of_site.items() if self._is_strange(site))
            for of_site in (self._site_devices, self._site_series)
        )
        for device in self.devices:
            device.adopted = admission.adopted.get(device.uid, NOTHING_ADOPTED)
            device.block_names = ()

    def _is_strange(self, site: str) -> bool:
        """Return whether the registry has sites, and not this one: anybody can invent any number of those.

        Together they get half of the places, so that the others' new devices always find one.
        """
        return bool(self.admission.sites) and site not in self.admission.sites

    def series(self, device: Device, metric: str, *, capped: bool = True) -> int:
        """Return the series of a metric that ``device`` publishes, entering it if it is new.

        CardinalityError at the cap, unless not ``capped``: what a checkpoint knows and what detectors find of known
        devices is bounded by itself.
        """
        found = device.series.get(metric)
        if found is None:
            metric = METRICS[INDEX[metric]].name
            found = device.series[metric] = self._enter(device, metric, capped=capped)
        return found

    def sample(self, device: Device, name: str, value: Scalar) -> Sample | None:
        """Return where a value under ``name`` goes, None where the name is unknown.

        CardinalityError at the cap, ValueError for a text that is no number.
        """
        adopted = None if name in device.accepts else device.adopted.get(name)
        if adopted is None and name not in device.accepts:
            return None
        metric = adopted.metric if adopted else name
        number = value if isinstance(value, int | float) else number_of(value, BY_NAME[metric])
        if adopted is not None:
            number = number * adopted.scale + adopted.offset
        return Sample(self.series(device, metric), number)

    def derived_series(self, device: Device, metric: str, *, capped: bool = True) -> int:
        """Return the series of a metric that ingest derives for ``device``; otherwise as :meth:`series`."""
        found = device.derived.get(metric)
        if found is None:
            metric = METRICS[INDEX[metric]].name
            found = device.derived[metric] = self._enter(device, metric, capped=capped)
        return found

    def shared(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the same tuple for equal names: devices of a class have them in common, texts and all."""
        if len(self._names) >= MAX_NAMES:
            self._names.clear()
        return self._names.setdefault(names, names)

    def _enter(self, device: Device, metric: str, *, capped: bool) -> int:
        known = device.series.get(metric, device.derived.get(metric))
        if known is not None:
            return known
        found = self.series_count
        if capped and found >= self.max_series:
            msg = f"{self.max_series} series are known already"
            raise CardinalityError(msg)
        if capped and self._site_series[device.key.site] >= self.max_site_series:
            msg = f"{self.max_site_series} series of site {device.key.site} are known already"
            raise CardinalityError(msg)
        if self._is_strange(device.key.site):
            if capped and self._strange_series >= self.max_series // 2:
                msg = f"{self._strange_series} series of sites that are not registered are known already"
                raise CardinalityError(msg)
            self._strange_series += 1
        if found >= len(self.metric_of):
            more = np.zeros(len(self.metric_of) // 2, np.int64)
            self.metric_of = np.append(self.metric_of, more)
            self.device_of = np.append(self.device_of, more)
        self.metric_of[found] = INDEX[metric]
        self.device_of[found] = device.index
        self.series_count += 1
        self._site_series[device.key.site] += 1
        return found

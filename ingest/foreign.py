"""Foreign frames: readings of a codec to samples, events and refusals, each booked to the device that it speaks of.

A native frame speaks of one device and one instant; a foreign one may speak of several. Each reading is judged by
itself: by the format's own counter where it has one, which then counts for the readings after it as well, else by what
it says and when. The frame itself is booked once, to the device that the topic names or that is read first.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from analytics.dedup import Verdict
from analytics.events import PortEvent
from devices.codecs import native
from devices.codecs.readings import Counter, Happening, Numbering, Reading, bounded
from devices.identities import odd_identities
from devices.rejects import Reason, Reject, RejectError
from devices.scalars import Scalar
from devices.unknown_names import refusal_of
from devices.vocabulary import DeviceClass
from ingest.batch import Batch, Compound, Refused, set_online
from ingest.checks import MAX_AHEAD, MAX_BOOT, READ_METRICS, YEAR_2000, checked_time, is_set, tag_read
from ingest.directory import CardinalityError, Device, Directory
from ingest.sources import Feed, Feeds, Source
from ingest.unforeseen import Unforeseen
from store.journal import DUPLICATE, RETAINED, Frame

READING_NUMBERS: Final = 2_000_000
"""Refusals of the next reading of a frame are numbered from so much further on: beyond names and metrics of one."""
MAX_INFO: Final = 64
"""Facts kept of a device; of more, those told first stay."""
COMMANDS: Final = frozenset({"cmd", "cmd-ack"})
HISTORICAL: Final = "historical"
"""Flag of a reading that its device had kept for later."""

_encode = msgspec.msgpack.Encoder().encode
_NOTHING_ELSE: Final[tuple[Any, ...]] = ((), {}, (), None)
"""What a reading has beside values where it has no more: in the order of :func:`_digest`."""


class Counted(NamedTuple):
    """What a format's counter said of a reading, and of those after it that have none."""

    verdict: Verdict
    boot: int
    seq: int


class Foreign:
    """Takes the readings of foreign frames into a batch."""

    def __init__(self, directory: Directory, sources: Sequence[Source], strict: Collection[str] = ()) -> None:
        """``directory`` is shared with the pipeline and grows here; ``strict`` as in :class:`ingest.sources.Feeds`."""
        self._directory = directory
        self.feeds = Feeds(directory, sources, strict)
        self._unforeseen = Unforeseen()

    def route(self, topic: str) -> tuple[Device, Feed] | None:
        """Return what :meth:`ingest.sources.Feeds.route` does."""
        return self.feeds.route(topic)

    def take(self, frame: Frame, device: Device, feed: Feed, batch: Batch) -> tuple[int, int]:
        """Decode a frame and take over its readings; return the index of the device to which it is booked.

        Also how many samples it has, where that is not left to a :class:`ingest.batch.Compound`. ``device`` is that of
        the topic, or nobody. RejectError where the whole frame is unusable; nothing of it has been taken then.
        """
        try:
            readings = self._decoded(frame, feed)
        except RejectError:
            _count_refused(frame, device, feed)
            raise
        if len(readings) == 1 and (series := _usual_series(frame, device, feed, readings[0])):
            self._take_usual(frame, device, readings[0], series, batch)
            return device.index, len(series)
        if not any(_samples(reading, feed.device_class) for reading in readings):
            # Whatever else a frame may be about, it is a sign of life.
            readings[0].online = True
        first, carrier = len(batch.frames), device
        received: dict[int, int] = {}
        duplicate: dict[int, int] = {}
        counted: Counted | None = None
        for nth, reading in enumerate(readings):
            target = carrier
            samples = _samples(reading, reading.device_class or feed.device_class)
            mark = batch.mark()
            try:
                target = self._device_of(reading, device, feed)
                samples = _samples(reading, target.key.device_class)
                if nth == 0 and not feed.named:
                    carrier = target
                    carrier.frames += 1
                target.first_seen = target.first_seen or frame.recv_ts
                target.last_seen = frame.recv_ts
                target.touched = True
                counted = _count(reading, target) or counted
                verdict, digest = (counted.verdict, b"") if counted else _verdict_by_hash(frame, target, reading)
                if verdict is Verdict.DUPLICATE:
                    duplicate[target.index] = duplicate.get(target.index, 0) + samples
                else:
                    self._accept(frame, target, reading, nth, counted, digest, batch)
            except RejectError as error:
                batch.refused.append(Refused(frame, target.index, error.reject, nth * READING_NUMBERS, samples))
            except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
                batch.rewind(mark)
                reject = self._unforeseen.reject(error, frame, f"taking what {feed.codec.name} has read")
                batch.refused.append(Refused(frame, target.index, reject, nth * READING_NUMBERS, samples))
            received[target.index] = received.get(target.index, 0) + samples
        batch.compounds.append(Compound(frame, carrier.index, first, len(batch.frames), received, duplicate))
        return carrier.index, 0

    @staticmethod
    def _take_usual(frame: Frame, device: Device, reading: Reading, series: list[int], batch: Batch) -> None:
        """Take over the one reading of a frame of which :func:`_usual_series` has found nothing to be looked into."""
        device.first_seen = device.first_seen or frame.recv_ts
        if _verdict_by_hash(frame, device, reading)[0] is Verdict.DUPLICATE:
            batch.duplicate.append(device.index)
            batch.duplicate_samples.append(len(series))
            return
        ts, seq = reading.ts or 0, reading.seq or 0
        batch.series += series
        batch.value += reading.values.values()
        if not device.online:
            set_online(device, online=True, ts=ts, seq=seq, batch=batch)
        add_info(device, reading.info)
        if flags := _flags_of(reading):
            batch.flags += [(device.index, flag) for flag in flags]
        batch.accept(frame, device.index, ts, seq, len(series))

    def _decoded(self, frame: Frame, feed: Feed) -> list[Reading]:
        if feed.timed is not None:
            feed.timed.received = frame.recv_ts
        try:
            readings = [bounded(reading) for reading in feed.codec.decode(frame.payload, frame.topic)]
        except RejectError:
            raise
        except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
            raise RejectError(*self._unforeseen.reject(error, frame, f"the codec {feed.codec.name}")) from None
        if not readings:
            raise RejectError(Reason.NO_SAMPLES, "", "nothing in it")
        return readings

    def _device_of(self, reading: Reading, device: Device, feed: Feed) -> Device:
        """Return what :meth:`ingest.sources.Feeds.device_of` does."""
        if feed.named and reading.device not in {"", feed.speaker} and reading.counter and reading.counter.wraps_at:
            # On a connection of its own, it is the device's name that is damaged.
            device.tracker.count_round(reading.counter.stream, None, reading.counter.wraps_at)
        return self.feeds.device_of(reading, device, feed)

    def _accept(
        self,
        frame: Frame,
        device: Device,
        reading: Reading,
        nth: int,
        counted: Counted | None,
        digest: bytes,
        batch: Batch,
    ) -> None:
        """Take over a reading that is new."""
        said, kept = reading.ts, HISTORICAL in reading.flags
        ts = frame.recv_ts if said is None else checked_time(said, frame.recv_ts, kept=kept)
        if counted is not None and counted.verdict is Verdict.TOO_OLD:
            detail = f"{counted.seq} of boot {counted.boot} is older than what is remembered: new or repeated?"
            raise RejectError(Reason.SEQUENCE_TOO_OLD, "/seq", detail)
        seq = counted.seq if counted else reading.seq or 0
        told_apart = f"{counted.boot}/{counted.seq}" if counted else digest.hex()
        if not is_set(said) and not counted:
            told_apart = f"{told_apart}@{frame.offset}"
        before = len(batch.series)
        self._accept_values(frame, device, reading, nth, batch)
        for at, happening in enumerate(reading.happenings):
            try:
                self._accept_happening(device, happening, ts, seq, f"{told_apart}/{nth}/{at}", batch)
            except RejectError as error:
                number = nth * READING_NUMBERS + _names(reading) + at
                size = _size(happening, device.key.device_class)
                batch.refused.append(Refused(frame, device.index, error.reject, number, size))
        if reading.online is not None:
            batch.series.append(self._derived(device, "online"))
            batch.value.append(float(reading.online))
        samples = len(batch.series) - before
        online = reading.online is not False
        if online != device.online and not kept:
            set_online(device, online=online, ts=ts, seq=seq, batch=batch)
        if not kept:
            add_info(device, reading.info)
        batch.flags += [(device.index, flag) for flag in _flags_of(reading)]
        if said is not None and not is_set(said):
            batch.note_unset(device.index, said)
        if nth:
            batch.numbers[len(batch.frames)] = nth
        batch.accept(frame, device.index, ts, seq, samples)

    def _accept_values(self, frame: Frame, device: Device, reading: Reading, nth: int, batch: Batch) -> None:
        """Take over values; those whose name is unknown are refused by name."""
        series, values = device.series, reading.values
        try:
            batch.series += [series[name] for name in values]
            batch.value += values.values()
        except KeyError:
            for at, (name, value) in enumerate(values.items()):
                self._accept_value(frame, device, name, value, nth * READING_NUMBERS + at, batch)
        for at, (name, unknown) in enumerate(reading.unknown.items()):
            self._accept_value(frame, device, name, unknown, nth * READING_NUMBERS + len(values) + at, batch)
        if reading.payload:
            frame = frame._replace(payload=reading.payload)
        for at, reject in enumerate(reading.refused):
            number = nth * READING_NUMBERS + len(values) + len(reading.unknown) + at
            batch.refused.append(Refused(frame, device.index, reject, number, 1))

    def _accept_value(self, frame: Frame, device: Device, name: str, value: Scalar, number: int, batch: Batch) -> None:
        """Take over a value under a name of the vocabulary or an adopted one, or refuse it by its name."""
        try:
            found = self._directory.sample(device, name, value)
        except CardinalityError as error:
            reject = Reject(Reason.CARDINALITY, native.pointer(name), str(error))
        except ValueError as error:
            reject = Reject(Reason.WRONG_TYPE, native.pointer(name), str(error))
        else:
            if found is not None:
                batch.series.append(found.series)
                batch.value.append(found.value)
                return
            reject = Reject(Reason.UNKNOWN_METRIC, native.pointer(name), refusal_of(device.uid, name, value))
        batch.refused.append(Refused(frame, device.index, reject, number, 1))

    def _accept_happening(
        self, device: Device, happening: Happening, ts: int, seq: int, told_apart: str, batch: Batch
    ) -> None:
        if _is_read(happening, device.key.device_class):
            event = native.Event(v=native.VERSION, type=happening.type, data=happening.data, seq=seq)
            read = tag_read(device.index, ts, event, partial=True)
            batch.series += [self._derived(device, name) for name in _read_metrics(happening)]
            measured = {"reads": 1.0, "rssi_dbm": read.rssi_dbm, "antenna": float(read.antenna)}
            batch.value += [measured[name] for name in _read_metrics(happening)]
            batch.reads.append(read)
            return
        is_command = happening.type in COMMANDS
        batch.series.append(self._derived(device, "commands" if is_command else "device_events"))
        batch.value.append(1.0)
        if not is_command:
            data = dict(happening.data)
            batch.events.append(PortEvent(happening.type, device.index, ts, ts, seq, data, {}, told_apart))

    def _derived(self, device: Device, name: str) -> int:
        # A handful per device, as for what detectors find: the cap is not for them.
        return self._directory.derived_series(device, name, capped=False)


def _usual_series(frame: Frame, device: Device, feed: Feed, reading: Reading) -> list[int]:
    """Return the series of a reading that is nothing but values at a time, known ones, of the device of its topic.

    None at all where there is more to it, and it has to be looked into. Nearly all that trackers send is so; to the
    ledger it is the same whether a reading is taken alone or as the only one of several.
    """
    ts, seq = reading.ts, reading.seq
    more = reading.happenings or reading.unknown or reading.refused or reading.payload or HISTORICAL in reading.flags
    if more or reading.online is not None or reading.boot is not None or not feed.named:
        return []
    if reading.device not in {"", feed.speaker} or ts is None or not YEAR_2000 <= ts <= frame.recv_ts + MAX_AHEAD:
        return []
    if seq is not None and not 0 <= seq <= native.MAX_SEQ:
        return []
    known = device.series
    try:
        return [known[name] for name in reading.values]
    except KeyError:
        return []


def add_info(device: Device, told: Mapping[str, Scalar]) -> None:
    """Note what is told of a device beside samples."""
    if told:
        info = {**device.info, **told}
        device.info = info if len(info) <= MAX_INFO else dict(list(info.items())[:MAX_INFO])


def _flags_of(reading: Reading) -> Iterable[str]:
    """Return what is odd about a reading, each once: what its codec says, and what its identities show."""
    if not (reading.happenings or reading.unknown) and str not in map(type, reading.info.values()):
        # Identities are texts.
        return dict.fromkeys(reading.flags) if reading.info and reading.flags else reading.flags
    facts = (reading.info, reading.unknown, *(happening.data for happening in reading.happenings))
    return dict.fromkeys([*reading.flags, *(flag for each in facts for flag in odd_identities(each))])


def _samples(reading: Reading, device_class: str) -> int:
    """Return how many samples a reading makes."""
    count = _names(reading) + (reading.online is not None)
    for happening in reading.happenings:
        count += _size(happening, device_class)
    return count


def _names(reading: Reading) -> int:
    """Return how many values a reading has, good or not."""
    return len(reading.values) + len(reading.unknown) + len(reading.refused)


def _size(happening: Happening, device_class: str) -> int:
    """Return how many samples an event makes."""
    return len(_read_metrics(happening)) if _is_read(happening, device_class) else 1


def _read_metrics(happening: Happening) -> list[str]:
    """Return what is measured of a read: that it was read, and what else its reader reports."""
    return [name for name in READ_METRICS if name == "reads" or name in happening.data]


def _is_read(happening: Happening, device_class: str) -> bool:
    return happening.type == "tag_read" and device_class == DeviceClass.RFID_GATE


def _count(reading: Reading, device: Device) -> Counted | None:
    """Judge a reading by the format's counter, None where it has none; the counter is noted as seen."""
    boot, seq = reading.boot, reading.seq
    if seq is None:
        return None
    if not 0 <= (boot or 0) <= MAX_BOOT or not 0 <= seq <= native.MAX_SEQ:
        raise RejectError(Reason.WRONG_TYPE, "/seq", f"counter {seq} of boot {boot} is beyond all bounds")
    if boot is None:
        return None
    return Counted(device.tracker.see(boot, seq), boot, seq)


def _count_refused(frame: Frame, device: Device, feed: Feed) -> None:
    """Note the number of a frame that cannot be used: it is in the journal, and so it is not lost before it."""
    if feed.named and isinstance(feed.codec, Numbering):
        counter, number = feed.codec.number_of(frame.payload)
        if counter is not None:
            _count_round(device, counter, number)


def _count_round(device: Device, counter: Counter, seq: int, *, known: bool = False) -> int:
    number = None if counter.doubtful else seq
    return device.tracker.count_round(counter.stream, number, counter.wraps_at, anew=counter.anew, known=known)


def _verdict_by_hash(frame: Frame, device: Device, reading: Reading) -> tuple[Verdict, bytes]:
    """Judge a reading without a boot by what it says and when; return its hash too, and note its counter as seen."""
    counter, seq, place = reading.counter, reading.seq, None
    if counter is not None and seq is not None and counter.wraps_at and not is_set(reading.ts):
        # Sent again it has the same number: that is when it was said.
        place = _count_round(device, counter, seq)
    digest = _digest(reading, place)
    verdict = device.tracker.see_hash(digest, reading.ts)
    if place is not None:
        return verdict, digest
    if not is_set(reading.ts) and not frame.flags & (DUPLICATE | RETAINED):
        # Without a time the same may well be said twice; only the broker's word makes it a repetition.
        verdict = Verdict.NEW
    if counter is not None and seq is not None:
        if counter.wraps_at:
            _count_round(device, counter, seq, known=verdict is Verdict.DUPLICATE)
        elif verdict is not Verdict.DUPLICATE:
            device.tracker.count(counter.stream, seq)
    return verdict, digest


def _digest(reading: Reading, place: int | None) -> bytes:
    """Return a hash of what a reading says and when, the same for live data and what was kept for later."""
    said = (reading.ts, reading.values, reading.happenings, reading.unknown, reading.refused, reading.online)
    return blake2b(_encode(said if place is None else (*said, place)), digest_size=12).digest()


def digest_of_values(ts: int, values: Mapping[str, float | bool] | msgspec.Struct) -> bytes:
    """Return the hash of a reading that says nothing but values at a time, ns UTC; values by name, or as fields."""
    return blake2b(_encode((ts, values, *_NOTHING_ELSE)), digest_size=12).digest()

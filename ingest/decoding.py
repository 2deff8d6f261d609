"""Frames to batches of samples: routing by topic, typed decoding, and the checks that concern a whole frame.

This is the hot loop of ingest for whatever :mod:`ingest.alike` and :mod:`ingest.locations` do not take: one pass over
the frames in Python; whatever is per sample happens later, in numpy.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from analytics.dedup import Verdict
from analytics.events import PortEvent
from devices.codecs import native
from devices.codecs.native import BLOCK_MARK
from devices.columns import Ints
from devices.identities import odd_identities, site_oddities
from devices.rejects import Reason, Reject, RejectError
from devices.times import NS
from devices.topics import Stream, TopicError, parse
from devices.unknown_names import refusal_of
from ingest.alike import FOREIGN, KINDS, NOBODYS, OTHER, TELEMETRY, Together
from ingest.batch import WHOLE, Accepted, Batch, Refused, set_online
from ingest.blocks import Block, Float32s
from ingest.checks import (
    MAX_AHEAD,
    MAX_BOOT,
    MAX_SPAN,
    READ_METRICS,
    YEAR_2000,
    checked_time,
    is_read,
    is_set,
    tag_read,
)
from ingest.directory import NOBODY, CardinalityError, Device, Directory, NotAdmittedError
from ingest.foreign import Foreign
from ingest.locations import LocationsTogether, Taken
from ingest.sources import Feed
from ingest.unforeseen import Unforeseen
from store.admission import Admission
from store.journal import DUPLICATE, RETAINED, Frame

MAX_ROUTES: Final = 100_000
"""Topics whose way is remembered: a source may take in any number of them, whatever the bound on devices."""


_NEW: Final = Verdict.NEW


class Route(NamedTuple):
    """Where frames of one topic go."""

    device: Device
    stream: Stream | Feed


class Decoder:
    """Turns frames into a :class:`Batch`: each frame is accepted, a duplicate, or refused."""

    def __init__(self, directory: Directory, foreign: Foreign) -> None:
        """``directory`` is shared with the pipeline and grows here; ``foreign`` takes what is not native."""
        self._directory = directory
        self._foreign = foreign
        self._routes: dict[str, Route] = {}
        self._together = Together(directory, self._way_of)
        self._locations = LocationsTogether()
        self._unforeseen = Unforeseen()

    def admit(self, admission: Admission) -> None:
        """Take over what the registry says now: whom it admits is looked up anew for each topic."""
        self._directory.admit(admission)
        self._forget_routes()

    def decode(self, frames: Sequence[Frame]) -> Batch:
        """Decode frames; those of each device in order."""
        batch, frames = self._take_alike(frames)
        routes, received, received_samples = self._routes, batch.received.append, batch.received_samples.append
        telemetry, telemetry_in = Stream.TELEMETRY, native.telemetry_in
        for frame in frames:
            _, recv_ts, _, _, topic, payload = frame
            index, samples = NOBODY, 0
            try:
                device, stream = routes.get(topic) or self._route(topic, recv_ts)
                index = device.index
                device.frames += 1
                device.last_seen = recv_ts
                device.touched = True
                if stream is telemetry:
                    # Nothing is both, and to look for the mark of a block takes as long as half of decoding.
                    found = telemetry_in(payload)
                    if found is None and (block := _block_in(payload)) is not None:
                        samples = block.rows * len(block.names)
                        if self._is_new(frame, device, block, samples, batch):
                            self._accept_block(frame, device, block, batch)
                    else:
                        found = found or native.decode_telemetry(payload)
                        samples = len(found.m)
                        if self._is_new(frame, device, found, samples, batch):
                            self._accept_telemetry(frame, device, found, batch)
                elif isinstance(stream, Feed):
                    index, samples = self._foreign.take(frame, device, stream, batch)
                else:
                    other, names = _decode_other(frame, stream)
                    samples = len(names)
                    if other is None or self._is_new(frame, device, other, samples, batch):
                        self._accept_other(frame, device, other, names, batch)
            except RejectError as error:
                batch.refused.append(Refused(frame, index, error.reject, WHOLE, samples))
            except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
                batch.rewind(batch.mark_before(frame))
                reject = self._unforeseen.reject(error, frame, "decoding")
                batch.refused.append(Refused(frame, index, reject, WHOLE, samples))
            received(index)
            received_samples(samples)
        return batch

    def _take_alike(self, frames: Sequence[Frame]) -> tuple[Batch, Sequence[Frame]]:
        """Return a batch with what is taken as columns, and the frames that are to be taken one by one."""
        located, frames = self._take_locations(frames)
        together, frames = self._take_together(frames)
        batch = Batch(together)
        if located is not None:
            batch.take_located(located.accepted, located.duplicates)
        return batch, frames

    def _take_locations(self, frames: Sequence[Frame]) -> tuple[Taken | None, Sequence[Frame]]:
        """Take what terminals say of where they are, as :meth:`_take_together` does what others say."""
        try:
            taken = self._locations.take(frames, self._whose)
        except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
            self._unforeseen.tell(error, "taking locations together", f"{len(frames)} frames from {frames[0].offset}")
            self._forget_routes()
            return None, frames
        return taken, frames if taken is None else taken.rest

    def _whose(self, topic: str) -> int:
        """Return the device of which alone frames of a topic speak, as far as that is known; else nobody."""
        route = self._routes.get(topic)
        return NOBODY if route is None else route.device.index

    def _take_together(self, frames: Sequence[Frame]) -> tuple[Accepted | None, Sequence[Frame]]:
        """Take what is alike; all one by one where that fails, so that the odd frame among them is refused alone."""
        try:
            return self._together.take(frames)
        except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
            self._unforeseen.tell(error, "taking frames together", f"{len(frames)} frames from {frames[0].offset} on")
            self._together.forget()
            return None, frames

    def device_of(self, topic: str, recv_ts: int) -> int:
        """Return the index of the device that speaks on a topic, as :meth:`decode` finds it; of nobody if none does."""
        try:
            return (self._routes.get(topic) or self._route(topic, recv_ts)).device.index
        except RejectError:
            return NOBODY
        except Exception as error:  # noqa: BLE001 - see ingest.unforeseen
            self._unforeseen.tell(error, "finding a device", f"the topic {topic}")
            return NOBODY

    def _route(self, topic: str, recv_ts: int) -> Route:
        """Parse a topic met for the first time and enter its device."""
        stream: Stream | Feed
        try:
            try:
                key, stream = parse(topic)
                device = self._directory.device(key)
            except TopicError as error:
                found = self._foreign.route(topic)
                if found is None:
                    raise RejectError(Reason.UNKNOWN_TOPIC, "", f"{error.level}: {error}") from None
                device, stream = found
        except NotAdmittedError as error:
            raise RejectError(Reason.NOT_REGISTERED, "", str(error)) from None
        except CardinalityError as error:
            raise RejectError(Reason.CARDINALITY, "", str(error)) from None
        device.first_seen = device.first_seen or recv_ts
        if len(self._routes) >= MAX_ROUTES:
            self._forget_routes()
        route = self._routes[topic] = Route(device, stream)
        self._locations.remember(topic, device, stream)
        return route

    def _forget_routes(self) -> None:
        self._routes.clear()
        self._together.forget()
        self._locations.forget()

    def _way_of(self, topic: str, recv_ts: int) -> int:
        """Return the way of a topic's frames, as :mod:`ingest.alike` counts them."""
        try:
            device, stream = self._routes.get(topic) or self._route(topic, recv_ts)
        except RejectError:
            return NOBODY * KINDS + NOBODYS
        kind = FOREIGN if isinstance(stream, Feed) else TELEMETRY if stream is Stream.TELEMETRY else OTHER
        way = device.index * KINDS + kind
        self._together.remember(topic, way)
        return way

    @staticmethod
    def _is_new(frame: Frame, device: Device, found: native.Payload, samples: int, batch: Batch) -> bool:
        """Tell whether a frame is its topic's own and seen for the first time, noting it as a duplicate if not."""
        if found.site is not None or found.class_ is not None or found.device is not None:
            # Before its sequence is noted: somebody else's frame must not make the device's own a duplicate.
            reject = native.identity_reject(found, device.key)
            if reject is not None:
                raise RejectError(*reject)
        boot, seq = found.boot, found.seq
        if boot is None or seq is None:
            verdict = _verdict_by_hash(frame, device, found)
        elif boot > MAX_BOOT:
            raise RejectError(Reason.WRONG_TYPE, "/boot", f"expected at most {MAX_BOOT}")
        else:
            verdict = device.tracker.see(boot, seq)
        if verdict is _NEW:
            return True
        if verdict is Verdict.TOO_OLD:
            detail = f"sequence {seq} of boot {boot} is older than what is remembered: new or repeated is not known"
            raise RejectError(Reason.SEQUENCE_TOO_OLD, "/seq", detail)
        batch.duplicate.append(device.index)
        batch.duplicate_samples.append(samples)
        return False

    def _accept_telemetry(self, frame: Frame, device: Device, found: native.Telemetry, batch: Batch) -> None:
        ts, values, seq, recv_ts = found.ts, found.m, found.seq or 0, frame.recv_ts
        if type(ts) is not int or not YEAR_2000 <= ts <= recv_ts + MAX_AHEAD:
            ts = _time_of(frame, found)
        names = tuple(values)
        if names == device.telemetry_names:
            batch.series += device.telemetry_series
            batch.value += values.values()
            samples = len(names)
        else:
            samples = self._accept_names(frame, device, values, batch)
        if not device.online:
            set_online(device, online=True, ts=ts, seq=seq, batch=batch)
        if ts == recv_ts != found.ts:
            _note_clock(device, found, batch)
        batch.accept(frame, device.index, ts, seq, samples)

    def _accept_block(self, frame: Frame, device: Device, found: native.Block, batch: Batch) -> None:
        """Take over a packed block, without the columns whose names are unknown."""
        t0, end = _block_times(frame, found)
        names, rows = found.names, found.rows
        values = np.frombuffer(found.f32, "<f4").reshape(rows, len(names))
        if names == device.block_names:
            series = device.block_series
        else:
            series, columns = self._block_series(frame, device, found, batch)
            if len(columns) < len(names):
                values = values[:, columns]
            elif not device.adopted:
                device.block_names, device.block_series = self._directory.shared(names), series
            if device.adopted:
                values = _adopted_units(device, names, columns, values)
        if len(series):
            batch.blocks.append(Block(len(batch.frames), series, t0, found.dt, values))
        if not device.online:
            set_online(device, online=True, ts=t0, seq=found.seq or 0, batch=batch)
        if not is_set(found.t0):
            batch.note_unset(device.index, found.t0)
        batch.accept(frame, device.index, end, found.seq or 0, values.size, packed=True)

    def _block_series(self, frame: Frame, device: Device, found: native.Block, batch: Batch) -> tuple[Ints, list[int]]:
        """Return the series of a block's columns and which columns these are, refusing the others."""
        columns, series = [], []
        for nth, name in enumerate(found.names):
            try:
                index = device.series.get(name)
                series.append(self._series_of(device, name, nth) if index is None else index)
                columns.append(nth)
            except RejectError as error:
                batch.refused.append(Refused(frame, device.index, error.reject, nth, found.rows))
        return np.array(series, np.int64), columns

    def _series_of(self, device: Device, name: str, nth: int) -> int:
        """Return the series of a column met for the first time, or raise why there is none."""
        where = native.pointer("names", nth)
        adopted = device.adopted.get(name)
        if name not in device.accepts and adopted is None:
            raise RejectError(Reason.UNKNOWN_METRIC, where, refusal_of(device.uid, name))
        try:
            return self._directory.series(device, adopted.metric if adopted else name)
        except CardinalityError as error:
            raise RejectError(Reason.CARDINALITY, where, str(error)) from None

    def _accept_names(self, frame: Frame, device: Device, values: dict[str, float | bool], batch: Batch) -> int:
        """Take over samples under other names than those of the device's last frame; return how many were accepted."""
        if not values:
            raise RejectError(Reason.NO_SAMPLES, "/m", "no values")
        series = [device.series.get(name, -1) for name in values]
        if -1 in series:
            return self._accept_new_names(frame, device, values, batch)
        device.telemetry_names, device.telemetry_series = self._directory.shared(tuple(values)), series
        batch.series += series
        batch.value += values.values()
        return len(series)

    def _accept_new_names(self, frame: Frame, device: Device, values: dict[str, float | bool], batch: Batch) -> int:
        """Take over samples some of whose names are new or unknown; return how many were accepted."""
        accepted = 0
        for nth, (name, value) in enumerate(values.items()):
            try:
                found = self._directory.sample(device, name, value)
            except CardinalityError as error:
                reject = Reject(Reason.CARDINALITY, native.pointer("m", name), str(error))
            else:
                if found is not None:
                    batch.series.append(found.series)
                    batch.value.append(found.value)
                    accepted += 1
                    continue
                reject = Reject(Reason.UNKNOWN_METRIC, native.pointer("m", name), refusal_of(device.uid, name, value))
            batch.refused.append(Refused(frame, device.index, reject, nth, 1))
        return accepted

    def _accept_other(
        self,
        frame: Frame,
        device: Device,
        found: native.Event | native.Status | None,
        names: Sequence[str],
        batch: Batch,
    ) -> None:
        """Take over an event, a status or a command (None): as samples ``names``, and as a read or a port event."""
        ts = frame.recv_ts if found is None else _time_of(frame, found)
        seq = 0 if found is None else found.seq or 0
        try:
            series = [self._directory.derived_series(device, name) for name in names]
        except CardinalityError as error:
            raise RejectError(Reason.CARDINALITY, "", str(error)) from None
        values = [1.0]
        odd: tuple[str, ...] = ()
        if isinstance(found, native.Status):
            values = [float(found.online)]
            odd = (*site_oddities(device.key.site), *odd_identities(found.info))
            _take_status(device, found, ts, batch)
        elif found is not None and is_read(found, frame.topic):
            read = tag_read(device.index, ts, found)
            values = [1.0, read.rssi_dbm, float(read.antenna)]
            batch.reads.append(read)
        elif found is not None:
            told_apart = _told_apart(frame, found)
            batch.events.append(PortEvent(found.type, device.index, ts, ts, seq, dict(found.data), {}, told_apart))
        if isinstance(found, native.Event):
            odd = odd_identities(found.data)
        batch.flags += [(device.index, flag) for flag in odd]
        batch.series += series
        batch.value += values
        if found is not None and ts == frame.recv_ts:
            _note_clock(device, found, batch)
        batch.accept(frame, device.index, ts, seq, len(values))


def _adopted_units(device: Device, names: Sequence[str], columns: Sequence[int], values: Float32s) -> Float32s:
    """Return the values of a block's columns, those of adopted names in the unit of the metric that they stand for."""
    result = values.copy()
    for at, nth in enumerate(columns):
        adopted = device.adopted.get(names[nth])
        if adopted is not None and names[nth] not in device.accepts:
            result[:, at] = result[:, at] * adopted.scale + adopted.offset
    return result


def _block_in(payload: bytes) -> native.Block | None:
    """Return the block in a payload, None if it is something else, such as what merely holds the bytes of the mark."""
    if BLOCK_MARK not in payload:
        return None
    try:
        return native.decode_block(payload)
    except RejectError:
        # Any text may mention the mark, and one float in some millions is spelt like it.
        if native.is_block(payload):
            raise
        return None


def _decode_other(frame: Frame, stream: Stream) -> tuple[native.Event | native.Status | None, Sequence[str]]:
    """Decode what is not telemetry, and say samples of which metrics are made of it."""
    if stream is Stream.STATUS:
        return native.decode_status(frame.payload), ("online",)
    if stream is Stream.EVENT:
        event = native.decode_event(frame.payload)
        return event, READ_METRICS if is_read(event, frame.topic) else ("device_events",)
    # What is said to a device and its answer are between the two: journalled, and counted as one sample.
    return None, ("commands",)


def _told_apart(frame: Frame, event: native.Event) -> str:
    """Return what tells a device's event from another of the same type and time."""
    if event.boot is not None and event.seq is not None:
        return f"{event.boot}/{event.seq}"
    digest = blake2b(frame.payload, digest_size=12).hexdigest()
    # Without a time the same payload may come twice at one time of receipt and mean two events.
    return digest if _has_time(event) else f"{digest}@{frame.offset}"


def _verdict_by_hash(frame: Frame, device: Device, found: native.Payload) -> Verdict:
    """Judge a frame without a sequence by its payload, where that can be told from one sent again on purpose."""
    at = found.ts if type(found.ts) is int else None
    verdict = device.tracker.see_hash(blake2b(frame.payload, digest_size=12).digest(), at)
    if not frame.flags & (DUPLICATE | RETAINED) and not _has_time(found):
        # Without a time the same payload may well come twice; only the broker's word makes it a repetition.
        return Verdict.NEW
    return verdict


def _time_of(frame: Frame, found: native.Payload) -> int:
    """Return the event time of a frame whose clock can be believed."""
    ts, recv_ts = found.ts, frame.recv_ts
    if type(ts) is int and YEAR_2000 <= ts <= recv_ts + MAX_AHEAD:
        return ts
    pointer = "/t0" if isinstance(found, native.Block) else "/ts"
    return checked_time(native.event_time(found, recv_ts), recv_ts, pointer)


def _block_times(frame: Frame, block: native.Block) -> tuple[int, int]:
    """Return the times of the first and the last row of a block, ns UTC, by a clock that can be believed."""
    t0, span = _time_of(frame, block), block.dt * (block.rows - 1)
    if span > MAX_SPAN:
        detail = f"{block.rows} rows span {span // NS} s; a block holds at most {MAX_SPAN // NS} s"
        raise RejectError(Reason.OUT_OF_RANGE, "/dt", detail)
    if not is_set(block.t0):
        # It was sent when its last row had been sampled.
        return frame.recv_ts - span, frame.recv_ts
    end = t0 + span
    if end > frame.recv_ts + MAX_AHEAD:
        raise RejectError(Reason.CLOCK_FUTURE, "/dt", f"the last row is {(end - frame.recv_ts) / NS:.0f} s ahead")
    return t0, end


def _has_time(found: native.Payload) -> bool:
    """Tell whether a payload says when it was, by a clock that has been set, or tries to."""
    try:
        return found.ts is not None and is_set(native.event_time(found, 0))
    except RejectError:
        return True


def _note_clock(device: Device, found: native.Payload, batch: Batch) -> None:
    """Note of a frame that counts at its time of receipt if that is because its device's clock is not set."""
    if found.ts is not None and not is_set(said := native.event_time(found, 0)):
        batch.note_unset(device.index, said)


def _take_status(device: Device, status: native.Status, ts: int, batch: Batch) -> None:
    """Take over a status and report a change of state."""
    if status.info:
        device.info = status.info
    if status.online != device.online:
        set_online(device, online=status.online, ts=ts, seq=status.seq or 0, batch=batch)

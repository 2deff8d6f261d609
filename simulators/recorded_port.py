"""A recording of a simulated port, made in virtual time and without a broker: same seed, same bytes.

Each message is recorded as received when it is due, or when the faults of a scenario let it arrive.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from devices.times import format_rfc3339
from simulators import truth
from simulators.fault_chain import Chain, Delivery
from simulators.fleet import FleetConfig, port_of
from simulators.messages import FIXED_START_NS, NS, PortMessages
from simulators.recording import begun
from simulators.tracks import RecordingError
from store.journal import DUPLICATE, RETAINED, Compressor, encode, list_segments

CHUNK_S: Final = 10.0
"""The port is advanced by so much of its time at once, s."""
FOREVER_NS: Final = 2**62
QOS_1: Final = 1


def record_port(config: FleetConfig, out: Path, progress: Callable[[float], None] | None = None) -> dict[str, Any]:
    """Record ``config.duration_s`` of the port's time in the folder ``out``; return what was recorded.

    Without ``config.start_ns`` the port's time begins at a fixed moment, so that a seed means the same bytes in every
    run. ``progress`` is told the seconds recorded.

    Raises:
        RecordingError: there is something in the folder.
        simulators.profiles.ProfileError: the profile, or the scenario, cannot be used.
    """
    if config.duration_s is None:
        raise ValueError("duration_s = None: a recording without a broker needs an end, such as --for 10m")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecordingError(f"{out}: is there already; choose a new folder")
    profile, seed, noise, faults = port_of(config)
    start_ns = FIXED_START_NS if config.start_ns is None else config.start_ns
    source = PortMessages(profile, seed, config.site, start_ns, config.payload, noise)
    chain = Chain(faults, seed, start_ns)
    end_ns = start_ns + round(config.duration_s * NS)
    with contextlib.closing(_Tape(out, start_ns)) as tape:
        chain.send(source.hello())
        at = start_ns
        while at < end_ns:
            step = min(round(CHUNK_S * NS), end_ns - at)
            at += step
            chain.send(source.advance(step))
            tape.add(chain.arrived(at))
            facts = source.truth()
            if facts and config.truth_path is not None:
                truth.append(config.truth_path, facts, source.origin_ns)
            if progress is not None:
                progress((at - start_ns) / NS)
        tape.add(chain.arrived(FOREVER_NS))
        tape.add(Delivery(max(at, tape.last_ns), message) for message in source.goodbye())
    Compressor(out, threading.Lock()).work()
    segments = list_segments(out)
    return {
        "out": str(out),
        "seed": seed,
        "messages": tape.messages,
        "bytes": tape.bytes,
        "first_time": format_rfc3339(start_ns),
        "last_time": format_rfc3339(tape.last_ns),
        "segments": len(segments),
        "disk_bytes": sum(segment.path.stat().st_size for segment in segments),
        "faults": dict(chain.counts),
    }


class _Tape:
    """The journal that is written, and how much is on it."""

    def __init__(self, out: Path, start_ns: int) -> None:
        self.last_ns = start_ns
        self.messages = self.bytes = 0
        # Segments say when they were created: in the port's time.
        self._journal = begun(out, lambda: self.last_ns)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Write what has arrived, in that order."""
        offset, parts, count = self._journal.begin(), [], 0
        for arrival_ns, message, repeated in deliveries:
            flags = QOS_1 | (DUPLICATE if repeated else 0) | (RETAINED if message.retain else 0)
            self.last_ns = arrival_ns
            blob = encode(offset, arrival_ns, 1, ((message.topic, message.payload, flags),)).blob
            offset += len(blob)
            parts.append(blob)
            count += 1
            self.bytes += len(message.topic.encode()) + len(message.payload)
        if count:
            self._journal.append(b"".join(parts), count)
            self.messages += count

    def close(self) -> None:
        """Seal what is written."""
        self._journal.close()

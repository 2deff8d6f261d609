"""A commit as bytes, for the outbox: one byte of version, then zlib over msgpack; arrays as little-endian int64."""

import zlib
from typing import Any, Final

import msgspec
import numpy as np

from analytics.histograms import objects
from analytics.packing import whole
from analytics.rows import SeriesKey, WindowRows
from store.interface import Commit, EventRecord, LedgerRow, QuarantineRecord
from store.packed_devices import device_of

VERSION: Final = 1
LEVEL: Final = 1
"""zlib level: a third of the size for a tenth of level 9's time."""

_INT64: Final = "<i8"


class EntryVersionError(Exception):
    """An outbox entry written by a newer quayflow."""


def encode(commit: Commit) -> bytes:
    """Return everything of a commit but its state and history, which stay with the worker."""
    rows = whole(commit.rows)
    used, series = np.unique(rows.series, return_inverse=True)
    columns = {name: getattr(rows, name) for name in WindowRows.columns()} | {"series": series}
    binned = {} if rows.bins is None else {"bins": rows.bins.tolist()}
    entry = {
        "worker": commit.worker,
        "offset": commit.offset,
        "keys": [list(rows.keys[index]) for index in used.tolist()],
        "rows_worker": rows.worker,
        "columns": {name: array.astype(_INT64).tobytes() for name, array in columns.items()},
        **binned,
        "devices": list(commit.devices),
        "events": commit.events,
        "retracted": commit.retracted,
        "quarantine": commit.quarantine,
        "ledger": commit.ledger,
        "status": commit.status,
    }
    return bytes([VERSION]) + zlib.compress(msgspec.msgpack.encode(entry), LEVEL)


def decode(entry: bytes) -> Commit:
    """Return the commit that :func:`encode` was given, without state and history. Raises :class:`EntryVersionError`."""
    if entry[0] != VERSION:
        raise EntryVersionError(f"outbox entry has version {entry[0]}; this quayflow knows {VERSION}")
    # Decoded without types: as the floats that a Scalar declares, times in ns would lose their last digits.
    found: dict[str, Any] = msgspec.msgpack.decode(zlib.decompress(entry[1:]))
    keys = [SeriesKey(*key) for key in found["keys"]]
    arrays = {name: np.frombuffer(data, _INT64).astype(np.int64) for name, data in found["columns"].items()}
    # Entries of before there were histograms have none.
    bins = objects(found["bins"]) if "bins" in found else None
    return Commit(
        worker=found["worker"],
        offset=found["offset"],
        rows=WindowRows(keys, found["rows_worker"], *(arrays[name] for name in WindowRows.columns()), bins=bins),
        devices=[device_of(device) for device in found["devices"]],
        events=[EventRecord(**event) for event in found["events"]],
        quarantine=[QuarantineRecord(**record) for record in found["quarantine"]],
        ledger=[LedgerRow(**row) for row in found["ledger"]],
        state={},
        status=found["status"],
        # Entries of before there were any have none.
        retracted=tuple(found.get("retracted", ())),
    )

"""A data folder as release 0.1.0 left it when it was killed, written by hand: no writer of today has a part in it.

Journal format 1, schema version 1 without the tables and columns that came later, and checkpoints of the old form:
fewer fields, no hours of findings. The first messages are committed, the others only in the journal.
"""

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import google_crc32c
import msgspec

from devices.times import NS
from faults.publisher import SITE, Outgoing
from faults.verifier import METRIC, RESOLUTION, TIERS_S

FORMAT: Final = 1
SCHEMA: Final = 1
JOURNAL: Final = 1
"""Versions that it wrote, and the greatest that it reads."""
WORKER: Final = "ingest-1"
HEADER: Final = struct.Struct("<4sHHQQQ")
COVERED: Final = struct.Struct("<IQIHBB")
SPEED_MMPS: Final = 4_200
WINDOWS_PER_PERIOD: Final = 8
INSERT_ROW: Final = "INSERT INTO window_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
EPOCH: Final = 2
"""Of the rows of a worker's first life."""

TABLES: Final = """
CREATE TABLE series (id INTEGER NOT NULL, site TEXT NOT NULL, class TEXT NOT NULL, device TEXT NOT NULL,
    metric TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (site, class, device, metric));
CREATE TABLE writers (id INTEGER NOT NULL, worker TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (worker));
CREATE TABLE window_rows (tier_s INTEGER NOT NULL, period INTEGER NOT NULL, series INTEGER NOT NULL,
    window INTEGER NOT NULL, worker INTEGER NOT NULL, epoch INTEGER NOT NULL, count INTEGER NOT NULL,
    sum INTEGER NOT NULL, min INTEGER NOT NULL, max INTEGER NOT NULL, first_ts INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, first INTEGER NOT NULL, last_ts INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    last INTEGER NOT NULL, late INTEGER NOT NULL,
    PRIMARY KEY (tier_s, period, series, window, worker, epoch)) WITHOUT ROWID;
CREATE TABLE devices (uid TEXT NOT NULL, site TEXT NOT NULL, device_class TEXT NOT NULL, device TEXT NOT NULL,
    first_seen_ns BIGINT NOT NULL, last_seen_ns BIGINT NOT NULL, last_event_ns BIGINT NOT NULL,
    watermark_ns BIGINT NOT NULL, online BOOLEAN NOT NULL, frames BIGINT NOT NULL, latest TEXT NOT NULL,
    info TEXT NOT NULL, PRIMARY KEY (uid));
CREATE INDEX ix_devices_device ON devices (device);
CREATE TABLE events (cursor INTEGER NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL, site TEXT NOT NULL,
    device_class TEXT NOT NULL, device TEXT NOT NULL, ts_ns BIGINT NOT NULL, start_ns BIGINT NOT NULL,
    data TEXT NOT NULL, PRIMARY KEY (cursor), UNIQUE (id));
CREATE INDEX events_by_device ON events (device, cursor);
CREATE INDEX events_by_time ON events (ts_ns);
CREATE INDEX events_by_type ON events (type, cursor);
CREATE TABLE quarantine (cursor INTEGER NOT NULL, worker TEXT NOT NULL, id TEXT NOT NULL, reason TEXT NOT NULL,
    pointer TEXT NOT NULL, detail TEXT NOT NULL, topic TEXT NOT NULL, uid TEXT NOT NULL, recv_ns BIGINT NOT NULL,
    payload BLOB NOT NULL, payload_bytes BIGINT NOT NULL, payload_sha256 TEXT NOT NULL, kept_bytes BIGINT NOT NULL,
    PRIMARY KEY (cursor), UNIQUE (worker, id));
CREATE INDEX quarantine_by_reason ON quarantine (reason, cursor);
CREATE INDEX quarantine_by_uid ON quarantine (uid, cursor);
CREATE TABLE ledger (uid TEXT NOT NULL, account TEXT NOT NULL, reason TEXT NOT NULL, worker TEXT NOT NULL,
    frames BIGINT NOT NULL, samples BIGINT NOT NULL, PRIMARY KEY (uid, account, reason, worker));
CREATE TABLE workers (worker TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (worker));
CREATE TABLE counters (name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name));
CREATE TABLE checkpoints (worker TEXT NOT NULL, journal_offset BIGINT NOT NULL, PRIMARY KEY (worker));
CREATE TABLE state (worker TEXT NOT NULL, "key" TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (worker, "key")) WITHOUT ROWID;
"""


class Accounts(msgspec.Struct, array_like=True):
    """One device's accounts in a checkpoint of the old form."""

    received: tuple[int, int]
    frames: list[int]
    samples: list[int]
    reasons: dict[str, tuple[int, int]]


class DeviceBlob(msgspec.Struct, array_like=True):
    """One device in a checkpoint of the old form; what follows its fields is passed over, as there."""

    seen: list[Any]
    newest: int
    heard: int
    mark: int
    first_seen: int
    last_seen: int
    frames: int
    online: bool
    info: dict[str, Any]
    accounts: Accounts
    latest: dict[str, tuple[int, int]]
    derived: list[str]
    released: int
    crane: Any
    passages: dict[str, Any]


class PendingBlob(msgspec.Struct, array_like=True):
    """What detectors have not seen yet in a checkpoint of the old form; integers in eight bytes each."""

    uids: list[str]
    metrics: list[str]
    device: bytes
    metric: bytes
    ts: bytes
    seq: bytes
    value: bytes
    reads: list[Any]


class WorkerBlob(msgspec.Struct, array_like=True):
    """The worker in a checkpoint of the old form."""

    life: int
    commits: int
    epoch: int
    frames: int
    unseen: int
    session_losses: int
    reconnects: int
    samples: int
    late_for_detectors: int
    quarantine_dropped: int
    pending: PendingBlob
    ticked: int


def write(folder: Path, messages: Sequence[Outgoing], *, committed: int, sealed: int) -> None:
    """Write the folder: ``messages`` as received in order, the first ``committed`` of them in store and checkpoint.

    The journal's first segment ends after ``sealed`` messages. Each message is one reading of the publisher.
    """
    journal = folder / "journal"
    journal.mkdir(parents=True)
    (folder / "format").write_text(f"{FORMAT}\n")
    (folder / "identity").write_text("f28f28f28f28f28f28f28f28f28f28f2\n")
    checkpoint, base = 0, 0
    for first, some in ((0, messages[:sealed]), (sealed, messages[sealed:])):
        ends, data = _segment(base, first, some)
        (journal / f"{base:016x}.qfj").write_bytes(data)
        if first < committed:
            checkpoint = ends[min(committed - first, len(some)) - 1]
        base += len(data)
    with closing(sqlite3.connect(folder / "quayflow.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(TABLES)
        _commit(connection, messages[:committed], checkpoint)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.commit()


def refused(folder: Path) -> list[str]:
    """Return what of a folder the old release would refuse to read, by the versions that its files carry."""
    found = []
    if int((folder / "format").read_text()) > FORMAT:
        found.append("format")
    with closing(sqlite3.connect(folder / "quayflow.db")) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] > SCHEMA:
            found.append("quayflow.db")
    segments = sorted((folder / "journal").glob("*.qfj"))
    return found + [path.name for path in segments if struct.unpack_from("<H", path.read_bytes(), 4)[0] > JOURNAL]


def frames_in_checkpoint(folder: Path) -> int:
    """Read every checkpoint as the old release does and return the frames of all devices.

    msgspec's ValidationError where it could not; sqlite3's where a statement of it fails, of which the strictest is
    tried and taken back: a device is entered without the columns that came later.
    """
    columns = "uid, site, device_class, device, first_seen_ns, last_seen_ns, last_event_ns, watermark_ns, online"
    with closing(sqlite3.connect(folder / "quayflow.db")) as connection:
        connection.execute(
            f"INSERT INTO devices ({columns}, frames, latest, info) VALUES ('', '', '', '', 0, 0, 0, 0, 0, 0, '', '')"  # noqa: S608
        )
        connection.rollback()
        blobs = dict(connection.execute('SELECT "key", value FROM state'))
    msgspec.msgpack.decode(blobs["worker"], type=WorkerBlob)
    return sum(
        msgspec.msgpack.decode(blob, type=DeviceBlob).frames for key, blob in blobs.items() if key.startswith("device:")
    )


def _segment(base: int, first: int, messages: Sequence[Outgoing]) -> tuple[list[int], bytes]:
    """Return where each record ends, over all segments, and the segment's bytes."""
    head = HEADER.pack(b"QFJL", JOURNAL, 0, base, first, _body(messages[0])["ts"])
    data = bytearray(head + struct.pack("<II", google_crc32c.value(head), 0))
    ends = []
    for message in messages:
        topic = message.topic.encode()
        body = topic + message.payload
        covered = COVERED.pack(len(body), _body(message)["ts"], 1, len(topic), 1, 0) + body
        data += struct.pack("<I", google_crc32c.value(covered) ^ ((base + len(data)) & 0xFFFF_FFFF)) + covered
        ends.append(base + len(data))
    return ends, bytes(data)


def _commit(connection: sqlite3.Connection, messages: Sequence[Outgoing], checkpoint: int) -> None:
    bodies: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        bodies.setdefault(message.topic.split("/")[3], []).append(_body(message))
    worker = WorkerBlob(
        life=1,
        commits=1,
        epoch=1,
        frames=len(messages),
        unseen=0,
        session_losses=0,
        reconnects=0,
        samples=2 * len(messages),
        late_for_detectors=0,
        quarantine_dropped=0,
        pending=PendingBlob([], [], b"", b"", b"", b"", b"", []),
        ticked=_body(messages[-1])["ts"],
    )
    blobs = {"worker": msgspec.msgpack.encode(worker)}
    connection.execute("INSERT INTO writers VALUES (1, ?)", (WORKER,))
    for number, (device, each) in enumerate(bodies.items()):
        uid, frames = f"{SITE}/vehicle/{device}", len(each)
        blobs[f"device:{uid}"] = msgspec.msgpack.encode(_device_blob(each))
        latest = json.dumps({METRIC: [each[-1]["ts"], float(each[-1]["seq"])]})
        times = (each[0]["ts"], each[-1]["ts"], each[-1]["ts"], each[-1]["ts"] - 2 * NS)
        connection.execute(
            "INSERT INTO devices VALUES (?, ?, 'vehicle', ?, ?, ?, ?, ?, 1, ?, ?, '{}')",
            (uid, SITE, device, *times, frames, latest),
        )
        for account in ("received", "windowed"):
            connection.execute(
                "INSERT INTO ledger VALUES (?, ?, '', ?, ?, ?)", (uid, account, WORKER, frames, 2 * frames)
            )
        for series, metric in ((2 * number + 1, METRIC), (2 * number + 2, "speed_mps")):
            connection.execute("INSERT INTO series VALUES (?, ?, 'vehicle', ?, ?)", (series, SITE, device, metric))
            connection.executemany(INSERT_ROW, _rows(series, metric, each))
    connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (WORKER, checkpoint))
    connection.execute("INSERT INTO workers VALUES (?, '{}')", (WORKER,))
    connection.executemany("INSERT INTO state VALUES (?, ?, ?)", [(WORKER, key, value) for key, value in blobs.items()])
    names = ("events", "quarantine", "quarantine_bytes", "quarantine_dropped")
    connection.executemany("INSERT INTO counters VALUES (?, 0)", [(name,) for name in names])


def _device_blob(bodies: Sequence[dict[str, Any]]) -> DeviceBlob:
    frames, first, last = len(bodies), bodies[0], bodies[-1]
    latest = {METRIC: (last["ts"], last["seq"] * RESOLUTION), "speed_mps": (last["ts"], SPEED_MMPS)}
    return DeviceBlob(
        seen=[{last["boot"]: [first["seq"], last["seq"], [], [], 0, 0]}, [], 0],
        newest=last["ts"],
        heard=last["ts"],
        mark=last["ts"] - 2 * NS,
        first_seen=first["ts"],
        last_seen=last["ts"],
        frames=frames,
        online=True,
        info={},
        accounts=Accounts((frames, 2 * frames), [frames, 0, 0, 0, 0], [2 * frames, 0, 0, 0, 0], {}),
        latest=latest,
        derived=[],
        released=-1,
        crane=None,
        passages={},
    )


def _rows(series: int, metric: str, bodies: Sequence[dict[str, Any]]) -> Iterator[tuple[int, ...]]:
    for tier_s in TIERS_S:
        windows: dict[int, list[tuple[int, int, int]]] = {}
        for body in bodies:
            value = body["seq"] * RESOLUTION if metric == METRIC else SPEED_MMPS
            window = body["ts"] // (tier_s * NS) * (tier_s * NS)
            windows.setdefault(window, []).append((body["ts"], body["seq"], value))
        for window, samples in windows.items():
            values = [value for _, _, value in samples]
            period = window // (tier_s * NS * WINDOWS_PER_PERIOD)
            key = (tier_s, period, series, window, 1, EPOCH)
            yield (*key, len(values), sum(values), min(values), max(values), *min(samples), *max(samples), 0)


def _body(message: Outgoing) -> dict[str, Any]:
    return dict(json.loads(message.payload))

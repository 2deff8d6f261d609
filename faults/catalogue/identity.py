"""Faults of identity: a device that speaks for another, on the other's topics or in its own payloads."""

import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import mqtt5

from devices.topics import DeviceKey
from faults.publisher import SITE
from faults.registry import fault
from faults.rig import Outcome, Rig
from faults.verifier import quarantined, until_received
from quayflow.broker_access import BrokerAccess, part_passwords, password_credential
from store.access import INGEST, username_of
from store.open import open_records, open_registry
from store.passwords import new_password

A: Final = DeviceKey(SITE, "vehicle", "A-01")
B: Final = DeviceKey(SITE, "vehicle", "B-01")
NOT_AUTHORISED: Final = 0x87
EVERYTHING: Final = (
    *("#", "+/#", "+/+/#", "$SYS/#", "port/#", "port/+/+/+/+", "quayflow/#", "quayflow/+/#"),
    *(f"port/{B.uid}/#", f"port/{SITE}/+/+/telemetry", "$share/all/#", f"$share/all/port/{B.uid}/#"),
)
"""Filters under which a device might hear of others."""


class Speaker:
    """A device with its own credentials, at the packet level: what it sends and what it is answered."""

    def __init__(self, port: int, key: DeviceKey, password: str) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._buffer = b""
        self._heard = 0
        connect = mqtt5.ConnectPacket(
            f"speaker-{key.device}", username=username_of(key), password=password.encode(), clean_start=True
        )
        self._socket.sendall(connect.write())
        self._answer()

    def publish(self, topic: str, payload: bytes, packet_id: int) -> int:
        """Publish at QoS 1 and return the reason code of the answer."""
        packet = mqtt5.PublishPacket(topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=packet_id)
        self._socket.sendall(packet.write())
        answer = self._answer()
        if not isinstance(answer, mqtt5.PubAckPacket):
            raise TypeError(f"expected PUBACK, got {answer}")
        return int(answer.reason_code)

    def subscribe(self, patterns: Sequence[str]) -> None:
        """Subscribe to each, whether or not it is granted."""
        for number, pattern in enumerate(patterns, 1):
            filters = [mqtt5.TopicFilter(pattern, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]
            self._socket.sendall(mqtt5.SubscribePacket(number, filters).write())
            # What is heard already comes between: it counts as well.
            while not isinstance(answer := self._answer(), mqtt5.SubAckPacket):
                self._heard += isinstance(answer, mqtt5.PublishPacket)

    def overheard(self, seconds: float) -> int:
        """Return how many messages have come since it subscribed, some seconds from now."""
        count, end = self._heard, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                count += isinstance(self._answer(), mqtt5.PublishPacket)
            except TimeoutError:
                break
        return count

    def close(self) -> None:
        """Go."""
        self._socket.close()

    def _answer(self) -> mqtt5.Packet:
        while True:
            try:
                packet, length = mqtt5.read(memoryview(self._buffer))
            except IndexError:
                received = self._socket.recv(65_536)
                if not received:
                    raise RuntimeError("the broker closed the connection") from None
                self._buffer += received
                continue
            self._buffer = self._buffer[length:]
            return packet


@fault(
    "F20",
    "identity-spoof",
    "device A publishes to B's topics, says in its payload that it is B, and subscribes to everything while B speaks",
    "the broker denies, ingest quarantines with an audit row, nothing is overheard",
)
def identity_spoof(rig: Rig) -> Outcome:
    """Play A against the access list and against ingest."""
    data = rig.folder / "data"
    data.mkdir()
    registry = open_registry(f"sqlite:///{data}/quayflow.db", read_only=False)
    parts = part_passwords(registry, rig.folder / "access", time.time_ns())
    passwords = {key: new_password() for key in (A, B)}
    for key, password in passwords.items():
        registry.issue(password_credential(username_of(key), key.uid, password, time.time_ns()), actor="fault")
    access = BrokerAccess(registry, rig.folder / "access", None)
    access.refresh()
    files = {"allow_anonymous": False, "password_file": access.files.passwords, "acl_file": access.files.rules}
    who = {"broker_username": INGEST, "broker_password": parts[INGEST]}
    elsewhere = [f"port/{B.uid}/telemetry", f"port/{B.uid}/status", f"port/{A.uid}/cmd", "quayflow/x", "$SYS/x"]
    own = f"port/{A.uid}/telemetry"
    with rig.broker(**files) as broker, rig.ingest(broker.port, **who) as ingest:
        ingest.start()
        spoofer, other = (Speaker(broker.port, key, password) for key, password in passwords.items())
        denied = sum(spoofer.publish(topic, b"{}", 1) == NOT_AUTHORISED for topic in elsewhere)
        count = int(rig.scaled(500, 50))
        body = {"v": 1, "boot": 1, "m": {"speed_mps": 4}}
        honest = [json.dumps(body | {"seq": seq}).encode() for seq in range(count)]
        spoofed = [json.dumps(body | {"seq": seq, "device": B.device}).encode() for seq in range(count)]
        for payload in (*honest, *spoofed):
            spoofer.publish(own, payload, 1)
        spoofer.subscribe(EVERYTHING)
        for payload in honest:
            other.publish(f"port/{B.uid}/telemetry", payload, 1)
        until_received(ingest.folder, 3 * count)
        overheard = spoofer.overheard(2.0)
        spoofer.close()
        other.close()
        ingest.terminate()
        rss_mb = ingest.peak_rss_mb
    reasons = quarantined(data)
    rows = [row for row in registry.audit(limit=1_000) if row.action == "refused"]
    intact = registry.audit_break() is None
    registry.close()
    records = open_records(f"sqlite:///{data}/quayflow.db")
    frames = Counter({row.account: row.frames for row in records.ledger(uids=[A.uid])})
    of_b = Counter({row.account: row.frames for row in records.ledger(uids=[B.uid])})
    records.close()
    holds = (
        denied == len(elsewhere)
        and reasons == Counter({"identity_mismatch": count})
        and len(rows) == count
        and intact
        and not overheard
        and frames["windowed"] == of_b["windowed"] == of_b["received"] == count
    )
    return Outcome(
        acked=3 * count,
        stored=frames["windowed"] + of_b["windowed"],
        lost=3 * count - frames["windowed"] - of_b["windowed"] - frames["quarantined"],
        duplicates_stored=0,
        quarantined=frames["quarantined"],
        recovery_s=0.0,
        rss_mb=round(rss_mb, 1),
        passed=holds,
        measured=f"{denied} of {len(elsewhere)} denied, {len(rows)} audit rows, {overheard} messages overheard",
    )

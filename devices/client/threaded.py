"""The device client in threads, on paho-mqtt: for programs that do not run an event loop."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.client.command_desk import CommandDesk, OnCommand
from devices.client.config import ClientConfig
from devices.client.outbox import Kept, Outbox
from devices.client.ring import RingError
from devices.scalars import Scalar

log = logging.getLogger(__name__)

BATCH: Final = 200
IDLE_S: Final = 0.2
CONNECT_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0


class Client(Kept):
    """Publishes for one device; use it as a context manager.

    with Client(ClientConfig(site=…, device_class=DeviceClass.QUAY_CRANE, device="QC09", folder=…)) as crane:
        crane.publish({"hoist_height_m": 12.3, "load_t": 24.6})
    """

    def __init__(
        self, config: ClientConfig, on_command: OnCommand | None = None, now: Callable[[], int] = time.time_ns
    ) -> None:
        """Open the ring. ``now`` gives ns UTC. Raises :class:`devices.client.RingError`."""
        self.config = config
        self.connects = 0
        """Connections made so far."""
        self.refused = 0
        """Messages that the broker refused, such as for want of a right; they are offered again."""
        self._outbox = Outbox(config, now, time.monotonic)
        try:
            self._desk = CommandDesk(on_command, config.folder, now)
        except RingError:
            self._outbox.close()
            raise
        self._wake = threading.Event()
        self._answered = threading.Event()
        self._closing = threading.Event()
        self._lost = threading.Event()
        self._up = False
        self._thread = threading.Thread(target=self._run, name=f"device {config.device}", daemon=True)

    def __enter__(self) -> Self:
        """Begin to connect; messages wait in the ring until there is a connection."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say goodbye and close; what is not acknowledged stays in the ring for the next start."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        self._desk.close()
        self._outbox.close()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it stands."""
        return self._up and not self._lost.is_set()

    def publish(self, values: Mapping[str, float | bool], ts: int | None = None) -> int:
        """Publish values of one instant, metric → value in its unit; ``ts`` ns UTC, now if None.

        Returns the sequence number once the message rests in the ring. ValueError names what ingest would refuse.
        """
        seq = self._outbox.telemetry(values, ts)
        self._wake.set()
        return seq

    def event(self, kind: str, data: Mapping[str, Scalar] | None = None, ts: int | None = None) -> int:
        """Publish something that happened once; as :meth:`publish`."""
        seq = self._outbox.event(kind, data or {}, ts)
        self._wake.set()
        return seq

    def flush(self, timeout_s: float) -> bool:
        """Wait until ingest has acknowledged everything; False if time ran out."""
        deadline = time.monotonic() + timeout_s
        while self.waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._answered.wait(min(left, IDLE_S))
            self._answered.clear()
        return True

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._closing.is_set():
            client = self._client()
            try:
                if self._connect(client):
                    pause = FIRST_PAUSE_S
                    self._pump(client)
            except (OSError, ValueError, RingError) as error:
                log.warning("broker %s:%d: %s", self.config.host, self.config.port, error)
            finally:
                self._up = False
                client.disconnect()
                client.loop_stop()
            self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _client(self) -> mqtt.Client:
        """Return a new client: a used one would send its own unacknowledged messages again, next to ours."""
        config, outbox = self.config, self._outbox
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=config.key.uid, protocol=mqtt.MQTTv5)
        if config.username is not None:
            client.username_pw_set(config.username, config.password)
        client.will_set(outbox.status_topic, outbox.status(online=False), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _connect(self, client: mqtt.Client) -> bool:
        config = self.config
        context = config.tls_context()
        if context is not None:
            client.tls_set_context(context)
        self._lost.clear()
        client.connect(config.host, config.port, config.keep_alive_s)
        client.loop_start()
        deadline = time.monotonic() + CONNECT_S
        while not self._up and not self._lost.is_set() and time.monotonic() < deadline:
            if self._closing.wait(0.01):
                return False
        return self.connected

    def _pump(self, client: mqtt.Client) -> None:
        """Send what the outbox gives until the connection is lost or the client is closed."""
        outbox = self._outbox
        outbox.connected()
        commands = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        client.subscribe([(outbox.ack_topic, SubscribeOptions(qos=1)), (outbox.command_topic, commands)])
        client.publish(outbox.status_topic, outbox.status(online=True), qos=1, retain=True)
        while not self._lost.is_set() and not self._closing.is_set():
            entries = outbox.take(BATCH)
            for entry in entries:
                client.publish(entry.topic, entry.payload, qos=1)
            if not entries:
                self._wake.wait(IDLE_S)
                self._wake.clear()
        if self._closing.is_set() and not self._lost.is_set():
            # A will is published for who goes without a word only.
            goodbye = client.publish(outbox.status_topic, outbox.status(online=False), qos=1, retain=True)
            goodbye.wait_for_publish(IDLE_S * 5)

    def _on_connect(
        self, client: mqtt.Client, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, properties
        if reason.is_failure:
            log.error("broker %s:%d refuses %s: %s", self.config.host, self.config.port, self.config.key.uid, reason)
            self._lost.set()
            return
        self.connects += 1
        self._up = True

    def _on_disconnect(
        self, client: mqtt.Client, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, reason, properties
        self._lost.set()
        self._wake.set()

    def _on_message(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        del userdata
        if message.topic == self._outbox.ack_topic:
            try:
                self._outbox.acknowledge(bytes(message.payload))
            except (ValueError, RingError) as error:
                log.warning("acknowledgement not used: %s", error)
            self._answered.set()
            self._wake.set()
            return
        answer = self._desk.handle(bytes(message.payload), retained=message.retain)
        if answer is not None:
            client.publish(self._outbox.answer_topic, answer, qos=1)

    def _on_publish(
        self, client: mqtt.Client, userdata: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, mid, properties
        if reason.is_failure:
            self.refused += 1
            log.error("broker %s:%d refuses a message: %s", self.config.host, self.config.port, reason)

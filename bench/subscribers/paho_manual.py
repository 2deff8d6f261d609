"""paho-mqtt with manual acknowledgements, doing nothing else."""

import sys
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.subscribers import Meter


def main(port: int, messages: int) -> None:
    """Acknowledge until all have come."""
    meter, count = Meter(), 0
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, "bench-paho", protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
    )

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:  # noqa: ANN401 - paho's signature
        nonlocal count
        if not meter.started:
            meter.start()
        client.ack(message.mid, message.qos)
        count += 1
        if count == messages:
            client.disconnect()

    def on_subscribe(*_: object) -> None:
        print("READY", flush=True)

    client.on_message = on_message
    client.on_subscribe = on_subscribe
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = 65_535
    client.connect("127.0.0.1", port, properties=properties)
    client.subscribe("port/#", qos=1)
    client.loop_forever()
    meter.report(count)


main(int(sys.argv[1]), int(sys.argv[2]))

"""The device's side of the wire: publish in a few lines, lose nothing.

    publish ─► ring on disk ─► broker ─► ingest ─► journal
                   ▲                                  │
                   └──────── acknowledgement ◄────────┘

A message rests in the ring until ingest says that it is on its own disk. Whatever dies in between, it is sent again,
and ingest recognises by boot id and sequence what it has already. :class:`Client` runs in threads, on paho-mqtt;
:class:`AsyncClient` on asyncio, on aiomqtt. This part of ``devices`` is for programs that run on a device or beside it:
it opens sockets and files, and nothing else of quayflow imports it, but for the simulated devices' answers to commands.
"""

from devices.client.arguments import add_broker_arguments, broker_settings
from devices.client.asynchronous import AsyncClient
from devices.client.config import ClientConfig
from devices.client.ring import Ring, RingError
from devices.client.threaded import Client

__all__ = ["AsyncClient", "Client", "ClientConfig", "Ring", "RingError", "add_broker_arguments", "broker_settings"]

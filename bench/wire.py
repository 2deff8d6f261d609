"""The least of MQTT 5 that a publisher and a do-nothing subscriber need, on a blocking socket."""

import socket
import struct
import time
from typing import Final

SUBSCRIBE_ALL: Final = b"\x82\x0c\x00\x01\x00\x00\x06port/#\x01"


def length(n: int) -> bytes:
    """Return ``n`` as a variable byte integer (MQTT 5, 1.5.5)."""
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (128 if n else 0))
        if not n:
            return bytes(out)


def connect(port: int, client_id: str, receive_max: int = 65_535) -> socket.socket:
    """Open a connection with a clean session; RuntimeError if the broker refuses."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    name = client_id.encode()
    body = (
        b"\x00\x04MQTT\x05\x02\x00\x3c\x03\x21" + struct.pack(">H", receive_max) + struct.pack(">H", len(name)) + name
    )
    connection.sendall(b"\x10" + length(len(body)) + body)
    answer = connection.recv(256)
    if len(answer) < 4 or answer[0] != 0x20 or answer[3]:  # noqa: PLR2004 - CONNACK with reason code 0
        raise RuntimeError(f"the broker refused {client_id}: {answer.hex()}")
    return connection


def publish_packet(topic: str, payload: bytes, packet_id: int) -> bytes:
    """Return a PUBLISH of QoS 1."""
    name = topic.encode()
    body = struct.pack(">H", len(name)) + name + struct.pack(">H", packet_id) + b"\x00" + payload
    return b"\x32" + length(len(body)) + body


def publish_all(port: int, packets: list[bytes], window: int = 8_000) -> float:
    """Publish QoS 1 packets as fast as the broker acknowledges them; return the seconds taken."""
    connection = connect(port, f"bench-publisher-{time.monotonic_ns()}")
    connection.settimeout(0)
    sent = acknowledged = partial = 0
    began = time.perf_counter()
    queue = bytearray()
    while acknowledged < len(packets):
        if sent - acknowledged < window and sent < len(packets) and len(queue) < 1 << 20:
            batch = packets[sent : sent + 500]
            queue += b"".join(batch)
            sent += len(batch)
        progress = False
        try:
            if queue:
                del queue[: connection.send(queue[: 1 << 18])]
                progress = True
        except BlockingIOError:
            pass
        try:
            # A successful PUBACK is four bytes.
            whole, partial = divmod(partial + len(connection.recv(1 << 18)), 4)
            acknowledged += whole
            progress = True
        except BlockingIOError:
            pass
        if not progress:
            time.sleep(0.0005)
    seconds = time.perf_counter() - began
    connection.close()
    return seconds

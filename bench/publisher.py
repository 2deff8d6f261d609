"""Publish N small messages at QoS 1 as fast as the broker takes them: ``python -m bench.publisher PORT N BOOT``."""

import sys

from bench.payloads import small_messages
from bench.wire import publish_all

packets = small_messages(int(sys.argv[2]), int(sys.argv[3]))
print("READY", flush=True)
sys.stdin.readline()
print(publish_all(int(sys.argv[1]), packets), flush=True)

"""Publish N messages at QoS 1 as fast as the broker takes them: ``python -m bench.publisher PORT N BOOT SAMPLES``.

SAMPLES 0 stands for small messages, any other number for packed blocks of so many samples.
"""

import sys

from bench.payloads import packed_messages, small_messages
from bench.wire import publish_all

port, count, boot, samples = map(int, sys.argv[1:5])
packets = packed_messages(count, boot, samples) if samples else small_messages(count, boot)
print("READY", flush=True)
sys.stdin.readline()
# Blocks are larger: the same bytes under way as with small messages.
print(publish_all(port, packets, window=1_000 if samples else 8_000), flush=True)

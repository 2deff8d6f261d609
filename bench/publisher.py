"""Publish at QoS 1 as fast as the broker takes it: ``python -m bench.publisher PORT MESSAGES BOOT SAMPLES SERIES``.

SAMPLES 0 stands for small messages, any other number for packed blocks of so many samples. SERIES other than 0 stands
for messages of one instant each, of so many series.
"""

import sys

from bench.payloads import packed_messages, small_messages, wide_messages
from bench.wire import publish_all

port, count, boot, samples, series = map(int, sys.argv[1:6])
if series:
    packets = wide_messages(count, boot, series)
else:
    packets = packed_messages(count, boot, samples) if samples else small_messages(count, boot)
print("READY", flush=True)
sys.stdin.readline()
# Blocks are larger: the same bytes under way as with small messages.
print(publish_all(port, packets, window=1_000 if samples else 8_000), flush=True)

"""How fast a worker comes back from its journal: read, checked, decoded, windowed and committed."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

from bench.payloads import small_frames
from bench.registry import Pair, Round, Row, Scale, group
from store.journal import JournalConfig, JournalWriter, encode

BATCH: Final = 500


@group(Row("recovery", "messages/s", "stated limit", "from the journal into the store", goal=1))
def recovery(scale: Scale) -> Iterator[Round]:
    """Write a journal, then start a worker on it that knows nothing of it."""
    messages = scale.of(200_000, 5_000)
    for boot in count(1):
        with tempfile.TemporaryDirectory(prefix="quayflow-bench-") as folder:
            _fill(Path(folder) / "journal", messages, boot)
            done = subprocess.run(
                [sys.executable, "-m", "bench.recovering", folder], check=True, capture_output=True, text=True
            )
        figures = json.loads(done.stdout)
        assert figures["frames"] == messages
        details = {"rss_mb": figures["rss_mb"], "cpu_us_per_message": figures["cpu_s"] / messages * 1e6}
        yield {"recovery": Pair(messages / figures["seconds"], 200_000.0, details)}


def _fill(folder: Path, messages: int, boot: int) -> None:
    """Write a journal of small messages as ingest does, in batches."""
    journal = JournalWriter(JournalConfig(folder))
    frames = small_frames(messages, boot)
    for at in range(0, messages, BATCH):
        batch = frames[at : at + BATCH]
        encoded = encode(journal.begin(), time.time_ns(), 1, ((topic, payload, 1) for topic, payload in batch))
        journal.append(encoded.blob, len(batch))
    journal.close()

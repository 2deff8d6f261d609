"""What is measured: each module takes PORT, N and a folder, says READY, and prints its figures as JSON at the end."""

import json
import resource
import time

from faults.resident import peak_mb


class Meter:
    """Wall and CPU time from the first message to the last."""

    def __init__(self) -> None:
        """Start not yet started."""
        self._began = 0.0
        self._cpu = 0.0

    @property
    def started(self) -> bool:
        """Whether the first message has come."""
        return self._began > 0

    def start(self) -> None:
        """Note the first message."""
        self._cpu = _cpu_seconds()
        self._began = time.perf_counter()

    def report(self, messages: int) -> None:
        """Print the figures of ``messages`` messages: rate per second and CPU in µs per message."""
        seconds = time.perf_counter() - self._began
        cpu = _cpu_seconds() - self._cpu
        figures = {
            "messages": messages,
            "rate": messages / seconds,
            "cpu_us": cpu / messages * 1e6,
            "rss_mb": peak_mb(),
        }
        print(json.dumps(figures), flush=True)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

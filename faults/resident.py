"""The memory of a process as the kernel counts it, from ``/proc``.

``getrusage`` is no measure of it: its peak begins with that of the process that forked, and ``exec`` keeps it.
"""

from pathlib import Path


def peak_mb(pid: int | str = "self") -> float:
    """Return the most memory that a process has had resident since its program began, MB; 0 if it has gone."""
    return _said("VmHWM", pid)


def now_mb(pid: int | str = "self") -> float:
    """Return what a process has resident, MB; 0 if it has gone."""
    return _said("VmRSS", pid)


def _said(name: str, pid: int | str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    # A process that has ended and was not waited for has no such lines.
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

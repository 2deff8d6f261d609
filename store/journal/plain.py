"""Reading a plain segment: any of its bytes, a piece at a time."""

from pathlib import Path
from weakref import finalize


class PlainSegment:
    """A plain segment, open for reading; it stays readable when it is deleted or replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        """Open the file; FileNotFoundError where it has been deleted."""
        self._file = path.open("rb", buffering=0)
        # Whoever reads frames may stop anywhere, and says nothing then.
        finalize(self, self._file.close)
        self.size = self._file.seek(0, 2)
        """Its length when it was opened, bytes."""

    def read(self, begin: int, length: int) -> bytes:
        """Return what lies from ``begin`` on: ``length`` bytes, fewer at the end or where it has been cut since."""
        self._file.seek(begin)
        parts: list[bytes] = []
        left = min(length, self.size - begin)
        while left > 0 and (part := self._file.read(left)):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

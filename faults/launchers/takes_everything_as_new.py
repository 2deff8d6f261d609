"""A broken product for the mutation check: no frame is ever recognised as seen before."""

from analytics.dedup import SequenceTracker, Verdict
from quayflow.entry import run


def new(tracker: SequenceTracker, boot: int, seq: int) -> Verdict:
    """Take it as new."""
    _see(tracker, boot, seq)
    return Verdict.NEW


def new_by_hash(tracker: SequenceTracker, digest: bytes, at: int | None = None) -> Verdict:
    """Take it as new."""
    _see_hash(tracker, digest, at)
    return Verdict.NEW


_see, _see_hash = SequenceTracker.see, SequenceTracker.see_hash

if __name__ == "__main__":
    SequenceTracker.see = new  # type: ignore[assignment,method-assign]
    SequenceTracker.see_hash = new_by_hash  # type: ignore[assignment,method-assign]
    run()

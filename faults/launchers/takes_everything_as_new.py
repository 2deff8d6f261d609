"""A broken product for the mutation check: no frame is ever recognised as seen before."""

from analytics.dedup import SequenceTracker, Verdict
from quayflow.main import run


def new(tracker: SequenceTracker, boot: int, seq: int) -> Verdict:
    """Take it as new."""
    _see(tracker, boot, seq)
    return Verdict.NEW


_see = SequenceTracker.see

if __name__ == "__main__":
    SequenceTracker.see = new  # type: ignore[assignment,method-assign]
    run()

"""Why a frame or a sample was refused: the closed list of reasons, and the reject itself."""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Every reason for quarantine; `docs/quarantine.md` explains each and says what to do."""

    UNDECODABLE = "undecodable"
    UNKNOWN_TOPIC = "unknown_topic"
    UNSUPPORTED_VERSION = "unsupported_version"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_METRIC = "unknown_metric"
    NO_SAMPLES = "no_samples"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    CLOCK_UNSET = "clock_unset"
    CLOCK_FUTURE = "clock_future"
    STALE = "stale"
    IDENTITY_MISMATCH = "identity_mismatch"
    NOT_REGISTERED = "not_registered"
    SEQUENCE_TOO_OLD = "sequence_too_old"
    NO_BIRTH = "no_birth"
    TOO_LARGE = "too_large"
    CARDINALITY = "cardinality"
    PARTS_MISSING = "parts_missing"
    WINDOW_FULL = "window_full"
    REJECTED_BY_STORE = "rejected_by_store"


class Reject(NamedTuple):
    """A refusal: the reason, a JSON Pointer to the field (``""`` is the whole payload) and a sentence for people."""

    reason: Reason
    pointer: str
    detail: str


class RejectError(Exception):
    """Raised by a codec that cannot decode a payload; carries the :class:`Reject`."""

    def __init__(self, reason: Reason, pointer: str, detail: str) -> None:
        """Build the reject that the pipeline will file."""
        super().__init__(f"{reason} at {pointer or '/'}: {detail}")
        self.reject = Reject(reason, pointer, detail)

"""Everything that an ingest worker needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingest.gateway import GatewayConfig
from ingest.pipeline import PipelineConfig
from ingest.session import SessionConfig
from store.registry_entries import Policy


@dataclass(frozen=True, slots=True)
class IngestConfig:
    """Everything that an ingest worker needs to know."""

    data: Path
    """Folder of the journal, the checkpoint and, if embedded, the store; one worker per folder."""
    windows_url: str
    """Where window rows go."""
    records_url: str
    """Where records go."""
    session: SessionConfig = field(default_factory=SessionConfig)
    """How to reach the broker; the client id is completed by the data folder's identity."""
    worker: str = "ingest-1"
    """Name of this worker, unique among those that share a store."""
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    """Rules and bounds of the pipeline."""
    gateway: GatewayConfig | None = None
    """Where terminals connect that speak no MQTT; None: nowhere."""
    commit_interval_s: float = 1.0
    """Shortest time between two commits, s."""
    commit_share: float = 0.1
    """Largest share of the time that commits may take before they are spread further apart, 0 to 1."""
    keep_s: Mapping[int, float] = field(default_factory=dict)
    """Tier (width in s) → how long an embedded store keeps its rows, s; a tier that is not named is kept for ever."""
    journal_keep_bytes: int = 4 << 30
    """Sealed journal segments are kept up to this many bytes in total."""
    journal_keep_s: float = 7 * 86_400
    """Sealed journal segments are kept up to this age, s."""
    journal_segment_bytes: int = 32 << 20
    """A segment is sealed when it has grown beyond this."""
    journal_compress: bool = False
    """Whether sealed journal segments are compressed, in a thread of their own."""
    journal_ballast_bytes: int = 0
    """Space held ready for the end of the work at hand when the disk is full; 0 does without."""
    registration: Policy | None = None
    """Whom sites admit that the registry does not know; None admits everybody and asks no registry."""
    shed_below_bytes: int = 0
    """With less free space than this, messages sent at QoS 0 are shed, counted, so that the others have it; 0 never."""

    def __post_init__(self) -> None:
        """Refuse intervals that cannot be kept."""
        if self.commit_interval_s <= 0:
            msg = f"commit_interval_s {self.commit_interval_s}: must be above 0"
            raise ValueError(msg)
        if not 0 < self.commit_share <= 1:
            msg = f"commit_share {self.commit_share}: must be above 0 and at most 1"
            raise ValueError(msg)

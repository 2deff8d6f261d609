"""The answers as models, for the API description and for tests; each with an example.

Routes encode plain dictionaries: validating 11,000 points a second time would cost more than finding them. The tests
validate the answers of every route against these models instead.
"""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from devices.scalars import Scalar
from store.device_health import Cause

Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
CompleteThrough = Annotated[
    Time | None,
    Field(description="Event time up to which nothing more is expected; null while no worker has ever reported."),
]
Next = Annotated[str | None, Field(description="Cursor of the next page, null on the last one.")]
Coverage = Annotated[
    float | None,
    Field(ge=0, le=100, description="Share of the closed windows in which the devices were heard, per cent."),
]


class Answer(BaseModel):
    """Base of all answers: unknown members are an error."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ProblemEntry(Answer):
    """What is wrong with one parameter or field."""

    parameter: str | None = Field(default=None, description="Name of a query, path or header parameter.")
    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) into the body.")
    detail: str


class Problem(BaseModel):
    """An error as of RFC 9457; some kinds have further members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/unknown-metric",
                    "title": "The metric is not known for this device",
                    "status": 422,
                    "detail": "metric: 'lod_t' is not a metric of quay-crane; did you mean load_t?",
                    "instance": "/v1/devices/QC01/telemetry",
                    "errors": [
                        {
                            "parameter": "metric",
                            "detail": "'lod_t' is not a metric of quay-crane; did you mean load_t?",
                        },
                    ],
                },
            ],
        },
    )

    type: str = Field(description="Path of the page that explains this kind of problem.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request.")
    errors: list[ProblemEntry]


Item = TypeVar("Item", bound=Answer)


class Page(Answer, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next: Next
    complete_through: CompleteThrough


class LatestValue(Answer):
    """The newest value of a metric."""

    value: float
    unit: str
    time: Time


class Device(Answer):
    """A device as last committed."""

    id: str
    uid: str = Field(description="`site/class/device`: unique over all sites.")
    site: str
    class_: str = Field(alias="class")
    online: bool
    state: Literal["live", "stale", "offline"] = Field(
        description="offline: it, or its last will, said so; stale: silent for 30 s; else live.",
    )
    first_seen: Time | None
    last_seen: Time | None
    last_event_time: Time | None
    frames: int = Field(description="Frames received from it.")
    latest: dict[str, LatestValue]
    info: dict[str, Scalar]
    clock_offset_s: float | None = Field(
        description="Median of receive time minus event time over the last minute: how far its clock is behind, or how "
        "long its data are under way; null where it is not known.",
    )
    rate_hz: float | None = Field(description="Messages a second over the last minute or so; null where not known.")
    lost_before_journal: int | None = Field(
        description="Messages that its sequence numbers say are missing; null where several workers hear it.",
    )
    quarantined: dict[str, int] = Field(description="Reason → messages, or single values.")
    health: str = Field(description="Path of the answer that says why it is silent.")


class Definition(Answer):
    """What a figure is; see docs/kpis.md."""

    id: str
    version: str
    name: str
    numerator: str
    denominator: str
    description: str


class Figures(Answer):
    """What every answer with figures says of itself."""

    definition: Definition
    start: Time = Field(description="Resolved begin of the range, inside it, on the 10 s grid.")
    end: Time = Field(description="Resolved end of the range, outside it, on the 10 s grid.")
    step: str = Field(description="Width of a bucket, ISO 8601.", examples=["PT1M"])
    complete_through: CompleteThrough
    observations: int = Field(ge=0, description="Samples that the figures count.")
    coverage_percent: Coverage
    coverage_window: str = Field(description="Width of the windows in which coverage was judged, ISO 8601.")
    corrections: int = Field(ge=0, description="How many of the observations came after their window had closed.")


class TimedValue(Answer):
    """A value and its event time."""

    time: Time
    value: float


Percentile = Annotated[
    float | None, Field(description="Within 1 % of the sample of that rank; null where the metric has no percentiles.")
]


class Summary(Answer):
    """All samples of the range in one."""

    count: int
    mean: float | None
    min: float | None
    max: float | None
    first: TimedValue | None
    last: TimedValue | None
    sum: float
    p50: Percentile
    p95: Percentile
    p99: Percentile


class TelemetryPoint(Answer):
    """One bucket; the values are in the metric's unit."""

    time: Time = Field(description="Start of the bucket.")
    count: int
    mean: float
    min: float
    max: float
    first: float
    last: float
    sum: float
    first_time: Time
    last_time: Time
    p50: Percentile
    p95: Percentile
    p99: Percentile


class Telemetry(Figures):
    """A metric of a device over time."""

    device: str
    uid: str
    metric: str
    unit: str
    resolution: float = Field(description="Smallest difference that is kept of a sample, in `unit`.")
    kind: str
    summary: Summary
    points: list[TelemetryPoint]


class CranePoint(Answer):
    """One bucket of a quay crane."""

    time: Time
    moves: int
    teu: float
    moves_per_hour: float | None


class CraneGroup(Answer):
    """A quay crane."""

    group: str
    site: str
    uid: str
    moves: int
    teu: float
    moves_per_hour: float | None
    coverage_percent: Coverage
    points: list[CranePoint]


class GatePoint(Answer):
    """One bucket of a gate lane."""

    time: Time
    passages_in: int
    passages_out: int
    passages_per_hour: float | None


class GateGroup(Answer):
    """A gate lane."""

    group: str
    site: str
    uid: str
    passages_in: int
    passages_out: int
    passages_per_hour: float | None
    coverage_percent: Coverage
    points: list[GatePoint]


class SitePoint(Answer):
    """One bucket of a site."""

    time: Time
    moves: int
    teu: float
    yard_moves: int
    passages_in: int
    passages_out: int
    moves_per_hour: float | None


class SiteGroup(Answer):
    """A site."""

    group: str
    site: str
    moves: int
    teu: float
    yard_moves: int
    passages_in: int
    passages_out: int
    moves_per_hour: float | None
    coverage_percent: Coverage
    points: list[SitePoint]


class Throughput(Figures):
    """Moves and passages over time, by group."""

    group_by: Literal["crane", "gate", "site"]
    groups: list[CraneGroup] | list[GateGroup] | list[SiteGroup]


class Carrier(Answer):
    """What carried the tag that was read."""

    id: str = Field(description="Such as a container number, or the plate of a truck.")
    type: str
    source: Literal["registry"] = Field(description="Who says so: `registry`, by its tags. The tag is in `data`.")


class Event(Answer):
    """A port event, or an event that a device reported itself."""

    id: str = Field(description="Made of what the event is: the same event found again has the same id.")
    cursor: int = Field(description="Position in the order of storing; the id of the live stream's events.")
    type: str
    site: str
    class_: str = Field(alias="class")
    device: str
    time: Time
    start: Time
    data: dict[str, Scalar]
    carrier: Carrier | None = Field(None, description="Left out where the registry knows none for the tag then.")


class Refusal(Answer):
    """A frame, or a sample of one, that was refused."""

    id: str
    reason: str
    pointer: str = Field(description="JSON Pointer into the payload; empty: all of it.")
    detail: str
    topic: str
    uid: str
    received: Time
    payload: str = Field(description="Its first 4 KiB.")
    payload_encoding: Literal["utf-8", "base64"]
    payload_bytes: int
    payload_sha256: str


class Accounts(Answer):
    """Where frames or samples ended up. received = windowed + merged_late + duplicate + quarantined + shed."""

    received: int
    windowed: int
    merged_late: int
    duplicate: int
    quarantined: int
    shed: int
    lost_before_journal: int | None = Field(
        description="Known to be missing from gaps in sequence numbers; never received. Null, for it cannot be told, "
        "where several workers hear a device: see the flag `several_workers`.",
    )


class LedgerEntry(Answer):
    """The accounts of one device."""

    uid: str = Field(description="Empty for frames whose topic names no device.")
    frames: Accounts
    samples: Accounts
    quarantined_by_reason: dict[str, int]
    flags: dict[str, int] = Field(description="Readings that were odd and kept, by what was odd.")


class LedgerTotal(Answer):
    """The accounts of all devices together."""

    frames: Accounts
    samples: Accounts
    quarantined_by_reason: dict[str, int]
    flags: dict[str, int] = Field(description="Readings that were odd and kept, by what was odd.")


class Ledger(Answer):
    """Every frame received, and its account."""

    balanced: bool = Field(description="Whether received equals the sum of the accounts, for every device.")
    journal_frames: int | None = Field(description="Frames in the journals of all workers, as of their last commit.")
    total: LedgerTotal
    items: list[LedgerEntry]
    next: Next
    complete_through: CompleteThrough


class RegistryEntry(Answer):
    """One entry of the registry."""

    key: str = Field(description="Unique within its kind; entries come in its order.")
    site: str | None = Field(description="The site that it belongs to, null for none.")
    entry: dict[str, Any] = Field(description="Its fields, as docs/registry.md describes them for each kind.")


class RegistryPage(Answer):
    """One page of the entries of a kind."""

    items: list[RegistryEntry]
    next: Next
    revision: int = Field(description="How often the registry has been changed.")


class HealthRefusal(Answer):
    """One of the newest refusals."""

    reason: str
    pointer: str
    detail: str
    received: Time


class Refused(Answer):
    """How much was refused for one reason."""

    messages: int = Field(description="Messages of which nothing was kept.")
    values: int = Field(description="Single values; of such messages too, where they could be read.")


class DeviceHealth(Answer):
    """How a device does, and the first reason why it is silent."""

    uid: str
    verdict: str = Field(description="`live`, or why not, in one sentence.")
    cause: Cause = Field(description="The same in a word.")
    live: bool
    registered: bool
    enabled: bool
    admitted: bool = Field(description="Whether its site lets it speak.")
    credential: Literal["password", "certificate"] | None
    heard: bool
    online: bool
    first_seen: Time | None
    last_seen: Time | None
    silent_s: float | None = Field(description="Since its last message, s.")
    frames: int
    accepted: int = Field(description="Messages of which something was kept.")
    rate_hz: float | None = Field(description="Messages a second over the last minute or so; null where not known.")
    skew_s: float | None = Field(description="How far its clock is behind at its last message, s; negative is ahead.")
    lost_before_journal: int | None
    duplicate: int
    quarantined: dict[str, int] = Field(description="Reason → messages, or single values.")
    refused: dict[str, Refused] = Field(description="The same, messages and values apart.")
    refusals: list[HealthRefusal] = Field(description="The newest three.")
    publish: str = Field(description="Command that publishes one reading as the device; its password is to fill in.")


class Meaning(Answer):
    """What a name of a device's own means: value × scale + offset is the metric, in its unit."""

    metric: str
    scale: float
    offset: float


class Guess(Answer):
    """A metric that a name may mean, and what its values would be multiplied by."""

    metric: str
    scale: float


class DeviceName(Answer):
    """A name of a device's own, which is no metric of its class."""

    name: str
    value: str = Field(description="What was sent under it last, as JSON, cut; empty where that is not known.")
    refused: int = Field(description="Refusals of it among the newest 5000 of the device.")
    first: Time | None
    last: Time | None = Field(description="When it was refused last.")
    adopted: Meaning | None
    guesses: list[Guess] = Field(description="Metrics that it may mean, the likeliest first.")
    command: str = Field(description="Command that adopts it, but for the metric.")


class DeviceNames(Answer):
    """The names of a device's own."""

    uid: str
    items: list[DeviceName]
    next: None


class AdoptedName(Meaning):
    """An adopted name."""

    device: str = Field(description="The device's uid.")
    name: str


class CommandSent(Answer):
    """A command, and the device's acknowledgement."""

    uid: str
    id: str
    name: str
    args: dict[str, Scalar]
    sent: Time
    expires: Time = Field(description="From when on it is not begun any more.")
    outcome: Literal["done", "refused"]
    answered: Time
    detail: str = Field(description="Why it was not done.")
    data: dict[str, Scalar] = Field(description="What the device tells of it.")


class VocabularyMetric(Answer):
    """One metric that the system knows."""

    name: str
    unit: str
    resolution: float
    minimum: float
    maximum: float
    kind: str
    classes: list[str]
    tic: str = Field(description="Path of the TIC 4.0 word, empty where there is none.")
    derived: bool = Field(description="Made here, and refused from devices.")
    percentiles: bool = Field(description="Whether its telemetry has percentiles.")


class Vocabulary(Answer):
    """Every metric, and the closed lists around them."""

    items: list[VocabularyMetric]
    next: None
    classes: list[str]
    tiers: list[str]


class Check(Answer):
    """One thing that readiness depends on."""

    ok: bool
    detail: str


class Checks(Answer):
    """All that readiness depends on."""

    broker: Check
    journal: Check
    store: Check
    lag: Check
    ledger: Check


class Ready(Answer):
    """The service is ready."""

    status: Literal["ready"]
    checks: Checks


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"]


class Version(Answer):
    """What runs."""

    name: str
    version: str
    api: str

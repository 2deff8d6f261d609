"""What the API measures of itself and passes on of the workers, in an own Prometheus registry.

Every family is explained in `docs/metrics.md`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from devices.scalars import Scalar
from devices.times import NS
from store.interface import SEVERAL_WORKERS, LedgerRow, QuarantineFigures

_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class WorkerFigure:
    """One key of a worker's status as a metric family."""

    key: str
    family: str
    text: str
    counter: bool = False


WORKER_FIGURES: Final = (
    WorkerFigure("journal_offset", "quayflow_ingest_journal_bytes", "Bytes written to the journal.", counter=True),
    WorkerFigure("journal_frames", "quayflow_ingest_journal_frames", "Frames written to the journal.", counter=True),
    WorkerFigure("committed_offset", "quayflow_ingest_committed_bytes", "Journal bytes committed.", counter=True),
    WorkerFigure("committed_frames", "quayflow_ingest_committed_frames", "Frames committed.", counter=True),
    WorkerFigure("journal_corrupt", "quayflow_ingest_journal_damage", "Damaged stretches skipped.", counter=True),
    WorkerFigure("journal_disk_bytes", "quayflow_ingest_journal_disk_bytes", "Bytes of the journal on the disk."),
    WorkerFigure(
        "journal_compressed_bytes",
        "quayflow_ingest_journal_compressed_bytes",
        "Bytes of journal segments compressed, before compression.",
        counter=True,
    ),
    WorkerFigure("samples", "quayflow_ingest_samples", "Samples windowed.", counter=True),
    WorkerFigure("runs_again", "quayflow_ingest_runs_again", "Devices whose detectors ran again.", counter=True),
    WorkerFigure("waiting_to_run_again", "quayflow_ingest_waiting_to_run_again", "Devices that wait for it."),
    WorkerFigure("late_for_detectors", "quayflow_ingest_late_for_detectors", "Inputs too late.", counter=True),
    WorkerFigure("quarantine_dropped", "quayflow_ingest_quarantine_dropped", "Refusals not kept.", counter=True),
    WorkerFigure("answers_dropped", "quayflow_ingest_answers_dropped", "Answers to commands not given.", counter=True),
    WorkerFigure("events_dropped", "quayflow_ingest_events_dropped", "Events not announced.", counter=True),
    WorkerFigure("session_losses", "quayflow_ingest_session_losses", "Broker sessions found lost.", counter=True),
    WorkerFigure("reconnects", "quayflow_ingest_reconnects", "Reconnections to the broker.", counter=True),
    WorkerFigure("held_messages", "quayflow_ingest_held_messages", "Messages read and not acknowledged."),
    WorkerFigure("held_messages_most", "quayflow_ingest_held_messages_most", "The most that was."),
    WorkerFigure("held_bytes", "quayflow_ingest_held_bytes", "Bytes read and not acknowledged."),
    WorkerFigure("held_bytes_most", "quayflow_ingest_held_bytes_most", "The most that was."),
    WorkerFigure("reading_stops", "quayflow_ingest_reading_stops", "Times reading stopped at a bound.", counter=True),
    WorkerFigure("gateway_connections", "quayflow_ingest_gateway_connections", "Connections of terminals."),
    WorkerFigure("gateway_terminals", "quayflow_ingest_gateway_terminals", "Terminals known by name."),
    WorkerFigure("gateway_waiting", "quayflow_ingest_gateway_waiting", "Frames that wait for the disk."),
    WorkerFigure("gateway_accepted", "quayflow_ingest_gateway_accepted", "Connections accepted.", counter=True),
    WorkerFigure("gateway_frames", "quayflow_ingest_gateway_frames", "Frames journalled.", counter=True),
    WorkerFigure("gateway_bytes", "quayflow_ingest_gateway_bytes", "Bytes journalled.", counter=True),
    WorkerFigure("gateway_garbage_bytes", "quayflow_ingest_gateway_garbage_bytes", "Bytes of no frame.", counter=True),
    WorkerFigure(
        "gateway_parts_asked", "quayflow_ingest_gateway_parts_asked", "Missing parts asked for.", counter=True
    ),
    WorkerFigure(
        "gateway_parts_given_up",
        "quayflow_ingest_gateway_parts_given_up",
        "Messages in parts not asked for any more.",
        counter=True,
    ),
    WorkerFigure("gateway_pauses", "quayflow_ingest_gateway_pauses", "Times a socket was not read.", counter=True),
    WorkerFigure("clocks_off", "quayflow_ingest_clocks_off", "Devices whose clock is off by more than 5 s."),
    WorkerFigure("clock_stepped", "quayflow_ingest_clock_stepped", "1 while the server's clock is not believed."),
    WorkerFigure("clock_steps", "quayflow_ingest_clock_steps", "Times the server's clock was set.", counter=True),
    WorkerFigure("shed", "quayflow_ingest_shed", "Messages at QoS 0 given up for want of space.", counter=True),
    WorkerFigure("shedding", "quayflow_ingest_shedding", "1 while space is short."),
    WorkerFigure("frames_per_second", "quayflow_ingest_frames_per_second", "Frames received per second."),
    WorkerFigure("bytes_per_second", "quayflow_ingest_bytes_per_second", "Payload bytes received per second."),
    WorkerFigure("samples_per_second", "quayflow_ingest_samples_per_second", "Samples decoded per second."),
    WorkerFigure("data_age_s", "quayflow_ingest_data_age_seconds", "Median of receive time minus event time."),
    WorkerFigure("store_lag_s", "quayflow_ingest_store_lag_seconds", "Age of the oldest uncommitted frame."),
    WorkerFigure("sink_backlog", "quayflow_ingest_sink_backlog", "Commits not yet in the remote stores."),
    WorkerFigure("sink_failing_s", "quayflow_ingest_sink_failing_seconds", "Time since the stores last took a commit."),
    WorkerFigure("commit_seconds", "quayflow_ingest_commit_seconds", "Duration of the last commit."),
    WorkerFigure("devices", "quayflow_ingest_devices", "Devices known to the worker."),
    WorkerFigure("series", "quayflow_ingest_series", "Series known to the worker."),
    WorkerFigure("balanced", "quayflow_ingest_balanced", "1 while the worker's ledger balances."),
)


@dataclass(slots=True)
class Snapshot:
    """What the stores and the workers said at the time of a scrape."""

    now_ns: int = 0
    workers: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    ledger: Sequence[LedgerRow] = ()
    ledger_balanced: bool = True
    quarantine: QuarantineFigures | None = None
    store_reachable: bool = True


class _SnapshotCollector(Collector):
    """Renders the last snapshot; families keep their names even without a worker."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()

    def collect(self) -> Iterable[Metric]:
        snapshot = self.snapshot
        yield from _worker_families(snapshot)
        yield from _gateway_reasons(snapshot)
        several = len({row.uid for row in snapshot.ledger if row.reason == SEVERAL_WORKERS})
        for name, text in (("frames", "Frames by account."), ("samples", "Samples by account.")):
            family = CounterMetricFamily(f"quayflow_ledger_{name}", text, labels=("account", "reason"))
            totals: dict[tuple[str, str], int] = {}
            for row in snapshot.ledger:
                key = row.account, row.reason
                totals[key] = totals.get(key, 0) + getattr(row, name)
            if several:
                # Nobody can tell, so nothing is told.
                totals.pop(("lost_before_journal", ""), None)
            for key, total in sorted(totals.items()):
                family.add_metric(key, total)
            yield family
        yield GaugeMetricFamily("quayflow_ledger_balanced", "1 if every account balances.", snapshot.ledger_balanced)
        yield GaugeMetricFamily(
            "quayflow_ledger_several_workers", "Devices that several workers hear at a time.", several
        )
        dropped = CounterMetricFamily("quayflow_quarantine_dropped", "Refusals whose record went for want of room.")
        settled = CounterMetricFamily("quayflow_refused_rows_settled", "Refused rows that wait for the store no more.")
        if snapshot.quarantine is not None:
            dropped.add_metric((), snapshot.quarantine.dropped)
            settled.add_metric((), snapshot.quarantine.settled)
        yield from (dropped, settled)
        yield GaugeMetricFamily("quayflow_store_reachable", "1 if the records answered.", snapshot.store_reachable)


def _worker_families(snapshot: Snapshot) -> Iterator[Metric]:
    age = GaugeMetricFamily("quayflow_ingest_status_age_seconds", "Age of a worker's last report.", labels=("worker",))
    broker = GaugeMetricFamily("quayflow_ingest_broker_connected", "1 while connected.", labels=("worker",))
    journal = GaugeMetricFamily("quayflow_ingest_journal_ok", "1 while the journal can write.", labels=("worker",))
    ballast = GaugeMetricFamily("quayflow_ingest_journal_ballast_released", "1 on a full disk.", labels=("worker",))
    fallback = GaugeMetricFamily("quayflow_ingest_share_fallback", "1 without the group.", labels=("worker",))
    refused = GaugeMetricFamily("quayflow_ingest_share_refused", "1 where it takes nothing.", labels=("worker",))
    for worker, status in snapshot.workers.items():
        updated = status.get("updated_ns")
        if isinstance(updated, int | float):
            age.add_metric((worker,), max(0.0, (snapshot.now_ns - updated) / NS))
        broker.add_metric((worker,), status.get("broker") == "connected")
        journal.add_metric((worker,), status.get("journal") == "ok")
        ballast.add_metric((worker,), status.get("journal_ballast") == "released")
        subscription = str(status.get("subscription", ""))
        fallback.add_metric((worker,), subscription.startswith("plain, "))
        refused.add_metric((worker,), subscription.startswith("none, "))
    yield from (age, broker, journal, ballast, fallback, refused)
    for figure in WORKER_FIGURES:
        kind = CounterMetricFamily if figure.counter else GaugeMetricFamily
        family = kind(figure.family, figure.text, labels=("worker",))
        for worker, status in snapshot.workers.items():
            value = status.get(figure.key)
            if isinstance(value, int | float):
                family.add_metric((worker,), float(value))
        yield family


def _gateway_reasons(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield what the status keeps under one key for each reason."""
    for what, text in (("refused", "Frames not taken."), ("closed", "Connections ended.")):
        family = CounterMetricFamily(f"quayflow_ingest_gateway_{what}", text, labels=("worker", "reason"))
        prefix = f"gateway_{what}_"
        for worker, status in snapshot.workers.items():
            for key, value in status.items():
                if key.startswith(prefix) and isinstance(value, int | float):
                    family.add_metric((worker, key.removeprefix(prefix)), float(value))
        yield family


class Instruments:
    """Counters and gauges of one API process."""

    def __init__(self, version: str) -> None:
        """Make a registry of our own: several applications in one process do not share figures."""
        self.registry = CollectorRegistry()
        self._snapshot = _SnapshotCollector()
        self.registry.register(self._snapshot)
        build = Gauge("quayflow_build_info", "The version that runs.", ("version",), registry=self.registry)
        build.labels(version).set(1)
        self.requests = Counter(
            "quayflow_api_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "quayflow_api_request_seconds",
            "Duration of requests, streams left out.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.store_seconds = Histogram(
            "quayflow_api_store_seconds", "Duration of store calls.", buckets=_SECONDS, registry=self.registry
        )
        self.store_refusals = Counter(
            "quayflow_api_store_refusals", "Store calls given up.", ("reason",), registry=self.registry
        )
        self.broker_questions = Counter(
            "quayflow_broker_questions",
            "Questions of brokers who may do what.",
            ("broker", "question", "answer"),
            registry=self.registry,
        )
        self.stream_clients = Gauge("quayflow_stream_clients", "Open live streams.", registry=self.registry)
        self.stream_frames = Counter(
            "quayflow_stream_frames", "Events sent to live streams.", ("event",), registry=self.registry
        )
        self.stream_closed = Counter(
            "quayflow_stream_closed", "Live streams ended.", ("reason",), registry=self.registry
        )
        self.stream_refused = Counter(
            "quayflow_stream_refused", "Live streams refused for their number.", registry=self.registry
        )
        self.live_connected = Gauge(
            "quayflow_live_broker_connected", "1 while the API follows the broker.", registry=self.registry
        )
        self.live_connects = Counter(
            "quayflow_live_broker_connects", "Connections made to the broker.", registry=self.registry
        )
        self.live_messages = Counter(
            "quayflow_live_messages", "Messages taken from the broker.", ("kind",), registry=self.registry
        )
        self.live_rejected = Counter(
            "quayflow_live_rejected", "Messages from the broker not understood.", ("kind",), registry=self.registry
        )
        self.live_overflow = Counter(
            "quayflow_live_overflow", "Messages dropped because the API fell behind.", registry=self.registry
        )
        self.live_event_cursor = Gauge(
            "quayflow_live_event_cursor", "Cursor of the newest event known.", registry=self.registry
        )

    def render(self, snapshot: Snapshot) -> bytes:
        """Return the exposition text of everything, with ``snapshot`` for what lies outside this process."""
        self._snapshot.snapshot = snapshot
        return generate_latest(self.registry)

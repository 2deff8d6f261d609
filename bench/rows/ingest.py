"""Ingest behind a broker: small messages and packed blocks, beside subscribers that do less."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

from bench.registry import Pair, Round, Row, Scale, group
from bench.trial import receive, running_broker

LIMIT: Final = "only_acks"
FULL: Final = "full_ingest"
JOURNALLED: Final = "journalled"
SUBSCRIBERS: Final = {
    LIMIT: "receive_qos1_small_only_acks",
    "paho_manual": "receive_qos1_small_paho_manual",
    "aiomqtt_auto": "receive_qos1_small_aiomqtt_auto",
    JOURNALLED: "receive_qos1_small_journalled",
    FULL: "ingest_qos1_small",
}
"""Module of ``bench.subscribers`` → row."""
MESSAGES: Final = {LIMIT: 200_000, "paho_manual": 100_000, "aiomqtt_auto": 40_000, JOURNALLED: 200_000, FULL: 200_000}
"""Small messages per round: some seconds for each, so that neither its start nor its last commit counts for much."""
PACKED: Final = {300: 66_000, 1_500: 20_000}
"""Samples per packed block → messages per round."""
PACKED_GOALS: Final = {300: 12e6, 1_500: 30e6}
"""Samples per packed block → samples per second asked for."""


@group(
    Row(SUBSCRIBERS[LIMIT], "messages/s", LIMIT, "only acknowledges: the limit"),
    Row(SUBSCRIBERS["paho_manual"], "messages/s", LIMIT, "paho-mqtt, manual acks, no work"),
    Row(SUBSCRIBERS["aiomqtt_auto"], "messages/s", LIMIT, "aiomqtt, automatic acks, no work"),
    Row(SUBSCRIBERS[JOURNALLED], "messages/s", LIMIT, "session and journal of quayflow, nothing decoded"),
    Row(SUBSCRIBERS[FULL], "messages/s", LIMIT, "quayflow: journalled, windowed, stored", goal=1.0),
    Row("ingest_qos1_small_to_paho", "messages/s", "paho_manual", "quayflow, beside paho without work", goal=1.7),
    Row("ingest_qos1_small_cpu", "µs/message", "stated limit", "quayflow: CPU per message", 1, less_is_better=True),
    Row("ingest_qos1_small_cpu_to_journal", "µs/message", JOURNALLED, "the same, beside its session and journal alone"),
)
def small(scale: Scale) -> Iterator[Round]:
    """Have every subscriber receive the same small messages, in turn."""
    with running_broker() as port:
        for boot in count(1):
            figures = {name: receive(port, name, scale.of(full, 5_000), boot) for name, full in MESSAGES.items()}
            limit, full = figures[LIMIT]["rate"], figures[FULL]
            found = {SUBSCRIBERS[name]: Pair(each["rate"], limit, _details(each)) for name, each in figures.items()}
            yield found | {
                "ingest_qos1_small_to_paho": Pair(full["rate"], figures["paho_manual"]["rate"]),
                "ingest_qos1_small_cpu": Pair(full["cpu_us"], 6.0),
                "ingest_qos1_small_cpu_to_journal": Pair(full["cpu_us"], figures[JOURNALLED]["cpu_us"]),
            }


@group(
    *(
        Row(f"ingest_packed_{n}", "samples/s", LIMIT, f"quayflow: packed blocks of {n} samples", goal_value=goal)
        for n, goal in PACKED_GOALS.items()
    )
)
def packed(scale: Scale) -> Iterator[Round]:
    """Ingest packed blocks; the reference acknowledges the same blocks and does nothing else."""
    with running_broker() as port:
        for boot in count(1):
            found = {}
            for samples, full in PACKED.items():
                messages = scale.of(full, 500)
                limit, whole = (receive(port, name, messages, boot, samples) for name in (LIMIT, FULL))
                found[f"ingest_packed_{samples}"] = Pair(
                    whole["rate"] * samples, limit["rate"] * samples, _details(whole)
                )
            yield found


def _details(figures: dict[str, Any]) -> dict[str, float]:
    return {"cpu_us_per_message": figures["cpu_us"], "rss_mb": figures["rss_mb"]}

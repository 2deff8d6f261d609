"""The check of the check: the product broken on purpose in three ways, each of which must make its row fail as fits.

Beside each, the product as it is stands a slice of the same.
"""

from dataclasses import replace
from typing import Final

from faults.catalogue.broker import stale_ack
from faults.catalogue.devices import duplicate_storm
from faults.catalogue.process import kill9_loop
from faults.registry import fault
from faults.rig import Outcome, Rig

PATIENCE_S: Final = 5.0
"""What a broken product has lost does not come, however long one waits."""


@fault(
    "M1",
    "early-ack",
    "the product acknowledges before the journal is durable; then as kill9-loop",
    "messages are lost, and kill9-loop finds it",
    shows=lambda broken: broken.lost > 0,
    unbroken=kill9_loop,
)
def early_ack(rig: Rig) -> Outcome:
    """Play F1 on a product that trusts its buffers."""
    return kill9_loop(replace(rig, launcher="faults.launchers.acknowledges_early", quick=True, patience_s=PATIENCE_S))


@fault(
    "M6",
    "no-epoch",
    "the product acknowledges on the next connection what the last one delivered; then as stale-ack",
    "messages are acknowledged that were never journalled, and stale-ack finds it",
    shows=lambda broken: broken.stale > 0,
    unbroken=stale_ack,
)
def no_epoch(rig: Rig) -> Outcome:
    """Play F6 on a product that does not know to which connection a packet id belongs."""
    return stale_ack(
        replace(rig, launcher="faults.launchers.carries_acknowledgements", quick=True, patience_s=PATIENCE_S)
    )


@fault(
    "M14",
    "no-dedup",
    "the product takes every frame as new; then as duplicate-storm",
    "messages are counted twice, and duplicate-storm finds it",
    shows=lambda broken: broken.duplicates_stored > 0,
    unbroken=duplicate_storm,
)
def no_dedup(rig: Rig) -> Outcome:
    """Play F14 on a product that remembers nothing."""
    return duplicate_storm(
        replace(rig, launcher="faults.launchers.takes_everything_as_new", quick=True, patience_s=PATIENCE_S)
    )

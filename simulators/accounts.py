"""What became of the messages of each device, and how late they left."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

EDGES_NS: Final = [1e5 * 1.25**nth for nth in range(150)]
"""Upper edges of the bins of a lag, ns; the last is beyond anything that is measured."""


class Outgoing(Protocol):
    """What a publisher needs to know of a message."""

    @property
    def due_ns(self) -> int:
        """When it was to be sent, ns UTC."""

    @property
    def device(self) -> int:
        """Number of its device, from 0."""

    @property
    def seq(self) -> int:
        """Its sequence number within the device."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def payload(self) -> bytes:
        """Its bytes."""

    @property
    def retain(self) -> bool:
        """Whether the broker keeps it as the topic's state."""


@dataclass(slots=True)
class Account:
    """What the broker has acknowledged of one device; sequence numbers are -1 before the first acknowledgement."""

    sent: int = 0
    acked: int = 0
    first_seq: int = -1
    last_seq: int = -1


@dataclass(slots=True)
class Lag:
    """How late messages left: a histogram of (send − due) with bins that grow by a quarter from 0.1 ms."""

    count: int = 0
    latest_ns: int = 0
    largest_ns: int = 0
    worst_ns: int = 0
    """The largest since it was last set to 0."""
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, lag_ns: int, times: int = 1) -> None:
        """Count a lag so many times; early is on time."""
        lag_ns = max(lag_ns, 0)
        if lag_ns > self.worst_ns:
            self.worst_ns = lag_ns
            # Never set back, so never less than what is.
            self.largest_ns = max(self.largest_ns, lag_ns)
        self.count += times
        self.latest_ns = lag_ns
        which = bisect_left(EDGES_NS, lag_ns)
        self.bins[which] = self.bins.get(which, 0) + times

    def merge(self, other: "Lag") -> None:
        """Count everything that ``other`` has counted."""
        self.count += other.count
        self.largest_ns = max(self.largest_ns, other.largest_ns)
        for which, count in other.bins.items():
            self.bins[which] = self.bins.get(which, 0) + count

    def quantile_ms(self, share: float) -> float:
        """Return the upper edge of the bin that holds the ``share`` quantile, ms."""
        wanted, seen = share * self.count, 0
        for which in sorted(self.bins):
            seen += self.bins[which]
            if seen >= wanted:
                return round(min(EDGES_NS[which], self.largest_ns) / 1e6, 3)
        return 0.0

    def summary(self) -> dict[str, float]:
        """Return median, tails and maximum, ms."""
        tails = {f"p{round(share * 100)}": self.quantile_ms(share) for share in (0.5, 0.95, 0.99)}
        return {**tails, "max": round(self.largest_ns / 1e6, 3)}


class HasAccounts(Protocol):
    """A publisher, or whatever else keeps an account for each device."""

    accounts: list[Account]


def devices_of(publisher: HasAccounts, uids: Sequence[str], boots: Sequence[int]) -> dict[str, dict[str, int]]:
    """Return the ledger: uid → boot, messages sent and acknowledged, first and last sequence number acknowledged."""
    return {
        uid: {
            "boot": boot,
            "sent": account.sent,
            "acked": account.acked,
            "first_seq": account.first_seq,
            "last_seq": account.last_seq,
        }
        for uid, boot, account in zip(uids, boots, publisher.accounts, strict=True)
    }

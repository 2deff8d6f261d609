"""The ledger: every frame and every sample of a device ends in exactly one account."""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np

from devices.columns import Ints
from store.interface import LedgerRow


class Account(IntEnum):
    """Where a frame or a sample can end; the value is its row in the ledger's arrays."""

    WINDOWED = 0
    MERGED_LATE = 1
    DUPLICATE = 2
    QUARANTINED = 3
    SHED = 4


NAMES: Final = {account: account.name.lower() for account in Account}
_QUARANTINED: Final = 1 + Account.QUARANTINED
_TOLD: Final = ("received", *NAMES.values(), "lost_before_journal")


class DeviceAccounts(msgspec.Struct, array_like=True):
    """The accounts of one device, as they rest in a checkpoint."""

    received: tuple[int, int]
    """Frames and samples received."""
    frames: list[int]
    """Frames by :class:`Account`."""
    samples: list[int]
    """Samples by :class:`Account`."""
    reasons: dict[str, tuple[int, int]]
    """Reason for quarantine → frames and samples."""
    flags: dict[str, int] = {}
    """Flag → readings that carried it, none of which was lost for it."""


class Ledger:
    """Counts by device index; index 0 stands for frames whose topic names no device."""

    def __init__(self) -> None:
        """Start with empty accounts."""
        self._received: Ints = np.zeros((2, 64), np.int64)
        self._accounts: Ints = np.zeros((2, len(Account), 64), np.int64)
        self._reasons: dict[int, Counter[tuple[str, bool]]] = {}
        self._flags: dict[int, Counter[str]] = {}
        self._told: Ints = np.full((2, len(_TOLD), 64), -1, np.int64)
        """Frames and samples by :data:`_TOLD` as :meth:`take_rows` returned them last, -1 where it did not yet."""

    def grow(self, devices: int) -> None:
        """Make room for at least ``devices`` devices."""
        more = devices - self._received.shape[1]
        if more > 0:
            more = max(more, self._received.shape[1])
            self._received = np.concatenate([self._received, np.zeros((2, more), np.int64)], axis=1)
            self._accounts = np.concatenate([self._accounts, np.zeros((2, len(Account), more), np.int64)], axis=2)
            self._told = np.concatenate([self._told, np.full((2, len(_TOLD), more), -1, np.int64)], axis=2)

    def receive(self, device: Ints, samples: Ints) -> None:
        """Count frames received: device indices (n,) and the number of samples in each (n,)."""
        np.add.at(self._received[0], device, 1)
        np.add.at(self._received[1], device, samples)

    def receive_samples(self, device: Ints, samples: Ints) -> None:
        """Count samples (n,) received in frames that are counted elsewhere."""
        np.add.at(self._received[1], device, samples)

    def book(self, account: Account, device: Ints, samples: Ints) -> None:
        """Book frames (n,) with ``samples`` (n,) each to an account."""
        np.add.at(self._accounts[0, account], device, 1)
        np.add.at(self._accounts[1, account], device, samples)

    def book_samples(self, account: Account, device: Ints, samples: Ints) -> None:
        """Book samples (n,) to an account, without their frames."""
        np.add.at(self._accounts[1, account], device, samples)

    def quarantine(self, device: int, reason: str, *, frames: int, samples: int) -> None:
        """Book a refusal: a whole frame with its samples, or (``frames`` = 0) single samples."""
        self._accounts[0, Account.QUARANTINED, device] += frames
        self._accounts[1, Account.QUARANTINED, device] += samples
        reasons = self._reasons.setdefault(device, Counter())
        reasons[reason, True] += frames
        reasons[reason, False] += samples

    def flag(self, device: int, flag: str) -> None:
        """Count a reading that is odd in a way that was no reason to refuse it."""
        self._flags.setdefault(device, Counter())[flag] += 1

    @property
    def received(self) -> int:
        """Frames received."""
        return int(self._received[0].sum())

    def balanced(self) -> bool:
        """Tell whether, for every device, frames and samples received equal the sum of their accounts."""
        return not self.unbalanced()

    def unbalanced(self) -> list[int]:
        """Return the indices of the devices of which frames or samples received differ from the sum of accounts."""
        differs = (self._received != self._accounts.sum(axis=1)).any(axis=0)
        return np.flatnonzero(differs).tolist()

    def total(self, account: Account) -> int:
        """Return the frames in one account, over all devices."""
        return int(self._accounts[0, account].sum())

    def take_rows(self, devices: Sequence[tuple[int, str, int]]) -> list[LedgerRow]:
        """Return the rows of devices that differ from those returned last; each (index, uid, lost) as in :meth:`rows`.

        Mostly a frame changes two of the seven that a device has.
        """
        if not devices:
            return []
        index = np.array([device for device, _, _ in devices], np.int64)
        now = np.zeros((2, len(_TOLD), len(index)), np.int64)
        now[:, 0], now[:, 1:-1] = self._received[:, index], self._accounts[:, :, index]
        now[0, -1] = [lost for _, _, lost in devices]
        changed = (now != self._told[:, :, index]).any(axis=0)
        self._told[:, :, index] = now
        nths, accounts = np.nonzero(changed.T)
        frames, samples = now[:, accounts, nths].tolist()
        rows = [
            LedgerRow(uid=devices[nth][1], account=_TOLD[account], reason="", frames=frames[at], samples=samples[at])
            for at, (nth, account) in enumerate(zip(nths.tolist(), accounts.tolist(), strict=True))
            if account != _QUARANTINED
        ]
        for device, uid, _ in devices:
            if device in self._reasons or device in self._flags:
                rows += self._with_reasons(device, uid)
        return rows

    def rows(self, device: int, uid: str, lost: int) -> Iterator[LedgerRow]:
        """Yield the ledger rows of one device; ``lost`` is its number of frames that never reached the journal."""
        frames, samples = self._received[:, device].tolist()
        yield LedgerRow(uid=uid, account="received", reason="", frames=frames, samples=samples)
        for account, name in NAMES.items():
            if account is not Account.QUARANTINED:
                frames, samples = self._accounts[:, account, device].tolist()
                yield LedgerRow(uid=uid, account=name, reason="", frames=frames, samples=samples)
        yield from self._with_reasons(device, uid)
        yield LedgerRow(uid=uid, account="lost_before_journal", reason="", frames=lost, samples=0)

    def states(self, devices: Ints) -> Iterator[DeviceAccounts]:
        """Yield what a checkpoint keeps of each of the devices (n,)."""
        received = map(tuple, self._received[:, devices].T.tolist())
        accounts = self._accounts[:, :, devices].transpose(2, 0, 1).tolist()
        for device, frames_and_samples, (frames, samples) in zip(devices.tolist(), received, accounts, strict=True):
            flags = dict(self._flags.get(device, {}))
            yield DeviceAccounts(frames_and_samples, frames, samples, self._by_reason(device), flags)

    def restore(self, device: int, accounts: DeviceAccounts) -> None:
        """Put back what :meth:`states` gave of it."""
        self._received[:, device] = accounts.received
        self._accounts[0, :, device] = accounts.frames
        self._accounts[1, :, device] = accounts.samples
        reasons = self._reasons[device] = Counter()
        for reason, (frames, samples) in accounts.reasons.items():
            reasons[reason, True], reasons[reason, False] = frames, samples
        if accounts.flags:
            self._flags[device] = Counter(accounts.flags)

    def _with_reasons(self, device: int, uid: str) -> Iterator[LedgerRow]:
        """Yield the rows of what was refused or flagged, by why."""
        for reason, (frames, samples) in self._by_reason(device).items():
            yield LedgerRow(uid=uid, account="quarantined", reason=reason, frames=frames, samples=samples)
        for flag, readings in sorted(self._flags.get(device, Counter()).items()):
            yield LedgerRow(uid=uid, account="flagged", reason=flag, frames=readings, samples=0)

    def _by_reason(self, device: int) -> dict[str, tuple[int, int]]:
        reasons = self._reasons.get(device)
        if reasons is None:
            return {}
        return {reason: (reasons[reason, True], reasons[reason, False]) for reason in sorted({r for r, _ in reasons})}

"""What may be expected to fail: each failure's exit status. Exit status 1: failed, 2: usage, 3: something unreachable.

The failures are named, not imported: a process loads the parts that it runs, and an ingest worker that stays for months
would otherwise hold the memory of the simulators and of everything else that can fail.
"""

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

STATUSES: Final = {
    "ingest.gateway.GatewayError": UNREACHABLE,
    "ingest.intake.SessionError": UNREACHABLE,
    "quayflow.broker.BrokerError": UNREACHABLE,
    "quayflow.certificates.CertificateError": USAGE,
    "quayflow.settings.SettingsError": USAGE,
    "quayflow.stack.StackError": UNREACHABLE,
    "quayflow.supervisor.ChildFailedError": UNREACHABLE,
    "simulators.profiles.ProfileError": USAGE,
    "simulators.readback.ReadBackError": UNREACHABLE,
    "simulators.broker.BrokerRefusesError": UNREACHABLE,
    "simulators.tracks.RecordingError": USAGE,
    "store.data_folder.DataFolderError": UNREACHABLE,
    "store.interface.StoreUnreachableError": UNREACHABLE,
    "store.journal.records.JournalError": FAILED,
    "store.open.StoreUrlError": USAGE,
}


def status_of(error: BaseException) -> int | None:
    """Return the exit status of a failure that is told in one sentence; None for one that nobody expected."""
    names = (f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__)
    return next((STATUSES[name] for name in names if name in STATUSES), None)

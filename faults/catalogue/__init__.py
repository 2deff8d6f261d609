"""The faults, by the part that they break. Importing this package enters them all into the registry."""

from faults.catalogue import broker, devices, disk, identity, mutations, process, releases, rubbish, simulated, stores

__all__ = [
    "broker",
    "devices",
    "disk",
    "identity",
    "mutations",
    "process",
    "releases",
    "rubbish",
    "simulated",
    "stores",
]

"""Every wire format by its name: what settings, the gateway and ``quayflow decode`` choose from."""

from collections.abc import Callable
from typing import Final

from devices.codecs.edifact import Edifact
from devices.codecs.epc import EpcCodes
from devices.codecs.impinj import Impinj
from devices.codecs.iso6346 import ContainerNumbers
from devices.codecs.jt808 import Jt808
from devices.codecs.llrp import Llrp
from devices.codecs.native_readings import Native
from devices.codecs.owntracks import OwnTracks
from devices.codecs.readings import Codec
from devices.codecs.sparkplug import Sparkplug
from devices.codecs.teltonika import Teltonika
from devices.codecs.tic40 import Tic40
from devices.codecs.tic40_flat import Tic40Flat
from devices.codecs.zebra import Zebra
from devices.times import parse_offset

CODECS: Final[dict[str, Callable[[], Codec]]] = {
    "native": Native,
    "tic40": Tic40,
    "tic40-flat": Tic40Flat,
    "impinj": Impinj,
    "zebra": Zebra,
    "llrp": Llrp,
    "epc": EpcCodes,
    "iso6346": ContainerNumbers,
    "edifact": Edifact,
    "sparkplug": Sparkplug,
    "jt808": Jt808,
    "teltonika": Teltonika,
    "owntracks": OwnTracks,
}
"""Name → factory. Codecs that remember (aliases, counters) do so per object: make one for each source."""


LOCAL: Final[dict[str, Callable[[int], Codec]]] = {
    "tic40": lambda offset_ns: Tic40(offset_ns=offset_ns),
    "tic40-flat": lambda offset_ns: Tic40Flat(offset_ns=offset_ns),
    "edifact": Edifact,
}
"""Formats whose times may have no zone: name → factory from the offset of their local time, ns ahead of UTC."""


STRICT: Final[dict[str, Callable[[], Codec]]] = {"jt808": lambda: Jt808(strict=True)}
"""Formats that are read in spite of what is wrong with a message, and flagged: name → factory that refuses it."""


def make_codec(name: str, zone: str = "", *, strict: bool = False) -> Codec:
    """Return a new codec; ``zone`` is the offset of times that have none, such as ``+08:00``.

    ``strict``: what could be read in spite of its faults is refused instead of flagged. ValueError names the codecs
    that there are, those whose times may have no zone, and those that can be strict.
    """
    factory = CODECS.get(name)
    if factory is None:
        raise ValueError(f"codec {name[:64]!r}: expected one of {', '.join(CODECS)}")
    if strict:
        if name not in STRICT:
            raise ValueError(f"strict: codec {name!r} has no such mode; those that have are {', '.join(STRICT)}")
        factory = STRICT[name]
    if not zone:
        return factory()
    if name not in LOCAL:
        raise ValueError(f"zone: codec {name!r} has times with a zone; those without are {', '.join(LOCAL)}")
    return LOCAL[name](parse_offset(zone))

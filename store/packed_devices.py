"""The devices of a commit, packed: as records, ten thousand of them take twenty megabytes until they are written."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, overload

import msgspec

from store.interface import DeviceRecord
from store.lots import Lots

DEVICE_FIELDS: Final = DeviceRecord.__struct_fields__
_encode = msgspec.msgpack.Encoder().encode
# Of no type but where a list would come for a tuple: as the floats that a Scalar declares, times in ns would lose their
# last digits.
_Latest = dict[str, tuple[int, Any]]
_decode = msgspec.msgpack.Decoder(
    tuple[tuple(_Latest if name == "latest" else Any for name in DEVICE_FIELDS)]  # type: ignore[misc]
).decode


class PackedDevices(Sequence[DeviceRecord]):
    """Records of devices, each made anew whenever it is asked for."""

    def __init__(self, devices: Iterable[DeviceRecord] = ()) -> None:
        """Pack the records, one after the other."""
        self._packed = Lots()
        for device in devices:
            self.add(device)

    def add(self, device: DeviceRecord) -> None:
        """Pack one more."""
        self._packed.add(_encode(msgspec.structs.astuple(device)))

    def __len__(self) -> int:
        """Return the number of devices."""
        return len(self._packed)

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """Yield the fields of each record in their order, which takes a fraction of what records take to make."""
        return map(_decode, self._packed)

    def __iter__(self) -> Iterator[DeviceRecord]:
        """Yield the records."""
        return map(_unpacked, self._packed)

    @overload
    def __getitem__(self, at: int) -> DeviceRecord: ...

    @overload
    def __getitem__(self, at: slice) -> list[DeviceRecord]: ...

    def __getitem__(self, at: int | slice) -> DeviceRecord | list[DeviceRecord]:
        """Return one record, or some."""
        if isinstance(at, slice):
            return [_unpacked(each) for each in self._packed[at]]
        return _unpacked(self._packed[at])


def _unpacked(packed: bytes) -> DeviceRecord:
    return DeviceRecord(**dict(zip(DEVICE_FIELDS, _decode(packed), strict=True)))


def device_of(fields: dict[str, Any]) -> DeviceRecord:
    """Return the record of fields that were decoded without types."""
    latest = {metric: (ts, value) for metric, (ts, value) in fields["latest"].items()}
    return DeviceRecord(**(fields | {"latest": latest}))

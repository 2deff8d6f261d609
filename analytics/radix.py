"""Sorting by small numbers: by radix, which numpy does for 16 bits and which costs a tenth of sorting by comparison."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from devices.columns import Ints

Keys = NDArray[np.unsignedinteger]
"""What is sorted by: numbers from 0 on, in as few bits as they need."""
NARROW: Final = 1 << 16
"""Numbers below this are sorted in one go."""


def narrowed(key: Ints, keys: int) -> Keys:
    """Return keys 0 ≤ key < ``keys`` ≤ 2**32 in the narrowest integers that hold them; shape (n,)."""
    if keys <= 1 << 8:
        return key.astype(np.uint8)
    return key.astype(np.uint16 if keys <= NARROW else np.uint32)


def order_by(*keys: Keys) -> Ints:
    """Return the positions (n,) in the order of the first key, then of the next …, equal ones as they came."""
    least, *others = (digit for key in reversed(keys) for digit in _digits(key))
    order = np.argsort(least, kind="stable")
    for digit in others:
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _digits(key: Keys) -> tuple[Keys, ...]:
    """Return a key in parts that are sorted in one go, the least first."""
    return (key,) if key.dtype != np.uint32 else (key.astype(np.uint16), (key >> 16).astype(np.uint16))

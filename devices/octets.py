"""Octets: many pieces of one run of bytes, cut at once."""

import numpy as np

from devices.columns import Ints


def cut(data: bytes, begin: Ints, end: Ints) -> list[bytes]:
    """Return the pieces of ``data`` from each ``begin`` up to its ``end``; arrays of shape (n,), within the data.

    Devices repeat themselves: pieces of one length at even distances are cut by numpy, in a quarter of the time.
    """
    if len(begin) > 1:
        length, step = int(end[0] - begin[0]), int(begin[1] - begin[0])
        if length > 0 and step > 0 and (end - begin == length).all() and (np.diff(begin) == step).all():
            pieces: list[bytes] = np.ndarray((len(begin),), f"V{length}", data, int(begin[0]), (step,)).tolist()
            return pieces
    return [data[b:e] for b, e in zip(begin.tolist(), end.tolist(), strict=True)]

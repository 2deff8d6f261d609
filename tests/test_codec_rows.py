"""The rows of the codecs can be taken; what they say is `make bench`."""

import pytest
from rich.console import Console

from bench.__main__ import take
from bench.registry import Scale, chosen


@pytest.mark.parametrize("first", ["codec_native_msgpack", "codec_tic40", "codec_llrp"])
def test_every_row_of_a_codec_has_a_figure(first: str) -> None:
    [group] = chosen(first)
    found = take(group, 1, Scale(quick=True), Console(quiet=True))
    for row in group.rows:
        assert found[row.name][0].value > 0
        assert found[row.name][0].reference > 0

"""Broken messages against every codec: a slice of what `python -m bench.fuzz` does by the million."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.frames import FRAMES
from bench.fuzz import MAX_PEAK, check, main, mutations, peak_of, search
from devices.codecs.readings import Reading
from devices.codecs.registry import CODECS, make_codec
from devices.rejects import Reason, RejectError

SLICE = 4_000
PIPELINE_SLICE = 2_500
every_codec = pytest.mark.parametrize("name", FRAMES)


@every_codec
def test_the_made_messages_are_all_good(name: str) -> None:
    for frame in FRAMES[name]:
        readings = make_codec(name).decode(frame)
        assert readings
        refused = {reject.reason for reading in readings for reject in reading.refused}
        # What is trapped on purpose is refused for its age alone.
        assert refused <= ({Reason.STALE} if name == "tic40" else set())


@every_codec
def test_a_broken_message_is_read_or_refused_and_nothing_else(name: str) -> None:
    codec = make_codec(name)
    for payload in mutations(FRAMES[name], SLICE, seed=7):
        assert check(codec, payload) == "", payload.hex()


@every_codec
def test_a_broken_message_is_booked_and_what_it_says_can_be_kept(name: str) -> None:
    assert search(name, PIPELINE_SLICE, seed=7) == ""


@every_codec
def test_a_broken_message_needs_little_memory(name: str) -> None:
    assert peak_of(make_codec(name), list(mutations(FRAMES[name], 100, seed=8))) < MAX_PEAK


@pytest.mark.parametrize("name", CODECS)
@given(payload=st.binary(max_size=400))
def test_noise_is_read_or_refused_and_nothing_else(name: str, payload: bytes) -> None:
    assert check(make_codec(name), payload) == ""


@pytest.mark.parametrize("name", CODECS)
def test_json_of_every_kind_is_read_or_refused_and_nothing_else(name: str, recorded: Path) -> None:
    codec = make_codec(name)
    for path in (recorded / "robustness" / "JSONTestSuite" / "test_parsing").iterdir():
        assert check(codec, path.read_bytes()) == "", path.name
    for text in json.loads((recorded / "robustness" / "blns.json").read_text()):
        assert check(codec, text.encode()) == "", text


@pytest.mark.parametrize("name", ["tic40", "tic40-flat", "impinj", "zebra"])
def test_what_is_no_json_is_refused_and_what_is_json_is_not_called_undecodable(name: str, recorded: Path) -> None:
    refused, decodable = 0, 0
    for path in (recorded / "robustness" / "JSONTestSuite" / "test_parsing").iterdir():
        with pytest.raises(RejectError) as caught:
            make_codec(name).decode(path.read_bytes())
        if path.name.startswith("n_"):
            refused += 1
        if path.name.startswith("y_"):
            decodable += caught.value.reject.reason is not Reason.UNDECODABLE
    assert (refused, decodable) == (188, 95)


def test_the_check_finds_what_is_wrong() -> None:
    class Broken:
        name = "broken"

        def decode(self, payload: bytes, topic: str = "") -> list[Reading]:
            if payload == b"3":
                raise KeyError("oops")
            return {b"0": [], b"1": [Reading(values={"nonsense": 1})], b"2": [Reading(seq=-1)]}.get(
                payload, [Reading()]
            )

    wrong = [check(Broken(), str(nth).encode()) for nth in range(5)]
    assert wrong == [
        "neither a reading nor a reject",
        "nonsense is no metric of a device",
        "seq -1",
        "KeyError: 'oops'",
        "",
    ]


def test_the_command_counts_and_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--codec", "epc,iso6346", "--mutations", "50", "--pipeline", "50"]) == 0
    assert capsys.readouterr().out.count("50 mutations") == 2
    with pytest.raises(SystemExit):
        main(["--codec", "morse"])

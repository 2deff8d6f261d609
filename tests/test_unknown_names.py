"""A name that is no metric comes back from its refusal as it was sent, with a command that can be copied."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_frames import assert_every_frame_is_booked, frame, numbered, pipeline_of, topic

from devices.codecs.texts import number_of
from devices.rejects import Reason
from devices.unknown_names import MAX_NAME, Unknown, adopt_command, is_adoptable, quoted, refusal_of, unknown_in
from devices.vocabulary import BY_NAME, DeviceClass
from ingest.pipeline import Pipeline
from ingest.sources import Source
from store.admission import admission_of
from store.registry_entries import Adoption, EntryError, entry_of

UID = "CNNGB-DEMO/quay-crane/QC01"
ODD = [
    "hoist mm",
    "it's",
    'say "no"',
    "$(reboot)",
    "`id`",
    "a\nb",
    "\x1b[31mred",
    "起升 高度",
    "-x",
    "\\",
    "a;b",
    "*",
    "'",
]


@given(st.text(max_size=400), st.none() | st.text(max_size=60) | st.floats() | st.booleans() | st.integers())
def test_a_name_comes_back_as_it_was_sent(name: str, value: str | float | None) -> None:
    found = unknown_in(refusal_of(UID, name, value))
    assert (found.name if found else None) == (name if is_adoptable(name) else None)
    without = unknown_in(refusal_of(UID, name))
    assert without == (Unknown(name, "") if is_adoptable(name) else None)


@pytest.mark.parametrize("name", [*ODD, "n" * MAX_NAME])
def test_a_shell_gives_the_command_s_words_as_they_are_meant(name: str) -> None:
    command = adopt_command(UID, name, "hoist_height_m", "--scale", "0.001")
    assert command in refusal_of(UID, name).replace("METRIC", "hoist_height_m").replace(
        "adopt ", "adopt --scale 0.001 "
    )
    script = f'quayflow() {{ printf "%s\\0" "$@"; }}; {command}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True, timeout=20)
    words = done.stdout.decode().split("\0")[:-1]
    dashes = ["--"] if name.startswith("-") else []
    assert words == ["device", "adopt", "--scale", "0.001", UID, *dashes, name, "hoist_height_m"]


def test_what_is_printable_is_quoted_for_every_shell() -> None:
    assert [quoted(name) for name in ("plain", "it's", "a b")] == [
        shlex.quote(name) for name in ("plain", "it's", "a b")
    ]
    assert all(quoted(name).isprintable() for name in ODD)


@pytest.mark.parametrize("name", ["", "a" * (MAX_NAME + 1), "a\0b", "\ud800"])
def test_a_name_that_no_registry_can_hold_has_no_command(name: str) -> None:
    detail = refusal_of(UID, name, 1.5)
    assert ("adopt" in detail, "it was 1.5" in detail, unknown_in(detail)) == (False, True, None)
    with pytest.raises(EntryError, match=r"name|Expected|surrogates"):
        entry_of("adoption", {"device": UID, "name": name, "metric": "load_t"})


@pytest.mark.parametrize("detail", ["", "load_t: 7", '"quoted" is something else', "7 is not a metric of a", "null"])
def test_other_refusals_name_nothing(detail: str) -> None:
    assert unknown_in(detail) is None


def foreign(value: str, metric: str) -> Pipeline:
    """What becomes of a text under a name that TIC 4.0 does not have, adopted for ``metric``."""
    pipeline = pipeline_of(sources=(Source("tic40", "CNNGB-DEMO", DeviceClass.QUAY_CRANE, ("tic/#",)),))
    name = "che.winch.thing"
    pipeline.admit(admission_of([Adoption(device=UID, name=name, metric=metric, scale=2.0)]))
    machine = {"id": "QC01", "type": "STS", "winch": {"thing": [{"value": value}]}}
    body = {"msg": {"timestamp": "2026-11-23T08:00:00Z"}, "che": [machine]}
    pipeline.process(numbered([frame(topic("quay-crane", "QC01", "tic40"), body)]))
    assert_every_frame_is_booked(pipeline, 1)
    return pipeline


@pytest.mark.parametrize(
    ("text", "metric", "number"),
    [("3.5", "load_t", 7.0), (" 12 ", "load_t", 24.0), ("1e1", "load_t", 20.0), ("moving to deliver", "job_step", 4.0)],
)
def test_a_text_under_an_adopted_name_is_a_number_if_it_says_one(text: str, metric: str, number: float) -> None:
    assert number_of(text, BY_NAME[metric]) * (1 if metric == "job_step" else 2) == number
    if metric == "load_t":
        assert foreign(text, metric).take_quarantine() == []


@pytest.mark.parametrize(("text", "number"), [("True", 1), ("off", 0), ("YES", 1), ("1", 1), ("0", 0)])
def test_a_text_under_a_name_adopted_for_a_state_may_be_a_word(text: str, number: int) -> None:
    assert number_of(text, BY_NAME["spreader_locked"]) == number
    refused = foreign(text, "spreader_locked").take_quarantine()
    # Scaled by 2, a state that holds is out of its range: the conversion comes first.
    assert [each.reason for each in refused] == ([Reason.OUT_OF_RANGE] if number else [])


@pytest.mark.parametrize("text", ["True", "abc", "3,5", "nan", "inf", "1e999"])
def test_a_text_that_says_no_number_is_refused_by_name(text: str) -> None:
    (refused,) = foreign(text, "load_t").take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.WRONG_TYPE, "/che.winch.thing")
    assert repr(text) in refused.detail

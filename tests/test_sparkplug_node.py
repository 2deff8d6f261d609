"""Sparkplug nodes: what they write is what the codec reads, through births, rebirths, wraps and deaths."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.codecs.readings import Reading
from devices.codecs.sparkplug import REBIRTH, Sparkplug
from devices.codecs.sparkplug_node import EdgeNode, Publication
from devices.codecs.sparkplug_payloads import BOOLEAN, Metric, read, write
from devices.times import NS

T0 = 1_795_421_730 * NS
MS = 1_000_000
EDGE, CRANE = "quay:QC01", "quay:QC01:plc"
NAMES = ("hoist_height_m", "load_t", "spreader_locked", "wind_speed_mps", "power_kw")

reports = st.lists(
    st.dictionaries(
        st.sampled_from(NAMES), st.floats(-1e9, 1e9, allow_nan=False) | st.booleans(), min_size=1, max_size=5
    ),
    min_size=1,
    max_size=40,
)


def edge() -> EdgeNode:
    return EdgeNode("quay", "QC01", "plc", life=3)


def rebirth() -> bytes:
    return write(1, None, [Metric(REBIRTH, datatype=BOOLEAN, value=True)])


def heard(codec: Sparkplug, publications: list[Publication]) -> list[Reading]:
    return [reading for one in publications for reading in codec.decode(one.payload, one.topic)]


def kinds(publications: list[Publication]) -> list[str]:
    return [one.topic.split("/")[2] for one in publications]


@given(reports, st.sets(st.integers(0, 39)))
def test_what_a_node_tells_is_what_the_host_reads(told: list[dict[str, float | bool]], again: set[int]) -> None:
    node, codec = edge(), Sparkplug()
    for nth, values in enumerate(told):
        if nth in again:
            assert node.command(rebirth())
        at = T0 + nth * 200 * MS
        readings = heard(codec, node.tell(at, values))
        of_crane = [reading for reading in readings if reading.device == CRANE]
        assert [reading.values for reading in of_crane] == [values]
        assert {type(value) for value in values.values()} == {type(value) for value in of_crane[0].values.values()}
        assert {reading.ts for reading in readings} == {at}
        assert set(of_crane[0].flags) <= {"null"}
        assert not of_crane[0].unknown
        assert not of_crane[0].refused
    assert node.births == 1 + len({nth for nth in again if 0 < nth < len(told)})
    assert codec.wants(T0 + 3_600 * NS) == []


def test_births_come_first_and_again_when_asked_and_for_something_new() -> None:
    node = edge()
    assert kinds(node.tell(T0, {"load_t": 1.0})) == ["NBIRTH", "DBIRTH"]
    assert kinds(node.tell(T0, {"load_t": 2.0})) == ["DDATA"]
    assert kinds(node.tell(T0, {"load_t": 2.0, "power_kw": 3.0})) == ["DBIRTH"]
    assert kinds(node.tell(T0, {"power_kw": 3.0})) == ["DDATA"]
    assert node.command(rebirth())
    born = node.tell(T0, {"load_t": 4.0})
    assert kinds(born) == ["NBIRTH", "DBIRTH"]
    assert [read(one.payload).seq for one in born] == [0, 1]
    assert [(each.name, each.alias, each.value) for each in read(born[1].payload).metrics] == [
        ("load_t", 1, 4.0),
        ("power_kw", 2, None),
    ]


def test_the_number_wraps_and_no_message_is_missing() -> None:
    node, codec = edge(), Sparkplug()
    publications = [one for nth in range(700) for one in node.tell(T0 + nth * NS, {"load_t": float(nth)})]
    numbers = [read(one.payload).seq for one in publications]
    assert numbers == [nth % 256 for nth in range(701)]
    counted = [reading.seq for reading in heard(codec, publications) if reading.device == EDGE]
    assert counted == list(range(701))
    assert codec.wants(T0) == codec.wants(T0 + 60 * NS) == []


def test_a_missing_message_is_asked_for_and_a_rebirth_ends_it() -> None:
    node, codec = edge(), Sparkplug()
    publications = list(itertools.chain.from_iterable(node.tell(T0, {"load_t": float(nth)}) for nth in range(5)))
    del publications[3]
    heard(codec, publications)
    assert codec.wants(T0) == []
    (asked,) = codec.wants(T0 + 5 * NS)
    assert asked.topic == node.command_topic == "spBv1.0/quay/NCMD/QC01"
    assert node.command(asked.payload)
    [first, *_] = heard(codec, node.tell(T0 + NS, {"load_t": 9.0}))
    assert (first.device, first.seq, first.online) == (EDGE, 0, True)
    assert codec.wants(T0 + 3_600 * NS) == []


def test_a_death_names_its_birth_and_the_next_life_has_another_number() -> None:
    node, codec = edge(), Sparkplug()
    heard(codec, node.tell(T0, {"load_t": 1.0}))
    death = node.death(T0 + NS)
    assert read(death.payload).seq is None
    gone = codec.decode(death.payload, death.topic)
    assert [(reading.device, reading.online) for reading in gone] == [(EDGE, False), (CRANE, False)]
    again = node.tell(T0 + 2 * NS, {"load_t": 1.0})
    assert kinds(again) == ["NBIRTH", "DBIRTH"]
    assert read(again[0].payload).metrics[0].value == 4
    heard(codec, again)
    # The certificate of the life before says nothing of this one.
    [late] = codec.decode(death.payload, death.topic)
    assert (late.online, late.flags) == (None, ("old_death",))


@pytest.mark.parametrize("payload", [b"", b"\xff", write(1, 0, [Metric(REBIRTH, datatype=BOOLEAN, value=False)])])
def test_other_commands_ask_for_nothing(payload: bytes) -> None:
    node = edge()
    node.tell(T0, {"load_t": 1.0})
    assert not node.command(payload)
    assert kinds(node.tell(T0, {"load_t": 1.0})) == ["DDATA"]


@pytest.mark.parametrize("name", ["", "a/b", "+", "#"])
def test_a_name_that_is_no_level_of_a_topic_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="level of a topic"):
        EdgeNode("quay", name, "plc")

"""Since when ingest listens: a break is none of the devices' silence."""

from ingest.attention import PATIENCE, Attention

NS = 1_000_000_000
T0 = 1_780_000_000 * NS


def listening(until: int) -> Attention:
    """Return one that has listened and was asked every second from T0 until a time, s."""
    attention = Attention()
    attention.turn_to(T0)
    for second in range(until + 1):
        attention.since(T0 + second * NS)
    return attention


def test_it_listens_since_it_first_turned_to_the_broker() -> None:
    assert listening(100).since(T0 + 100 * NS) == T0


def test_before_it_first_listens_nobody_is_silent() -> None:
    attention = Attention()
    assert attention.since(T0) == T0
    assert attention.since(T0 + NS) == T0


def test_what_takes_less_than_a_second_is_no_break() -> None:
    attention = listening(100)
    attention.leave(T0 + 100 * NS)
    assert attention.since(T0 + 101 * NS) == T0
    attention.turn_to(T0 + 101 * NS)
    assert attention.since(T0 + 101 * NS) == T0


def test_while_it_is_away_nobody_is_silent_and_it_listens_anew_when_it_is_back() -> None:
    attention = listening(100)
    attention.leave(T0 + 100 * NS)
    # Again and again, as when the broker cannot be reached.
    attention.leave(T0 + 105 * NS)
    for second in range(102, 160):
        assert attention.since(T0 + second * NS) == T0 + second * NS
    attention.turn_to(T0 + 160 * NS)
    assert attention.since(T0 + 160 * NS) == attention.since(T0 + 161 * NS) == T0 + 160 * NS


def test_a_process_that_stood_still_listens_anew() -> None:
    attention = listening(100)
    assert attention.since(T0 + 140 * NS) == attention.since(T0 + 141 * NS) == T0 + 140 * NS


def test_who_stays_away_for_too_long_is_waited_for_no_more() -> None:
    attention = listening(100)
    attention.leave(T0 + 100 * NS)
    for ns in range(T0 + 100 * NS, T0 + 100 * NS + PATIENCE + 1, NS):
        attention.since(ns)
    late = T0 + 101 * NS + PATIENCE
    assert attention.since(late) == T0
    attention.turn_to(late)
    assert attention.since(late) == late

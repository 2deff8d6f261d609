"""Packed blocks say the same as the same values sent one by one."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.blocks
from analytics.rows import TIERS_S, WindowRows, fold
from devices.codecs.native import Block, Telemetry, decode_block, encode
from devices.rejects import Reason, RejectError
from devices.times import NS
from ingest.blocks import MAX_ROWS
from ingest.pipeline import Pipeline, PipelineConfig
from store.journal import Frame

TOPIC = "port/CNNGB-DEMO/quay-crane/QC01/telemetry"
START = 1_767_225_600 * NS
NAMES = ("hoist_height_m", "trolley_position_m", "load_t", "spreader_locked")


def frame(payload: bytes, number: int = 0, at: int = START + 60 * NS) -> Frame:
    return Frame(number * 1_000, at, 1, 1, TOPIC, payload)


def block(values: list[list[float]], *, seq: int = 0, t0: int = START, dt: int = NS // 10, **changes: object) -> bytes:
    names = NAMES[: len(values[0])]
    packed = np.array(values, "<f4").tobytes()
    made = Block(v=1, t0=t0, dt=dt, names=names, f32=packed, boot=1, seq=seq)
    return msgspec.msgpack.encode(msgspec.to_builtins(made, builtin_types=(bytes,)) | changes)


def one_by_one(values: list[list[float]], *, first_seq: int = 0, t0: int = START, dt: int = NS // 10) -> list[Frame]:
    rounded = np.array(values, "<f4").astype(float).tolist()
    return [
        frame(
            encode(
                Telemetry(
                    v=1,
                    m=dict(zip(NAMES, row, strict=False)),
                    boot=1,
                    seq=first_seq + number,
                    ts=t0 + number * dt,
                )
            ),
            number,
        )
        for number, row in enumerate(rounded)
    ]


def rows_after(frames: list[Frame]) -> tuple[WindowRows, Pipeline]:
    pipeline = Pipeline("w1", 1, PipelineConfig())
    pipeline.process(frames)
    pipeline.tick(START + 600 * NS)
    rows = pipeline.take_rows(1)
    folded = [fold(rows.take(rows.tier_s == tier_s)) for tier_s in TIERS_S]
    return WindowRows.concatenate(folded), pipeline


def values_of(rows: WindowRows) -> set[tuple[object, ...]]:
    """What rows say, but for the sequence numbers, of which a block has one where single messages have many."""
    columns = ("tier_s", "window", "count", "sum", "min", "max", "first_ts", "first", "last_ts", "last")
    arrays = [getattr(rows, name).tolist() for name in columns]
    names = [rows.keys[index].metric for index in rows.series.tolist()]
    return set(zip(names, *arrays, strict=True))


values = st.lists(
    st.tuples(
        st.floats(-50, 100, width=32),
        st.floats(-100, 200, width=32),
        st.floats(0, 60, width=32),
        st.sampled_from([0, 1]),
    ).map(list),
    min_size=1,
    max_size=300,
)


@settings(max_examples=60)
@given(values, st.integers(0, 20 * NS), st.sampled_from([NS // 10, NS // 3, 7 * NS, 25 * NS]))
def test_block_windows_like_its_values_one_by_one(rows: list[list[float]], shift: int, dt: int) -> None:
    rows = rows[: 1 + 60 * NS // dt]
    packed, with_block = rows_after([frame(block(rows, t0=START + shift, dt=dt), at=START + 200 * NS)])
    single, one_each = rows_after(
        [each._replace(recv_ts=START + 200 * NS) for each in one_by_one(rows, t0=START + shift, dt=dt)]
    )
    assert values_of(packed) == values_of(single)
    assert with_block.ledger.balanced()
    assert with_block.samples == one_each.samples
    assert with_block.take_live() == one_each.take_live()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.permutations(NAMES), st.integers(1, 4), st.integers(1, 30)), min_size=1, max_size=12),
    st.integers(1, 400),
    st.integers(1, 40),
)
def test_blocks_of_any_shapes_and_names_in_one_batch_window_like_single_ones(
    shapes: list[tuple[list[str], int, int]], together: int, few: int
) -> None:
    frames = []
    for seq, (names, columns, rows) in enumerate(shapes):
        packed = [[float((seq * 7 + row * 3 + column) % 2) for column in range(columns)] for row in range(rows)]
        payload = block(packed, seq=seq, t0=START + seq * NS, names=tuple(names[:columns]))
        frames.append(frame(payload, seq))
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(ingest.blocks, "SIDE_BY_SIDE", together)
        changed.setattr(ingest.blocks, "FEW", few)
        stacked, _ = rows_after(frames)
    pipeline = Pipeline("w1", 1, PipelineConfig())
    for each in frames:
        pipeline.process([each])
    taken = pipeline.windows.take_rows(1)
    one_each = WindowRows.concatenate([fold(taken.take(taken.tier_s == tier_s)) for tier_s in TIERS_S])
    assert {each for each in values_of(stacked) if each[0] in NAMES} == values_of(one_each)


def test_sums_of_long_blocks_of_the_largest_values_are_exact() -> None:
    # 2**36 in steps that single precision can hold, one row more than are reduced at once, and an odd one among them.
    rows = MAX_ROWS + 1
    values = np.full((rows, 1), 4_999_999_488.0, "<f4")
    values[5], values[-1] = 0.1, 7.7
    made = Block(v=1, t0=START, dt=1_000, names=("odometer_m",), f32=values.tobytes(), boot=1, seq=0)
    found, pipeline = rows_after([frame(encode(made))._replace(topic="port/CNNGB-DEMO/vehicle/T1/telemetry")])
    of_metric = [found.keys[index].metric == "odometer_m" for index in found.series.tolist()]
    finest = found.take(np.array(of_metric) & (found.tier_s == TIERS_S[0]))
    assert finest.count.tolist() == [rows]
    assert finest.sum.tolist() == [(rows - 2) * 49_999_994_880 + 1 + 77]
    assert (finest.min.tolist(), finest.max.tolist()) == ([1], [49_999_994_880])
    assert pipeline.ledger.balanced()


def test_moves_are_found_in_blocks_too() -> None:
    lock = [[5.0, 30.0, 20.0, 1.0]] * 50 + [[5.0, -10.0, 20.0, 1.0]] * 50 + [[5.0, -10.0, 0.0, 0.0]] * 20
    _, pipeline = rows_after([frame(block([[5.0, 30.0, 0.0, 0.0], *lock]))])
    kinds = [(event.type, event.data["kind"]) for event in pipeline.take_events() if event.type == "crane_move"]
    assert kinds == [("crane_move", "discharge")]


def test_a_load_before_the_lock_is_not_carried_by_the_block_either() -> None:
    # Between two instants that detectors are shown: set down, then locked on something else, empty.
    values = [
        [1.0, 0.0, 0.0, 0.0],
        [1.0, 0.0, 50.0, 0.0],
        [1.0, 0.0, 0.0, 1.0],
        [1.0, 0.0, 0.0, 1.0],
        [1.0, 0.0, 0.0, 0.0],
    ]
    _, packed = rows_after([frame(block(values))])
    _, single = rows_after(one_by_one(values))
    assert [event.type for event in packed.take_events()] == [event.type for event in single.take_events()]


def test_bad_values_of_a_block_are_refused_and_the_others_count() -> None:
    nan = float("nan")
    rows, pipeline = rows_after([frame(block([[1.0, 2.0], [nan, 3.0], [5_000.0, 4.0], [2.0, 5.0]]))])
    found = {rows.keys[s].metric: n for s, n, t in zip(rows.series, rows.count, rows.tier_s, strict=True) if t == 10}
    assert found == {"hoist_height_m": 2, "trolley_position_m": 4}
    (refused,) = pipeline.take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.NOT_FINITE, "/f32/hoist_height_m/1")
    assert pipeline.ledger.balanced()
    ledger = {row.account: row.samples for row in pipeline.ledger_rows(pipeline.directory.devices[1:])}
    assert (ledger["received"], ledger["windowed"], ledger["quarantined"]) == (8, 6, 2)


def test_unknown_column_is_refused_by_name_and_the_others_count() -> None:
    payload = block([[1.0, 2.0], [1.5, 2.5]], names=("hoist_height_m", "mood"))
    rows, pipeline = rows_after([frame(payload)])
    assert {key.metric for key in rows.keys} >= {"hoist_height_m"}
    (refused,) = pipeline.take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.UNKNOWN_METRIC, "/names/1")
    assert pipeline.ledger.balanced()


def test_block_sent_again_changes_nothing() -> None:
    payload = block([[1.0, 2.0], [1.5, 2.5]])
    once, _ = rows_after([frame(payload)])
    twice, pipeline = rows_after([frame(payload), frame(payload, 1)])
    assert values_of(once) == values_of(twice)
    assert pipeline.ledger.balanced()


@pytest.mark.parametrize(
    ("changes", "reason", "pointer"),
    [
        ({"f32": b"\0" * 7}, Reason.WRONG_TYPE, "/f32"),
        ({"f32": b""}, Reason.WRONG_TYPE, "/f32"),
        ({"names": ()}, Reason.WRONG_TYPE, "/names"),
        ({"names": ("load_t", "load_t")}, Reason.WRONG_TYPE, "/names"),
        ({"dt": 0}, Reason.WRONG_TYPE, "/dt"),
        ({"dt": "1 s"}, Reason.WRONG_TYPE, "/dt"),
        ({"t0": None}, Reason.WRONG_TYPE, "/t0"),
        ({"ts": 5}, Reason.UNKNOWN_FIELD, "/ts"),
        ({"v": 2}, Reason.UNSUPPORTED_VERSION, "/v"),
    ],
)
def test_malformed_block_names_the_field(changes: dict[str, object], reason: Reason, pointer: str) -> None:
    with pytest.raises(RejectError) as refused:
        decode_block(block([[1.0, 2.0]], **changes))  # type: ignore[arg-type]
    assert (refused.value.reject.reason, refused.value.reject.pointer) == (reason, pointer)


def test_block_that_reaches_into_the_future_is_refused_as_a_whole() -> None:
    rows, pipeline = rows_after([frame(block([[1.0], [2.0]], dt=3_000 * NS))])
    assert not len(rows)
    (refused,) = pipeline.take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.CLOCK_FUTURE, "/dt")
    assert pipeline.ledger.balanced()


def test_value_whose_name_mentions_the_mark_is_no_block() -> None:
    _, pipeline = rows_after([frame(encode(Telemetry(v=1, m={"f32": 1.0, "load_t": 2.0}, boot=1, seq=0, ts=START)))])
    (refused,) = pipeline.take_quarantine()
    assert (refused.reason, refused.pointer) == (Reason.UNKNOWN_METRIC, "/m/f32")
    assert pipeline.samples == 1

"""The columnar store: what is read is what was written, and what is broken is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures.predicted_samples import META, assert_same, boxes_of, predicted_of
from hypothesis import given
from hypothesis import strategies as st

from bevstack.evaluation.predictions import writer as writer_module
from bevstack.evaluation.predictions.arrow import EARLIER_TYPES
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.predicted import TASKS, Predicted
from bevstack.evaluation.predictions.store import PredictionStore
from bevstack.evaluation.predictions.writer import PredictionWriter, write_predictions
from bevstack.evaluation.protocols import PROTOCOLS
from bevstack.types import OCC3D_GRID, BevGrid, Occupancy

TOKENS = [f"sample-{k}" for k in range(7)]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_predictions(tmp_path / "all.parquet", predicted_of(TOKENS), META)


def test_every_task_is_read_as_it_was_written_to_the_last_bit(store: Path) -> None:
    opened = PredictionStore(store)
    assert opened.tasks == TASKS and opened.sample_tokens == tuple(TOKENS) and opened.meta == META
    assert_same(opened.read(), predicted_of(TOKENS))
    assert opened.read("map", "planning").tasks == ("planning", "map")


def test_a_store_without_the_origins_of_its_plans_is_read_all_the_same(store: Path, tmp_path: Path) -> None:
    table = pq.read_table(store)
    place, plans = table.schema.get_field_index("planning"), table.column("planning").combine_chunks()
    earlier = EARLIER_TYPES["planning"]
    column = pa.StructArray.from_arrays([plans.field(field.name) for field in earlier], fields=list(earlier))
    old = table.set_column(place, pa.field("planning", earlier, nullable=False), column)
    pq.write_table(old, tmp_path / "old.parquet", write_page_checksum=True)
    found, expected = PredictionStore(tmp_path / "old.parquet").read("planning"), predicted_of(TOKENS).planning
    assert found.planning.origins == () and len(expected.origins) == len(TOKENS)
    np.testing.assert_array_equal(found.planning.poses, expected.poses)


@given(seed=st.integers(0, 10**6), count=st.integers(0, 9), tasks=st.sets(st.sampled_from(TASKS)))
def test_any_samples_and_tasks_survive(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, tasks: set[str]
) -> None:
    written = predicted_of(TOKENS[:count] if count <= 7 else TOKENS, [task for task in TASKS if task in tasks], seed)
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    assert_same(PredictionStore(write_predictions(path, written, META)).read(), written)


def test_sample_by_sample_gives_the_same_as_all_at_once_and_row_groups_bound_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "ROW_GROUP_SAMPLES", 2)
    whole = predicted_of(TOKENS)
    with PredictionWriter(tmp_path / "streamed.parquet", META) as writer:
        for token in TOKENS:
            writer.add(whole.select([token]))
            assert len(writer._waiting) < 2
    opened = PredictionStore(tmp_path / "streamed.parquet")
    assert [len(part.sample_tokens) for part in opened.parts()] == [2, 2, 2, 1]
    assert_same(Predicted.concatenate(opened.parts()), whole)
    assert_same(opened.read(), whole)


def test_the_file_says_what_it_is_to_any_reader_of_parquet(store: Path) -> None:
    metadata = pq.read_schema(store).metadata
    said = json.loads(metadata[b"bevstack.predictions"])
    assert said["model"]["weights_sha256"] == "0" * 64 and said["data"]["hash"] == "abc"
    assert metadata[b"bevstack.config"].decode() == META.config
    assert set(said["protocols"]) <= set(PROTOCOLS)
    assert "det/nusc-cvpr19" in said["protocols"] and "occ/all-voxels" in said["protocols"]
    assert "occ/occ3d-miou" not in said["protocols"]
    boxes = pq.read_table(store, columns=["detection"]).column(0).to_pylist()
    first = predicted_of(TOKENS).detection.take(np.arange(1))
    place = first.sample_index[0]
    assert boxes[place][0]["x"] == first.translation[0, 0] and boxes[place][0]["score"] == first.score[0]


def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(store: Path) -> None:
    before = store.read_bytes()
    with pytest.raises(RuntimeError, match="cut"), PredictionWriter(store, META) as writer:
        writer.add(predicted_of(TOKENS[:2]))
        raise RuntimeError("cut")
    assert store.read_bytes() == before and list(store.parent.iterdir()) == [store]


def test_a_sample_twice_or_with_other_tasks_or_on_another_grid_is_refused(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "a.parquet", META) as writer:
        writer.add(predicted_of(["a"]))
        with pytest.raises(ValueError, match="sample a is there twice"):
            writer.add(predicted_of(["a"]))
        with pytest.raises(ValueError, match="sample b: field 'planning' must be in all samples"):
            writer.add(predicted_of(["b"], [task for task in TASKS if task != "planning"]))
        other = predicted_of(["c"])
        grid = BevGrid(x_range_m=(-3.0, 5.0), y_range_m=(-3.0, 3.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
        moved = type(other.map[0])(probabilities=other.map[0].probabilities, grid=grid)
        with pytest.raises(ValueError, match="sample c: 'map_grid' is .*before it was"):
            writer.add(replace(other, map=(moved,)))


def test_a_file_that_is_cut_short_is_refused_whatever_its_length(store: Path) -> None:
    content = store.read_bytes()
    for length in (0, 3, 100, len(content) // 2, len(content) - 1):
        store.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"all.parquet .{length} bytes. is no whole Parquet file"):
            PredictionStore(store)


@pytest.mark.parametrize("task", ["detection", "map", "occupancy"])
def test_a_flipped_bit_is_found_and_its_samples_and_field_are_named(store: Path, task: str) -> None:
    metadata = pq.read_metadata(store).row_group(0)
    chunks = (metadata.column(k) for k in range(metadata.num_columns))
    chunk = next(each for each in chunks if each.path_in_schema.startswith(task))
    content = bytearray(store.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 3] ^= 4
    store.write_bytes(content)
    opened = PredictionStore(store)
    with pytest.raises(ValueError, match=f"sample sample-0 .*field '{task}' is damaged"):
        opened.read()
    others = [each for each in TASKS if each != task]
    assert_same(opened.read(*others), replace(predicted_of(TOKENS), **{task: None}))


def test_the_damaged_one_of_many_large_arrays_is_named(tmp_path: Path) -> None:
    random, grid = np.random.default_rng(0), OCC3D_GRID
    grids = tuple(
        Occupancy(semantics=random.integers(0, 18, grid.shape_xyz).astype(np.uint8), grid=grid) for _ in TOKENS
    )
    store = write_predictions(tmp_path / "o.parquet", Predicted(sample_tokens=tuple(TOKENS), occupancy=grids), META)
    chunk = pq.read_metadata(store).row_group(0).column(1)
    content = bytearray(store.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size * 3 // 4] ^= 1
    store.write_bytes(content)
    with pytest.raises(ValueError, match=r"sample sample-4 .*field 'occupancy' is damaged"):
        PredictionStore(store).read()


def rewritten(store: Path, column: str, change: Callable[[list], object]) -> Path:
    """The store with one column changed as another program might write it."""
    table = pq.read_table(store)
    at = table.schema.get_field_index(column)
    values = table.column(at).to_pylist()
    change(values)
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    pq.write_table(table, store)
    return store


def a_box(values: list) -> dict:
    return next(boxes[0] for boxes in values if boxes)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("detection", lambda v: a_box(v).update(x=float("nan")), "box 0: field 'detection.x' is nan; must be finite"),
        ("detection", lambda v: a_box(v).update(width=0.0), "'detection.width' is 0.0; must be finite and positive"),
        ("detection", lambda v: a_box(v).update(class_index=10), "'detection.class_index' is 10; must be 0 to 9"),
        (
            "detection",
            lambda v: a_box(v).update(attribute_index=8),
            "'detection.attribute_index' is 8; must be -1 to 7",
        ),
        ("detection", lambda v: a_box(v).update(score=float("inf")), "'detection.score' is inf; must be finite"),
        ("tracking", lambda v: a_box(v).update(class_index=8), "'tracking.class_index' is 8; must be one of 0, 1"),
        ("tracking", lambda v: a_box(v).update(track_id=""), "'tracking.track_id' must be a text that names"),
        (
            "motion",
            lambda v: a_box(v)["points"].pop(),
            "field 'motion.points' is .*must be as many numbers",
        ),
        ("motion", lambda v: a_box(v)["probabilities"].__setitem__(0, -1.0), "'motion.probabilities' is -1.0; must be"),
        (
            "found_motion",
            lambda v: a_box(v).update(qw=float("nan")),
            "box 0: field 'found_motion.qw' is nan",
        ),
        ("planning", lambda v: v[2]["poses"].pop(), "sample-2: field 'planning.poses' is 17; must be 6 steps"),
        (
            "planning",
            lambda v: v[3].update(command_index=5),
            "sample-3: field 'planning.command_index' is 5; must be -1",
        ),
        ("map", lambda v: v[1].__setitem__(5, float("nan")), "sample-1: field 'map' must be probabilities from 0 to 1"),
        ("map", lambda v: v[1].pop(), "sample-1: field 'map' is 1151; must be 1152 numbers"),
        ("occupancy", lambda v: v.__setitem__(4, v[4][:-1]), "sample-4: field 'occupancy' has 1023 voxels"),
        ("occupancy", lambda v: v.__setitem__(4, b"\x12" * 1024), "sample-4: field 'occupancy' has class 18"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_file_sample_and_field(
    store: Path, column: str, change: Callable[[list], object], message: str
) -> None:
    opened = PredictionStore(rewritten(store, column, change))
    with pytest.raises(ValueError, match=f"all.parquet: sample .*{message}"):
        opened.read()


def test_more_than_500_boxes_in_a_sample_are_refused(tmp_path: Path) -> None:
    one = boxes_of(["a"], most=1)
    assert len(one) == 1
    many = {name: np.repeat(getattr(one, name), 501, axis=0) for name in one.column_names}
    boxes = BoxColumns(sample_tokens=("a",), **many)
    path = write_predictions(tmp_path / "many.parquet", Predicted(sample_tokens=("a",), detection=boxes), META)
    with pytest.raises(ValueError, match="sample a: field 'detection' has 501 boxes; the protocol allows 500"):
        PredictionStore(path).read()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "other-2", "meta field 'format' is 'other-2'"),
        ("detection_classes", ["car"], "meta field 'detection_classes' is .'car'."),
        ("tasks", ["detection", "smell"], "meta field 'tasks' is .*it must list some of"),
        ("tasks", ["found_motion", "map", "occupancy", "tracking", "motion", "planning"], None),
        ("sensors", {"use_camera": "yes"}, "meta field 'use_camera' of 'sensors' is 'yes'; it must be true or false"),
        ("map_grid", {"cell_m": 1.0}, "meta field 'map_grid' is .*which is no grid"),
        ("planning", None, "meta field 'planning' is None"),
    ],
)
def test_wrong_metadata_is_named(store: Path, field: str, value: object, message: str | None) -> None:
    table = pq.read_table(store)
    said = json.loads(table.schema.metadata[b"bevstack.predictions"]) | {field: value}
    pq.write_table(table.replace_schema_metadata({b"bevstack.predictions": json.dumps(said)}), store)
    if message is None:
        assert list(PredictionStore(store).read().tasks) == [task for task in TASKS if task != "detection"]
        return
    with pytest.raises(ValueError, match=f"all.parquet: {message}"):
        PredictionStore(store)


def test_another_parquet_file_or_a_missing_column_is_named(store: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="other.parquet is a Parquet file, but its metadata has no field"):
        PredictionStore(tmp_path / "other.parquet")
    pq.write_table(pq.read_table(store).drop_columns(["map"]), store)
    with pytest.raises(ValueError, match="field 'map' is missing, though the file says it has it"):
        PredictionStore(store)
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing.parquet"):
        PredictionStore(tmp_path / "nothing.parquet")

"""Official box records as columns and back, and every fault named by file, sample, box and field."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bevstack.data.class_names import ATTRIBUTES, DETECTION_CLASSES
from bevstack.evaluation.predictions.box_columns import BoxColumns, read_submission_columns

META = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}


def box(token: str, **change: Any) -> dict[str, Any]:
    return {
        "sample_token": token,
        "translation": [1.0, 2.0, 3.0],
        "size": [1.0, 4.0, 2.0],
        "rotation": [1.0, 0.0, 0.0, 0.0],
        "velocity": [0.5, -0.5],
        "detection_name": "car",
        "detection_score": 0.5,
        "attribute_name": "vehicle.moving",
    } | change


def track(token: str, name: str) -> dict[str, Any]:
    record = box(token, tracking_name="car", tracking_score=0.5, tracking_id=name)
    return {field: value for field, value in record.items() if not field.startswith(("detection", "attribute"))}


def write(path: Path, results: Any, meta: Any = META) -> Path:
    path.write_text(json.dumps({"meta": meta, "results": results}))
    return path


finite = st.floats(-1e6, 1e6)
records = st.builds(
    box,
    st.just("t"),
    translation=st.lists(finite, min_size=3, max_size=3),
    size=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    rotation=st.lists(finite, min_size=4, max_size=4),
    velocity=st.lists(finite, min_size=2, max_size=2),
    detection_name=st.sampled_from(DETECTION_CLASSES),
    detection_score=st.floats(0, 1),
    attribute_name=st.sampled_from((*ATTRIBUTES, "")),
)


@given(st.lists(st.lists(records, max_size=4), max_size=5))
def test_records_return_from_columns_unchanged(samples: list[list[dict]]) -> None:
    results = {f"s{k}": [{**one, "sample_token": f"s{k}"} for one in boxes] for k, boxes in enumerate(samples)}
    columns = BoxColumns.from_records(results)
    assert columns.to_records() == results
    assert np.diff(columns.sample_first).tolist() == [len(boxes) for boxes in samples]


@pytest.mark.parametrize("chunk_bytes", [1, 50, 1000, 1 << 20])
@pytest.mark.parametrize("meta_first", [True, False])
def test_a_file_reads_the_same_in_pieces_of_any_size(tmp_path: Path, chunk_bytes: int, meta_first: bool) -> None:
    results = {f"s{k}": [box(f"s{k}", detection_score=k / 10 + j / 100) for j in range(k % 4)] for k in range(9)}
    content = {"meta": META, "results": results}
    path = tmp_path / "s.json"
    path.write_text(json.dumps(content if meta_first else dict(reversed(content.items())), indent=2))
    columns, meta = read_submission_columns(path, chunk_bytes=chunk_bytes)
    assert meta == META
    assert columns.to_records() == results


@pytest.mark.parametrize("results", [{}, {"a": []}, {"a": [], "b": []}, {"a": [], "b": [box("b")], "c": []}])
def test_samples_without_boxes_are_kept(tmp_path: Path, results: dict) -> None:
    columns, _ = read_submission_columns(write(tmp_path / "s.json", results))
    assert columns.to_records() == results


def test_a_name_that_looks_like_the_end_of_a_sample_does_not_cut_the_file_there(tmp_path: Path) -> None:
    odd = 'x}],"'
    results = {odd: [box(odd)] * 3, "b": [box("b")]}
    path = write(tmp_path / "s.json", results, META | {"note": '"results": {'})
    assert read_submission_columns(path, chunk_bytes=64)[0].to_records() == results


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    boxes = [box("a", translation=(rng.normal(size=3) * 10.0 ** rng.integers(-12, 12)).tolist()) for _ in range(400)]
    columns, _ = read_submission_columns(write(tmp_path / "s.json", {"a": boxes}))
    assert columns.translation.tolist() == [one["translation"] for one in boxes]


@pytest.mark.parametrize("unknown", [math.nan, None])
def test_an_unknown_velocity_is_nan(tmp_path: Path, unknown: float | None) -> None:
    columns, _ = read_submission_columns(write(tmp_path / "s.json", {"a": [box("a", velocity=[unknown, 1.0])]}))
    assert np.isnan(columns.velocity[0, 0])
    assert columns.velocity[0, 1] == 1.0


def test_tracking_files_carry_identities(tmp_path: Path) -> None:
    results = {"a": [track("a", "x"), track("a", "y")], "b": [track("b", "x")]}
    columns, _ = read_submission_columns(write(tmp_path / "s.json", results), chunk_bytes=100)
    assert columns.track_ids == ("x", "y")
    assert columns.track_index is not None
    assert columns.track_index.tolist() == [0, 1, 0]
    assert columns.to_records() == results


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detection_name": "tram"}, "field 'detection_name' is 'tram', an unknown class"),
        ({"detection_name": ["car"]}, "field 'detection_name' is"),
        ({"attribute_name": "vehicle.flying"}, "field 'attribute_name' is 'vehicle.flying', an unknown attribute"),
        ({"translation": [0.0, math.nan, 0.0]}, "field 'translation' .* must be finite"),
        ({"translation": [0.0, 0.0]}, "field 'translation' .* must be 3 numbers"),
        ({"translation": [0.0, "1", 0.0]}, "field 'translation' .* must be 3 numbers"),
        ({"translation": [0.0, None, 0.0]}, "field 'translation' .* must be 3 numbers"),
        ({"size": [1.0, 0.0, 1.0]}, "field 'size' .* must be positive"),
        ({"rotation": 1.0}, "field 'rotation' is 1.0; it must be 4 numbers"),
        ({"velocity": [1.0]}, "field 'velocity' .* must be 2 numbers"),
        ({"detection_score": math.nan}, "field 'detection_score' is nan; it must be finite"),
        ({"detection_score": "0.5"}, "field 'detection_score' is '0.5'; it must be a number"),
        ({"sample_token": "other"}, "field 'sample_token' is 'other'; it stands under b"),
        ({"num_pts": 0}, "field 'num_pts' is 0"),
    ],
)
def test_a_malformed_box_is_named_with_file_sample_and_field(tmp_path: Path, change: dict, message: str) -> None:
    path = write(tmp_path / "s.json", {"a": [box("a")], "b": [box("b"), box("b", **change)]})
    with pytest.raises(ValueError, match=f"s.json: sample b, box 1: {message}"):
        read_submission_columns(path)


@pytest.mark.parametrize("field", sorted(box("a")))
def test_a_missing_field_is_named(field: str) -> None:
    record = box("a")
    del record[field]
    with pytest.raises(ValueError, match=f"sample a, box 0: field '{field}' is missing"):
        BoxColumns.from_records({"a": [record]})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tracking_id": ""}, "'tracking_id' is ''"), ({"tracking_name": "barrier"}, "'tracking_name' is 'barrier'")],
)
def test_a_malformed_track_is_named(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"sample a, box 1: field {message}"):
        BoxColumns.from_records({"a": [track("a", "x"), track("a", "y") | change]})


def test_more_than_500_boxes_are_refused() -> None:
    assert len(BoxColumns.from_records({"a": [box("a")] * 500})) == 500
    with pytest.raises(ValueError, match="sample a has 501 boxes; the protocol allows 500"):
        BoxColumns.from_records({"a": [box("a")] * 501})


@pytest.mark.parametrize("what", ["boxes", {"b": 1}, None])
def test_a_sample_that_is_no_list_is_named(what: Any) -> None:
    with pytest.raises(ValueError, match="sample a is .* must be a list of boxes"):
        BoxColumns.from_records({"a": what})


@pytest.mark.parametrize("end", [0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_names_the_sample_where_it_breaks_off(tmp_path: Path, end: float) -> None:
    path = write(tmp_path / "cut.json", {f"s{k}": [box(f"s{k}")] * 3 for k in range(20)})
    text = path.read_text()
    path.write_text(text[: int(len(text) * end)])
    with pytest.raises(ValueError, match=r"cut.json is not JSON in sample s\d+ after field '\w+'"):
        read_submission_columns(path, chunk_bytes=500)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"results": {}}', '{"meta": {}, "results": []}', '{"meta": {}}'])
def test_a_file_that_is_no_submission_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="wrong.json"):
        read_submission_columns(path)


@pytest.mark.parametrize(("meta", "field"), [([], "meta"), ({"use_camera": "yes"}, "use_camera")])
def test_a_wrong_meta_is_refused(tmp_path: Path, meta: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"s.json: field '{field}'"):
        read_submission_columns(write(tmp_path / "s.json", {"a": [box("a")]}, meta))


def test_a_missing_file_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.json"):
        read_submission_columns(tmp_path / "nothing.json")


def test_a_sample_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.json", {"a": [box("a")], "b": []})
    path.write_text(path.read_text().replace('"b": []', '"a": []'))
    with pytest.raises(ValueError, match="sample a is there twice"):
        read_submission_columns(path, chunk_bytes=16)


def test_selected_samples_keep_their_boxes_in_the_order_asked_for() -> None:
    results = {
        token: [box(token, detection_score=k / 10 + j / 100) for j in range(k)] for k, token in enumerate("abcd")
    }
    chosen = BoxColumns.from_records(results).select(["d", "a", "b"])
    assert chosen.to_records() == {token: results[token] for token in "dab"}
    with pytest.raises(ValueError, match="lack 1 of 2 samples, the first is z"):
        chosen.select(["a", "z"])


def test_parts_join_to_the_whole() -> None:
    results = {token: [track(token, name) for name in names] for token, names in (("a", "xy"), ("b", ""), ("c", "yz"))}
    parts = [BoxColumns.from_records({t: r}, task="tracking") for t, r in results.items()]
    assert BoxColumns.concatenate(parts).to_records() == results
    with pytest.raises(ValueError, match="sample a is there twice"):
        BoxColumns.concatenate([parts[0], parts[0]])
    with pytest.raises(ValueError, match="mixed"):
        BoxColumns.concatenate([parts[0], BoxColumns.empty(["q"])])


def test_columns_of_unequal_length_or_unordered_samples_are_refused() -> None:
    columns = BoxColumns.from_records({"a": [box("a")], "b": [box("b")]})
    with pytest.raises(ValueError, match="one length"):
        BoxColumns(
            **{name: getattr(columns, name) for name in columns.column_names}
            | {
                "sample_tokens": ("a", "b"),
                "score": np.zeros(3),
            }
        )
    with pytest.raises(ValueError, match="must ascend"):
        columns.take(np.array([1, 0]))


def test_real_files_return_from_columns_unchanged(nuscenes_real: Path) -> None:
    for path in (nuscenes_real / "results").glob("*results*.json"):
        columns, meta = read_submission_columns(path, chunk_bytes=100_000)
        content = json.loads(path.read_text())
        assert meta == content["meta"]
        assert columns.to_records() == content["results"]

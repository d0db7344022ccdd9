"""Files of map lines: both layouts, each scored in its own patch, and what is broken in them named."""

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.map_writer import MapWriter
from fixtures.nuscenes_tiny import T_EGO_LIDAR, token, write_tiny
from shapely.geometry import LineString

from bevstack.data.index import DatasetIndex, open_index
from bevstack.data.map_lines import MAP_LINE_CLASSES
from bevstack.evaluation.dense.map_vectors import PredictedLines
from bevstack.evaluation.dense.map_vectors_file import (
    read_map_lines,
    score_map_line_file,
    true_map_lines,
    write_map_lines,
)

TOKENS = (token("sample0"), token("sample1"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """The tiny data set: the vehicle at (100, 200), then (100, 205), looks along y; dividers ahead and beside it."""
    root = write_tiny(tmp_path_factory.mktemp("lines") / "tiny")
    writer = MapWriter().add("lane_divider", LineString([(97, 0), (97, 400)]), LineString([(0, 215), (400, 215)]))
    writer.add("ped_crossing", LineString([(100, 190), (104, 190), (104, 193), (100, 193)]).convex_hull)
    writer.write(root)
    return open_index(root)


def truth_as_prediction(index: DatasetIndex, sample: str, **options: str) -> PredictedLines:
    truth = true_map_lines(index, sample, **options)
    return PredictedLines(lines=truth.lines, class_index=truth.class_index, scores=np.linspace(0.9, 0.5, len(truth)))


def mapped(index: DatasetIndex) -> dict:
    """The truth in the layout of MapTR: around the LiDAR, x to the right and y forward."""
    samples = []
    for sample in TOKENS:
        lines = truth_as_prediction(index, sample, origin="lidar")
        vectors = [
            {"pts": np.stack((-line[:, 1], line[:, 0]), axis=-1).tolist(), "pts_num": len(line), "type": int(k),
             "cls_name": MAP_LINE_CLASSES[k], "confidence_level": float(confidence)}
            for line, k, confidence in zip(lines.lines, lines.class_index, lines.scores, strict=True)
        ]  # fmt: skip
        samples.append({"sample_token": sample, "vectors": vectors})
    return {"meta": {"use_camera": True}, "results": samples}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_lines_come_back_bit_for_bit(index: DatasetIndex, tmp_path: Path) -> None:
    lines = {sample: truth_as_prediction(index, sample) for sample in TOKENS} | {"empty": PredictedLines.empty()}
    write_map_lines(tmp_path / "out" / "lines.json", lines, {"use_lidar": True})
    file = read_map_lines(tmp_path / "out" / "lines.json")
    assert file.origin == "ego" and file.meta == {"output_format": "vector", "use_lidar": True}
    assert list(file.lines) == list(lines)
    for sample, expected in lines.items():
        found = file.lines[sample]
        np.testing.assert_array_equal(found.class_index, expected.class_index)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert all(np.array_equal(a, b) for a, b in zip(found.lines, expected.lines, strict=True))


def test_labels_of_the_challenge_are_crossing_divider_boundary(tmp_path: Path) -> None:
    sample = {"vectors": [[[0, 0], [1, 0]]] * 3, "scores": [0.1, 0.2, 0.3], "labels": [0, 1, 2]}
    file = read_map_lines(write(tmp_path / "lines.json", {"meta": {}, "results": {"a": sample}}))
    assert [MAP_LINE_CLASSES[k] for k in file.lines["a"].class_index] == ["ped_crossing", "divider", "boundary"]


def test_each_layout_is_scored_in_the_patch_that_it_was_made_for(index: DatasetIndex, tmp_path: Path) -> None:
    write_map_lines(tmp_path / "ego.json", {sample: truth_as_prediction(index, sample) for sample in TOKENS}, {})
    for path in (tmp_path / "ego.json", write(tmp_path / "lidar.json", mapped(index))):
        found = score_map_line_file(path, index, TOKENS)
        assert found.mean_ap == 1.0 and found.num_frames == 2
        assert found.num_true == {"divider": 4, "ped_crossing": 2, "boundary": 0}
    # The LiDAR is a metre ahead: what lies across the road is a metre nearer there.
    in_ego, in_lidar = (true_map_lines(index, TOKENS[0], origin) for origin in ("ego", "lidar"))
    across_ego, across_lidar = (lines.lines[1] for lines in (in_ego, in_lidar))
    np.testing.assert_allclose(across_ego[:, 0], 15.0, atol=1e-9)
    np.testing.assert_allclose(across_lidar[:, 0], 15.0 - T_EGO_LIDAR[0, 3], atol=1e-9)
    np.testing.assert_allclose(in_lidar.lines[0][:, 1], 3.0, atol=1e-9)  # to the left in both


def test_every_sample_to_score_must_be_in_the_file_and_others_are_not_looked_at(
    index: DatasetIndex, tmp_path: Path
) -> None:
    lines = {sample: truth_as_prediction(index, sample) for sample in TOKENS}
    write_map_lines(tmp_path / "one.json", {TOKENS[0]: lines[TOKENS[0]]}, {})
    with pytest.raises(ValueError, match=f"one.json: sample {TOKENS[1]} to score is missing"):
        score_map_line_file(tmp_path / "one.json", index, TOKENS)
    with pytest.raises(ValueError, match="one.json: sample a and 1 more to score is missing"):
        score_map_line_file(tmp_path / "one.json", index, ("a", "b"))
    write_map_lines(tmp_path / "two.json", lines | {TOKENS[1]: PredictedLines.empty()}, {})
    found = score_map_line_file(tmp_path / "two.json", index, TOKENS[:1])
    assert found.mean_ap == 1.0 and found.num_frames == 1


GOOD = {"vectors": [[[0, 0], [1, 0]]], "scores": [0.5], "labels": [1]}
VECTOR = {"pts": [[0, 0], [1, 0]], "cls_name": "divider", "confidence_level": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"meta": {}, "resu', "no complete JSON"),
        ({"meta": {}}, '"results" must map'),
        ({"results": {"a": GOOD, "b": {"vectors": [], "scores": []}}}, "sample b has no field 'labels'"),
        ({"results": {"a": GOOD | {"labels": [3]}}}, r"sample a: labels holds 3, which is none of 0 \(ped_crossing\)"),
        ({"results": {"a": GOOD | {"scores": [0.5, 0.6]}}}, "sample a: 1 lines need as many classes and scores"),
        ({"results": {"a": GOOD | {"scores": ["x"]}}}, "sample a: scores are not one number"),
        ({"results": {"a": GOOD | {"vectors": [[[0, 0], [1]]]}}}, "sample a: vectors of line 0"),
        ({"results": {"a": GOOD | {"vectors": [[[0, 0], [1, None]]]}}}, "sample a: line 0 of shape"),
        ({"results": {"a": GOOD | {"vectors": [[[0, 0]]]}}}, "sample a: line 0 of shape"),
        ({"results": [{"vectors": []}]}, "entry 0 of results has no sample_token"),
        ({"results": [{"sample_token": "a", "vectors": [VECTOR]}] * 2}, "sample a is listed twice"),
        ({"results": [{"sample_token": "a", "vectors": [VECTOR | {"cls_name": "kerb"}]}]}, "cls_name 'kerb' is none"),
        ({"results": [{"sample_token": "a", "vectors": [{"pts": VECTOR["pts"]}]}]}, "sample a has no field 'cls_name'"),
        (
            {"results": [{"sample_token": "a", "vectors": [VECTOR | {"pts": []}]}]},
            "sample a: pts of line 0 are no list",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_sample_and_field(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=rf"lines.json.*{message}"):
        read_map_lines(write(tmp_path / "lines.json", content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none.json: No such file"):
        read_map_lines(tmp_path / "none.json")

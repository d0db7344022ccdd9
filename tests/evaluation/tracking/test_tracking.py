"""Tracking figures equal to those of nuscenes-devkit with py-motmetrics, on scenes with every kind of trouble."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.nuscenes_tiny import write_tiny
from scipy.optimize import linear_sum_assignment

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import open_index
from bevstack.evaluation.detection.boxes import DetectionTruth
from bevstack.evaluation.predictions.box_columns import BoxColumns, read_submission_columns
from bevstack.evaluation.predictions.box_records import TRACKING_CLASSES
from bevstack.evaluation.predictions.submission import SubmissionMeta
from bevstack.evaluation.tracking.assignment import assign
from bevstack.evaluation.tracking.protocol import TrackingScores, score, scores_from_records, summary_from_curves
from bevstack.evaluation.tracking.records import TrackingRecords, match_records
from bevstack.evaluation.tracking.rules import METRICS, SUMMED
from bevstack.evaluation.tracking.submission import write_tracking_submission
from bevstack.evaluation.tracking.tracks import SceneTracks, TrackingTruth, mean_by_group, read_tracking_truth
from bevstack.types.errors import DatasetError

PERIOD_US = 500_000
ORIGIN = (601.3, 1642.7)
RECORDED = json.loads((Path(__file__).parent / "devkit_scores.json").read_text())
"""What the devkit says of some `random_scenes`, by seed: curves of the annotated classes, and the summary. Slow tests
ask the devkit itself."""
Row = tuple[int, str, float, float, str, float]
"""Sample, identity, x, y, class, score."""


def columns(rows: list[Row], num_samples: int) -> BoxColumns:
    rows = sorted(rows, key=lambda row: row[0])
    names = list(dict.fromkeys(row[1] for row in rows))
    count = len(rows)
    return BoxColumns(
        sample_tokens=tuple(f"s{k}" for k in range(num_samples)),
        sample_index=np.array([row[0] for row in rows], np.int32),
        translation=np.array([(row[2], row[3], 1.0) for row in rows], np.float64).reshape(count, 3),
        size_wlh=np.ones((count, 3)),
        rotation_wxyz=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
        velocity=np.zeros((count, 2)),
        class_index=np.array([DETECTION_CLASSES.index(row[4]) for row in rows], np.int8),
        score=np.array([row[5] for row in rows], np.float64),
        attribute_index=np.full(count, -1, np.int8),
        track_index=np.array([names.index(row[1]) for row in rows], np.int64),
        track_ids=tuple(names),
    )


def truth_of(rows: list[Row], scene_lengths: list[int]) -> TrackingTruth:
    total = sum(scene_lengths)
    boxes = columns(rows, total)
    assert boxes.track_index is not None
    return TrackingTruth(
        detection=DetectionTruth(
            boxes=replace(boxes, track_index=None, track_ids=(), score=np.full(len(boxes), -1.0)),
            num_points=np.ones(len(boxes), np.int64),
            ego_xy=np.tile(ORIGIN, (total, 1)),
            racks=BoxColumns.empty(boxes.sample_tokens),
        ),
        instance=boxes.track_index,
        scene_tokens=tuple(f"scene{k}" for k in range(len(scene_lengths))),
        scene_index=np.repeat(np.arange(len(scene_lengths), dtype=np.int32), scene_lengths),
        timestamp_us=1_500_000_000_000_000 + np.arange(total, dtype=np.int64) * PERIOD_US,
    )


def straight(count: int = 6, identity: str = "a", name: str = "car", y: float = 0.0, score: float = 0.5) -> list[Row]:
    return [(k, identity, ORIGIN[0] + k, ORIGIN[1] + y, name, score) for k in range(count)]


def random_scenes(seed: int) -> tuple[TrackingTruth, BoxColumns]:
    """Objects that come and go and stand close, and tracks that break, swap, share identities, scores and places."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, rng.integers(1, 4)).tolist()
    names = rng.choice(TRACKING_CLASSES, rng.integers(1, 3), replace=False).tolist()
    first, truth, predicted = 0, [], []
    grid = rng.choice([0.0, 0.5, 1.0])
    for scene, length in enumerate(lengths):
        for number in range(rng.integers(0, 7)):
            name, identity, level = str(rng.choice(names)), f"{scene}-{number}", round(rng.random(), 1)
            place, speed = rng.uniform(-4, 4, 2), rng.normal(0, 0.7, 2)
            begin, end = sorted(rng.integers(0, length + 1, 2))
            for k in range(begin, end):
                xy = np.array(ORIGIN) + place + k * speed
                if grid:
                    xy = np.round(xy / grid) * grid
                if rng.random() < 0.85:
                    truth.append((first + k, identity, *xy.tolist(), name, -1.0))
                if rng.random() < 0.15:
                    identity_now = f"{scene}-{rng.integers(0, 7)}"
                    if rng.random() < 0.3:
                        identity = identity_now
                if rng.random() < 0.75:
                    noise = 0.0 if seed % 3 == 0 else rng.normal(0, 0.5, 2)
                    at = xy + noise
                    predicted.append((first + k, identity, *at.tolist(), name, level if seed % 2 else rng.random()))
                if rng.random() < 0.1:
                    predicted.append((first + k, f"fp{rng.integers(0, 4)}", *xy.tolist(), name, round(rng.random(), 1)))
        first += length
    unique = {(row[0], row[1]): row for row in truth}
    distinct = {(row[0], row[1]): row for row in predicted}
    return truth_of(list(unique.values()), lengths), columns(list(distinct.values()), first)


class DevkitTables:
    """What `create_tracks` asks of a data set."""

    def __init__(self, truth: TrackingTruth) -> None:
        self.truth = truth

    def get(self, table: str, token: str) -> dict[str, Any]:
        scene_index = self.truth.scene_index
        if table == "scene":
            rows = np.flatnonzero(scene_index == self.truth.scene_tokens.index(token))
            return {"name": token, "first_sample_token": f"s{rows[0]}", "last_sample_token": f"s{rows[-1]}"}
        row = int(token[1:])
        scene = self.truth.scene_tokens[scene_index[row]]
        return {"scene_token": scene, "timestamp": int(self.truth.timestamp_us[row]), "next": f"s{row + 1}"}


def devkit_scores(
    truth: TrackingTruth, predictions: BoxColumns, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The devkit's curves and summary."""
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.tracking import loaders
    from nuscenes.eval.tracking.data_classes import TrackingBox
    from nuscenes.eval.tracking.evaluate import TrackingEval

    monkeypatch.setattr(loaders, "get_scenes_of_split", lambda split_name, nusc: truth.scene_tokens)
    config = config_factory("tracking_nips_2019")
    annotated = replace(
        truth.detection.boxes,
        track_index=truth.instance,
        track_ids=tuple(str(k) for k in range(int(truth.instance.max(initial=0)) + 1)),
    )
    tables = DevkitTables(truth)
    evaluation = TrackingEval.__new__(TrackingEval)
    evaluation.cfg, evaluation.verbose, evaluation.render_classes, evaluation.output_dir = config, False, None, ""
    for attribute, boxes, is_truth in (("tracks_gt", annotated, True), ("tracks_pred", predictions, False)):
        records = EvalBoxes.deserialize(boxes.to_records(), TrackingBox)
        setattr(evaluation, attribute, loaders.create_tracks(records, tables, "all", gt=is_truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics, curves = evaluation.evaluate()
    return curves.serialize(), metrics.serialize()


def assert_equal_to_devkit(ours: TrackingScores, curves: dict[str, Any], summary: dict[str, Any]) -> None:
    for name, of_class in curves.items():
        for figure, said in of_class.items():
            values, expected = (np.array(each, np.float64) for each in (ours.curves[name][figure], said))
            if figure == "motp":
                np.testing.assert_allclose(values, expected, atol=1e-9, rtol=0, err_msg=f"{name} {figure}")
            else:
                np.testing.assert_array_equal(values, expected, err_msg=f"{name} {figure}")
    for figure in METRICS:
        value, expected = ours.overall[figure], summary[figure]
        if value is None:
            assert expected is None or np.isnan(expected) or (figure in SUMMED and expected == 0)
        else:
            assert value == pytest.approx(expected, abs=1e-9)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("seed", sorted(RECORDED, key=int))
def test_random_scenes_score_what_the_devkit_said(seed: str) -> None:
    truth, predictions = random_scenes(int(seed))
    ours, recorded = score(predictions, truth), RECORDED[seed]
    assert_equal_to_devkit(ours, recorded["curves"], recorded["summary"])
    others = set(TRACKING_CLASSES) - set(recorded["curves"])
    assert all(value is None for name in others for value in ours.classes[name].values())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_many_random_scenes_score_what_the_devkit_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_scenes(seed)
    assert_equal_to_devkit(score(predictions, truth), *devkit_scores(truth, predictions, monkeypatch))


def test_tracks_on_the_objects_are_perfect() -> None:
    ours = score(columns(straight(), 6), truth_of(straight(), [6]))
    assert ours.amota == 1.0
    assert ours.overall["mota"] == 1.0
    assert (ours.overall["tp"], ours.overall["fn"], ours.overall["ids"], ours.overall["frag"]) == (6, 0, 0, 0)
    assert ours.classes["bus"]["amota"] is None


def test_no_predictions_give_the_worst_values_and_nothing_that_was_not_measured() -> None:
    ours = score(columns([], 6), truth_of(straight(), [6]))
    car = ours.classes["car"]
    assert (ours.amota, ours.amotp) == (0.0, 2.0)
    assert (car["fn"], car["ml"], car["tid"]) == (6, 1, 20)
    assert car["fp"] is None
    assert ours.overall["ids"] is None


def test_a_new_identity_half_way_is_one_switch() -> None:
    rows = [(k, "a" if k < 3 else "b", *row[2:]) for k, row in enumerate(straight())]
    ours = score(columns(rows, 6), truth_of(straight(), [6]))
    assert ours.classes["car"]["ids"] == 1
    assert ours.classes["car"]["tp"] == 5


def test_a_gap_in_the_annotations_is_filled_and_mirrored_in_time() -> None:
    rows = [row for row in straight(5) if row[0] in (0, 4)]
    tracks = SceneTracks.of(columns([], 5), truth_of(rows, [5])).truth
    np.testing.assert_array_equal(tracks.frame, np.arange(5))
    np.testing.assert_allclose(tracks.xy[:, 0] - ORIGIN[0], [0, 3, 2, 1, 4], atol=1e-9)


def test_a_late_start_and_a_gap_are_measured_in_seconds() -> None:
    rows = [row for row in straight(10) if row[0] >= 2]
    ours = score(columns(rows, 10), truth_of(straight(10), [10]))
    assert (ours.classes["car"]["tid"], ours.classes["car"]["lgd"]) == (1.0, 1.0)


@pytest.mark.parametrize("seed", [1, 4])
def test_records_of_parts_merge_to_those_of_the_whole(seed: int) -> None:
    truth, predictions = random_scenes(seed)
    whole = match_records(SceneTracks.of(predictions, truth), all_steps=True)
    parts = [match_records(SceneTracks.of(predictions, part), all_steps=True) for part in scenes_of(truth)]
    assert scores_from_records(TrackingRecords.merge(parts)) == scores_from_records(whole) == score(predictions, truth)


def test_a_scene_drawn_twice_counts_like_two_scenes() -> None:
    truth, predictions = random_scenes(4)
    parts = [match_records(SceneTracks.of(predictions, part), all_steps=True) for part in scenes_of(truth)]
    twice = [parts[0], replace(parts[0], scene_tokens=("again",)), *parts[1:]]
    weight = np.ones(len(parts), np.int64)
    weight[0] = 2
    drawn = scores_from_records(TrackingRecords.merge(parts), weight)
    expected = scores_from_records(TrackingRecords.merge(twice))
    assert drawn.overall == pytest.approx(expected.overall)
    assert drawn.num_objects == expected.num_objects


def scenes_of(truth: TrackingTruth) -> list[TrackingTruth]:
    """Each scene by itself."""
    parts = []
    for scene, token in enumerate(truth.scene_tokens):
        samples = np.flatnonzero(truth.scene_index == scene)
        rows = np.isin(truth.detection.boxes.sample_index, samples)
        tokens = tuple(f"s{k}" for k in samples)
        detection = replace(
            truth.detection,
            boxes=truth.detection.boxes.select(tokens),
            num_points=truth.detection.num_points[rows],
            ego_xy=truth.detection.ego_xy[samples],
            racks=BoxColumns.empty(tokens),
        )
        times, index = truth.timestamp_us[samples], np.zeros(len(samples), np.int32)
        part = TrackingTruth(
            detection=detection,
            instance=truth.instance[rows],
            scene_tokens=(token,),
            scene_index=index,
            timestamp_us=times,
        )
        parts.append(part)
    return parts


def test_incomplete_records_and_weights_that_are_no_counts_are_refused() -> None:
    truth, predictions = random_scenes(4)
    records = match_records(SceneTracks.of(predictions, truth), all_steps=True)
    with pytest.raises(ValueError, match="whole numbers"):
        scores_from_records(records, np.full(len(records.scene_tokens), 0.5))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is in two of the records"):
        TrackingRecords.merge([records, records])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.array([0.5, np.nan])}, "sample s1, box 0: tracking_score must be finite"),
        ({"class_index": np.array([0, 8], np.int8)}, "sample s1, box 0: tracking_name must be one of"),
        ({"translation": np.array([[0.0, 0, 0], [np.inf, 0, 0]])}, "sample s1, box 0: translation must be finite"),
        ({"track_index": None}, "no track_index"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_sample_and_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(replace(columns(straight(2), 2), **change), truth_of(straight(2), [2]))


def test_an_unknown_class_in_a_file_is_named_with_file_sample_and_field(tmp_path: Path) -> None:
    records = columns(straight(2), 2).to_records()
    records["s1"][0]["tracking_name"] = "barrier"
    path = tmp_path / "tracks.json"
    path.write_text(json.dumps({"meta": {}, "results": records}))
    with pytest.raises(ValueError, match=r"tracks\.json: sample s1, box 0: field 'tracking_name'"):
        read_submission_columns(path, task="tracking")


def test_a_submission_is_read_back_as_it_was_and_a_double_identity_is_refused(tmp_path: Path) -> None:
    boxes = columns(straight(3) + straight(3, "b", "bus", 5.0), 3)
    path = write_tracking_submission(tmp_path / "t.json", SubmissionMeta.of_modality("fusion"), boxes)
    back, meta = read_submission_columns(path)
    assert back.to_records() == boxes.to_records()
    assert meta["use_camera"] and meta["use_lidar"]
    double = columns(straight(2) + straight(2, "a", "bus", 5.0), 2)
    with pytest.raises(ValueError, match="sample s0: tracking_id 'a' occurs twice"):
        write_tracking_submission(path, SubmissionMeta.of_modality("fusion"), double)


@pytest.mark.parametrize("is_whole", [True, False])
def test_assignments_are_those_of_scipy_also_among_equal_costs(is_whole: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost = rng.integers(0, 4, rng.integers(1, 8, 2)).astype(np.float64)
        cost = cost if is_whole else cost + rng.random(cost.shape)
        rows, expected = linear_sum_assignment(cost)
        found, row_dual, column_dual = assign(cost)
        np.testing.assert_array_equal(found[rows], expected)
        assert (found >= 0).sum() == len(rows)
        assert (cost - row_dual[:, None] - column_dual > -1e-9).all()


def test_mean_of_a_track_is_that_of_numpy_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 40, 3000) ** 2 // 60
    values = rng.random(3000)
    means = mean_by_group(values, group)
    for number in np.unique(group):
        assert set(means[group == number]) == {np.mean(list(values[group == number]))}


def test_published_curves_give_the_published_summary(nuscenes_real: Path) -> None:
    results = nuscenes_real / "results"
    details = json.loads((results / "streampetr_val_tracking_metrics_details.json").read_text())
    expected = json.loads((results / "streampetr_val_tracking_metrics_summary.json").read_text())
    summary = summary_from_curves(
        {name: {k: np.array(v, float) for k, v in of.items()} for name, of in details.items()}
    )
    for figure in METRICS:
        assert summary.overall[figure] == expected[figure]
        for name in TRACKING_CLASSES:
            assert summary.classes[name][figure] == expected["label_metrics"][figure][name]


@pytest.mark.slow
def test_real_tracks_score_what_the_devkit_says(nuscenes_real: Path, tmp_path: Path) -> None:
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.tracking.evaluate import TrackingEval

    path = nuscenes_real / "results" / "derived_greedy_tracking_results.json"
    root = tmp_path / "root"
    root.mkdir()
    (root / "v1.0-mini").symlink_to(nuscenes_real / "mini_val" / "derived_tables" / "v1.0-mini")
    (root / "maps").symlink_to(nuscenes_real / "maps")
    index = open_index(root, "v1.0-mini", out=tmp_path / "index")
    truth = read_tracking_truth(index, [index.sample_tokens[int(k)] for k in index.samples_of_split("mini_val")])
    predictions, _ = read_submission_columns(path, task="tracking")
    config = config_factory("tracking_nips_2019")
    official = TrackingEval(config, str(path), "mini_val", str(tmp_path / "o"), "v1.0-mini", str(root), verbose=False)
    metrics, curves = official.evaluate()
    assert_equal_to_devkit(score(predictions, truth), curves.serialize(), metrics.serialize())


def test_annotations_of_a_data_set_are_perfect_tracks_and_scenes_must_be_whole(tmp_path: Path) -> None:
    index = open_index(write_tiny(tmp_path / "root"))
    tokens = list(index.sample_tokens)
    truth = read_tracking_truth(index, tokens)
    boxes = replace(
        truth.detection.boxes,
        track_index=truth.instance,
        track_ids=tuple(index.instance_tokens),
        score=np.full(len(truth.instance), 0.5),
    )
    is_tracked = np.isin(np.array(DETECTION_CLASSES)[boxes.class_index], TRACKING_CLASSES)
    ours = score(boxes.take(is_tracked), truth)
    assert ours.num_predictions > 0
    assert ours.overall["fn"] == ours.overall["fp"] == ours.overall["ids"] == 0
    with pytest.raises(DatasetError, match="whole scenes"):
        read_tracking_truth(index, tokens[:1])

"""Planted faults of frame, axis, angle and height are called by their names; good boxes are left in peace."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.frame_faults import FAULTS, Sample, mini_val_sample, sample_of
from fixtures.nuscenes_tiny import write_tiny
from fixtures.real_frame import real_frame_root
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.cli.main import main
from bevstack.data.check import check_dataset
from bevstack.data.check_frames import frame_sanity_of
from bevstack.data.frame_sanity import AS_THEY_ARE, FrameSanity, FrameVerdict, count_points, hypotheses_of
from bevstack.data.images import ImageSize
from bevstack.data.index import open_index
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.detection.nuscenes import to_records
from bevstack.evaluation.predictions.submission import SubmissionMeta, write_submission
from bevstack.geometry.boxes import box_pose
from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.types.boxes import BoxIndex
from bevstack.types.scene import Detections

T_EGO_LIDAR = from_xy_yaw(0.9, 0.0, -np.pi / 2, z_m=1.84)
SIZES = ((4.6, 1.9, 1.7), (0.7, 0.7, 1.75), (11.0, 2.9, 3.4), (1.8, 0.6, 1.3))


def street(seed: int = 0, count: int = 40) -> Sample:
    """Boxes standing on a flat street at random headings, points on their sides and on the ground around them."""
    rng = np.random.default_rng(seed)
    rows, clouds = [], []
    for k in range(count):
        length, width, height = SIZES[k % len(SIZES)]
        place = (9.0 * (k % 7) - 22.0, 13.0 * (k // 7) - 41.0)
        rows.append([*place, height / 2, length, width, height, rng.uniform(-np.pi, np.pi), 0.0, 0.0])
        unit = rng.uniform(-0.49, 0.49, (60, 3))
        side = rng.integers(0, 2, 60)
        unit[np.arange(60), side] = np.sign(unit[np.arange(60), side]) * 0.49
        clouds.append(transform_points(box_pose(np.array(rows[-1])), unit * (length, width, height)))
    ground = np.concatenate((rng.uniform(-45, 45, (6000, 2)), rng.normal(0, 0.03, (6000, 1))), axis=1)
    return np.array(rows, np.float32), np.concatenate((*clouds, ground)), T_EGO_LIDAR


def judged(samples: list[Sample], plant: str | None) -> FrameVerdict:
    sanity = FrameSanity()
    for rows, points, T_ego_lidar in samples:
        faulty = FAULTS[plant][1](rows.astype(np.float64), T_ego_lidar) if plant else rows
        sanity.add(faulty, points, {"LiDAR": T_ego_lidar})
    return sanity.verdict()


@pytest.fixture(scope="module")
def real_samples(nuscenes_real: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("real")
    root, version, split = real_frame_root(nuscenes_real, folder / "frame")
    frames = NuScenesFrames(
        root=root, version=version, split=split, image_size=ImageSize(90, 160), num_sweeps=1, cameras=()
    )
    return [sample_of(frames, 0), mini_val_sample(nuscenes_real, folder / "index")]


def test_good_boxes_fit() -> None:
    verdict = judged([street()], None)
    assert verdict.status == "fits" and verdict.fault is None and verdict.undecided == ()
    assert verdict.fit == verdict.best_fit and verdict.fit > 0.8


@pytest.mark.parametrize("plant", FAULTS)
def test_a_planted_fault_is_called_by_its_name(plant: str) -> None:
    verdict = judged([street()], plant)
    assert (verdict.status, verdict.fault) == ("fault", FAULTS[plant][0])
    assert FAULTS[plant][0] in verdict.sentence


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_no_street_raises_a_false_alarm(seed: int) -> None:
    assert judged([street(seed, count=20)], None).status == "fits"


def test_undoing_a_fault_gives_the_boxes_back() -> None:
    rows = street()[0].astype(np.float64)
    undone_by = {hypothesis.fault: [] for hypothesis in hypotheses_of({"LiDAR": T_EGO_LIDAR})}
    for hypothesis in hypotheses_of({"LiDAR": T_EGO_LIDAR}):
        undone_by[hypothesis.fault].append(hypothesis.undo)
    for plant, (fault, commit) in FAULTS.items():
        fault = "w/l swapped" if fault == "heading off by 90 degrees" else fault
        errors = []
        for undo in undone_by[fault]:
            found = undo(commit(rows.copy(), T_EGO_LIDAR))
            turn = (found[:, BoxIndex.YAW] - rows[:, BoxIndex.YAW]) % np.pi
            same_place = np.abs(found[:, :3] - rows[:, :3]).max()
            errors.append(max(same_place, 0 if fault == "w/l swapped" else np.minimum(turn, np.pi - turn).max()))
        assert min(errors) < 1e-6, plant


def test_too_few_boxes_are_no_evidence() -> None:
    rows, points, T_ego_lidar = street(count=6)
    verdict = judged([(rows, points, T_ego_lidar)], "turned left")
    assert verdict.status == "unclear" and verdict.fault is None and "too little evidence" in verdict.sentence
    assert FrameSanity().verdict().num_boxes == 0 and FrameSanity().scores() == {}


def test_no_points_and_no_boxes_are_no_evidence() -> None:
    rows, points, T_ego_lidar = street()
    assert judged([(rows, points[:0], T_ego_lidar), (rows[:0], points, T_ego_lidar)], None).status == "unclear"


def test_boxes_of_another_scene_fit_under_no_hypothesis() -> None:
    rows, points, T_ego_lidar = street()
    rows = rows.copy()
    rows[:, :2] = np.random.default_rng(1).uniform(-45, 45, (len(rows), 2))
    verdict = judged([(rows, points, T_ego_lidar)], None)
    assert verdict.status == "unclear" and verdict.fault is None


def test_several_frames_decide_together_and_may_be_counted_apart() -> None:
    samples = [street(seed, count=6) for seed in range(4)]
    together = judged(samples, "heading clockwise")
    assert together.fault == "heading clockwise"
    parts = []
    for rows, points, T_ego_lidar in samples:
        part = FrameSanity()
        part.add(FAULTS["heading clockwise"][1](rows.astype(np.float64), T_ego_lidar), points, {"LiDAR": T_ego_lidar})
        parts.append(part)
    merged = FrameSanity()
    for part in parts:
        merged.merge(part)
    assert merged.verdict() == together and merged.scores() != {}


def test_boxes_alike_from_all_sides_leave_the_heading_undecided() -> None:
    rows, points, T_ego_lidar = street()
    square = rows[:, BoxIndex.LENGTH] == rows[:, BoxIndex.WIDTH]
    verdict = judged([(rows[square], points, T_ego_lidar)], "w and l exchanged")
    assert verdict.status == "fits" and "w/l swapped" in verdict.undecided and "not ruled out" in verdict.sentence


def test_points_are_counted_inside_and_around_but_not_on_the_ground() -> None:
    row = np.array([[10.0, 0.0, 1.0, 4.0, 2.0, 2.0, np.pi / 2, 0.0, 0.0]])
    points = np.array([[10, 1.9, 1.5], [10, 2.3, 1.5], [10, 3.0, 1.5], [10, 0, 0.1], [10.9, 0, 2.0], [10, 0, 2.5]])
    assert count_points(points.astype(np.float64), row).tolist() == [[2, 2]]


def test_a_box_without_size_or_place_is_refused() -> None:
    rows, points, _ = street()
    rows = rows.copy()
    rows[3, BoxIndex.WIDTH] = 0.0
    with pytest.raises(ValueError, match="box 3 is"):
        FrameSanity().add(rows, points)
    with pytest.raises(ValueError, match="same names"):
        sanity = FrameSanity()
        sanity.add(street()[0], points)
        sanity.add(street()[0], points, {"LiDAR": T_EGO_LIDAR})


# -- real and simulated data ------------------------------------------------------------------------------------------
def test_real_frames_raise_no_false_alarm(real_samples: list[Sample]) -> None:
    for sample in real_samples:
        assert judged([sample], None).status == "fits"


@pytest.mark.parametrize("plant", FAULTS)
def test_a_fault_in_two_real_frames_is_named_or_said_to_be_undecided(real_samples: list[Sample], plant: str) -> None:
    verdict = judged(real_samples, plant)
    if plant == "heading clockwise":  # most vehicles of these two stand along the road, some 0 or 180 degrees
        assert verdict.status == "fits" and plant in verdict.undecided
    else:
        assert verdict.fault == FAULTS[plant][0]


@pytest.mark.parametrize("plant", FAULTS)
def test_a_single_real_frame_is_never_called_sound_with_a_fault_in_it(real_samples: list[Sample], plant: str) -> None:
    for sample in real_samples:
        verdict = judged([sample], plant)
        expected = FAULTS[plant][0]
        open_name = "w/l swapped" if expected == "heading off by 90 degrees" else expected
        assert verdict.fault is not None or open_name in verdict.undecided


# -- commands ---------------------------------------------------------------------------------------------------------
def test_the_tiny_data_set_has_too_few_boxes_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tiny(tmp_path / "tiny")
    assert frame_sanity_of(open_index(root)).verdict().status == "unclear"
    assert main(["data", "sanity", str(root)]) == 0
    assert "unclear: too little evidence" in capsys.readouterr().out
    report = check_dataset(open_index(root), deep=True)
    assert report.is_usable and report.sanity is not None and report.sanity.status == "unclear"
    assert check_dataset(open_index(root)).sanity is None


def test_the_command_names_the_fault_and_exits_with_one(
    nuscenes_real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, version, _ = real_frame_root(nuscenes_real, tmp_path / "real")
    assert main(["data", "sanity", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["status"] == "fits"
    table = root / version / "sample_annotation.json"
    boxes = json.loads(table.read_text())
    for box in boxes:
        box["translation"][2] -= box["size"][2] / 2
    table.write_text(json.dumps(boxes))
    assert main(["data", "sanity", str(root)]) == 1
    assert "bottom instead of centre" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--deep"]) == 1
    assert "bottom instead of centre" in capsys.readouterr().out


def test_the_boxes_of_a_submission_are_judged_as_annotated_ones_are(
    nuscenes_real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, version, split = real_frame_root(nuscenes_real, tmp_path / "real")
    frames = NuScenesFrames(root=root, version=version, split=split, image_size=ImageSize(90, 160), num_sweeps=0)
    truth = frames.annotations(0)
    scores = np.where(np.arange(len(truth.boxes)) % 2, 0.9, 0.5).astype(np.float32)
    for column, shift_m, verdict in ((BoxIndex.Z, 0.0, "boxes and points fit"), (BoxIndex.Z, 1.0, "z offset")):
        rows = truth.boxes.rows.copy()
        rows[:, column] += shift_m
        found = Detections(boxes=replace(truth.boxes, rows=rows), scores=scores, attribute_index=truth.attribute_index)
        records = {frames.token(0): to_records(frames.token(0), found, frames.ego(0).T_global_ego)}
        file = write_submission(tmp_path / "found.json", SubmissionMeta.of_modality("lidar"), records)
        assert main(["data", "sanity", str(root), "--predictions", str(file)]) == bool(shift_m)
        assert verdict in capsys.readouterr().out
    assert main(["data", "sanity", str(root), "--predictions", str(tmp_path / "found.json"), "--min-score", "1"]) == 0
    assert "too little evidence" in capsys.readouterr().out


def test_no_frames_at_all_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "sanity", str(write_tiny(tmp_path / "tiny")), "--frames", "0"]) == 1
    assert "num_frames=0 must be at least 1" in capsys.readouterr().err


def test_scores_name_every_hypothesis() -> None:
    sanity = FrameSanity()
    sanity.add(*street()[:2])
    scores = sanity.scores()
    assert next(iter(scores)) == AS_THEY_ARE and len(scores) == len(hypotheses_of({}))

"""Forecasts of detections by the measures of the prediction challenge, and forecasts as columns."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.drives import SPLIT, Track, drive, straight

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.index import DatasetIndex
from bevstack.evaluation.motion.agent_future import agent_futures
from bevstack.evaluation.motion.baselines import CONSTANT_VELOCITY, COPY_LAST, EMPTY
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.motion.forecasts import MIN_SCORE, to_motion_columns
from bevstack.evaluation.motion.named import PROTOCOL, FoundChallengeStatistics, errors_of, named
from bevstack.evaluation.motion.nusc import Agents, agents_to_predict
from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.geometry.transforms import from_xy_yaw
from bevstack.types.boxes import Boxes3D
from bevstack.types.scene import Detections, MotionForecasts

SCENES = {
    "scene-9001": {
        "east": Track(path=straight(150.0, 150.0, speed=4.0)),
        "north": Track(path=straight(160.0, 100.0, yaw=1.5, speed=8.0)),
        "still": Track(path=straight(120.0, 120.0), category="vehicle.truck"),
        "walker": Track(path=straight(130.0, 120.0, speed=1.0), category="human.pedestrian.adult"),
    },
    "scene-9002": {"bus": Track(path=straight(60.0, 220.0, yaw=-2.0, speed=6.0), category="vehicle.bus.rigid")},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    return drive(tmp_path_factory.mktemp("named") / "root", SCENES)


@pytest.fixture(scope="module")
def agents(index: DatasetIndex) -> Agents:
    return agents_to_predict(index, SPLIT)


def found_as(index: DatasetIndex, agents: Agents, *, off_m: float = 0.0, name: str = "car") -> MotionColumns:
    """Each agent found some metres to the side, with the truth of its future as the second of two modes."""
    tokens = tuple(dict.fromkeys(index.sample_tokens))
    sample = np.array([tokens.index(token) for token in agents.sample_tokens], np.int32)
    order = np.argsort(sample, kind="stable")
    rows, count = agents.annotation_rows[order], len(agents)
    truth = agent_futures(index, rows).positions_global[..., :2]
    return MotionColumns(
        boxes=BoxColumns(
            sample_tokens=tokens,
            sample_index=sample[order],
            translation=index["annotation_translation"][rows] + (0.0, off_m, 0.0),
            size_wlh=np.ones((count, 3)),
            rotation_wxyz=np.tile((1.0, 0.0, 0.0, 0.0), (count, 1)),
            velocity=np.zeros((count, 2)),
            class_index=np.full(count, DETECTION_CLASSES.index(name), np.int8),
            score=np.full(count, 0.9),
            attribute_index=np.full(count, -1, np.int8),
        ),
        trajectories=np.stack((truth + 9.0, truth), axis=1),
        probabilities=np.tile((0.6, 0.4), (count, 1)),
    )


def test_the_nearest_found_vehicle_speaks_for_a_named_object(index: DatasetIndex, agents: Agents) -> None:
    rows, speaking = named(found_as(index, agents, off_m=1.5), index, agents)
    assert sorted(rows.tolist()) == list(range(len(agents)))
    here = index["annotation_translation"][agents.annotation_rows[rows], :2]
    np.testing.assert_allclose(speaking.boxes.translation[:, :2] - here, np.tile((0.0, 1.5), (len(rows), 1)))
    for far in (found_as(index, agents, off_m=2.1), found_as(index, agents, name="pedestrian")):
        assert len(named(far, index, agents)[0]) == 0


def test_a_mode_that_is_true_has_no_error_once_two_modes_count(index: DatasetIndex, agents: Agents) -> None:
    errors = errors_of(found_as(index, agents, off_m=0.5), index, agents)
    assert not errors.min_ade_m[:, 1:].any() and (errors.min_ade_m[:, 0] > 9).all()
    assert errors.is_missed[:, 0].all() and not errors.is_missed[:, 1:].any()


def test_objects_that_are_not_found_are_missed_and_have_no_error(index: DatasetIndex, agents: Agents) -> None:
    found = found_as(index, agents)
    half = found.take(np.arange(len(found.boxes)) % 2 == 0)
    numbers = FoundChallengeStatistics.of(half, "fusion", index, SPLIT, tuple(index.sample_tokens)).numbers()[PROTOCOL]
    assert numbers["num_objects"] == len(agents) == 8 and numbers["num_forecast"] == 4
    assert numbers["min_ade_m"]["5"] == 0.0 and numbers["miss_rate"] == {"1": 1.0, "5": 0.5, "10": 0.5}
    baselines = numbers["baselines"]
    assert set(baselines) == {CONSTANT_VELOCITY, COPY_LAST, EMPTY}
    assert baselines[COPY_LAST]["num_forecast"] == 4 and baselines[COPY_LAST]["min_ade_m"]["1"] > 1.0
    assert baselines[EMPTY]["num_forecast"] == 0 and baselines[EMPTY]["miss_rate"]["10"] == 1.0
    assert baselines[EMPTY]["min_ade_m"]["1"] is None


def test_parts_join_to_the_whole_and_scenes_can_be_drawn(index: DatasetIndex, agents: Agents) -> None:
    found = found_as(index, agents)
    half = found.take(np.arange(len(found.boxes)) % 2 == 0)
    tokens = tuple(index.sample_tokens)
    whole = FoundChallengeStatistics.of(half, "fusion", index, SPLIT, tokens)
    parts = [
        FoundChallengeStatistics.of(half, "fusion", index, SPLIT, own)
        for own in (tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :])
    ]
    assert FoundChallengeStatistics.merge(parts).numbers() == whole.numbers()
    drawn = whole.numbers(np.array((0, 3)))[PROTOCOL]
    alone = parts[1].numbers()[PROTOCOL]
    assert drawn["num_objects"] == 3 * alone["num_objects"] and drawn["miss_rate"] == pytest.approx(alone["miss_rate"])
    with pytest.raises(ValueError, match="is in two"):
        FoundChallengeStatistics.merge([whole, whole])


def test_forecasts_that_end_early_are_refused(index: DatasetIndex, agents: Agents) -> None:
    found = found_as(index, agents)
    with pytest.raises(ValueError, match="6 steps"):
        errors_of(replace(found, trajectories=found.trajectories[:, :, :6]), index, agents)


def test_forecasts_go_to_the_global_frame_with_their_boxes_best_first() -> None:
    rows = np.zeros((3, 9), np.float32)
    rows[:, 0], rows[:, 3:6] = (10.0, 20.0, 30.0), 1.0
    scores = np.array((0.5, MIN_SCORE - 0.01, 0.9), np.float32)
    detections = Detections(
        boxes=Boxes3D(rows=rows, class_index=np.zeros(3, np.int64)),
        scores=scores,
        attribute_index=np.full(3, -1, np.int64),
    )
    ways = rows[:, None, None, :2] + np.arange(1, 13, dtype=np.float32)[:, None] * np.ones((3, 2, 12, 2), np.float32)
    motion = MotionForecasts(trajectories_ego=ways, probabilities=np.full((3, 2), 0.5, np.float32), dt_s=0.5)
    pose = from_xy_yaw(100.0, 50.0, np.pi / 2)
    columns = to_motion_columns("a", detections, motion, pose)
    assert columns.boxes.sample_tokens == ("a",) and columns.boxes.score.tolist() == pytest.approx([0.9, 0.5])
    np.testing.assert_allclose(columns.boxes.translation[0], (100.0, 80.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(columns.trajectories[0, 1, 0], (100.0 - 1.0, 80.0 + 1.0), atol=1e-5)
    np.testing.assert_allclose(columns.trajectories[1, 0, 11], (100.0 - 12.0, 60.0 + 12.0), atol=1e-5)
    nothing = MotionForecasts(
        trajectories_ego=np.zeros((0, 2, 12, 2), np.float32), probabilities=np.zeros((0, 2), np.float32), dt_s=0.5
    )
    assert to_motion_columns("a", Detections.empty(), nothing, pose).trajectories.shape == (0, 2, 12, 2)
    with pytest.raises(ValueError, match="3 detections but 0 forecasts"):
        to_motion_columns("a", detections, nothing, pose)

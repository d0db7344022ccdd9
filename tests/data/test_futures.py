"""Futures of objects and of the vehicle in the frames of a data set: known values, gaps, ends of scenes, agreement."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.drives import SPLIT, Track, annotation_row, drive, straight

from bevstack.data.futures import AGENT_STEPS, EGO_STEPS, agent_futures_ego, ego_future
from bevstack.data.images import ImageSize
from bevstack.data.index import DatasetIndex
from bevstack.data.nuscenes import NuScenesFrames
from bevstack.evaluation.motion.agent_future import agent_futures
from bevstack.evaluation.planning.ego_future import read_ego_future
from bevstack.geometry.transforms import rigid_inverse
from bevstack.types import Annotations

SCENE = "scene-9001"


def circle(t: float) -> tuple[float, float, float]:
    """A left turn of 20 m radius at 8 m/s, northwards at first."""
    angle = 8.0 * t / 20.0
    return 200.0 + 20.0 * (np.cos(angle) - 1), 200.0 + 20.0 * np.sin(angle), np.pi / 2 + angle


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DatasetIndex:
    """The vehicle turns left; a car drives north, one is hidden for two frames; a second scene, a third of nothing."""
    north = straight(205.0, 210.0, yaw=np.pi / 2, speed=4.0)
    scenes = {
        SCENE: {"north": Track(path=north), "hidden": Track(path=north, frames=(0, 1, 2, 5, 6, 7))},
        "scene-9002": {"other": Track(path=straight(190.0, 190.0))},
        "scene-9003": {},
    }
    return drive(tmp_path_factory.mktemp("drive") / "root", scenes, ego=circle)


def frames_of(index: DatasetIndex, **options: object) -> NuScenesFrames:
    fixed = {"image_size": ImageSize(8, 8), "cameras": (), "num_sweeps": 0, "futures": True}
    return NuScenesFrames(root=index.root, split=SPLIT, **(fixed | options))


def annotations(index: DatasetIndex, frame: int, **options: object) -> Annotations:
    found = frames_of(index, **options)[frame].annotations
    assert found is not None
    return found


def test_the_vehicles_own_future_follows_its_circle(index: DatasetIndex) -> None:
    future = annotations(index, 0).ego_future
    assert future is not None and future.shape == (EGO_STEPS, 3)
    angle = 8.0 * 0.5 * np.arange(1, EGO_STEPS + 1) / 20.0
    expected = np.stack((20 * np.sin(angle), 20 * (1 - np.cos(angle)), angle), axis=1)
    np.testing.assert_allclose(future, expected, atol=1e-9)


def test_objects_move_in_the_ego_frame_of_now(index: DatasetIndex) -> None:
    found = annotations(index, 0)
    assert found.agent_futures_ego is not None and found.agent_futures_ego.shape == (2, AGENT_STEPS, 2)
    steps = np.arange(1, AGENT_STEPS + 1)
    expected = np.stack((10 + 2.0 * steps, np.full(len(steps), -5.0)), axis=1)  # north is ahead, 5 m to the right
    np.testing.assert_allclose(found.agent_futures_ego[0], expected, atol=1e-9)
    known = np.isfinite(found.agent_futures_ego[1]).all(axis=1)
    assert known.tolist() == [True, True, False, False, True, True, True] + [False] * 5
    np.testing.assert_allclose(found.agent_futures_ego[1][known], expected[known], atol=1e-9)


def test_no_future_reaches_into_the_next_scene(index: DatasetIndex) -> None:
    last = annotations(index, 13)
    assert np.isnan(last.ego_future).all() and np.isnan(last.agent_futures_ego).all()
    one_before = annotations(index, 12)
    assert np.isfinite(one_before.ego_future).all(axis=1).tolist() == [True] + [False] * 5


def test_a_frame_without_objects_still_has_the_vehicles_future(index: DatasetIndex) -> None:
    found = annotations(index, 2 * 14)
    assert found.agent_futures_ego.shape == (0, AGENT_STEPS, 2) and np.isfinite(found.ego_future).all()


def test_futures_come_only_where_asked_for_and_never_without_ground_truth(index: DatasetIndex) -> None:
    plain = annotations(index, 0, futures=False)
    assert plain.agent_futures_ego is None and plain.ego_future is None
    assert frames_of(index, with_annotations=False)[0].annotations is None


def test_a_key_frame_that_comes_late_is_no_truth_for_its_step(tmp_path: Path) -> None:
    tracks = {SCENE: {"a": Track(path=straight(0, 0))}}
    late = drive(tmp_path / "root", tracks, delays_us={2: 260_000, 3: 240_000}, ego=circle)
    found = annotations(late, 0)
    assert np.isfinite(found.ego_future).all(axis=1).tolist() == [True, False, True, True, True, True]
    assert np.isfinite(found.agent_futures_ego[0]).all(axis=1)[:4].tolist() == [True, False, True, True]


def test_labels_agree_with_what_the_protocols_measure_against(index: DatasetIndex) -> None:
    expert = read_ego_future(index, SPLIT)
    for frame in range(len(expert)):
        found = annotations(index, frame)
        valid = expert.valid[frame]
        np.testing.assert_array_equal(np.isfinite(found.ego_future).all(axis=1), valid)
        np.testing.assert_allclose(found.ego_future[valid], expert.poses_ego[frame, valid], atol=1e-9)
        rows = np.asarray(index.annotation_rows(frame), np.int64)
        np.testing.assert_allclose(found.agent_futures_ego, agent_futures(index, rows).in_ego(index), atol=1e-9)


def test_the_number_of_steps_is_free(index: DatasetIndex) -> None:
    T_ego_global = rigid_inverse(expert_pose(index))
    row = np.array([annotation_row(index, SCENE, "north", 0)])
    longer = agent_futures_ego(index, row, T_ego_global, num_steps=13)
    np.testing.assert_array_equal(longer[:, :3], agent_futures_ego(index, row, T_ego_global, num_steps=3))
    assert np.isfinite(longer).all()
    assert np.isfinite(ego_future(index, 0, T_ego_global, num_steps=13)).all()


def expert_pose(index: DatasetIndex) -> np.ndarray:
    return read_ego_future(index, SPLIT).T_global_ego[0]

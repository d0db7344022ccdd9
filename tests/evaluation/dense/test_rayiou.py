"""RayIoU: known values, traps, equality with a march in lock step, and counts that add up exactly."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.nuscenes_tiny import SPEED_MPS, START_US, T_EGO_LIDAR, T_global_ego_at, Tables, token, write_tiny
from fixtures.ray_reference import count_rays_in_lock_step, first_surfaces
from hypothesis import given, settings
from hypothesis import strategies as st

from bevstack.data.class_names import LIDAR_NAME, OCCUPANCY_CLASSES, OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.data.index import open_index
from bevstack.evaluation.dense.occupancy import OCC3D_NO_MASK, OccupancyScorer
from bevstack.evaluation.dense.rayiou import (
    OTHER_GRID_PROTOCOL,
    PROTOCOL,
    RayCounts,
    RayScorer,
    RayScores,
    count_rays,
    lidar_origins,
    ray_directions,
    score,
)
from bevstack.geometry.transforms import to_quaternion
from bevstack.types import OCC3D_GRID, Occupancy, OccupancyGrid, VoxelGrid

WALL, CAR, ROAD = (OCCUPANCY_CLASSES.index(name) for name in ("manmade", "car", "driveable_surface"))
ROOF = np.array([[0.0, 0.0, 1.84]])
SMALL = VoxelGrid(x_range_m=(-6.0, 6.0), y_range_m=(-5.0, 5.0), z_range_m=(-1.0, 3.0), voxel_m=0.5)


def truth_of(semantics: np.ndarray, grid: VoxelGrid = OCC3D_GRID) -> OccupancyGrid:
    everywhere = np.ones(semantics.shape, bool)
    return OccupancyGrid(semantics=semantics, camera_mask=everywhere, lidar_mask=everywhere, grid=grid)


def wall(ahead: slice, across: slice = slice(90, 110), up: slice = slice(2, 12)) -> np.ndarray:
    """Free space with a wall across the road; column 100 begins at the vehicle, 0.4 m each."""
    semantics = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    semantics[ahead, across, up] = WALL
    return semantics


def scored(prediction: np.ndarray, truth: np.ndarray, origins: np.ndarray = ROOF) -> RayScores:
    scorer = RayScorer()
    scorer.add("frame", Occupancy(semantics=prediction, grid=OCC3D_GRID), truth_of(truth), origins)
    return scorer.result()[PROTOCOL]


def occ3d_miou(prediction: np.ndarray, truth: np.ndarray) -> float:
    scorer = OccupancyScorer()
    scorer.add(Occupancy(semantics=prediction, grid=OCC3D_GRID), truth_of(truth))
    return scorer.result()[OCC3D_NO_MASK].mean_iou


def noise(seed: int, grid: VoxelGrid, full: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, grid.shape_xyz)
    return np.where(rng.random(grid.shape_xyz) < full, classes, OCCUPANCY_FREE).astype(np.uint8)


# -- rays -------------------------------------------------------------------------------------------------------------
def test_there_are_14040_unit_rays_between_minus_45_and_plus_13_degrees() -> None:
    rays = ray_directions().astype(np.float64)
    assert rays.shape == (39 * 360, 3)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, atol=1e-6)
    pitch = np.degrees(np.arcsin(rays[::360, 2]))
    assert pitch[0] == pytest.approx(-45.0) and pitch[9] == pytest.approx(-np.degrees(np.arctan(1 / 10)))
    assert (np.diff(pitch) > 0).all() and np.radians(pitch[-2]) < 0.21 <= np.radians(pitch[-1])
    np.testing.assert_allclose(1 / np.tan(np.radians(-pitch[:10])), np.arange(1, 11), rtol=1e-5)


def long_drive(tables: Tables) -> None:
    """Twenty key frames, five metres apart, instead of two; readings are those of the LiDAR alone."""
    assert SPEED_MPS == 10.0
    for number in range(2, 20):
        time_us, own = START_US + number * 500_000, token(f"key{number}")
        T_global_ego = T_global_ego_at(time_us)
        pose = {"rotation": to_quaternion(T_global_ego).tolist(), "translation": T_global_ego[:3, 3].tolist()}
        tables["ego_pose"].append({"token": own, "timestamp": time_us, **pose})
        last = tables["sample"][-1]
        last["next"] = own
        links = {"scene_token": token("scene"), "prev": last["token"], "next": ""}
        tables["sample"].append({"token": own, "timestamp": time_us, **links})
        reading = tables["sample_data"][-1]
        changed = {"token": own, "sample_token": own, "ego_pose_token": own, "timestamp": time_us, "is_key_frame": True}
        changed["filename"] = f"samples/{LIDAR_NAME}/key{number}.pcd.bin"
        tables["sample_data"].append({**reading, **changed, "prev": reading["token"]})
        reading["next"] = own
    tables["scene"][0] |= {"nbr_samples": 20, "last_sample_token": token("key19")}


def test_origins_are_the_places_of_the_lidar_in_its_scene_seen_from_the_present(tmp_path: Path) -> None:
    index = open_index(write_tiny(tmp_path / "two"))
    first, second = lidar_origins(index, 0), lidar_origins(index, 1)
    mounted = T_EGO_LIDAR[:3, 3]
    np.testing.assert_allclose(first, [mounted, mounted + (5, 0, 0)], atol=1e-5)
    np.testing.assert_allclose(second, [mounted - (5, 0, 0), mounted], atol=1e-5)


def test_of_many_origins_eight_within_39_metres_are_taken_evenly(tmp_path: Path) -> None:
    index = open_index(write_tiny(tmp_path / "long", edit=long_drive))
    assert index.num_samples == 20
    for sample in (0, 10):
        ahead_m = T_EGO_LIDAR[0, 3] + 5.0 * (np.arange(20) - sample)
        near = ahead_m[np.abs(ahead_m) < 39]
        expected = near[np.round(np.linspace(0, len(near) - 1, 8)).astype(int)]
        found = lidar_origins(index, sample)
        np.testing.assert_allclose(found[:, 0], expected, atol=1e-4)
        np.testing.assert_allclose(found[:, 1:], np.broadcast_to(T_EGO_LIDAR[1:3, 3], (8, 2)), atol=1e-4)


# -- known values -----------------------------------------------------------------------------------------------------
def test_the_labels_as_prediction_score_one_and_an_empty_prediction_zero() -> None:
    truth = wall(slice(150, 151))
    truth[:, :, 0] = ROAD
    best = scored(truth, truth)
    assert best.mean_iou == best.mean_iou_of_labelled == 1.0 and set(best.mean_iou_at.values()) == {1.0}
    assert best.class_iou["manmade"] == best.class_iou["driveable_surface"] == 1.0 and best.class_iou["car"] is None
    assert best.num_rays > 0 and sum(best.class_share.values()) == pytest.approx(1.0)
    worst = scored(np.full_like(truth, OCCUPANCY_FREE), truth)
    assert worst.mean_iou == 0.0 and worst.num_rays == best.num_rays


def test_a_wall_thickened_away_from_the_sensor_costs_miou_but_no_rayiou() -> None:
    truth, thick = wall(slice(150, 151)), wall(slice(150, 160))
    assert scored(thick, truth).mean_iou == 1.0
    assert occ3d_miou(thick, truth) == pytest.approx(0.1)
    thick_ahead = wall(slice(141, 151))
    assert scored(thick_ahead, truth).mean_iou < 1.0


def test_a_wall_moved_by_one_and_a_half_metres_is_right_at_two_and_four_metres_only() -> None:
    truth = wall(slice(150, 151), across=slice(98, 103))
    moved = wall(slice(154, 155), up=slice(0, 16))  # four voxels, 1.6 m, and wide enough that no ray misses it
    found = scored(moved, truth)
    assert found.mean_iou_at == {"1 m": 0.0, "2 m": 1.0, "4 m": 1.0}
    assert found.mean_iou == pytest.approx(2 / 3)


def test_depth_is_the_way_to_where_the_ray_leaves_the_voxel() -> None:
    semantics = np.full((6, 2, 2), OCCUPANCY_FREE, np.uint8)
    semantics[3, 0, 0] = WALL
    start = np.array([0.5, 0.5, 0.5])
    ends = start + [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    found, depth_m = first_surfaces(semantics, start, ends, 0.4)
    assert found.tolist() == [WALL, OCCUPANCY_FREE]
    assert depth_m[0] == pytest.approx(3.5 * 0.4), "the far side of the voxel, not the near one"


def test_what_is_predicted_where_the_labels_meet_nothing_does_not_count() -> None:
    truth = wall(slice(150, 151))
    with_car = truth.copy()
    with_car[40:50, 95:105, 2:8] = CAR  # behind the vehicle, where the labels are free
    assert scored(with_car, truth).mean_iou == 1.0


def test_a_class_that_is_only_predicted_counts_as_zero_and_the_mean_of_labelled_classes_stands_beside() -> None:
    truth = wall(slice(150, 151))
    half = truth.copy()
    half[150, 100:, 2:12] = CAR
    found = scored(half, truth)
    assert found.class_iou["car"] == 0.0
    assert found.mean_iou == pytest.approx(found.mean_iou_of_labelled / 2)
    assert 0.4 < found.class_iou["manmade"] < 0.6


def test_a_ray_through_unknown_voxels_does_not_count() -> None:
    truth = wall(slice(150, 151))
    whole = scored(truth, truth).num_rays
    truth[140, 100:, :] = OCCUPANCY_IGNORE
    prediction = np.where(truth == OCCUPANCY_IGNORE, ROAD, truth).astype(np.uint8)
    found = scored(prediction, truth)
    assert found.mean_iou == 1.0 and 0.4 * whole < found.num_rays < 0.6 * whole


# -- counting ---------------------------------------------------------------------------------------------------------
def assert_counts_agree(seed: int, full: float, origins: np.ndarray) -> None:
    prediction = Occupancy(semantics=noise(seed, SMALL, full), grid=SMALL)
    semantics = noise(seed + 1, SMALL, full)
    semantics[np.random.default_rng(seed).random(semantics.shape) < 0.02] = OCCUPANCY_IGNORE
    truth = truth_of(semantics, SMALL)
    found = count_rays(prediction, truth, origins).rays
    np.testing.assert_array_equal(found, count_rays_in_lock_step(prediction, truth, origins))


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.3))
def test_the_compiled_march_counts_as_the_march_in_lock_step(seed: int, full: float) -> None:
    origins = np.random.default_rng(seed).uniform((-5, -4, -1), (5, 4, 3), (2, 3))
    assert_counts_agree(seed, full, origins)


def test_both_marches_agree_from_below_and_from_above_the_grid() -> None:
    assert_counts_agree(3, 0.1, np.array([[1.0, 0.5, -1.3], [0.5, 2.0, 3.2]]))


def test_frames_add_up_exactly_however_they_are_shared_out() -> None:
    whole, parts = RayScorer(), [RayScorer(), RayScorer()]
    for seed in range(4):
        prediction = Occupancy(semantics=noise(seed, SMALL, 0.1), grid=SMALL)
        truth = truth_of(noise(seed + 10, SMALL, 0.1), SMALL)
        for scorer in (whole, parts[seed % 2]):
            scorer.add(f"frame{seed}", prediction, truth, ROOF)
    merged = RayScorer()
    for part in parts:
        merged.merge(part)
    assert merged.result() == whole.result() and list(whole.result()) == [OTHER_GRID_PROTOCOL]
    two = RayCounts.total(whole.counts[token] for token in ("frame0", "frame2"))
    assert score(two, 2, protocol=OTHER_GRID_PROTOCOL) == parts[0].result()[OTHER_GRID_PROTOCOL]


def test_two_origins_count_as_one_after_the_other() -> None:
    prediction, truth = Occupancy(semantics=noise(1, SMALL, 0.1), grid=SMALL), truth_of(noise(2, SMALL, 0.1), SMALL)
    both = np.array([[0.0, 0.0, 1.0], [2.0, -1.0, 0.5]])
    one_by_one = RayCounts.total(count_rays(prediction, truth, each[None]) for each in both)
    np.testing.assert_array_equal(count_rays(prediction, truth, both).rays, one_by_one.rays)
    assert not count_rays(prediction, truth, both[:0]).rays.any()


def test_no_frame_gives_no_number_and_nothing_met_gives_none() -> None:
    assert RayScorer().result() == {}
    empty = np.full(OCC3D_GRID.shape_xyz, OCCUPANCY_FREE, np.uint8)
    found = scored(empty, empty)
    assert found.mean_iou is None and found.num_rays == 0 and set(found.class_iou.values()) == {None}


def test_what_cannot_be_compared_is_refused() -> None:
    empty = np.full(SMALL.shape_xyz, OCCUPANCY_FREE, np.uint8)
    truth, scorer = truth_of(empty, SMALL), RayScorer()
    with pytest.raises(ValueError, match="labels of the model's format"):
        count_rays(Occupancy(semantics=wall(slice(1, 2)), grid=OCC3D_GRID), truth, ROOF)
    with pytest.raises(ValueError, match="class 18"):
        count_rays(Occupancy(semantics=empty + np.uint8(1), grid=SMALL), truth, ROOF)
    with pytest.raises(ValueError, match="finite numbers"):
        count_rays(Occupancy(semantics=empty, grid=SMALL), truth, ROOF * np.nan)
    scorer.add("a", Occupancy(semantics=empty, grid=SMALL), truth, ROOF)
    with pytest.raises(ValueError, match="sample a is counted already"):
        scorer.add("a", Occupancy(semantics=empty, grid=SMALL), truth, ROOF)
    with pytest.raises(ValueError, match="one scorer for each"):
        scorer.add("b", Occupancy(semantics=wall(slice(1, 2)), grid=OCC3D_GRID), truth_of(wall(slice(1, 2))), ROOF)

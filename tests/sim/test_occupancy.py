import hashlib

import numpy as np
import pytest
from fixtures.meshes import box, car_box
from fixtures.sensors import HEIGHT_PX, K_SMALL, WIDTH_PX, actor_at, looking_along_x, scene_of

from bevstack.geometry.transforms import from_xy_yaw, transform_points
from bevstack.sim.sensors.lidar import scan
from bevstack.sim.sensors.occupancy import FREE, occupancy_grid, occupancy_labels
from bevstack.sim.sensors.rig import T_EGO_LIDAR
from bevstack.types import OCC3D_GRID, VoxelGrid

CAR, ROAD, MANMADE = 4, 11, 15


def voxel(x, y, z):
    return tuple(int(np.floor((value - low) / OCC3D_GRID.voxel_m)) for value, low in zip((x, y, z), OCC3D_GRID.low_m))


def labels_of(scene, actors, T_global_ego=None):
    T_global_ego = np.eye(4) if T_global_ego is None else T_global_ego
    result = scan(scene, T_global_ego=T_global_ego, actors=actors, seed=1)
    points = transform_points(T_EGO_LIDAR, result.points[result.is_return, :3].astype(np.float64))
    cameras = [(K_SMALL, looking_along_x(), HEIGHT_PX, WIDTH_PX)]
    return occupancy_labels(
        scene, T_global_ego=T_global_ego, actors=actors, lidar_origin_ego=T_EGO_LIDAR[:3, 3],
        lidar_points_ego=points, cameras=cameras,
    )  # fmt: skip


def test_ground_car_wall_and_air_have_their_classes():
    scene = scene_of(box(size=(2, 8, 5), center=(20, 10, 0)))
    grid = occupancy_grid(scene, T_global_grid=np.eye(4), actors=[actor_at(10.2, 0.2, car_box())])
    assert grid.shape == (200, 200, 16)
    assert grid[voxel(-10, 5, 0.0)] == ROAD
    assert grid[voxel(10.2, 0.2, 0.8)] == CAR  # solid inside
    assert grid[voxel(19.1, 10, 2.0)] == MANMADE
    assert grid[voxel(5, 0, 2.0)] == FREE and grid[voxel(10.2, 0.2, 2.6)] == FREE


def test_ground_is_closed():
    grid = occupancy_grid(scene_of(), T_global_grid=np.eye(4), actors=[])
    level = voxel(0, 0, 0.0)[2]
    assert np.all((grid[:, :, level] == ROAD) | (grid[:, :, level - 1] == ROAD))


def test_the_grid_turns_with_the_ego_vehicle():
    ego = from_xy_yaw(5.0, 5.0, np.pi / 2)
    grid = occupancy_grid(scene_of(), T_global_grid=ego, actors=[actor_at(5.2, 17.2, car_box(), yaw_rad=np.pi / 2)])
    assert grid[voxel(12.2, 0.0, 0.8)] == CAR


def test_nothing_behind_a_wall_is_observed_and_the_wall_is():
    wall = box(size=(0.8, 30, 6), center=(12.2, 0.0, 0))
    labels = labels_of(scene_of(wall), [actor_at(20.2, 0.2, car_box())])
    for mask in (labels.camera_mask, labels.lidar_mask):
        assert mask[voxel(6.2, 0.2, 1.4)] == 1
        assert mask[voxel(11.9, 0.2, 1.4)] == 1
        assert mask[voxel(16.2, 0.2, 1.4)] == 0 and mask[voxel(20.2, 0.2, 0.8)] == 0


def test_the_camera_observes_only_what_lies_in_front_of_it():
    mask = labels_of(scene_of(), []).camera_mask
    assert mask[voxel(10, 0, 1.4)] == 1 and mask[voxel(-10, 0, 1.4)] == 0


def test_lidar_hits_are_observed_and_almost_all_occupied():
    actors = [actor_at(9, 4, car_box())]
    scene = scene_of(box(size=(4, 4, 5), center=(-12, 6, 0)))
    labels = labels_of(scene, actors)
    result = scan(scene, T_global_ego=np.eye(4), actors=actors, seed=1)
    points = transform_points(T_EGO_LIDAR, result.points[result.is_return, :3].astype(np.float64))
    index = np.floor((points - OCC3D_GRID.low_m) / OCC3D_GRID.voxel_m).astype(int)
    inside = np.all((index >= 0) & (index < (200, 200, 16)), axis=1)
    x, y, z = index[inside].T
    assert np.all(labels.lidar_mask[x, y, z] == 1)
    near = np.minimum(labels.semantics[x, y, z], labels.semantics[x, y, np.maximum(z - 1, 0)])
    assert (near != FREE).mean() > 0.95


def test_masks_are_zero_or_one():
    labels = labels_of(scene_of(), [])
    for mask in (labels.camera_mask, labels.lidar_mask):
        assert set(np.unique(mask).tolist()) == {0, 1}
    assert labels.lidar_mask.mean() == pytest.approx(labels.lidar_mask.astype(float).mean())


def test_the_grid_may_be_finer_and_lie_in_the_frame_of_a_sensor():
    fine = VoxelGrid(x_range_m=(-20.0, 20.0), y_range_m=(-20.0, 20.0), z_range_m=(-5.0, 3.0), voxel_m=0.2)
    actors = [actor_at(10.2, 0.2, car_box())]
    grid = occupancy_grid(scene_of(), T_global_grid=T_EGO_LIDAR, actors=actors, grid=fine)
    x, y, z = np.argwhere(grid == CAR).T * 0.2 + 0.1 + np.array([fine.low_m]).T
    assert y.mean() == pytest.approx(10.2 - T_EGO_LIDAR[0, 3], abs=0.15), "ahead of the LiDAR is its y"
    assert x.mean() == pytest.approx(-0.2, abs=0.15)
    assert z.min() == pytest.approx(-T_EGO_LIDAR[2, 3], abs=0.25)
    assert len(z) * 0.2**3 == pytest.approx(np.prod([4.6, 1.9, 1.6]), rel=0.35), "solid"


def test_labels_of_a_hand_made_scene_stay_as_they_were_bit_for_bit():
    scene = scene_of(box(size=(2, 8, 5), center=(20, 10, 0)), box(size=(0.8, 30, 6), center=(-12.2, 0.0, 0)))
    actors = [actor_at(10.2, 0.2, car_box()), actor_at(9.5, 3.1, car_box()), actor_at(39.0, -38.5, car_box())]
    grid = occupancy_grid(scene, T_global_grid=np.eye(4), actors=actors)
    digest = hashlib.sha256(grid.tobytes()).hexdigest()
    assert digest == "d3f5e5ca121f3d677ea4ee6928d158dbc22b7440084cb34f0c180fa4ffbbef9e"

"""LiDAR files and accumulation, against the development kit's classes and hand-made numbers."""

import logging
from pathlib import Path

import numpy as np
import pytest
from nuscenes.utils.data_classes import LidarPointCloud

from bevstack.data.lidar import accumulate_sweeps, read_points
from bevstack.geometry.transforms import from_quaternion, from_xy_yaw, transform_points
from bevstack.types import PointIndex
from bevstack.types.errors import DatasetError


def written(path: Path, points: np.ndarray) -> Path:
    points.astype(np.float32).tofile(path)
    return path


def random_points(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = rng.choice((0.8, 20.0), count)[:, None] * (1.0, 1.0, 0.1)
    return np.column_stack(
        (rng.normal(size=(count, 3)) * spread, rng.uniform(0, 255, count), rng.integers(0, 32, count))
    )


def devkit_accumulation(paths: list[Path], T_ego_lidar: np.ndarray, ages_s: np.ndarray, radius_m: float) -> np.ndarray:
    """What `LidarPointCloud.from_file_multisweep` does with each sweep, on the kit's own class."""
    clouds, times = [], []
    for path, T_sweep, age_s in zip(paths, T_ego_lidar, ages_s, strict=True):
        cloud = LidarPointCloud.from_file(str(path))
        cloud.remove_close(radius_m)
        cloud.transform(T_sweep)
        clouds.append(cloud.points)
        times.append(np.full(cloud.nbr_points(), age_s))
    return np.column_stack((np.hstack(clouds).T, np.concatenate(times)))


@pytest.fixture
def sweeps(tmp_path: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    # Bins are named as the kit demands; sizes differ as real sweeps do.
    paths = [written(tmp_path / f"{i}.pcd.bin", random_points(500 + 37 * i, i)) for i in range(4)]
    rng = np.random.default_rng(1)
    T_ego_lidar = from_quaternion(rng.normal(size=(4, 4)), rng.normal(size=(4, 3)) * 3)
    return paths, T_ego_lidar, np.array([0.0, 0.05, 0.1, 0.15])


@pytest.mark.parametrize("radius_m", [0.0, 1.0, 3.0])
def test_accumulation_equals_the_development_kit(
    sweeps: tuple[list[Path], np.ndarray, np.ndarray], radius_m: float
) -> None:
    paths, T_ego_lidar, ages_s = sweeps
    ours = accumulate_sweeps(paths, T_ego_lidar, ages_s, radius_m)
    theirs = devkit_accumulation(paths, T_ego_lidar, ages_s, radius_m)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.nuscenes
def test_accumulation_of_real_sweeps_equals_the_development_kit(nuscenes_real: Path) -> None:
    paths = [
        next((nuscenes_real / "frames" / "scene-0061" / "samples" / "LIDAR_TOP").glob("*.bin")),
        *sorted((nuscenes_real / "lidar_extra").glob("n0*.pcd.bin")),
    ]
    T_ego_lidar = np.stack([from_xy_yaw(0.94 - i, 0.0, -np.pi / 2 + 0.1 * i, 1.84) for i in range(len(paths))])
    ages_s = np.arange(len(paths)) * 0.05
    ours = accumulate_sweeps(paths, T_ego_lidar, ages_s)
    np.testing.assert_allclose(ours, devkit_accumulation(paths, T_ego_lidar, ages_s, 1.0), atol=1e-5)


def test_a_point_ahead_of_the_sensor_lands_ahead_of_the_vehicle(tmp_path: Path) -> None:
    # nuScenes' sensor: y forward, x right, 1.84 m up and 0.94 m ahead of the rear axle.
    path = written(tmp_path / "a.bin", np.array([[0.0, 10.0, -1.0, 77.0, 5.0], [2.0, 0.0, 0.0, 1.0, 0.0]]))
    T_ego_lidar = from_xy_yaw(0.94, 0.0, -np.pi / 2, 1.84)[None]
    points = accumulate_sweeps([path], T_ego_lidar, np.array([0.05]))
    np.testing.assert_allclose(points[0], [10.94, 0.0, 0.84, 77.0, 0.05], atol=1e-6)
    np.testing.assert_allclose(points[1, :3], [0.94, -2.0, 1.84], atol=1e-6)  # right is -y


def test_ego_motion_puts_a_standing_post_of_two_sweeps_in_one_place(tmp_path: Path) -> None:
    post_global = np.array([[30.0, 4.0, 1.0]])
    T_global_ego = [from_xy_yaw(10.0, 0.0, 0.0), from_xy_yaw(9.0, -0.2, 0.05)]
    T_ego_lidar = from_xy_yaw(0.9, 0.0, -np.pi / 2, 1.8)
    paths, transforms = [], []
    for i, T_global_egothen in enumerate(T_global_ego):
        seen = transform_points(np.linalg.inv(T_global_egothen @ T_ego_lidar), post_global)
        paths.append(written(tmp_path / f"{i}.bin", np.column_stack((seen, [[9.0]], [[0.0]]))))
        transforms.append(np.linalg.inv(T_global_ego[0]) @ T_global_egothen @ T_ego_lidar)
    points = accumulate_sweeps(paths, np.stack(transforms), np.array([0.0, 0.05]))
    np.testing.assert_allclose(points[:, :3], [[20.0, 4.0, 1.0]] * 2, atol=1e-5)
    np.testing.assert_allclose(points[:, PointIndex.AGE_S], [0.0, 0.05])


def test_the_vehicle_itself_is_cut_by_a_square_and_not_by_a_circle(tmp_path: Path) -> None:
    rows = np.array([[0.9, 0.9, 0, 1, 0], [1.1, 0.0, 0, 2, 0], [0.0, -1.1, 0, 3, 0], [-0.9, 0.1, 5, 4, 0]], np.float32)
    path = written(tmp_path / "a.bin", rows)
    points = accumulate_sweeps([path], np.eye(4)[None], np.zeros(1), min_distance_m=1.0)
    assert points[:, PointIndex.INTENSITY].tolist() == [2, 3]


def test_points_that_are_not_finite_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = np.full((4, 5), 7.0, np.float32)
    rows[1, 2], rows[3, 3] = np.nan, np.inf
    path = written(tmp_path / "a.bin", rows)
    with caplog.at_level(logging.WARNING):
        accumulated = accumulate_sweeps([path], np.eye(4)[None], np.zeros(1))
        raw = read_points(path)
    assert len(accumulated) == len(raw) == 2
    assert sum("2 of 4 points are not finite" in record.message for record in caplog.records) == 2


def test_raw_points_come_as_stored_with_ring(tmp_path: Path) -> None:
    points = random_points(50, 0).astype(np.float32)
    np.testing.assert_array_equal(read_points(written(tmp_path / "a.bin", points)), points)


def test_empty_sweeps_and_no_sweeps_give_no_points(tmp_path: Path) -> None:
    empty = written(tmp_path / "a.bin", np.zeros((0, 5)))
    assert read_points(empty).shape == (0, 5)
    assert accumulate_sweeps([empty], np.eye(4)[None], np.zeros(1)).shape == (0, 5)
    assert accumulate_sweeps([], np.zeros((0, 4, 4)), np.zeros(0)).shape == (0, 5)


@pytest.mark.parametrize("read", [read_points, lambda path: accumulate_sweeps([path], np.eye(4)[None], np.zeros(1))])
def test_a_truncated_or_missing_sweep_is_named(tmp_path: Path, read: object) -> None:
    path = tmp_path / "cut.pcd.bin"
    path.write_bytes(random_points(10, 0).astype(np.float32).tobytes()[:-3])
    with pytest.raises(DatasetError, match=r"cut\.pcd\.bin: 197 bytes are not whole points.*fetch this file again"):
        read(path)
    with pytest.raises(DatasetError, match=r"none\.bin: No such file"):
        read(tmp_path / "none.bin")


def test_a_damaged_pose_or_a_wrong_count_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.bin", random_points(10, 0))
    with pytest.raises(ValueError, match="not finite"):
        accumulate_sweeps([path], np.full((1, 4, 4), np.nan), np.zeros(1))
    with pytest.raises(ValueError, match="1 sweeps"):
        accumulate_sweeps([path], np.stack([np.eye(4)] * 2), np.zeros(2))

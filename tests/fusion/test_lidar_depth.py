import numpy as np
import torch
from fixtures.batches import camera_matrix, camera_pose

from bevstack.fusion import lidar_depth
from bevstack.fusion.lidar_depth import depth_histogram
from bevstack.geometry.transforms import inverse

EDGES_M = torch.linspace(1, 21, 21)


def arguments(points: torch.Tensor, frames: torch.Tensor, num_frames: int, num_cameras: int = 3) -> tuple:
    T_ego_cam = torch.stack([camera_pose(yaw) for yaw in (0.0, -1.0, 2.0)[:num_cameras]])
    K_cam = camera_matrix(32, 64).expand(num_frames, num_cameras, 3, 3)
    mask = torch.ones((num_frames, num_cameras), dtype=torch.bool)
    return points, frames, K_cam, inverse(T_ego_cam).expand(num_frames, num_cameras, 4, 4), mask


def test_a_point_straight_ahead_is_counted_in_the_middle_at_its_depth() -> None:
    points = torch.tensor([[10.4, -0.1, 1.4]])
    counts = depth_histogram(
        *arguments(points, torch.tensor([0]), 1, 1), edges_m=EDGES_M, stride=8, feature_size=(4, 8)
    )
    assert counts.shape == (1, 1, 20, 4, 8)
    assert counts.sum() == 1 and counts[0, 0, 9, 2, 4] == 1  # bin 10 to 11 m; just right of and below the centre


def test_the_fast_path_counts_what_the_standard_operations_count(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    points = torch.from_numpy(rng.uniform((-20, -20, -1), (20, 20, 3), (4000, 3)).astype(np.float32))
    frames = torch.sort(torch.from_numpy(rng.integers(0, 2, 4000))).values
    given = arguments(points, frames, 2)
    given[4][1, 2] = False
    settings = {"edges_m": EDGES_M, "stride": 8, "feature_size": (4, 8)}
    fast = depth_histogram(*given, **settings)
    monkeypatch.setattr(lidar_depth.torch.compiler, "is_exporting", lambda: True)
    standard = depth_histogram(*given, **settings)
    assert fast.sum() > 500
    assert (fast - standard).abs().sum() <= 4  # a point on the edge of a bin may round either way
    assert not fast[1, 2].any()


def test_points_behind_the_camera_and_outside_the_picture_do_not_count() -> None:
    points = torch.tensor([[-10.0, 0.0, 1.5], [10.0, 9.0, 1.5], [0.5, 0.0, 1.5], [30.0, 0.0, 1.5]])
    frames = torch.zeros(4, dtype=torch.int64)
    counts = depth_histogram(*arguments(points, frames, 1, 1), edges_m=EDGES_M, stride=8, feature_size=(4, 8))
    assert not counts.any()

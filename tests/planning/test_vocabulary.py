from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.planning_scenes import NAN, driven

from bevstack.planning.path_motion import wrapped
from bevstack.planning.vehicle import NUSCENES_VEHICLE
from bevstack.planning.vocabulary import (
    Vocabulary,
    apart,
    clustered_vocabulary,
    farthest_points,
    kinematic_grid,
    kinematic_vocabulary,
    mirrored,
    read_vocabulary,
    write_vocabulary,
)

GRID = kinematic_grid()
SMALL = kinematic_vocabulary(65)


def as_set(poses: torch.Tensor) -> set[tuple[int, ...]]:
    return {tuple((1000 * points).round().int().flatten().tolist()) for points in poses[..., :2] + 0.0}


@pytest.mark.parametrize("size", [1, 2, 65, 128])
def test_a_vocabulary_has_its_size_and_no_trajectory_twice(size: int) -> None:
    poses = kinematic_vocabulary(size)
    assert poses.shape == (size, 6, 3)
    assert len(as_set(poses)) == size


def test_the_mirror_of_a_vocabulary_is_the_vocabulary() -> None:
    assert as_set(mirrored(SMALL)) == as_set(SMALL)


def test_the_vehicle_can_drive_every_trajectory() -> None:
    assert wrapped(torch.diff(GRID[..., 2], dim=1)).abs().max() <= NUSCENES_VEHICLE.max_lateral_mps2 * 0.5
    assert (SMALL[:, 0, :2].norm(dim=-1) <= NUSCENES_VEHICLE.max_speed_mps * 0.5).all()
    assert SMALL[0].abs().max() == 0  # it may stand still


def test_a_larger_vocabulary_leaves_less_uncovered() -> None:
    gaps = [apart(GRID[::7, :, :2], kinematic_vocabulary(size)[..., :2]).amin(dim=1).max() for size in (33, 129)]
    assert gaps[1] < 0.7 * gaps[0]


def test_a_vocabulary_is_the_same_every_time() -> None:
    assert torch.equal(kinematic_vocabulary(65), SMALL)


def test_farthest_points_of_points_on_a_line_are_its_ends_first() -> None:
    points = torch.tensor([3.0, 0.0, 1.0, 10.0]).view(4, 1, 1) * torch.tensor([1.0, 0.0])
    assert farthest_points(points, 3).tolist() == [1, 3, 0]


def futures(count: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    parts = [driven(3.0 + (k % 7), curvature=0.02 * (k % 5 - 2)) for k in range(count)]
    return torch.stack(parts)[..., :2] + 0.2 * torch.randn(count, 1, 2, generator=generator)


def test_mirrored_futures_give_the_mirrored_vocabulary() -> None:
    poses = clustered_vocabulary(futures(), 8)
    flipped = clustered_vocabulary(futures() * torch.tensor([1.0, -1.0]), 8)
    torch.testing.assert_close(flipped[..., :2], mirrored(poses)[..., :2])
    assert wrapped(flipped[..., 2] + poses[..., 2]).abs().max() < 1e-5


def test_clusters_that_are_far_apart_are_found_with_their_means() -> None:
    near, far = driven(1.0)[:, :2], driven(12.0)[:, :2]
    spread = torch.tensor([-0.1, 0.0, 0.1]).view(3, 1, 1)
    poses = clustered_vocabulary(torch.cat((near + spread, far + spread)), 2)
    found = poses[poses[:, -1, 0].argsort(), :, :2]
    torch.testing.assert_close(found, torch.stack((near, far)), atol=1e-4, rtol=0)


def test_futures_that_do_not_suffice_or_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match="size=61"):
        clustered_vocabulary(futures(), 61)
    unknown = futures()
    unknown[3, 5] = NAN
    with pytest.raises(ValueError, match="unknown steps"):
        clustered_vocabulary(unknown, 4)
    with pytest.raises(ValueError, match="size=0"):
        kinematic_vocabulary(0)


def test_a_vocabulary_travels_with_the_weights(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "v.npz", clustered_vocabulary(futures(), 5))
    trained = Vocabulary(size=5, weights=tmp_path / "v.npz")
    loaded = Vocabulary(size=5)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(loaded.poses, trained.poses)
    assert len(loaded) == 5


def test_files_that_are_no_vocabulary_are_refused(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "v.npz", SMALL)
    torch.testing.assert_close(read_vocabulary(tmp_path / "v.npz"), SMALL)
    with pytest.raises(ValueError, match="set size"):
        Vocabulary(size=64, weights=tmp_path / "v.npz")
    (tmp_path / "text.npz").write_text("nothing")
    for name in ("text.npz", "missing.npz"):
        with pytest.raises(ValueError, match="no vocabulary"):
            read_vocabulary(tmp_path / name)
    np.savez(tmp_path / "odd.npz", poses=np.zeros((3, 6, 2)), step_s=0.5)
    with pytest.raises(ValueError, match="not \\(V, T, 3\\)"):
        read_vocabulary(tmp_path / "odd.npz")

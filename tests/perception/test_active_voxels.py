from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, one_frame, random_cloud

from bevstack.perception.lidar.active_voxels import active_voxels
from bevstack.perception.lidar.pillars import PillarEncoder


def cloud(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array([(*row, 10.0, 0.0) for row in rows])


def test_a_point_lights_the_voxel_that_it_lies_in() -> None:
    # Levels of 1.6 m from -5 m; 0.8 m cells from -12.8 m.
    voxels = active_voxels(make_batch([cloud((10.1, -5.1, 0.5))]), SMALL_GRID, 5)
    assert voxels.index_byxz.tolist() == [[0, 9, 28, 3]] and voxels.num_levels == 5


def test_many_points_of_a_voxel_count_once_and_levels_of_a_column_apart() -> None:
    voxels = active_voxels(
        make_batch([cloud((0.1, 0.1, 0.0), (0.7, 0.2, 0.1), (0.1, 0.1, -3.0), (0.2, 0.6, 2.9))]), SMALL_GRID, 5
    )
    assert voxels.index_byxz.tolist() == [[0, 16, 16, 1], [0, 16, 16, 3], [0, 16, 16, 4]]


def test_points_outside_the_range_light_nothing() -> None:
    outside = cloud((13.0, 0, 0), (-12.9, 0, 0), (0, 12.8, 0), (0, 0, 3.0), (0, 0, -5.1))
    assert len(active_voxels(make_batch([outside]), SMALL_GRID, 5).index_byxz) == 0


def test_the_voxels_are_exactly_those_that_hold_a_point_in_order() -> None:
    points = random_cloud(np.random.default_rng(0))
    voxels = active_voxels(make_batch([points]), SMALL_GRID, 5)
    inside = (np.abs(points[:, :2]) < 12.8).all(1) & (points[:, 2] >= -5) & (points[:, 2] < 3)
    x, y = ((points[inside, :2] + np.float32(12.8)) / np.float32(0.8)).astype(int).T
    level = ((points[inside, 2] + 5) / 1.6).astype(int)
    expected = np.unique(np.column_stack((np.zeros_like(x), y, x, level)), axis=0)
    np.testing.assert_array_equal(voxels.index_byxz.numpy(), expected)


def test_two_frames_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(1)
    batch = make_batch([random_cloud(rng), random_cloud(rng, 300)])
    together = active_voxels(batch, SMALL_GRID, 4).index_byxz
    for index in range(2):
        alone = active_voxels(one_frame(batch, index), SMALL_GRID, 4).index_byxz
        assert torch.equal(together[together[:, 0] == index][:, 1:], alone[:, 1:])


def test_a_frame_without_lidar_has_no_voxel_even_if_points_are_left() -> None:
    batch = make_batch([random_cloud(np.random.default_rng(0)), cloud((1.0, 1.0, 0.0))])
    batch = replace(batch, lidar_mask=torch.tensor([False, True]))
    assert active_voxels(batch, SMALL_GRID, 5).index_byxz[:, 0].tolist() == [1]
    assert active_voxels(make_batch([None]), SMALL_GRID, 5).index_byxz.shape == (0, 4)


def test_no_level_is_refused() -> None:
    with pytest.raises(ValueError, match="num_levels=0"):
        active_voxels(make_batch([None]), SMALL_GRID, 0)
    with pytest.raises(ValueError, match="voxel_levels=0"):
        PillarEncoder(grid=SMALL_GRID, voxel_levels=0)


def test_the_pillar_encoder_offers_voxels_only_where_it_is_asked() -> None:
    batch = make_batch([random_cloud(np.random.default_rng(0))])
    assert PillarEncoder(grid=SMALL_GRID).eval()(batch).voxels is None
    voxels = PillarEncoder(grid=SMALL_GRID, voxel_levels=5).eval()(batch).voxels
    assert voxels is not None
    assert torch.equal(voxels.index_byxz, active_voxels(batch, SMALL_GRID, 5).index_byxz)

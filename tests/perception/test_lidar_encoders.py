"""What holds for every LiDAR encoder."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, one_frame, random_cloud
from torch import nn

from bevstack.perception.lidar.pillars import PillarEncoder
from bevstack.perception.lidar.sparse_voxels import SparseVoxelEncoder

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "pillars": lambda: PillarEncoder(grid=SMALL_GRID, pillar_channels=8, out_channels=12),
    "voxels": lambda: SparseVoxelEncoder(
        grid=SMALL_GRID, channels=(8, 8, 12), voxel_height_m=0.4, blocks=1, slice_channels=6
    ),
}


@pytest.fixture(params=MAKERS)
def encoder(request: pytest.FixtureRequest) -> nn.Module:
    return MAKERS[request.param]().eval()


@pytest.mark.parametrize("is_training", [False, True])
def test_an_empty_cloud_and_a_single_point_give_finite_features(encoder: nn.Module, is_training: bool) -> None:
    encoder.train(is_training)
    for cloud in (np.zeros((0, 5)), np.array([[1.0, 1, 0, 3, 0]])):
        for batch in (make_batch([cloud]), make_batch([cloud, cloud[:0]])):
            bev = encoder(batch)
            assert bev.data.isfinite().all() and bev.valid.all()


def test_a_frame_without_lidar_is_zero_and_not_valid(encoder: nn.Module) -> None:
    bev = encoder(make_batch([None, random_cloud(np.random.default_rng(0))]))
    assert not bev.data[0].any() and not bev.valid[0].any()
    assert bev.data[1].any() and bev.valid[1].all()


def test_two_frames_at_once_equal_each_alone(encoder: nn.Module) -> None:
    rng = np.random.default_rng(0)
    batch = make_batch([random_cloud(rng), random_cloud(rng, 300)])
    together = encoder(batch).data
    for index in range(2):
        torch.testing.assert_close(together[index], encoder(one_frame(batch, index)).data[0], rtol=1e-4, atol=1e-5)

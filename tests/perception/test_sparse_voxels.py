import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, one_frame, random_cloud

from bevstack.perception.lidar.sparse_voxels import SparseVoxelEncoder
from bevstack.perception.lidar.voxelize import voxel_means


def make_encoder(**changes: object) -> SparseVoxelEncoder:
    settings = {"grid": SMALL_GRID, "channels": (8, 8, 12), "voxel_height_m": 0.4, "blocks": 1, "slice_channels": 6}
    return SparseVoxelEncoder(**{**settings, **changes}).eval()


def test_the_fast_voxel_means_equal_the_standard_operations() -> None:
    points, key = torch.randn(3000, 5), torch.randint(0, 2**40, (300,))[torch.randint(0, 300, (3000,))]
    fast = voxel_means(points, key, backend="numba")
    order = fast[0].argsort()
    for ours, reference in zip(fast, voxel_means(points, key, backend="torch"), strict=True):
        torch.testing.assert_close(ours[order], reference, rtol=1e-5, atol=1e-5)


def test_the_mean_of_two_points_in_a_voxel_is_halfway() -> None:
    keys, means, counts = voxel_means(torch.tensor([[1.0, 2], [3, 4], [9, 9]]), torch.tensor([7, 7, 2]))
    assert keys.tolist() == [7, 2] and means.tolist() == [[2, 3], [9, 9]] and counts.tolist() == [2, 1]


def test_a_point_becomes_the_voxel_that_it_lies_in() -> None:
    indices, features = make_encoder().voxels(make_batch([None, np.array([[10.1, 5.1, 0.5, 51, 0.25]])]))
    assert indices.tolist() == [[1, 13, 89, 114]]  # (0.5 + 5) / 0.4, (5.1 + 12.8) / 0.2, (10.1 + 12.8) / 0.2
    torch.testing.assert_close(features, torch.tensor([[10.1 / 12.8, 5.1 / 12.8, 0.25, 0.2, 0.5]]))


def test_a_cluster_of_points_lights_features_around_its_place_only() -> None:
    rng = np.random.default_rng(0)
    cloud = np.column_stack((rng.uniform(4, 5, 100), rng.uniform(-7, -6, 100), rng.uniform(0, 1, (100, 3))))
    bev = make_encoder()(make_batch([cloud]))
    lit = bev.data[0].abs().sum(0) > 0
    x, y = SMALL_GRID.centers_m()[lit].unbind(-1)
    assert lit.any() and (x - 4.5).abs().max() < 4.5 and (y + 6.5).abs().max() < 4.5


@pytest.mark.parametrize(
    ("channels", "height_m"), [((8, 8), 0.8), ((8, 8, 12), 0.4), ((8, 8, 12), 0.25), ((8, 8, 12, 12), 0.2)]
)
def test_the_output_lies_on_the_grid_with_the_promised_channels(channels: tuple[int, ...], height_m: float) -> None:
    encoder = make_encoder(channels=channels, voxel_height_m=height_m)
    bev = encoder(make_batch([random_cloud(np.random.default_rng(0))]))
    assert bev.data.shape == (1, encoder.out_channels, 32, 32) and bev.valid.all()


def test_backward_works_without_cuda_and_reaches_every_parameter() -> None:
    encoder = make_encoder().train()
    encoder(make_batch([random_cloud(np.random.default_rng(0))])).data.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("is_training", [False, True])
def test_an_empty_cloud_and_a_single_point_give_finite_features(is_training: bool) -> None:
    encoder = make_encoder().train(is_training)
    for cloud in (np.zeros((0, 5)), np.array([[1.0, 1, 0, 3, 0]])):
        bev = encoder(make_batch([cloud]))
        assert bev.data.isfinite().all() and bev.valid.all()


def test_a_frame_without_lidar_is_zero_and_not_valid() -> None:
    bev = make_encoder()(make_batch([None, random_cloud(np.random.default_rng(0))]))
    assert not bev.data[0].any() and not bev.valid[0].any()
    assert bev.data[1].any() and bev.valid[1].all()


def test_two_frames_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    encoder, batch = make_encoder(), make_batch([random_cloud(rng), random_cloud(rng, 300)])
    together = encoder(batch).data
    for index in range(2):
        torch.testing.assert_close(together[index], encoder(one_frame(batch, index)).data[0], rtol=1e-4, atol=1e-5)


def test_a_height_that_is_no_whole_number_of_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match="0.3 m voxels"):
        make_encoder(voxel_height_m=0.3)

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, random_cloud

from bevstack.perception.lidar.sparse_voxels import SparseVoxelEncoder
from bevstack.perception.lidar.voxelize import spread_sample, voxel_means


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


def test_a_height_that_is_no_whole_number_of_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match="0.3 m voxels"):
        make_encoder(voxel_height_m=0.3)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_only_the_first_points_of_a_voxel_count_up_to_the_limit(backend: str) -> None:
    points = torch.tensor([[1.0], [9.0], [3.0], [100.0], [7.0]])
    keys, means, counts = voxel_means(points, torch.tensor([5, 2, 5, 5, 2]), max_points=2, backend=backend)
    order = keys.argsort()
    assert keys[order].tolist() == [2, 5] and means[order, 0].tolist() == [8, 2] and counts[order].tolist() == [2, 2]


def test_a_sample_of_voxels_keeps_the_limit_in_each_frame_and_does_not_ask_for_their_order() -> None:
    key = torch.arange(3000)
    frame = (key >= 1000).long() + (key >= 1100).long()
    kept = spread_sample(key, frame, 4, 200)
    assert torch.bincount(frame[kept], minlength=4).tolist() == [200, 100, 200, 0]
    order = torch.randperm(len(key))
    assert torch.equal(spread_sample(key[order], frame[order], 4, 200), kept[order])
    assert 40 < int(kept[:500].sum()) < 160  # half of the first frame: no region is preferred
    assert spread_sample(key, frame, 4, 1900).all()


def test_the_limit_of_voxels_differs_between_training_and_evaluation() -> None:
    encoder, batch = make_encoder(max_voxels=(50, 80)), make_batch([random_cloud(np.random.default_rng(0))])
    assert len(encoder.voxels(batch)[0]) == 80 and len(encoder.train().voxels(batch)[0]) == 50


def paper_encoder(**changes: object) -> SparseVoxelEncoder:
    """The stages of the paper, with few channels, over a small area."""
    settings = {"channels": (4, 4, 4, 4), "voxel_height_m": 0.2, "slice_channels": 3, "voxel_levels": 5}
    return make_encoder(**{**settings, **changes})


def test_the_active_voxels_are_the_sites_of_the_last_stage_in_five_levels_and_sorted() -> None:
    rng = np.random.default_rng(0)
    voxels = paper_encoder()(make_batch([random_cloud(rng), None, random_cloud(rng, 20)])).voxels
    assert voxels is not None and voxels.num_levels == 5
    frame, row, column, level = voxels.index_byxz.unbind(1)
    flat = ((frame * 32 + row) * 32 + column) * 5 + level
    assert (flat.diff() > 0).all() and set(frame.tolist()) == {0, 2}
    assert row.max() < 32 and column.max() < 32 and level.max() < 5


def test_a_point_makes_the_level_active_that_its_height_lies_in() -> None:
    for z_m in (-4.2, -2.6, -1.0, 0.6, 2.2):  # the middle of each level of z from -5 to 3 m
        cloud = np.array([[4.4, -3.6, z_m, 3, 0], [4.45, -3.6, z_m, 3, 0]])
        voxels = paper_encoder()(make_batch([cloud])).voxels
        assert voxels is not None
        own = voxels.index_byxz[(voxels.index_byxz[:, 1:3] == torch.tensor([11, 21])).all(dim=1)]
        assert round((z_m + 4.2) / 1.6) in own[:, 3].tolist()


def test_a_frame_without_points_has_no_active_voxel() -> None:
    voxels = paper_encoder()(make_batch([np.zeros((0, 5))])).voxels
    assert voxels is not None and len(voxels.index_byxz) == 0
    assert make_encoder()(make_batch([np.zeros((0, 5))])).voxels is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"voxel_levels": 4}, "voxel_levels=4 must be 5"), ({"max_voxels": (0, 5)}, "max_voxels"),
     ({"max_points_per_voxel": 0}, "max_points_per_voxel")],
)  # fmt: skip
def test_levels_and_limits_that_do_not_fit_are_refused(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        paper_encoder(**changes)

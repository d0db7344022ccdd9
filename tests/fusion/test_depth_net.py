import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, one_frame, random_cloud

from bevstack.fusion.depth_net import LidarDepthNet
from bevstack.fusion.lift_splat import LiftSplat


def make_net(**changes: object) -> LidarDepthNet:
    settings = {"in_channels": 4, "stride": 8, "depth_bins": 6, "context_channels": 3}
    return LidarDepthNet(**{**settings, **changes}).eval()


def features(batch_size: int = 1) -> torch.Tensor:
    return torch.randn(batch_size, 6, 4, 4, 8)


def test_a_point_straight_ahead_is_its_depth_in_one_pixel_of_the_front_camera() -> None:
    picture = make_net().depth_picture(make_batch([np.array([[10.0, -0.1, 1.4, 30, 0]])]))
    (where,) = (picture[0] > 0).nonzero()
    assert where.tolist() == [0, 16, 32]  # the camera looks along x; right of and below the middle of 32 x 64 pixels
    assert picture.sum() == pytest.approx(10.0)


def test_the_nearest_of_two_points_in_a_pixel_counts_in_either_order() -> None:
    rows = np.array([[10.0, 0, 1.5, 30, 0], [20.0, 0, 1.5, 30, 0]])
    for cloud in (rows, rows[::-1].copy()):
        assert make_net().depth_picture(make_batch([cloud]))[0, 0].max() == pytest.approx(10.0)


def test_points_behind_too_far_too_old_or_of_a_missing_camera_are_left_out() -> None:
    rows = np.array([[-10.0, 0, 1.5, 30, 0], [70.0, 0, 1.5, 30, 0], [10.0, 0, 1.5, 30, 0.4]])
    batch = make_batch([rows])
    picture = make_net(lidar_max_age_s=0.15).depth_picture(batch)
    assert not picture[0, 0].any() and picture[0, 3].any()  # the one behind stands before the rear camera
    batch.camera_mask[0, 3] = False
    assert not make_net(lidar_max_age_s=0.15).depth_picture(batch).any()


def test_a_stretched_camera_matrix_moves_the_pixel_and_keeps_the_depth() -> None:
    batch = make_batch([np.array([[10.0, 1.0, 1.5, 30, 0]])])
    before = make_net().depth_picture(batch)[0, 0]
    batch.K_cam[:] = torch.tensor([[-1.0, 0, 63], [0, 1, 0], [0, 0, 1]]) @ batch.K_cam
    mirrored = make_net().depth_picture(batch)[0, 0]
    torch.testing.assert_close(mirrored, before.flip(1))


def test_lidar_depth_changes_the_logits_where_it_is_seen_and_an_absent_lidar_gives_finite_ones() -> None:
    net, given = make_net(), features()
    without, _ = net(given, make_batch([None]))
    with_lidar, context = net(given, make_batch([np.array([[10.0, 0, 1.5, 30, 0]])]))
    assert without.shape == (1, 6, 6, 4, 8) and context.shape == (1, 6, 3, 4, 8) and without.isfinite().all()
    changed = (with_lidar - without).abs().amax(dim=2)[0] > 0
    assert changed[0].any() and not changed[1:].any()


def test_two_frames_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    net, given = make_net(), features(2)
    batch = make_batch([random_cloud(rng), random_cloud(rng, 300)])
    together, _ = net(given, batch)
    for index in range(2):
        alone, _ = net(given[index : index + 1], one_frame(batch, index))
        torch.testing.assert_close(together[index], alone[0])


def test_a_lift_with_this_net_splats_finely_and_lands_on_the_grid() -> None:
    lift = LiftSplat(
        in_channels=4,
        stride=8,
        grid=SMALL_GRID,
        depth_range_m=(1.0, 17.0),
        depth_bins=32,
        context_channels=3,
        out_channels=8,
        depth_net=lambda **sizes: LidarDepthNet(**sizes, lidar_channels=(2, 3, 4)),
        refine_layers=3,
        splats_per_cell=2,
        splat_z_range_m=(-10.0, 10.0),
    ).train()
    batch = make_batch([random_cloud(np.random.default_rng(0))])
    logits, context = lift.depth_and_context(features(), batch)
    assert lift.splat(logits.softmax(2), context, batch).shape == (1, 3, 64, 64)
    bev = lift(features(), batch)
    assert bev.data.shape == (1, 8, 32, 32) and bev.grid == SMALL_GRID
    bev.data.square().sum().backward()
    assert [key for key, part in lift.named_parameters() if part.grad is None] == []


def test_a_finer_splat_averaged_over_a_cell_is_the_coarse_splat() -> None:
    settings = {"in_channels": 4, "stride": 8, "grid": SMALL_GRID, "depth_bins": 59, "context_channels": 3}
    coarse = LiftSplat(**settings)
    fine = LiftSplat(**settings, splats_per_cell=4, refine_layers=2)
    batch, depth = make_batch([None]), torch.rand(1, 6, 59, 4, 8)
    context = torch.randn(1, 6, 3, 4, 8)
    pooled = torch.nn.functional.avg_pool2d(fine.splat(depth, context, batch), 4) * 16
    torch.testing.assert_close(pooled, coarse.splat(depth, context, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"splats_per_cell": 3}, "splats_per_cell=3"), ({"splats_per_cell": 4}, "refine_layers=1 must be 2")],
)
def test_cells_that_cannot_be_split_are_refused(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LiftSplat(in_channels=4, stride=8, grid=SMALL_GRID, **changes)


def test_a_stride_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match="stride=6"):
        make_net(stride=6)

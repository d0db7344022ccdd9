import math

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID, make_batch, one_frame, random_cloud

from bevstack.fusion.lift_splat import DepthBins, LiftSplat
from bevstack.geometry.cameras import project
from bevstack.geometry.transforms import inverse, transform_points


def make_lift(**changes: object) -> LiftSplat:
    settings = {"in_channels": 4, "stride": 8, "grid": SMALL_GRID, "depth_range_m": (1.0, 17.0), "depth_bins": 32}
    return LiftSplat(**{**settings, "context_channels": 3, "out_channels": 8, **changes}).eval()


def lit_pixel_lands_at(lift: LiftSplat, batch, camera: int, row: int, column: int, depth_m: float) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """(x, y) in metres of the one cell that a feature lit at one place and depth is splatted into."""
    depth = torch.zeros(1, 6, lift.bins.count, 4, 8)
    depth[0, camera, int((lift.bins.centers_m - depth_m).abs().argmin()), row, column] = 1
    context = torch.ones(1, 6, 3, 4, 8)
    pooled = lift.splat(depth, context, batch)
    (cell,) = pooled[0, 0].nonzero()
    return SMALL_GRID.to_metres(cell.flip(0) + 0.5)


@pytest.mark.parametrize("camera", range(6))
@pytest.mark.parametrize("point", [(1, 2, 7.25), (2, 6, 4.75), (1, 0, 9.25)])
def test_a_lit_feature_lands_where_its_pixel_and_depth_point(camera: int, point: tuple[int, int, float]) -> None:
    row, column, depth_m = point
    batch = make_batch([None])
    landed = lit_pixel_lands_at(make_lift(), batch, camera, row, column, depth_m)
    # The other way round: that place in ego, at the height of the ray, projects back into the lit feature cell.
    focal = float(batch.K_cam[0, camera, 0, 0])
    u, v = 8 * column + 3.5, 8 * row + 3.5
    in_cam = torch.tensor([[(u - 31.5) / focal * depth_m, (v - 15.5) / focal * depth_m, depth_m]])
    in_ego = transform_points(batch.T_ego_cam[0, camera], in_cam)[0]
    assert (landed - in_ego[:2]).abs().max() <= SMALL_GRID.cell_m / 2 + 1e-4
    pixel, depth = project(batch.K_cam[0, camera], transform_points(inverse(batch.T_ego_cam[0, camera]), in_ego[None]))
    assert torch.allclose(pixel[0], torch.tensor([u, v]), atol=1e-3) and depth[0] == pytest.approx(depth_m, abs=1e-4)


def test_an_image_flip_folded_into_K_moves_the_mirrored_pixel_to_the_same_cell() -> None:
    lift, batch = make_lift(), make_batch([None])
    plain = lit_pixel_lands_at(lift, batch, 1, 2, 6, 6.25)
    flip = torch.tensor([[-1.0, 0, 63], [0, 1, 0], [0, 0, 1]])
    batch.K_cam[:] = flip @ batch.K_cam
    assert torch.equal(lit_pixel_lands_at(lift, batch, 1, 2, 1, 6.25), plain)


def test_turning_the_rig_turns_the_landing_place() -> None:
    lift, batch = make_lift(), make_batch([None])
    plain = lit_pixel_lands_at(lift, batch, 0, 2, 3, 8.25)
    quarter = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    batch.T_ego_cam[:] = quarter @ batch.T_ego_cam
    turned = lit_pixel_lands_at(lift, batch, 0, 2, 3, 8.25)
    assert torch.allclose(turned, torch.stack((-plain[1], plain[0])), atol=SMALL_GRID.cell_m)


def test_cells_outside_every_frustum_are_not_valid_and_zero() -> None:
    lift = make_lift()
    batch = make_batch([None], num_cameras=1)
    bev = lift(torch.randn(1, 1, 4, 4, 8), batch)
    x, y = SMALL_GRID.centers_m().unbind(-1)
    is_valid = bev.valid[0, 0]
    assert not is_valid[x < 0].any()
    is_inside = (x > 2) & (x < 11) & (y.abs() < x * math.tan(math.radians(20)))
    assert is_valid[is_inside].all()
    assert not bev.data[:, :, ~is_valid].any() and bev.data.isfinite().all()


def test_a_missing_camera_gives_no_features_and_no_valid_cells() -> None:
    lift, batch = make_lift(), make_batch([None])
    batch.camera_mask[:] = False
    bev = lift(torch.zeros(1, 6, 4, 4, 8), batch)
    assert not bev.valid.any() and not bev.data.any()


def test_two_frames_at_once_equal_each_alone() -> None:
    rng = np.random.default_rng(0)
    lift, batch = make_lift(), make_batch([random_cloud(rng), None])
    batch.camera_mask[1, 2] = False
    features = torch.randn(2, 6, 4, 4, 8)
    together = lift(features, batch)
    for index in range(2):
        alone = lift(features[index : index + 1], one_frame(batch, index))
        torch.testing.assert_close(together.data[index], alone.data[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(together.valid[index], alone.valid[0])


def test_a_lidar_wall_pulls_the_depth_of_an_untrained_network_to_itself() -> None:
    y, z = np.meshgrid(np.linspace(-6, 6, 60), np.linspace(0, 3, 20))
    wall = np.column_stack((np.full(y.size, 8.0), y.ravel(), z.ravel(), np.zeros((y.size, 2))))
    lift, batch = make_lift(), make_batch([wall], num_cameras=1)
    logits, _ = lift.depth_and_context(torch.randn(1, 1, 4, 4, 8), batch)
    best = lift.bins.centers_m[logits[0, 0].argmax(dim=0)]
    assert (best[1:3, 2:6] - 8.0).abs().max() <= 0.5


def test_old_sweeps_and_absent_lidar_give_no_depth_hint() -> None:
    cloud = np.array([[8.0, 0, 1.5, 10, 0.4]], np.float32)
    lift = make_lift(lidar_max_age_s=0.1)
    assert not lift.lidar_depth(make_batch([cloud]), (4, 8)).any()
    assert not lift.lidar_depth(make_batch([None]), (4, 8)).any()


def test_gradients_reach_the_features_and_every_parameter() -> None:
    lift, batch = make_lift().train(), make_batch([random_cloud(np.random.default_rng(1))])
    features = torch.randn(1, 6, 4, 4, 8, requires_grad=True)
    lift(features, batch).data.square().sum().backward()
    assert features.grad.abs().sum() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in lift.parameters())


@pytest.mark.parametrize("growth", [0.0, 2.0])
def test_depth_bins_run_from_near_to_far_and_widen_with_growth(growth: float) -> None:
    bins = DepthBins(range_m=(1.0, 61.0), count=30, growth=growth)
    widths = bins.edges_m.diff()
    assert bins.edges_m[0] == 1 and bins.edges_m[-1] == pytest.approx(61)
    assert widths[-1] / widths[0] == pytest.approx(1 + growth * 1.93 / 1.03 if growth else 1.0, rel=0.35)


def test_an_impossible_depth_range_is_refused() -> None:
    with pytest.raises(ValueError, match="near < far"):
        make_lift(depth_range_m=(5.0, 5.0))

from dataclasses import replace

import pytest
import torch
from fixtures.batches import SMALL_GRID

from bevstack.fusion.bev_backbone import BevBackbone
from bevstack.types import BevFeatures
from bevstack.types.bev import ActiveVoxels


def bev(batch_size: int = 2, size: int = 32) -> BevFeatures:
    return BevFeatures(
        data=torch.randn(batch_size, 6, size, size),
        valid=torch.ones((batch_size, 1, size, size), dtype=torch.bool),
        grid=SMALL_GRID,
    )


def make_backbone(**changes: object) -> BevBackbone:
    settings = {"in_channels": 6, "widths": (8, 12, 16), "depths": (1, 2, 1), "strides": (1, 2, 2), "up_channels": 5}
    return BevBackbone(**{**settings, **changes}).eval()


def test_the_output_lies_on_the_same_grid_with_the_promised_channels() -> None:
    voxels = ActiveVoxels(index_byxz=torch.tensor([[0, 1, 2, 3]]), num_levels=5)
    backbone, given = make_backbone(), replace(bev(), voxels=voxels)
    out = backbone(given)
    assert out.voxels is voxels
    assert out.data.shape == (2, backbone.out_channels, 32, 32) and backbone.out_channels == 15
    assert out.grid == given.grid and torch.equal(out.valid, given.valid)


def test_moving_the_input_by_the_coarsest_stride_moves_the_output_as_far() -> None:
    backbone, given = make_backbone(), bev()
    given.data[:] = 0
    given.data[:, :, 14:18, 12:16] = 1.0
    moved = BevFeatures(data=given.data.roll(4, -1), valid=given.valid, grid=given.grid)
    plain = backbone(given).data
    torch.testing.assert_close(backbone(moved).data[..., 8:-8, 10:-8], plain.roll(4, -1)[..., 8:-8, 10:-8])


def test_two_frames_at_once_equal_each_alone() -> None:
    backbone, given = make_backbone(), bev()
    together = backbone(given).data
    for index in range(2):
        cut = slice(index, index + 1)
        alone = backbone(BevFeatures(data=given.data[cut], valid=given.valid[cut], grid=given.grid)).data
        torch.testing.assert_close(together[cut], alone, rtol=1e-4, atol=1e-5)


def test_a_grid_that_does_not_divide_by_the_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="30 x 30"):
        make_backbone()(bev(size=30))


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        make_backbone(depths=(1, 2))


def test_recomputing_in_the_backward_pass_changes_neither_gradients_nor_running_statistics() -> None:
    plain, frugal = make_backbone().train(), make_backbone(checkpoint=True).train()
    frugal.load_state_dict(plain.state_dict())
    given = bev()
    for backbone in (plain, frugal):
        backbone(given).data.square().mean().backward()
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(frugal.state_dict()[key], value, msg=key)
    assert all(norm.momentum == 0.1 for norm in frugal.modules() if isinstance(norm, torch.nn.BatchNorm2d))

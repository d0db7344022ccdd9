from dataclasses import replace

import pytest
import torch
from fixtures.batches import SMALL_GRID

from bevstack.fusion.concat import ConcatFuser
from bevstack.types import BevFeatures
from bevstack.types.bev import ActiveVoxels


def bev(channels: int, batch_size: int = 2, grid=SMALL_GRID) -> BevFeatures:  # type: ignore[no-untyped-def]
    rows, columns = grid.shape_yx
    return BevFeatures(
        data=torch.randn(batch_size, channels, rows, columns),
        valid=torch.ones((batch_size, 1, rows, columns), dtype=torch.bool),
        grid=grid,
    )


def make_fuser() -> ConcatFuser:
    return ConcatFuser(in_channels={"camera": 3, "lidar": 5}, out_channels=8).eval()


def test_sources_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="lidar lies on"):
        make_fuser()({"camera": bev(3), "lidar": bev(5, grid=SMALL_GRID.strided(2))})


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="radar"):
        make_fuser()({"camera": bev(3), "radar": bev(5)})


@pytest.mark.parametrize("left_out", ["camera", "lidar"])
def test_a_source_left_out_equals_one_that_sees_nothing(left_out: str) -> None:
    fuser = make_fuser()
    sources = {"camera": bev(3), "lidar": bev(5)}
    without = fuser({name: source for name, source in sources.items() if name != left_out})
    sources[left_out].valid[:] = False
    blind = fuser(sources)
    torch.testing.assert_close(without.data, blind.data)
    assert torch.equal(without.valid, blind.valid) and without.data.isfinite().all()


def test_what_a_source_does_not_see_has_no_influence_even_if_it_is_nan() -> None:
    fuser, sources = make_fuser(), {"camera": bev(3), "lidar": bev(5)}
    sources["camera"].valid[..., :16] = False
    before = fuser(sources).data
    sources["camera"].data[..., :16] = torch.nan
    torch.testing.assert_close(fuser(sources).data, before)


def test_the_order_of_the_mapping_does_not_matter() -> None:
    fuser, camera, lidar = make_fuser(), bev(3), bev(5)
    first = fuser({"camera": camera, "lidar": lidar}).data
    assert torch.equal(first, fuser({"lidar": lidar, "camera": camera}).data)


def test_moving_the_scene_by_a_cell_moves_the_output_by_a_cell() -> None:
    fuser, camera, lidar = make_fuser(), bev(3), bev(5)
    plain = fuser({"camera": camera, "lidar": lidar}).data
    moved = {
        name: BevFeatures(data=source.data.roll(1, -1), valid=source.valid, grid=source.grid)
        for name, source in (("camera", camera), ("lidar", lidar))
    }
    torch.testing.assert_close(fuser(moved).data[..., 3:-3], plain.roll(1, -1)[..., 3:-3])


def test_two_frames_at_once_equal_each_alone_and_valid_is_the_union() -> None:
    fuser, sources = make_fuser(), {"camera": bev(3), "lidar": bev(5)}
    sources["camera"].valid[0] = False
    sources["lidar"].valid[0, ..., :5] = False
    fused = fuser(sources)
    assert not fused.valid[0, ..., :5].any() and fused.valid[0, ..., 5:].all() and fused.valid[1].all()
    for index in range(2):
        cut = slice(index, index + 1)
        alone = fuser({n: BevFeatures(data=s.data[cut], valid=s.valid[cut], grid=s.grid) for n, s in sources.items()})
        torch.testing.assert_close(fused.data[cut], alone.data)


def test_active_voxels_of_any_source_are_handed_on() -> None:
    fuser, voxels = make_fuser(), ActiveVoxels(index_byxz=torch.tensor([[0, 1, 2, 3]]), num_levels=5)
    sources = {"camera": bev(3), "lidar": replace(bev(5), voxels=voxels)}
    assert fuser(sources).voxels is voxels
    assert fuser({"camera": sources["camera"]}).voxels is None

from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.batches import SMALL_GRID

from bevstack.data.class_names import OCCUPANCY_CLASSES, OCCUPANCY_FREE
from bevstack.perception.heads import occupancy as occupancy_module
from bevstack.perception.heads.joint_types import Decoded, Stem, TaskReadout
from bevstack.perception.heads.occupancy import OccupancyOutput, OccupancyReadout
from bevstack.perception.heads.voxel_classifier import ClassifiedVoxels
from bevstack.types import BevFeatures
from bevstack.types.batch import Labels
from bevstack.types.bev import ActiveVoxels, VoxelGrid

CHANNELS = 16
OUTPUT = VoxelGrid(x_range_m=(-8.0, 8.0), y_range_m=(-9.6, 6.4), z_range_m=(-1.0, 5.4), voxel_m=0.4)
"""40 x 40 x 16 voxels: smaller than the grid, off its centre, and higher than its z range."""


def make_readout(**changes: object) -> OccupancyReadout:
    given = {"channels": CHANNELS, "in_channels": 5, "output_grid": OUTPUT, "levels": 5, "blocks": 1, **changes}
    return OccupancyReadout(**given).eval()


def make_stem(counts: list[int | None], *, seed: int = 0, levels: int = 5) -> Stem:
    """Random features with so many random active voxels a frame; None as the only count for no voxels at all."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = SMALL_GRID.shape_yx
    features = torch.randn(len(counts), CHANNELS, rows, columns, generator=generator)
    voxels = None
    if counts != [None]:
        parts = []
        for frame, count in enumerate(counts):
            flat = torch.randperm(rows * columns * levels, generator=generator)[: count or 0].sort().values
            yxz = torch.stack((flat // levels // columns, flat // levels % columns, flat % levels), dim=1)
            parts.append(torch.cat((torch.full((len(flat), 1), frame), yxz), dim=1))
        voxels = ActiveVoxels(index_byxz=torch.cat(parts), num_levels=levels)
    valid = torch.ones((len(counts), 1, rows, columns), dtype=torch.bool)
    return Stem(features=features, bev=BevFeatures(data=features, valid=valid, grid=SMALL_GRID, voxels=voxels))


def read(readout: OccupancyReadout, stem: Stem) -> OccupancyOutput:
    """The readout after a decoder that leaves everything as it is."""
    queries = readout.queries(stem)
    scale = torch.full_like(stem.features, 0.5)
    return readout(
        Decoded(queries=queries, features=queries.features, bev=stem.features, task_scale=scale, grid=stem.grid)
    )


def logits(output: OccupancyOutput) -> torch.Tensor:
    """All of them, (B, Z, Y, X, S, K)."""
    assert isinstance(output.logits, ClassifiedVoxels)
    return output.logits.raster().values


def frame_of(stem: Stem, index: int) -> Stem:
    cut, voxels = slice(index, index + 1), stem.bev.voxels
    if voxels is not None:
        own = voxels.index_byxz[voxels.index_byxz[:, 0] == index] * torch.tensor([0, 1, 1, 1])
        voxels = ActiveVoxels(index_byxz=own, num_levels=voxels.num_levels)
    bev = replace(stem.bev, data=stem.bev.data[cut], valid=stem.bev.valid[cut], voxels=voxels)
    return Stem(features=stem.features[cut], bev=bev)


def make_labels(batch_size: int) -> Labels:
    shape = (batch_size, *OUTPUT.shape_xyz)
    semantics = torch.where(torch.rand(shape) < 0.2, torch.randint(0, 17, shape), OCCUPANCY_FREE).to(torch.uint8)
    mask = torch.rand(shape) < 0.7
    return Labels(
        boxes_ego=(),
        class_index=(),
        attribute_index=(),
        num_points=(),
        occupancy=semantics,
        occupancy_camera_mask=mask,
        occupancy_lidar_mask=~mask,
    )


def test_it_is_a_task_of_the_joint_decoder() -> None:
    assert isinstance(make_readout(), TaskReadout)


def test_every_active_voxel_has_one_query_at_its_cell() -> None:
    stem = make_stem([20, 7])
    queries = make_readout().queries(stem)
    assert queries.mask.sum(1).tolist() == [20, 7] and queries.features.shape == (2, 20, CHANNELS)
    assert stem.bev.voxels is not None
    index = stem.bev.voxels.index_byxz
    for frame in range(2):
        own = index[index[:, 0] == frame]
        torch.testing.assert_close(queries.reference_cells[frame, : len(own)], own[:, [2, 1]] + 0.5, check_dtype=False)
        torch.testing.assert_close(queries.features[frame, : len(own)], stem.features[frame][:, own[:, 1], own[:, 2]].T)
    assert not queries.features[1, 7:].any() and not queries.position[1, 7:].any()


def test_queries_of_one_column_differ_by_their_position_only() -> None:
    stem = make_stem([1])
    pair = ActiveVoxels(index_byxz=torch.tensor([[0, 4, 9, 1], [0, 4, 9, 2]]), num_levels=5)
    queries = make_readout().queries(replace(stem, bev=replace(stem.bev, voxels=pair)))
    assert torch.equal(queries.features[0, 0], queries.features[0, 1])
    assert not torch.allclose(queries.position[0, 0], queries.position[0, 1], atol=1e-2)


def test_a_query_returns_to_its_own_voxel() -> None:
    stem = make_stem([1, 1])
    own = ActiveVoxels(index_byxz=torch.tensor([[0, 8, 9, 3], [0, 9, 9, 3], [1, 10, 12, 4]]), num_levels=5)
    stem = replace(stem, bev=replace(stem.bev, voxels=own))
    readout = make_readout(blocks=0)
    queries = readout.queries(stem)
    moved = queries.features.clone()
    moved[1, 0] += 1.0
    plain, changed = (
        readout(
            Decoded(queries=queries, features=features, bev=stem.features, task_scale=stem.features, grid=stem.grid)
        )
        for features in (queries.features, moved)
    )
    ((frame, z, y, x),) = (logits(plain) != logits(changed)).any((-1, -2)).nonzero().tolist()
    raster = plain.logits
    center_m = [low + (index + 0.5) * size for low, index, size in zip(raster.low_m, (x, y, z), raster.size_m)]
    assert frame == 1 and center_m == pytest.approx((-12.8 + 12.5 * 0.8, -12.8 + 10.5 * 0.8, -5 + 4.5 * 1.6))


@pytest.mark.parametrize("changes", [{}, {"blocks": 2, "residual_bev": True, "sub_voxels": (2, 2, 4)}])
def test_two_frames_at_once_equal_each_alone(changes: dict) -> None:
    readout, stem = make_readout(**changes), make_stem([60, 9])
    together = read(readout, stem)
    for index in range(2):
        alone = read(readout, frame_of(stem, index))
        torch.testing.assert_close(logits(together)[index], logits(alone)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("counts", [[0], [0, 30], [None]])
@pytest.mark.parametrize("residual_bev", [False, True])
def test_a_frame_without_an_active_voxel_has_a_valid_output_with_gradients(
    counts: list[int | None], residual_bev: bool
) -> None:
    readout = make_readout(residual_bev=residual_bev).train()
    output = read(readout, make_stem(counts))
    assert logits(output).isfinite().all()
    terms = readout.loss(output, make_labels(len(counts)))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    for name, parameter in readout.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert readout.mask_token.grad.abs().sum() > 0
    (first, *_) = readout.decode(output)
    assert first.semantics.shape == OUTPUT.shape_xyz and first.semantics.max() <= OCCUPANCY_FREE


def test_without_lidar_only_the_residual_lets_the_features_through() -> None:
    a, b = make_stem([None], seed=1), make_stem([None], seed=2)
    blind, seeing = make_readout(), make_readout(residual_bev=True)
    assert torch.equal(logits(read(blind, a)), logits(read(blind, b)))
    assert not torch.allclose(logits(read(seeing, a)), logits(read(seeing, b)), atol=1e-3)


def test_levels_of_a_blank_frame_are_told_apart() -> None:
    logits = read(make_readout(blocks=0), make_stem([0])).logits.dense(0)
    assert (logits[1:] - logits[:-1]).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_cropping_with_a_margin_as_wide_as_the_attention_reaches_changes_nothing() -> None:
    stem = make_stem([80])
    results = []
    for margin in (None, 5):
        torch.manual_seed(0)
        results.append(read(make_readout(crop_margin=margin, points=4), stem))
    # Freshly made attention reads at most 4 cells away.
    assert results[0].logits.low_m == results[1].logits.low_m
    torch.testing.assert_close(logits(results[1]), logits(results[0]), rtol=1e-4, atol=1e-5)


def test_cropping_leaves_out_the_queries_that_the_output_cannot_see() -> None:
    stem = make_stem([400])
    whole = int(make_readout().queries(stem).mask.sum())
    cropped = int(make_readout(crop_margin=0).queries(stem).mask.sum())
    assert whole == 400 and 0 < cropped < 200


def test_the_attention_takes_its_references_unchanged_through_all_blocks() -> None:
    readout, seen = make_readout(blocks=3), []
    for block in readout.blocks:
        block.attention.register_forward_pre_hook(lambda module, given: seen.append(given[1].clone()))
    read(readout, make_stem([10]))
    assert len(seen) == 3 and all(torch.equal(seen[0], other) for other in seen[1:])
    assert seen[0][0, 0].tolist() == [0.5, 0.5, 0.5] and seen[0][0, 1].tolist() == [1.5, 0.5, 0.5]
    assert seen[0][0, -1].tolist() == [31.5, 31.5, 4.5]


def test_sub_voxels_lie_where_they_are_said_to_lie() -> None:
    readout = make_readout(sub_voxels=(2, 1, 4), blocks=0)
    with torch.no_grad():
        last = readout.classify.logits
        last.weight.zero_()
        # Logit 0 of the sub-voxel (z, y, x) is 10 z + x.
        bias = torch.zeros(4, 1, 2, len(OCCUPANCY_CLASSES))
        bias[..., 0] = 10 * torch.arange(4.0)[:, None, None] + torch.arange(2.0)
        last.bias.copy_(bias.flatten())
    raster = read(readout, make_stem([0])).logits
    assert raster.size_m == pytest.approx((0.4, 0.8, 0.4))
    first = raster.dense(0)[..., 0]
    z, _, x = first.shape
    expected = 10 * (torch.arange(z) % 4)[:, None, None] + (torch.arange(x) % 2)
    torch.testing.assert_close(first, expected.expand_as(first).float())


def test_decoding_in_slabs_equals_decoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    readout = make_readout()
    output = read(readout, make_stem([50]))
    (at_once,) = readout.decode(output)
    monkeypatch.setattr(occupancy_module, "_CHUNK_VOXELS", 40 * 16 * 3)
    (in_slabs,) = readout.decode(output)
    np.testing.assert_array_equal(at_once.semantics, in_slabs.semantics)
    assert len(np.unique(at_once.semantics)) > 1 and at_once.grid == OUTPUT


def test_a_few_steps_on_one_frame_lower_every_term() -> None:
    readout = make_readout(crop_margin=0, class_counts=[10.0] * 18, loss_voxels=2000, heads=2, points=2).train()
    stem, labels = make_stem([200]), make_labels(1)
    by_height = torch.full(OUTPUT.shape_xyz, OCCUPANCY_FREE, dtype=torch.uint8)
    by_height[..., :4], by_height[20:, :, 4:8] = 11, 15
    labels = replace(labels, occupancy=by_height[None])
    optimizer = torch.optim.Adam(readout.parameters(), lr=1e-2)
    history = []
    for _ in range(20):
        optimizer.zero_grad()
        terms = readout.loss(read(readout, stem), labels)
        sum(terms.values()).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in terms.items()})
    assert all(history[-1][name] < 0.8 * first for name, first in history[0].items()), history


def test_recomputing_in_the_backward_pass_changes_neither_loss_nor_gradient() -> None:
    stem, labels = make_stem([200]), make_labels(1)
    plain, frugal = make_readout(blocks=2).train(), make_readout(blocks=2, checkpoint=True).train()
    frugal.load_state_dict(plain.state_dict())
    losses = []
    for readout in (plain, frugal):
        losses.append(sum(readout.loss(read(readout, stem), labels).values()))
        losses[-1].backward()
    torch.testing.assert_close(losses[1], losses[0])
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_voxels_of_another_number_of_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="in 4 levels, occupancy has levels=5"):
        make_readout().queries(make_stem([5], levels=4))


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"blocks": -1}, {"sub_voxels": (2, 0, 1)}, {"crop_margin": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_readout(**wrong)

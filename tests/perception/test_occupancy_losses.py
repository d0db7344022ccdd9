import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from bevstack.data.class_names import OCCUPANCY_FREE, OCCUPANCY_IGNORE
from bevstack.perception.heads.occupancy_losses import (
    OccupancyLoss,
    chosen_voxels,
    geometric_affinity,
    lovasz_softmax,
    occupancy_terms,
    scene_class_affinity,
    weights_of,
)
from bevstack.perception.heads.voxel_resample import VoxelRaster
from bevstack.types.batch import Labels
from bevstack.types.bev import VoxelGrid

GRID = VoxelGrid(x_range_m=(-2.0, 2.0), y_range_m=(-1.0, 1.0), z_range_m=(0.0, 1.0), voxel_m=0.5)
"""8 x 4 x 2 voxels."""


def raster_of(logits: torch.Tensor) -> VoxelRaster:
    """Logits (B, Z, Y, X, K) on voxels of half a metre from the corner of the grid."""
    return VoxelRaster(
        values=logits.unsqueeze(4), sub_voxels=(1, 1, 1), low_m=(-2.0, -1.0, 0.0), size_m=(0.5, 0.5, 0.5)
    )


def labels_of(semantics: torch.Tensor, camera: torch.Tensor | None = None, lidar: torch.Tensor | None = None) -> Labels:
    return Labels(
        boxes_ego=(),
        class_index=(),
        attribute_index=(),
        num_points=(),
        occupancy=semantics.to(torch.uint8),
        occupancy_camera_mask=camera,
        occupancy_lidar_mask=lidar,
    )


def random_semantics(batch_size: int = 1) -> torch.Tensor:
    return torch.randint(0, 18, (batch_size, *GRID.shape_xyz))


def logits_saying(semantics: torch.Tensor, strength: float = 30.0) -> torch.Tensor:
    """Logits (B, Z, Y, X, K) that are sure of classes (B, X, Y, Z)."""
    return strength * F.one_hot(semantics.permute(0, 3, 2, 1).clamp_max(17).long(), 18).float()


def ones(count: int) -> torch.Tensor:
    return torch.ones(count)


def probabilities(rows: list[dict[int, float]]) -> torch.Tensor:
    out = torch.zeros(len(rows), 18)
    for index, row in enumerate(rows):
        for name, value in row.items():
            out[index, name] = value
    return out


# ---------------------------------------------------------------- single terms


def test_lovasz_of_three_voxels_is_the_value_by_hand() -> None:
    # Class 4 is right for the first two. Errors 0.4, 0.1, 0.7 -> order 3rd, 1st, 2nd. 1 - IoU after each wrong voxel:
    # 1 - 2/3, 1 - 1/3, 1 - 0/3, so steps of a third. Class 17 is right for the third: errors 0.7, 0.4, 0.1; 1 - IoU
    # after one wrong (itself): 1, and it stays there.
    p = probabilities([{4: 0.6, 17: 0.4}, {4: 0.9, 17: 0.1}, {4: 0.7, 17: 0.3}])
    target = torch.tensor([4, 4, 17])
    expected = ((0.7 + 0.4 + 0.1) / 3 + 0.7) / 2
    assert lovasz_softmax(p, target, ones(3)) == pytest.approx(expected, rel=1e-5)


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou_of_the_classes_present() -> None:
    target = torch.tensor([1, 1, 1, 2, 2, 17])
    predicted = torch.tensor([1, 1, 2, 2, 1, 17])
    p = F.one_hot(predicted, 18).float()
    assert lovasz_softmax(p, target, ones(6)) == pytest.approx(1 - (2 / 4 + 1 / 3 + 1) / 3, rel=1e-5)


def test_scene_class_affinity_is_the_paper_s_three_logarithms() -> None:
    p = probabilities([{4: 0.8, 17: 0.2}, {4: 0.4, 17: 0.6}, {4: 0.3, 17: 0.7}])
    target = torch.tensor([4, 4, 17])
    of_car = -math.log(1.2 / 1.5) - math.log(1.2 / 2) - math.log(0.7 / 1)
    of_free = -math.log(0.7 / 1.5) - math.log(0.7 / 1) - math.log((0.8 + 0.4) / 2)
    assert scene_class_affinity(p, target, ones(3)) == pytest.approx((of_car + of_free) / 2, rel=1e-5)


def test_geometric_affinity_knows_only_occupied_and_free() -> None:
    p = probabilities([{4: 0.5, 11: 0.3, 17: 0.2}, {3: 0.4, 17: 0.6}, {9: 0.3, 17: 0.7}])
    target = torch.tensor([4, 1, 17])
    expected = -math.log(1.2 / 1.5) - math.log(1.2 / 2) - math.log(0.7)
    assert geometric_affinity(p, target, ones(3)) == pytest.approx(expected, rel=1e-5)


def test_cross_entropy_is_that_of_torch_with_class_weights() -> None:
    logits, target = torch.randn(50, 18), torch.randint(0, 18, (50,))
    class_weights = torch.rand(18) + 0.1
    terms = occupancy_terms(logits, target, ones(50), class_weights)
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(logits, target, weight=class_weights))


def test_a_class_that_is_absent_has_no_part_in_affinity_and_lovasz() -> None:
    p = probabilities([{4: 0.6, 9: 0.4}, {4: 0.5, 9: 0.5}])
    target = torch.tensor([4, 4])
    assert scene_class_affinity(p, target, ones(2)) == pytest.approx(-math.log(1.1 / 2), rel=1e-5)
    assert lovasz_softmax(p, target, ones(2)) == pytest.approx((0.5 + 0.4) / 2, rel=1e-5)


@pytest.mark.parametrize("only", [OCCUPANCY_FREE, 4])
def test_a_scene_that_is_all_free_or_all_occupied_has_finite_terms_and_gradients(only: int) -> None:
    logits = torch.randn(20, 18, requires_grad=True)
    terms = occupancy_terms(logits, torch.full((20,), only), ones(20), torch.ones(18))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values()) and logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("strength", [40.0, 300.0])
def test_being_surely_wrong_has_a_finite_gradient(strength: float) -> None:
    target = torch.randint(0, 18, (40,))
    logits = (strength * F.one_hot((target + 1) % 18, 18)).float().requires_grad_()
    terms = occupancy_terms(logits, target, ones(40), torch.ones(18))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values()) and logits.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences() -> None:
    logits = torch.randn(4, 18, dtype=torch.float64, requires_grad=True)
    target, weight = torch.tensor([3, 17, 3, 9]), torch.rand(4, dtype=torch.float64) + 0.5
    class_weights = torch.ones(18, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: tuple(occupancy_terms(x, target, weight, class_weights).values()), (logits,), atol=1e-4
    )


# ---------------------------------------------------------------- weights and samples


def test_a_voxel_of_weight_three_counts_as_three_voxels() -> None:
    logits, target = torch.randn(9, 18), torch.randint(0, 18, (9,))
    weight = torch.tensor([1.0, 3, 1, 2, 1, 1, 3, 1, 2])
    repeats = weight.long()
    class_weights = torch.rand(18) + 0.5
    weighted = occupancy_terms(logits, target, weight, class_weights)
    repeated = occupancy_terms(
        logits.repeat_interleave(repeats, 0), target.repeat_interleave(repeats), ones(15), class_weights
    )
    for name, value in weighted.items():
        torch.testing.assert_close(value, repeated[name], rtol=1e-4, atol=1e-5)


def test_a_sample_takes_the_few_occupied_voxels_whole_and_its_weights_add_up() -> None:
    target = torch.full((20, 20, 5), OCCUPANCY_FREE, dtype=torch.uint8)
    target[3, :10] = 4
    is_known = torch.ones_like(target, dtype=torch.bool)
    index, weight = chosen_voxels(target, is_known, 400)
    assert len(index) == 400 and weight.sum() == pytest.approx(2000)
    occupied = target.flatten()[index] == 4
    assert occupied.sum() == 50 and (weight[occupied] == 1).all()
    assert weight[~occupied].sum() == pytest.approx(1950)


def test_a_sample_of_a_full_grid_is_half_occupied_and_never_unknown() -> None:
    target = torch.where(torch.rand(20, 20, 5) < 0.5, 15, OCCUPANCY_FREE).to(torch.uint8)
    is_known = torch.rand(20, 20, 5) < 0.8
    index, weight = chosen_voxels(target, is_known, 100)
    assert (target.flatten()[index] == 15).sum() == 50 and is_known.flatten()[index].all()
    assert weight.sum() == pytest.approx(float(is_known.sum()))


def test_a_limit_above_the_known_voxels_changes_nothing() -> None:
    logits, labels = torch.randn(2, 2, 4, 8, 18), labels_of(random_semantics(2))
    every = OccupancyLoss(supervise="all")(raster_of(logits), GRID, labels)
    limited = OccupancyLoss(supervise="all", num_voxels=64)(raster_of(logits), GRID, labels)
    assert all(torch.equal(every[name], limited[name]) for name in every)


def test_the_loss_of_samples_is_on_average_near_that_of_all_voxels() -> None:
    grid = VoxelGrid(x_range_m=(-2.0, 8.0), y_range_m=(-1.0, 9.0), z_range_m=(0.0, 2.5), voxel_m=0.5)
    semantics = torch.where(torch.rand(1, 20, 20, 5) < 0.2, torch.randint(0, 3, (1, 20, 20, 5)), OCCUPANCY_FREE)
    logits = torch.randn(1, 5, 20, 20, 18) + logits_saying(semantics, 2.0)
    every = OccupancyLoss(supervise="all")(raster_of(logits), grid, labels_of(semantics))
    sampling = OccupancyLoss(supervise="all", num_voxels=500)
    runs = [sampling(raster_of(logits), grid, labels_of(semantics)) for _ in range(40)]
    for name, value in every.items():
        assert torch.stack([run[name] for run in runs]).mean() == pytest.approx(float(value), rel=0.03), name


# ---------------------------------------------------------------- the whole


def test_a_perfect_output_has_almost_no_loss_and_a_wrong_one_has_much() -> None:
    semantics = random_semantics()
    loss = OccupancyLoss(supervise="all")
    good = loss(raster_of(logits_saying(semantics)), GRID, labels_of(semantics))
    bad = loss(raster_of(logits_saying((semantics + 1) % 18)), GRID, labels_of(semantics))
    assert all(0 <= value < 1e-4 for value in good.values())
    assert all(value > 0.5 for value in bad.values())


def test_unknown_voxels_do_not_count() -> None:
    semantics, logits = random_semantics(), torch.randn(1, 2, 4, 8, 18, requires_grad=True)
    semantics[:, 5:] = OCCUPANCY_IGNORE
    terms = OccupancyLoss(supervise="all")(raster_of(logits), GRID, labels_of(semantics))
    sum(terms.values()).backward()
    assert not logits.grad[..., 5:, :].any() and logits.grad[..., :5, :].abs().sum(-1).min() > 0


@pytest.mark.parametrize("supervise", ["camera", "lidar"])
def test_a_mask_restricts_what_is_learned(supervise: str) -> None:
    semantics, logits = random_semantics(), torch.randn(1, 2, 4, 8, 18)
    mask = torch.rand(semantics.shape) < 0.5
    labels = labels_of(semantics, **{supervise: mask})
    masked = OccupancyLoss(supervise=supervise)(raster_of(logits), GRID, labels)  # type: ignore[arg-type]
    blanked = torch.where(mask, semantics, OCCUPANCY_IGNORE)
    expected = OccupancyLoss(supervise="all")(raster_of(logits), GRID, labels_of(blanked))
    assert all(torch.equal(masked[name], expected[name]) for name in expected)


def test_labels_without_a_known_voxel_give_zero_with_a_gradient_path() -> None:
    logits = torch.randn(2, 2, 4, 8, 18, requires_grad=True)
    terms = OccupancyLoss(supervise="all")(
        raster_of(logits), GRID, labels_of(torch.full((2, 8, 4, 2), OCCUPANCY_IGNORE))
    )
    assert all(value.item() == 0 for value in terms.values())
    sum(terms.values()).backward()
    assert logits.grad is not None and not logits.grad.any()


def test_the_loss_of_a_batch_is_the_mean_over_its_frames_that_have_labels() -> None:
    semantics, logits = random_semantics(3), torch.randn(3, 2, 4, 8, 18)
    semantics[1] = OCCUPANCY_IGNORE
    loss = OccupancyLoss(supervise="all")
    together = loss(raster_of(logits), GRID, labels_of(semantics))
    alone = [loss(raster_of(logits[i : i + 1]), GRID, labels_of(semantics[i : i + 1])) for i in (0, 2)]
    for name, value in together.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)


def test_class_weights_are_one_over_the_logarithm_of_the_counts() -> None:
    weights = weights_of("occ3d")
    assert weights[0] == pytest.approx(1 / math.log(944004)) and weights[17] == pytest.approx(1 / math.log(1892500630))
    assert weights_of("openoccupancy")[17] == pytest.approx(1 / math.log(2242961742295))
    assert max(weights_of([0.0, 1.0, 2.0] + [100.0] * 15)) == 1.0


def test_wrong_labels_and_settings_are_refused_with_a_remedy() -> None:
    logits, labels = torch.randn(1, 2, 4, 8, 18), labels_of(random_semantics())
    with pytest.raises(ValueError, match="no occupancy: ask the data"):
        OccupancyLoss()(raster_of(logits), GRID, replace(labels, occupancy=None))
    with pytest.raises(ValueError, match="needs labels with that mask"):
        OccupancyLoss(supervise="camera")(raster_of(logits), GRID, labels)
    with pytest.raises(ValueError, match="one format for both"):
        OccupancyLoss(supervise="all")(raster_of(logits), GRID, labels_of(torch.zeros(1, 8, 4, 3)))
    with pytest.raises(ValueError, match="num_voxels=1"):
        OccupancyLoss(num_voxels=1)
    with pytest.raises(ValueError, match="3 numbers"):
        weights_of([1.0, 2.0, 3.0])

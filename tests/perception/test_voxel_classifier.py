"""Logits of chosen voxels are those of the whole grid, and teach the same."""

import pytest
import torch

from bevstack.perception.heads.voxel_classifier import ClassifiedVoxels, VoxelClassifier, VoxelValues
from bevstack.perception.heads.voxel_resample import VoxelRaster
from bevstack.types.bev import VoxelGrid

GRID = VoxelGrid(x_range_m=(-3.2, 3.2), y_range_m=(-1.6, 1.6), z_range_m=(-1.0, 2.2), voxel_m=0.4)
"""16 x 8 x 8 voxels."""


def classified(*, low_m: tuple[float, float, float] = (-3.2, -1.6, -1.0)) -> ClassifiedVoxels:
    """Coarse voxels of 0.8 x 0.8 x 1.6 m with 2 x 2 x 4 fine ones in each."""
    torch.manual_seed(0)
    return ClassifiedVoxels(
        features=torch.randn(2, 2, 4, 8, 12).requires_grad_(),
        classifier=VoxelClassifier(channels=12, sub_voxels=16, classes=5),
        sub_voxels=(2, 2, 4),
        low_m=low_m,
        size_m=(0.4, 0.4, 0.4),
    )


def chosen(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    index = torch.stack([torch.randint(size, (count,), generator=generator) for size in GRID.shape_xyz], dim=1)
    return torch.randint(2, (count,), generator=generator), index


@pytest.mark.parametrize("low_m", [(-3.2, -1.6, -1.0), (-3.3, -1.6, -1.0)], ids=["exact", "interpolated"])
def test_chosen_voxels_have_the_logits_of_the_whole_grid_and_the_same_gradients(low_m):
    voxels, (frame, index) = classified(low_m=low_m), chosen()
    taps, pull = voxels.taps(GRID), torch.randn(len(frame), 5)
    parameters = [voxels.features, *voxels.classifier.parameters()]
    found, gradients = [], []
    for source in (voxels, voxels.raster()):
        value = source.at(taps, frame, index)
        found.append(value)
        gradients.append(torch.autograd.grad((value * pull).sum(), parameters))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def test_a_dense_frame_is_that_of_the_raster():
    voxels = classified()
    torch.testing.assert_close(voxels.dense(1), voxels.raster().dense(1), rtol=1e-4, atol=1e-5)


def test_no_voxel_chosen_gives_no_logit():
    voxels = classified()
    nothing = torch.zeros(0, dtype=torch.int64)
    assert voxels.at(voxels.taps(GRID), nothing, nothing.view(0, 3).long()).shape == (0, 5)


def test_zero_reaches_features_and_classifier():
    voxels = classified()
    assert voxels.zero() == 0
    voxels.zero().backward()
    assert voxels.features.grad is not None and voxels.classifier.logits.weight.grad is not None


def test_both_kinds_of_values_fit_the_interface():
    assert isinstance(classified(), VoxelValues)
    assert isinstance(classified().raster(), VoxelRaster) and isinstance(classified().raster(), VoxelValues)

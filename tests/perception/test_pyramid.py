import pytest
import torch

from bevstack.perception.camera.pyramid import ConcatPyramid, SimplePyramid


def levels(sizes: tuple[tuple[int, int, int], ...], pictures: int = 2) -> list[torch.Tensor]:
    """Random maps of (channels, height, width)."""
    return [torch.randn(pictures, *size) for size in sizes]


def test_the_result_lies_at_the_finest_level_with_the_promised_channels() -> None:
    pyramid = ConcatPyramid(in_channels=(6, 8, 10), out_channels=12).eval()
    assert pyramid(levels(((6, 8, 12), (8, 4, 6), (10, 2, 3)))).shape == (2, 12, 8, 12)


def test_what_only_the_coarsest_level_sees_reaches_the_finest() -> None:
    pyramid = ConcatPyramid(in_channels=(6, 8, 10), out_channels=12).eval()
    given = levels(((6, 8, 12), (8, 4, 6), (10, 2, 3)), pictures=1)
    before = pyramid(given)
    given[2] = given[2] + 1
    assert (pyramid(given) - before).abs().amax(dim=1).min() > 0


def test_sizes_that_are_not_twice_each_other_fit_as_well() -> None:
    pyramid = ConcatPyramid(in_channels=(4, 4), out_channels=4).eval()
    assert pyramid(levels(((4, 9, 13), (4, 5, 7)))).shape == (2, 4, 9, 13)


def test_one_level_alone_is_brought_to_the_width() -> None:
    assert ConcatPyramid(in_channels=(6,), out_channels=5).eval()(levels(((6, 4, 4),))).shape == (2, 5, 4, 4)


def test_a_pyramid_without_level_is_refused() -> None:
    with pytest.raises(ValueError, match="in_channels is empty"):
        ConcatPyramid(in_channels=())


def test_a_single_stride_becomes_finer_and_coarser_ones() -> None:
    pyramid = SimplePyramid(in_channels=6, in_stride=16, strides=(8, 16, 32), out_channels=4).eval()
    assert [tuple(level.shape[1:]) for level in pyramid(torch.randn(1, 6, 4, 6))] == [(4, 8, 12), (4, 4, 6), (4, 2, 3)]


@pytest.mark.parametrize("stride", [6, 24, 48])
def test_a_stride_that_no_power_of_two_leads_to_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match=f"stride={stride}"):
        SimplePyramid(in_channels=6, in_stride=16, strides=(stride,))

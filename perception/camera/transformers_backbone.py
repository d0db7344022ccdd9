"""Image backbones by name from the `transformers` package, under one pyramid: Swin-T, ResNet-50, ConvNeXt-T, DINOv2.

M3Net (Chen et al., AAAI 2025, section 3.1) takes Swin-T (Liu et al., ICCV 2021). The package is an optional extra
(`pip install 'bevstack[hf]'`) and is only imported when a backbone is built; torchvision is not needed. Nothing is
fetched from the network unless `weights` asks for it.

Letters: B frames, N cameras, P present pictures, C channels, H W picture, h w feature map.
"""

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recompute

from bevstack.perception.camera.mobilenet import IMAGENET_MEAN, IMAGENET_STD
from bevstack.perception.camera.present_pictures import features_where_present
from bevstack.perception.camera.pyramid import ConcatPyramid, SimplePyramid
from bevstack.types.errors import DatasetError, did_you_mean

_LOGGER = logging.getLogger(__name__)

_COARSEST_STRIDE = 32

HUB = "hub"
"""As `weights`: the weights that the authors of the backbone published on the Hugging Face hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One backbone: what the package calls it, its size, and where its published weights lie."""

    model_type: str
    hub_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[int, str] = field(default_factory=lambda: {4: "stage1", 8: "stage2", 16: "stage3", 32: "stage4"})
    """Stride -> name of the stage. A plain transformer has one."""
    shrink: tuple[int, int] = (1, 1)
    """Pictures are first resized by this fraction. DINOv2 has patches of 14 pixels: after 14/16 they stand for 16."""
    can_drop_paths: bool = True


def _dinov2(width: int, hub_name: str) -> Architecture:
    return Architecture(
        model_type="dinov2",
        hub_name=hub_name,
        settings={"hidden_size": width, "num_hidden_layers": 12, "num_attention_heads": width // 64, "image_size": 518},
        stages={16: "stage12"},
        shrink=(14, 16),
    )


ARCHITECTURES: Mapping[str, Architecture] = {
    "swin_tiny": Architecture(
        model_type="swin",
        hub_name="microsoft/swin-tiny-patch4-window7-224",
        settings={"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    ),
    "resnet_50": Architecture(model_type="resnet", hub_name="microsoft/resnet-50", can_drop_paths=False),
    "convnext_tiny": Architecture(
        model_type="convnext",
        hub_name="facebook/convnext-tiny-224",
        settings={"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    ),
    "dinov2_small": _dinov2(384, "facebook/dinov2-small"),
    "dinov2_base": _dinov2(768, "facebook/dinov2-base"),
}


class TransformersBackbone(nn.Module):
    """Pictures to features at one stride.

    Args:
        name: One of `ARCHITECTURES`.
        weights: null for random ones; a folder as `save_pretrained` leaves it, or a `.safetensors`, `.bin` or `.pt`
            file with the same tensor names; "hub" for the authors' weights; any other "owner/name" of that hub. A head
            that the weights bring along is left out.
        stride: Pixels of the picture per feature cell, 8 or 16.
        out_channels: Channels of the features.
        drop_path_rate: Share of residual branches that are skipped in training (stochastic depth), growing with
            depth up to this; must be 0 for ResNet, which has none.
        settings: Further fields of the package's configuration class, such as `depths` for a smaller network.
        checkpoint: Compute the layers again in the backward pass rather than keep what they need: less memory, a
            third more time. Not for ResNet, whose normalisation would count each batch twice.

    Raises:
        ValueError: an argument outside its range.
        DatasetError: the package is absent, or the weights cannot be had or do not fit.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        *,
        name: str = "swin_tiny",
        weights: str | None = None,
        stride: int = 8,
        out_channels: int = 256,
        drop_path_rate: float = 0.0,
        settings: Mapping[str, Any] | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        architecture = _architecture(name)
        if stride not in (8, 16):
            raise ValueError(f"stride={stride} must be 8 or 16")
        if not 0 <= drop_path_rate < 1 or (drop_path_rate and not architecture.can_drop_paths):
            raise ValueError(f"drop_path_rate={drop_path_rate} must be in [0, 1), and 0 for {name} if it has none")
        self.stride, self.out_channels = stride, out_channels
        self._shrink = architecture.shrink
        is_plain = len(architecture.stages) == 1
        strides = [level for level in (8, 16, 32) if level >= stride]
        own = architecture.stages if is_plain else {level: architecture.stages[level] for level in strides}
        self.trunk = _make_trunk(
            architecture,
            settings={
                **architecture.settings,
                **({"drop_path_rate": drop_path_rate} if architecture.can_drop_paths else {}),
                **_as_lists(settings or {}),
            },
            stages=own,
            weights=weights,
        )
        self._recomputes_trunk = checkpoint and not _recomputes_layers(self.trunk, name)
        channels: Sequence[int] = self.trunk.channels
        self.levels: SimplePyramid | None = None
        if is_plain:
            self.levels = SimplePyramid(
                in_channels=channels[0], in_stride=next(iter(own)), strides=strides, out_channels=out_channels
            )
            channels = self.levels.out_channels
        self.neck = ConcatPyramid(in_channels=list(channels), out_channels=out_channels)
        self.register_buffer("_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(
        self, images: UInt8[Tensor, "B N 3 H W"], camera_mask: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N C h w"]:
        """Features of every picture; zero where a camera is missing (its picture is not looked at).

        Raises:
            ValueError: the picture does not divide by the coarsest stride.
        """
        return features_where_present(
            self._features,
            images,
            camera_mask,
            out_channels=self.out_channels,
            stride=self.stride,
            divisor=_COARSEST_STRIDE,
        )

    def _features(self, pictures: UInt8[Tensor, "P 3 H W"]) -> Float[Tensor, "P C h w"]:
        x = (pictures.float() - self._mean) / self._std
        part, whole = self._shrink
        if part != whole:
            size = (x.shape[-2] * part // whole, x.shape[-1] * part // whole)
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        is_frugal = self._recomputes_trunk and torch.is_grad_enabled()
        maps = recompute(self._maps, x, use_reentrant=False) if is_frugal else self._maps(x)
        return self.neck(maps if self.levels is None else self.levels(maps[0]))

    def _maps(self, x: Float[Tensor, "P 3 H W"]) -> tuple[Tensor, ...]:
        return tuple(self.trunk(x).feature_maps)


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        raise ValueError(f"name={name!r} must be one of {', '.join(ARCHITECTURES)}{did_you_mean(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _as_lists(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The package's configurations want lists where ours have tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _package() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise DatasetError(f"this image backbone needs transformers: pip install 'bevstack[hf]' ({error})") from error


def _make_trunk(
    architecture: Architecture, *, settings: Mapping[str, Any], stages: Mapping[int, str], weights: str | None
) -> Any:
    """The network without its head; its forward gives `feature_maps`, one for each stage."""
    package = _package()
    more = {"apply_layernorm": True, "reshape_hidden_states": True} if architecture.model_type == "dinov2" else {}
    names = _deepest(settings, stages) if architecture.model_type == "dinov2" else list(stages.values())
    config = package.AutoConfig.for_model(architecture.model_type, out_features=names, **settings, **more)
    trunk = package.AutoBackbone.from_config(config)
    for key, parameter in trunk.named_parameters():  # of pretraining and of the classifier: no feature depends on them
        if key.endswith(("mask_token", "swin.layernorm.weight", "swin.layernorm.bias")):
            parameter.requires_grad_(False)
    if weights is not None:
        _fill(trunk, config, architecture, weights)
    return trunk


def _deepest(settings: Mapping[str, Any], stages: Mapping[int, str]) -> list[str]:
    """The last layer of a plain transformer, however many it has."""
    depth = settings.get("num_hidden_layers")
    return list(stages.values()) if depth is None else [f"stage{depth}"]


def _fill(trunk: Any, config: Any, architecture: Architecture, weights: str) -> None:
    """Load weights into the network; a head among them is left out.

    Raises:
        DatasetError: they cannot be had, or a tensor of the network is not among them.
    """
    source = architecture.hub_name if weights == HUB else weights
    path = Path(source).expanduser()
    try:
        if path.is_file():
            loaded = _read(path)
            found = type(trunk).from_pretrained(None, config=config, state_dict=loaded, output_loading_info=True)
        elif path.is_dir() or weights == HUB or source.count("/") == 1:
            found = type(trunk).from_pretrained(source, config=config, output_loading_info=True)
        else:
            raise DatasetError(f"weights={weights!r} is no file, no folder, not 'hub' and no owner/name of the hub")
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"weights {source} are not to be had ({reason}): download them where there is a network and give the "
            "folder as weights=FOLDER, or build the backbone with weights=null"
        ) from error
    model, report = found
    # Norms of the single stages exist in backbones only, not in the classifier that the weights were published with.
    missing = [key for key in report["missing_keys"] if not key.startswith("hidden_states_norms.")]
    mismatched = [str(key) for key in report.get("mismatched_keys", ())]
    if missing or mismatched:
        raise DatasetError(
            f"{source} does not hold this {architecture.model_type}: {len(missing)} tensors are missing and "
            f"{len(mismatched)} have another shape, for example {sorted([*missing, *mismatched])[0]}"
        )
    trunk.load_state_dict(model.state_dict())
    _LOGGER.debug("loaded %s from %s", architecture.model_type, source)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return stored.get("state_dict", stored)


def _recomputes_layers(trunk: Any, name: str) -> bool:
    """Ask the package to recompute layer by layer; False where it cannot and the trunk must be recomputed as one.

    Raises:
        ValueError: the trunk has batch normalisation.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules()):
        raise ValueError(f"checkpoint=True is not for {name}: its batch statistics would count each batch twice")
    if not trunk.supports_gradient_checkpointing:
        return False
    enable = getattr(trunk, "activation_checkpointing_enable", None) or trunk.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    return True

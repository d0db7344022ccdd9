"""Sensor encoders -> one bird's-eye view -> task heads."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures
from bevstack.types.interfaces import HeadOutput
from bevstack.types.scene import Detections, MapSegmentation, Occupancy, SceneEstimate, ScenePart


class CameraBevEncoder(nn.Module):
    """A camera's way into the bird's-eye view: image features, then the lift. The two parts do not know each other.

    Args:
        backbone: Pictures to features; has `out_channels` and `stride`.
        lift: Makes the lift from `in_channels` and `stride`.
    """

    def __init__(self, *, backbone: Any, lift: Callable[..., Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.lift = lift(in_channels=backbone.out_channels, stride=backbone.stride)
        self.out_channels: int = self.lift.out_channels

    def forward(self, batch: Batch) -> BevFeatures:
        """Camera features on the grid; `valid` is False in frames without any camera."""
        return self.lift(self.backbone(batch.images, batch.camera_mask), batch)


class DrivingModel(nn.Module):
    """Sensor encoders -> one BEV -> task heads. Knows the order of the stages and nothing about any of them.

    Args:
        encoders: Source name -> encoder.
        fuser: Makes the fuser from `in_channels: dict[source, channels]`.
        heads: Task name -> what makes that head from `in_channels`.
        backbone: Makes the network between fuser and heads from `in_channels`; None for none.

    Raises:
        ValueError: no encoder or no head.
    """

    def __init__(
        self,
        *,
        encoders: Mapping[str, Any],
        fuser: Callable[..., Any],
        heads: Mapping[str, Callable[..., Any]],
        backbone: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        if not encoders or not heads:
            raise ValueError(f"a model needs an encoder and a head, got encoders={list(encoders)} heads={list(heads)}")
        self.encoders: Any = nn.ModuleDict(encoders)
        self.fuser = fuser(in_channels={name: encoder.out_channels for name, encoder in encoders.items()})
        self.backbone = None if backbone is None else backbone(in_channels=self.fuser.out_channels)
        features = self.fuser if self.backbone is None else self.backbone
        self.heads: Any = nn.ModuleDict({name: head(in_channels=features.out_channels) for name, head in heads.items()})

    def forward(self, batch: Batch) -> dict[str, HeadOutput]:
        """Raw output of every head."""
        bev = self.fuser({name: encoder(batch) for name, encoder in self.encoders.items()})
        if self.backbone is not None:
            bev = self.backbone(bev)
        return {name: head(bev) for name, head in self.heads.items()}

    def loss(self, outputs: Mapping[str, HeadOutput], labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Unweighted terms of all heads, named "head/term"."""
        return {
            f"{name}/{term}": value
            for name, head in self.heads.items()
            for term, value in head.loss(outputs[name], labels).items()
        }

    def decode(self, outputs: Mapping[str, HeadOutput], batch: Batch) -> list[SceneEstimate]:
        """What the heads say, in physical units, one estimate for each frame of the batch."""
        of_heads = [head.decode(outputs[name]) for name, head in self.heads.items()]
        return [
            SceneEstimate(token=token, timestamp_us=int(timestamp_us), **_fields(parts))
            for token, timestamp_us, *parts in zip(batch.tokens, batch.timestamps_us, *of_heads, strict=True)
        ]


def _fields(parts: Iterable[ScenePart | tuple[ScenePart, ...]]) -> dict[str, Any]:
    """Parts by the field of `SceneEstimate` that they fill; a joint head gives several at once."""
    flat = [single for part in parts for single in (part if isinstance(part, tuple) else (part,))]
    return {_FIELDS[type(part)]: part for part in flat}


_FIELDS: dict[type, str] = {Detections: "detections", MapSegmentation: "map", Occupancy: "occupancy"}

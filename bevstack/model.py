"""Sensor encoders -> one bird's-eye view -> task heads -> motion and planning."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures
from bevstack.types.context import SceneContext
from bevstack.types.interfaces import HeadOutput
from bevstack.types.scene import (
    CueAttention,
    Detections,
    MapSegmentation,
    MotionForecasts,
    Occupancy,
    PlanProposals,
    SceneEstimate,
    ScenePart,
)


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
    """Sensor encoders -> one BEV -> perception heads -> behaviour heads. Knows the order of the stages, not the stages.

    Args:
        encoders: Source name -> encoder.
        fuser: Makes the fuser from `in_channels: dict[source, channels]`.
        heads: Task name -> what makes that head from `in_channels`.
        memory: Makes what joins the fused features with those of earlier frames, from `in_channels`; None for none.
        backbone: Makes the network between fuser and heads from `in_channels`; None for none.
        language: Makes what lets a cue shape the features, from `in_channels`; None for none.
        behaviour: Task name -> what makes that head of the second stage from `in_channels` and `agent_channels`.

    Raises:
        ValueError: no encoder or no head.
    """

    def __init__(
        self,
        *,
        encoders: Mapping[str, Any],
        fuser: Callable[..., Any],
        heads: Mapping[str, Callable[..., Any]],
        memory: Callable[..., Any] | None = None,
        backbone: Callable[..., Any] | None = None,
        language: Callable[..., Any] | None = None,
        behaviour: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        super().__init__()
        if not encoders or not heads:
            raise ValueError(f"a model needs an encoder and a head, got encoders={list(encoders)} heads={list(heads)}")
        self.encoders: Any = nn.ModuleDict(encoders)
        self.fuser = fuser(in_channels={name: encoder.out_channels for name, encoder in encoders.items()})
        channels = self.fuser.out_channels
        self.memory: Any = None if memory is None else memory(in_channels=channels)
        self.backbone = None if backbone is None else backbone(in_channels=channels)
        channels = channels if self.backbone is None else self.backbone.out_channels
        self.language = None if language is None else language(in_channels=channels)
        self.heads: Any = nn.ModuleDict({name: head(in_channels=channels) for name, head in heads.items()})
        agents = max(getattr(head, "agent_channels", 0) for head in self.heads.values())
        made = {name: make(in_channels=channels, agent_channels=agents) for name, make in (behaviour or {}).items()}
        self.behaviour: Any = nn.ModuleDict(made)

    def forward(self, batch: Batch) -> dict[str, HeadOutput]:
        """Raw output of every head. `batch.history`, where there is one, is seen first, without gradients."""
        memory: Any = None
        with torch.no_grad():
            for past in batch.history if self.memory is not None else ():
                memory = self.memory.remember(self._fused(past), past, memory)
        return self.step(batch, memory)[0]

    def step(self, batch: Batch, memory: Any = None) -> tuple[dict[str, HeadOutput], Any]:
        """Raw output of every head, and what to remember for the next frame of the same drives."""
        bev = self._fused(batch)
        if self.memory is not None:
            bev, memory = self.memory(bev, batch, memory)
        if self.backbone is not None:
            bev = self.backbone(bev)
        outputs: dict[str, HeadOutput] = {}
        if self.language is not None:
            bev, outputs["language"] = self.language(bev, batch)
        outputs |= {name: head(bev) for name, head in self.heads.items()}
        if self.behaviour:
            context = self._context(bev, outputs)
            outputs |= {name: head(context, batch) for name, head in self.behaviour.items()}
        return outputs, memory

    def loss(self, outputs: Mapping[str, HeadOutput], labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Unweighted terms of all heads, named "head/term"."""
        return {
            f"{name}/{term}": value
            for name, part in self._parts().items()
            for term, value in part.loss(outputs[name], labels).items()
        }

    def decode(self, outputs: Mapping[str, HeadOutput], batch: Batch) -> list[SceneEstimate]:
        """What the heads say, in physical units, one estimate for each frame of the batch."""
        of_parts = [part.decode(outputs[name]) for name, part in self._parts().items()]
        return [
            SceneEstimate(token=token, timestamp_us=int(timestamp_us), **_fields(parts))
            for token, timestamp_us, *parts in zip(batch.tokens, batch.timestamps_us, *of_parts, strict=True)
        ]

    def _fused(self, batch: Batch) -> BevFeatures:
        """All sensors of these frames on one grid."""
        return self.fuser({name: encoder(batch) for name, encoder in self.encoders.items()})

    def _context(self, bev: BevFeatures, outputs: Mapping[str, HeadOutput]) -> SceneContext:
        """What the heads of the second stage may look at; heads hand on parts by a method `context`."""
        handed: dict[str, Any] = {}
        for name, part in self._parts().items():
            if name in outputs and hasattr(part, "context"):
                handed |= part.context(outputs[name])
        return SceneContext(bev=bev, **handed)

    def _parts(self) -> dict[str, Any]:
        """Everything with an output, a loss and something to say."""
        language = {} if self.language is None else {"language": self.language}
        return {**language, **self.heads, **self.behaviour}


def _fields(parts: Iterable[ScenePart | tuple[ScenePart, ...]]) -> dict[str, Any]:
    """Parts by the field of `SceneEstimate` that they fill; a joint head gives several at once."""
    flat = [single for part in parts for single in (part if isinstance(part, tuple) else (part,))]
    return {_FIELDS[type(part)]: part for part in flat}


_FIELDS: dict[type, str] = {
    Detections: "detections",
    MapSegmentation: "map",
    Occupancy: "occupancy",
    MotionForecasts: "motion",
    PlanProposals: "proposals",
    CueAttention: "attention",
}

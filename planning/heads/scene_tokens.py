"""Agents and map as tokens that trajectories attend to.

Letters: B frames, A agents, G patches of the map, V trajectories, C channels.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.data.maps import MAP_CLASSES
from bevstack.types.boxes import BoxIndex
from bevstack.types.context import Agents, MapBelief, SceneContext

_BOX_NUMBERS = 11
_PATCHES = 8
"""Along each side of the map."""


class SceneTokens(nn.Module):
    """One token for each agent, one for each patch of the map, and one that is always there.

    Args:
        agent_channels: Width of the agents' features; 0 where no head hands on agents.
        channels: C.
    """

    def __init__(self, *, agent_channels: int, channels: int) -> None:
        super().__init__()
        self.always = nn.Parameter(0.02 * torch.randn(channels))
        self.from_features = nn.Linear(agent_channels, channels) if agent_channels else None
        self.from_boxes = nn.Sequential(
            nn.Linear(_BOX_NUMBERS + len(DETECTION_CLASSES), channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )
        self.from_map = nn.Linear(len(MAP_CLASSES), channels)
        self.patch_position = nn.Parameter(0.02 * torch.randn(_PATCHES**2, channels))
        self.norm = nn.LayerNorm(channels)

    def forward(self, context: SceneContext) -> tuple[Float[Tensor, "B N C"], Bool[Tensor, "B N"]]:
        """The tokens, and which of them are padding."""
        batch = len(context.bev.data)
        tokens = [self.always.expand(batch, 1, -1)]
        padding = [torch.zeros(batch, 1, dtype=torch.bool, device=self.always.device)]
        if context.agents is not None:
            tokens.append(self._of_agents(context.agents))
            padding.append(~context.agents.mask)
        if context.map is not None:
            tokens.append(self._of_map(context.map))
            padding.append(padding[0].expand(-1, _PATCHES**2))
        return self.norm(torch.cat(tokens, dim=1)), torch.cat(padding, dim=1)

    def _of_agents(self, agents: Agents) -> Float[Tensor, "B A C"]:
        numbers = torch.cat((box_numbers(agents), agents.class_probabilities), dim=-1)
        found = self.from_boxes(torch.where(agents.mask[..., None], numbers, 0.0).to(self.always))
        if self.from_features is not None:
            found = found + self.from_features(torch.where(agents.mask[..., None], agents.features, 0.0))
        return found

    def _of_map(self, belief: MapBelief) -> Float[Tensor, "B G C"]:
        pooled = F.adaptive_avg_pool2d(belief.probabilities, _PATCHES).flatten(2).mT
        return self.from_map(pooled.to(self.from_map.weight)) + self.patch_position


def box_numbers(agents: Agents) -> Float[Tensor, "B A N"]:
    """Boxes as a network reads them: place, size, heading, velocity (0 where unknown, with a flag) and score."""
    boxes = agents.boxes_ego
    x, y, yaw = boxes[..., BoxIndex.X], boxes[..., BoxIndex.Y], boxes[..., BoxIndex.YAW]
    velocity = boxes[..., BoxIndex.VX : BoxIndex.VY + 1]
    is_known = velocity.isfinite().all(dim=-1)
    columns = (
        x / 20,
        y / 20,
        torch.hypot(x, y) / 20,
        boxes[..., BoxIndex.LENGTH] / 5,
        boxes[..., BoxIndex.WIDTH] / 2,
        yaw.cos(),
        yaw.sin(),
        *(velocity.nan_to_num() / 10).unbind(dim=-1),
        is_known.to(boxes),
        agents.scores.to(boxes),
    )
    return torch.stack(columns, dim=-1)


class AnchorLayer(nn.Module):
    """Trajectories look at the tokens; what they find is scaled and shifted by the conditions (FiLM).

    Args:
        channels: C.
        heads: Heads of the attention.
        feedforward: Hidden width.
    """

    def __init__(self, *, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.first_norm, self.second_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.film = nn.Linear(channels, 2 * channels)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward), nn.ReLU(inplace=True), nn.Linear(feedforward, channels)
        )

    def forward(
        self,
        queries: Float[Tensor, "B V C"],
        tokens: Float[Tensor, "B N C"],
        padding: Bool[Tensor, "B N"],
        conditions: Float[Tensor, "B C"],
    ) -> Float[Tensor, "B V C"]:
        """The trajectories after this layer."""
        seen, _ = self.attention(queries, tokens, tokens, key_padding_mask=padding, need_weights=False)
        scale, shift = self.film(conditions)[:, None].chunk(2, dim=-1)
        queries = self.first_norm(queries + seen) * (1 + scale) + shift
        return self.second_norm(queries + self.feedforward(queries))

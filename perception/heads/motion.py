"""Where every detected object goes: several modes over the next seconds, each with a probability.

An agent is a detection's vector from the perception head. Each agent has one query for each manoeuvre of
`motion_anchors`. Layer by layer the agents attend to those around them, and the queries to each other, to the
bird's-eye features along their way and to the map under it (after Hu et al., UniAD, CVPR 2023, section 3.2, and Shi et
al., MTR, NeurIPS 2022, section 3), and say how the way differs from the manoeuvre. Before training it does not: the
most probable mode of an untrained head is constant velocity at the detected velocity.

Letters: B frames, A agents, K modes, T steps, Q = A * K ways of all agents (mode fastest), C channels.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bevstack.data.class_names import DETECTION_CLASSES
from bevstack.perception.heads.motion_anchors import KINDS, MotionAnchors, to_ego, to_own, travel_axis
from bevstack.perception.heads.motion_attention import MapAlongWay, NeighbourAttention, Neighbours, WayAttention
from bevstack.perception.heads.motion_loss import best_mode_terms, match_agents
from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevFeatures
from bevstack.types.boxes import BoxIndex
from bevstack.types.context import Agents, MapBelief, SceneContext
from bevstack.types.scene import MotionForecasts
from bevstack.types.trajectory import FUTURE_STEP_S

_ANCHOR_M, _SIZE_M, _FAST_MPS = 10.0, 5.0, 10.0
"""What counts as 1 in the numbers that a network reads."""
_FIRST_SHARE = 0.5
"""Probability of constant velocity before anything is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionOutput:
    """Raw output: the modes of every agent."""

    trajectories_ego: Float[Tensor, "B A K T 2"]
    """Where the centre of the box will be, in metres."""
    logits: Float[Tensor, "B A K"]
    agents: Agents


class MotionHead(nn.Module):
    """Forecasts the agents that a perception head hands on.

    Args:
        in_channels: Of the bird's-eye features.
        agent_channels: Of the agents' vectors.
        channels: Width of the decoder.
        modes: Ways of each agent, the manoeuvres of `motion_anchors.KINDS` in their order.
        steps: Of `FUTURE_STEP_S` each.
        layers: Layers of the decoder.
        heads: Heads of each attention.
        places: Along each way where the features are read.
        neighbours: That each agent sees, the nearest ones.
        within_m: How far it sees them.
        feedforward: Hidden width of the feed-forward networks.
        match_m: An agent learns from the object of its class that is nearer than this.

    Raises:
        ValueError: no head hands on agents, or a number is out of its range.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        agent_channels: int,
        channels: int = 64,
        modes: int = 6,
        steps: int = 12,
        layers: int = 2,
        heads: int = 4,
        places: int = 6,
        neighbours: int = 16,
        within_m: float = 50.0,
        feedforward: int = 128,
        match_m: float = 2.0,
    ) -> None:
        super().__init__()
        if agent_channels < 1:
            raise ValueError("motion needs a perception head that hands on agents (detection), the model has none")
        if channels % heads or not 1 <= places <= steps or min(layers, neighbours) < 1:
            raise ValueError(
                f"channels={channels} must be a multiple of heads={heads}, places={places} 1 to steps={steps}, "
                f"layers={layers} and neighbours={neighbours} 1 or more"
            )
        self.modes, self.steps, self.neighbours, self.within_m, self.match_m = (
            modes, steps, neighbours, within_m, match_m
        )  # fmt: skip
        self.anchors = MotionAnchors(modes=modes, steps=steps, dt_s=FUTURE_STEP_S)
        self.agent = nn.Linear(agent_channels, channels)
        self.state = _two_layers(6 + len(DETECTION_CLASSES), channels)
        self.manoeuvre = _two_layers(2 * steps, channels)
        self.layers = nn.ModuleList(
            MotionLayer(
                channels=channels,
                in_channels=in_channels,
                steps=steps,
                heads=heads,
                places=places,
                feedforward=feedforward,
            )
            for _ in range(layers)
        )
        self.mode = nn.Linear(channels, 1)
        nn.init.zeros_(self.mode.weight)
        nn.init.zeros_(self.mode.bias)
        rest = (1 - _FIRST_SHARE) / max(modes - 1, 1)
        usual = [math.log(_FIRST_SHARE if mode == 0 else rest) for mode in range(modes)]
        self.usual = nn.Parameter(torch.tensor([usual] * len(KINDS)))
        """Logit of each manoeuvre for each kind of road user, before looking."""

    def forward(self, context: SceneContext, batch: Batch) -> MotionOutput:
        """Modes of all agents, padding included.

        Raises:
            ValueError: the context has no agents.
        """
        del batch
        if context.agents is None:
            raise ValueError("motion needs agents in the context: a perception head with a method 'context'")
        agents = context.agents
        boxes = agents.boxes_ego.float()
        axis = travel_axis(boxes)
        velocity = to_own(boxes[..., BoxIndex.VX :], axis)
        anchors = self.anchors(velocity, agents.class_index)
        vectors = self.agent(agents.features) + self.state(_state(agents, boxes, axis, velocity))
        around = Neighbours.of(boxes, axis, agents.mask, count=self.neighbours, within_m=self.within_m)
        modes = vectors[:, :, None] + self.manoeuvre((anchors / _ANCHOR_M).flatten(3).to(vectors.dtype))
        moves = self.anchors.moves(agents.class_index)[:, :, None, None, None]
        ways = anchors
        for layer in self.layers:
            seen = Ways(own=ways.detach(), start_ego=boxes[..., : BoxIndex.Z], axis=axis)
            vectors, modes, change = layer(vectors, modes, around, seen, context.bev, context.map)
            ways = ways + torch.where(moves, change, 0.0)
        logits = self.mode(modes)[..., 0].float() + self.usual[self.anchors.kinds(agents.class_index)]
        trajectories = Ways(own=ways, start_ego=boxes[..., : BoxIndex.Z], axis=axis).ego
        return MotionOutput(trajectories_ego=trajectories, logits=logits, agents=agents)

    def loss(self, output: MotionOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms of `best_mode_terms` over the agents that stand for an annotated object that can move.

        Others teach nothing: what a false detection does next has no answer.
        """
        matched = match_agents(output.agents, labels, within_m=self.match_m, steps=self.steps)
        moves = self.anchors.moves(output.agents.class_index)[matched.frame, matched.agent]
        frame, agent = matched.frame[moves], matched.agent[moves]
        return best_mode_terms(
            output.trajectories_ego[frame, agent], output.logits[frame, agent], matched.future_ego[moves].float()
        )

    @torch.no_grad()
    def decode(self, output: MotionOutput) -> list[MotionForecasts]:
        """Forecasts of each frame; row n belongs to detection n of the head that handed on the agents."""
        probabilities = output.logits.double().softmax(-1).float()
        return [
            MotionForecasts(
                trajectories_ego=trajectories[mask].cpu().numpy().astype(np.float32),
                probabilities=own[mask].cpu().numpy(),
                dt_s=FUTURE_STEP_S,
            )
            for trajectories, own, mask in zip(output.trajectories_ego, probabilities, output.agents.mask, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where the queries lead, relative to where each agent is."""

    own: Float[Tensor, "B A K T 2"]
    """In the agent's own frame."""
    start_ego: Float[Tensor, "B A 2"]
    axis: Float[Tensor, "B A 2"]

    @property
    def ego(self) -> Float[Tensor, "B A K T 2"]:
        """In `ego`."""
        return self.start_ego[:, :, None, None] + to_ego(self.own, self.axis[:, :, None, None])


class MotionLayer(nn.Module):
    """One look around, and how the ways change after it.

    Args:
        channels: Width of agents and queries.
        in_channels: Of the bird's-eye features.
        steps: Of each way.
        heads: Heads of each attention.
        places: Along each way where the features are read.
        feedforward: Hidden width.
    """

    def __init__(
        self, *, channels: int, in_channels: int, steps: int, heads: int, places: int, feedforward: int
    ) -> None:
        super().__init__()
        self.among_agents = NeighbourAttention(channels=channels, heads=heads)
        self.among_modes = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.along_way = WayAttention(channels=channels, in_channels=in_channels, heads=heads, places=places)
        self.on_map = MapAlongWay(channels=channels, steps=steps)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward), nn.ReLU(inplace=True), nn.Linear(feedforward, channels)
        )
        self.change = nn.Linear(channels, 2 * steps)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        places_at = torch.linspace(0, steps, places + 1)[1:].round().long() - 1
        self.register_buffer("_places_at", places_at, persistent=False)

    _places_at: Tensor

    def forward(
        self,
        vectors: Float[Tensor, "B A C"],
        modes: Float[Tensor, "B A K C"],
        around: Neighbours,
        ways: Ways,
        bev: BevFeatures,
        belief: MapBelief | None,
    ) -> tuple[Float[Tensor, "B A C"], Float[Tensor, "B A K C"], Float[Tensor, "B A K T 2"]]:
        """Agents and modes after this layer, and what it adds to the ways, in each agent's own frame in metres."""
        shape = modes.shape[1:3]
        vectors = self.among_agents(vectors, around)
        modes = modes + vectors[:, :, None]
        flat = modes.flatten(0, 1)
        modes = self.norms[0](flat + self.among_modes(flat, flat, flat, need_weights=False)[0]).view_as(modes)
        in_ego = ways.ego.flatten(1, 2)  # (B, Q, T, 2)
        axis = ways.axis.repeat_interleave(shape[1], dim=1)
        queries = modes.flatten(1, 2)
        seen = self.along_way(queries, in_ego[:, :, self._places_at], axis, bev) + self.on_map(in_ego, axis, belief)
        queries = self.norms[1](queries + seen)
        queries = self.norms[2](queries + self.feedforward(queries))
        # Summed up, each step's number is a change of speed: near steps change little, far ones much.
        change = self.change(queries).float().unflatten(-1, (-1, 2)).cumsum(-2).unflatten(1, shape)
        return vectors, queries.unflatten(1, shape), change


def _state(
    agents: Agents, boxes: Float[Tensor, "B A 9"], axis: Float[Tensor, "B A 2"], velocity: Float[Tensor, "B A 2"]
) -> Float[Tensor, "B A D"]:
    """What is known of an agent beside its vector: speed, heading against its way, size, score and class."""
    yaw = boxes[..., BoxIndex.YAW]
    heading = to_own(torch.stack((yaw.cos(), yaw.sin()), dim=-1), axis)
    size = boxes[..., BoxIndex.LENGTH : BoxIndex.HEIGHT] / _SIZE_M
    is_class = nn.functional.one_hot(agents.class_index, len(DETECTION_CLASSES)).to(size.dtype)
    numbers = (velocity / _FAST_MPS, heading[..., :1], size, agents.scores[..., None].to(size.dtype), is_class)
    return torch.cat(numbers, dim=-1).to(agents.features.dtype)


def _two_layers(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))

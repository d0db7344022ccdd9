"""A planner that scores a vocabulary of trajectories and refines them (in the style of VADv2, Chen et al., 2024;
Hydra-MDP, Li et al., 2024; DiffusionDrive, Liao et al., CVPR 2025).

Each trajectory of the vocabulary is a query. It looks at the bird's-eye features, the map, the route and the agents
along its own way (`anchor_features.py`), then at all agents and the whole map by attention, under the conditions of
route, cue and, where allowed, the vehicle's own status (`conditions.py`). It gets three numbers: how likely a driver
would choose it, and whether it touches an agent or leaves the road. Refinement (`refinement.py`) then moves it, by
regression or by truncated diffusion, and the best K leave.

Letters: B frames, V anchors, R refined ones, T steps, C channels, K modes.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.planning.expert import Expert
from bevstack.planning.heads.anchor_features import AnchorFeatures, look_up
from bevstack.planning.heads.anchor_targets import RULES, distance_to_expert, rule_targets, soft_choice
from bevstack.planning.heads.conditions import Conditions
from bevstack.planning.heads.proposals import proposals_of
from bevstack.planning.heads.refinement import Refiner, RegressionRefiner
from bevstack.planning.heads.scene_tokens import AnchorLayer, SceneTokens
from bevstack.planning.heads.start_mismatch import StartMismatch
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.planning.vocabulary import Vocabulary
from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevGrid
from bevstack.types.context import SceneContext
from bevstack.types.scene import PlanProposals


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredOutput:
    """Raw output."""

    choice: Float[Tensor, "B V"]
    """Logits that a driver would choose an anchor."""
    rules: Float[Tensor, "B V 2"]
    """Logits that an anchor breaks each of `anchor_targets.RULES`."""
    refined_index: Int[Tensor, "B R"]
    """Which anchors were refined."""
    refined: Float[Tensor, "B R T 2"]
    refined_logits: Float[Tensor, "B R"]
    """What refinement adds to the choice."""


class AnchoredPlanner(nn.Module):
    """Second-stage head.

    Args:
        in_channels: Width of the bird's-eye features.
        agent_channels: Width of the agents' features; 0 where no head hands on agents.
        vocabulary: The anchors; they travel with the weights.
        refiner: Makes the refinement from `channels`, `bev_channels`, `steps` and `vocabulary`; regression where not
            given.
        map_grid: Where map labels lie; None where there are none, leaving the road is then not learned.
        vehicle: Its outline, for the rules.
        channels: C.
        bev_channels: Width at which trajectories look up the bird's-eye features.
        layers: Of attention.
        attention_heads: Heads of each.
        feedforward: Hidden width of each.
        ego_status: Whether the vehicle's own status may be seen.
        status_dropout: Share of training frames from which it is hidden.
        num_modes: K.
        rule_weight: Of a broken rule's log probability in the score.
        temperature_m: Trajectories this much farther from the expert are e times less wanted.

    Raises:
        ValueError: no layer, no mode, or channels that do not divide by `attention_heads`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        agent_channels: int = 0,
        vocabulary: Vocabulary | None = None,
        refiner: Callable[..., Refiner] | None = None,
        map_grid: BevGrid | None = None,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        channels: int = 64,
        bev_channels: int = 16,
        layers: int = 2,
        attention_heads: int = 4,
        feedforward: int = 128,
        ego_status: bool = False,
        status_dropout: float = 0.5,
        num_modes: int = 20,
        rule_weight: float = 1.0,
        temperature_m: float = 1.0,
    ) -> None:
        super().__init__()
        if layers < 1 or num_modes < 1 or channels % attention_heads:
            raise ValueError(
                f"layers={layers} and num_modes={num_modes} must be 1 or more, and channels={channels} a multiple of "
                f"attention_heads={attention_heads}"
            )
        self.vocabulary = vocabulary or Vocabulary()
        self.map_grid, self.vehicle = map_grid, vehicle
        self.num_modes, self.rule_weight, self.temperature_m = num_modes, rule_weight, temperature_m
        num_anchors, steps = self.vocabulary.poses.shape[:2]
        self.conditions = Conditions(
            in_channels=in_channels, channels=channels, ego_status=ego_status, status_dropout=status_dropout
        )
        self.features = AnchorFeatures(
            in_channels=in_channels, channels=channels, bev_channels=bev_channels, steps=steps, vehicle=vehicle
        )
        self.start = StartMismatch(channels) if ego_status else None
        self.identity = nn.Parameter(0.02 * torch.randn(num_anchors, channels))
        self.tokens = SceneTokens(agent_channels=agent_channels, channels=channels)
        self.layers = nn.ModuleList(
            AnchorLayer(channels=channels, heads=attention_heads, feedforward=feedforward) for _ in range(layers)
        )
        self.to_choice = nn.Linear(channels, 1)
        self.to_rules = nn.Linear(channels, len(RULES))
        self.refiner = (refiner or RegressionRefiner)(
            channels=channels, bev_channels=bev_channels + 1, steps=steps, vocabulary=num_anchors
        )

    def forward(self, context: SceneContext, batch: Batch) -> AnchoredOutput:
        """Scores of all anchors, and the refined ones: all in training, when driving as many as the refiner wants."""
        status = self.conditions.visible_status(batch)
        conditions = self.conditions(context, batch, status)
        reduced = self.features.reduced(context)
        queries = self.features(self.vocabulary.poses, reduced, context, batch)
        queries = queries + self.identity + conditions[:, None]
        if self.start is not None and status is not None:
            queries = queries + self.start(self.vocabulary.poses, status)
        tokens, padding = self.tokens(context)
        for layer in self.layers:
            queries = layer(queries, tokens, padding, conditions)
        choice, rules = self.to_choice(queries)[..., 0].float(), self.to_rules(queries).float()
        index = self._to_refine(self.scores(choice, rules))
        frames = torch.arange(len(index), device=index.device)[:, None]
        refined = self.refiner(
            queries=queries[frames, index],
            anchors=self.vocabulary.poses[index][..., :2],
            index=index,
            look_up=functools.partial(look_up, reduced, context.bev.grid),
        )
        return AnchoredOutput(
            choice=choice, rules=rules, refined_index=index, refined=refined.points, refined_logits=refined.logits
        )

    def scores(self, choice: Float[Tensor, "B V"], rules: Float[Tensor, "B V 2"]) -> Float[Tensor, "B V"]:
        """Log probability that a trajectory is chosen, less what it risks."""
        return choice.log_softmax(dim=1) + self.rule_weight * F.logsigmoid(-rules).sum(dim=-1)

    def loss(self, output: AnchoredOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "choice" (cross entropy with soft targets), "collision" and "off_road" (binary cross entropy),
        "refinement" (smooth L1 of the anchors near the expert) and "mode" (cross entropy after refinement).

        Each is a mean over the frames that know something, and over the known steps of their future.
        """
        poses = self.vocabulary.poses
        expert = Expert.of(labels, steps=poses.shape[1])
        anchors = poses[..., :2].expand(len(output.choice), -1, -1, -1)
        distance = distance_to_expert(anchors, expert)
        near = soft_choice(distance.gather(1, output.refined_index), self.temperature_m)
        error = F.smooth_l1_loss(
            output.refined, expert.poses[:, None, :, :2].expand_as(output.refined), reduction="none"
        )
        refinement = (near * expert.mean_over_steps(error.sum(dim=-1))).sum(dim=1)
        wanted = soft_choice(distance_to_expert(output.refined.detach(), expert), self.temperature_m)
        mode_logits = output.choice.gather(1, output.refined_index).detach() + output.refined_logits
        return {
            "choice": expert.mean_over_frames(_cross_entropy(output.choice, soft_choice(distance, self.temperature_m))),
            **self._rule_terms(output, labels, expert),
            "refinement": expert.mean_over_frames(refinement),
            "mode": expert.mean_over_frames(_cross_entropy(mode_logits, wanted)),
        }

    @torch.no_grad()
    def decode(self, output: AnchoredOutput) -> list[PlanProposals]:
        """The best K of the refined trajectories, best first; scores are log probabilities less risks."""
        scores = self.scores(output.choice, output.rules).gather(1, output.refined_index) + output.refined_logits
        best = scores.topk(min(self.num_modes, scores.shape[1]), dim=1)
        frames = torch.arange(len(scores), device=scores.device)[:, None]
        points = output.refined[frames, best.indices]
        return proposals_of(points, best.values, "anchored")

    def _to_refine(self, scores: Float[Tensor, "B V"]) -> Int[Tensor, "B R"]:
        """All anchors in training; when driving the best of them."""
        num = scores.shape[1] if self.training or self.refiner.num_refined is None else self.refiner.num_refined
        if num >= scores.shape[1]:
            return torch.arange(scores.shape[1], device=scores.device).expand(len(scores), -1)
        return scores.topk(num, dim=1).indices

    def _rule_terms(self, output: AnchoredOutput, labels: Labels, expert: Expert) -> dict[str, Float[Tensor, ""]]:
        """One binary cross entropy for each rule, a mean over the anchors of the frames that know it."""
        with torch.no_grad():
            targets = rule_targets(self.vocabulary.poses, labels, expert, self.vehicle, self.map_grid)
        terms = F.binary_cross_entropy_with_logits(output.rules, targets.is_broken.float(), reduction="none")
        of_frames = terms.mean(dim=1) * targets.is_known
        values = of_frames.sum(dim=0) / targets.is_known.sum(dim=0).clamp(min=1)
        return dict(zip(RULES, values, strict=True))


def _cross_entropy(logits: Float[Tensor, "B V"], wanted: Float[Tensor, "B V"]) -> Float[Tensor, " B"]:
    """How far a softmax of logits is from a wanted distribution (Kullback-Leibler): 0 where it is met."""
    log_wanted = wanted.clamp(min=1e-12).log()
    return (wanted * (log_wanted - logits.log_softmax(dim=1))).sum(dim=1)

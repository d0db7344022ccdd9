"""A planner that weighs sampled trajectories by learned and by rule costs (ST-P3, Hu et al., ECCV 2022).

A volume of costs, one map for each step, is read off the bird's-eye features and looked up along every candidate; the
costs by rule (`costs.py`) are added. The cheapest candidate is then bent by a GRU that knows the target point.

Training is by max-margin: the expert must be cheaper than every candidate by as much as the candidate is away from it.
The rule costs then come from the annotated boxes, their futures and the annotated map; when driving, and for the choice
of the candidate that is refined, from what perception has predicted.

Candidates start at the present speed or at random ones. Without `ego_status` the present speed is a guess from the
bird's-eye features, trained on the first step of the expert.

Letters: B frames, S candidates, T steps, C channels, Y X cells (U V of the map).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.maps import MAP_CLASSES
from bevstack.planning.costs import RuleCosts, Surroundings
from bevstack.planning.expert import Expert
from bevstack.planning.footprint import placed
from bevstack.planning.heads.conditions import Conditions, route_command, route_target
from bevstack.planning.heads.proposals import proposals_of
from bevstack.planning.obstacle_raster import occupancy_raster, rectangles_at_velocity, rectangles_of_labels
from bevstack.planning.sampling import TrajectorySampler
from bevstack.types.batch import Batch, Labels
from bevstack.types.bev import BevGrid
from bevstack.types.context import SceneContext
from bevstack.types.scene import PlanProposals
from bevstack.types.trajectory import FUTURE_STEP_S

DRIVABLE, DIVIDER = (list(MAP_CLASSES).index(name) for name in ("drivable_area", "divider"))
OBSTACLE_GRID = BevGrid(x_range_m=(-12.0, 76.0), y_range_m=(-40.0, 40.0), z_range_m=(-5.0, 3.0), cell_m=0.5)
"""Where obstacles are rasterised: as far as three seconds lead, and ten metres on."""
_SPEED_SCALE_MPS = 10.0
_LATERAL_WEIGHT = 10.0
_FIRST_COST_LOGIT = -4.0
"""Costs begin small (softplus), about 2 with the paper's factor of 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostVolumeOutput:
    """Raw output."""

    poses: Float[Tensor, "B S T 3"]
    """The candidates."""
    volume: Float[Tensor, "B T Y X"]
    """Learned costs, 0 or more."""
    grid: BevGrid
    costs: Float[Tensor, "B S"]
    """Of each candidate, from predicted surroundings."""
    chosen: Float[Tensor, "B T 2"]
    """The cheapest one."""
    refined: Float[Tensor, "B T 2"]
    """The same after refinement."""
    speed_mps: Float[Tensor, " B"]
    """The present speed as guessed from the features."""
    target_ego: Float[Tensor, "B 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginSettings:
    """How the expert is compared with the candidates.

    The released code has `of="trajectory", limit_m2=inf, hardest=1`: margin and costs of whole trajectories stand
    outside the hinge of the steps, where no step cost can earn them, so that the volume stops learning as soon as the
    expert is not dearer anywhere. The defaults put them inside, as Neural Motion Planner does (Zeng et al., CVPR 2019).

    Raises:
        ValueError: a number is not positive or `of` is neither.
    """

    of: Literal["step", "trajectory"] = "step"
    limit_m2: float = 50.0
    """Squared distances count up to this: beyond it a candidate is simply elsewhere."""
    hardest: int = 10
    """The loss is a mean over so many of the candidates that are cheapest beside the expert."""

    def __post_init__(self) -> None:
        if self.of not in ("step", "trajectory") or not self.limit_m2 > 0 or self.hardest < 1:
            raise ValueError(
                f"of={self.of!r} must be 'step' or 'trajectory', limit_m2={self.limit_m2} positive, "
                f"hardest={self.hardest} 1 or more"
            )


class CostVolumePlanner(nn.Module):
    """Second-stage head.

    Args:
        in_channels: Width of the bird's-eye features.
        agent_channels: Width of the agents' features; not read, boxes say enough.
        sampler: The candidates.
        costs: Those by rule.
        margin: How the expert is compared with the candidates.
        map_grid: Where map labels lie; None where there are none, the map then costs nothing in training.
        channels: Width of the cost network and of the conditions.
        hidden: Width of the GRU.
        volume_factor: From the network's numbers to costs.
        limit: Learned costs of a step are cut here.
        ego_status: Whether the vehicle's own status may be seen.
        status_dropout: Share of training frames from which it is hidden.
        num_proposals: At most so many are handed on: the refined one and the cheapest candidates.
        obstacle_grid: Where obstacles are rasterised.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        agent_channels: int = 0,
        sampler: TrajectorySampler | None = None,
        costs: RuleCosts | None = None,
        margin: MarginSettings | None = None,
        map_grid: BevGrid | None = None,
        channels: int = 32,
        hidden: int = 256,
        volume_factor: float = 100.0,
        limit: float = 100.0,
        ego_status: bool = False,
        status_dropout: float = 0.5,
        num_proposals: int = 20,
        obstacle_grid: BevGrid = OBSTACLE_GRID,
    ) -> None:
        super().__init__()
        del agent_channels
        self.sampler = sampler or TrajectorySampler()
        self.rule_costs = costs or RuleCosts()
        self.margin = margin or MarginSettings()
        self.map_grid, self.obstacle_grid = map_grid, obstacle_grid
        self.volume_factor, self.limit, self.ego_status = volume_factor, limit, ego_status
        self.num_proposals = num_proposals
        to_volume = nn.Conv2d(channels, self.sampler.steps, 1)
        nn.init.constant_(to_volume.bias, _FIRST_COST_LOGIT)  # type: ignore[arg-type]
        self.to_volume = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True), to_volume)
        self.conditions = Conditions(
            in_channels=in_channels, channels=channels, ego_status=ego_status, status_dropout=status_dropout
        )
        self.to_speed = nn.Linear(channels, 1)
        self.refinement = GruRefinement(channels=channels, hidden=hidden)

    def forward(self, context: SceneContext, batch: Batch) -> CostVolumeOutput:
        """Candidates with their costs, and the refined choice."""
        conditions = self.conditions(context, batch, self.conditions.visible_status(batch))
        guess = F.softplus(self.to_speed(conditions)[:, 0].float()) * _SPEED_SCALE_MPS
        poses = self.sampler(route_command(batch), self._speed(guess.detach(), batch)).poses
        volume = F.softplus(self.to_volume(context.bev.data).float()) * self.volume_factor
        target = route_target(batch)
        around = self._predicted(context, target)
        with torch.no_grad():
            steps, whole = self.rule_costs(poses, around)
            total = (steps + self._learned(volume, context.bev.grid, poses)).sum(dim=-1) + whole
        frames = torch.arange(len(poses), device=poses.device)
        chosen = poses[frames, total.argmin(dim=1), :, :2]
        return CostVolumeOutput(
            poses=poses,
            volume=volume,
            grid=context.bev.grid,
            costs=total,
            chosen=chosen,
            refined=self.refinement(chosen, target, conditions),
            speed_mps=guess,
            target_ego=target,
        )

    def loss(self, output: CostVolumeOutput, labels: Labels) -> dict[str, Float[Tensor, ""]]:
        """Terms "max_margin", "refinement" (smooth L1, sideways ten times) and "speed" (L1 of the guess).

        Each is a mean over the frames with a future, and over the steps of it that are known.
        """
        expert = Expert.of(labels, steps=self.sampler.steps)
        scale = output.refined.new_tensor((1.0, _LATERAL_WEIGHT))
        error = F.smooth_l1_loss(output.refined.float(), expert.poses[..., :2], reduction="none")
        first = expert.poses[:, 0, :2].norm(dim=-1) / FUTURE_STEP_S
        speed_error = (output.speed_mps - first).abs() * expert.known[:, 0]
        return {
            "max_margin": expert.mean_over_frames(self._max_margin(output, labels, expert)),
            "refinement": expert.mean_over_frames(expert.mean_over_steps((error * scale).sum(dim=-1))),
            "speed": expert.mean_over_frames(speed_error),
        }

    @torch.no_grad()
    def decode(self, output: CostVolumeOutput) -> list[PlanProposals]:
        """The refined trajectory first, then the cheapest candidates; the score is minus the cost."""
        costs = output.costs.float()
        count = min(self.num_proposals - 1, costs.shape[1])
        cheapest = costs.topk(max(count, 1), dim=1, largest=False)
        frames = torch.arange(len(costs), device=costs.device)[:, None]
        others = output.poses[frames, cheapest.indices][..., :2][:, :count]
        points = torch.cat((output.refined.float()[:, None], others), dim=1)
        scores = -torch.cat((cheapest.values[:, :1], cheapest.values[:, :count]), dim=1)
        return proposals_of(points, scores, "cost_volume")

    def _speed(self, guess: Float[Tensor, " B"], batch: Batch) -> Float[Tensor, " B"]:
        """The speed at which half of the candidates start."""
        if not self.ego_status or batch.ego_status is None:
            return guess
        measured = batch.ego_status[:, 0].to(guess)
        return torch.where(measured.isfinite(), measured, guess)

    def _learned(
        self, volume: Float[Tensor, "B T Y X"], grid: BevGrid, poses: Float[Tensor, "B S T 3"]
    ) -> Float[Tensor, "B S T"]:
        """Learned costs below the vehicle's centre at each step; beyond the grid those of its rim."""
        ahead = poses.new_tensor(((self.rule_costs.centre_ahead_m, 0.0),))
        middle = placed(ahead, poses, is_turned=self.rule_costs.turns_outline)[..., 0, :]
        rows, columns = volume.shape[-2:]
        at = 2 * grid.to_cells(middle) / middle.new_tensor((columns, rows)) - 1
        at = at.transpose(1, 2).flatten(0, 1)[:, :, None]  # (B * T, S, 1, 2)
        found = F.grid_sample(volume.flatten(0, 1)[:, None], at, padding_mode="border", align_corners=False)[:, 0, :, 0]
        return found.unflatten(0, (-1, poses.shape[2])).transpose(1, 2).clamp(max=self.limit)

    def _max_margin(self, output: CostVolumeOutput, labels: Labels, expert: Expert) -> Float[Tensor, " B"]:
        """By how much the worst candidates of each frame are too cheap beside the expert."""
        around = self._annotated(labels, output.target_ego)
        everyone = torch.cat((expert.poses[:, None], output.poses), dim=1)
        with torch.no_grad():
            steps, whole = self.rule_costs(everyone, around, expert.known)
        steps = steps + self._learned(output.volume, output.grid, everyone)
        distance = (output.poses[..., :2] - expert.poses[:, None, :, :2]).square().sum(dim=-1)
        return max_margin(steps, whole, distance, expert, self.margin)

    def _predicted(self, context: SceneContext, target_ego: Float[Tensor, "B 2"]) -> Surroundings:
        around = Surroundings(target_ego=target_ego)
        if context.agents is not None:
            agents = context.agents
            rectangles = rectangles_at_velocity(agents, steps=self.sampler.steps, step_s=FUTURE_STEP_S).float()
            weights = torch.where(agents.mask, agents.scores, 0.0).float()
            raster = occupancy_raster(rectangles, weights, self.obstacle_grid)
            around = replace(around, occupancy=raster, grid=self.obstacle_grid)
        if context.map is not None:
            drivable, divider = (context.map.probabilities[:, index].float() for index in (DRIVABLE, DIVIDER))
            around = replace(around, drivable=drivable, divider=divider, map_grid=context.map.grid)
        return around

    def _annotated(self, labels: Labels, target_ego: Float[Tensor, "B 2"]) -> Surroundings:
        rectangles = rectangles_of_labels(labels, steps=self.sampler.steps)
        raster = occupancy_raster(rectangles, torch.ones_like(rectangles[:, :, 0, 0]), self.obstacle_grid)
        around = Surroundings(occupancy=raster, grid=self.obstacle_grid, target_ego=target_ego)
        if labels.map_masks is None or self.map_grid is None:
            return around
        masks = labels.map_masks.float()
        drivable, divider = masks[:, DRIVABLE], masks[:, DIVIDER]
        if labels.map_valid is not None:  # frames without a map: everything is drivable, and nothing divides it
            valid = labels.map_valid[:, None, None]
            drivable, divider = torch.where(valid, drivable, 1.0), torch.where(valid, divider, 0.0)
        return replace(around, drivable=drivable, divider=divider, map_grid=self.map_grid)


class GruRefinement(nn.Module):
    """Bends a trajectory step by step: the state starts from the conditions, each step sees where the last one ended,
    the chosen point and the target, and says by which speed the chosen one is off. Starts as the identity.

    Args:
        channels: Width of the conditions.
        hidden: Width of the state.
    """

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels, hidden)
        self.cell = nn.GRUCell(7, hidden)  # two points, the target, whether there is one
        self.to_offset = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 2))
        nn.init.zeros_(self.to_offset[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.to_offset[-1].bias)  # type: ignore[arg-type]

    def forward(
        self, chosen: Float[Tensor, "B T 2"], target: Float[Tensor, "B 2"], conditions: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B T 2"]:
        """The refined trajectory, (x, y) in metres."""
        is_known = target.isfinite().all(dim=1, keepdim=True)
        goal = torch.cat((torch.where(is_known, target, 0.0), is_known.to(target)), dim=1)
        scale = chosen.new_tensor((10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 1.0))
        state = torch.tanh(self.first(conditions))
        point, refined = torch.zeros_like(chosen[:, 0]), []
        for step in range(chosen.shape[1]):
            state = self.cell((torch.cat((point, chosen[:, step], goal), dim=1) / scale).to(state), state)
            point = chosen[:, step] + (step + 1) * FUTURE_STEP_S * self.to_offset(state).to(chosen)
            refined.append(point)
        return torch.stack(refined, dim=1)


def max_margin(
    steps: Float[Tensor, "B E T"],
    whole: Float[Tensor, "B E"],
    distance: Float[Tensor, "B S T"],
    expert: Expert,
    settings: MarginSettings | None = None,
) -> Float[Tensor, " B"]:
    """How far the expert is from being cheaper than every candidate by the candidate's distance; 0 where it is.

    Args:
        steps: Costs of each step, the expert's in row 0, then those of S candidates.
        whole: Costs of whole trajectories likewise.
        distance: From each candidate to the expert, squared.
        expert: Steps that are not known do not count.
        settings: Where the margin stands and how many candidates count.
    """
    settings = settings or MarginSettings()
    known = expert.known[:, None]
    dearer = steps[:, :1] - steps[:, 1:]
    wanted = (whole[:, :1] - whole[:, 1:])[..., None] + distance.clamp(max=settings.limit_m2)
    wanted = wanted / known.sum(dim=-1, keepdim=True).clamp(min=1)  # of each step, so that they add up
    if settings.of == "step":
        too_cheap = ((dearer + wanted).clamp(min=0.0) * known).sum(dim=-1)
    else:
        too_cheap = ((dearer.clamp(min=0.0) + wanted) * known).sum(dim=-1).clamp(min=0.0)
    return too_cheap.topk(min(settings.hardest, too_cheap.shape[1]), dim=1).values.mean(dim=1)

"""What a vocabulary is trained on: how near each trajectory is to the expert, and which rules it would break.

The rule targets are those of Hydra-MDP (Li et al., 2024): whether the vehicle would touch an annotated agent where that
agent will be, and whether it would leave the drivable area. Nothing here stands for a future that is not known: steps
without an own future do not count, and frames without any teach nothing at all.

Letters: B frames, V trajectories, T steps, A agents.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bevstack.data.maps import MAP_CLASSES
from bevstack.planning.costs import values_at
from bevstack.planning.expert import Expert
from bevstack.planning.footprint import outlines, placed, points_in_rectangle, rectangles_overlap
from bevstack.planning.obstacle_raster import rectangles_of_labels
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.batch import Labels
from bevstack.types.bev import BevGrid

RULES = ("collision", "off_road")
_DRIVABLE = list(MAP_CLASSES).index("drivable_area")
_EDGE_POINT_SPACING_M = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTargets:
    """Which rules each trajectory breaks."""

    is_broken: Bool[Tensor, "B V 2"]
    """In the order of `RULES`."""
    is_known: Bool[Tensor, "B 2"]
    """False in frames that say nothing of the rule."""


def rule_targets(
    poses: Float[Tensor, "V T 3"],
    labels: Labels,
    expert: Expert,
    vehicle: VehicleParams,
    map_grid: BevGrid | None,
) -> RuleTargets:
    """Targets of a vocabulary.

    Args:
        poses: The trajectories.
        labels: Of B frames.
        expert: The driven futures: steps beyond them are not looked at.
        vehicle: Its outline.
        map_grid: Of the map labels; None where there are none.
    """
    collides, agents_known = collisions(poses, labels, expert, vehicle)
    leaves, road_known = departures(poses, labels, expert, vehicle, map_grid)
    known = torch.stack((agents_known, road_known), dim=1) & expert.has_future[:, None]
    return RuleTargets(is_broken=torch.stack((collides, leaves), dim=-1), is_known=known)


def soft_choice(distance: Float[Tensor, "B V"], temperature_m: float) -> Float[Tensor, "B V"]:
    """A distribution over trajectories by their distance to the expert."""
    return torch.softmax(-distance / temperature_m, dim=1)


def distance_to_expert(points: Float[Tensor, "B V T 2"], expert: Expert) -> Float[Tensor, "B V"]:
    """Mean distance over the known steps; 0 in frames without any."""
    return expert.mean_over_steps((points - expert.poses[:, None, :, :2]).norm(dim=-1))


def collisions(
    poses: Float[Tensor, "V T 3"], labels: Labels, expert: Expert, vehicle: VehicleParams
) -> tuple[Bool[Tensor, "B V"], Bool[Tensor, " B"]]:
    """Which trajectories touch an agent at a known step, and in which frames futures of agents are known.

    Agents are looked at where they are known to be; frames without agents know that nothing is touched.
    """
    is_known = torch.full((len(labels.boxes_ego),), labels.agent_futures_ego is not None, device=poses.device)
    others = rectangles_of_labels(labels, steps=poses.shape[1])  # (B, A, T, 5)
    touched = torch.zeros(len(others), len(poses), dtype=torch.bool, device=poses.device)
    if others.shape[1] == 0:
        return touched, is_known
    own = outlines(poses, vehicle)[:, :, None]  # (V, T, 1, 5)
    for frame, futures in enumerate(others.transpose(1, 2)):  # one frame at a time keeps the product small
        meets = rectangles_overlap(own, futures[None])  # (V, T, A)
        touched[frame] = (meets & expert.known[frame, :, None]).any(dim=2).any(dim=1)
    is_seen = (others[..., 0].isfinite() & expert.known[:, None]).flatten(1).any(dim=1)
    has_agents = torch.tensor([len(boxes) > 0 for boxes in labels.boxes_ego], device=poses.device)
    return touched, is_known & (is_seen | ~has_agents)


def departures(
    poses: Float[Tensor, "V T 3"],
    labels: Labels,
    expert: Expert,
    vehicle: VehicleParams,
    map_grid: BevGrid | None,
) -> tuple[Bool[Tensor, "B V"], Bool[Tensor, " B"]]:
    """Which trajectories leave the drivable area at a known step, and which frames can tell.

    A frame whose vehicle is not wholly on drivable ground now (in a car park, say) cannot tell. Beyond the map nothing
    is left.

    Raises:
        ValueError: the map labels lie on another grid.
    """
    batch, num = len(labels.boxes_ego), len(poses)
    if labels.map_masks is None or map_grid is None:
        nothing = torch.zeros(batch, num, dtype=torch.bool, device=poses.device)
        return nothing, nothing.new_zeros(batch)
    if labels.map_masks.shape[-2:] != map_grid.shape_yx:
        raise ValueError(
            f"map labels of {tuple(labels.map_masks.shape[-2:])} cells do not fit map_grid with {map_grid.shape_yx}: "
            "labels and planner must be given the same map_grid"
        )
    side = vehicle.width_m / 2
    low, high = (-vehicle.rear_overhang_m, -side), (vehicle.front_ahead_m, side)
    pattern = points_in_rectangle(low, high, _EDGE_POINT_SPACING_M).to(poses)
    now_and_then = torch.cat((torch.zeros_like(poses[:, :1]), poses), dim=1).expand(batch, -1, -1, -1)
    drivable = labels.map_masks[:, _DRIVABLE, None].float()
    on_road = values_at(drivable, map_grid, placed(pattern, now_and_then), outside=1.0) > 0.5
    is_inside = on_road.all(dim=-1)  # (B, V, 1 + T)
    leaves = (~is_inside[..., 1:] & expert.known[:, None]).any(dim=-1)
    valid = torch.ones_like(is_inside[:, 0, 0]) if labels.map_valid is None else labels.map_valid
    return leaves, valid & is_inside[:, 0, 0]

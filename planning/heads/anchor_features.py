"""What each trajectory of a vocabulary meets on its way, one vector for each.

At every pose: the bird's-eye features there, the map there, the distance to the route, and the clearance to the agents
when these go on at their velocity. Letters: B frames, V trajectories, T steps, C channels, A agents, K map classes,
P waypoints, Y X cells.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.data.maps import MAP_CLASSES
from bevstack.planning.footprint import placed
from bevstack.planning.heads.conditions import TARGET_M, route_target, waypoints_known
from bevstack.planning.obstacle_raster import rectangles_at_velocity
from bevstack.planning.vehicle import VehicleParams
from bevstack.types.batch import Batch
from bevstack.types.bev import BevGrid
from bevstack.types.context import Agents, MapBelief, SceneContext
from bevstack.types.trajectory import FUTURE_STEP_S

POSE_NUMBERS = 4
"""Of a pose as a network reads it: x, y, and the heading as cosine and sine."""
_POSE_SCALE_M = 20.0
_ROUTE_REACH_M, _CLEARANCE_REACH_M = 5.0, 5.0
"""Farther than this is far."""


class AnchorFeatures(nn.Module):
    """Vectors of trajectories from the scene.

    Args:
        in_channels: Width of the bird's-eye features.
        channels: C, of the result.
        bev_channels: Width to which the bird's-eye features are reduced before they are looked up.
        steps: T.
        vehicle: Whose outline meets the agents.
    """

    def __init__(
        self, *, in_channels: int, channels: int, bev_channels: int, steps: int, vehicle: VehicleParams
    ) -> None:
        super().__init__()
        self.vehicle = vehicle
        self.reduce = nn.Conv2d(in_channels, bev_channels, 1)
        numbers = steps * (POSE_NUMBERS + bev_channels + 1 + len(MAP_CLASSES) + 1 + 1) + 2
        self.mix = nn.Sequential(nn.Linear(numbers, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))

    def reduced(self, context: SceneContext) -> Float[Tensor, "B R Y X"]:
        """The bird's-eye features at the width at which trajectories look them up."""
        return self.reduce(context.bev.data)

    def forward(
        self, poses: Float[Tensor, "V T 3"], reduced: Float[Tensor, "B R Y X"], context: SceneContext, batch: Batch
    ) -> Float[Tensor, "B V C"]:
        """One vector for each trajectory in each frame.

        Args:
            poses: The trajectories, of the rear axle.
            reduced: From `reduced`.
            context: The scene.
            batch: For the route.
        """
        everywhere = poses.expand(len(reduced), -1, -1, -1)
        middle = placed(poses.new_tensor(((self.vehicle.center_ahead_m, 0.0),)), everywhere)[..., 0, :]
        to_route, to_target, has_route = self._route(everywhere, batch)
        of_steps = torch.cat(
            (
                pose_numbers(everywhere),
                look_up(reduced, context.bev.grid, middle),
                _map_at(context.map, middle),
                to_route[..., None],
                self._clearance(context.agents, middle)[..., None],
            ),
            dim=-1,
        )
        flat = torch.cat((of_steps.flatten(2), to_target[..., None], has_route[..., None]), dim=-1)
        return self.mix(flat.to(reduced))

    def _route(self, poses: Float[Tensor, "B V T 3"], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Distance of each pose to the route (B, V, T), of the last to the target (B, V), whether there is a route."""
        distance = torch.zeros_like(poses[..., 0])
        if batch.route_ego is None or batch.route_ego.shape[1] == 0:
            return distance, distance[..., 0], distance[..., 0]
        known = waypoints_known(batch.route_ego)
        has_route = known.any(dim=1)[:, None].expand(poses.shape[:2])
        target = route_target(batch).nan_to_num()[:, None]
        to_target = (poses[..., -1, :2] - target).norm(dim=-1) / TARGET_M
        distance = distance_to_line(poses[..., :2], batch.route_ego.float(), known) / _ROUTE_REACH_M
        distance = torch.where(has_route[..., None], distance.clamp(max=4.0), 0.0)
        return distance, torch.where(has_route, to_target, 0.0), has_route.to(poses)

    def _clearance(self, agents: Agents | None, middle: Float[Tensor, "B V T 2"]) -> Float[Tensor, "B V T"]:
        """Least distance between circles around the vehicle and around each agent, 1 for far; 1 without agents."""
        if agents is None or agents.boxes_ego.shape[1] == 0:
            return torch.ones_like(middle[..., 0])
        steps = middle.shape[2]
        rectangles = rectangles_at_velocity(agents, steps=steps, step_s=FUTURE_STEP_S).to(middle)  # (B, A, T, 5)
        radius = (rectangles[..., 2:4].amax(dim=-1) + self.vehicle.width_m) / 2
        at = middle.permute(0, 2, 1, 3)  # (B, T, V, 2)
        gap = torch.cdist(at, rectangles[..., :2].transpose(1, 2)) - radius.transpose(1, 2)[:, :, None]  # (B, T, V, A)
        gap = gap.masked_fill(~agents.mask[:, None, None], torch.inf).amin(dim=-1)
        return (gap / _CLEARANCE_REACH_M).clamp(-1.0, 1.0).transpose(1, 2)


def look_up(
    features: Float[Tensor, "B R Y X"], grid: BevGrid, points: Float[Tensor, "B V T 2"]
) -> Float[Tensor, "B V T R1"]:
    """Features at points, interpolated, and whether the point lies on the grid; zero beyond it."""
    rows, columns = features.shape[-2:]
    at = 2 * grid.to_cells(points) / points.new_tensor((columns, rows)) - 1
    inside = (at.abs() <= 1).all(dim=-1, keepdim=True)
    found = F.grid_sample(features.float(), at.float(), align_corners=False)  # (B, R, V, T)
    return torch.cat((found.permute(0, 2, 3, 1), inside.to(found)), dim=-1)


def distance_to_line(
    points: Float[Tensor, "B V T 2"], line: Float[Tensor, "B P 2"], known: Float[Tensor, "B P"] | Tensor
) -> Float[Tensor, "B V T"]:
    """Distance to the nearest segment between two neighbouring known waypoints; to the waypoint where there is one."""
    line = torch.where(known[..., None].bool(), line, 1e4)
    flat = points.flatten(1, 2)
    to_points = torch.cdist(flat, line)  # (B, V * T, P)
    if line.shape[1] == 1:
        return to_points[..., 0].unflatten(1, points.shape[1:3])
    start, along = line[:, None, :-1], torch.diff(line, dim=1)[:, None]
    is_segment = (known[:, 1:] & known[:, :-1])[:, None]
    offset = flat[:, :, None] - start
    share = (offset * along).sum(dim=-1) / along.square().sum(dim=-1).clamp(min=1e-6)
    to_segments = (offset - share.clamp(0.0, 1.0)[..., None] * along).norm(dim=-1)
    to_segments = to_segments.masked_fill(~is_segment, torch.inf)
    return torch.minimum(to_points.amin(dim=-1), to_segments.amin(dim=-1)).unflatten(1, points.shape[1:3])


def pose_numbers(poses: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 4"]:
    """Poses as a network reads them."""
    yaw = poses[..., 2:]
    return torch.cat((poses[..., :2] / _POSE_SCALE_M, yaw.cos(), yaw.sin()), dim=-1)


def _map_at(belief: MapBelief | None, points: Float[Tensor, "B V T 2"]) -> Float[Tensor, "B V T K"]:
    """Probability of each map class at points; zero without a map."""
    if belief is None:
        return points.new_zeros(*points.shape[:-1], len(MAP_CLASSES))
    return look_up(belief.probabilities.float(), belief.grid, points)[..., : len(MAP_CLASSES)]

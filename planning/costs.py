"""What speaks against a trajectory, by rule (Hu et al., ST-P3, ECCV 2022, and its configuration).

Five costs for each step, which need a picture of the surroundings, and two for a trajectory as a whole:

* `safety`: what is occupied under the vehicle;
* `speed_safety`: the same under its outline enlarged on every side, times the speed;
* `headway`: what is occupied on drivable ground up to 10 m ahead of the front end;
* `divider`: how far the vehicle's centre is within a metre of a lane divider, squared;
* `off_road`: what is not drivable under the vehicle;
* `comfort`: accelerations and jerk beyond what is comfortable, squared;
* `progress`: the distance left to the target point less the way ahead.

Areas count in cells of half a metre, as the weights of the paper do. Its code looks under an outline that never turns;
here the outline turns with the trajectory unless `turns_outline` is False.

Letters: B frames, S trajectories, T steps, P points, Y X cells (U V of the map).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from bevstack.planning.footprint import placed, points_in_rectangle
from bevstack.planning.path_motion import mean_speeds, wrapped
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types.bev import BevGrid
from bevstack.types.trajectory import FUTURE_STEP_S

STEP_COSTS = ("safety", "speed_safety", "headway", "divider", "off_road")
WHOLE_COSTS = ("comfort", "progress")
_CELL_M2 = 0.25
_COMFORTABLE_MPS2, _COMFORTABLE_MPS3 = 3.0, 1.0
_DIVIDER_REACH_M = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is around the vehicle: from labels in training, as predicted when driving. Absent parts cost nothing."""

    occupancy: Float[Tensor, "B T Y X"] | None = None
    """0 to 1, at each step."""
    grid: BevGrid | None = None
    """Of `occupancy`."""
    drivable: Float[Tensor, "B U V"] | None = None
    """0 to 1; beyond its grid everything is."""
    divider: Float[Tensor, "B U V"] | None = None
    """0 to 1."""
    map_grid: BevGrid | None = None
    """Of `drivable` and `divider`."""
    target_ego: Float[Tensor, "B 2"] | None = None
    """Where the route leads, (x, y); NaN in frames without a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWeights:
    """Of each cost; those of the paper's configuration where it states them."""

    safety: float = 1.0
    speed_safety: float = 1.0
    headway: float = 1.0
    divider: float = 10.0
    off_road: float = 5.0
    comfort: float = 0.1
    progress: float = 0.5


class RuleCosts(nn.Module):
    """Costs of trajectories.

    Args:
        vehicle: Its outline.
        weights: Of each cost.
        margin_m: By which the outline of `speed_safety` is larger on every side.
        headway_m: How far ahead of the front end `headway` looks.
        spacing_m: Distance of the points at which areas are looked at.
        turns_outline: Whether outlines turn with the heading.
        step_s: Time between two steps.
        limit: Costs of a step, and of a whole trajectory, are cut here.
    """

    def __init__(
        self,
        *,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
        weights: CostWeights | None = None,
        margin_m: float = 1.0,
        headway_m: float = 10.0,
        spacing_m: float = 0.5,
        turns_outline: bool = True,
        step_s: float = FUTURE_STEP_S,
        limit: float = 100.0,
    ) -> None:
        super().__init__()
        self.weights = weights or CostWeights()
        self.turns_outline, self.step_s, self.limit = turns_outline, step_s, limit
        self.centre_ahead_m = vehicle.center_ahead_m
        behind, ahead, side = -vehicle.rear_overhang_m, vehicle.front_ahead_m, vehicle.width_m / 2
        areas = {
            "outline": ((behind, -side), (ahead, side)),
            "enlarged": ((behind - margin_m, -side - margin_m), (ahead + margin_m, side + margin_m)),
            "ahead": ((ahead, -side), (ahead + headway_m, side)),
        }
        patterns = {name: points_in_rectangle(low, high, spacing_m) for name, (low, high) in areas.items()}
        self.num_points = tuple(len(pattern) for pattern in patterns.values())
        self.cells = {name: (high[0] - low[0]) * (high[1] - low[1]) / _CELL_M2 for name, (low, high) in areas.items()}
        self.register_buffer("_pattern", torch.cat(tuple(patterns.values())), persistent=False)

    def forward(
        self, poses: Float[Tensor, "B S T 3"], around: Surroundings, known: Bool[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B S T"], Float[Tensor, "B S"]]:
        """Weighted costs of each step and of whole trajectories.

        Args:
            poses: Of the rear axle.
            around: The surroundings.
            known: Steps that the costs of whole trajectories look at; all where not given.
        """
        terms = self.terms(poses, around, known)
        steps = torch.stack([getattr(self.weights, name) * terms[name] for name in STEP_COSTS]).sum(dim=0)
        whole = torch.stack([getattr(self.weights, name) * terms[name] for name in WHOLE_COSTS]).sum(dim=0)
        return steps.clamp(max=self.limit), whole.clamp(-self.limit, self.limit)

    def terms(
        self, poses: Float[Tensor, "B S T 3"], around: Surroundings, known: Bool[Tensor, "B T"] | None = None
    ) -> dict[str, Tensor]:
        """Unweighted costs by name: (B, S, T) of `STEP_COSTS`, (B, S) of `WHOLE_COSTS`."""
        known = torch.ones_like(poses[:, 0, :, 0], dtype=torch.bool) if known is None else known
        speeds = mean_speeds(poses[..., :2], poses[..., 2], self.step_s)
        return {
            **self._area_terms(poses, speeds, around),
            "divider": self._divider(poses, around),
            "comfort": self._comfort(poses, speeds, known),
            "progress": _progress(poses, around.target_ego, known),
        }

    def _area_terms(
        self, poses: Float[Tensor, "B S T 3"], speeds: Float[Tensor, "B S T"], around: Surroundings
    ) -> dict[str, Tensor]:
        points = placed(self._pattern, poses, is_turned=self.turns_outline)  # type: ignore[arg-type]
        occupied = torch.zeros_like(points[..., 0])
        if around.occupancy is not None and around.grid is not None:
            occupied = values_at(around.occupancy, around.grid, points, outside=0.0)
        drivable = torch.ones_like(occupied)
        if around.drivable is not None and around.map_grid is not None:
            drivable = values_at(around.drivable[:, None], around.map_grid, points, outside=1.0)
        under, near, _ = occupied.split(self.num_points, dim=-1)
        road, _, road_ahead = drivable.split(self.num_points, dim=-1)
        in_front = occupied.split(self.num_points, dim=-1)[2] * road_ahead
        return {
            "safety": under.mean(dim=-1) * self.cells["outline"],
            "speed_safety": near.mean(dim=-1) * self.cells["enlarged"] * speeds.abs(),
            "headway": in_front.mean(dim=-1) * self.cells["ahead"],
            "off_road": (1 - road).mean(dim=-1) * self.cells["outline"],
        }

    def _divider(self, poses: Float[Tensor, "B S T 3"], around: Surroundings) -> Float[Tensor, "B S T"]:
        if around.divider is None or around.map_grid is None:
            return torch.zeros_like(poses[..., 0])
        depth = divider_depth(around.divider, around.map_grid)
        middle = placed(poses.new_tensor(((self.centre_ahead_m, 0.0),)), poses, is_turned=self.turns_outline)
        return values_at(depth[:, None], around.map_grid, middle, outside=0.0)[..., 0].square()

    def _comfort(
        self, poses: Float[Tensor, "B S T 3"], speeds: Float[Tensor, "B S T"], known: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B S"]:
        """Mean over steps of what is beyond comfort; only where all steps that a difference needs are known."""
        turns = wrapped(torch.diff(poses[..., 2], dim=-1, prepend=torch.zeros_like(poses[..., :1, 2])))
        lateral = speeds * turns / self.step_s
        along = torch.diff(speeds, dim=-1) / self.step_s
        jerk = torch.diff(along, dim=-1) / self.step_s
        total = torch.zeros_like(speeds[..., 0])
        for values, limit in ((lateral, _COMFORTABLE_MPS2), (along, _COMFORTABLE_MPS2), (jerk, _COMFORTABLE_MPS3)):
            reach = known.shape[1] - values.shape[-1]
            counts = known[:, reach:]
            for earlier in range(1, reach + 1):
                counts = counts & known[:, reach - earlier : known.shape[1] - earlier]
            excess = (values.abs() - limit).clamp(min=0.0).square() * counts[:, None]
            total = total + excess.sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)[:, None]
        return total


def _progress(
    poses: Float[Tensor, "B S T 3"], target_ego: Float[Tensor, "B 2"] | None, known: Bool[Tensor, "B T"]
) -> Float[Tensor, "B S"]:
    """Way left to the target at the last known step less the farthest way ahead; 0 where no step is known."""
    x = poses[..., 0].masked_fill(~known[:, None], -torch.inf).amax(dim=-1)
    steps = torch.arange(known.shape[1], device=known.device)
    last = (known * steps).amax(dim=1)
    left = torch.zeros_like(x)
    if target_ego is not None:
        frames = torch.arange(len(poses), device=poses.device)
        end = poses[frames, :, last, :2]
        left = (end - target_ego[:, None]).norm(dim=-1).nan_to_num()
    return torch.where(known.any(dim=1)[:, None], left - x, 0.0)


def values_at(
    raster: Float[Tensor, "B R Y X"], grid: BevGrid, points: Float[Tensor, "B S T P 2"], *, outside: float
) -> Float[Tensor, "B S T P"]:
    """The cell below each point; one raster (R = 1) serves all steps."""
    rows, columns = raster.shape[-2:]
    cells = grid.to_cells(points).floor()
    inside = (cells >= 0).all(dim=-1) & (cells[..., 0] < columns) & (cells[..., 1] < rows)
    cells = torch.where(inside[..., None], cells, 0.0).long()
    frame = torch.arange(len(raster), device=raster.device)[:, None, None, None] * raster.shape[1]
    step = torch.arange(points.shape[2], device=raster.device)[:, None] if raster.shape[1] > 1 else 0
    index = ((frame + step) * rows + cells[..., 1]) * columns + cells[..., 0]
    return torch.where(inside, raster.flatten()[index], outside)


def divider_depth(divider: Float[Tensor, "B U V"], grid: BevGrid) -> Float[Tensor, "B U V"]:
    """How far each cell's centre is within a metre of a divider, in metres, times how likely the divider is."""
    reach = int(_DIVIDER_REACH_M / grid.cell_m)
    rows, columns = divider.shape[-2:]
    padded = F.pad(divider, (reach,) * 4)
    depth = torch.zeros_like(divider)
    for down in range(2 * reach + 1):
        for along in range(2 * reach + 1):
            distance_m = grid.cell_m * ((down - reach) ** 2 + (along - reach) ** 2) ** 0.5
            if distance_m < _DIVIDER_REACH_M:
                shifted = padded[:, down : down + rows, along : along + columns]
                depth = torch.maximum(depth, shifted * (_DIVIDER_REACH_M - distance_m))
    return depth

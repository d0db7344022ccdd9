"""A fixed set of trajectories to choose among (VADv2, Chen et al., 2024; Hydra-MDP, Li et al., 2024).

Either from kinematics alone or from the futures that the vehicle drove in training data. The first needs no data: ways
from `kinematic_grid`, thinned by farthest points so that what is left covers the rest. The second is closer to what
drivers do: the means of k-means clusters.

How far two trajectories are apart is the mean distance of their steps, relative to how far they go: half a metre
matters more when creeping than at 15 m/s. Everything is deterministic; a vocabulary travels with the weights as a
buffer, so that they load alone.

Letters: N trajectories, V of the vocabulary, T steps.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bevstack.planning.path_motion import headings_along
from bevstack.planning.rollout import rolled_out
from bevstack.planning.vehicle import NUSCENES_VEHICLE, VehicleParams
from bevstack.types.trajectory import FUTURE_STEP_S

START_SPEEDS_MPS = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 12.5, 15.0, 18.0)
ACCELERATIONS_MPS2 = (-5.0, -3.0, -1.5, -0.5, 0.0, 1.0, 2.0, 3.0)
CURVATURES_PER_M = (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2)
"""At the start, and after `_CURVE_END_M`; every pair of them, so that turns open, close and last."""
_CURVE_END_M = 15.0
_RELATIVE_M = 5.0
"""Trajectories that go this far are compared half as strictly as those that stand."""
_ROUNDS = 30
"""Of k-means; it ends sooner when no trajectory changes its cluster."""
_SYMMETRY_M = 1e-3


class Vocabulary(nn.Module):
    """The anchors of a planner.

    Args:
        size: V, with the kinematic grid; a file brings its own.
        steps: T.
        weights: A file of `write_vocabulary`; None takes the kinematic grid.
        vehicle: Whose limits the grid keeps.

    Raises:
        ValueError: the file is none of a vocabulary of this size, or `size` is out of range.
    """

    poses: Tensor
    """(V, T, 3): x, y of the rear axle in metres and yaw; row k at (k + 1) * `FUTURE_STEP_S`."""

    def __init__(
        self,
        *,
        size: int = 256,
        steps: int = 6,
        weights: str | Path | None = None,
        vehicle: VehicleParams = NUSCENES_VEHICLE,
    ) -> None:
        super().__init__()
        if weights is None:
            poses = kinematic_vocabulary(size, steps=steps, vehicle=vehicle)
        else:
            poses = read_vocabulary(weights)
            if poses.shape != (size, steps, 3):
                found = tuple(poses.shape)
                raise ValueError(f"{weights} holds trajectories {found}, the model wants {(size, steps, 3)}: set size")
        self.register_buffer("poses", poses)

    def __len__(self) -> int:
        return len(self.poses)


def kinematic_vocabulary(
    size: int, *, steps: int = 6, vehicle: VehicleParams = NUSCENES_VEHICLE
) -> Float[Tensor, "V T 3"]:
    """`size` trajectories that cover the kinematic grid; the mirror of each belongs to them too.

    Raises:
        ValueError: `size` is not between 1 and the size of the grid.
    """
    grid = kinematic_grid(steps=steps, vehicle=vehicle)
    is_straight = grid[..., 1].abs().amax(dim=1) < _SYMMETRY_M
    left = grid[is_straight | (grid[..., 1].sum(dim=1) > 0)]
    return _mirrored_farthest(left, size)


def kinematic_grid(*, steps: int = 6, vehicle: VehicleParams = NUSCENES_VEHICLE) -> Float[Tensor, "N T 3"]:
    """Every combination of start speed, acceleration, curvature at the start and curvature 15 m on, on both sides."""
    signed = sorted({sign * curvature for curvature in CURVATURES_PER_M for sign in (-1.0, 1.0)})
    parts = torch.cartesian_prod(*map(torch.tensor, (START_SPEEDS_MPS, ACCELERATIONS_MPS2, signed, signed)))
    speed, acceleration, first, last = parts.unbind(dim=1)
    slope = (last - first) / _CURVE_END_M
    ways = rolled_out(speed, acceleration, first, slope, steps=steps, vehicle=vehicle)
    return ways.poses


def clustered_vocabulary(futures: Float[Tensor, "N T 2"], size: int) -> Float[Tensor, "V T 3"]:
    """Means of `size` clusters of driven futures, headings from their motion.

    Deterministic: the first centres are farthest points. Futures that lack a step must be left out before.

    Raises:
        ValueError: fewer different futures than clusters, or a value is not finite.
    """
    futures = futures.double()
    if not futures.isfinite().all():
        raise ValueError("a future has unknown steps: leave it out")
    if len(futures.unique(dim=0)) < size:
        raise ValueError(f"size={size} clusters need as many different futures, there are {len(futures.unique(dim=0))}")
    centres = futures[farthest_points(futures, size)]
    cluster = torch.full((len(futures),), -1)
    for _ in range(_ROUNDS):
        nearest = apart(futures, centres).argmin(dim=1)
        if torch.equal(nearest, cluster):
            break
        cluster = nearest
        sums = torch.zeros_like(centres).index_add_(0, cluster, futures)
        counts = torch.bincount(cluster, minlength=size)[:, None, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return torch.cat((centres, headings_along(centres)[..., None]), dim=-1).float()


def farthest_points(trajectories: Float[Tensor, "N T 2"], size: int) -> Int[Tensor, " V"]:
    """Indices of trajectories each of which is the farthest from all before; the first goes the least far."""
    chosen = [int(trajectories.norm(dim=-1).sum(dim=-1).argmin())]
    nearest = apart(trajectories, trajectories[chosen])[:, 0]
    while len(chosen) < size:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, apart(trajectories, trajectories[chosen[-1:]])[:, 0])
    return torch.tensor(chosen)


def apart(one: Float[Tensor, "N T 2"], other: Float[Tensor, "V T 2"]) -> Float[Tensor, "N V"]:
    """Mean distance of two trajectories' steps over their scale: no unit, 0 for equal ones."""
    distance = (one[:, None] - other).norm(dim=-1).mean(dim=-1)
    reach = torch.maximum(one.norm(dim=-1).amax(dim=-1)[:, None], other.norm(dim=-1).amax(dim=-1))
    return distance / (_RELATIVE_M + reach)


def mirrored(poses: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3"]:
    """Poses with left and right exchanged."""
    return poses * poses.new_tensor((1.0, -1.0, -1.0))


def write_vocabulary(path: Path, poses: Float[Tensor, "V T 3"]) -> None:
    """Store a vocabulary as numpy's npz."""
    np.savez(path, poses=poses.numpy(), step_s=FUTURE_STEP_S)


def read_vocabulary(path: str | Path) -> Float[Tensor, "V T 3"]:
    """What `write_vocabulary` has stored.

    Raises:
        ValueError: the file is missing or none of a vocabulary.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            poses, step_s = np.asarray(stored["poses"], np.float32), float(stored["step_s"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no vocabulary ({error}); make one with: bevstack vocabulary make") from error
    if poses.ndim != 3 or poses.shape[2] != 3 or not np.isfinite(poses).all() or step_s != FUTURE_STEP_S:
        raise ValueError(f"{path} holds {poses.shape} at {step_s} s, not (V, T, 3) at {FUTURE_STEP_S} s")
    return torch.from_numpy(poses)


def _mirrored_farthest(left: Float[Tensor, "N T 3"], size: int) -> Float[Tensor, "V T 3"]:
    """Farthest points of trajectories and their mirrors, in pairs; those on the axis alone."""
    points, sides = left[..., :2], mirrored(left)
    on_axis: Bool[Tensor, " N"] = left[..., 1].abs().amax(dim=1) < _SYMMETRY_M
    most = int((~on_axis).sum()) * 2 + int(on_axis.sum())
    if not 1 <= size <= most:
        raise ValueError(f"size={size} must be between 1 and {most}, the trajectories of the kinematic grid")
    first = int(points.norm(dim=-1).sum(dim=-1).argmin())
    chosen, nearest = [left[first]], apart(points, points[first : first + 1])[:, 0]
    while len(chosen) < size:
        allowed = on_axis if size - len(chosen) == 1 else torch.ones_like(on_axis)
        index = int(torch.where(allowed, nearest, -1.0).argmax())
        pair = left[index : index + 1] if on_axis[index] else torch.stack((left[index], sides[index]))
        chosen.extend(pair)
        nearest = torch.minimum(nearest, apart(points, pair[..., :2]).amin(dim=1))
    return torch.stack(chosen)

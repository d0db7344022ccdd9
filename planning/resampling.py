"""Plans at other times than their own rows."""

import numpy as np
from jaxtyping import Float

from bevstack.geometry.transforms import wrap_angle
from bevstack.types.trajectory import FUTURE_STEP_S, Plan, Trajectory

PROTOCOL_STEPS = 6


def states_at(
    trajectory: Trajectory, times_s: Float[np.ndarray, " P"]
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, " P"]]:
    """Poses and speeds at times since the reference time; the vehicle is at the origin at 0.

    Between two rows the way is the cubic that leaves and arrives along their headings (Hermite). After the last row the
    vehicle drives on straight at its last speed.

    Raises:
        ValueError: the trajectory has no rows, or a time is negative.
    """
    if not len(trajectory.poses_ego):
        raise ValueError("a trajectory without rows has no states")
    if len(times_s) and times_s.min() < 0:
        raise ValueError(f"times_s begins at {times_s.min()}; the plan begins at 0")
    poses = np.concatenate((np.zeros((1, 3)), trajectory.poses_ego))
    speeds = np.concatenate((trajectory.speeds_mps[:1], trajectory.speeds_mps))
    last = len(poses) - 1
    position = times_s / trajectory.dt_s
    low = np.minimum(position.astype(np.int64), last - 1)
    share = np.minimum(position - low, 1.0)
    start, end = poses[low], poses[low + 1]
    turn = wrap_angle(end[:, 2] - start[:, 2])
    out = np.empty((len(times_s), 3))
    out[:, :2] = _hermite(start, end, share)
    out[:, 2] = start[:, 2] + share * turn
    beyond = np.maximum(position - last, 0.0) * trajectory.dt_s * speeds[-1]
    out[:, 0] += beyond * np.cos(poses[-1, 2])
    out[:, 1] += beyond * np.sin(poses[-1, 2])
    out[:, 2] = wrap_angle(out[:, 2])
    return out, speeds[low] + share * (speeds[low + 1] - speeds[low])


def plan_poses(plan: Plan) -> Float[np.ndarray, "6 3"]:
    """x, y and yaw of the rear axle 0.5, 1.0, ..., 3.0 s ahead, in `ego`: what planning protocols compare."""
    return states_at(plan.trajectory, FUTURE_STEP_S * np.arange(1, PROTOCOL_STEPS + 1))[0]


def _hermite(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    chord = np.linalg.norm(end[:, :2] - start[:, :2], axis=1)[:, None]
    leave = chord * np.stack((np.cos(start[:, 2]), np.sin(start[:, 2])), axis=1)
    arrive = chord * np.stack((np.cos(end[:, 2]), np.sin(end[:, 2])), axis=1)
    u = share[:, None]
    return (
        (2 * u**3 - 3 * u**2 + 1) * start[:, :2]
        + (u**3 - 2 * u**2 + u) * leave
        + (3 * u**2 - 2 * u**3) * end[:, :2]
        + (u**3 - u**2) * arrive
    )

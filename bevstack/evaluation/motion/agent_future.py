"""Where annotated objects go next: the truth of every motion protocol, from the memory-mapped tables.

A future is sampled at the key frames that follow (2 Hz in nuScenes). A step is *known* where the same object is
annotated in that key frame at its nominal time; all others are NaN, so that an unknown step can never pass for one
without error. The devkit's `PredictHelper` follows the chain of annotations instead and cannot see a gap in it: an
object that was not annotated for a second then seems to be two steps ahead of its time.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bevstack.data.class_names import LIDAR_NAME
from bevstack.data.futures import elapsed_s, known_rows_ahead, rows_ahead
from bevstack.data.index import DatasetIndex
from bevstack.geometry.transforms import from_quaternion, rigid_inverse, transform_points, yaw_of
from bevstack.types.trajectory import FUTURE_STEP_S

STEP_S = FUTURE_STEP_S
"""Time between two key frames."""
_MAX_PAST_GAP_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFutures:
    """The next T key frames of N annotated objects, in the `global` frame."""

    annotation_rows: Int64[np.ndarray, " N"]
    sample_rows: Int64[np.ndarray, " N"]
    """The key frame from which the future is seen."""
    T_global_agent: Float64[np.ndarray, "N 4 4"]
    """Pose of each object now: origin at its box centre, x along its heading, z up."""
    positions_global: Float64[np.ndarray, "N T 3"]
    """Box centres in metres, column k at (k + 1) * `STEP_S`; NaN where unknown."""
    yaw_global: Float64[np.ndarray, "N T"]
    """Headings in radians; NaN where unknown."""
    is_known: Bool[np.ndarray, "N T"]

    def __len__(self) -> int:
        return len(self.annotation_rows)

    @property
    def is_complete(self) -> Bool[np.ndarray, " N"]:
        """Objects all of whose steps are known."""
        return self.is_known.all(axis=1)

    @property
    def has_any(self) -> Bool[np.ndarray, " N"]:
        """Objects with at least one known step."""
        return self.is_known.any(axis=1)

    def in_agent(self) -> Float64[np.ndarray, "N T 2"]:
        """(x, y) in each object's own frame now: x ahead, y to its left, turned about the vertical only.

        (The devkit's agent frame has y ahead and x to the right.)
        """
        yaw = yaw_of(self.T_global_agent)
        offset = self.positions_global[..., :2] - self.T_global_agent[:, None, :2, 3]
        c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        return np.stack((offset[..., 0] * c + offset[..., 1] * s, offset[..., 1] * c - offset[..., 0] * s), axis=-1)

    def in_ego(self, index: DatasetIndex) -> Float64[np.ndarray, "N T 2"]:
        """(x, y) in the frame of the vehicle at the LiDAR key frame from which the future is seen.

        Raises:
            CalibrationError: a pose is not usable.
        """
        samples, place = np.unique(self.sample_rows, return_inverse=True)
        rows = [index.key_data_row(int(sample), LIDAR_NAME) for sample in samples]
        T_ego_global = rigid_inverse(index.T_global_ego(rows))[place]
        return transform_points(T_ego_global, self.positions_global)[..., :2]


def agent_futures(
    index: DatasetIndex, annotation_rows: Int64[np.ndarray, " N"], *, horizon_s: float = 6.0
) -> AgentFutures:
    """The futures of some annotations.

    Args:
        index: The tables.
        annotation_rows: Which annotations, in any order.
        horizon_s: How far to look ahead, a multiple of `STEP_S`.

    Raises:
        ValueError: the horizon is not a positive multiple of half a second.
    """
    num_steps = round(horizon_s / STEP_S)
    if num_steps < 1 or abs(num_steps * STEP_S - horizon_s) > 1e-9:
        raise ValueError(f"horizon_s={horizon_s} must be a positive multiple of {STEP_S} s, a key frame's time")
    rows = np.asarray(annotation_rows, np.int64)
    if not len(rows):
        return _no_futures(num_steps)
    found = known_rows_ahead(index, rows, num_steps)
    is_known = found >= 0
    rotation, translation = index["annotation_rotation"], index["annotation_translation"]
    positions, yaw = np.full((*found.shape, 3), np.nan), np.full(found.shape, np.nan)
    positions[is_known] = translation[found[is_known]]
    yaw[is_known] = yaw_of(from_quaternion(rotation[found[is_known]], positions[is_known]))
    return AgentFutures(
        annotation_rows=rows,
        sample_rows=index["annotation_sample"][rows].astype(np.int64),
        T_global_agent=from_quaternion(rotation[rows], translation[rows]),
        positions_global=positions,
        yaw_global=yaw,
        is_known=is_known,
    )


def past_velocity(index: DatasetIndex, annotation_rows: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 2"]:
    """Velocity (vx, vy) since the previous key frame, in the `global` frame in m/s; NaN without one.

    `annotation_velocity` of the tables looks half a second ahead where it can: a baseline built on it would know the
    future.
    """
    rows = np.asarray(annotation_rows, np.int64)
    if not len(rows):
        return np.zeros((0, 2))
    found, samples = rows_ahead(index, rows, np.array((-1,)))
    past_s = -elapsed_s(index, samples, found)[:, 0]
    is_known = (found[:, 0] >= 0) & (past_s > 0) & (past_s <= _MAX_PAST_GAP_S)
    velocity = np.full((len(rows), 2), np.nan)
    moved = index["annotation_translation"][rows[is_known], :2]
    moved = moved - index["annotation_translation"][found[is_known, 0], :2]
    velocity[is_known] = moved / past_s[is_known, None]
    return velocity


def _no_futures(num_steps: int) -> AgentFutures:
    return AgentFutures(
        annotation_rows=np.zeros(0, np.int64),
        sample_rows=np.zeros(0, np.int64),
        T_global_agent=np.zeros((0, 4, 4)),
        positions_global=np.zeros((0, num_steps, 3)),
        yaw_global=np.zeros((0, num_steps)),
        is_known=np.zeros((0, num_steps), bool),
    )

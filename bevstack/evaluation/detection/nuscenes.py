"""Detections in `ego` as boxes of the nuScenes benchmark, and back.

The benchmark has the global frame, sizes as w l h, and quaternions: they appear here and in box columns, nowhere else.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from bevstack.evaluation.predictions.box_columns import BoxColumns
from bevstack.evaluation.predictions.box_records import MAX_BOXES_PER_SAMPLE
from bevstack.geometry.transforms import from_quaternion, rigid_inverse, to_quaternion, transform_points, wrap_angle
from bevstack.types.boxes import BOX_COLUMNS, Boxes3D, BoxIndex
from bevstack.types.scene import Detections


def to_columns(token: str, detections: Detections, T_global_ego: Float[np.ndarray, "4 4"]) -> BoxColumns:
    """Detections of one sample in the global frame, best first; the 500 best.

    The official format has no way to say that a velocity is unknown, so an unknown one is given as standing still.

    Raises:
        ValueError: a centre, size, heading or score is not finite, or a size is not positive.
    """
    order = np.argsort(-detections.scores, kind="stable")[:MAX_BOXES_PER_SAMPLE]
    rows = detections.boxes.rows[order].astype(np.float64)
    scores = detections.scores[order].astype(np.float64)
    geometry = rows[:, : BoxIndex.VX]
    if not (np.isfinite(geometry).all() and np.isfinite(scores).all()):
        raise ValueError(f"sample {token}: a detection has a centre, size, heading or score that is not finite")
    if (rows[:, BoxIndex.LENGTH : BoxIndex.YAW] <= 0).any():
        raise ValueError(f"sample {token}: a detection has a size that is not positive")
    planar = np.concatenate((rows[:, BoxIndex.VX :], np.zeros((len(rows), 1))), axis=1)
    velocities = np.nan_to_num(planar @ T_global_ego[:3, :3].T, nan=0.0, posinf=0.0, neginf=0.0)[:, :2]
    return BoxColumns(
        sample_tokens=(token,),
        sample_index=np.zeros(len(rows), np.int32),
        translation=transform_points(T_global_ego, rows[:, : BoxIndex.Z + 1]),
        size_wlh=rows[:, [BoxIndex.WIDTH, BoxIndex.LENGTH, BoxIndex.HEIGHT]],
        rotation_wxyz=_times_yaw(to_quaternion(T_global_ego), rows[:, BoxIndex.YAW]),
        velocity=velocities,
        class_index=detections.boxes.class_index[order].astype(np.int8),
        score=scores,
        attribute_index=detections.attribute_index[order].astype(np.int8),
    )


def to_records(token: str, detections: Detections, T_global_ego: Float[np.ndarray, "4 4"]) -> list[dict[str, Any]]:
    """As `to_columns`, as the benchmark's box records.

    Raises:
        ValueError: as `to_columns`.
    """
    return to_columns(token, detections, T_global_ego).to_records()[token]


def to_detections(boxes: BoxColumns, T_global_ego: Float[np.ndarray, "4 4"]) -> Detections:
    """The inverse of `to_columns`: boxes of one sample in `ego`, in the order given.

    Annotated boxes have the score -1 there, and keep it.
    """
    T_ego_global = rigid_inverse(np.asarray(T_global_ego, np.float64))
    headings = (T_ego_global @ from_quaternion(boxes.rotation_wxyz, np.zeros((len(boxes), 3))))[:, :2, 0]
    planar = np.concatenate((boxes.velocity, np.zeros((len(boxes), 1))), axis=1)
    rows = np.zeros((len(boxes), BOX_COLUMNS))
    rows[:, : BoxIndex.Z + 1] = transform_points(T_ego_global, boxes.translation)
    rows[:, [BoxIndex.WIDTH, BoxIndex.LENGTH, BoxIndex.HEIGHT]] = boxes.size_wlh
    rows[:, BoxIndex.YAW] = wrap_angle(np.arctan2(headings[:, 1], headings[:, 0]))
    rows[:, BoxIndex.VX :] = (planar @ T_ego_global[:3, :3].T)[:, :2]
    return Detections(
        boxes=Boxes3D(rows=rows.astype(np.float32), class_index=boxes.class_index.astype(np.int64)),
        scores=boxes.score.astype(np.float32),
        attribute_index=boxes.attribute_index.astype(np.int64),
    )


def _times_yaw(quaternion: np.ndarray, yaw_rad: np.ndarray) -> np.ndarray:
    """Unit quaternions (N, 4) of a rotation about z followed by `quaternion` (Hamilton product, w x y z)."""
    w, x, y, z = quaternion
    c, s = np.cos(yaw_rad / 2), np.sin(yaw_rad / 2)
    return np.stack((w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s), axis=-1)

"""What a model forecasts for its detections, as columns in the global frame."""

import numpy as np
from jaxtyping import Float

from bevstack.evaluation.detection.nuscenes import to_columns
from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.evaluation.predictions.box_records import MAX_BOXES_PER_SAMPLE
from bevstack.geometry.transforms import transform_points
from bevstack.types.boxes import Boxes3D, BoxIndex
from bevstack.types.scene import Detections, MotionForecasts

MIN_SCORE = 0.3
"""Detections below are not forecast in files: EPA falls with every box, while a detection file wants them all."""


def to_motion_columns(
    token: str,
    detections: Detections,
    motion: MotionForecasts,
    T_global_ego: Float[np.ndarray, "4 4"],
    *,
    min_score: float = MIN_SCORE,
) -> MotionColumns:
    """Detections of one sample with their forecasts, best first; at most 500.

    Args:
        token: The sample.
        detections: In `ego`.
        motion: Row n belongs to detection n.
        T_global_ego: Pose of the vehicle.
        min_score: Detections below are left out.

    Raises:
        ValueError: as many forecasts as detections are wanted, or a value is not finite, or a size not positive.
    """
    if len(motion) != len(detections):
        raise ValueError(f"sample {token} has {len(detections)} detections but {len(motion)} forecasts")
    order = np.argsort(-detections.scores, kind="stable")[:MAX_BOXES_PER_SAMPLE]
    order = order[detections.scores[order] >= min_score]
    chosen = Detections(
        boxes=Boxes3D(rows=detections.boxes.rows[order], class_index=detections.boxes.class_index[order]),
        scores=detections.scores[order],
        attribute_index=detections.attribute_index[order],
    )
    ways = motion.trajectories_ego[order].astype(np.float64)
    height = np.broadcast_to(chosen.boxes.rows[:, BoxIndex.Z, None, None, None], (*ways.shape[:3], 1))
    in_global = transform_points(T_global_ego, np.concatenate((ways, height), axis=-1).reshape(-1, 3))
    return MotionColumns(
        boxes=to_columns(token, chosen, T_global_ego),
        trajectories=in_global.reshape(*ways.shape[:3], 3)[..., :2],
        probabilities=motion.probabilities[order].astype(np.float64),
    )

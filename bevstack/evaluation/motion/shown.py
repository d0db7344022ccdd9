"""Forecasts of one frame as a report shows them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from bevstack.evaluation.motion.columns import MotionColumns
from bevstack.geometry.transforms import rigid_inverse, transform_points

MAX_SHOWN_FORECASTS = 80
MIN_SHOWN_PROBABILITY = 0.03
"""Modes below are left out, but for the most probable one."""


def forecast_rows(motion: MotionColumns, token: str, T_global_ego: Float[np.ndarray, "4 4"]) -> list[dict[str, Any]]:
    """`class` (index), `score` and `modes` of each found box of a sample, best first; a mode is its `probability` and
    its `way`: (x, y) in `ego` in metres, now and then at each step.
    """
    boxes = motion.boxes
    own = np.flatnonzero(boxes.sample_index == boxes.sample_tokens.index(token))
    own = own[np.argsort(-boxes.score[own], kind="stable")][:MAX_SHOWN_FORECASTS]
    T_ego_global = rigid_inverse(np.asarray(T_global_ego, np.float64))
    rows = []
    for row in own.tolist():
        here = boxes.translation[row]
        modes = []
        for probability, way in zip(motion.probabilities[row], motion.trajectories[row], strict=True):
            if probability >= MIN_SHOWN_PROBABILITY or probability == motion.probabilities[row].max():
                level = np.column_stack((np.vstack((here[:2], way)), np.full(len(way) + 1, here[2])))
                in_ego = transform_points(T_ego_global, level)[:, :2]
                modes.append({"probability": round(float(probability), 3), "way": np.round(in_ego, 2).tolist()})
        rows.append({"class": int(boxes.class_index[row]), "score": round(float(boxes.score[row]), 4), "modes": modes})
    return rows
